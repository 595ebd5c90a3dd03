/** Timelines: points that are reached in order, transfers, and eventfds. */
import { describe, expect, it } from 'vitest';
import { ms, seconds } from '../../src/base/units.ts';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { allocDmaFenceContext } from '../../src/dmabuf/dma-fence-world.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import {
  DRM_IOCTL_SYNCOBJ_DESTROY,
  DRM_IOCTL_SYNCOBJ_EVENTFD,
  DRM_IOCTL_SYNCOBJ_QUERY,
  DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL,
  DRM_IOCTL_SYNCOBJ_TRANSFER,
  DRM_SYNCOBJ,
} from '../../src/uapi/drm-syncobj-requests.ts';
import { POLL } from '../../src/uapi/file.ts';
import { eventfd } from '../../src/uapi/node-setup.ts';
import { Syncobj } from '../../src/uapi/syncobj.ts';
import { array, SyncobjBench, waitAll, waitAvailable, waitForSubmit } from './syncobj-bench.ts';

describe('timelines', () => {
  it('SYT-01: arguments of waits, queries, signals and transfers', () => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    const one = array([handle], 4);
    const point = array([1], 8);
    expect(s.codeOf(() => s.timelineWait([], []))).toBe('');
    expect(s.waitPoint(handle, 1, 0x10)).toBe('EINVAL');
    expect(s.waitPoint(0, 1)).toBe('ENOENT');
    const query = (args: object) => s.codeOf(() => s.app.ioctl(s.client, DRM_IOCTL_SYNCOBJ_QUERY, args));
    expect(query({ handles: one, points: point, count_handles: 0 })).toBe('EINVAL');
    expect(query({ handles: one, points: point, count_handles: 1, flags: 2 })).toBe('EINVAL');
    expect(query({ handles: array([0], 4), points: point, count_handles: 1 })).toBe('ENOENT');
    expect(query({ handles: one, points: null, count_handles: 1 })).toBe('EFAULT');
    const signal = (args: object) => s.codeOf(() => s.app.ioctl(s.client, DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, args));
    expect(signal({ handles: one, points: point, count_handles: 0 })).toBe('EINVAL');
    expect(signal({ handles: one, points: point, count_handles: 1, flags: 1 })).toBe('EINVAL');
    expect(signal({ handles: one, points: point.subarray(0, 4), count_handles: 1 })).toBe('EFAULT');
    s.exit();
  });

  it('SYT-03 host-signal-points: after each of 100 growing points it and the one before are reached', () => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    let value = 1;
    for (let i = 0; i < 100; i++) {
      s.signalPoints([handle], [value]);
      expect([s.query(handle), s.waitPoint(handle, value), s.waitPoint(handle, value - 1)]).toEqual([value, '', '']);
      value += 1 + ((i * 7919) % 1000);
    }
    s.exit();
  });

  it('SYT-04 device-signal-unordered: the value never falls and counts only what everything before has reached', () => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    const fences = [1, 2, 3, 4, 5].map((point) => s.submitPoint(handle, point));
    const values: number[] = [];
    for (const next of [0, 2, 1, 4, 3]) {
      fences[next]?.signal();
      s.b.sim.run();
      const value = s.query(handle);
      values.push(value);
      expect(s.waitPoint(handle, value)).toBe('');
      if (value < 5) expect(s.waitPoint(handle, value + 1)).toBe('ETIME');
    }
    expect(values).toEqual([1, 1, 3, 3, 5]);
    s.exit();
  });

  it('SYT-07 transfer-timeline-point: a binary fence becomes a point, and a point another', () => {
    const s = new SyncobjBench();
    const [binary, timeline] = [s.createSyncobj(), s.createSyncobj()];
    const fence = s.submit(binary);
    expect(s.transfer(binary, 0, timeline, 1)).toBe('');
    expect([s.query(timeline), s.waitPoint(timeline, 1)]).toEqual([0, 'ETIME']);
    fence.signal();
    expect([s.query(timeline), s.waitPoint(timeline, 1)]).toEqual([1, '']);
    s.signalPoints([timeline], [2]);
    expect([s.transfer(timeline, 2, timeline, 3), s.query(timeline)]).toEqual(['', 3]);
    expect([s.transfer(timeline, 3, binary, 0), s.wait([binary])]).toEqual(['', '']);
    s.exit();
  });

  it('SYT-08: a source point that was reached can be transferred; handles and pad are checked', () => {
    const s = new SyncobjBench();
    const [src, dst] = [s.createSyncobj(), s.createSyncobj()];
    s.signalPoints([src], [5]);
    expect([s.transfer(src, 3, dst, 1), s.query(dst)]).toEqual(['', 1]);
    expect([s.transfer(0, 1, dst, 1), s.transfer(src, 1, 0, 1), s.transfer(src, 9, dst, 2)]).toEqual([
      'ENOENT',
      'ENOENT',
      'EINVAL',
    ]);
    const pad = { src_handle: src, dst_handle: dst, src_point: 1, pad: 1 };
    expect(s.codeOf(() => s.app.ioctl(s.client, DRM_IOCTL_SYNCOBJ_TRANSFER, pad))).toBe('EINVAL');
    s.exit();
  });

  it('a transfer can wait for its source, at most 5 s', () => {
    const s = new SyncobjBench();
    const [src, dst] = [s.createSyncobj(), s.createSyncobj()];
    const start = s.b.sim.now;
    expect(s.transfer(src, 1, dst, 1, waitForSubmit)).toBe('ETIME');
    expect(s.b.sim.now - start).toBeGreaterThanOrEqual(seconds(5));
    s.b.sim.after(ms(1), () => {
      s.b.sim.spawn('signal', () => s.signalPointLater(src, 1));
      return undefined;
    });
    expect([s.transfer(src, 1, dst, 1, waitForSubmit), s.query(dst)]).toEqual(['', 1]);
    s.exit();
  });

  it('SYT-09: point 0 from the host ends waits for point 0 and binary ones; a list signals each at its own value', () => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    s.signalPoints([handle], [0]);
    expect([s.waitPoint(handle, 0), s.wait([handle])]).toEqual(['', '']);
    const handles = [s.createSyncobj(), s.createSyncobj(), s.createSyncobj()];
    s.signalPoints(handles, [3, 7, 2 ** 40]);
    expect(handles.map((one) => s.query(one))).toEqual([3, 7, 2 ** 40]);
    s.exit();
  });

  it('the last point that was submitted can be asked for, too', () => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    s.submitPoint(handle, 4);
    expect([s.query(handle), s.query(handle, DRM_SYNCOBJ.lastSubmitted)]).toEqual([0, 4]);
    s.exit();
  });

  it('waiting for a point to be available ends when it is submitted, signalled or not', () => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    expect(s.waitPoint(handle, 1, waitAvailable)).toBe('ETIME');
    s.submitPoint(handle, 2);
    expect([s.waitPoint(handle, 1, waitAvailable), s.waitPoint(handle, 1)]).toEqual(['', 'ETIME']);
    expect(s.waitPoint(handle, 3, waitAvailable | waitForSubmit)).toBe('ETIME');
    s.exit();
  });

  it('waiting for all of several points waits for those that do not exist yet', () => {
    const s = new SyncobjBench();
    const handles = [s.createSyncobj(), s.createSyncobj()];
    const start = s.b.sim.now;
    for (const [i, handle] of handles.entries()) {
      s.b.sim.after(ms(1 + i), () => {
        s.b.sim.spawn(`signal${i}`, () => s.signalPointLater(handle, 5));
        return undefined;
      });
    }
    expect(s.codeOf(() => s.timelineWait(handles, [5, 4], waitAll | waitForSubmit, start + ms(10)))).toBe('');
    expect(s.b.sim.now - start).toBeGreaterThanOrEqual(ms(2));
    s.exit();
  });

  it('a point that is not later than the last begins a new timeline: the value falls back', () => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    const fence = s.submitPoint(handle, 5);
    s.signalPoints([handle], [3]);
    expect([s.query(handle), s.waitPoint(handle, 3)]).toEqual([0, 'ETIME']);
    fence.signal();
    s.b.sim.run();
    expect([s.query(handle), s.waitPoint(handle, 5)]).toEqual([5, '']);
    s.exit();
  });

  it('100000 pending points cost the same each, whether they are added, found, asked for or signalled', () => {
    const COUNT = 100_000;
    const sim = new Simulator();
    const syncobj = new Syncobj(sim);
    const context = allocDmaFenceContext(sim, 'ring');
    const fences = Array.from({ length: COUNT }, (_, i) => new DmaFence(sim, context, i + 1));
    let found = 0;
    for (const [i, fence] of fences.entries()) {
      syncobj.addPoint(fence, i + 1);
      fence.put();
      const at = syncobj.findFence(1 + (i >> 1));
      if (at !== null && !at.isSignaled()) found++;
      at?.put();
    }
    expect([found, syncobj.submitted(), syncobj.reached()]).toEqual([COUNT, COUNT, 0]);
    for (const [i, fence] of fences.entries()) {
      fence.signal();
      if (syncobj.reached() !== i + 1) throw new Error(`point ${i + 1} is not reached`);
    }
    syncobj.put();
    expect(fences.every((fence) => fence.refs === 0)).toBe(true);
  });
});

