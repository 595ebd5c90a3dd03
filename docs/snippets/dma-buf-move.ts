/** A dynamic importer gives its mapping up when the exporter moves the buffer; for a static one it is pinned. */
import { exportDmaBuf, linux71, pc, SgTable } from '../../src/index.ts';

const machine = pc();
const gpu = machine.addDevice({ name: 'gpu0', coherent: true });
const camera = machine.addDevice({ name: 'camera0', coherent: true });
const page = machine.pages.allocPages({ order: 0, owner: 'vram' });
const buf = exportDmaBuf(machine.sim, {
  ...{ exporterName: 'vram', name: 'tile0', sizeBytes: 4096, priv: {}, profile: linux71 },
  ops: {
    pin: (att) => console.log(`pin for ${att.dev.name}`),
    unpin: (att) => console.log(`unpin for ${att.dev.name}`),
    mapDmaBuf: () => SgTable.fromPages([page], { sizeBytes: 4096 }), // a real one maps the place where the buffer is now
    unmapDmaBuf: (att) => console.log(`unmap for ${att.dev.name}`),
    release: () => machine.pages.freePages(page, 1),
  },
});

machine.sim.run(function* () {
  let isCurrent = false;
  const att = yield* buf.dynamicAttach(gpu, {
    moveNotify({ dev }) {
      console.log(`${dev.name} is told`);
      isCurrent = false;
    },
  });
  let sgt = yield* buf.resv.withLock(() => att.map('bidirectional'));
  isCurrent = true;
  yield* buf.resv.withLock(() => buf.moveNotify()); // the exporter moves it
  yield* buf.resv.withLock(function* () {
    if (isCurrent) return; // looked at with the lock held, right before each use
    yield* att.unmap(sgt, 'bidirectional');
    sgt = yield* att.map('bidirectional');
  });
  yield* att.unmapUnlocked(sgt, 'bidirectional');
  yield* buf.detach(att);
  yield* buf.detach(yield* buf.attach(camera));
  buf.put();
});
