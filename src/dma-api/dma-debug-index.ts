/**
 * The live mappings of one device as the checker finds them again.
 *
 * Single mappings stand in buckets of 8 KiB of device addresses. A list stays whole, one record whatever its segments, as long as it is
 * used as a whole; the first call that touches a part of it, or that fits nothing, takes it apart into one entry a segment.
 *
 * The search is the kernel's: an entry that agrees in size, kind, direction and count is taken at once; else there must be exactly one
 * candidate in the bucket. Two mappings of the same address that both fit badly are therefore reported as not mapped at all.
 *
 * @see Linux 6.1 `kernel/dma/debug.c` bucket_find_exact, bucket_find_contain
 */
import type { DmaAddr } from '../base/addr.ts';
import type { DmaDirection } from './direction.ts';
import { contains, DmaDebugEntry, type DmaDebugRef, matchLevel } from './dma-debug-entry.ts';
import type { SgTable } from './sg-table.ts';

/** Device addresses in one bucket. */
const BUCKET_BYTES = 8192;

/** @internal A list that is mapped and was not taken apart. */
export interface DmaDebugList {
  readonly call: string;
  readonly sgt: SgTable;
  /** Its segments count, whatever becomes of the table later. */
  readonly segments: number;
  readonly entries: number;
  readonly dir: DmaDirection;
  readonly timeNs: number;
  readonly serial: number;
  readonly site: string;
  /** Its segments lie between these addresses. */
  readonly first: number;
  readonly end: number;
}

/** @internal Of one device. */
export class DmaDebugIndex {
  readonly #buckets = new Map<number, DmaDebugEntry[]>();
  readonly #lists = new Map<SgTable, DmaDebugList>();
  #entries = 0;
  /** The longest entry ever: how far back one that contains an address can begin. */
  #longest = 0;

  /** Live mappings, each segment of a list counted. */
  get count(): number {
    let sum = this.#entries;
    for (const list of this.#lists.values()) sum += list.segments;
    return sum;
  }

  add(entry: DmaDebugEntry): void {
    const key = bucketOf(entry.address);
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) this.#buckets.set(key, [entry]);
    else bucket.push(entry);
    this.#entries++;
    if (entry.sizeBytes > this.#longest) this.#longest = entry.sizeBytes;
  }

  remove(entry: DmaDebugEntry): void {
    const key = bucketOf(entry.address);
    const bucket = this.#buckets.get(key);
    const at = bucket?.indexOf(entry) ?? -1;
    if (bucket === undefined || at < 0) return;
    this.#entries--;
    if (bucket.length === 1) this.#buckets.delete(key);
    else bucket.splice(at, 1);
  }

  addList(list: DmaDebugList): void {
    this.#lists.set(list.sgt, list);
  }

  /** The list that `sgt` is mapped as, if it is whole. */
  listOf(sgt: SgTable): DmaDebugList | undefined {
    return this.#lists.get(sgt);
  }

  removeList(list: DmaDebugList): void {
    this.#lists.delete(list.sgt);
  }

  /** The mapping that begins at `ref.address`, or `null`. */
  findExact(ref: DmaDebugRef): DmaDebugEntry | null {
    const found = this.#bestExact(ref, true);
    if (found !== null) return found;
    this.#takeListsApart(ref.address, ref.address + 1);
    return this.#bestExact(ref, false);
  }

  /** The mapping that `ref` lies in, or `null`. */
  findContaining(ref: DmaDebugRef): DmaDebugEntry | null {
    this.#takeListsApart(ref.address, ref.address + ref.sizeBytes);
    const last = bucketOf(Math.max(0, ref.address - this.#longest));
    for (let key = bucketOf(ref.address); key >= last; key--) {
      const found = best(this.#buckets.get(key), ref, contains);
      if (found !== null) return found;
    }
    return null;
  }

  /** The mapping that the byte at `address` lies in, or `null`; for reports. */
  findAt(address: DmaAddr): DmaDebugEntry | null {
    for (const entry of this.live()) {
      if (entry.address <= address && address < entry.address + entry.sizeBytes) return entry;
    }
    return null;
  }

  /** Marks the first mapping at `address` that was not asked about as asked about. */
  markChecked(address: DmaAddr): void {
    const bucket = this.#buckets.get(bucketOf(address));
    const entry = bucket?.find((each) => each.address === address && each.errorCheck === 'unchecked');
    if (entry !== undefined) entry.errorCheck = 'checked';
  }

  /** All live mappings in the order they were made, each segment of a list one. */
  live(): DmaDebugEntry[] {
    this.#takeListsApart(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY);
    return [...this.#buckets.values()].flat().sort((a, b) => a.serial - b.serial);
  }

  #bestExact(ref: DmaDebugRef, perfectOnly: boolean): DmaDebugEntry | null {
    const bucket = this.#buckets.get(bucketOf(ref.address));
    if (bucket === undefined) return null;
    if (perfectOnly) return bucket.find((each) => each.address === ref.address && matchLevel(each, ref) === 4) ?? null;
    return best(bucket, ref, beginsAt);
  }

  /** Takes those lists apart that have segments around [from, to). */
  #takeListsApart(from: number, to: number): void {
    let some = false;
    for (const list of this.#lists.values()) {
      if (list.first >= to || list.end <= from) continue;
      this.#lists.delete(list.sgt);
      this.#addSegments(list);
      some = true;
    }
    if (!some) return;
    for (const bucket of this.#buckets.values()) bucket.sort((a, b) => a.serial - b.serial);
  }

  #addSegments({ call, sgt, segments, entries, dir, timeNs, serial, site }: DmaDebugList): void {
    for (let i = 0; i < segments; i++) {
      const where = { address: sgt.dmaAddress(i), phys: sgt.extentPhys(i), sizeBytes: sgt.dmaLength(i) };
      const ref = { call, kind: 'sg' as const, ...where, dir, sgCallEnts: entries, site };
      const state = { timeNs, serial: serial + i / segments, sgMappedEnts: segments, errorCheck: 'none' as const };
      this.add(new DmaDebugEntry(ref, state));
    }
  }
}

function bucketOf(address: number): number {
  return Math.floor(address / BUCKET_BYTES);
}

function beginsAt(entry: DmaDebugRef, ref: DmaDebugRef): boolean {
  return entry.address === ref.address;
}

/** The first perfect fit among those that match; else the only one that matches. */
function best(
  bucket: readonly DmaDebugEntry[] | undefined,
  ref: DmaDebugRef,
  matches: (entry: DmaDebugRef, ref: DmaDebugRef) => boolean,
): DmaDebugEntry | null {
  if (bucket === undefined) return null;
  let only: DmaDebugEntry | null = null;
  let count = 0;
  for (const entry of bucket) {
    if (!matches(entry, ref)) continue;
    if (matchLevel(entry, ref) === 4) return entry;
    only = entry;
    count++;
  }
  return count === 1 ? only : null;
}
