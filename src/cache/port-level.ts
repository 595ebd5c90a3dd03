/** A port to memory as the level below a device's cache or a write buffer: it may look into caches of others on its way. */
import type { PhysAddr } from '../base/addr.ts';
import { copyBytes } from './byte-copy.ts';
import type { CpuCache } from './cpu-cache.ts';
import { writePast } from './device-port.ts';
import { CPU_CACHE, type DomainCopies, type Looks, SYSTEM_CACHE } from './domain-copies.ts';
import { type CopyNumber, type LowerLevel, MEMORY } from './lower-level.ts';
import type { Shadow } from './shadow.ts';

/**
 * Lines come from a dirty line of the CPUs if the port snoops, from the system cache if it sees that, else from memory; they go to the
 * system cache if that holds them and is seen, else to memory; a line of the CPUs is dropped then if the port snoops.
 *
 * @internal
 */
export class PortLevel implements LowerLevel {
  readonly #copies: DomainCopies;
  readonly #shadow: Shadow | undefined;
  readonly #looks: Looks;

  constructor(copies: DomainCopies, shadow: Shadow | undefined, looks: Looks) {
    this.#copies = copies;
    this.#shadow = shadow;
    this.#looks = looks;
  }

  fetch(line: number, dst: Uint8Array, at: number): CopyNumber {
    const { memory, cache, system } = this.#copies;
    if (this.#looks.snoops && cache.holdsDirty(line)) {
      copyLine(cache, cache.directory.find(line), dst, at);
      return CPU_CACHE;
    }
    const seen = this.#seen(line);
    if (system !== undefined && seen >= 0) {
      copyLine(system, seen, dst, at);
      return SYSTEM_CACHE;
    }
    const { lineBytes } = cache;
    const phys = (line * lineBytes) as PhysAddr;
    if (memory.storesBytes && memory.regionAt(phys) === undefined) dst.fill(0, at, at + lineBytes);
    else if (memory.storesBytes) memory.read(phys, dst, at, lineBytes);
    return MEMORY;
  }

  prepare(line: number): CopyNumber {
    return this.#seen(line) >= 0 ? SYSTEM_CACHE : MEMORY;
  }

  store(target: CopyNumber, line: number, from: number, to: number, src: Uint8Array, at: number): void {
    const { memory, cache, system } = this.#copies;
    const phys = (line * cache.lineBytes) as PhysAddr;
    if (target === SYSTEM_CACHE && system !== undefined) {
      const bytes = src.length === 0 ? null : src;
      system.store(system.directory.find(line), from, to, bytes, at, false);
    } else if (memory.storesBytes && memory.regionAt(phys) !== undefined) {
      memory.write((phys + from) as PhysAddr, src, at, to - from);
    }
  }

  stored(target: CopyNumber, line: number): void {
    const { cache, system } = this.#copies;
    if (target === SYSTEM_CACHE && system !== undefined) system.stored(system.directory.find(line));
    if (this.#looks.snoops) cache.invalidate((line * cache.lineBytes) as PhysAddr, cache.lineBytes);
  }

  write(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void {
    writePast(this.#copies, this.#shadow, phys, src, srcOffset, length, this.#looks);
  }

  /** The slot of `line` in the system cache, if that is seen and holds it, or -1. */
  #seen(line: number): number {
    const { system } = this.#copies;
    return system === undefined || !this.#looks.seesSystem ? -1 : system.directory.find(line);
  }
}

function copyLine(cache: CpuCache, slot: number, dst: Uint8Array, at: number): void {
  if (dst.length > 0) copyBytes(dst, at, cache.bytes, cache.directory.dataAt(slot), cache.lineBytes);
}
