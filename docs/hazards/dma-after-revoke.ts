/** The exporter takes a buffer back, and the importer still uses it. */
import {
  armSoc,
  dmaMapSgtable,
  dmaUnmapSgtable,
  exportDmaBuf,
  linux71,
  Revocation,
  SgTable,
  type Simulator,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const gpu = soc.addDevice({ name: 'gpu0', coherent: true, iommu: true });
  const memory = SgTable.fromPages([soc.pages.allocPages({ order: 0, owner: 'vram' })], { sizeBytes: 4096 });
  const revocation = new Revocation();
  const buf = exportDmaBuf(soc.sim, {
    ...{ exporterName: 'vfio', name: 'bar0', sizeBytes: 4096, priv: {}, profile: linux71 },
    ops: {
      attach: (_buf, att) => revocation.checkAttach(att),
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
    const sgt = yield* buf.resv.withLock(() => att.map('to-device'));
    if (nearMiss) gpu.port.read(sgt.dmaAddress(0), new Uint8Array(64), 0, 64);
    soc.sim.spawn('reset', () => revocation.revoke(buf)); // returns when nobody has it mapped
    yield* soc.sim.delay(1000);
    if (!nearMiss) gpu.port.read(sgt.dmaAddress(0), new Uint8Array(64), 0, 64);
    yield* buf.resv.withLock(() => att.unmap(sgt, 'to-device'));
  });
  return soc.sim;
}
