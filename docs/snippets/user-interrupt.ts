/** A signal interrupts the START of a bracket: who looks at the answer repeats it, who does not is found. And a fence that is left. */
import * as lib from '../../src/index.ts';

const soc = lib.armSoc({ hazards: 'record' });
const app = soc.addProcess({ name: 'app' });
const { start, end, read, write } = lib.DMA_BUF_SYNC;

soc.sim.run(function* () {
  const heap = yield* app.open('/dev/dma_heap/system');
  const { fd } = yield* app.ioctl(heap, lib.DMA_HEAP_IOCTL_ALLOC, { len: 4096 });
  const camera = lib.allocDmaFenceContext(soc.sim, 'camera0');
  const capture = function* (seqno: number): lib.Op<lib.DmaFence> {
    const fence = new lib.DmaFence(soc.sim, camera, seqno);
    const out = app.installFence(fence, { call: 'CAPTURE' }); // as a driver answers a submission
    yield* app.ioctl(fd, lib.DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags: write, fd: out });
    return fence;
  };
  const begin = function* (): lib.Op<string> {
    try {
      yield* app.ioctl(fd, lib.DMA_BUF_IOCTL_SYNC, { flags: start | read });
      return 'begun';
    } catch (error) {
      if (error instanceof lib.ErrnoError) return error.code;
      throw error;
    }
  };

  for (const careful of [true, false]) {
    const fence = yield* capture(careful ? 1 : 2);
    const reader = app.spawn('reader', function* () {
      let answer = yield* begin();
      while (careful && answer === 'EINTR') answer = yield* begin();
      yield* app.ioctl(fd, lib.DMA_BUF_IOCTL_SYNC, { flags: end | read });
      return answer;
    });
    yield* soc.sim.delay(1000);
    app.interrupt();
    yield* soc.sim.delay(1000);
    fence.signal();
    fence.put();
    console.log(`START: ${yield* reader.done}; ${soc.sim.hazards.length} report(s)`);
  }
  for (const facts of soc.sim.hazards) {
    if (facts.hazard === 'dmabuf.unbalanced-sync') console.log(`${facts.call}: ${facts.remedy}`);
  }
  for (const { fences, maker, holders } of lib.memoryUsage(soc.sim, [app]).syncFiles) {
    console.log(`left: fence ${fences.join()} of ${maker?.call}, fd ${holders[0]?.fds.join()}`);
  }
  app.exit();
});
