/** What a program can do that has a descriptor and knows nothing of who made the buffer; and what keeps a buffer alive. */
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/base/addr.ts';
import type { DmaBufAttachment } from '../../src/dmabuf/dma-buf-attachment.ts';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import { bufinfo } from '../../src/dmabuf/dma-buf-info.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { lift, type MaybeOp, type Op } from '../../src/sim/op.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { DRM_IOCTL_GEM_CLOSE, DRM_IOCTL_PRIME_FD_TO_HANDLE } from '../../src/uapi/drm-ioctl.ts';
import { F } from '../../src/uapi/fcntl.ts';
import { POLL } from '../../src/uapi/file.ts';
import { F_SEAL, MFD } from '../../src/uapi/memfd.ts';
import { memfdCreate } from '../../src/uapi/node-setup.ts';
import type { Process } from '../../src/uapi/process.ts';
import { UDMABUF_CREATE } from '../../src/uapi/udmabuf.ts';
import { bench, pattern } from '../bench.ts';
import { allocBuffer, CARDS, createDumb, handleToFd, outcome, SMALL, System } from './system.ts';
import { exportSyncFile, importSyncFile, openTimeline, wait } from './user.ts';

const { start, end, read, write, rw } = DMA_BUF_SYNC;
const BYTES = 2 * PAGE_SIZE;

/** Makes a buffer of two pages. */
type Maker = (app: Process, system: System) => Op<number>;

const MAKERS: Readonly<Record<string, Maker>> = {
  'the system heap': (app) => allocBuffer(app, BYTES),
  *'a card'(app) {
    const card = yield* app.open(CARDS[0]);
    const fd = yield* handleToFd(app, card, yield* createDumb(app, card, 2));
    yield* app.close(card);
    return fd;
  },
  *'a file in memory'(app, { machine }) {
    const { pages, coherency } = machine;
    const memfd = memfdCreate(app, { name: 'guest', flags: MFD.allowSealing, pages, coherency });
    app.ftruncate(memfd, BYTES);
    app.fcntl(memfd, F.addSeals, F_SEAL.shrink);
    const device = yield* app.open('/dev/udmabuf');
    const args = UDMABUF_CREATE.layout.encode({ memfd, flags: 1, size: BYTES });
    const fd = yield* app.ioctl(device, UDMABUF_CREATE.code, args);
    for (const own of [memfd, device]) yield* app.close(own);
    return fd;
  },
};

/** Fills the buffer behind a reader's fence, as a program does that has nothing but `fd`. */
function* fill(app: Process, fd: number, bytes: Uint8Array): Op<void> {
  expect([app.lseek(fd, 0, 2), app.readlink(fd)]).toEqual([BYTES, '/dmabuf:']);
  const map = yield* app.mmap(fd);
  yield* app.poll([{ fd, events: POLL.out }]);
  yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | rw });
  map.write(0, bytes);
  yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | rw });
  map.munmap();
}

describe('a program that has only a descriptor', () => {
  it.each(Object.keys(MAKERS))('D22: shares bytes and fences with another, whoever made it: %s', (maker) => {
    const system = new System(SMALL);
    const [one, two] = ['one', 'two'].map((name) => system.machine.addProcess({ name })) as [Process, Process];
    const bytes = pattern(BYTES, 3);
    system.sim.run(function* () {
      const [ours, theirs] = one.socketpair();
      const socket = two.fds.install(one.fds.file(theirs).get());
      const fd = yield* (MAKERS[maker] as Maker)(one, system);
      const timeline = yield* openTimeline(one);
      yield* importSyncFile(one, fd, read, yield* timeline.fence(1));
      one.sendmsg(ours, { bytes: Uint8Array.of(1), fds: [fd] });
      const got = (yield* two.recvmsg(socket)).fds[0] ?? -1;
      const other = two.spawn('fill', () => fill(two, got, bytes));
      yield* system.sim.delay(1000);
      expect(other.outcome).toBe(null);
      yield* timeline.inc(1);
      yield* other.done;
      expect(yield* wait(one, yield* exportSyncFile(one, fd, rw), 0)).toBe(true);
      const map = yield* one.mmap(fd);
      yield* one.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read });
      expect(map.read(0, BYTES)).toEqual(bytes);
      yield* one.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | read });
      for (const process of [one, two]) yield* process.kill();
    });
    system.sim.run();
    system.expectNothingLeft();
  });

  it('D22: is told so when the exporter lets nobody map it; the rest works', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'app' });
    const fd = app.fds.install(b.fakeBuffer({ mmap: undefined } as never));
    b.sim.run(function* () {
      expect(yield* outcome(() => app.mmap(fd))).toBe('EINVAL');
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | rw });
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | rw });
      expect([app.lseek(fd, 0, 2), yield* app.poll([{ fd, events: POLL.out }], 0)]).toEqual([BYTES, 1]);
      yield* app.kill();
    });
  });

  it('D21: waits for fences of writers, and not for a device to unmap', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'app' });
    const buf = b.fakeBuffer();
    const fd = app.fds.install(buf.get());
    b.sim.run(function* () {
      const att = yield* buf.attach(b.device('camera0', { coherent: true }));
      const table = yield* att.mapUnlocked('from-device');
      const before = b.sim.now;
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | rw });
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | rw });
      expect(b.sim.now - before).toBeLessThan(10_000);
      const timeline = yield* openTimeline(app);
      yield* importSyncFile(app, fd, write, yield* timeline.fence(1));
      const reader = app.spawn('reader', function* () {
        yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: start | read });
        yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: end | read });
      });
      yield* b.sim.delay(1_000_000);
      expect(reader.outcome).toBe(null);
      yield* timeline.inc(1);
      yield* reader.done;
      yield* att.unmapUnlocked(table, 'from-device');
      yield* buf.detach(att);
      buf.put();
      yield* app.kill();
    });
  });
});

