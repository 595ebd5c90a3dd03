/** A program forgets a descriptor. */
import { armSoc, checkLeaks, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const app = soc.addProcess({ name: 'app' });
  soc.sim.run(function* () {
    const fd = app.fds.install(soc.systemHeap.alloc(4096, 'frame'));
    if (nearMiss) yield* app.close(fd);
  });
  checkLeaks(soc); // at the end of a test
  return soc.sim;
}
