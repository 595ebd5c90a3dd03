/** A second-stage VT-d table as the driver treats it, in the plainest form: nested maps of entries. For comparison only. */

/** A leaf, or a table of entries by index. */
type Entry = { readonly phys: number; readonly writes: boolean } | Table;
type Table = Map<number, Entry>;

/** Bytes of an entry at each level, largest first. */
const LEVELS: readonly number[] = [2 ** 39, 2 ** 30, 2 ** 21, 2 ** 12];
const ENTRIES = 512;
const LAST = LEVELS.length - 1;

/** See the head of this file. */
export class VtdReference {
  warnings = 0;
  readonly #root: Table = new Map();

  /** @returns false when a superpage is in the way; nothing has changed then. */
  map(iova: number, phys: number, pgsize: number, pgcount: number, writes: boolean): boolean {
    const level = LEVELS.indexOf(pgsize);
    for (const [start, bytes, entry] of this.#all()) {
      if (bytes > 4096 && start < iova + pgsize * pgcount && start + bytes > iova && !isTable(entry)) return false;
    }
    for (let i = 0; i < pgcount; i++) {
      const at = iova + i * pgsize;
      const table = this.#tableFor(at, level);
      const index = indexOf(at, level);
      if (level === LAST && table.has(index)) this.warnings++;
      else table.set(index, { phys: phys + i * pgsize, writes });
    }
    return true;
  }

  /** @returns bytes cleared, or a word for what is wrong. */
  unmap(iova: number, sizeBytes: number): number | 'no table' | 'inside a leaf' {
    const [entry, bytes, start] = this.#stop(iova);
    if (entry === undefined && bytes > 4096 && bytes > sizeBytes) return 'no table';
    if (entry !== undefined && start !== iova && bytes > 4096) return 'inside a leaf';
    const end = iova + (entry !== undefined && bytes > sizeBytes ? bytes : sizeBytes);
    const [last, lastBytes, lastStart] = this.#stop(end - 1);
    if (last !== undefined && lastBytes > 4096 && lastStart + lastBytes > end) return 'inside a leaf';
    for (const [at, span, , table, index] of [...this.#all()]) {
      if (at >= iova && at + span <= end) table.delete(index);
    }
    return end - iova;
  }

  translate(iova: number): { readonly phys: number; readonly writes: boolean } | null {
    const [entry, , start] = this.#stop(iova);
    return entry === undefined || isTable(entry) ? null : { phys: entry.phys + iova - start, writes: entry.writes };
  }

  /** Tables below the top-level table. */
  get tables(): number {
    return [...this.#all()].filter(([, , entry]) => isTable(entry)).length;
  }

  /** The leaf at `iova`, or `undefined` for the entry that leads nowhere; with its size and start. */
  #stop(iova: number): readonly [entry: Entry | undefined, bytes: number, start: number] {
    let table = this.#root;
    for (const [level, bytes] of LEVELS.entries()) {
      const entry = table.get(indexOf(iova, level));
      if (entry === undefined || !isTable(entry)) return [entry, bytes, Math.floor(iova / bytes) * bytes];
      table = entry;
    }
    throw new Error('a page is a table');
  }

  #tableFor(iova: number, level: number): Table {
    let table = this.#root;
    for (let at = 0; at < level; at++) {
      const index = indexOf(iova, at);
      const known = table.get(index);
      const next: Table = known !== undefined && isTable(known) ? known : new Map();
      table.set(index, next);
      table = next;
    }
    return table;
  }

  *#all(
    table = this.#root,
    level = 0,
    base = 0,
  ): IterableIterator<readonly [start: number, bytes: number, entry: Entry, table: Table, index: number]> {
    const bytes = LEVELS[level] as number;
    for (const [index, entry] of table) {
      const start = base + index * bytes;
      yield [start, bytes, entry, table, index];
      if (isTable(entry)) yield* this.#all(entry, level + 1, start);
    }
  }
}

function isTable(entry: Entry): entry is Table {
  return entry instanceof Map;
}

function indexOf(iova: number, level: number): number {
  return Math.floor(iova / (LEVELS[level] as number)) % ENTRIES;
}
