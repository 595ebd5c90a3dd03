/** An importer detaches, and its device goes on; the core had kept the mapping until then. */
import { armSoc, dmaMapSgtable, dmaUnmapSgtable, exportDmaBuf, SgTable, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const gpu = soc.addDevice({ name: 'gpu0', coherent: true, iommu: true });
  const memory = SgTable.fromPages([soc.pages.allocPages({ order: 0, owner: 'vram' })], { sizeBytes: 4096 });
  const buf = exportDmaBuf(soc.sim, {
    ...{ exporterName: 'vram', name: 'tile', sizeBytes: 4096, priv: {} },
    ops: {
      cacheSgtMapping: true,
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
    const att = yield* buf.attach(gpu);
    const sgt = yield* att.mapUnlocked('to-device');
    const address = sgt.dmaAddress(0);
    yield* att.unmapUnlocked(sgt, 'to-device');
    if (nearMiss) gpu.port.read(address, new Uint8Array(64), 0, 64);
    yield* buf.detach(att);
    if (!nearMiss) gpu.port.read(address, new Uint8Array(64), 0, 64);
  });
  return soc.sim;
}
