/** The kernel's own writes through cached mappings: clearing pages and copying them. Works on ranges that were checked before. */
import { hex, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import { checkRange, contiguousRun } from './access-range.ts';
import type { CpuPort } from './cpu-port.ts';

/** Clears and copies a page at a time. @internal */
export class KernelCopy {
  readonly #memory: PhysMemory;
  readonly #cpu: CpuPort;
  readonly #zeros = new Uint8Array(PAGE_SIZE);
  readonly #piece: Uint8Array | null;

  constructor(memory: PhysMemory, cpu: CpuPort) {
    this.#memory = memory;
    this.#cpu = cpu;
    this.#piece = memory.storesBytes ? new Uint8Array(PAGE_SIZE) : null;
  }

  zero(phys: PhysAddr, length: number): void {
    const memory = this.#memory;
    for (let done = 0, step = 0; done < length; done += step) {
      step = Math.min(PAGE_SIZE, contiguousRun(memory, phys + done, length - done));
      this.#cpu.writeCached(memory.resolve((phys + done) as PhysAddr), this.#zeros, 0, step);
    }
  }

  /** @throws {ErrnoError} `EFAULT` a byte outside memory. @throws {InvariantError} the ranges overlap. */
  checkCopy(dst: PhysAddr, src: PhysAddr, length: number): void {
    checkRange(this.#memory, 'copy (dst)', dst, null, 0, length);
    checkRange(this.#memory, 'copy (src)', src, null, 0, length);
    const isApart = dst + length <= src || src + length <= dst;
    assert(isApart, 'copy: %s bytes at %s and %s overlap', length, hex(src), hex(dst));
  }

  copy(dst: PhysAddr, src: PhysAddr, length: number): void {
    const memory = this.#memory;
    for (let done = 0, step = 0; done < length; done += step) {
      const left = Math.min(length - done, PAGE_SIZE);
      step = Math.min(contiguousRun(memory, src + done, left), contiguousRun(memory, dst + done, left));
      this.#cpu.readCached(memory.resolve((src + done) as PhysAddr), this.#piece, 0, step);
      this.#cpu.writeCached(memory.resolve((dst + done) as PhysAddr), this.#piece, 0, step);
    }
  }
}