/** Something else that keeps the buffer of `fd`. @returns what lets go of it. */
type Keeper = (app: Process, fd: number) => MaybeOp<() => MaybeOp<void>>;

const KEEPERS: Readonly<Record<string, Keeper>> = {
  'a duplicate'(app, fd) {
    const copy = app.fds.dup(fd);
    return () => app.close(copy);
  },
  *'a mapping'(app, fd) {
    const map = yield* app.mmap(fd);
    return () => map.munmap();
  },
  'a message in a socket'(app, fd) {
    const [ours, theirs] = app.socketpair();
    app.sendmsg(ours, { bytes: Uint8Array.of(1), fds: [fd] });
    return () => app.close(theirs);
  },
  'a child'(app) {
    const child = app.fork('child');
    return () => child.kill();
  },
  "a child's next program"(app) {
    const child = app.fork('child');
    child.exec();
    return () => child.kill();
  },
  'a driver'(app, fd) {
    const buf = app.fds.get(fd);
    return () => buf.put();
  },
  *'a handle of a card'(app, fd) {
    const card = yield* app.open(CARDS[1]);
    const { handle } = yield* app.ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd });
    return function* () {
      yield* app.ioctl(card, DRM_IOCTL_GEM_CLOSE, { handle });
    };
  },
  *'a poll whose fence is pending'(app, fd) {
    const timeline = yield* openTimeline(app);
    yield* importSyncFile(app, fd, write, yield* timeline.fence(1));
    yield* app.poll([{ fd, events: POLL.in }], 0);
    return () => timeline.inc(1);
  },
};

describe('the exporter of a buffer', () => {
  const kinds = Object.keys(KEEPERS);

  it.each(kinds)('A-02: releases it once, when the last that keeps it lets go: %s, or the descriptor', (kind) => {
    for (const descriptorIsLast of [false, true]) {
      const system = new System(SMALL);
      const app = system.machine.addProcess({ name: 'app' });
      const buf = system.fakeBuffer();
      const fd = app.fds.install(buf);
      system.sim.run(function* () {
        const letGo = yield* lift((KEEPERS[kind] as Keeper)(app, fd));
        const steps: (() => MaybeOp<void>)[] = [() => app.close(fd), letGo];
        for (const step of descriptorIsLast ? steps.reverse() : steps) {
          expect(buf.released).toBe(false);
          yield* lift(step());
          yield* system.sim.delay(1);
        }
        expect(buf.released).toBe(true);
        yield* app.kill();
      });
      system.sim.run();
      expect(buf.priv.calls.filter((call) => call === 'release')).toHaveLength(1);
      system.expectNothingLeft();
    }
  });

  it('A-07: and everybody else is found in bufinfo and fdinfo, whatever was made and closed before', () => {
    const system = new System(SMALL);
    const { sim, machine } = system;
    const app = machine.addProcess({ name: 'app' });
    const devices = ['camera0', 'gpu0', 'display0'].map((name) => system.device(name, { coherent: true }));
    const prng = sim.prng.fork('script');
    const live: { readonly fd: number; readonly fds: number[]; readonly atts: DmaBufAttachment[]; fences: number }[] =
      [];
    sim.run(function* () {
      const timeline = yield* openTimeline(app);
      const undo = function* (index: number): Op<void> {
        const [gone] = live.splice(index, 1);
        for (const att of gone?.atts ?? []) yield* att.buf.detach(att);
        for (const fd of gone?.fds ?? []) yield* app.close(fd);
      };
      for (let step = 0; step < 150; step++) {
        const one = live[prng.int(Math.max(1, live.length))];
        const what = prng.int(5);
        if (one === undefined || what === 0) {
          const fd = yield* allocBuffer(app, PAGE_SIZE * (1 + prng.int(4)));
          live.push({ fd, fds: [fd], atts: [], fences: 0 });
        } else if (what === 1) {
          const buf = app.fds.get(one.fd);
          one.atts.push(yield* buf.attach(devices[prng.int(3)] as (typeof devices)[0]));
          buf.put();
        } else if (what === 2) one.fds.push(app.fds.dup(one.fd));
        else if (what === 3 && one.fences === 0) {
          const fence = yield* timeline.fence(1);
          yield* importSyncFile(app, one.fd, write, fence);
          yield* app.close(fence);
          one.fences++;
        } else if (live.length > 4) yield* undo(live.indexOf(one));
        const text = (yield* bufinfo(dmaBufCore(sim))).split('\n\n').filter((part) => part.includes('Attached'));
        const shown = text.map((part) => [
          Number(/^(\d{8})\t/m.exec(part)?.[1]),
          (part.match(/unsignalled/g) ?? []).length,
          Number(/Total (\d+) devices/.exec(part)?.[1]),
        ]);
        const made = live.map(({ fd, fences, atts }) => [app.fstat(fd).size, fences, atts.length]);
        expect(shown).toEqual(made.reverse());
        for (const { fd, fds } of live) expect(app.fdinfo(fd)).toContain(`count:\t${fds.length}`);
      }
      while (live.length > 0) yield* undo(0);
      yield* app.kill();
    });
    sim.run();
    system.expectNothingLeft();
  });
});
