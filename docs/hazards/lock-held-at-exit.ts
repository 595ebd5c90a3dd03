/** A task ends with a lock held. */
import { Mutex, Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const sim = new Simulator({ hazards: 'record' });
  const lock = new Mutex(sim, 'queue lock');
  sim.spawn('worker', function* () {
    yield* lock.lock();
    yield* sim.delay(100);
    if (nearMiss) lock.unlock();
  });
  sim.run();
  return sim;
}
