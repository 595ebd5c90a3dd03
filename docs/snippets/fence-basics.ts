/** A fence, its callbacks, and a wait with a limit. */
import { allocDmaFenceContext, DmaFence, describeHazard, Simulator } from '../../src/index.ts';

const sim = new Simulator({ hazards: 'record' });
const engine = allocDmaFenceContext(sim, 'gpu0');
const job = new DmaFence(sim, engine, 1);

sim.run(function* () {
  job.addCallback((fence) => void console.log(`${sim.now} ns: ${fence.name} calls back`) as undefined);
  sim.spawn('gpu0', function* () {
    yield* sim.delay(500);
    job.setError('EIO');
    job.signal();
  });
  console.log(`a wait of 100 ns: ${yield* job.waitTimeout(100)} ns left`);
  yield* job;
  console.log(`${sim.now} ns: status ${job.status}, once more signalled: ${job.signal()}`);
  console.log(`a callback now: ${job.addCallback(() => undefined)}`);
  job.setError('ETIMEDOUT');
});
for (const hazard of sim.hazards) console.log(describeHazard(hazard));
