/** Two producers of one buffer: what another submits between export and import of fences, and what turns are good for. */
import { describe, expect, it } from 'vitest';
import { Gpu } from '../../src/devices/gpu.ts';
import { type Chooser, RandomChooser } from '../../src/sim/chooser.ts';
import { Mutex } from '../../src/sim/mutex.ts';
import type { Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import type { Process } from '../../src/uapi/process.ts';
import { SharedBuffer } from '../../src/uapi/shared-buffer.ts';
import { allocBuffer, SMALL, System } from './system.ts';

/** Both draw into the whole buffer, each on a GPU of its own. @returns the hazards. */
function play(chooser: Chooser, takesTurns: boolean): readonly string[] {
  const system = new System({ ...SMALL, shadow: true, hazards: 'record', chooser });
  const { sim, machine } = system;
  const turns = new Mutex(sim, 'turns');
  const one = machine.addProcess({ name: 'one' });
  const fd = sim.run(() => allocBuffer(one));
  const two = one.fork('two');

  function* produce(app: Process, gpu: Gpu): Op<void> {
    const shared = SharedBuffer.open(app, fd);
    const buf = app.fds.get(fd);
    const target = yield* gpu.importBuffer(buf);
    buf.put();
    const submit = () =>
      shared.submit('write', (waits) =>
        gpu.submit({
          ...{ name: 'draw', waits, writes: [target] },
          *run(memory) {
            yield* sim.delay(5000);
            memory.write(target.gpuVa, Uint8Array.of(1), 0, 1);
          },
        }),
      );
    const done = takesTurns ? yield* turns.withLock(submit) : yield* submit();
    yield* app.poll([{ fd: done, events: 1 }]);
    yield* gpu.release();
    yield* shared.close();
    yield* app.kill();
  }

  for (const [i, app] of [one, two].entries()) {
    const gpu = new Gpu(system.device(`gpu${i}`), { launchNs: 100, pixelNs: 1, bytesPerNs: 1 });
    sim.spawn(`producer${i}`, () => produce(app, gpu));
  }
  sim.run();
  system.expectNothingLeft();
  return sim.hazards.map(({ hazard }) => hazard);
}

const choosers = Array.from({ length: 40 }, (_, seed) => () => new RandomChooser(new Prng(seed)));

describe('two producers of one buffer', () => {
  it('may draw at once when they do not take turns, which is reported: the later one did not wait for the earlier', () => {
    const found = new Set(choosers.flatMap((make) => play(make(), false)));
    expect([...found]).toEqual(['access.write-while-writing']);
  });

  it('never do when they take turns', () => {
    for (const make of choosers) expect(play(make(), true)).toEqual([]);
  });
});
