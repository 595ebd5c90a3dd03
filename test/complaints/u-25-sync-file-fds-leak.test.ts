/** A player takes the fence of each frame as a sync file and never closes it. */
import { describe, expect, it } from 'vitest';
import { DMA_BUF_IOCTL_EXPORT_SYNC_FILE, DMA_BUF_SYNC, POLL } from '../../src/index.ts';
import { GrowthDetector } from '../../src/inspect/ledger-growth.ts';
import { failing, machineOf } from './scene.ts';

const MAX_FDS = 32;

function play(closesFences: boolean) {
  const machine = machineOf('arm');
  const app = machine.addProcess({ name: 'player', maxFds: MAX_FDS });
  const growth = new GrowthDetector(machine);
  let frames = 0;
  const error = machine.sim.run(() =>
    failing(function* () {
      const buffer = app.fds.install(machine.systemHeap.alloc(4096, 'frame'));
      for (; frames < 100; frames++) {
        const { fd } = yield* app.ioctl(buffer, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, { flags: DMA_BUF_SYNC.read });
        yield* app.poll([{ fd, events: POLL.in }]);
        if (closesFences) yield* app.close(fd);
        growth.cycle();
      }
    }),
  );
  const kinds = new Map<string, number>();
  for (const fd of app.fds.open) {
    const kind = app.readlink(fd).includes('sync_file') ? 'sync_file' : 'other';
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  return { frames, error, syncFiles: kinds.get('sync_file') ?? 0, hazards: machine.sim.hazards };
}

describe('U-25: "the player runs out of descriptors, and all of them are sync_file"', () => {
  it('leaks one fence a frame until there are no more, and the descriptors say what they are', () => {
    const { frames, error, syncFiles, hazards } = play(false);
    expect(error).toMatch(/EMFILE/);
    expect(frames).toBe(MAX_FDS - 4);
    expect(syncFiles).toBe(frames);
    expect(hazards).toMatchObject([
      { hazard: 'ledger.growth', object: 'fd (sync_file)', site: expect.stringContaining('u-25') },
    ]);
  });

  it('goes on for ever when each is closed after the wait', () => {
    expect(play(true)).toEqual({ frames: 100, error: 'none', syncFiles: 0, hazards: [] });
  });
});
