import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/base/addr.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import { bufinfo } from '../../src/dmabuf/dma-buf-info.ts';
import { type DmaHeap, SystemHeap } from '../../src/dmabuf/dma-heap.ts';
import type { Op } from '../../src/sim/op.ts';
import { describeLeftBuffers, type MemoryUsage, memoryUsage } from '../../src/uapi/accounting.ts';
import { DMA_HEAP_IOCTL_ALLOC, DmaHeapFile } from '../../src/uapi/dma-heap-file.ts';
import { DrmDevice, vgemDriver } from '../../src/uapi/drm-device.ts';
import { DrmFile } from '../../src/uapi/drm-file.ts';
import { DRM_IOCTL_PRIME_FD_TO_HANDLE } from '../../src/uapi/drm-ioctl.ts';
import { type MemCgroup, memCgroups } from '../../src/uapi/mem-cgroup.ts';
import type { Process } from '../../src/uapi/process.ts';
import { type Bench, bench, errno } from '../bench.ts';

/** Allocates through the heap's device node, as a program does. @returns the descriptor of the buffer. */
function* alloc(app: Process, heap: DmaHeap, len: number): Op<number> {
  const node = app.fds.install(new DmaHeapFile(heap));
  try {
    return (yield* app.ioctl(node, DMA_HEAP_IOCTL_ALLOC, { len })).fd;
  } finally {
    yield* app.close(node);
  }
}

function usage(b: Bench): MemoryUsage {
  return memoryUsage(b.sim, b.machine.processes);
}

/** Size and count of each buffer in the kernel's text. */
function inBufinfo(b: Bench): { total: number; sizes: number[] } {
  const text = b.sim.run(() => bufinfo(dmaBufCore(b.sim)));
  const sizes = [...text.matchAll(/^(\d{8,})\t[0-9a-f]{8}\t/gm)].map(([, size]) => Number(size));
  return { total: Number(/Total \d+ objects, (\d+) bytes/.exec(text)?.[1]), sizes };
}

