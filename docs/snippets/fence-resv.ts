/** Which fences an access waits for, and which slot a new one takes. */
import { allocDmaFenceContext, DmaFenceTimeline, DmaResv, DmaResvUsage, Simulator } from '../../src/index.ts';

const sim = new Simulator();
const resv = new DmaResv(sim, 'frame0');
const camera = new DmaFenceTimeline(sim, allocDmaFenceContext(sim, 'camera0'));
const gpu = new DmaFenceTimeline(sim, allocDmaFenceContext(sim, 'gpu0'));
const show = (what: string) =>
  console.log(`${what}: ${resv.entries().map(({ fence, usage }) => `${fence.name} usage ${usage}`)}`);

sim.run(function* () {
  const written = camera.fence();
  yield* resv.withLock(() => {
    resv.reserveFences(3);
    resv.addFence(written, DmaResvUsage.write);
    resv.addFence(gpu.fence(), DmaResvUsage.read);
    show('writer and reader');
    resv.addFence(gpu.fence(), DmaResvUsage.read);
    show('a later reader of the same context');
    resv.addFence(gpu.fence(), DmaResvUsage.bookkeep);
    show('a weaker usage replaces nothing');
  });
  sim.after(100, () => void written.signal() as undefined);
  yield* resv.wait(DmaResvUsage.write);
  console.log(
    `${sim.now} ns: a reader may go on, a writer ${resv.testSignaled(DmaResvUsage.read) ? 'too' : 'not yet'}`,
  );
  yield* resv.withLock(() => show('signalled, and still in its slot'));
});
