import { describe, expect, it } from 'vitest';
import { HazardError } from '../../src/base/errors.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { Mutex } from '../../src/sim/mutex.ts';
import { deviceNodes } from '../../src/uapi/device-nodes.ts';
import { DMA_BUF_IOCTL_SYNC, DMA_BUF_SET_NAME_A, DMA_BUF_SET_NAME_B } from '../../src/uapi/dma-buf-file.ts';
import { F } from '../../src/uapi/fcntl.ts';
import { O, OpenFile } from '../../src/uapi/file.ts';
import type { IoctlCall } from '../../src/uapi/ioctl.ts';
import type { Process } from '../../src/uapi/process.ts';
import { type Bench, bench, errno } from '../bench.ts';
import { openTimeline, wait } from './user.ts';

function scene(): { b: Bench; app: Process } {
  const b = bench();
  return { b, app: b.machine.addProcess({ name: 'a program with a long name' }) };
}

describe('fork', () => {
  it('gives the child the same files under the same numbers, but not what is only reserved', () => {
    const { b, app } = scene();
    const buf = b.fakeBuffer();
    const fd = app.fds.install(buf, { cloexec: true });
    app.fds.reserve();
    const child = app.fork('child');
    expect([child.fds.open, child.fds.reserved, child.fds.isCloexec(fd), buf.references]).toEqual([[fd], [], true, 2]);
    child.fds.close(fd);
    expect([app.fds.open, buf.references]).toEqual([[fd], 1]);
    expect([app.children, b.machine.processes]).toEqual([[child], [app, child]]);
    app.exit();
  });

  it('runs the release once, when the last of parent and child lets go', () => {
    const { b, app } = scene();
    const buf = b.fakeBuffer();
    app.fds.install(buf);
    const child = app.fork('child');
    b.sim.run(function* () {
      yield* app.kill();
      expect(buf.released).toBe(false);
      yield* child.kill();
      expect(buf.priv.calls).toEqual(['release']);
    });
  });
});

describe('exec', () => {
  it('D10: closes what is closed on exec, unmaps everything, and leaks the rest to the new program', () => {
    const { b, app } = scene();
    const [kept, closed] = [b.fakeBuffer(), b.fakeBuffer({}, 4096, 'closed')];
    b.sim.run(function* () {
      const fds = [app.fds.install(kept), app.fds.install(closed, { cloexec: true })] as const;
      yield* app.mmap(fds[0]);
      yield* app.mmap(fds[1]);
      app.exec();
      expect([app.fds.open, app.mappings, kept.references, closed.references]).toEqual([[fds[0]], [], 1, 0]);
      yield* app.kill();
    });
  });
});

describe('kill', () => {
  it('ends threads wherever they are and gives back everything', () => {
    const { b, app } = scene();
    const buf = b.fakeBuffer();
    b.sim.run(function* () {
      const fd = app.fds.install(buf);
      yield* app.mmap(fd);
      const timeline = yield* openTimeline(app);
      const fence = yield* timeline.fence(1);
      const threads = [
        app.spawn('poller', () => wait(app, fence)),
        app.spawn('holder', () => buf.resv.withLock(() => b.sim.delay(1e9))),
        app.spawn('reader', function* () {
          yield* b.sim.delay(10);
          return yield* buf.resv.withLock(() => 0);
        }),
      ];
      yield* b.sim.delay(100);
      yield* app.kill();
      expect(threads.map(({ outcome }) => outcome)).toEqual(['killed', 'killed', 'killed']);
      expect([app.fds.open, app.mappings, buf.released, buf.resv.isLocked]).toEqual([[], [], true, false]);
    });
  });
});

describe('fcntl', () => {
  it('tells and changes flags of the descriptor, which each has, and of the file, which duplicates share', () => {
    const { b, app } = scene();
    const fd = app.fds.install(b.fakeBuffer());
    const copy = app.fcntl(fd, F.dupfdCloexec, 10);
    expect([copy, app.fcntl(copy, F.getfd), app.fcntl(fd, F.getfd)]).toEqual([10, 1, 0]);
    app.fcntl(fd, F.setfd, 1);
    app.fcntl(copy, F.setfd, 0);
    expect([app.fcntl(copy, F.getfd), app.fcntl(fd, F.getfd)]).toEqual([0, 1]);
    app.fcntl(fd, F.setfl, O.nonblock | O.wronly);
    expect([app.fcntl(copy, F.getfl), app.fcntl(app.fcntl(fd, F.dupfd, 10), F.getfd)]).toEqual([
      O.rdwr | O.nonblock,
      0,
    ]);
    expect(() => app.fcntl(fd, 99)).toThrow(errno('EINVAL'));
    expect(() => app.fcntl(fd, F.dupfd, 1024)).toThrow(errno('EINVAL'));
    expect(() => app.fcntl(fd, F.getSeals)).toThrow(errno('EINVAL'));
    expect(() => app.fcntl(99, F.getfd)).toThrow(errno('EBADF'));
    app.exit();
  });
});

