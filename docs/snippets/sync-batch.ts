/** The kernel knows what was submitted; the program believes what it has recorded. */
import { armSoc, describeHazard, Gpu, POLL } from '../../src/index.ts';

function program(flushes: boolean): void {
  const soc = armSoc({ hazards: 'record' });
  const gpu = new Gpu(soc.addDevice({ name: 'gpu0', coherent: true }), { launchNs: 500, pixelNs: 1, bytesPerNs: 4 });
  const app = soc.addProcess({ name: 'app' });
  soc.sim.run(function* () {
    const buf = soc.systemHeap.alloc(4096, 'picture');
    const target = yield* gpu.importBuffer(buf);
    const fd = app.fds.install(buf);
    const map = yield* app.mmap(fd);

    const batch = gpu.batch({ name: 'frame 1' });
    batch.add({
      name: 'draw',
      writes: [target],
      run: (memory) => void memory.write(target.gpuVa, Uint8Array.of(7), 0, 1),
    });
    if (flushes) yield* batch.flush();
    const request = { fd, events: POLL.in, revents: 0 };
    yield* app.poll([request], -1);
    console.log(
      `${flushes ? 'flushed' : 'recorded'}: poll says idle at ${soc.sim.now} ns, the CPU reads ${map.read(0, 1)}`,
    );
  });
  for (const facts of soc.sim.hazards) console.log(describeHazard(facts));
}

program(false);
program(true);
