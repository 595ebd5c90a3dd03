/** A callback that is due later and can be cancelled. */
import type { EventHandle } from './event-queue.ts';

/** Made by `sim.after`. */
export class Timer {
  #callback: (() => undefined) | null;
  readonly #unschedule: () => void;
  /** @internal */
  handle: EventHandle = -1;
  /** The CPU it runs on: the one that armed it. */
  readonly cpu: number;

  /** @internal */
  constructor(callback: () => undefined, unschedule: () => void, cpu: number) {
    this.cpu = cpu;
    this.#callback = callback;
    this.#unschedule = unschedule;
  }

  /** Whether it is still to come. */
  get pending(): boolean {
    return this.#callback !== null;
  }

  /** Takes it back. @returns false when it has expired or was cancelled before. */
  cancel(): boolean {
    if (this.#callback === null) return false;
    this.#callback = null;
    this.#unschedule();
    return true;
  }

  /** @internal Calls back, unless cancelled. */
  expire(): void {
    const callback = this.#callback;
    this.#callback = null;
    callback?.();
  }
}
