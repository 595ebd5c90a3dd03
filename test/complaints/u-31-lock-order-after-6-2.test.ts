/** An exporter's `map` takes a lock of its own. Since 6.2 it runs under the reservation lock, and another path takes the two the other way round. */
import { describe, expect, it } from 'vitest';
import {
  DeadlockError,
  type DmaBufProfile,
  dmaMapSgtable,
  dmaUnmapSgtable,
  exportDmaBuf,
  linux61,
  linux62,
  Mutex,
  type Op,
  SgTable,
} from '../../src/index.ts';
import { deviceOf, machineOf } from './scene.ts';

/** A task maps the buffer while another, in a fault, has the exporter's lock and wants the reservation. */
function faultWhileMapping(profile: DmaBufProfile, order: 'mmap first' | 'reservation first') {
  const machine = machineOf('pc');
  const { sim } = machine;
  const camera = deviceOf(machine, 'pc', 'ipu0');
  const mmapLock = new Mutex(sim, 'mmap lock');
  const frame = machine.pages.allocPages({ order: 0, owner: 'ipu' });
  const buf = exportDmaBuf(sim, {
    ...{ exporterName: 'ipu', name: 'frame', sizeBytes: 4096, priv: {}, profile },
    ops: {
      *mapDmaBuf({ dev }, dir) {
        yield* sim.delay(100); // pins pages
        yield* mmapLock.lock();
        mmapLock.unlock();
        const sgt = SgTable.fromPages([frame], { sizeBytes: 4096 });
        dmaMapSgtable(dev, sgt, dir);
        return sgt;
      },
      unmapDmaBuf: ({ dev }, sgt, dir) => dmaUnmapSgtable(dev, sgt, dir),
      release: () => machine.pages.freePages(frame, 1),
    },
  });
  const fault = (): Op<void> =>
    order === 'mmap first'
      ? mmapLock.withLock(() => waitAndLock())
      : buf.resv.withLock(() => mmapLock.withLock(() => undefined));
  function* waitAndLock(): Op<void> {
    yield* sim.delay(150);
    yield* buf.resv.withLock(() => undefined);
  }
  sim.run(function* () {
    const att = yield* buf.attach(camera);
    const faulting = sim.spawn('fault', fault);
    // 6.1 let importers map without the lock; since 6.2 they take it.
    const sgt = yield* profile === linux61 ? att.map('from-device') : att.mapUnlocked('from-device');
    yield* faulting.done;
    yield* att.unmapUnlocked(sgt, 'from-device');
    yield* buf.detach(att);
  });
  buf.put();
  return sim.hazards;
}

describe('U-31: "possible circular locking dependency" after an update to 6.2', () => {
  it('is a deadlock, and the error says who holds which lock and waits for which', () => {
    let text = '';
    try {
      faultWhileMapping(linux62, 'mmap first');
    } catch (error) {
      if (!(error instanceof DeadlockError)) throw error;
      text = String(error);
    }
    expect(text).toMatch(/fault.*resv\(frame\)/s);
    expect(text).toMatch(/main.*mmap lock/s);
  });

  it('was none with 6.1, which called map without the reservation lock', () => {
    expect(faultWhileMapping(linux61, 'mmap first')).toEqual([]);
  });

  it('is none when the fault takes the reservation lock first', () => {
    expect(faultWhileMapping(linux62, 'reservation first')).toEqual([]);
  });
});
