/** Binary sync objects: making, exchanging and waiting. */
import { describe, expect, it } from 'vitest';
import { ms } from '../../src/base/units.ts';
import { vgemDriver } from '../../src/uapi/drm-device.ts';
import {
  DRM_IOCTL_SYNCOBJ_CREATE,
  DRM_IOCTL_SYNCOBJ_DESTROY,
  DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE,
  DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD,
  DRM_IOCTL_SYNCOBJ_RESET,
  DRM_IOCTL_SYNCOBJ_WAIT,
  DRM_SYNCOBJ,
} from '../../src/uapi/drm-syncobj-requests.ts';
import type { Fields, IoctlRequest } from '../../src/uapi/ioctl.ts';
import { array, SyncobjBench, waitAll, waitDeadline, waitForSubmit } from './syncobj-bench.ts';

const FOREVER = Number.MAX_SAFE_INTEGER;
const STATES = ['none', 'pending', 'signalled'] as const;
type State = (typeof STATES)[number];
const MIXES = [0, waitAll, waitForSubmit, waitAll | waitForSubmit];

function inState(s: SyncobjBench, state: State): number {
  const handle = s.createSyncobj();
  if (state === 'pending') s.submit(handle);
  if (state === 'signalled') s.signal([handle]);
  return handle;
}

/** What a wait for objects in `states` ends with when nothing changes. */
function expected(states: readonly State[], flags: number): string {
  if (states.includes('none') && (flags & waitForSubmit) === 0) return 'EINVAL';
  const done = states.filter((state) => state === 'signalled').length;
  return (flags & waitAll) !== 0 ? (done === states.length ? '' : 'ETIME') : done > 0 ? '' : 'ETIME';
}

describe('sync objects', () => {
  it.each([
    ['bad-destroy', DRM_IOCTL_SYNCOBJ_DESTROY, { handle: 9 }],
    ['bad-destroy-pad', DRM_IOCTL_SYNCOBJ_DESTROY, { handle: 1, pad: 1 }],
    ['bad-create-flags', DRM_IOCTL_SYNCOBJ_CREATE, { flags: 2 }],
    ['bad handle-to-fd', DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle: 9 }],
    ['bad handle-to-fd flags', DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle: 1, flags: 2 }],
    ['bad handle-to-fd pad', DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle: 1, pad: 1 }],
    ['sync file of an object that holds nothing', DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle: 1, flags: 1 }],
    ['fd that is not open', DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { fd: 99 }],
    ['fd that is no sync object', DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { fd: 0 }],
    ['fd that is no sync file', DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { handle: 1, fd: 0, flags: 1 }],
    ['no objects to reset', DRM_IOCTL_SYNCOBJ_RESET, { count_handles: 0 }],
  ])('SYB-01: %s is EINVAL', (_what, request, args) => {
    const s = new SyncobjBench();
    s.createSyncobj();
    expect(() => s.ioctl(s.client, request as IoctlRequest<Fields>, args as Record<string, number>)).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
    s.exit();
  });

  it('SYB-03 create-signaled: one that was made signalled is ready at once', () => {
    const s = new SyncobjBench();
    expect(s.wait([s.createSyncobj(DRM_SYNCOBJ.createSignaled)])).toBe('');
    s.exit();
  });

  it('a driver without them answers EOPNOTSUPP', () => {
    const s = new SyncobjBench();
    const client = s.open(s.device(vgemDriver));
    expect(s.codeOf(() => s.app.ioctl(client, DRM_IOCTL_SYNCOBJ_CREATE, {}))).toBe('EOPNOTSUPP');
    s.exit();
  });

  it('one that is passed by descriptor is the same object', () => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    const { fd } = s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle });
    const { handle: other } = s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { fd });
    expect(other).not.toBe(handle);
    s.signal([handle]);
    s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_DESTROY, { handle });
    expect(s.wait([other])).toBe('');
    s.exit();
  });

  it('a sync file of it is a snapshot, and can be put into another', () => {
    const s = new SyncobjBench();
    const [one, other] = [s.createSyncobj(), s.createSyncobj()];
    const fence = s.submit(one);
    const { fd } = s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle: one, flags: DRM_SYNCOBJ.syncFile });
    s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { handle: other, fd, flags: DRM_SYNCOBJ.syncFile });
    s.reset([one]);
    expect([s.wait([one]), s.wait([other])]).toEqual(['EINVAL', 'ETIME']);
    fence.signal();
    expect(s.wait([other])).toBe('');
    s.exit();
  });
});