describe('open', () => {
  it('opens what a driver has put at a path, with the flags that belong to the file', () => {
    class Null extends OpenFile {
      readonly path = '/dev/null';
    }
    const { b, app } = scene();
    deviceNodes(b.sim).add('/dev/null', (_process, flags) => new Null(flags));
    const fd = b.sim.run(() => app.open('/dev/null', O.rdonly | O.cloexec));
    expect([fd, app.fcntl(fd, F.getfl), app.fcntl(fd, F.getfd), app.readlink(fd)]).toEqual([3, 0, 1, '/dev/null']);
    expect(() => deviceNodes(b.sim).add('/dev/null', () => new Null())).toThrow(errno('EEXIST'));
    deviceNodes(b.sim).remove('/dev/null');
    expect(() => b.sim.run(() => app.open('/dev/null'))).toThrow(errno('ENOENT'));
    expect(() => deviceNodes(b.sim).remove('/dev/null')).toThrow(errno('ENOENT'));
    app.exit();
  });

  it('keeps no number when the driver refuses, or the program is killed meanwhile', () => {
    const { b, app } = scene();
    deviceNodes(b.sim).add('/dev/slow', function* () {
      yield* b.sim.delay(100);
      throw new Error('never reached');
    });
    const opener = b.sim.spawn('opener', () => app.open('/dev/slow'));
    b.sim.runUntil(50);
    expect(app.fds.reserved).toEqual([3]);
    opener.kill();
    b.sim.run();
    expect([app.fds.open, app.fds.reserved]).toEqual([[], []]);
  });
});

describe('a name of a buffer', () => {
  it.each([DMA_BUF_SET_NAME_A, DMA_BUF_SET_NAME_B])('request %s sets what fdinfo and the link show', (request) => {
    const { b, app } = scene();
    const fd = app.fds.install(b.fakeBuffer(), { cloexec: true });
    const set = (name: string) => b.sim.run(() => app.ioctl(fd, request, name));
    expect(app.fdinfo(fd).filter((line) => line.startsWith('name'))).toEqual([]);
    set('');
    expect([app.fdinfo(fd).at(-1), app.readlink(fd)]).toEqual(['name:\t', '/dmabuf:']);
    set('é'.repeat(15));
    expect(() => set('é'.repeat(16))).toThrow(errno('EINVAL'));
    expect([app.fdinfo(fd).at(-1), app.readlink(fd)]).toEqual([
      `name:\t${'é'.repeat(15)}`,
      `/dmabuf:${'é'.repeat(15)}`,
    ]);
    const bytes = new Uint8Array(20).fill(65);
    expect(() => b.sim.run(() => app.ioctl(fd, request, bytes))).toThrow(errno('EFAULT'));
    expect(() => app.fdinfo(77)).toThrow(errno('ENOENT'));
    app.exit();
  });
});

describe('files that lack a call', () => {
  it('answer as Linux does', () => {
    const { b, app } = scene();
    const fd = app.fds.install(b.fakeBuffer());
    const run = (body: () => unknown) => () => b.sim.run(body);
    const bytes = new Uint8Array(4);
    expect(run(() => app.read(fd, 4))).toThrow(errno('EINVAL'));
    expect(run(() => app.write(fd, bytes))).toThrow(errno('EINVAL'));
    expect(run(() => app.pread(fd, 4, 0))).toThrow(errno('ESPIPE'));
    expect(() => app.ftruncate(fd, 0)).toThrow(errno('EINVAL'));
    expect(() => app.fallocate(fd, 0, 0, 1)).toThrow(errno('ENODEV'));
    expect(() => app.fsync(fd)).toThrow(errno('EINVAL'));
    expect(() => app.reopen(fd)).toThrow(errno('ENXIO'));
    expect(app.fstat(fd)).toMatchObject({ size: 8192, mode: 0o600, nlink: 1, blocks: 16, blksize: 4096 });
    app.fds.file(fd).flags = O.rdonly;
    expect(run(() => app.write(fd, bytes))).toThrow(errno('EBADF'));
    expect(() => app.fallocate(fd, 0, 0, 1)).toThrow(errno('EBADF'));
    app.fds.file(fd).flags = O.wronly;
    expect(run(() => app.read(fd, 4))).toThrow(errno('EBADF'));
    app.exit();
  });
});

describe('a system call that returns', () => {
  it('is reported when it leaves a lock with its task', () => {
    const { b, app } = scene();
    const lock = new Mutex(b.sim, 'driver lock');
    const fd = app.fds.install(b.fakeBuffer({ beginCpuAccess: () => lock.lock() }));
    let caught: unknown = null;
    b.sim.run(function* () {
      try {
        yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: DMA_BUF_SYNC.read });
      } catch (error) {
        caught = error;
      }
      lock.unlock();
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: DMA_BUF_SYNC.end | DMA_BUF_SYNC.read });
    });
    expect(caught).toBeInstanceOf(HazardError);
    expect(caught).toMatchObject({ hazard: 'syscall.held-at-return' });
    expect(String(caught)).toContain('ioctl returns with driver lock');
    app.exit();
  });

  it('is reported when it leaves a reserved descriptor; not when another call has one at that time', () => {
    class Leaky extends OpenFile {
      readonly path = 'leaky';
      override ioctl(call: IoctlCall): number {
        return call.process.fds.reserve();
      }
    }
    class Slow extends OpenFile {
      readonly path = 'slow';
      override *ioctl({ process }: IoctlCall) {
        const fd = process.fds.reserve();
        yield* process.sim.delay(100);
        process.fds.unreserve(fd);
        return 0;
      }
    }
    const { b, app } = scene();
    const [leaky, slow] = [app.fds.install(new Leaky()), app.fds.install(new Slow())];
    expect(() => b.sim.run(() => app.ioctl(leaky, 0, 0))).toThrow('1 reserved descriptors');
    b.sim.run(function* () {
      const other = b.sim.spawn('other', () => app.ioctl(slow, 0, 0));
      yield* b.sim.delay(10);
      yield* app.poll([], 0);
      yield* other.done;
    });
    app.exit();
  });

  it('has run the release of a buffer that it closed', () => {
    const { b, app } = scene();
    const buf = b.fakeBuffer();
    b.sim.run(function* () {
      yield* app.close(app.fds.install(buf));
      expect([buf.released, buf.priv.calls]).toEqual([true, ['release']]);
    });
  });
});
