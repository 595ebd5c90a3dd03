/**
 * The list of fences inside a reservation. It grows only by being replaced: who reads it without the lock sees that it is another.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-resv.c` struct dma_resv_list
 */
import { assert } from '../base/assert.ts';
import type { DmaFence } from './dma-fence.ts';
import type { DmaFenceContext, DmaFenceWorld } from './dma-fence-world.ts';
import type { DmaResvUsageValue } from './dma-resv.ts';

/** Bytes of a list beside its fences, and of each fence in it. */
const HEADER_BYTES = 24;
const FENCE_BYTES = 8;

/** @internal Fences with their usages, and room for more. It has a reference to each of them. */
export class DmaResvList {
  readonly fences: DmaFence[] = [];
  readonly usages: DmaResvUsageValue[] = [];
  /** Fences it has memory for. */
  readonly room: number;
  /** What `world.signals` was when all its fences were found pending, which holds until that changes; -1: not known. */
  #pendingAt = -1;
  /** The contexts of its fences, and of some that are not in it any more; `null` while nobody has asked. */
  #contexts: Set<DmaFenceContext> | null = null;
  /** Some of them can signal by being asked. */
  #hasAsked = false;

  readonly #holder: object;

  /** @param least - fences that it must have room for. @param holder - whose references they are: its reservation. */
  constructor(least: number, holder: object) {
    this.#holder = holder;
    this.room = roomOfList(least);
  }

  get length(): number {
    return this.fences.length;
  }

  /**
   * The slot that a new fence takes: the first whose fence has signalled, or is an older one of its own context with an equal or
   * weaker usage; -1 when there is none. Asks the fences, but not again while none has signalled: adding many stays linear.
   */
  slotFor(fence: DmaFence, usage: DmaResvUsageValue, world: DmaFenceWorld): number {
    const { signals } = world;
    if (this.#pendingAt === signals && this.#contexts?.has(fence.context) === false) return -1;
    for (let at = 0; at < this.fences.length; at++) {
      const old = this.fences[at];
      const oldUsage = this.usages[at];
      if (old === undefined || oldUsage === undefined) continue;
      const isOlder = old.context === fence.context && oldUsage >= usage && (old === fence || fence.isLater(old));
      if (isOlder || old.isSignaled()) return at;
    }
    if (!this.#hasAsked) this.#pendingAt = signals;
    this.#contexts ??= new Set(this.fences.map(({ context }) => context));
    return -1;
  }

  /** Appends, with a reference of its own. */
  push(fence: DmaFence, usage: DmaResvUsageValue): void {
    this.keep(fence.getFor(this.#holder), usage);
  }

  /** Appends with a reference that another list of this reservation gives away. */
  keep(fence: DmaFence, usage: DmaResvUsageValue): void {
    assert(this.fences.length < this.room, 'reservation list: no room for more than %s fences', this.room);
    this.fences.push(fence);
    this.usages.push(usage);
    this.#note(fence);
  }

  /** Takes a reference to `fence` and drops that to the one in slot `at`. */
  replace(at: number, fence: DmaFence, usage: DmaResvUsageValue): void {
    const old = this.fences[at];
    fence.getFor(this.#holder);
    this.fences[at] = fence;
    this.usages[at] = usage;
    this.#note(fence);
    old?.putFor(this.#holder);
  }

  /** Drops all references. The list itself stays as it is, for who still reads it. */
  release(): void {
    for (const fence of this.fences) fence.putFor(this.#holder);
  }

  /** Keeps what {@link slotFor} knows true for a fence that came in. */
  #note(fence: DmaFence): void {
    this.#contexts?.add(fence.context);
    if (fence.isAsked) this.#hasAsked = true;
    if (fence.isAsked || fence.signaled) this.#pendingAt = -1;
  }
}

/** Fences that a list made for `count` really has room for: the kernel's allocator rounds its size up. */
function roomOfList(count: number): number {
  const bytes = HEADER_BYTES + FENCE_BYTES * count;
  const power = 2 ** Math.ceil(Math.log2(bytes));
  const between = (power / 4) * 3;
  const hasBetween = between === 96 || between === 192;
  const allocated = hasBetween && bytes <= between ? between : power;
  return Math.floor((allocated - HEADER_BYTES) / FENCE_BYTES);
}
