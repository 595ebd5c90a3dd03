/** Fences as descriptors: how a driver hands one out, and how one that is left is named. */
import { describe, expect, it } from 'vitest';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { allocDmaFenceContext, countLiveDmaFences } from '../../src/dmabuf/dma-fence-world.ts';
import { memoryUsage } from '../../src/uapi/accounting.ts';
import { SYNC_IOC_FILE_INFO, SYNC_IOC_SET_DEADLINE } from '../../src/uapi/fence-file.ts';
import { describeLeftSyncFiles } from '../../src/uapi/sync-file-usage.ts';
import { type Bench, bench, errno } from '../bench.ts';
import { exportSyncFile, importSyncFile, merge, openTimeline, wait } from './user.ts';

function scene(maxFds = 64) {
  const b = bench();
  const app = b.machine.addProcess({ name: 'app', maxFds });
  const context = allocDmaFenceContext(b.sim, 'gpu0');
  const submit = (seqno: number) => new DmaFence(b.sim, context, seqno);
  return { b, app, submit };
}

function left(b: Bench): string[] {
  return describeLeftSyncFiles(memoryUsage(b.sim, b.machine.processes));
}

describe('Process.installFence', () => {
  it('gives the process a descriptor that it polls, merges and asks like any sync file', () => {
    const { b, app, submit } = scene();
    const fence = submit(1);
    const fd = app.installFence(fence, { name: 'blit' });
    expect([app.readlink(fd), app.fds.isCloexec(fd)]).toEqual(['anon_inode:sync_file', true]);
    b.sim.run(function* () {
      expect(yield* wait(app, fd, 1000)).toBe(false);
      const waiting = app.spawn('waiter', () => wait(app, fd));
      yield* b.sim.delay(1000);
      fence.signal();
      expect(yield* waiting.done).toBe(true);
      const { name, status } = yield* app.ioctl(fd, SYNC_IOC_FILE_INFO, {});
      expect([name, status]).toEqual(['blit', 1]);
    });
    app.exit();
    fence.put();
    expect(countLiveDmaFences(b.sim)).toBe(0);
  });

  it('keeps a reference of its own, until the last descriptor is closed', () => {
    const { b, app, submit } = scene();
    const fence = submit(1);
    const fd = app.installFence(fence, { cloexec: false });
    const copy = app.fds.dup(fd);
    expect(app.fds.isCloexec(fd)).toBe(false);
    fence.signal();
    fence.put();
    app.fds.close(fd);
    expect(countLiveDmaFences(b.sim)).toBe(1);
    app.fds.close(copy);
    expect(countLiveDmaFences(b.sim)).toBe(0);
  });

  it('leaves nothing when there is no descriptor for it', () => {
    const { b, app, submit } = scene(3);
    const fence = submit(1);
    expect(() => app.installFence(fence)).toThrow(errno('EMFILE'));
    expect(() => app.installFence({} as DmaFence, { call: 'BLIT' })).toThrow('fence of BLIT is no DmaFence');
    expect(app.fds.reserved).toEqual([]);
    fence.signal();
    fence.put();
    expect(countLiveDmaFences(b.sim)).toBe(0);
  });
});

describe('SYNC_IOC_SET_DEADLINE', () => {
  it('N-06: tells the driver of every fence that is pending, and of no other, by when somebody would like it', () => {
    const { b, app } = scene();
    const wishes: string[] = [];
    const ops = {
      setDeadline: ({ name }: DmaFence, ns: number): undefined => {
        wishes.push(`${name} by ${ns}`);
      },
    };
    const fences = ['gpu0', 'display0', 'video0'].map(
      (name) => new DmaFence(b.sim, allocDmaFenceContext(b.sim, name), 1, ops),
    );
    const [one = -1, two = -1, three = -1] = fences.map((fence) => app.installFence(fence));
    b.sim.run(function* () {
      const all = yield* merge(app, yield* merge(app, one, two), three);
      fences[1]?.signal();
      // 2^64 - 1 has passed long ago to the kernel; 2^62 is later than any clock shows.
      for (const deadline_ns of [5000, -1, 2 ** 62]) {
        wishes.length = 0;
        yield* app.ioctl(all, SYNC_IOC_SET_DEADLINE, { deadline_ns });
        const ns = deadline_ns === 5000 ? 5000 : deadline_ns < 0 ? 0 : Number.MAX_SAFE_INTEGER;
        expect(wishes).toEqual([`gpu0:1 by ${ns}`, `video0:1 by ${ns}`]);
      }
      yield* app.kill();
    });
    for (const fence of fences) {
      if (!fence.signaled) fence.signal();
      fence.put();
    }
    expect(countLiveDmaFences(b.sim)).toBe(0);
  });
});

describe('a sync file that is left', () => {
  it('is named: which fence, its state, who made it with which call and when, who keeps it', () => {
    const { b, app, submit } = scene();
    const fence = submit(7);
    b.sim.run(function* () {
      yield* b.sim.delay(2000);
      const fd = app.installFence(fence, { call: 'GPU_SUBMIT' });
      app.fds.dup(fd);
      app.fork('child');
    });
    expect(left(b)).toEqual([
      `sync file gpu0-gpu0${fence.context.id}-7: fence gpu0:7, pending, made by app with GPU_SUBMIT at 2000 ns, kept by app (fd 3, 4); child (fd 3, 4)`,
    ]);
    fence.setError('EIO');
    fence.signal();
    expect(left(b)[0]).toContain('fence gpu0:7, failed with -5, made by app');
    for (const process of b.machine.processes) process.exit();
    expect(left(b)).toEqual([]);
    fence.put();
  });

  it('is named with the request that made it: of a timeline, a buffer, a merge', () => {
    const { b, app } = scene();
    b.sim.run(function* () {
      const timeline = yield* openTimeline(app);
      const [one, two] = [yield* timeline.fence(1), yield* (yield* openTimeline(app)).fence(1)];
      yield* merge(app, one, two);
      const buf = app.fds.install(b.fakeBuffer());
      yield* importSyncFile(app, buf, DMA_BUF_SYNC.write, one);
      yield* exportSyncFile(app, buf, DMA_BUF_SYNC.read);
      const calls = memoryUsage(b.sim, [app]).syncFiles.map(({ maker, fences }) => [maker?.call, fences.length]);
      expect(calls).toEqual([
        ['SW_SYNC_IOC_CREATE_FENCE', 1],
        ['SW_SYNC_IOC_CREATE_FENCE', 1],
        ['SYNC_IOC_MERGE', 2],
        ['DMA_BUF_IOCTL_EXPORT_SYNC_FILE', 1],
      ]);
      yield* app.kill();
    });
  });

  it('is found in a message that nobody has received', () => {
    const { b, app, submit } = scene();
    const fence = submit(1);
    const [one] = app.socketpair();
    const fd = app.installFence(fence);
    app.sendmsg(one, { bytes: Uint8Array.of(1), fds: [fd] });
    app.fds.close(fd);
    expect(left(b)).toEqual([expect.stringMatching(/fence gpu0:1, pending, .*, kept by 1 message\(s\) or call\(s\)$/)]);
    app.exit();
    fence.signal();
    fence.put();
  });
});
