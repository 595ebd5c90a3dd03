/**
 * How the extents of a table lie in one run of IO virtual addresses, and which segments the device sees there.
 *
 * 1. Each extent takes whole pages. One that starts or ends inside a page leaves a gap beside it, of which the device reaches the
 *    memory around the extent.
 * 2. An extent that would cross the device's segment boundary, and is longer than what is left before it, begins behind it. The gap
 *    is made up by more pages of the extent before: the device reaches there what follows that extent in memory.
 * 3. An extent joins the segment before it when there is no gap between them, it does not begin at a boundary, and the segment does not
 *    become longer than the device's longest. The comparison is of unsigned 32-bit numbers: once a segment is longer than the
 *    longest (by one long extent, which is never split), every further extent that begins on a page joins it.
 *
 * Inaccuracies: a segment of 4 GiB or more keeps its length, of which Linux's field of 32 bits loses the upper part.
 *
 * @see Linux 6.1 `drivers/iommu/dma-iommu.c` iommu_dma_map_sg, __finalise_sg
 */
import type { Iova, PhysAddr } from '../base/addr.ts';
import type { IommuExtents } from '../iommu/map-sg.ts';
import type { SgTable } from './sg-table.ts';

/** @internal The limits of a device's segments, in bytes. */
export interface SegmentLimits {
  readonly maxSegmentSizeBytes: number;
  readonly segBoundaryBytes: number;
}

/** Extents that there is room for at first. */
const FIRST_ROOM = 64;

/**
 * @internal The extents of one table at a time in whole pages, gaps included, as the domain is to map them. Filled anew for each mapping, so
 * that a mapping makes no garbage.
 */
export class IovaLayout implements IommuExtents {
  origNents = 0;
  /** Bytes of the run. */
  sizeBytes = 0;
  /** First byte of the page that each extent begins in. */
  #pages = new Float64Array(FIRST_ROOM);
  /** Where each extent's first page begins, in bytes from the start of the run; then the length of the run. */
  #starts = new Float64Array(FIRST_ROOM + 1);

  /** Lays the extents of `sgt` out (rules 1 and 2). */
  fill(sgt: SgTable, granuleBytes: number, { segBoundaryBytes }: SegmentLimits): void {
    const { origNents } = sgt;
    if (origNents > this.#pages.length) {
      this.#pages = new Float64Array(origNents * 2);
      this.#starts = new Float64Array(origNents * 2 + 1);
    }
    const { phys: memory, length } = sgt.columns;
    const pages = this.#pages;
    const starts = this.#starts;
    let at = 0;
    let boundary = segBoundaryBytes;
    for (let i = 0; i < origNents; i++) {
      const phys = memory[i] as number;
      const page = Math.floor(phys / granuleBytes) * granuleBytes;
      const bytes = Math.ceil((phys - page + (length[i] as number)) / granuleBytes) * granuleBytes;
      if (at + bytes > boundary) {
        const inBoundary = at - Math.floor(at / segBoundaryBytes) * segBoundaryBytes;
        const gap = inBoundary === 0 ? 0 : segBoundaryBytes - inBoundary;
        if (gap > 0 && gap < bytes - 1) at += gap;
        boundary = (Math.floor(at / segBoundaryBytes) + 1) * segBoundaryBytes;
      }
      pages[i] = page;
      starts[i] = at;
      at += bytes;
    }
    starts[origNents] = at;
    this.origNents = origNents;
    this.sizeBytes = at;
  }

  /** The first byte of the page that extent `i` begins in. */
  physAddress(i: number): PhysAddr {
    return this.#pages[i] as PhysAddr;
  }

  /** Bytes from there to where the next extent's first page is mapped. */
  length(i: number): number {
    return (this.#starts[i + 1] as number) - (this.#starts[i] as number);
  }

  /** Adds the segments to `sgt`, laid out before, that the device sees when the run begins at `iova` (rule 3). */
  addSegments(sgt: SgTable, iova: Iova, { maxSegmentSizeBytes, segBoundaryBytes }: SegmentLimits): void {
    const { origNents } = this;
    const { phys, length: lengths, dmaAddress, dmaLength } = sgt.columns;
    const pages = this.#pages;
    const starts = this.#starts;
    let segments = 0;
    let segmentBytes = 0;
    let end = -1;
    for (let i = 0; i < origNents; i++) {
      const length = lengths[i] as number;
      const start = iova + (starts[i] as number) + (phys[i] as number) - (pages[i] as number);
      let room = maxSegmentSizeBytes - segmentBytes;
      if (room < 0) room += 2 ** 32;
      if (start === end && room >= length && Math.floor(start / segBoundaryBytes) * segBoundaryBytes !== start) {
        segmentBytes += length;
      } else {
        dmaAddress[segments++] = start;
        segmentBytes = length;
      }
      dmaLength[segments - 1] = segmentBytes;
      end = start + length;
    }
    sgt.setSegments(segments);
  }
}
