/** An exporter takes no foreign devices, and a consumer keeps trying. */
import { describe, expect, it } from 'vitest';
import { type Device, ErrnoError, exportDmaBuf, SgTable } from '../../src/index.ts';
import { deviceOf, failing, machineOf, reports } from './scene.ts';

function tryFiveTimes(whose: 'its own' | 'foreign') {
  const machine = machineOf('pc');
  const own: Device = deviceOf(machine, 'pc', 'gpu0');
  const other: Device = deviceOf(machine, 'pc', 'gpu1');
  const frame = machine.pages.allocPages({ order: 0, owner: 'vram' });
  const buf = exportDmaBuf(machine.sim, {
    ...{ exporterName: 'gpu0', name: 'surface', sizeBytes: 4096, priv: {} },
    ops: {
      attach(_buf, { dev }) {
        if (dev !== own)
          throw new ErrnoError('EINVAL', 'attach', `surface lies in memory that only gpu0 reaches, not ${dev.name}`);
      },
      mapDmaBuf: () => SgTable.fromPages([frame], { sizeBytes: 4096 }),
      unmapDmaBuf() {},
      release: () => machine.pages.freePages(frame, 1),
    },
  });
  const answers = machine.sim.run(function* () {
    const all: string[] = [];
    for (let i = 0; i < 5; i++) {
      const attempt = failing(function* () {
        const att = yield* buf.attach(whose === 'its own' ? own : other);
        yield* buf.detach(att);
      });
      all.push(yield* attempt);
    }
    return all;
  });
  const left = buf.attachments.length;
  buf.put();
  return { answers: [...new Set(answers)], left, found: reports(machine.sim) };
}

describe('U-42: "the import fails on the second GPU, and the log fills with attempts"', () => {
  it('gives the same answer each time, which says who refuses and why, and leaves nothing', () => {
    expect(tryFiveTimes('foreign')).toEqual({
      answers: ['attach: EINVAL: surface lies in memory that only gpu0 reaches, not gpu1'],
      left: 0,
      found: [],
    });
  });

  it('works each time for the device that reaches the memory', () => {
    expect(tryFiveTimes('its own')).toEqual({ answers: ['none'], left: 0, found: [] });
  });
});
