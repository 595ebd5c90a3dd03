/** A compositor keeps a descriptor of each frame. */
import { armSoc, GrowthDetector, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const app = soc.addProcess({ name: 'compositor' });
  const growth = new GrowthDetector(soc);
  soc.sim.run(function* () {
    for (let frame = 0; frame < 5; frame++) {
      const fd = app.fds.install(soc.systemHeap.alloc(4096, `frame${frame}`));
      if (nearMiss) yield* app.close(fd);
      growth.cycle();
    }
  });
  return soc.sim;
}
