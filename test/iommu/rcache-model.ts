/** A slow, obvious model of IO virtual addresses with per-CPU caches: lists of numbers, nothing shared with the library. */
import { RangeWalk } from './range-walk.ts';

const FULL = 127;
const DEPOT_LIMIT = 32;

interface CpuLists {
  loaded: number[];
  other: number[];
}

/** What `IovaSpace` promises, by the words of its rules. */
export class RcacheModel {
  readonly tree: RangeWalk;
  readonly #lists = new Map<string, CpuLists>();
  readonly #depots = new Map<number, number[][]>();

  constructor(start: number, end32: number) {
    this.tree = new RangeWalk(start, end32);
  }

  alloc(cpu: number, pages: number, limit: number, mayFlush: boolean): number {
    const size = pages < 32 ? powerOfTwo(pages) : pages;
    const kept = size <= 32 ? this.#take(cpu, size, limit - size + 1) : -1;
    if (kept >= 0) return kept;
    const first = this.tree.alloc(size, limit);
    if (first >= 0 || !mayFlush) return first;
    this.#flush();
    return this.tree.alloc(size, limit);
  }

  free(cpu: number, first: number, pages: number): void {
    if (pages > 32) return this.tree.free(first);
    const size = powerOfTwo(pages);
    const lists = this.#of(cpu, size);
    const depot = this.#depot(size);
    let excess: number[] = [];
    if (lists.loaded.length === FULL && lists.other.length < FULL) swap(lists);
    else if (lists.loaded.length === FULL) {
      if (depot.length < DEPOT_LIMIT) depot.push(lists.loaded);
      else excess = lists.loaded;
      lists.loaded = [];
    }
    lists.loaded.push(first);
    for (const range of excess) this.tree.free(range);
  }

  #take(cpu: number, size: number, highest: number): number {
    const lists = this.#of(cpu, size);
    if (lists.loaded.length === 0) {
      if (lists.other.length > 0) swap(lists);
      else lists.loaded = this.#depot(size).pop() ?? [];
    }
    const { loaded } = lists;
    const at = loaded.findLastIndex((first) => first <= highest);
    if (at < 0) return -1;
    const first = loaded[at] ?? -1;
    const newest = loaded.pop() ?? -1;
    if (at < loaded.length) loaded[at] = newest;
    return first;
  }

  #flush(): void {
    const cpus = [...this.#lists.keys()].sort();
    for (const key of cpus) {
      const lists = this.#lists.get(key);
      for (const range of [...(lists?.loaded ?? []), ...(lists?.other ?? [])]) this.tree.free(range);
    }
    for (const depot of this.#depots.values()) for (const range of depot.flat()) this.tree.free(range);
    this.#lists.clear();
    this.#depots.clear();
  }

  #of(cpu: number, size: number): CpuLists {
    const key = `${cpu} ${size}`;
    let lists = this.#lists.get(key);
    if (lists === undefined) {
      lists = { loaded: [], other: [] };
      this.#lists.set(key, lists);
    }
    return lists;
  }

  #depot(size: number): number[][] {
    let depot = this.#depots.get(size);
    if (depot === undefined) {
      depot = [];
      this.#depots.set(size, depot);
    }
    return depot;
  }
}

function swap(lists: CpuLists): void {
  const { loaded } = lists;
  lists.loaded = lists.other;
  lists.other = loaded;
}

function powerOfTwo(pages: number): number {
  let size = 1;
  while (size < pages) size *= 2;
  return size;
}
