/**
 * What it shows: a client takes buffers from a heap, draws with the GPU, and passes each to a compositor over a socket together
 * with a sync file: the fence of its drawing. The compositor adds the fence to the buffer, reads a pixel, and flips.
 * What to expect: each frame is read and shown after it was drawn, though only the reader ever waits, and nothing is left. In the
 * second run the compositor forgets one close: the end names the buffer that is left, who made it when, and who keeps it.
 */
import * as lib from '../src/index.ts';

const FRAMES = 2;
const SIZE = { width: 64, height: 32, strideBytes: 256, format: 'XR24' } as const;
const [BYTES, DRAW_NS] = [SIZE.strideBytes * SIZE.height, 2_000_000];
const HEAP = '/dev/dma_heap/reserved'; // contiguous memory: the display needs it

function* draw({ sim }: lib.Process, memory: lib.GpuMemory, target: lib.GpuBuffer, colour: number): lib.Op<void> {
  yield* sim.delay(DRAW_NS);
  memory.write(target.gpuVa, new Uint8Array(BYTES).fill(colour), 0, BYTES);
}

function* runClient(client: lib.Process, gpu: lib.Gpu, socket: number): lib.Op<void> {
  const heap = yield* client.open(HEAP);
  for (let frame = 1; frame <= FRAMES; frame++) {
    const { fd } = yield* client.ioctl(heap, lib.DMA_HEAP_IOCTL_ALLOC, { len: BYTES });
    const buf = client.fds.get(fd);
    const target = yield* gpu.importBuffer(buf, { access: 'write' });
    buf.put(); // the GPU has a reference of its own
    const drawn = gpu.submit({ name: 'draw', writes: [target], run: (memory) => draw(client, memory, target, frame) });
    const fence = client.fds.install(new lib.FenceFile(new lib.SyncFile(client.sim, drawn))); // as drivers answer
    drawn.put(); // the sync file has its own
    client.sendmsg(socket, { bytes: Uint8Array.of(frame), fds: [fd, fence] });
    say(client, `sends frame ${frame}  (fd ${fd}: buffer, fd ${fence}: fence; the GPU has only begun)`);
    for (const own of [fd, fence]) yield* client.close(own); // the message holds both
    yield* client.recvmsg(socket); // it was shown
    yield* gpu.releaseBuffer(target);
  }
  client.exit();
}

function* runCompositor(me: lib.Process, display: lib.Display, socket: number, forgotten: number): lib.Op<void> {
  const { start, end, read, write } = lib.DMA_BUF_SYNC;
  display.enable();
  for (let shown = 1; shown <= FRAMES; shown++) {
    const { bytes, fds } = yield* me.recvmsg(socket);
    const [fd, fence] = fds as [number, number];
    yield* me.ioctl(fd, lib.DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags: write, fd: fence }); // a writer is at work
    const view = yield* me.mmap(fd);
    yield* me.poll([{ fd, events: lib.POLL.in }]); // waits for the writer: START drops old lines before it waits
    yield* me.ioctl(fd, lib.DMA_BUF_IOCTL_SYNC, { flags: start | read });
    say(me, `reads ${view.read(0, 1)[0]}        (poll has waited for the writer)`);
    yield* me.ioctl(fd, lib.DMA_BUF_IOCTL_SYNC, { flags: end | read });
    const buf = me.fds.get(fd);
    yield* display.pageFlip(yield* display.importFramebuffer(buf, SIZE));
    buf.put();
    say(me, `shows frame ${bytes[0]}  (at a vertical blank; the flip waits for writers, too)`);
    view.munmap();
    for (const own of [fd, fence]) if (shown !== forgotten || own !== fd) yield* me.close(own);
    me.sendmsg(socket, { bytes });
  }
  yield* display.release();
}

const say = ({ sim, name }: lib.Process, what: string): void =>
  console.log(`${(sim.now / 1e6).toFixed(3).padStart(7)} ms  ${name.padEnd(11)}${what}`);

for (const forgotten of [0, 2]) {
  console.log(forgotten === 0 ? 'Correct run' : `\nThe compositor does not close the buffer of frame ${forgotten}`);
  const soc = lib.armSoc();
  const gpu = new lib.Gpu(soc.addDevice({ name: 'gpu0', coherent: false, iommu: true }), lib.videoCore6);
  const params = { mode: lib.reducedBlankingMode(SIZE.width, SIZE.height, 60), strideAlignBytes: 64 };
  const display = new lib.Display(soc.addDevice({ name: 'display0', coherent: false }), params);
  const client = soc.addProcess({ name: 'client' });
  const [mine, yours] = client.socketpair();
  const compositor = client.fork('compositor');
  client.spawn('main', () => runClient(client, gpu, mine));
  compositor.spawn('main', () => runCompositor(compositor, display, yours, forgotten));
  soc.sim.run();
  const left = lib.describeLeftBuffers(lib.memoryUsage(soc.sim, [client]), soc.memory.ledger.liveAllocations());
  console.log(`=> ${left.length} buffer(s) and ${lib.countLiveDmaFences(soc.sim)} fence(s) left`);
  for (const line of left) console.log(`   ${line}; the fence is on it`);
}
