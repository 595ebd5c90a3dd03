/** A process waits for a GPU in two ways, each on twenty kinds of hardware. */
import * as lib from '../../src/index.ts';

const { start, read } = lib.DMA_BUF_SYNC;
const PICTURE = new Uint8Array(4096).fill(7);

function run(polls: boolean, options: lib.MachineOptions) {
  const soc = lib.armSoc({ hazards: 'record', ...options });
  const params = { launchNs: 500, pixelNs: 1, bytesPerNs: 4 };
  const gpu = new lib.Gpu(soc.addDevice({ name: 'gpu0', coherent: false }), params);
  const app = soc.addProcess({ name: 'app', watch: false }); // it never ends its bracket
  const value = soc.sim.run(function* () {
    const buf = soc.systemHeap.alloc(PICTURE.length, 'picture');
    const target = yield* gpu.importBuffer(buf, { access: 'write' });
    const fd = app.fds.install(buf);
    const view = yield* app.mmap(fd);
    const draw = (memory: lib.GpuMemory): void => void memory.write(target.gpuVa, PICTURE, 0, PICTURE.length);
    yield* gpu.submitSynced({ name: 'draw', writes: [target], run: draw });
    if (polls) yield* app.poll([{ fd, events: lib.POLL.in }]);
    yield* app.ioctl(fd, lib.DMA_BUF_IOCTL_SYNC, { flags: start | read }); // waits for the GPU as well
    return view.read(0, 1)[0];
  });
  return {
    value,
    causes: soc.sim.hazards.map((facts) => 'cause' in facts && facts.cause.code),
    schedule: soc.sim.choices,
  };
}

for (const polls of [false, true]) {
  const runs = Array.from({ length: 20 }, (_, adversary) => run(polls, { adversary }));
  const wrong = runs.filter(({ value }) => value !== 7);
  console.log(`${polls ? 'poll, then START' : 'START alone     '}: ${wrong.length} of 20 read old bytes`);
  const schedule = wrong[0]?.schedule;
  if (schedule === undefined) continue;
  const { value, causes } = run(polls, { chooser: new lib.ReplayChooser(schedule) });
  console.log(`  ${schedule}\n  replayed: reads ${value}, ${causes}`);
}
