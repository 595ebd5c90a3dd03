/** The system cache as the level below the cache of the CPUs: every line passes through it. */
import type { PhysAddr } from '../base/addr.ts';
import { copyBytes } from './byte-copy.ts';
import type { CpuCache } from './cpu-cache.ts';
import { SYSTEM_CACHE } from './domain-copies.ts';
import type { CopyNumber, LowerLevel } from './lower-level.ts';

/**
 * Lines come from the outer cache and go there; it brings in what it misses. Neither inclusive nor exclusive: a line may leave it while
 * the inner cache keeps a copy.
 *
 * @internal
 */
export class OuterLevel implements LowerLevel {
  readonly #outer: CpuCache;

  constructor(outer: CpuCache) {
    this.#outer = outer;
  }

  fetch(line: number, dst: Uint8Array, at: number): CopyNumber {
    const outer = this.#outer;
    const slot = outer.take(line, true);
    if (dst.length > 0) copyBytes(dst, at, outer.bytes, outer.directory.dataAt(slot), outer.lineBytes);
    return SYSTEM_CACHE;
  }

  prepare(line: number): CopyNumber {
    this.#outer.takeOver(line);
    return SYSTEM_CACHE;
  }

  store(_target: CopyNumber, line: number, from: number, to: number, src: Uint8Array, at: number): void {
    const outer = this.#outer;
    outer.store(outer.directory.find(line), from, to, src.length === 0 ? null : src, at, false);
  }

  stored(_target: CopyNumber, line: number): void {
    this.#outer.stored(this.#outer.directory.find(line));
  }

  write(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    this.#outer.write(phys, src, srcOffset, length);
  }
}
