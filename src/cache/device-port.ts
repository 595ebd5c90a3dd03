/**
 * The two ways from a device to memory: straight, or by way of the CPU cache. Works on contiguous real memory that was
 * checked before.
 */
import type { PhysAddr } from '../base/addr.ts';
import type { ShadowCopies } from './line-at-hand.ts';
import type { Shadow } from './shadow.ts';

/** Reads memory, and dirty lines from the cache if the device `snoops`. @internal */
export function readAsDevice(
  copies: ShadowCopies,
  shadow: Shadow | undefined,
  phys: PhysAddr,
  out: Uint8Array | null,
  outOffset: number,
  length: number,
  snoops: boolean,
): void {
  if (out !== null) copies.memory.read(phys, out, outOffset, length);
  shadow?.memoryRead(phys, length, snoops);
  if (snoops) copies.cache.snoopRead(phys, out, outOffset, length);
}

/** Writes memory; if the device `snoops`, cached lines leave, those it covers only in part after a write-back. @internal */
export function writeAsDevice(
  copies: ShadowCopies,
  shadow: Shadow | undefined,
  phys: PhysAddr,
  src: Uint8Array | null,
  srcOffset: number,
  length: number,
  snoops: boolean,
): void {
  const { memory, cache } = copies;
  const end = phys + length;
  if (snoops && phys % cache.lineBytes !== 0) cache.cleanInvalidate(phys, 1);
  if (snoops && end % cache.lineBytes !== 0) cache.cleanInvalidate((end - 1) as PhysAddr, 1);
  if (src !== null) memory.write(phys, src, srcOffset, length);
  shadow?.memoryWritten(phys, length);
  if (snoops) cache.invalidate(phys, length);
}
