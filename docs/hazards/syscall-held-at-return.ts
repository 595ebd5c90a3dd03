/** A driver reserves a descriptor in an ioctl and returns without using it. */
import { armSoc, type IoctlCall, OpenFile, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  class Card extends OpenFile {
    readonly path = '/dev/card0';
    override ioctl({ process }: IoctlCall): number {
      const fd = process.fds.reserve(); // for a fence that is then not made
      if (nearMiss) process.fds.unreserve(fd);
      return 0;
    }
  }
  const soc = armSoc({ hazards: 'record' });
  const app = soc.addProcess({ name: 'app' });
  soc.sim.run(() => app.ioctl(app.fds.install(new Card()), 0, 0));
  return soc.sim;
}