describe('eventfds', () => {
  const raised = (s: SyncobjBench, fd: number): boolean => {
    const request = { fd, events: POLL.in, revents: 0 };
    s.run(() => s.app.poll([request], 0));
    return request.revents === POLL.in;
  };

  it('SYE-01: bad flags, handle 0, an fd that is no eventfd, a pad', () => {
    const s = new SyncobjBench();
    const [handle, fd] = [s.createSyncobj(), eventfd(s.app)];
    const ask = (change: object) =>
      s.codeOf(() => s.app.ioctl(s.client, DRM_IOCTL_SYNCOBJ_EVENTFD, { handle, fd, point: 0, ...change }));
    expect([ask({ flags: 1 }), ask({ handle: 0 }), ask({ fd: s.client }), ask({ pad: 1 }), ask({ fd: 99 })]).toEqual([
      'EINVAL',
      'ENOENT',
      'EINVAL',
      'EINVAL',
      'EBADF',
    ]);
    s.exit();
  });

  it.each([0, 6])('SYE-02 wait: point %s: available at once, reached when its fence signals', (point) => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    const [reached, available] = [eventfd(s.app), eventfd(s.app)];
    const fence = point === 0 ? s.submit(handle) : s.submitPoint(handle, point);
    s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_EVENTFD, { handle, point, fd: reached });
    s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_EVENTFD, { handle, point, fd: available, flags: waitAvailable });
    expect([raised(s, reached), raised(s, available)]).toEqual([false, true]);
    fence.signal();
    s.b.sim.run();
    expect(raised(s, reached)).toBe(true);
    s.exit();
  });

  it('one for a point that does not exist yet is raised when that comes, and forgotten with the object', () => {
    const s = new SyncobjBench();
    const [handle, other] = [s.createSyncobj(), s.createSyncobj()];
    const [fd, never] = [eventfd(s.app), eventfd(s.app)];
    s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_EVENTFD, { handle, point: 2, fd });
    s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_EVENTFD, { handle: other, point: 2, fd: never });
    s.signalPoints([handle], [1]);
    expect(raised(s, fd)).toBe(false);
    s.signalPoints([handle], [2]);
    expect(raised(s, fd)).toBe(true);
    s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_DESTROY, { handle: other });
    expect([raised(s, never), s.app.fds.file(never).references]).toEqual([false, 1]);
    s.exit();
  });

  it.each([0, 6])('SYE-04 wait-signaled: point %s that was reached raises both at once', (point) => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    if (point === 0) s.signal([handle]);
    else s.signalPoints([handle], [point]);
    for (const flags of [0, waitAvailable]) {
      const fd = eventfd(s.app);
      s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_EVENTFD, { handle, point, fd, flags });
      expect(raised(s, fd)).toBe(true);
    }
    s.exit();
  });

  it('a counter is taken by reading it, one by one as a semaphore; an empty one waits or is EAGAIN', () => {
    const s = new SyncobjBench();
    const NONBLOCK = 0o4000;
    const [counter, semaphore] = [eventfd(s.app, 3, NONBLOCK), eventfd(s.app, 2, NONBLOCK | 1)];
    const read = (fd: number) => s.run(() => s.app.read(fd, 8))[0];
    expect([read(counter), read(semaphore), read(semaphore)]).toEqual([3, 1, 1]);
    expect(s.codeOf(() => s.app.read(counter, 8))).toBe('EAGAIN');
    expect(s.codeOf(() => s.app.read(counter, 7))).toBe('EINVAL');
    expect(s.codeOf(() => s.app.write(counter, new Uint8Array(8).fill(0xff)))).toBe('EINVAL');
    const blocking = eventfd(s.app);
    s.b.sim.spawn('writer', function* () {
      yield* s.b.sim.delay(ms(1));
      yield* s.app.write(blocking, array([7], 8));
    });
    expect(read(blocking)).toBe(7);
    s.exit();
  });
});
