/**
 * Two version numbers a cache line of memory: the newest that was written anywhere, and the one that memory holds.
 *
 * Sparse: chunks of {@link LINES_PER_CHUNK} lines, made by the first write. A chunk has no second array until memory
 * falls behind in it, and counts the lines that are behind, so that a program without such lines pays nothing.
 * A line whose bytes have different versions is marked {@link SPLIT} and kept in `split-lines.ts`; it counts as behind.
 * A chunk that one call wrote whole keeps that one version, and has its array written when somebody asks for a line of it: a film
 * whose pictures only devices touch never does.
 */
import { VERSION_LIMIT } from './write-log.ts';

/** Lines in a chunk: 256 KiB of memory with lines of 64 bytes. */
export const LINES_PER_CHUNK = 4096;
/** In place of a version: the bytes of this line have different ones. */
export const SPLIT = VERSION_LIMIT;

/** The versions of {@link LINES_PER_CHUNK} lines in a row. @internal */
export class VersionChunk {
  /** Number of the chunk. */
  readonly key: number;
  /** Number of its first line. */
  readonly first: number;
  /** Newest version of each line, or {@link SPLIT}. Without meaning after {@link fillAll} until {@link spread}. */
  readonly newest = new Uint32Array(LINES_PER_CHUNK);
  /** Lines whose memory is not known to be the newest. */
  behind = 0;
  /** Of these, lines marked {@link SPLIT}. */
  splits = 0;
  /** What memory holds, as far as {@link #apart}; else memory holds the newest of every line and this has no meaning. */
  #memory: Uint32Array | undefined;
  #apart = false;
  /** The version of all lines, still to be written into `newest`; -1: `newest` is written. */
  #even = -1;

  constructor(key: number) {
    this.key = key;
    this.first = key * LINES_PER_CHUNK;
  }

  /** Host bytes of its arrays. */
  get hostBytes(): number {
    return this.newest.byteLength + (this.#memory?.byteLength ?? 0);
  }

  /** The version memory holds of the line at `index`; an old one without meaning where it is split. */
  memoryAt(index: number): number {
    return (this.#memory !== undefined && this.#apart ? this.#memory[index] : this.newest[index]) as number;
  }

  /** Sets both versions of the line at `index`. */
  set(index: number, newest: number, memory: number): void {
    const was = this.newest[index] as number;
    const wasBehind = this.memoryAt(index) !== was;
    if (was === SPLIT) this.splits--;
    if (newest === SPLIT) this.splits++;
    if (wasBehind) this.behind--;
    if (newest !== memory) {
      this.behind++;
      if (!this.#apart) this.#part();
    }
    this.newest[index] = newest;
    if (this.#memory !== undefined) this.#memory[index] = memory;
  }

  /** Sets both versions of the lines [from, to) to `version`. None of them may be split. */
  fill(from: number, to: number, version: number): void {
    const memory = this.#memory;
    if (memory !== undefined && this.#apart) {
      for (let i = from; this.behind > 0 && i < to; i++) if (memory[i] !== this.newest[i]) this.behind--;
      if (this.behind === 0) this.#apart = false;
      else memory.fill(version, from, to);
    }
    this.newest.fill(version, from, to);
  }

  /** Sets both versions of all lines to `version`; to be followed by {@link spread} before anything but {@link newestAt}. None may be split. */
  fillAll(version: number): void {
    this.#even = version;
    this.#apart = false;
    this.behind = 0;
  }

  /** Writes the arrays, if they are not. */
  spread(): void {
    if (this.#even < 0) return;
    this.newest.fill(this.#even);
    this.#even = -1;
  }

  /** The newest version of the line at `index`, or {@link SPLIT}; at any time. */
  newestAt(index: number): number {
    return this.#even < 0 ? (this.newest[index] as number) : this.#even;
  }

  /** From now on memory's versions are kept apart from the newest ones. */
  #part(): void {
    this.#apart = true;
    if (this.#memory === undefined) this.#memory = this.newest.slice();
    else this.#memory.set(this.newest);
  }
}

/** Chunks that are found without asking the map: a loop over lines that evicts others works in several. */
const RECENT = 16;

/** The versions of every line of memory. @internal */
export class LineVersions {
  readonly #chunks = new Map<number, VersionChunk>();
  /** Direct mapped by chunk number; all of them are spread. */
  readonly #recent: (VersionChunk | undefined)[] = [];

  /** Host bytes of all chunks. */
  get hostBytes(): number {
    let bytes = 0;
    for (const chunk of this.#chunks.values()) bytes += chunk.hostBytes;
    return bytes;
  }

  /** The chunk that `line` lies in, made if there is none, and spread. */
  chunkOf(line: number): VersionChunk {
    const key = Math.floor(line / LINES_PER_CHUNK);
    const place = key - Math.floor(key / RECENT) * RECENT;
    const recent = this.#recent[place];
    if (recent !== undefined && recent.key === key) return recent;
    const chunk = this.#get(key);
    chunk.spread();
    this.#recent[place] = chunk;
    return chunk;
  }

  /** The chunk that begins with `line`, made if there is none, to be filled whole. */
  wholeChunk(line: number): VersionChunk {
    const key = line / LINES_PER_CHUNK;
    const place = key - Math.floor(key / RECENT) * RECENT;
    if (this.#recent[place]?.key === key) this.#recent[place] = undefined;
    return this.#get(key);
  }

  #get(key: number): VersionChunk {
    let chunk = this.#chunks.get(key);
    if (chunk === undefined) {
      chunk = new VersionChunk(key);
      this.#chunks.set(key, chunk);
    }
    return chunk;
  }

  /**
   * The chunk that `line` lies in, if a write made one: without it, nothing there was ever written. It may not be spread: then no line of it is
   * behind.
   */
  existing(line: number): VersionChunk | undefined {
    return this.#chunks.get(Math.floor(line / LINES_PER_CHUNK));
  }
}
