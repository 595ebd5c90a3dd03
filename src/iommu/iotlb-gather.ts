/** A range of unmapped addresses whose IOTLB entries still have to go, and the tables that hung there. */
import type { Pfn } from '../base/addr.ts';
import type { TablePages } from './io-pgtable.ts';

/** Table pages that are unlinked, to be given back when no walker can see them any more. Nothing happens at a second `release`. */
export interface UnlinkedTables {
  release(): undefined;
}

/**
 * Collects what several unmaps made stale, so that one invalidation serves them all.
 *
 * @see Linux 6.1 `include/linux/iommu.h` struct iommu_iotlb_gather
 */
export class IotlbGather {
  /** First byte; meaningless while {@link pgsize} is 0. */
  start = Number.POSITIVE_INFINITY;
  /** First byte behind the range. */
  end = Number.NEGATIVE_INFINITY;
  /** Size of the leaves gathered, in bytes; 0 = nothing gathered. */
  pgsize = 0;
  /** The invalidation is left to a flush queue: page tables do not gather leaves. */
  queued: boolean;
  #tables: TableList | null = null;

  constructor(queued = false) {
    this.queued = queued;
  }

  /** True while tables wait for {@link releaseTables} or {@link takeTables}. */
  get hasTables(): boolean {
    return this.#tables !== null;
  }

  /** True when `[iova, iova + sizeBytes)` of leaves of `pgsize` cannot join what is gathered: other leaf size, or not adjoining. */
  isDisjoint(iova: number, sizeBytes: number, pgsize: number): boolean {
    return this.pgsize !== 0 && (this.pgsize !== pgsize || iova > this.end || iova + sizeBytes < this.start);
  }

  /** Adds `[iova, iova + sizeBytes)` of leaves of `pgsize` bytes. */
  add(iova: number, sizeBytes: number, pgsize: number): void {
    this.pgsize = pgsize;
    if (iova < this.start) this.start = iova;
    if (iova + sizeBytes > this.end) this.end = iova + sizeBytes;
  }

  /** Adds a table page that was unlinked. @internal */
  addTable(pages: TablePages, frame: Pfn, order: number): void {
    this.#tables ??= new TableList();
    this.#tables.add(pages, frame, order);
  }

  /** Hands the tables over to whoever invalidates later, or null: there are none. The caller releases them after that. */
  takeTables(): UnlinkedTables | null {
    const tables = this.#tables;
    this.#tables = null;
    return tables;
  }

  /** Takes over the tables of `other`. @internal */
  takeTablesOf(other: IotlbGather): void {
    const tables = other.#tables;
    if (tables === null) return;
    other.#tables = null;
    if (this.#tables === null) this.#tables = tables;
    else this.#tables.append(tables);
  }

  /** Gives the tables back: nobody can walk into them any more. */
  releaseTables(): void {
    this.takeTables()?.release();
  }

  /** Forgets the range; {@link queued} and tables stay. */
  reset(): void {
    this.start = Number.POSITIVE_INFINITY;
    this.end = Number.NEGATIVE_INFINITY;
    this.pgsize = 0;
  }
}

class TableList implements UnlinkedTables {
  readonly #frames: [pages: TablePages, frame: Pfn, order: number][] = [];

  add(pages: TablePages, frame: Pfn, order: number): void {
    this.#frames.push([pages, frame, order]);
  }

  append(other: TableList): void {
    for (const frame of other.#frames) this.#frames.push(frame);
    other.#frames.length = 0;
  }

  release(): undefined {
    for (const [pages, frame, order] of this.#frames) pages.free(frame, order);
    this.#frames.length = 0;
  }
}
