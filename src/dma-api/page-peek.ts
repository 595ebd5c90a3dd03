/**
 * A table that an importer gets from a dma-buf has a device side only: the memory may have no pages, may move, and belongs to the exporter.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` mangle_sg_table (CONFIG_DMABUF_DEBUG)
 */
import type { Device } from './device.ts';
import type { SgTable } from './sg-table.ts';

/**
 * Lets every look at the CPU side of `sgt` be reported, until {@link showPages} or the end of its mapping. Does nothing for a device whose
 * calls are not checked. Plain.
 *
 * @param dev - for whom the table was mapped.
 */
export function hidePages(sgt: SgTable, dev: Device): void {
  if (dev.dmaDebug === null) return;
  sgt.onPeek = () => {
    dev.sim.report({
      hazard: 'dmabuf.page-peek',
      device: dev.name,
      what: `the importer for ${dev.name} looks at the memory behind a table that a dma-buf gave it`,
      call: 'physAddress',
      timeNs: dev.sim.now,
      remedy: 'use the device side (dmaAddress, dmaLength) for DMA, and vmap or mmap of the dma-buf for the CPU',
    });
  };
}

/** The exporter has its table back, and may look. Plain. */
export function showPages(sgt: SgTable): void {
  sgt.onPeek = null;
}
