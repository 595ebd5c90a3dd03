/** What a cache tells of its lines. */
import type { PhysAddr } from '../base/addr.ts';
import type { CopyNumber } from './lower-level.ts';

/** Told what happens to lines, to keep a shadow; must not change the cache. @internal */
export interface CacheObserver {
  /** `line` came into `slot` from copy `source`. */
  filled(slot: number, line: number, source: CopyNumber): void;
  /** Bytes [from, to) of `line` are read from `slot`. */
  lineRead(slot: number, line: number, from: number, to: number): void;
  /** Bytes [from, to) of `line` are written in `slot`. */
  lineWritten(slot: number, line: number, from: number, to: number): void;
  /** The bytes of the present write call at [phys, phys + length) went past the cache or through it to memory. */
  writtenPast(phys: PhysAddr, length: number): void;
  /** `slot` is about to be copied to copy `target`. */
  writingBack(slot: number, line: number, target: CopyNumber): void;
  /** `slot` is about to be dropped. */
  dropping(slot: number, line: number): void;
}
