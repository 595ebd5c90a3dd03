/**
 * Memory that an exporter gets late: when a device maps the buffer for the first time, so that all that are attached by then
 * have a say in where it lies. Who attaches later and is not served makes it move, if it can.
 *
 * 1. The exporter calls {@link LateBacking.admit} in its `attach`, {@link LateBacking.leave} in its `detach` and
 *    {@link LateBacking.memory} in its `mapDmaBuf`.
 * 2. Memory moves only while nobody has it mapped or pinned. Dynamic importers that have it mapped are told and waited for; a
 *    static importer that has it mapped, or a pin, lets the attach fail with `EBUSY`.
 * 3. Content goes with it.
 *
 * @see Linux 6.1 `Documentation/driver-api/dma-buf.rst`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Extent } from '../dma-api/sg-table.ts';
import { lift, type MaybeOp, type Op } from '../sim/op.ts';
import {
  AttachDemands,
  demandsOf,
  demandsUnmet,
  type MergedDemands,
  type PlacementDemands,
} from './attach-constraints.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { DmaBufAttachment } from './dma-buf-attachment.ts';

/** Where memory comes from; `M` is what the exporter calls a piece of it. */
export interface BackingSource<M> {
  /** Gives memory that meets `demands`. Throw an `ErrnoError` when there is none. */
  allocate(demands: MergedDemands): MaybeOp<M>;
  extentsOf(memory: M): readonly Extent[];
  /** Copies the content. */
  copy(from: M, to: M): MaybeOp<void>;
  free(memory: M): void;
}

/** The late memory of one buffer; part of the exporter's own data. */
export class LateBacking<M> {
  readonly #source: BackingSource<M>;
  readonly #demands = new AttachDemands();
  #memory: M | null = null;
  #moves = 0;

  constructor(source: BackingSource<M>) {
    this.#source = source;
  }

  /** The memory, or `null` as long as nobody has mapped the buffer. */
  get placed(): M | null {
    return this.#memory;
  }

  /** How often it has moved. */
  get moves(): number {
    return this.#moves;
  }

  /**
   * An importer attaches. Waits for the reservation lock and for dynamic importers to unmap, when the memory has to move.
   *
   * @param extra - what the importer demands beside its device's DMA parameters.
   * @throws {ErrnoError} `EBUSY` the demands contradict those of others, or the memory does not meet them and can not move (retry
   *   when others have unmapped or left); what allocating throws. The importer is not admitted then and nothing has moved.
   */
  *admit(att: DmaBufAttachment, extra: Partial<PlacementDemands> = {}): Op<void> {
    const { buf, dev } = att;
    const demands = demandsOf(dev, { peer2peer: att.peer2peer, ...extra });
    this.#demands.add(att, dev.name, demands, buf.sizeBytes);
    let admitted = false;
    try {
      if (this.#memory !== null) yield* this.#serve(buf, this.#memory);
      admitted = true;
    } finally {
      if (!admitted) this.leave(att);
    }
  }

  /** An importer has detached. Plain. */
  leave(att: DmaBufAttachment): void {
    this.#demands.remove(att);
  }

  /**
   * The memory; it is allocated when this is asked for the first time. Waits for the allocation only.
   *
   * @throws {ErrnoError} what allocating throws (retry later); there is none then.
   */
  *memory(): Op<M> {
    if (this.#memory !== null) return this.#memory;
    const memory = yield* lift(this.#source.allocate(this.#demands.merged));
    if (this.#memory !== null) this.#source.free(memory);
    else this.#memory = memory;
    return this.#memory ?? memory;
  }

  /** For the exporter's `release`: gives the memory back, if there is any. Plain. */
  release(): void {
    if (this.#memory !== null) this.#source.free(this.#memory);
    this.#memory = null;
  }

  /** Moves the memory if somebody is not served by where it is. */
  *#serve(buf: DmaBuf, memory: M): Op<void> {
    const unmet = demandsUnmet(this.#demands.merged, this.#source.extentsOf(memory));
    if (unmet === '') return;
    this.#checkMovable(buf, unmet);
    yield* buf.resv.withLock(() => buf.moveNotify());
    yield* buf.unmappedByAll();
    yield* buf.resv.withLock(() => this.#move(buf));
  }

  *#move(buf: DmaBuf): Op<void> {
    const old = this.#memory;
    assert(old !== null, '%s: there is nothing to move', buf.name);
    const unmet = demandsUnmet(this.#demands.merged, this.#source.extentsOf(old));
    if (unmet === '') return;
    this.#checkMovable(buf, unmet);
    if (buf.attachments.some((att) => att.tables.size > 0)) throw busy(buf, unmet, 'it was mapped again');
    const next = yield* lift(this.#source.allocate(this.#demands.merged));
    let moved = false;
    try {
      yield* lift(this.#source.copy(old, next));
      moved = true;
    } finally {
      if (!moved) this.#source.free(next);
    }
    this.#memory = next;
    this.#moves++;
    this.#source.free(old);
  }

  #checkMovable(buf: DmaBuf, unmet: string): void {
    for (const { dev, isDynamic, keptTable, tables, pinCount } of buf.attachments) {
      if (pinCount > 0) throw busy(buf, unmet, `${dev.name} has it pinned`);
      if (tables.size > 0 && (!isDynamic || keptTable !== null)) throw busy(buf, unmet, `${dev.name} has it mapped`);
    }
  }
}

function busy(buf: DmaBuf, unmet: string, why: string): ErrnoError {
  return new ErrnoError('EBUSY', 'attach', `${buf.name}: ${unmet}; it can not move: ${why}`);
}
