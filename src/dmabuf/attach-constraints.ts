/**
 * What the devices that share a buffer demand of its memory. A device states it in its DMA parameters, an importer adds what it
 * alone knows (how many segments its hardware takes, whether it must be contiguous); an exporter collects them at attach and
 * places the memory so that all are served.
 *
 * Behind an IOMMU, where memory lies is nobody's concern: only alignment and coherency count.
 *
 * @see Linux 6.1 `include/linux/dma-mapping.h` dma_get_max_seg_size, dma_get_seg_boundary; `include/linux/dma-buf.h`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Device } from '../dma-api/device.ts';
import { describeDma } from '../dma-api/dma-query.ts';
import type { Extent } from '../dma-api/sg-table.ts';

/** Demands on memory. The loosest of each is no demand. */
export interface PlacementDemands {
  /** First address that can not be reached. Loosest: Infinity. */
  readonly limit: number;
  /** Segments of one mapping; 1 means contiguous. Loosest: Infinity. */
  readonly maxSegments: number;
  /** Bytes of one segment. Loosest: Infinity. */
  readonly maxSegmentBytes: number;
  /** No segment crosses a multiple of this. Loosest: Infinity. */
  readonly boundaryBytes: number;
  /** Every segment begins at a multiple of this. Loosest: 1. */
  readonly alignBytes: number;
  /** CPU and device must see one another's writes without syncs. Loosest: false. */
  readonly coherent: boolean;
  /** Memory of other devices can be reached across the bus. Loosest: true. */
  readonly peer2peer: boolean;
}

/** {@link PlacementDemands} of several devices, and who of them demands most of each. */
export interface MergedDemands extends PlacementDemands {
  readonly by: Readonly<Record<keyof PlacementDemands, string>>;
}

/** No demand at all. */
export const noDemands: PlacementDemands = {
  limit: Infinity,
  maxSegments: Infinity,
  maxSegmentBytes: Infinity,
  boundaryBytes: Infinity,
  alignBytes: 1,
  coherent: false,
  peer2peer: true,
};

/** What `dev` demands by its DMA parameters, and `extra` besides. Plain. */
export function demandsOf(dev: Device, extra: Partial<PlacementDemands> = {}): PlacementDemands {
  const alignBytes = dev.minAlignMask + 1;
  if (describeDma(dev).remapped) return { ...noDemands, alignBytes, ...extra };
  const busEnd = dev.busDmaLimit === 0 ? Infinity : dev.busDmaLimit + 1;
  return {
    ...noDemands,
    limit: Math.min(dev.dmaLimit, busEnd),
    maxSegmentBytes: dev.maxSegmentSizeBytes,
    boundaryBytes: dev.segBoundaryBytes,
    alignBytes,
    ...extra,
  };
}

/**
 * The demands of all together: of each the strictest. Plain. Of two that demand the same, the first is named.
 *
 * @param all - names and demands.
 */
export function mergeDemands(all: readonly (readonly [who: string, demands: PlacementDemands])[]): MergedDemands {
  const merged: { -readonly [K in keyof PlacementDemands]: PlacementDemands[K] } = { ...noDemands };
  const by: Record<keyof PlacementDemands, string> = {
    limit: '',
    maxSegments: '',
    maxSegmentBytes: '',
    boundaryBytes: '',
    alignBytes: '',
    coherent: '',
    peer2peer: '',
  };
  for (const [who, demands] of all) {
    for (const key of ['limit', 'maxSegments', 'maxSegmentBytes', 'boundaryBytes'] as const) {
      if (demands[key] < merged[key]) [merged[key], by[key]] = [demands[key], who];
    }
    if (demands.alignBytes > merged.alignBytes) [merged.alignBytes, by.alignBytes] = [demands.alignBytes, who];
    if (demands.coherent && !merged.coherent) [merged.coherent, by.coherent] = [true, who];
    if (!demands.peer2peer && merged.peer2peer) [merged.peer2peer, by.peer2peer] = [false, who];
  }
  return { ...merged, by };
}

/**
 * Why no memory of `sizeBytes` can meet the demands wherever it lies, naming who demands it; '' when nothing stands against it.
 * Plain.
 */
export function demandsConflict(demands: MergedDemands, sizeBytes: number): string {
  const { by, limit, alignBytes, boundaryBytes } = demands;
  if (sizeBytes > limit) return `${by.limit} reaches ${limit} bytes only`;
  if (boundaryBytes < Infinity && alignBytes > boundaryBytes) {
    return `${by.alignBytes} aligns segments to ${alignBytes} bytes, ${by.boundaryBytes} lets none cross ${boundaryBytes}`;
  }
  const longest = Math.min(demands.maxSegmentBytes, boundaryBytes);
  if (sizeBytes <= demands.maxSegments * longest) return '';
  const short = demands.maxSegmentBytes <= boundaryBytes ? by.maxSegmentBytes : by.boundaryBytes;
  return `${by.maxSegments} takes ${demands.maxSegments} segments, ${short} takes ${longest} bytes in each`;
}

/**
 * Why memory at `extents` does not meet the demands, naming who demands it; '' when it does. An extent may be cut into segments
 * to meet length and boundary. Plain.
 *
 * @throws {InvariantError} an extent is empty.
 */
export function demandsUnmet(demands: MergedDemands, extents: readonly Extent[]): string {
  const { by, limit, alignBytes, maxSegments } = demands;
  let segments = 0;
  for (const { phys, length } of extents) {
    assert(length > 0, 'demandsUnmet: an extent of %s bytes', length);
    if (phys + length > limit) return `${by.limit} reaches ${limit} bytes, the memory ends at ${phys + length}`;
    if (phys % alignBytes !== 0) return `${by.alignBytes} aligns segments to ${alignBytes} bytes`;
    segments += segmentsOf(phys, length, demands);
  }
  if (segments > maxSegments) return `${by.maxSegments} takes ${maxSegments} segments, the memory has ${segments}`;
  return '';
}

/** Pieces that an extent must be cut into. */
function segmentsOf(phys: number, length: number, { boundaryBytes, maxSegmentBytes }: PlacementDemands): number {
  let count = 0;
  let at = phys;
  const end = phys + length;
  while (at < end) {
    const toBoundary = boundaryBytes === Infinity ? Infinity : boundaryBytes - (at % boundaryBytes);
    at += Math.min(toBoundary, maxSegmentBytes, end - at);
    count++;
  }
  return count;
}

/** Who is attached with which demands. */
export class AttachDemands {
  readonly #all = new Map<object, readonly [who: string, demands: PlacementDemands]>();

  /** The demands of all that are here. */
  get merged(): MergedDemands {
    return mergeDemands([...this.#all.values()]);
  }

  /**
   * Adds those of `key`, in the name of `who`. Plain.
   *
   * @throws {ErrnoError} `EBUSY` together with those here they can not be met (retry when another has left); the text names
   *   who demand what. Nothing is added.
   */
  add(key: object, who: string, demands: PlacementDemands, sizeBytes: number): void {
    const conflict = demandsConflict(mergeDemands([...this.#all.values(), [who, demands]]), sizeBytes);
    if (conflict !== '') throw new ErrnoError('EBUSY', 'attach', `${who}: ${conflict}`);
    this.#all.set(key, [who, demands]);
  }

  /** Takes those of `key` out. Plain; nothing happens when it is not here. */
  remove(key: object): void {
    this.#all.delete(key);
  }
}
