/** Checks of what a driver hands to the DMA API. The text of each error names the argument. */
import { assert } from '../base/assert.ts';
import type { DmaDirection } from './direction.ts';
import type { SgTable } from './sg-table.ts';

/** @internal @throws {InvariantError} `dev` was removed. */
export function checkPresent(op: string, dev: { readonly name: string; readonly isRemoved: boolean }): void {
  if (!dev.isRemoved) return;
  assert(false, '%s: %s was removed; everything of it has ended, and its driver must not call any more', op, dev.name);
}

/** @internal A range of memory, as an argument. @throws {InvariantError} not whole, or out of range. */
export function checkMemory(op: string, phys: number, sizeBytes: number): void {
  if (Number.isSafeInteger(phys) && phys >= 0 && isSize(sizeBytes) && phys + sizeBytes <= 2 ** 52) return;
  assert(Number.isSafeInteger(phys) && phys >= 0, '%s: phys %s is no whole number >= 0', op, phys);
  checkSize(op, sizeBytes);
  assert(false, '%s: phys %s and sizeBytes %s end beyond 2^52', op, phys, sizeBytes);
}

/** @internal A range as a device sees it; an address may stand for an error. @throws {InvariantError} not whole, or out of range. */
export function checkDmaRange(op: string, address: number, sizeBytes: number): void {
  if (Number.isSafeInteger(address) && isSize(sizeBytes)) return;
  assert(Number.isSafeInteger(address), '%s: address %s is no whole number', op, address);
  checkSize(op, sizeBytes);
}

/** @internal Bytes of a mapping or allocation. @throws {InvariantError} no whole number above 0. */
export function checkSize(op: string, sizeBytes: number): void {
  if (isSize(sizeBytes)) return;
  assert(false, '%s: sizeBytes %s is no whole number > 0', op, sizeBytes);
}

/** @internal @throws {InvariantError} no direction. */
export function checkDir(op: string, dir: DmaDirection): void {
  if (dir === 'to-device' || dir === 'from-device' || dir === 'bidirectional') return;
  assert(false, "%s: dir %s is none of 'to-device', 'from-device', 'bidirectional'", op, dir);
}

/** @internal Entries of a list. @throws {InvariantError} not in [1, origNents]. */
export function checkEntries(op: string, sgt: SgTable, entries: number): void {
  if (Number.isInteger(entries) && entries >= 1 && entries <= sgt.origNents) return;
  assert(false, '%s: entries %s is not in [1, %s]', op, entries, sgt.origNents);
}

function isSize(sizeBytes: number): boolean {
  return Number.isSafeInteger(sizeBytes) && sizeBytes > 0;
}
