/**
 * Every order in which tasks that are ready at one instant can run, for races that real drivers have lost. Each race stands beside a
 * form with a mistake that drivers have made: some order must show it, or exploring proves nothing.
 */
import { describe, expect, it } from 'vitest';
import { exportDmaBuf } from '../../src/dmabuf/dma-buf.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import { lift, type Op } from '../../src/sim/op.ts';
import { WaitQueue } from '../../src/sim/wait-queue.ts';
import { DmaBufFile } from '../../src/uapi/dma-buf-file.ts';
import { DrmFile } from '../../src/uapi/drm-file.ts';
import { DRM_IOCTL_GEM_CLOSE } from '../../src/uapi/drm-ioctl.ts';
import {
  DRM_IOCTL_SYNCOBJ_CREATE,
  DRM_IOCTL_SYNCOBJ_SIGNAL,
  DRM_IOCTL_SYNCOBJ_WAIT,
  DRM_SYNCOBJ,
} from '../../src/uapi/drm-syncobj-requests.ts';
import { POLL } from '../../src/uapi/file.ts';
import { struct } from '../../src/uapi/ioctl.ts';
import type { Process } from '../../src/uapi/process.ts';
import { SW_SYNC_IOC_INC, SW_SYNC_PATH } from '../../src/uapi/sw-sync.ts';
import { explore, judge, pause, type Race } from './races.ts';
import { allocBuffer, CARDS, createDumb, fdToHandle, fenceAt, handleToFd, outcome, type System } from './system.ts';

const NEVER_NS = 2 ** 53;
const HANDLE = struct({ handle: 'u32' });

/** Two processes with one card each, and one object of the first, exported to both. */
function* shared(one: Process, two: Process, cards: readonly [string, string] = CARDS) {
  const [card1, card2] = [yield* one.open(cards[0]), yield* two.open(cards[1])];
  const handle = yield* createDumb(one, card1);
  const fd = yield* handleToFd(one, card1, handle);
  const fd2 = two.fds.install(one.fds.get(fd));
  return { card1, card2, handle, fd, fd2 };
}

describe('closing a descriptor while it is imported', () => {
  const race =
    (importing: (system: System, process: Process, card: number, fd: number) => Op<unknown>): Race =>
    ({ system, one, two }) => {
      const { sim } = system;
      const { card1, card2, handle, fd, fd2 } = sim.run(() => shared(one, two));
      let imported = '';
      sim.spawn('import', function* () {
        imported = yield* outcome(() => importing(system, two, card2, fd2));
      });
      sim.spawn('close', function* () {
        yield* pause(system);
        yield* two.close(fd2);
      });
      sim.spawn('last', function* () {
        yield* one.ioctl(card1, DRM_IOCTL_GEM_CLOSE, { handle });
        yield* one.close(fd);
      });
      sim.run();
      expect(['ok', 'EBADF']).toContain(imported);
      const client = two.fds.file(card2);
      expect(client instanceof DrmFile ? client.handles : []).toEqual(imported === 'ok' ? [1] : []);
    };

  it('imports the buffer or finds no descriptor, in every order', () => {
    const seen = explore(
      race(function* (system, process, card, fd) {
        yield* pause(system);
        yield* fdToHandle(process, card, fd);
      }),
    );
    expect(seen).toBeGreaterThan(5);
  });

  it('finds an importer that looks the buffer up and takes its reference later', () => {
    const { wrong, right } = judge(
      race(function* (system, process, card, fd) {
        const file = process.fds.file(fd);
        yield* pause(system);
        yield* pause(system);
        const client = process.fds.file(card);
        if (file instanceof DmaBufFile && client instanceof DrmFile) yield* client.importBuf(file.buf);
      }),
    );
    expect(wrong.join()).toMatch(/last (put|reference)/);
    expect(right).toBeGreaterThan(0);
  });
});

describe('closing a handle while it is exported', () => {
  const race =
    (exporting: (system: System, process: Process, card: number, handle: number) => Op<unknown>): Race =>
    ({ system, one }) => {
      const { sim } = system;
      const card = sim.run(() => one.open(CARDS[0]));
      const handle = sim.run(() => createDumb(one, card));
      let exported = '';
      sim.spawn('export', function* () {
        yield* pause(system);
        exported = yield* outcome(() => exporting(system, one, card, handle));
      });
      sim.spawn('close', function* () {
        yield* pause(system);
        yield* one.ioctl(card, DRM_IOCTL_GEM_CLOSE, { handle });
      });
      sim.run();
      expect(['ok', 'ENOENT']).toContain(exported);
    };

  it('exports the object or finds no handle, in every order', () => {
    const outcomes = explore(race((_system, process, card, handle) => handleToFd(process, card, handle)));
    expect(outcomes).toBeGreaterThan(1);
  });

  it('finds an exporter that looks the object up and takes its reference later', () => {
    const { wrong, right } = judge(
      race(function* (system, process, card, handle) {
        const client = process.fds.file(card);
        if (!(client instanceof DrmFile)) return;
        const object = client.object(handle);
        yield* pause(system);
        const ops = { mapDmaBuf: () => object.memory(), unmapDmaBuf() {}, release: () => object.put() };
        const priv = object.get();
        process.fds.install(
          exportDmaBuf(system.sim, { exporterName: 'late', name: 'late', sizeBytes: 4096, ops, priv }),
        );
      }),
    );
    expect(wrong.join()).toMatch(/get after its last put/);
    expect(right).toBeGreaterThan(0);
  });
});

