/** Poll while a GPU works: who reads is in the way of writers, who writes of everybody. */
import { expect, it } from 'vitest';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { POLL } from '../../src/uapi/file.ts';
import { counted, ms, Render, ROW_BYTES } from './render.ts';
import { handleToFd } from './system.ts';

it.each(['PBZ-01: before', 'PBZ-02: after'])(
  '%s the job is submitted the buffers become descriptors: what it writes is busy for all, what it reads for writers',
  (when) => {
    const r = new Render();
    r.run(function* () {
      const [scratch, batch] = [yield* r.share(), yield* r.share()];
      if (when.endsWith('after')) for (const { fd } of [scratch, batch]) yield* r.app.close(fd);
      const fence = yield* r.count(scratch.gpu, ms(5), [batch.gpu]);
      const fds = [];
      for (const { fd, handle } of [scratch, batch]) {
        fds.push(when.endsWith('after') ? yield* handleToFd(r.app, r.card, handle) : fd);
      }
      const [scratchFd = -1, batchFd = -1] = fds;
      expect([yield* r.busy(scratchFd), yield* r.busy(batchFd)]).toEqual(['RW', 'W']);
      yield* fence;
      expect([yield* r.busy(scratchFd), yield* r.busy(batchFd)]).toEqual(['', '']);
      expect(scratch.map.read(0, ROW_BYTES)).toEqual(counted());
    });
  },
);

it.each([
  ['written', 'scratch'],
  ['read', 'batch'],
] as const)('PBZ-04: a poll for writing to what is being %s waits for the end of the job', (_how, which) => {
  const r = new Render();
  r.run(function* () {
    const buffers = { scratch: yield* r.share(), batch: yield* r.share() };
    const fence = yield* r.count(buffers.scratch.gpu, ms(5), [buffers.batch.gpu]);
    const request = { fd: buffers[which].fd, events: POLL.out, revents: 0 };
    expect(yield* r.app.poll([request], ms(1000))).toBe(1);
    expect([fence.signaled, request.revents, r.sim.now < ms(6)]).toEqual([true, POLL.out, true]);
  });
});

it.each([
  ['write', POLL.out],
  ['read', POLL.in],
])('PBZ-05: a poll-%s waits until the GPU has cleared the buffer; then nothing is left to wait for', (_how, events) => {
  const r = new Render();
  r.run(function* () {
    const { fd, map, gpu } = yield* r.share();
    map.write(0, counted());
    const fence = yield* r.submit({
      name: 'clear',
      writes: [gpu],
      *run(memory) {
        yield* r.sim.delay(ms(20));
        memory.write(gpu.gpuVa, new Uint8Array(ROW_BYTES), 0, ROW_BYTES);
      },
    });
    const request = { fd, events, revents: 0 };
    expect(yield* r.app.poll([request], ms(120_000))).toBe(1);
    expect([request.revents, yield* fence.waitTimeout(0)]).toEqual([events, expect.any(Number)]);
    expect(fence.signaled).toBe(true);
    const before = r.sim.now;
    yield* r.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: DMA_BUF_SYNC.start | DMA_BUF_SYNC.rw });
    expect(r.sim.now - before).toBeLessThan(ms(1));
    expect(map.read(0, ROW_BYTES)).toEqual(new Uint8Array(ROW_BYTES));
  });
});
