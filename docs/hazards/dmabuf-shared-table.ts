/** An exporter gives one table to every device. */
import { armSoc, dmaMapSgtable, dmaUnmapSgtable, exportDmaBuf, SgTable, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const table = SgTable.fromPages([soc.pages.allocPages({ order: 0, owner: 'vram' })], { sizeBytes: 4096 });
  const buf = exportDmaBuf(soc.sim, {
    ...{ exporterName: 'vram', name: 'tile', sizeBytes: 4096, priv: {} },
    ops: {
      mapDmaBuf({ dev }, dir) {
        const sgt = nearMiss ? table.clone() : table;
        if (sgt.nents === 0) dmaMapSgtable(dev, sgt, dir);
        return sgt;
      },
      unmapDmaBuf: ({ dev }, sgt, dir) => dmaUnmapSgtable(dev, sgt, dir),
      release() {},
    },
  });
  soc.sim.run(function* () {
    for (const name of ['gpu0', 'display0']) {
      const dev = soc.addDevice({ name, coherent: false });
      yield* (yield* buf.attach(dev)).mapUnlocked('to-device');
    }
  });
  return soc.sim;
}
