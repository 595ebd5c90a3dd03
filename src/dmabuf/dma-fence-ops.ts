/** What a driver supplies to its fences, and what a fence calls. */
import type { Op } from '../sim/op.ts';
import type { DmaFence } from './dma-fence.ts';

/** What is called when a fence signals; it can not wait. */
export type DmaFenceCallback = (fence: DmaFence) => undefined;

/** What a driver may do for its fences; all of it is optional. @see Linux 6.1 `include/linux/dma-fence.h` dma_fence_ops */
export interface DmaFenceOps {
  /** Default: the context's name. */
  getDriverName?(fence: DmaFence): string;
  /** Default: the context's name. */
  getTimelineName?(fence: DmaFence): string;
  /** Somebody wants to be called (rule 5); the fence is locked. @returns false when it is over already: then it signals. */
  enableSignaling?(fence: DmaFence): boolean;
  /** Whether it is over, for who asks before the driver has signalled. True signals it. */
  signaled?(fence: DmaFence): boolean;
  /** Takes the place of the wait. @returns ns left, at least 1; 0 when `ns` (`Infinity`: no limit) have passed. */
  wait?(fence: DmaFence, ns: number): Op<number>;
  /** The last reference is gone. */
  release?(fence: DmaFence): undefined;
  /** Somebody would like it signalled by then. */
  setDeadline?(fence: DmaFence, deadlineNs: number): undefined;
  /** Sequence numbers do not wrap (rule 4). Default false. */
  readonly seqno64?: boolean;
}
