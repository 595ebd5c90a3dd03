/** A report of a deadlock follows a fence to the task that has to signal it. */
import { allocDmaFenceContext, DeadlockError, DmaFence, DmaResv, Simulator } from '../../src/index.ts';

const sim = new Simulator();
const resv = new DmaResv(sim, 'frame0');
const job = new DmaFence(sim, allocDmaFenceContext(sim, 'gpu0'), 1);

const worker = function* () {
  yield* sim.delay(10);
  yield* resv.lock(); // never: the waiter has it
  job.signal();
};
try {
  sim.run(function* () {
    job.signaler = sim.spawn('gpu0 worker', worker);
    yield* resv.withLock(() => job);
  });
} catch (error) {
  if (!(error instanceof DeadlockError)) throw error;
  console.log(error.message);
}
