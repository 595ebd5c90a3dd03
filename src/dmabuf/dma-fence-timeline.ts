/** Fences of one context in a row. */
import type { Simulator } from '../sim/simulator.ts';
import { DmaFence } from './dma-fence.ts';
import type { DmaFenceOps } from './dma-fence-ops.ts';
import type { DmaFenceContext } from './dma-fence-world.ts';

/** A driver's source of fences of one context, numbered from 1 on. */
export class DmaFenceTimeline {
  readonly context: DmaFenceContext;
  readonly #sim: Simulator;
  readonly #ops: DmaFenceOps;
  #next = 1;

  /** @param context - of this timeline alone. */
  constructor(sim: Simulator, context: DmaFenceContext, ops: DmaFenceOps = {}) {
    this.#sim = sim;
    this.context = context;
    this.#ops = ops;
  }

  /** The next fence of the context. */
  fence(): DmaFence {
    return new DmaFence(this.#sim, this.context, this.#next++, this.#ops);
  }
}
