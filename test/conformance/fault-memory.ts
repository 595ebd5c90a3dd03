/** Memory as the cases of `iommu-fault` know it: its pattern before anybody touches it, and what a device's addresses led to. */
import { PAGE_SIZE, type PhysAddr, physAddr } from '../../src/base/addr.ts';
import type { PhysMemory } from '../../src/mem/phys-memory.ts';

/** Longer strings of bytes are recorded as a hash. */
const LONGEST_BYTES = 64;
/** A page of memory, and what the recording calls it: where the recorded kernel's own page was, when the kernel chose it. */
export interface KnownPage {
  readonly phys: PhysAddr;
  readonly named: number;
}

/** Pages that nobody has touched. */
export class UntouchedPages {
  readonly #memory: PhysMemory;
  readonly #done = new Set<number>();

  constructor(memory: PhysMemory) {
    this.#memory = memory;
  }

  /** Puts the pattern of untouched memory into the pages of a range that nobody has touched. */
  prepare(phys: PhysAddr, sizeBytes: number): void {
    for (const { from } of pagesOf(phys, sizeBytes)) {
      const page = Math.floor(from / PAGE_SIZE) * PAGE_SIZE;
      if (this.#done.has(page)) continue;
      this.#done.add(page);
      const low = page / PAGE_SIZE;
      const bytes = Uint8Array.from(
        { length: PAGE_SIZE },
        (_, i) => (i ^ (((page / 256) % 256) ^ (i >>> 8)) ^ (low * 5)) & 0x7f,
      );
      this.#memory.write(physAddr(page), bytes, 0, PAGE_SIZE);
    }
  }
}

/** The parts of a range that lie in one page each. */
export function* pagesOf(
  start: number,
  length: number,
): IterableIterator<{ readonly from: number; readonly to: number }> {
  for (let from = start; from < start + length; ) {
    const to = Math.min(start + length, (Math.floor(from / PAGE_SIZE) + 1) * PAGE_SIZE);
    yield { from, to };
    from = to;
  }
}

/** Notes in `known` that `address` leads to `phys`. */
export function note(
  known: Map<number, KnownPage>,
  address: number,
  phys: number,
  sizeBytes: number,
  named = phys,
): void {
  const shift = named - phys;
  for (const { from } of pagesOf(address, sizeBytes)) {
    const page = Math.floor((phys + (from - address)) / PAGE_SIZE) * PAGE_SIZE;
    known.set(Math.floor(from / PAGE_SIZE), { phys: physAddr(page), named: page + shift });
  }
}

/** Bytes as the vectors write them: a hash if there are many. */
export function bytesText(bytes: Uint8Array): string {
  if (bytes.length <= LONGEST_BYTES) return Buffer.from(bytes).toString('hex');
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffff_ffff_ffff_ffffn;
  return `fnv:${hash.toString(16).padStart(16, '0')}`;
}
