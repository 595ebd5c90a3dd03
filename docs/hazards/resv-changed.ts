/** An exporter leaves a callback with the reservation lock taken. */
import { armSoc, exportDmaBuf, SgTable, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const frame = soc.pages.allocPages({ order: 0, owner: 'vram' });
  const buf = exportDmaBuf(soc.sim, {
    ...{ exporterName: 'vram', name: 'tile', sizeBytes: 4096, priv: {} },
    ops: {
      mapDmaBuf: () => SgTable.fromPages([frame], { sizeBytes: 4096 }),
      unmapDmaBuf() {},
      *beginCpuAccess({ resv }) {
        yield* resv.lock(); // the tile must not move while the CPU looks
        if (nearMiss) resv.unlock();
      },
      release() {},
    },
  });
  soc.sim.run(() => buf.beginCpuAccess('from-device'));
  return soc.sim;
}
