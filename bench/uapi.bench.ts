/**
 * What a user process does with shared buffers.
 *
 *     node uapi.bench.js share                      prints { "value": buffers a second }
 *     node uapi.bench.js poll FDS                   prints { "value": descriptors a second }
 *     node uapi.bench.js timeline POINTS            prints { "value": points a second }
 *
 * `share`: a process allocates a page from a heap, passes it over a socket to another, which attaches and maps it for its device, undoes that,
 * and both close. `poll`: sync files, the last one signalled, asked with timeout 0. `timeline`: so many points are added to a sync object, then one after
 * the other is asked for, signalled, and asked for again.
 */
import process from 'node:process';
import {
  armSoc,
  DMA_HEAP_IOCTL_ALLOC,
  DmaFence,
  DmaHeapFile,
  FenceFile,
  type Op,
  POLL,
  type PollRequest,
  SyncFile,
  Syncobj,
} from '../src/index.ts';
import { cpuSeconds } from './limits/cpu-seconds.mjs';

const [what = 'share', countText = '1'] = process.argv.slice(2);
const COUNT = Number(countText);
const SHARED = 20_000;
const POLLED = 2_000_000;
const POINTS = 400_000;

const machine = () => armSoc({ shadow: false, dmaDebug: false, bytes: false });

function share(): number {
  const soc = machine();
  const gpu = soc.addDevice({ name: 'gpu0', coherent: true });
  const sender = soc.addProcess({ name: 'sender' });
  const [ours, theirs] = sender.socketpair();
  const receiver = sender.fork('receiver');
  const heap = sender.fds.install(new DmaHeapFile(soc.systemHeap));
  const bytes = Uint8Array.of(1);
  function* one(): Op<void> {
    const { fd } = yield* sender.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, { len: 4096 });
    sender.sendmsg(ours, { bytes, fds: [fd] });
    yield* sender.close(fd);
    const message = yield* receiver.recvmsg(theirs);
    const got = message.fds[0] as number;
    const buf = receiver.fds.get(got);
    const att = yield* buf.attach(gpu);
    const sgt = yield* att.mapUnlocked('to-device');
    yield* att.unmapUnlocked(sgt, 'to-device');
    yield* buf.detach(att);
    buf.put();
    yield* receiver.close(got);
  }
  return soc.sim.run(function* () {
    for (let i = 0; i < SHARED / 4; i++) yield* one();
    const start = cpuSeconds();
    for (let i = 0; i < SHARED; i++) yield* one();
    return SHARED / (cpuSeconds() - start);
  });
}

function poll(): number {
  const soc = machine();
  const app = soc.addProcess({ name: 'app', maxFds: COUNT + 16 });
  const fences = Array.from({ length: COUNT }, (_, i) => new DmaFence(soc.sim, { name: `f${i}`, id: i + 1 }, 1));
  const requests = fences.map((fence): PollRequest => {
    const fd = app.fds.install(new FenceFile(new SyncFile(soc.sim, fence)));
    return { fd, events: POLL.in };
  });
  fences.at(-1)?.signal();
  const rounds = Math.ceil(POLLED / COUNT / 10);
  return soc.sim.run(function* () {
    for (let i = 0; i < rounds / 4; i++) yield* app.poll(requests, 0);
    const start = cpuSeconds();
    let ready = 0;
    for (let i = 0; i < rounds; i++) ready += yield* app.poll(requests, 0);
    if (ready !== rounds) throw new Error(`${ready} ready in ${rounds} rounds`);
    return (rounds * COUNT) / (cpuSeconds() - start);
  });
}

function timeline(): number {
  let spent = 0;
  const rounds = Math.ceil(POINTS / COUNT);
  for (let round = -1; round < rounds; round++) {
    const { sim } = machine();
    const start = cpuSeconds();
    sim.run(function* () {
      const syncobj = new Syncobj(sim);
      const fences: DmaFence[] = [];
      for (let point = 1; point <= COUNT; point++) {
        const fence = new DmaFence(sim, { name: 'jobs', id: 1 }, point);
        fences.push(fence);
        syncobj.addPoint(fence, point);
      }
      for (let point = 1; point <= COUNT; point++) {
        syncobj.findFence(point)?.put();
        fences[point - 1]?.signal();
        if (syncobj.reached() !== point) throw new Error(`reached ${syncobj.reached()}, not ${point}`);
      }
      yield* sim.delay(0);
      syncobj.put();
    });
    if (round >= 0) spent += cpuSeconds() - start;
  }
  return (rounds * COUNT) / spent;
}

const CASES: Readonly<Record<string, () => number>> = { share, poll, timeline };
const run = CASES[what];
if (run === undefined) throw new Error(`no case ${what}: ${Object.keys(CASES).join(', ')}`);
console.log(JSON.stringify({ value: run() }));
