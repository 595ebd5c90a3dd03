/**
 * What one cache line may be, on any hardware that keeps the rules of a non-coherent machine: the SET of its possible states.
 *
 * A state is what memory holds, the copy in the CPU caches if there is one, whether that copy is newer, and the bytes that wait in a
 * write-combining buffer. After every operation the set is closed under what hardware may do by itself at any time: fetch the line,
 * write a newer copy back, drop a copy (after writing it back), and drain the write-combining buffer.
 *
 * Bytes are grouped into atoms: runs between two boundaries of accesses, which are always read and written together.
 */

/** One state of a line; a number for each atom. */
interface LineState {
  readonly memory: readonly number[];
  readonly cache: readonly number[] | null;
  readonly isDirty: boolean;
  /** Waiting bytes; -1: none waits. */
  readonly buffer: readonly number[] | null;
}

/** A set of states by its number. */
export type LineSet = number;

/** Atoms [first, end) of a line. */
export interface Atoms {
  readonly first: number;
  readonly end: number;
}

/** Operations on a line without a value. */
export type LineOp = 'fill' | 'clean' | 'invalidate' | 'clean-invalidate' | 'drain';

/** Where a value is put, and how. */
export type LinePut = 'cache' | 'memory' | 'buffer' | 'snooped';

/** Where a value is read from. */
export type LineGet = 'cache' | 'memory' | 'snooped';

/** All sets that were met, each once, and what operations make of them. */
export class LineSets {
  readonly #sets: (readonly LineState[])[] = [];
  readonly #numbers = new Map<string, LineSet>();
  readonly #results = new Map<string, LineSet>();
  readonly #values = new Map<string, readonly (readonly number[])[]>();

  /** A line of `atoms` atoms that holds `memory` in memory and, if given, `cache` in a dirty copy. */
  make(atoms: number, memory: number, cache: number | null): LineSet {
    const fill = (value: number) => new Array<number>(atoms).fill(value);
    return this.#intern([
      { memory: fill(memory), cache: cache === null ? null : fill(cache), isDirty: cache !== null, buffer: null },
    ]);
  }

  /** `set` after maintenance, or after a read that brought the line in. */
  do(set: LineSet, op: LineOp): LineSet {
    return this.#memo(`${set} ${op}`, () => this.#of(set).map((state) => done(state, op)));
  }

  /** `set` after `value` was put into `atoms`. */
  put(set: LineSet, how: LinePut, { first, end }: Atoms, value: number): LineSet {
    return this.#memo(`${set} ${how} ${first} ${end} ${value}`, () =>
      this.#of(set).map((state) => written(state, how, first, new Array<number>(end - first).fill(value))),
    );
  }

  /** `set` after the CPU copied any of `rows` into the atoms from `first` on, through its caches. */
  putRows(set: LineSet, first: number, rows: readonly (readonly number[])[]): LineSet {
    return this.#memo(`${set} rows ${first} ${JSON.stringify(rows)}`, () =>
      this.#of(set).flatMap((state) => rows.map((row) => written(state, 'cache', first, row))),
    );
  }

  /** What a read of `atoms` may get: rows of values, each once. */
  get(set: LineSet, how: LineGet, { first, end }: Atoms): readonly (readonly number[])[] {
    const key = `${set} ${how} ${first} ${end}`;
    let rows = this.#values.get(key);
    if (rows === undefined) {
      const found = new Map<string, readonly number[]>();
      for (const state of this.#of(set)) {
        const row = source(state, how).slice(first, end);
        found.set(row.join(), row);
      }
      rows = [...found.values()];
      this.#values.set(key, rows);
    }
    return rows;
  }

  /** `a` or `b`. */
  union(a: LineSet, b: LineSet): LineSet {
    return a === b ? a : this.#memo(`${a} or ${b}`, () => [...this.#of(a), ...this.#of(b)]);
  }

  #of(set: LineSet): readonly LineState[] {
    return this.#sets[set] ?? [];
  }

  #memo(key: string, make: () => readonly LineState[]): LineSet {
    const known = this.#results.get(key);
    if (known !== undefined) return known;
    const set = this.#intern(make());
    this.#results.set(key, set);
    return set;
  }

  #intern(states: readonly LineState[]): LineSet {
    const closed = closure(states);
    const key = [...closed.keys()].sort().join(';');
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const set = this.#sets.length;
    this.#sets.push([...closed.values()]);
    this.#numbers.set(key, set);
    return set;
  }
}

function source({ memory, cache, isDirty }: LineState, how: LineGet): readonly number[] {
  if (how === 'cache') return cache ?? memory;
  return how === 'snooped' && isDirty && cache !== null ? cache : memory;
}

function done(state: LineState, op: LineOp): LineState {
  switch (op) {
    case 'fill':
      return state.cache === null ? { ...state, cache: state.memory, isDirty: false } : state;
    case 'clean':
      return cleaned(state);
    case 'invalidate':
      return { ...state, cache: null, isDirty: false };
    case 'clean-invalidate':
      return { ...cleaned(state), cache: null };
    case 'drain':
      return drained(state);
  }
}

function written(state: LineState, how: LinePut, first: number, row: readonly number[]): LineState {
  const over = (old: readonly number[]) => old.map((value, i) => row[i - first] ?? value);
  switch (how) {
    case 'cache':
      return { ...state, cache: over(state.cache ?? state.memory), isDirty: true };
    case 'memory':
      return { ...state, memory: over(state.memory) };
    case 'buffer':
      return { ...state, buffer: over(state.buffer ?? state.memory.map(() => -1)) };
    case 'snooped': {
      const gone = { ...cleaned(state), cache: null };
      return { ...gone, memory: over(gone.memory) };
    }
  }
}

function cleaned(state: LineState): LineState {
  return state.isDirty && state.cache !== null ? { ...state, memory: state.cache, isDirty: false } : state;
}

function drained(state: LineState): LineState {
  const { buffer } = state;
  if (buffer === null) return state;
  const memory = state.memory.map((old, i) => {
    const waiting = buffer[i] ?? -1;
    return waiting < 0 ? old : waiting;
  });
  return { ...state, memory, buffer: null };
}

/** All states that hardware may make of `states` by itself, by their text. */
function closure(states: readonly LineState[]): Map<string, LineState> {
  const found = new Map<string, LineState>();
  const todo = [...states];
  for (let state = todo.pop(); state !== undefined; state = todo.pop()) {
    const key = textOf(state);
    if (found.has(key)) continue;
    found.set(key, state);
    todo.push(done(state, 'fill'), cleaned(state), done(state, 'clean-invalidate'), drained(state));
  }
  return found;
}

function textOf({ memory, cache, isDirty, buffer }: LineState): string {
  return `${memory.join()}|${cache?.join() ?? ''}|${isDirty ? 'd' : ''}|${buffer?.join() ?? ''}`;
}
