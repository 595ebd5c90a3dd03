import { describe, expect, it } from 'vitest';
import type { LeakFacts } from '../../src/base/watch-hazards.ts';
import { exportDmaBuf } from '../../src/dmabuf/dma-buf.ts';
import { SyncFile } from '../../src/dmabuf/sync-file.ts';
import { GrowthDetector, type GrowthOptions } from '../../src/inspect/ledger-growth.ts';
import type { Op } from '../../src/sim/op.ts';
import { FenceFile } from '../../src/uapi/fence-file.ts';
import type { Process } from '../../src/uapi/process.ts';
import { allocBuffer, System } from '../uapi/system.ts';
import { placeOf } from './place.ts';

const at = (mark: string): string => placeOf(import.meta.url, mark);

/** What one cycle of a program does. */
type Cycle = (cycle: number) => Op<void>;

/** A machine with a process, and what the detector says of its cycles. */
class Watched {
  readonly system = new System({ atRest: false, hazards: 'record' });
  readonly sim = this.system.sim;
  readonly app: Process = this.system.machine.addProcess({ name: 'app', maxFds: 1024 });

  /** Runs cycles 1 to `count`. @returns the findings with the number of the cycle that had them. */
  run(count: number, cycle: Cycle, options: GrowthOptions = {}): (readonly [cycle: number, LeakFacts])[] {
    const detector = new GrowthDetector(this.sim, options);
    const found: [number, LeakFacts][] = [];
    for (let i = 1; i <= count; i++) {
      this.sim.run(() => cycle(i));
      for (const facts of detector.cycle()) found.push([i, facts]);
    }
    expect(detector.findings).toEqual(found.map(([, facts]) => facts));
    expect(detector.cycles).toBe(count);
    expect(this.sim.hazards).toEqual(detector.findings);
    return found;
  }

  /** A sync file of a fence that has signalled. @returns its descriptor. */
  syncFile(): number {
    const fence = this.system.fence();
    const fd = this.app.fds.install(new FenceFile(new SyncFile(this.sim, fence))); // the sync file
    fence.signal();
    fence.put();
    return fd;
  }
}

