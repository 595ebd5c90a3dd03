/** An app does everything right, and the exporter has no begin_cpu_access. */
import {
  armSoc,
  DMA_BUF_IOCTL_SYNC,
  DMA_BUF_SYNC,
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaUnmapSgtable,
  exportDmaBuf,
  SgTable,
  type Simulator,
} from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const camera = soc.addDevice({ name: 'camera0', coherent: false, iommu: true });
  const app = soc.addProcess({ name: 'app' });
  const memory = SgTable.fromPages([soc.pages.allocPages({ order: 0, owner: 'vram' })], { sizeBytes: 4096 });
  const frame = exportDmaBuf(soc.sim, {
    ...{ exporterName: 'vram', name: 'frame', sizeBytes: 4096, priv: {} },
    ops: {
      mapDmaBuf({ dev }, dir) {
        const sgt = memory.clone();
        dmaMapSgtable(dev, sgt, dir);
        return sgt;
      },
      unmapDmaBuf: ({ dev }, sgt, dir) => dmaUnmapSgtable(dev, sgt, dir),
      mmap: () => ({ extents: memory.extents(), attribute: 'cached' }),
      release() {},
      beginCpuAccess(buf, dir) {
        if (!nearMiss) return; // a stub
        for (const { dev, tables } of buf.attachments)
          for (const sgt of tables.keys()) dmaSyncSgtableForCpu(dev, sgt, dir);
      },
    },
  });
  const { start, end, read } = DMA_BUF_SYNC;
  soc.sim.run(function* () {
    const fd = app.fds.install(frame);
    const pixels = yield* app.mmap(fd);
    const sgt = yield* (yield* frame.attach(camera)).mapUnlocked('from-device');
    pixels.read(0, 1); // an older frame, now in the cache
    camera.port.write(sgt.dmaAddress(0), Uint8Array.of(0xc5), 0, 1);
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read });
    pixels.read(0, 1);
    yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | read });
  });
  return soc.sim;
}
