/**
 * The ways to memory past the cache of the CPUs, or by way of it for a device that snoops; and into the system cache for those who see
 * it. Works on contiguous real memory that was checked before.
 */
import type { PhysAddr } from '../base/addr.ts';
import type { CpuCache } from './cpu-cache.ts';
import { type DomainCopies, type Looks, PAST_ALL } from './domain-copies.ts';
import type { Shadow } from './shadow.ts';

/** Reads memory; lines of the system cache if they are seen; dirty lines of the CPUs if they are snooped. @internal */
export function readPast(
  copies: DomainCopies,
  shadow: Shadow | undefined,
  phys: PhysAddr,
  out: Uint8Array | null,
  outOffset: number,
  length: number,
  looks: Looks,
): void {
  const { memory, cache } = copies;
  if (out !== null) memory.read(phys, out, outOffset, length);
  if (shadow !== undefined) shadow.memoryRead(phys, length, looks);
  if (looks === PAST_ALL) return;
  if (copies.system !== undefined) {
    copies.system.answer(phys, out, outOffset, length, 'all', looks.snoops ? cache : undefined);
  }
  if (looks.snoops && cache.directory.dirtyLines > 0) cache.answer(phys, out, outOffset, length, 'dirty');
}

/**
 * Writes memory, or the lines of the system cache that are there if they are seen. If the CPUs are snooped, their lines leave,
 * those that are covered only in part after a write-back.
 *
 * @internal
 */
export function writePast(
  copies: DomainCopies,
  shadow: Shadow | undefined,
  phys: PhysAddr,
  src: Uint8Array | null,
  srcOffset: number,
  length: number,
  looks: Looks,
): void {
  const { memory, cache, system } = copies;
  const end = phys + length;
  if (looks.snoops && phys % cache.lineBytes !== 0) cache.cleanInvalidate(phys, 1);
  if (looks.snoops && end % cache.lineBytes !== 0) cache.cleanInvalidate((end - 1) as PhysAddr, 1);
  if (system !== undefined && looks.seesSystem && system.validLines > 0) {
    writeAround(system, copies, shadow, phys, src, srcOffset, length);
  } else {
    if (src !== null) memory.write(phys, src, srcOffset, length);
    shadow?.memoryWritten(phys, length);
  }
  if (looks.snoops) cache.invalidate(phys, length);
}

/** Line by line: into the system cache where it holds the line, else into memory. */
function writeAround(
  system: CpuCache,
  { memory }: DomainCopies,
  shadow: Shadow | undefined,
  phys: PhysAddr,
  src: Uint8Array | null,
  srcOffset: number,
  length: number,
): void {
  const { lineBytes } = system;
  for (let done = 0, step = 0; done < length; done += step) {
    const at = phys + done;
    const line = system.lineOf(at);
    const from = at - line * lineBytes;
    step = Math.min(lineBytes - from, length - done);
    const slot = system.directory.use(line);
    if (slot >= 0) {
      system.store(slot, from, from + step, src, srcOffset + done, true);
      system.stored(slot);
      continue;
    }
    if (src !== null) memory.write(at as PhysAddr, src, srcOffset + done, step);
    shadow?.memoryWritten(at as PhysAddr, step);
  }
}