describe('forking while another thread closes', () => {
  const race =
    (fork: (system: System, process: Process) => Op<Process>): Race =>
    ({ system, one }) => {
      const { sim } = system;
      const fds = sim.run(function* () {
        return [yield* allocBuffer(one), yield* allocBuffer(one)];
      });
      const forked = sim.spawn('fork', function* () {
        yield* pause(system);
        const child = yield* fork(system, one);
        for (const fd of child.fds.open) expect(child.fds.file(fd).references).toBeGreaterThan(0);
        child.exit();
      });
      sim.spawn('close', function* () {
        for (const fd of fds) {
          yield* pause(system);
          yield* one.close(fd);
        }
      });
      sim.run();
      expect(forked.outcome).toBe('returned');
    };

  // biome-ignore lint/correctness/useYield: stands beside a fork that waits
  const whole = function* (_system: System, process: Process): Op<Process> {
    return process.fork('child');
  };

  it('gives the child what is open, with references of its own, in every order', () => {
    expect(explore(race(whole))).toBeGreaterThan(2);
  });

  it('finds a fork that copies the table before it takes the references', () => {
    const { wrong, right } = judge(
      race(function* (system, process) {
        const files = process.fds.open.map((fd) => process.fds.file(fd));
        yield* pause(system);
        const child = system.machine.addProcess({ name: 'child' });
        for (const file of files) child.fds.install(file.get());
        return child;
      }),
    );
    expect(wrong.join()).toMatch(/last (put|reference)|was released/);
    expect(right).toBeGreaterThan(0);
  });
});

describe('polling while the fence signals', () => {
  type Poll = (system: System, process: Process, fd: number) => Op<unknown>;
  const race =
    (poll: Poll, waitFor: 'sync file' | 'buffer'): Race =>
    ({ system, one }) => {
      const { sim } = system;
      const { timeline, fence, buffer } = sim.run(function* () {
        const timeline = yield* one.open(SW_SYNC_PATH);
        return { timeline, fence: yield* fenceAt(one, timeline, 1), buffer: yield* allocBuffer(one) };
      });
      const pending = waitFor === 'buffer' ? attachPending(system, one, buffer) : null;
      const polled = sim.spawn('poll', function* () {
        yield* pause(system);
        yield* poll(system, one, waitFor === 'buffer' ? buffer : fence);
      });
      sim.spawn('signal', function* () {
        yield* pause(system);
        yield* pause(system);
        if (pending === null) yield* one.ioctl(timeline, SW_SYNC_IOC_INC, { value: 1 });
        else pending();
      });
      sim.run();
      expect(polled.outcome).toBe('returned');
    };

  const whole: Poll = function* (_system, process, fd) {
    const request = { fd, events: POLL.in, revents: 0 };
    yield* process.poll([request]);
    expect(request.revents).toBe(POLL.in);
  };
  const blind: Poll = function* (system, process, fd) {
    const queue = new WaitQueue(system.sim, 'blind');
    const file = process.fds.file(fd);
    const ready = file.poll(POLL.in, null);
    if (ready === POLL.in) return;
    yield* pause(system);
    yield* lift(file.poll(POLL.in, (other) => other.onWakeUp(() => void queue.wakeUpAll())));
    yield* queue.wait();
  };

  it('wakes who polls a sync file, in every order', () => {
    expect(explore(race(whole, 'sync file'))).toBeGreaterThan(1);
  });

  it('wakes who polls a buffer, in every order', () => {
    expect(explore(race(whole, 'buffer'))).toBeGreaterThan(1);
  });

  it('finds a poll that asks first and joins the queue later', () => {
    const { wrong, right } = judge(race(blind, 'sync file'));
    expect(wrong.join()).toMatch(/blind|waits for|deadlock/i);
    expect(right).toBeGreaterThan(0);
  });
});

/** A write fence on a buffer. @returns what signals it. */
function attachPending(system: System, process: Process, fd: number): () => void {
  const file = process.fds.file(fd);
  if (!(file instanceof DmaBufFile)) throw new Error('no buffer');
  const fence = system.sim.run(() => system.fenceOn(file.buf.resv, DmaResvUsage.write));
  return () => {
    fence.signal();
    fence.put();
  };
}

