/** The exporter moves a buffer, and the importer goes on with the old addresses. */
import {
  armSoc,
  dmaMapSgtable,
  dmaUnmapSgtable,
  exportDmaBuf,
  linux71,
  SgTable,
  type Simulator,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const gpu = soc.addDevice({ name: 'gpu0', coherent: true, iommu: true });
  const memory = SgTable.fromPages([soc.pages.allocPages({ order: 0, owner: 'vram' })], { sizeBytes: 4096 });
  const buf = exportDmaBuf(soc.sim, {
    ...{ exporterName: 'vram', name: 'tile', sizeBytes: 4096, priv: {}, profile: linux71 },
    ops: {
      pin() {},
      unpin() {},
      mapDmaBuf({ dev }, dir) {
        const sgt = memory.clone();
        dmaMapSgtable(dev, sgt, dir);
        return sgt;
      },
      unmapDmaBuf: ({ dev }, sgt, dir) => dmaUnmapSgtable(dev, sgt, dir),
      release() {},
    },
  });
  soc.sim.run(function* () {
    const att = yield* buf.dynamicAttach(gpu, { moveNotify() {} });
    let sgt = yield* buf.resv.withLock(() => att.map('to-device'));
    yield* buf.resv.withLock(() => buf.moveNotify()); // the exporter moves it
    if (nearMiss) {
      yield* buf.resv.withLock(() => att.unmap(sgt, 'to-device'));
      sgt = yield* buf.resv.withLock(() => att.map('to-device'));
    }
    gpu.port.read(sgt.dmaAddress(0), new Uint8Array(64), 0, 64);
  });
  return soc.sim;
}
