/** The reference exporter: what a driver that shares memory of its own has to write, and a first use of it. */
import {
  armSoc,
  type DmaBuf,
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
  exportDmaBuf,
  type Machine,
  pagesFor,
  SgTable,
} from '../../src/index.ts';

/** The exporter's own data of one buffer. */
interface Frame {
  readonly memory: SgTable;
  readonly free: () => void;
}
const clearing = { name: 'frames', kind: 'cpu', via: 'clearing', beforeRead: '', afterWrite: 'map it' } as const;

function exportFrame({ sim, pages, coherency }: Machine, name: string, sizeBytes: number): DmaBuf<Frame> {
  const frames = Array.from({ length: pagesFor(sizeBytes) }, () => pages.allocPages({ order: 0, owner: name }));
  const memory = SgTable.fromPages(frames, { sizeBytes: frames.length * 4096 });
  for (const { phys, length } of memory.extents()) coherency.zero(phys, length, clearing);
  const free = () => frames.forEach((frame) => void pages.freePages(frame, 1));
  return exportDmaBuf<Frame>(sim, {
    ...{ exporterName: 'frames', name, sizeBytes, priv: { memory, free } },
    ops: {
      mapDmaBuf(att, dir) {
        const sgt = att.buf.priv.memory.clone(); // one table, one mapping
        dmaMapSgtable(att.dev, sgt, dir);
        return sgt;
      },
      unmapDmaBuf: (att, sgt, dir) => dmaUnmapSgtable(att.dev, sgt, dir),
      beginCpuAccess(buf, dir) {
        for (const { dev, tables } of buf.attachments)
          for (const sgt of tables.keys()) dmaSyncSgtableForCpu(dev, sgt, dir);
      },
      endCpuAccess(buf, dir) {
        for (const { dev, tables } of buf.attachments)
          for (const sgt of tables.keys()) dmaSyncSgtableForDevice(dev, sgt, dir);
      },
      mmap: (buf) => ({ extents: buf.priv.memory.extents(), attribute: 'cached' }),
      release: (buf) => buf.priv.free(),
    },
  });
}

const soc = armSoc();
const camera = soc.addDevice({ name: 'camera0', coherent: false, iommu: true });
soc.sim.run(function* () {
  const buf = exportFrame(soc, 'frame0', 10_000);
  const att = yield* buf.attach(camera);
  const sgt = yield* att.mapUnlocked('from-device');
  console.log(`${buf.name} for ${camera.name}: origNents ${sgt.origNents}, nents ${sgt.nents}`);
  yield* att.unmapUnlocked(sgt, 'from-device');
  yield* buf.detach(att);
  buf.put();
});