describe('U-24: a compositor and a decoder that keep descriptors', () => {
  /** Client and compositor share three buffers; each frame the client passes one. */
  function passing(watched: Watched, forgets: boolean): Cycle {
    const client = watched.app;
    const [mine, yours] = client.socketpair();
    const compositor = client.fork('compositor');
    const buffers: number[] = [];
    let last = -1;
    return function* (frame) {
      if (buffers.length < 3) buffers.push(yield* allocBuffer(client));
      const own = watched.syncFile();
      client.sendmsg(mine, { bytes: Uint8Array.of(frame), fds: [buffers[frame % buffers.length] ?? -1, own] });
      yield* client.close(own);
      const { fds } = yield* compositor.recvmsg(yours); // the commit
      const [buffer = -1, fence = -1] = fds;
      yield* compositor.close(fence);
      if (last >= 0 && !forgets) yield* compositor.close(last);
      last = buffer;
    };
  }

  it('the compositor that keeps the buffer of each last commit is found in the third cycle, with the place that made the descriptor', () => {
    const watched = new Watched();
    const found = watched.run(12, passing(watched, true));
    expect(found).toMatchObject([
      [4, { hazard: 'ledger.growth', object: 'fd (dmabuf)', count: 4, site: at('the commit') }],
    ]);
    const [[, facts] = [0, undefined]] = found;
    expect(facts?.what).toMatch(/^dma-buf .*, and more in each of 3 cycles$/);
    expect(facts?.chain[0]).toMatch(/^fd \d+ of compositor \(made at ledger-growth\.test\.ts:/);
  });

  it('the compositor that closes it is not', () => {
    const watched = new Watched();
    expect(watched.run(12, passing(watched, false))).toEqual([]);
  });

  it('the decoder that keeps one of its surfaces at each recreation is found, and the surfaces it gives back are not', () => {
    const watched = new Watched();
    const surfaces: number[] = [];
    const found = watched.run(6, function* () {
      for (const fd of surfaces.splice(1)) yield* watched.app.close(fd);
      surfaces.length = 0;
      for (let i = 0; i < 4; i++) surfaces.push(yield* allocBuffer(watched.app));
    });
    expect(found).toMatchObject([
      [4, { object: 'fd (dmabuf)', count: 7, remedy: expect.stringMatching(/^close\(\d+\)$/) }],
    ]);
  });

  it('a detector that begins in the middle needs no warm-up: three cycles are enough', () => {
    const watched = new Watched();
    const leak: Cycle = function* () {
      yield* allocBuffer(watched.app);
    };
    for (let i = 0; i < 2; i++) watched.sim.run(() => leak(i));
    expect(watched.run(5, leak, { warmUpCycles: 0 })).toMatchObject([[3, { count: 5 }]]);
    expect(new Watched().run(5, leak, { warmUpCycles: 0 })).toEqual([]);
  });
});

describe('U-25: a player that keeps sync files', () => {
  it('is found, with the place that made them, though every fence has signalled', () => {
    const watched = new Watched();
    const found = watched.run(8, function* () {
      yield* watched.sim.delay(1000);
      watched.syncFile();
    });
    expect(found).toMatchObject([[4, { object: 'fd (sync_file)', count: 4, site: at('the sync file') }]]);
  });

  it('is silent when it closes them', () => {
    const watched = new Watched();
    const found = watched.run(8, function* () {
      yield* watched.app.close(watched.syncFile());
    });
    expect(found).toEqual([]);
  });
});

describe('what grows and is no leak', () => {
  it('is a pool of 8 buffers that fills, one in each cycle, when its size was told', () => {
    const watched = new Watched();
    const fill = (size: number): Cycle =>
      function* (cycle) {
        if (cycle <= size) yield* allocBuffer(watched.app);
      };
    const expect8 = [{ kind: 'fd', owner: 'app', atMost: 8 }] as const;
    expect(watched.run(20, fill(8), { expect: expect8 })).toEqual([]);
  });

  it('is a pool that fills at once, and then only changes', () => {
    const watched = new Watched();
    const pool: number[] = [];
    const found = watched.run(20, function* (cycle) {
      if (cycle === 2) for (let i = 0; i < 8; i++) pool.push(yield* allocBuffer(watched.app));
      const oldest = pool.shift();
      if (oldest === undefined) return;
      yield* watched.app.close(oldest);
      pool.push(yield* allocBuffer(watched.app));
    });
    expect(found).toEqual([]);
  });

  it('but one that outgrows its size is', () => {
    const watched = new Watched();
    const found = watched.run(
      20,
      function* () {
        yield* allocBuffer(watched.app);
      },
      { expect: [{ kind: 'fd', owner: 'app', atMost: 8 }] },
    );
    expect(found).toMatchObject([[11, { object: 'fd (dmabuf)' }]]);
  });

  it('is triple buffering that makes its buffers one after the other', () => {
    const watched = new Watched();
    const found = watched.run(20, function* (frame) {
      if (frame <= 3) yield* allocBuffer(watched.app);
    });
    expect(found).toEqual([]);
  });

  it('is what goes up and down, however far', () => {
    const watched = new Watched();
    const held: number[] = [];
    const found = watched.run(40, function* (cycle) {
      if (cycle % 6 < 3) for (let i = 0; i < 5; i++) held.push(yield* allocBuffer(watched.app));
      else for (const fd of held.splice(0, 5)) yield* watched.app.close(fd);
    });
    expect(found.map(([cycle]) => cycle)).toEqual([]);
  });

  it('is what hangs on something of the same cycle: it is told once, of what holds it', () => {
    const watched = new Watched();
    const dev = watched.system.device('gpu0');
    const found = watched.run(8, function* () {
      const buf = watched.system.machine.systemHeap.alloc(4096, 'frame');
      const att = yield* buf.attach(dev); // the attachment
      yield* att.mapUnlocked('to-device');
    });
    expect(found.map(([cycle, { object }]) => [cycle, object])).toEqual([
      [4, 'reference (dmabuf)'],
      [4, 'attachment (dmabuf)'],
    ]);
  });
});

describe('growth inside what stays', () => {
  it('is found: a pin more in each cycle of an attachment that stays', () => {
    const watched = new Watched();
    const dev = watched.system.device('gpu0');
    const { ops, priv, sizeBytes } = watched.system.fakeBuffer();
    const moving = { ...ops, pin() {}, unpin() {} };
    const buf = exportDmaBuf(watched.sim, { exporterName: 'vram', name: 'vram', sizeBytes, ops: moving, priv });
    const found = watched.run(6, function* (cycle) {
      const [kept] = buf.attachments;
      const att = cycle === 1 ? yield* buf.dynamicAttach(dev, { moveNotify() {} }) : kept;
      if (att !== undefined) yield* buf.resv.withLock(() => att.pin()); // the pin
    });
    expect(found).toMatchObject([[4, { object: 'pin (dmabuf)', site: at('the pin') }]]);
  });
});

describe('peaks', () => {
  it('that climb in each cycle are found, though everything is given back at the end of each', () => {
    const watched = new Watched();
    const found = watched.run(14, function* (cycle) {
      const fds: number[] = [];
      for (let i = 0; i < cycle; i++) fds.push(yield* allocBuffer(watched.app));
      for (const fd of fds) yield* watched.app.close(fd);
    });
    expect(found).toMatchObject([[9, { object: 'fd (dmabuf)', count: 9 }]]);
    expect(found[0]?.[1].what).toBe('so many of app at once, and more in each of 8 cycles');
  });

  it('that climb until a pipeline is full are not', () => {
    const watched = new Watched();
    const found = watched.run(20, function* (cycle) {
      const fds: number[] = [];
      for (let i = 0; i < Math.min(cycle, 6); i++) fds.push(yield* allocBuffer(watched.app));
      for (const fd of fds) yield* watched.app.close(fd);
    });
    expect(found).toEqual([]);
  });
});

describe('cycles that a device ends', () => {
  it('are the frames of one display: with the policy that throws, the third that leaks more ends the run', () => {
    const system = new System({ atRest: false });
    const { sim } = system;
    const detector = new GrowthDetector(system.machine, { warmUpCycles: 0 });
    const stop = detector.cycleOn('device.frame', ({ device }) => device === 'display0');
    const frame = (device: string): void => {
      system.machine.systemHeap.alloc(4096, 'frame');
      sim.trace.emit({ kind: 'device.frame', timeNs: sim.now, device, stage: 'vblank', frame: 1 });
    };
    frame('display0');
    frame('camera0');
    frame('display0');
    expect(detector.cycles).toBe(2);
    expect(() => frame('display0')).toThrow(/^ledger\.growth: 4 x reference \(dmabuf\) left/);
    stop();
    frame('display0');
    expect(detector.cycles).toBe(3);
  });
});