describe('waiting', () => {
  it('SYW-01: bad flags are EINVAL, no handles succeed, handle 0 is ENOENT, no memory is EFAULT', () => {
    const s = new SyncobjBench();
    expect([s.wait([], 0x10), s.wait([]), s.wait([0])]).toEqual(['EINVAL', '', 'ENOENT']);
    expect(s.codeOf(() => s.app.ioctl(s.client, DRM_IOCTL_SYNCOBJ_WAIT, { handles: null, count_handles: 1 }))).toBe(
      'EFAULT',
    );
    s.exit();
  });

  it.each(STATES.flatMap((state) => MIXES.map((flags) => [state, flags] as const)))(
    'SYW-03: one in state %s, flags %s',
    (state, flags) => {
      const s = new SyncobjBench();
      const result = expected([state], flags);
      for (const timeout of [0, ms(1), ...(result === 'ETIME' ? [] : [FOREVER])]) {
        const handle = inState(s, state);
        expect(s.wait([handle], flags, timeout === FOREVER ? FOREVER : s.b.sim.now + timeout)).toBe(result);
      }
      s.exit();
    },
  );

  it.each(MIXES)('SYW-04: three in any mix of states, flags %s', (flags) => {
    const s = new SyncobjBench();
    for (const a of STATES)
      for (const b of STATES)
        for (const c of STATES) {
          const handles = [a, b, c].map((state) => inState(s, state));
          expect([a, b, c, s.wait(handles, flags)]).toEqual([a, b, c, expected([a, b, c], flags)]);
        }
    s.exit();
  });

  it.each(MIXES)('SYW-05: what is signalled or submitted meanwhile ends the wait, flags %s', (flags) => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    const isSubmitted = (flags & waitForSubmit) === 0;
    const fence = isSubmitted ? s.submit(handle) : null;
    const start = s.b.sim.now;
    s.b.sim.after(ms(1), () => {
      if (fence !== null) fence.signal();
      else s.b.sim.spawn('signal', () => s.signalLater(handle));
      return undefined;
    });
    expect(s.wait([handle], flags, start + ms(2))).toBe('');
    expect(s.b.sim.now - start).toBeLessThan(ms(1.5));
    s.exit();
  });

  it('a wait for submission goes on with what was submitted', () => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    const fence = s.fence();
    const source = s.createSyncobj();
    s.b.sim.spawn('submit', function* () {
      yield* s.b.sim.delay(ms(1));
      yield* s.putFence(source, fence);
      yield* s.transferOp(source, 0, handle, 0);
      yield* s.b.sim.delay(ms(1));
      fence.signal();
    });
    const start = s.b.sim.now;
    expect(s.wait([handle], waitForSubmit, start + ms(5))).toBe('');
    expect(s.b.sim.now - start).toBeGreaterThanOrEqual(ms(2));
    s.exit();
  });

  it('SYW-06: after a reset there is nothing to wait for', () => {
    const s = new SyncobjBench();
    const handles = STATES.map((state) => inState(s, state));
    s.reset(handles);
    for (const handle of handles) expect(s.wait([handle])).toBe('EINVAL');
    expect(s.wait(handles)).toBe('EINVAL');
    s.exit();
  });

  it('SYW-08: signalling from the CPU ends both kinds of wait', () => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    expect([s.wait([handle]), s.wait([handle], waitForSubmit)]).toEqual(['EINVAL', 'ETIME']);
    s.signal([handle]);
    expect([s.wait([handle]), s.wait([handle], waitForSubmit)]).toEqual(['', '']);
    s.exit();
  });

  it('SYW-11: a waiter that signals interrupt again and again ends with ETIME, never early with success', () => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    s.submit(handle);
    const until = s.b.sim.now + ms(10);
    for (let i = 1; i <= 9; i++) {
      s.b.sim.after(ms(i), () => {
        s.app.interrupt();
        return undefined;
      });
    }
    const results: string[] = [];
    do results.push(s.wait([handle], 0, until));
    while (results.at(-1) === 'EINTR');
    expect(results).toEqual([...Array.from({ length: 9 }, () => 'EINTR'), 'ETIME']);
    expect(s.b.sim.now).toBeGreaterThanOrEqual(until);
    s.exit();
  });

  it('tells which was first', () => {
    const s = new SyncobjBench();
    const handles = [s.createSyncobj(), s.createSyncobj(), s.createSyncobj()];
    for (const handle of handles) s.submit(handle);
    s.fences[1]?.signal();
    const args = { handles: array(handles, 4), count_handles: 3 };
    expect(s.ioctl(s.client, DRM_IOCTL_SYNCOBJ_WAIT, args).first_signaled).toBe(1);
    s.exit();
  });

  it.each([
    [12345, 12345],
    [-1, 0],
    [2 ** 62, Number.MAX_SAFE_INTEGER],
  ])('N-06: a wait can tell the driver that it would like it signalled by %s', (deadline, told) => {
    const s = new SyncobjBench();
    const handle = s.createSyncobj();
    const wishes: number[] = [];
    const fence = s.fenceWith({
      setDeadline: (_fence, ns) => {
        wishes.push(ns);
      },
    });
    s.run(() => s.putFence(handle, fence));
    const args = { handles: array([handle], 4), count_handles: 1, flags: waitDeadline, deadline_nsec: deadline };
    expect(s.codeOf(() => s.app.ioctl(s.client, DRM_IOCTL_SYNCOBJ_WAIT, args))).toBe('ETIME');
    expect(wishes).toEqual([told]);
    s.exit();
  });
});