/** Sum of `size:` over the descriptors of `app`, each buffer once by its inode number. */
function inFdinfo(app: Process): number {
  const sizes = new Map<string, number>();
  for (const fd of app.fds.open) {
    const lines = new Map(app.fdinfo(fd).map((line) => line.split(':\t') as [string, string]));
    const size = lines.get('size');
    if (size !== undefined) sizes.set(lines.get('ino') ?? '', Number(size));
  }
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

describe('memoryUsage', () => {
  it('counts a buffer once for a process that has it by several descriptors and a mapping', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'app' });
    b.sim.run(function* () {
      const fd = yield* alloc(app, b.machine.systemHeap, 3 * PAGE_SIZE);
      app.fds.dup(fd);
      yield* app.mmap(fd, { length: PAGE_SIZE });
      yield* app.mmap(fd);
    });
    const { processes, buffers } = usage(b);
    expect(processes).toEqual([
      {
        ...{ process: 'app', fds: 2, mappings: 2, mappedBytes: 4 * PAGE_SIZE },
        ...{ buffers: 1, rssBytes: 3 * PAGE_SIZE, pssBytes: 3 * PAGE_SIZE },
      },
    ]);
    expect(buffers[0]?.holders).toEqual([{ process: 'app', fds: [3, 4], mappings: 2, handles: 0 }]);
    app.exit();
  });

  it('divides a shared buffer among its holders, and agrees with bufinfo and the fdinfo of each process', () => {
    const b = bench();
    const { systemHeap, cmaHeap } = b.machine;
    const [one, two] = ['one', 'two'].map((name) => b.machine.addProcess({ name })) as [Process, Process];
    const child = b.sim.run(function* () {
      const shared = yield* alloc(one, systemHeap, 7 * PAGE_SIZE);
      yield* alloc(two, cmaHeap, 5 * PAGE_SIZE);
      const [a, z] = one.socketpair();
      const forked = one.fork('child');
      yield* alloc(forked, systemHeap, PAGE_SIZE);
      one.sendmsg(a, { bytes: new Uint8Array(1), fds: [shared] });
      const { fds } = yield* forked.recvmsg(z);
      expect(fds).toHaveLength(1);
      return forked;
    });
    const now = usage(b);
    expect(now.processes.map(({ process, rssBytes, pssBytes }) => [process, rssBytes, pssBytes])).toEqual([
      ['one', 7 * PAGE_SIZE, 3.5 * PAGE_SIZE],
      ['child', 8 * PAGE_SIZE, 4.5 * PAGE_SIZE],
      ['two', 5 * PAGE_SIZE, 5 * PAGE_SIZE],
    ]);
    const pss = now.processes.reduce((sum, { pssBytes }) => sum + pssBytes, 0);
    expect(pss + now.keptByKernelBytes).toBe(now.totalBytes);
    expect(inBufinfo(b)).toEqual({
      total: now.totalBytes,
      sizes: now.buffers.map(({ buf }) => buf.sizeBytes).reverse(),
    });
    expect([one, child, two].map(inFdinfo)).toEqual(now.processes.map(({ rssBytes }) => rssBytes));
    expect(now.exporters.map(({ exporter, bytes }) => [exporter, bytes])).toEqual([
      ['system', 8 * PAGE_SIZE],
      ['reserved', 5 * PAGE_SIZE],
    ]);
    for (const process of [one, child, two]) process.exit();
    b.sim.run();
    expect(usage(b).totalBytes).toBe(0);
  });

  it('loses no byte when a size cannot be divided', () => {
    const b = bench();
    const buf = b.fakeBuffer({}, 4099);
    const processes = ['p', 'q', 'r'].map((name) => b.machine.addProcess({ name }));
    for (const process of processes) process.fds.install(buf.get());
    buf.put();
    expect(usage(b).processes.map(({ pssBytes }) => pssBytes)).toEqual([1367, 1366, 1366]);
    for (const process of processes) process.exit();
  });

  it('tells what drivers and messages keep when no process holds it', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'app' });
    const gpu = b.device('gpu0');
    b.sim.run(function* () {
      const fd = yield* alloc(app, b.machine.systemHeap, PAGE_SIZE);
      const buf = app.fds.get(fd);
      const att = yield* buf.attach(gpu);
      const sgt = yield* att.mapUnlocked('to-device');
      const [a, z] = app.socketpair();
      app.sendmsg(a, { bytes: new Uint8Array(1), fds: [fd] });
      yield* app.close(fd);
      const now = usage(b);
      expect(now.keptByKernelBytes).toBe(PAGE_SIZE);
      expect(now.buffers[0]).toMatchObject({ holders: [], devices: ['gpu0'], otherReferences: 2 });
      expect(now.devices).toEqual([
        { device: 'gpu0', attachments: 1, attachedBytes: PAGE_SIZE, mappedBytes: PAGE_SIZE, pins: 0 },
      ]);
      yield* att.unmapUnlocked(sgt, 'to-device');
      expect(usage(b).devices[0]).toMatchObject({ attachedBytes: PAGE_SIZE, mappedBytes: 0 });
      yield* buf.detach(att);
      buf.put();
      yield* app.close(a);
      yield* app.close(z);
      expect(usage(b)).toMatchObject({ totalBytes: 0, keptByKernelBytes: 0, devices: [], buffers: [] });
    });
  });

  it('finds a buffer that a process has only as a handle of a DRM client', () => {
    const b = bench();
    const { pages, coherency, systemHeap } = b.machine;
    const device = new DrmDevice(b.sim, { driver: vgemDriver, device: b.device('vgem'), pages, coherency });
    const app = b.machine.addProcess({ name: 'app' });
    b.sim.run(function* () {
      const client = app.fds.install(new DrmFile(device));
      const fd = yield* alloc(app, systemHeap, PAGE_SIZE);
      yield* app.ioctl(client, DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd });
      yield* app.close(fd);
      expect(usage(b).buffers[0]?.holders).toEqual([{ process: 'app', fds: [], mappings: 0, handles: 1 }]);
      expect(usage(b).processes[0]).toMatchObject({ buffers: 1, rssBytes: PAGE_SIZE });
      yield* app.close(client);
    });
  });

  it('names what is left at the end: which buffer, made when, kept by whom', () => {
    const b = bench();
    const app = b.machine.addProcess({ name: 'app' });
    b.sim.run(function* () {
      yield* b.sim.delay(100);
      const fd = yield* alloc(app, b.machine.systemHeap, PAGE_SIZE);
      yield* app.mmap(fd);
    });
    const [line, ...rest] = describeLeftBuffers(usage(b), b.machine.memory.ledger.liveAllocations());
    expect(rest).toEqual([]);
    expect(line).toMatch(/^app system0: 4096 bytes of system at \d+ ns, kept by app \(fd 4, 1 mapping\(s\)\)$/);
    app.exit();
  });
});

/** A process in a group of its own, and what it charges. */
function limited(b: Bench, limitBytes: number): { app: Process; group: MemCgroup } {
  const app = b.machine.addProcess({ name: 'app' });
  const group = memCgroups(b.sim).create({ name: 'apps', limitBytes });
  memCgroups(b.sim).move(app, group);
  return { app, group };
}

