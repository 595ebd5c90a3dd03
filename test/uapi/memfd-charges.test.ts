/** Who pays for the pages of a file in memory: who touches them first, until they are freed. */
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import type { Op } from '../../src/sim/op.ts';
import { F } from '../../src/uapi/fcntl.ts';
import { type MemCgroup, memCgroups } from '../../src/uapi/mem-cgroup.ts';
import { F_SEAL, MFD } from '../../src/uapi/memfd.ts';
import { memfdCreate } from '../../src/uapi/node-setup.ts';
import type { Process } from '../../src/uapi/process.ts';
import { UDMABUF_CREATE } from '../../src/uapi/udmabuf.ts';
import { bench } from '../bench.ts';

/** A program and its child, each in a group of its own, that share a file of four pages. */
function scene(limits: { readonly app?: number; readonly child?: number } = {}) {
  const b = bench();
  const { pages, coherency, memory } = b.machine;
  const groups = memCgroups(b.sim);
  const app = b.machine.addProcess({ name: 'app' });
  const fd = memfdCreate(app, { name: 'guest', flags: MFD.allowSealing, pages, coherency });
  app.ftruncate(fd, 4 * PAGE_SIZE);
  app.fcntl(fd, F.addSeals, F_SEAL.shrink);
  const child = app.fork('child');
  const made = (name: string, limit = 64): MemCgroup =>
    groups.create({ name, regionLimits: { shmem: limit * PAGE_SIZE } });
  const [mine, theirs] = [made('apps', limits.app), made('children', limits.child)];
  groups.move(app, mine);
  groups.move(child, theirs);
  const paid = (): number[] => [mine, theirs, groups.root].map(({ usageBytes }) => usageBytes / PAGE_SIZE);
  /** Pages that files in memory have. */
  const taken = (): number =>
    memory.ledger
      .liveAllocations()
      .filter(({ owner }) => owner.startsWith('memfd'))
      .reduce((sum, { bytes }) => sum + bytes, 0) / PAGE_SIZE;
  return { b, groups, app, child, fd, mine, theirs, paid, taken };
}

function* touch(process: Process, fd: number, page: number): Op<void> {
  process.lseek(fd, page * PAGE_SIZE, 0);
  yield* process.write(fd, Uint8Array.of(1));
}

function* codeOf(op: Op<unknown>): Op<string> {
  try {
    yield* op;
    return '';
  } catch (error) {
    if (error instanceof ErrnoError) return error.code;
    throw error;
  }
}

function* udmabuf(process: Process, memfd: number): Op<number> {
  const device = yield* process.open('/dev/udmabuf');
  const bytes = UDMABUF_CREATE.layout.encode({ memfd, flags: 1, size: 4 * PAGE_SIZE });
  try {
    return yield* process.ioctl(device, UDMABUF_CREATE.code, bytes);
  } finally {
    yield* process.close(device);
  }
}

describe('a page of a file in memory', () => {
  it('is paid for by the group of who touches it first, whoever made the file and touches it later', () => {
    const { b, app, child, fd, paid } = scene();
    b.sim.run(function* () {
      yield* touch(child, fd, 0);
      expect(paid()).toEqual([0, 1, 1]);
      yield* touch(app, fd, 0);
      yield* touch(app, fd, 1);
      expect(paid()).toEqual([1, 1, 2]);
      yield* child.mmap(fd);
      expect(paid()).toEqual([1, 3, 4]);
      yield* child.kill();
      expect(paid()).toEqual([1, 3, 4]);
      yield* app.kill();
      expect(paid()).toEqual([0, 0, 0]);
    });
  });

  it('is paid for by who makes a buffer of it, until the last of file and buffer is gone', () => {
    const { b, app, child, fd, paid } = scene();
    b.sim.run(function* () {
      const buffer = yield* udmabuf(child, fd);
      yield* app.kill();
      yield* child.close(fd);
      expect(paid()).toEqual([0, 4, 4]);
      yield* child.close(buffer);
      expect(paid()).toEqual([0, 0, 0]);
      yield* child.kill();
    });
  });

  it('over the limit is ENOMEM, and changes nothing', () => {
    const { b, app, child, fd, theirs, paid } = scene({ child: 2 });
    b.sim.run(function* () {
      yield* touch(child, fd, 0);
      yield* touch(child, fd, 1);
      const open = child.fds.open.length;
      expect(yield* codeOf(touch(child, fd, 2))).toBe('ENOMEM');
      expect(yield* codeOf(child.mmap(fd))).toBe('ENOMEM');
      expect(yield* codeOf(udmabuf(child, fd))).toBe('ENOMEM');
      expect([paid(), child.mappings.length, child.fds.open.length, theirs.refusals]).toEqual([[0, 2, 2], 0, open, 3]);
      yield* touch(app, fd, 2);
      expect(paid()).toEqual([1, 2, 3]);
      for (const process of [app, child]) yield* process.kill();
    });
  });

  it('that no system call of a task touches is paid for by who made the file; a removed group leaves its pages above', () => {
    const { b, groups, app, child, fd, mine, paid } = scene();
    child.fallocate(fd, 0, 0, PAGE_SIZE);
    expect(paid()).toEqual([1, 0, 1]);
    groups.move(app, groups.root);
    groups.remove(mine);
    expect([groups.root.usageBytes, mine.usageBytes]).toEqual([PAGE_SIZE, 0]);
    for (const process of [app, child]) process.exit();
    b.sim.run();
    expect(groups.root.usageBytes).toBe(0);
  });

  it('adds up: what all pay is what the files have, through any run of touches, mappings, buffers and closes', () => {
    const { b, app, child, fd, mine, theirs, paid, taken } = scene({ app: 3, child: 3 });
    const prng = b.sim.prng.fork('memfds');
    const { pages, coherency } = b.machine;
    const seen = new Set<string>();
    b.sim.run(function* () {
      const buffers: [Process, number][] = [];
      for (let step = 0; step < 120; step++) {
        const process = prng.int(2) === 0 ? app : child;
        const other = memfdCreate(process, { name: 'other', flags: MFD.allowSealing, pages, coherency });
        process.ftruncate(other, 2 * PAGE_SIZE);
        const file = prng.int(2) === 0 ? fd : other;
        const calls: (() => Op<unknown>)[] = [
          () => touch(process, file, prng.int(4)),
          () => process.mmap(file),
          function* () {
            buffers.push([process, yield* udmabuf(process, fd)]);
          },
        ];
        seen.add(yield* codeOf((calls[prng.int(3)] as () => Op<unknown>)()));
        yield* process.close(other);
        if (prng.int(2) === 0) for (const mapping of process.mappings) mapping.munmap();
        const [held] = buffers.length > 2 ? buffers.splice(prng.int(3), 1) : [];
        if (held !== undefined) yield* held[0].close(held[1]);
        expect(paid()[2]).toBe(taken());
        for (const group of [mine, theirs]) expect(group.usageBytes).toBeLessThanOrEqual(3 * PAGE_SIZE);
      }
      for (const process of [app, child]) yield* process.kill();
    });
    expect([...seen].sort()).toEqual(['', 'ENOMEM']);
    expect([paid(), taken()]).toEqual([[0, 0, 0], 0]);
  });
});
