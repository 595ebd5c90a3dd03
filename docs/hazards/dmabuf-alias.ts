/** Two buffers show one memory: fences and brackets of one say nothing of the other. */
import { armSoc, dmaMapSgtable, dmaUnmapSgtable, exportDmaBuf, SgTable, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record', lints: true });
  const gpu = soc.addDevice({ name: 'gpu0', coherent: true, iommu: true });
  const frames = [1, 2].map(() => soc.pages.allocPages({ order: 0, owner: 'vram' }));
  soc.sim.run(function* () {
    for (const [i, name] of ['front', 'back'].entries()) {
      const memory = SgTable.fromPages(nearMiss ? frames.slice(i) : frames, { sizeBytes: 4096 });
      const buf = exportDmaBuf(soc.sim, {
        ...{ exporterName: 'vram', name, sizeBytes: 4096, priv: {} },
        ops: {
          mapDmaBuf({ dev }, dir) {
            const sgt = memory.clone();
            dmaMapSgtable(dev, sgt, dir);
            return sgt;
          },
          unmapDmaBuf: ({ dev }, sgt, dir) => dmaUnmapSgtable(dev, sgt, dir),
          release() {},
        },
      });
      yield* (yield* buf.attach(gpu)).mapUnlocked('to-device');
    }
  });
  return soc.sim;
}
