/**
 * What lies below a cache or a write buffer where it is not simply memory: an outer cache, or a device's way to memory, which may lead
 * through caches of others.
 */
import type { PhysAddr } from '../base/addr.ts';

/** Which copy of memory: {@link MEMORY}, or a cache by the number it has in its domain, from 1. */
export type CopyNumber = number;

/** Memory itself. */
export const MEMORY = 0;
/** No copy at all: a slot that was taken to be written over. */
export const NOWHERE = -1;

/** Whole lines and parts of lines, to and from the level below. @internal */
export interface LowerLevel {
  /** Copies `line` to `dst` (empty in tag mode) at `at`. @returns where it came from. */
  fetch(line: number, dst: Uint8Array, at: number): CopyNumber;
  /** Makes ready for bytes of `line`. @returns where they will go. */
  prepare(line: number): CopyNumber;
  /** Stores the bytes `[from, to)` of `line`, which lie in `src` (empty in tag mode) from `at`, where {@link prepare} has said. */
  store(target: CopyNumber, line: number, from: number, to: number, src: Uint8Array, at: number): void;
  /** All bytes that {@link prepare} was called for are stored. */
  stored(target: CopyNumber, line: number): void;
  /** Passes on `length` bytes of the present write call, `null` in tag mode. */
  write(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number): void;
}
