/**
 * What one domain tells the IOTLB to forget, with its cost and its trace.
 *
 * @internal
 */
import { type Iova, PAGE_SIZE } from '../base/addr.ts';
import type { Iommu } from './iommu.ts';

/** @internal See the head of this file. */
export class DomainTlb {
  readonly #iommu: Iommu;
  readonly #asid: number;
  readonly #domain: string;

  constructor(iommu: Iommu, asid: number, domain: string) {
    this.#iommu = iommu;
    this.#asid = asid;
    this.#domain = domain;
  }

  /** Invalidates a range, or the block around it that the unit's command can name; charges `commands` commands. */
  invalidate(iova: Iova, sizeBytes: number, commands: number): undefined {
    const { iotlb, rangeInvalidation, sim, costs } = this.#iommu;
    let start = iova as number;
    let bytes = sizeBytes;
    if (rangeInvalidation === 'power-of-two') {
      bytes = blockAround(iova, sizeBytes);
      start = Math.floor(iova / bytes) * bytes;
    }
    iotlb.invalidateRange(this.#asid, start as Iova, bytes);
    this.#invalidateNested();
    sim.charge(costs.invalidateFixedNs + commands * costs.invalidatePerPageNs);
    if (sim.trace.enabled) this.#emit(start, bytes);
  }

  /** Invalidates the whole address space; charges one command. */
  invalidateAll(): undefined {
    const { iotlb, sim, costs, ias } = this.#iommu;
    iotlb.invalidateAsid(this.#asid);
    this.#invalidateNested();
    sim.charge(costs.invalidateFixedNs + costs.invalidatePerPageNs);
    if (sim.trace.enabled) this.#emit(0, 2 ** ias);
  }

  /** Entries that combine a first stage with this second one go wholly. */
  #invalidateNested(): void {
    for (const asid of this.#iommu.nestedOn(this.#asid)) this.#iommu.iotlb.invalidateAsid(asid);
  }

  #emit(iova: number, bytes: number): void {
    const { sim } = this.#iommu;
    sim.trace.emit({ kind: 'iommu.flush', timeNs: sim.now, domain: this.#domain, iova, bytes });
  }
}

/** Bytes of the smallest naturally aligned power of two, of at least a page, that covers the range. */
function blockAround(iova: number, sizeBytes: number): number {
  let bytes = PAGE_SIZE;
  while (Math.floor(iova / bytes) !== Math.floor((iova + Math.max(sizeBytes, 1) - 1) / bytes)) bytes *= 2;
  return bytes;
}
