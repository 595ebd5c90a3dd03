/**
 * Finding the descriptor of an address in a table of 64-bit descriptors, level by level, as code that changes or follows it needs.
 *
 * @internal
 */
import { LAST_LEVEL, levelBytes } from './lpae-geometry.ts';
import type { LpaeView } from './lpae-inspect.ts';

/** The last descriptor on the way to an address; reused. @internal */
export class LeafCursor {
  /** Entry of the arena: its words are `2 * entry` and the one behind. */
  entry = 0;
  level = 0;
  /** First address that the descriptor is for, and how many bytes from there. */
  start = 0;
  bytes = 0;

  /** Goes to `iova`. @returns true when the descriptor is a leaf, false when nothing is mapped in its bytes. */
  seek(view: LpaeView, iova: number): boolean {
    this.top(view, iova);
    while (this.down(view, iova));
    return view.arena.words[2 * this.entry] !== 0;
  }

  /** Goes on to the address behind; the tables must be as they were. @returns as {@link seek}. */
  next(view: LpaeView): boolean {
    const { words, entries } = view.arena;
    if (this.level !== LAST_LEVEL || (this.entry + 1) % entries === 0) return this.seek(view, this.start + this.bytes);
    this.entry++;
    this.start += this.bytes;
    return words[2 * this.entry] !== 0;
  }

  /** Goes to the descriptor of `iova` in the top-level table. */
  top(view: LpaeView, iova: number): void {
    const { geometry, firstIova } = view;
    this.level = geometry.startLevel;
    this.bytes = levelBytes(geometry, this.level);
    this.entry = Math.floor((iova - firstIova) / this.bytes) % 2 ** geometry.pgdBits;
    this.start = iova - ((iova - firstIova) % this.bytes);
  }

  /** Goes one level down. @returns false, and stays, when no table is there. */
  down(view: LpaeView, iova: number): boolean {
    const { arena, geometry, firstIova } = view;
    const slot = this.level === LAST_LEVEL ? 0 : (arena.child[this.entry] as number);
    if (slot === 0) return false;
    this.level++;
    this.bytes = levelBytes(geometry, this.level);
    this.entry = slot * arena.entries + (Math.floor((iova - firstIova) / this.bytes) % arena.entries);
    this.start = iova - ((iova - firstIova) % this.bytes);
    return true;
  }

  /** Where the descriptor is, as the hardware's walker addresses it. */
  descriptorAddress(view: LpaeView): number {
    const { arena } = view;
    const slot = Math.floor(this.entry / arena.entries);
    return (arena.phys[slot] as number) + (this.entry - slot * arena.entries) * 8;
  }
}
