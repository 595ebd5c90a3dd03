import { describe, expect, it } from 'vitest';
import { POLL } from '../../src/uapi/file.ts';
import { SW_SYNC_IOC_INC } from '../../src/uapi/sw-sync.ts';
import { bench, errno, pattern } from '../bench.ts';
import { MS, openTimeline, wait } from './user.ts';

const TEXT = Uint8Array.of(1, 2, 3);

/** Two processes, a parent and its child, with a socket between them. */
function scene(maxFds = 64) {
  const b = bench();
  const parent = b.machine.addProcess({ name: 'parent', maxFds });
  const [here, there] = parent.socketpair();
  const child = parent.fork('child');
  parent.fds.close(there);
  child.fds.close(here);
  return { b, parent, child, here, there };
}

describe('a socket', () => {
  it('passes a buffer to another process: same file, a number of its own, and the sender may close', () => {
    const { b, parent, child, here, there } = scene();
    const buf = b.fakeBuffer();
    b.sim.run(function* () {
      const fd = parent.fds.install(buf);
      const mapping = yield* parent.mmap(fd);
      mapping.write(0, pattern(16));
      parent.sendmsg(here, { bytes: TEXT, fds: [fd] });
      mapping.munmap();
      yield* parent.close(fd);
      expect([buf.references, buf.released]).toEqual([1, false]);
      const message = yield* child.recvmsg(there);
      expect([message.bytes, message.fds, message.isControlCut]).toEqual([TEXT, [3], false]);
      const seen = yield* child.mmap(3);
      expect(seen.read(0, 16)).toEqual(pattern(16));
      yield* child.kill();
      expect([buf.references, buf.released]).toEqual([0, true]);
      yield* parent.kill();
    });
  });

  it('lets another process move a timeline on whose descriptor it was sent', () => {
    const { b, parent, child, here, there } = scene();
    b.sim.run(function* () {
      const timeline = yield* openTimeline(parent);
      const fence = yield* timeline.fence(1);
      parent.sendmsg(here, { bytes: TEXT, fds: [timeline.fd] });
      b.sim.spawn('child', function* () {
        const { fds } = yield* child.recvmsg(there);
        yield* b.sim.delay(1000 * MS);
        yield* child.ioctl(fds[0] ?? -1, SW_SYNC_IOC_INC, { value: 1 });
        yield* child.kill();
      });
      expect(yield* wait(parent, fence, 0)).toBe(false);
      expect(yield* wait(parent, fence, 2000 * MS)).toBe(true);
      yield* parent.kill();
    });
  });

  it('waits for a message, keeps their order and bounds, and ends with an empty one when the other side is closed', () => {
    const { b, parent, child, here, there } = scene();
    b.sim.run(function* () {
      const receiver = b.sim.spawn('receiver', () => child.recvmsg(there));
      yield* b.sim.delay(1000);
      expect(receiver.outcome).toBe(null);
      for (const byte of [1, 2]) parent.sendmsg(here, { bytes: Uint8Array.of(byte, 9) });
      expect((yield* receiver.done).bytes).toEqual(Uint8Array.of(1, 9));
      expect((yield* child.recvmsg(there, { maxBytes: 1 })).bytes).toEqual(Uint8Array.of(2));
      yield* parent.close(here);
      expect(yield* child.recvmsg(there)).toEqual({ bytes: new Uint8Array(), fds: [], isControlCut: false });
      expect(() => child.sendmsg(there, { bytes: TEXT })).toThrow(errno('EPIPE'));
      yield* child.kill();
    });
  });

  it('closes what the receiver has no room for, and says so', () => {
    const { b, parent, child, here, there } = scene(6);
    const bufs = [b.fakeBuffer(), b.fakeBuffer({}, 4096, 'two'), b.fakeBuffer({}, 4096, 'three')];
    b.sim.run(function* () {
      const send = () => {
        for (const buf of bufs) {
          const fd = parent.fds.install(buf.get());
          parent.sendmsg(here, { bytes: TEXT, fds: [fd, fd] });
          parent.fds.close(fd);
        }
      };
      send();
      const first = yield* child.recvmsg(there, { maxFds: 1, cloexec: true });
      expect([first.fds, first.isControlCut, child.fds.isCloexec(3)]).toEqual([[3], true, true]);
      expect((yield* child.recvmsg(there)).fds).toEqual([5]);
      expect((yield* child.recvmsg(there)).fds).toEqual([]);
      yield* child.kill();
      for (const buf of bufs) expect(buf.references).toBe(1);
      for (const buf of bufs) buf.put();
      yield* parent.kill();
    });
  });

  it('gives back what is on its way when it is closed', () => {
    const { b, parent, child, here } = scene();
    const buf = b.fakeBuffer();
    b.sim.run(function* () {
      const fd = parent.fds.install(buf);
      parent.sendmsg(here, { bytes: TEXT, fds: [fd] });
      yield* parent.close(fd);
      expect(buf.references).toBe(1);
      yield* child.kill();
      expect(buf.released).toBe(true);
      yield* parent.kill();
    });
  });

  it('sends nothing when a descriptor is not open, or there are too many', () => {
    const { b, parent, child, here, there } = scene();
    const fd = parent.fds.install(b.fakeBuffer());
    expect(() => parent.sendmsg(here, { bytes: TEXT, fds: [fd, 50] })).toThrow(errno('EBADF'));
    expect(() => parent.sendmsg(here, { bytes: TEXT, fds: Array(254).fill(fd) })).toThrow(errno('EINVAL'));
    expect(() => parent.sendmsg(fd, { bytes: TEXT })).toThrow(errno('ENOTSOCK'));
    const request = { fd: there, events: POLL.in, revents: 0 };
    expect(b.sim.run(() => child.poll([request], 0))).toBe(0);
    for (const process of [parent, child]) process.exit();
  });

  it('answers EAGAIN instead of waiting when it was made so, and tells poll of messages and of the end', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'app' });
    const [one, two] = app.socketpair({ nonblock: true, cloexec: true });
    expect(() => b.sim.run(() => app.recvmsg(one))).toThrow(errno('EAGAIN'));
    const poll = () => {
      const request = { fd: one, events: POLL.in, revents: 0 };
      b.sim.run(() => app.poll([request], 0));
      return request.revents;
    };
    expect(poll()).toBe(0);
    app.sendmsg(two, { bytes: TEXT });
    expect(poll()).toBe(POLL.in);
    app.exec();
    expect(app.fds.open).toEqual([]);
  });

  it('needs two free descriptors, and takes none when there is only one', () => {
    const app = bench().machine.addProcess({ name: 'app', maxFds: 4 });
    expect(() => app.socketpair()).toThrow(errno('EMFILE'));
    expect([app.fds.open, app.fds.reserved]).toEqual([[], []]);
  });
});
