/**
 * A walk over the pending fences of a reservation without its lock, which may be interrupted by whoever changes the list.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-resv.c` dma_resv_iter_first_unlocked, dma_resv_iter_next_unlocked
 */
import type { DmaFence } from './dma-fence.ts';
import type { DmaResvUsageValue } from './dma-resv.ts';
import type { DmaResvList } from './dma-resv-list.ts';

/**
 * Made by `resv.iter(usage)`. Never shows a signalled fence. Takes each slot as it is at its turn, up to the length that the list
 * had at the start; when a larger list was made meanwhile, starts over with that one. It has a reference to the fence shown last
 * until {@link next} or {@link end}.
 */
export class DmaResvIter {
  readonly #source: { readonly list: DmaResvList | null };
  readonly #usage: DmaResvUsageValue;
  #list: DmaResvList | null = null;
  #length = 0;
  #at = 0;
  #fence: DmaFence | null = null;
  #restarted = false;
  #started = false;

  /** @internal Use `resv.iter`. */
  constructor(source: { readonly list: DmaResvList | null }, usage: DmaResvUsageValue) {
    this.#source = source;
    this.#usage = usage;
  }

  /** The fence that {@link next} gave. */
  get fence(): DmaFence | null {
    return this.#fence;
  }

  /** What its owner does with the buffer, at the time it was shown. */
  usage: DmaResvUsageValue = 0;

  /** Whether the walk has just begun or begun again: what was gathered before is to be thrown away. */
  get isRestarted(): boolean {
    return this.#restarted;
  }

  /** How long the list was when the walk began last, signalled fences and other usages included. */
  get listedCount(): number {
    return this.#length;
  }

  /** The next pending fence of the usage or of a stronger one; `null` at the end. Plain. */
  next(): DmaFence | null {
    this.#restarted = false;
    if (!this.#started || this.#source.list !== this.#list) this.#restart();
    this.#started = true;
    this.#walk();
    // Asking a fence can call back, and so change the list.
    while (this.#source.list !== this.#list) {
      this.#restart();
      this.#walk();
    }
    return this.#fence;
  }

  /** Gives the reference back; also to be called after a walk that was broken off. */
  end(): void {
    this.#fence?.putFor(this);
    this.#fence = null;
  }

  #restart(): void {
    this.#list = this.#source.list;
    this.#length = this.#list?.length ?? 0;
    this.#at = 0;
    this.#restarted = true;
  }

  #walk(): void {
    this.end();
    for (; this.#at < this.#length; this.#at++) {
      const fence = this.#list?.fences[this.#at];
      const usage = this.#list?.usages[this.#at];
      if (fence === undefined || usage === undefined || usage > this.#usage || fence.isSignaled()) continue;
      if (!fence.tryGetFor(this)) continue; // the list was replaced by a callback: the caller sees that
      this.#at++;
      this.#fence = fence;
      this.usage = usage;
      return;
    }
  }
}
