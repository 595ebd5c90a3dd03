/**
 * Fences that have signalled already, for who has to give one and has nothing to wait for.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-fence.c` dma_fence_get_stub, dma_fence_allocate_private_stub
 */
import { nanos } from '../base/addr.ts';
import type { Simulator } from '../sim/simulator.ts';
import { DmaFence } from './dma-fence.ts';
import type { DmaFenceOps } from './dma-fence-ops.ts';
import { type DmaFenceContext, dmaFenceWorld } from './dma-fence-world.ts';

const STUB_OPS: DmaFenceOps = {};
const STUB_CONTEXT: DmaFenceContext = { name: 'stub', id: 0 };

/** The simulator's one signalled fence, with a reference for the caller. Plain. @see Linux 6.1 dma_fence_get_stub */
export function dmaFenceGetStub(sim: Simulator): DmaFence {
  const world = dmaFenceWorld(sim);
  world.stub ??= dmaFencePrivateStub(sim, sim.now);
  return world.stub.get();
}

/**
 * A new signalled fence of its own, with a reference for the caller. Plain.
 *
 * @param timestampNs - when it is to have signalled.
 * @see Linux 6.1 dma_fence_allocate_private_stub
 */
export function dmaFencePrivateStub(sim: Simulator, timestampNs: number): DmaFence {
  const stub = new DmaFence(sim, STUB_CONTEXT, 0, STUB_OPS);
  stub.enableSignaling();
  stub.signalTimestamp(nanos(timestampNs));
  return stub;
}