describe('MemCgroup', () => {
  it('charges whole pages to the group of the process and to those above, until the buffer is released', () => {
    const b = bench();
    const groups = memCgroups(b.sim);
    const outer = groups.create({ name: 'outer' });
    const inner = groups.create({ name: 'inner', parent: outer });
    const app = b.machine.addProcess({ name: 'app' });
    groups.move(app, inner);
    b.sim.run(function* () {
      const fd = yield* alloc(app, b.machine.systemHeap, PAGE_SIZE + 1);
      const of = [inner, outer, groups.root].map(({ usageBytes }) => usageBytes);
      expect(of).toEqual([2 * PAGE_SIZE, 2 * PAGE_SIZE, 2 * PAGE_SIZE]);
      expect([...inner.regions]).toEqual([['system', 2 * PAGE_SIZE]]);
      const buf = app.fds.get(fd);
      expect(groups.payerOf(buf)).toBe(inner);
      buf.put();
      app.exit();
    });
    b.sim.run();
    expect([inner, outer, groups.root].map(({ usageBytes }) => usageBytes)).toEqual([0, 0, 0]);
    expect(inner.peakBytes).toBe(2 * PAGE_SIZE);
  });

  it('refuses with ENOMEM what is over the limit of a group or of one above, and leaves nothing', () => {
    const b = bench();
    const groups = memCgroups(b.sim);
    const outer = groups.create({ name: 'outer', limitBytes: 3 * PAGE_SIZE });
    const inner = groups.create({ name: 'inner', parent: outer, limitBytes: 8 * PAGE_SIZE });
    const app = b.machine.addProcess({ name: 'app' });
    groups.move(app, inner);
    b.sim.run(function* () {
      const fd = yield* alloc(app, b.machine.systemHeap, 2 * PAGE_SIZE);
      const before = [b.machine.memory.ledger.liveBytes, app.fds.open.length, dmaBufCore(b.sim).buffers.length];
      for (const len of [2 * PAGE_SIZE, 8 * MIB]) {
        let thrown: unknown = null;
        try {
          yield* alloc(app, b.machine.systemHeap, len);
        } catch (error) {
          thrown = error;
        }
        expect(thrown).toEqual(errno('ENOMEM'));
        expect([inner.usageBytes, inner.peakBytes, outer.usageBytes]).toEqual(Array(3).fill(2 * PAGE_SIZE));
        const after = [b.machine.memory.ledger.liveBytes, app.fds.open.length, dmaBufCore(b.sim).buffers.length];
        expect(after).toEqual(before);
      }
      expect([outer.refusals, inner.refusals]).toEqual([1, 1]);
      yield* app.close(yield* alloc(app, b.machine.systemHeap, PAGE_SIZE));
      yield* app.close(fd);
    });
    expect([inner.usageBytes, outer.usageBytes]).toEqual([0, 0]);
  });

  it('limits one region and leaves the others free', () => {
    const b = bench();
    const { app, group } = limited(b, Number.POSITIVE_INFINITY);
    group.setRegionLimit('reserved', PAGE_SIZE);
    b.sim.run(function* () {
      yield* alloc(app, b.machine.systemHeap, 4 * PAGE_SIZE);
      yield* alloc(app, b.machine.cmaHeap, PAGE_SIZE);
    });
    expect(() => b.sim.run(() => alloc(app, b.machine.cmaHeap, PAGE_SIZE))).toThrow(errno('ENOMEM'));
    expect([...group.regions]).toEqual([
      ['system', 4 * PAGE_SIZE],
      ['reserved', PAGE_SIZE],
    ]);
    app.exit();
  });

  it.each(['memory', 'pointer', 'descriptors'])('keeps no charge when the allocation fails for want of %s', (want) => {
    const b = bench();
    const { app, group } = limited(b, Number.POSITIVE_INFINITY);
    const node = app.fds.install(new DmaHeapFile(want === 'memory' ? b.machine.cmaHeap : b.machine.systemHeap));
    if (want === 'descriptors') app.fds.limit = 4;
    const len = want === 'memory' ? 16 * MIB : PAGE_SIZE;
    const options = want === 'pointer' ? { readOnly: true } : {};
    expect(() => b.sim.run(() => app.ioctl(node, DMA_HEAP_IOCTL_ALLOC, { len }, options))).toThrow(
      errno(want === 'memory' ? 'ENOMEM' : want === 'pointer' ? 'EFAULT' : 'EMFILE'),
    );
    b.sim.run();
    expect(group.usageBytes).toBe(0);
    app.exit();
  });

  it('lets the one who allocated pay, also when it has closed the buffer, moved, or ended, while another holds it', () => {
    const b = bench();
    const { app, group } = limited(b, PAGE_SIZE);
    const groups = memCgroups(b.sim);
    const other = b.machine.addProcess({ name: 'other' });
    const theirs = groups.create({ name: 'theirs', limitBytes: 0 });
    groups.move(other, theirs);
    b.sim.run(function* () {
      const fd = yield* alloc(app, b.machine.systemHeap, PAGE_SIZE);
      other.fds.install(app.fds.get(fd));
      groups.move(app, groups.create({ name: 'elsewhere' }));
      app.exit();
    });
    expect([group.usageBytes, theirs.usageBytes]).toEqual([PAGE_SIZE, 0]);
    other.exit();
    b.sim.run();
    expect(group.usageBytes).toBe(0);
  });

  it('puts a child where its parent was at the fork, whatever the parent does later', () => {
    const b = bench();
    const { app, group } = limited(b, PAGE_SIZE);
    const groups = memCgroups(b.sim);
    const grandchild = app.fork('child').fork('grandchild');
    groups.move(app, groups.create({ name: 'elsewhere' }));
    expect(groups.groupOf(grandchild)).toBe(group);
    expect(groups.groupOf(app.fork('late')).name).toBe('elsewhere');
    expect(groups.groupOf(b.machine.addProcess({ name: 'stranger' }))).toBe(groups.root);
  });

  it('moves the charge of one buffer, or leaves it when the new payer has no room', () => {
    const b = bench();
    const { app, group } = limited(b, PAGE_SIZE);
    const groups = memCgroups(b.sim);
    const poor = groups.create({ name: 'poor', limitBytes: 0 });
    const rich = groups.create({ name: 'rich' });
    const buf = b.sim.run(function* () {
      return app.fds.get(yield* alloc(app, b.machine.systemHeap, PAGE_SIZE));
    });
    group.limitBytes = 0; // what it has it keeps
    expect(() => groups.transfer(buf, poor)).toThrow(errno('ENOMEM'));
    expect([group, poor, rich].map(({ usageBytes }) => usageBytes)).toEqual([PAGE_SIZE, 0, 0]);
    groups.transfer(buf, rich);
    expect([group, poor, rich].map(({ usageBytes }) => usageBytes)).toEqual([0, 0, PAGE_SIZE]);
    expect([groups.payerOf(buf), groups.root.peakBytes]).toEqual([rich, PAGE_SIZE]);
    expect(() => groups.transfer(b.fakeBuffer(), rich)).toThrow(errno('EINVAL'));
    dmaBufCore(b.sim).buffers[0]?.put(); // the one that nobody pays for
    buf.put();
    app.exit();
    b.sim.run();
    expect([rich.usageBytes, groups.root.usageBytes, groups.payerOf(buf)]).toEqual([0, 0, null]);
  });

  it('leaves its charges to the group above when it is removed, and is not removed before its processes', () => {
    const b = bench();
    const groups = memCgroups(b.sim);
    const outer = groups.create({ name: 'outer' });
    const inner = groups.create({ name: 'inner', parent: outer });
    const app = b.machine.addProcess({ name: 'app' });
    const other = b.machine.addProcess({ name: 'other' });
    groups.move(app, inner);
    b.sim.run(function* () {
      const fd = yield* alloc(app, b.machine.systemHeap, PAGE_SIZE);
      other.fds.install(app.fds.get(fd));
    });
    expect(() => groups.remove(outer)).toThrow(errno('EBUSY'));
    expect(() => groups.remove(inner)).toThrow(errno('EBUSY'));
    app.exit();
    groups.remove(inner);
    expect([inner.usageBytes, outer.usageBytes, inner.removed]).toEqual([0, PAGE_SIZE, true]);
    other.exit();
    b.sim.run();
    expect([outer.usageBytes, groups.root.usageBytes]).toEqual([0, 0]);
    groups.remove(outer);
    expect(groups.groups).toEqual([]);
  });

  it('adds up: charges equal what the heaps have given out, through any run of allocations and closes', () => {
    const b = bench();
    const { app, group } = limited(b, 64 * KIB);
    const heaps = [
      b.machine.systemHeap,
      b.machine.cmaHeap,
      new SystemHeap(b.sim, b.machine.pages, b.machine.coherency),
    ];
    const prng = b.sim.prng.fork('accounting');
    const open: number[] = [];
    let refused = 0;
    b.sim.run(function* () {
      for (let step = 0; step < 80; step++) {
        if (open.length > 0 && prng.int(3) === 0) {
          const [fd] = open.splice(prng.int(open.length), 1);
          yield* app.close(fd as number);
          continue;
        }
        try {
          open.push(yield* alloc(app, heaps[prng.int(3)] as DmaHeap, 1 + prng.int(16 * KIB)));
        } catch (error) {
          expect(error).toEqual(errno('ENOMEM'));
          refused++;
        }
        expect(group.usageBytes).toBe(usage(b).totalBytes);
        expect(group.usageBytes).toBeLessThanOrEqual(group.limitBytes);
      }
    });
    expect([refused > 0, group.refusals]).toEqual([true, refused]);
    app.exit();
    b.sim.run();
    expect([group.usageBytes, [...group.regions].length]).toEqual([0, 0]);
  });
});
