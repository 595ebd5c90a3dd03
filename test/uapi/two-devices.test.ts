/** Two GPUs, two mappings, two large buffers: rows that need a whole machine. */
import { expect, it } from 'vitest';
import { Gpu } from '../../src/devices/gpu.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { DRM_IOCTL_MODE_MAP_DUMB } from '../../src/uapi/drm-ioctl.ts';
import { fenceFileAt } from '../../src/uapi/fence-file.ts';
import { POLL } from '../../src/uapi/file.ts';
import { pattern } from '../bench.ts';
import { ms, Render, word, wordAt } from './render.ts';
import { CARDS, createDumb, handleToFd, System } from './system.ts';
import { exportSyncFile, importSyncFile, isBusy } from './user.ts';

const MIB = 2 ** 20;

it.each(['i915-to-amd', 'amd-to-i915'])(
  'AMP-01: %s: a job on one device waits for the jobs of all contexts of the other',
  (which) => {
    const r = new Render();
    const other = new Gpu(r.system.device('gpu1'), { launchNs: 300, pixelNs: 2, bytesPerNs: 2 });
    const [first, second] = which.startsWith('i915') ? [r.gpu, other] : [other, r.gpu];
    r.run(function* () {
      const { fd } = yield* r.share();
      const buf = r.app.fds.get(fd);
      const gate = r.system.fence();
      const fences = [];
      for (let i = 0; i < 16; i++) {
        const context = first.createContext(`context${i}`);
        const buffer = yield* first.importBuffer(buf, { context });
        fences.push(yield* first.submitSynced({ name: `job${i}`, context, waits: [gate], writes: [buffer], run() {} }));
      }
      expect(yield* r.busy(fd)).toBe('RW');
      const buffer = yield* second.importBuffer(buf);
      buf.put();
      const last = yield* second.submitSynced({ name: 'last', writes: [buffer], run() {} });
      yield* r.sim.delay(ms(10));
      expect([last.signaled, fences.some(({ signaled }) => signaled)]).toEqual([false, false]);
      gate.signal();
      yield* last;
      expect([fences.every(({ signaled }) => signaled), yield* r.busy(fd)]).toEqual([true, '']);
      yield* other.release();
      for (const fence of [...fences, last, gate]) fence.put();
    });
  },
);

const { read: READ, write: WRITE } = DMA_BUF_SYNC;

it.each([
  ['XDB-01 write-sync', WRITE, WRITE],
  ['XDB-03 read-write-sync', READ, WRITE],
  ['XDB-04 write-read-sync', WRITE, READ],
] as const)(
  '%s: the fence of a device that spins is imported; a job of another waits for the exported file',
  (_row, imported, exported) => {
    const r = new Render();
    const other = new Gpu(r.system.device('gpu1'), { launchNs: 300, pixelNs: 2, bytesPerNs: 2 });
    r.run(function* () {
      const { fd, map } = yield* r.share();
      const buf = r.app.fds.get(fd);
      const target = yield* other.importBuffer(buf);
      buf.put();
      const endOfSpin = r.system.fence();
      const spin = r.gpu.submit({
        name: 'spin',
        *run() {
          yield* endOfSpin;
        },
      });
      yield* importSyncFile(r.app, fd, imported, r.app.installFence(spin));
      const file = yield* exportSyncFile(r.app, fd, exported);
      const fence = fenceFileAt(r.app, file)?.syncFile.fence;
      if (fence === undefined) throw new Error('no sync file');
      const job = other.submit({
        name: 'store',
        waits: [fence],
        writes: [target],
        run(memory) {
          memory.write(target.gpuVa, word(0xc0ffee), 0, 4);
        },
      });
      yield* r.sim.delay(ms(10));
      expect([yield* isBusy(r.app, file, POLL.in), job.signaled, wordAt(map.peek(0, 4))]).toEqual([true, false, 0]);
      endOfSpin.signal();
      yield* job;
      expect([yield* isBusy(r.app, file, POLL.in), wordAt(map.read(0, 4))]).toEqual([false, 0xc0ffee]);
      yield* other.release();
      for (const each of [spin, job, endOfSpin]) each.put();
    });
  },
);

it('VMW-01: what is drawn through the mapping of the card and through that of the descriptor is the same picture', () => {
  const system = new System();
  const app = system.machine.addProcess({ name: 'app' });
  const picture = pattern(3 * 4096, 5);
  system.sim.run(function* () {
    const card = yield* app.open(CARDS[1]);
    const pictures = [];
    for (const via of ['gem', 'dmabuf']) {
      const handle = yield* createDumb(app, card, 3);
      const { offset } = yield* app.ioctl(card, DRM_IOCTL_MODE_MAP_DUMB, { handle });
      const own = yield* app.mmap(card, { offset, length: picture.length });
      const fd = yield* handleToFd(app, card, handle);
      const map = yield* app.mmap(fd);
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: DMA_BUF_SYNC.start | DMA_BUF_SYNC.rw });
      (via === 'gem' ? own : map).write(0, picture);
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: DMA_BUF_SYNC.end | DMA_BUF_SYNC.rw });
      pictures.push(own.read(0, picture.length), map.read(0, picture.length));
    }
    expect(pictures).toEqual([picture, picture, picture, picture]);
  });
  app.exit();
  system.sim.run();
  system.expectNothingLeft();
});

it('PMM-12: two buffers that together are larger than the window of the CPU both keep their content', () => {
  const system = new System();
  const app = system.machine.addProcess({ name: 'app' });
  // Of 8 MiB that the CPU could see at once: 7/8 and 3/8.
  const sizes = [7 * MIB, 3 * MIB];
  system.sim.run(function* () {
    const card = yield* app.open(CARDS[1]);
    const maps = [];
    for (const size of sizes) {
      const fd = yield* handleToFd(app, card, yield* createDumb(app, card, size / 4096));
      maps.push(yield* app.mmap(fd));
    }
    const mark = (i: number, at: number) => pattern(64, i + at / MIB);
    for (const [i, map] of maps.entries()) for (let at = 0; at < map.sizeBytes; at += MIB) map.write(at, mark(i, at));
    for (const [i, map] of maps.entries()) {
      for (let at = 0; at < map.sizeBytes; at += MIB) expect(map.read(at, 64)).toEqual(mark(i, at));
    }
  });
  app.exit();
  system.sim.run();
  system.expectNothingLeft();
});