describe('waiting for a sync object before anything is submitted', () => {
  type Wait = (system: System, process: Process, card: number, handle: number) => Op<unknown>;
  const race =
    (wait: Wait): Race =>
    ({ system, one }) => {
      const { sim } = system;
      const { card, handle } = sim.run(function* () {
        const card = yield* one.open(CARDS[1]);
        return { card, handle: (yield* one.ioctl(card, DRM_IOCTL_SYNCOBJ_CREATE, {})).handle };
      });
      const waited = sim.spawn('wait', function* () {
        yield* pause(system);
        yield* wait(system, one, card, handle);
      });
      sim.spawn('submit', function* () {
        yield* pause(system);
        yield* pause(system);
        const handles = HANDLE.encode({ handle });
        yield* one.ioctl(card, DRM_IOCTL_SYNCOBJ_SIGNAL, { handles, count_handles: 1 });
      });
      sim.run();
      expect(waited.outcome).toBe('returned');
    };

  it('wakes the waiter, in every order', () => {
    const seen = explore(
      race(function* (_system, process, card, handle) {
        const handles = HANDLE.encode({ handle });
        const flags = DRM_SYNCOBJ.waitForSubmit | DRM_SYNCOBJ.waitAll;
        yield* process.ioctl(card, DRM_IOCTL_SYNCOBJ_WAIT, {
          handles,
          count_handles: 1,
          flags,
          timeout_nsec: NEVER_NS,
        });
      }),
    );
    expect(seen).toBeGreaterThan(1);
  });

  it('finds a waiter that looks for the fence first and listens later', () => {
    const { wrong, right } = judge(
      race(function* (system, process, card, handle) {
        const client = process.fds.file(card);
        if (!(client instanceof DrmFile)) return;
        const syncobj = client.syncobjs.find(handle);
        if (syncobj.fence !== null) return;
        yield* pause(system);
        const queue = new WaitQueue(system.sim, 'deaf');
        syncobj.listen({ changed: () => void queue.wakeUpAll() });
        yield* queue.wait();
      }),
    );
    expect(wrong.join()).toMatch(/deaf|waits for|deadlock/i);
    expect(right).toBeGreaterThan(0);
  });
});

describe('unmapping while the process ends', () => {
  const race =
    (unmap: (system: System, process: Process) => Op<unknown>): Race =>
    ({ system, one }) => {
      const { sim } = system;
      sim.run(function* () {
        const fd = yield* allocBuffer(one, 3 * 4096);
        yield* one.mmap(fd);
        yield* one.close(fd);
      });
      // No thread, which would end with the process, but somebody with the same address space.
      sim.spawn('unmap', function* () {
        yield* pause(system);
        yield* unmap(system, one);
      });
      sim.spawn('exit', function* () {
        yield* pause(system);
        yield* pause(system);
        one.exit();
      });
      sim.run();
      expect(one.mappings).toEqual([]);
    };

  it('unmaps everything once, in every order', () => {
    const seen = explore(
      race(function* (system, process) {
        yield* pause(system);
        const [mapping] = process.mappings;
        if (mapping !== undefined) process.munmap(mapping.address + 4096, 4096);
      }),
    );
    expect(seen).toBeGreaterThan(1);
  });

  it('finds an unmap that looks the mapping up and takes it out later', () => {
    const { wrong, right } = judge(
      race(function* (system, process) {
        const [mapping] = process.mappings;
        yield* pause(system);
        mapping?.munmap();
      }),
    );
    expect(wrong.join()).toMatch(/was unmapped before/);
    expect(right).toBeGreaterThan(0);
  });
});

describe('closing both descriptors of a file', () => {
  const race =
    (close: (system: System, process: Process, fd: number) => Op<unknown>): Race =>
    ({ system, one }) => {
      const { sim } = system;
      const fds = sim.run(function* () {
        const fd = yield* allocBuffer(one);
        return [fd, one.fds.dup(fd)];
      });
      for (const fd of fds) {
        sim.spawn(`close ${fd}`, function* () {
          yield* pause(system);
          yield* close(system, one, fd);
        });
      }
      sim.run();
      expect(system.count('dmabuf.release')).toBe(1);
    };

  it('releases the buffer exactly once, in every order', () => {
    expect(explore(race((_system, process, fd) => process.close(fd)))).toBeGreaterThan(1);
  });

  it('finds a close that reads the count, and writes back one less later', () => {
    const { wrong, right } = judge(
      race(function* (system, process, fd) {
        const file = process.fds.file(fd);
        const seen = file.references;
        yield* pause(system);
        while (file.references < seen) file.get();
        yield* process.close(fd);
      }),
    );
    expect(wrong.join()).toContain('to be 1');
    expect(right).toBeGreaterThan(0);
  });
});
