/**
 * The three kinds of access to anything that holds bytes or registers, told apart by their names everywhere:
 *
 * | names | time | state of caches, translations, counters | for |
 * |---|---|---|---|
 * | `peek` / `poke` | none | untouched | tests and printing |
 * | `read` / `write` | charged, never waits | changes now | models and programs |
 * | `transfer` | passes; others interleave | changes as it goes | streams of a device |
 *
 * @see gem5's functional, atomic and timing accesses; IEEE 1666 (TLM-2.0) `transport_dbg`, `b_transport`, `nb_transport`
 */
import { assert } from '../base/assert.ts';
import type { Op } from './op.ts';
import { settle } from './settle.ts';
import type { Simulator } from './simulator.ts';

/** Looks and sets without being part of the simulation: takes no time, charges nothing, moves no copy, reports nothing. */
export interface Peekable<Addr extends number> {
  /** The bytes from `addr` on, as a read would give them now. */
  peek(addr: Addr, length: number): Uint8Array;
  /** Sets the bytes from `addr` on for every observer, as if they had always been so. */
  poke(addr: Addr, bytes: Uint8Array): void;
}

/** Plain accesses: state changes at this instant, the cost is charged to the running task, nothing waits. */
export interface Accessible<Addr extends number> {
  /** Fills `length` bytes of `out` from `outOffset` on. */
  read(addr: Addr, out: Uint8Array, outOffset?: number, length?: number): void;
  /** Stores `length` bytes of `src` from `srcOffset` on. */
  write(addr: Addr, src: Uint8Array, srcOffset?: number, length?: number): void;
}

/** Accesses that take time: an operation, during which other tasks run and may see half of it done. */
export interface Transferable<Request, Result = void> {
  /** Moves what `request` names; ends when the last byte has been moved. */
  transfer(request: Request): Op<Result>;
}

/** How much to move, in which steps, how fast. */
export interface ChunkedTransfer {
  /** Bytes in all, a whole number >= 0. */
  readonly bytes: number;
  /** Bytes of a step, a whole number >= 1; the last step may be shorter. `bytes` or more makes one step of all. */
  readonly chunkBytes: number;
  /** A whole number in [1, 9e12]. */
  readonly bytesPerSecond: number;
}

const FASTEST_BYTES_PER_SECOND = 9e12;

/**
 * Time to move `bytes`, in ns, rounded up; exact for all sizes (no rounding error of a double).
 *
 * @throws {InvariantError} `bytes` is no whole number >= 0; `bytesPerSecond` no whole number in [1, 9e12].
 */
export function transferNs(bytes: number, bytesPerSecond: number): number {
  assert(Number.isSafeInteger(bytes) && bytes >= 0, 'transferNs: bytes %s is no whole number >= 0', bytes);
  assert(
    Number.isInteger(bytesPerSecond) && bytesPerSecond >= 1 && bytesPerSecond <= FASTEST_BYTES_PER_SECOND,
    'transferNs: bytesPerSecond %s is no whole number in [1, 9e12]',
    bytesPerSecond,
  );
  // Long division, three decimal digits a step: every product stays below 2^53.
  let rest = bytes % bytesPerSecond;
  let ns = (bytes - rest) / bytesPerSecond;
  for (let step = 0; step < 3; step++) {
    const scaled = rest * 1000;
    rest = scaled % bytesPerSecond;
    ns = ns * 1000 + (scaled - rest) / bytesPerSecond;
  }
  return rest > 0 ? ns + 1 : ns;
}

/**
 * Moves `bytes` in chunks, in order: calls `step` for each at the time it has been moved. Starts when the running task's
 * debt is paid, and ends {@link transferNs} later however many chunks there are. What `step` charges runs beside the
 * transfer; it delays the next step only where it takes longer than its chunk.
 *
 * @param step - plain; gets the offset of its chunk and its length, in bytes. What it throws ends the transfer.
 * @throws {InvariantError} a number of `plan` is outside its range; nothing was moved.
 */
export function* transferInChunks(
  sim: Simulator,
  plan: ChunkedTransfer,
  step: (offset: number, length: number) => undefined,
): Op<void> {
  const { bytes, chunkBytes, bytesPerSecond } = plan;
  assert(
    Number.isSafeInteger(chunkBytes) && chunkBytes >= 1,
    'transferInChunks: chunkBytes %s is no whole number >= 1',
    chunkBytes,
  );
  transferNs(bytes, bytesPerSecond);
  yield* settle(sim);
  const startNs = sim.now;
  for (let offset = 0; offset < bytes; offset += chunkBytes) {
    const length = Math.min(chunkBytes, bytes - offset);
    yield* settle(sim);
    const dueNs = startNs + transferNs(offset + length, bytesPerSecond);
    if (dueNs > sim.now) yield* sim.delay(dueNs - sim.now);
    step(offset, length);
  }
}
