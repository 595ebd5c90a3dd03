import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import type { Op } from '../../src/sim/op.ts';
import { DMA_BUF_IOCTL_SYNC, SEEK } from '../../src/uapi/dma-buf-file.ts';
import type { Process } from '../../src/uapi/process.ts';
import type { UserMapping } from '../../src/uapi/user-mapping.ts';
import { type Bench, bench, errno, invariant, pattern } from '../bench.ts';

const SYSCALL_NS = 150;
const START_READ = DMA_BUF_SYNC.start | DMA_BUF_SYNC.read;
const END_READ = DMA_BUF_SYNC.end | DMA_BUF_SYNC.read;

function process(b: Bench, maxFds?: number): Process {
  return b.machine.addProcess({ name: 'app', ...(maxFds === undefined ? {} : { maxFds }) });
}

const sync = (flags: number) => DMA_BUF_IOCTL_SYNC.layout.encode({ flags });

/** The code of the ErrnoError that `use` throws in a task; `''` when it throws none. */
function codeOf(b: Bench, use: () => Op<unknown> | unknown): string {
  return b.sim.run(function* () {
    try {
      const result = use();
      if (typeof result === 'object' && result !== null && Symbol.iterator in result) yield* result as Op<unknown>;
      return '';
    } catch (error) {
      if (error instanceof ErrnoError) return error.code;
      throw error;
    }
  });
}

describe('Process.mmap', () => {
  const SIZE = 5 * PAGE_SIZE + 100;

  it.each([
    [{}, 5 * PAGE_SIZE],
    [{ offset: 2 * PAGE_SIZE }, 3 * PAGE_SIZE],
    [{ length: 1 }, PAGE_SIZE],
    [{ length: PAGE_SIZE + 1 }, 2 * PAGE_SIZE],
    [{ offset: 4 * PAGE_SIZE, length: PAGE_SIZE }, PAGE_SIZE],
    [{ offset: 0, length: 5 * PAGE_SIZE }, 5 * PAGE_SIZE],
  ])('maps whole pages of the buffer: %j', (range, sizeBytes) => {
    const b = bench();
    const app = process(b);
    const fd = app.fds.install(b.fakeBuffer({}, SIZE));
    const mapping = b.sim.run(() => app.mmap(fd, range));
    expect([mapping.sizeBytes, mapping.mapped, app.mappings.length]).toEqual([sizeBytes, true, 1]);
    app.exit();
  });

  it.each([
    ['length 0', { length: 0 }],
    ['a negative length', { length: -1 }],
    ['a length that is no number of bytes', { length: 1.5 }],
    ['NaN', { length: Number.NaN }],
    ['an offset off a page', { offset: 100 }],
    ['a negative offset', { offset: -PAGE_SIZE }],
    ['the end as offset', { offset: 5 * PAGE_SIZE }],
    ['an offset beyond', { offset: 6 * PAGE_SIZE, length: PAGE_SIZE }],
    ['a page too many: the size counts in whole pages', { length: 5 * PAGE_SIZE + 1 }],
    ['PMM-10: twice the size', { length: 2 * SIZE }],
    ['PMM-10: the full size at half the offset', { offset: 2 * PAGE_SIZE, length: 5 * PAGE_SIZE }],
    ['a sum that wraps in 64 bits', { offset: 2 ** 64 - PAGE_SIZE, length: 2 * PAGE_SIZE }],
  ])('answers EINVAL to %s and maps nothing', (_what, range) => {
    const b = bench();
    const app = process(b);
    const buf = b.fakeBuffer({}, SIZE);
    const fd = app.fds.install(buf);
    expect(codeOf(b, () => app.mmap(fd, range))).toBe('EINVAL');
    expect([app.mappings.length, buf.references]).toEqual([0, 1]);
    app.exit();
  });

  it.each([0, 100, PAGE_SIZE - 1])('answers EINVAL for a buffer of %s bytes, which has no whole page', (sizeBytes) => {
    const b = bench();
    const app = process(b);
    const fd = app.fds.install(b.fakeBuffer({}, sizeBytes));
    expect(codeOf(b, () => app.mmap(fd))).toBe('EINVAL');
    app.exit();
  });

  it('CORE-10: answers EINVAL where the exporter has no mmap, EBADF to a descriptor that is not open, ENODEV to other files', () => {
    const b = bench();
    const app = process(b);
    const fd = app.fds.install(b.fakeBuffer({ mmap: undefined as never }));
    expect([fd, 99, -1, 0].map((each) => codeOf(b, () => app.mmap(each)))).toEqual([
      'EINVAL',
      'EBADF',
      'EBADF',
      'ENODEV',
    ]);
    app.exit();
  });

  it("gives the exporter's error and keeps no reference; nor does a task that is killed while the exporter waits", () => {
    const b = bench();
    const app = process(b);
    const refusing = b.fakeBuffer({
      mmap() {
        throw new ErrnoError('EACCES', 'exporter');
      },
    });
    const slow = b.fakeBuffer(
      {
        *mmap({ priv }) {
          yield* b.sim.delay(100);
          return { extents: priv.memory.extents(), attribute: 'cached' };
        },
      },
      4096,
      'slow',
    );
    const [first, second] = [app.fds.install(refusing), app.fds.install(slow)];
    expect(codeOf(b, () => app.mmap(first))).toBe('EACCES');
    const task = b.sim.spawn('mapper', () => app.mmap(second));
    b.sim.runUntil(b.sim.now + 50);
    expect(slow.references).toBe(2);
    task.kill();
    b.sim.run();
    expect([app.mappings.length, refusing.references, slow.references]).toEqual([0, 1, 1]);
    app.exit();
  });

  it('maps the same bytes as the device sees them in a scattered buffer, from the offset on', () => {
    const b = bench();
    const app = process(b);
    const pages = b.scatteredPages(4);
    const extents = pages.map((phys) => ({ phys, length: PAGE_SIZE }));
    const fd = app.fds.install(b.fakeBuffer({ mmap: () => ({ extents, attribute: 'uncached' }) }, 4 * PAGE_SIZE));
    const mapping = b.sim.run(() => app.mmap(fd, { offset: PAGE_SIZE, length: 2 * PAGE_SIZE }));
    mapping.write(PAGE_SIZE - 10, pattern(20));
    const seen = new Uint8Array(20);
    b.machine.memory.read((Number(pages[1]) + PAGE_SIZE - 10) as never, seen, 0, 10);
    b.machine.memory.read((pages[2] ?? 0) as never, seen, 10, 10);
    expect(seen).toEqual(pattern(20));
    app.exit();
  });

  it('catches an exporter that gives fewer bytes than its buffer has, and keeps no reference', () => {
    const b = bench();
    const app = process(b);
    const buf = b.fakeBuffer({ mmap: ({ priv }) => ({ extents: priv.memory.extents(), attribute: 'cached' }) }, 4096);
    const short = b.fakeBuffer(
      { mmap: () => ({ extents: buf.priv.memory.extents(), attribute: 'cached' }) },
      8192,
      'short',
    );
    const [, fd] = [app.fds.install(buf), app.fds.install(short)];
    expect(() => b.sim.run(() => app.mmap(fd))).toThrow(invariant('extents of 4096 bytes for 8192'));
    expect([short.references, app.mappings.length]).toEqual([1, 0]);
    app.exit();
  });
});

describe('a UserMapping', () => {
  function mapped(): { b: Bench; app: Process; fd: number; mapping: UserMapping; references: () => number } {
    const b = bench();
    const app = process(b);
    const buf = b.fakeBuffer();
    const fd = app.fds.install(buf);
    return { b, app, fd, mapping: b.sim.run(() => app.mmap(fd)), references: () => buf.references };
  }

  it('outlives its descriptor: the last reference goes at munmap', () => {
    const { app, fd, mapping, references } = mapped();
    mapping.write(100, pattern(50));
    expect(references()).toBe(2);
    app.fds.close(fd);
    expect([references(), app.mappings.length]).toEqual([1, 1]);
    expect(mapping.read(100, 50)).toEqual(pattern(50));
    mapping.munmap();
    expect([references(), mapping.mapped, app.mappings.length]).toEqual([0, false, 0]);
  });

  it('stays mapped when the last reference can not go, since a device is attached; munmap works after the detach', () => {
    const b = bench();
    const [app, buf, device] = [process(b), b.fakeBuffer(), b.device('cam')];
    const fd = app.fds.install(buf);
    const mapping = b.sim.run(() => app.mmap(fd));
    const att = b.sim.run(() => buf.attach(device));
    app.fds.close(fd);
    expect(() => mapping.munmap()).toThrow(invariant('last put while cam is attached'));
    expect([mapping.mapped, app.mappings, buf.references]).toEqual([true, [mapping], 1]);
    b.sim.run(() => buf.detach(att));
    mapping.munmap();
    expect([mapping.mapped, app.mappings, buf.references]).toEqual([false, [], 0]);
  });

  it('can not be used after munmap, nor unmapped twice', () => {
    const { app, mapping, references } = mapped();
    mapping.munmap();
    const uses: readonly [string, () => unknown][] = [
      ['read', () => mapping.read(0, 1)],
      ['read', () => mapping.readInto(new Uint8Array(1), 0)],
      ['write', () => mapping.write(0, new Uint8Array(1))],
      ['peek', () => mapping.peek(0, 1)],
      ['munmap', () => mapping.munmap()],
    ];
    for (const [name, use] of uses)
      expect(use).toThrow(invariant(`${name}: the mapping at 0x7f0000000000 was unmapped`));
    expect(references()).toBe(1);
    app.exit();
  });

  it('answers EFAULT beyond its end, and names a bad offset or length; nothing happens', () => {
    const { b, app, mapping } = mapped();
    const end = mapping.sizeBytes;
    for (const [offset, length] of [
      [end, 1],
      [end - 1, 2],
      [0, end + 1],
      [2 ** 50, 1],
      [0, 2 ** 50],
    ] as const) {
      expect(() => mapping.read(offset, length)).toThrow(errno('EFAULT'));
      expect(() => mapping.peek(offset, length)).toThrow(errno('EFAULT'));
    }
    expect(() => mapping.write(end - 1, new Uint8Array(2))).toThrow(errno('EFAULT'));
    for (const offset of [-1, 0.5, Number.NaN])
      expect(() => mapping.read(offset, 1)).toThrow(invariant(`offset ${offset}`));
    for (const length of [-1, 0.5, Number.NaN])
      expect(() => mapping.read(0, length)).toThrow(invariant(`length ${length}`));
    expect(b.machine.coherency.cache.counters.misses).toBe(0);
    expect(mapping.read(end, 0)).toEqual(new Uint8Array());
    app.exit();
  });

  it('reads what other mappings wrote, charges by the line, and peeks for nothing', () => {
    const { b, app, fd, mapping } = mapped();
    const other = b.sim.run(() => app.mmap(fd));
    expect(other.address).toBe(mapping.address + mapping.sizeBytes);
    const start = b.sim.now;
    b.sim.run(() => mapping.write(0, pattern(128)));
    expect(b.sim.now - start).toBe(2 * 8);
    expect(b.sim.run(() => other.peek(0, 128))).toEqual(pattern(128));
    expect(b.sim.now - start).toBe(2 * 8);
    expect(b.sim.run(() => other.read(0, 128))).toEqual(pattern(128));
    expect(b.sim.now - start).toBe(2 * 8 + 2 * 2);
    app.exit();
  });
});

describe('Process.ioctl', () => {
  it.each([
    ['EBADF', 77, 0x40086200, sync(1)],
    ['EBADF', -1, 0, null],
    ['CORE-12: ENOTTY', 3, 0x40086209, sync(1)],
    ['CORE-12: ENOTTY', 3, 0x40046200, sync(1)],
    ['CORE-12: ENOTTY', 3, 0, sync(1)],
    ['ENOTTY', 0, 0x40086200, sync(1)],
    ['EINVAL', 3, 0x40086200, sync(0)],
    ['EINVAL', 3, 0x40086200, sync(8)],
    ['EINVAL', 3, 0x40086200, sync(-1)],
    ['EFAULT', 3, 0x40086200, null],
    ['EFAULT', 3, 0x40086200, 1],
    ['EFAULT', 3, 0x40086200, new Uint8Array(7)],
  ])(
    'answers %s for fd %s, request %s, argument %s; it costs a system call and changes no count',
    (answer, fd, request, argument) => {
      const b = bench();
      const app = process(b);
      const buf = b.fakeBuffer();
      expect(app.fds.install(buf)).toBe(3);
      expect(answer.endsWith(codeOf(b, () => app.ioctl(fd, request, argument)))).toBe(true);
      expect([buf.references, b.sim.now, ...buf.priv.calls]).toEqual([1, SYSCALL_NS]);
      app.exit();
    },
  );

  it('DMA_BUF_IOCTL_SYNC waits for writers, and costs what the exporter and the system call cost', () => {
    const b = bench();
    const app = process(b);
    const buf = b.fakeBuffer({ beginCpuAccess: () => b.sim.charge(1000) });
    const fd = app.fds.install(buf);
    b.sim.run(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: START_READ }));
    expect(b.sim.now).toBe(SYSCALL_NS + 1000);
    const fence = b.sim.run(() => b.fenceOn(buf.resv, DmaResvUsage.write));
    b.sim.after(5000, () => {
      fence.signal();
      return undefined;
    });
    const start = b.sim.now;
    b.sim.run(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: START_READ }));
    expect(b.sim.now - start).toBe(5000);
    for (let i = 0; i < 2; i++) b.sim.run(() => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: END_READ }));
    app.exit();
  });

  it('holds the buffer while it waits: a close in the meantime releases it only afterwards', () => {
    const b = bench();
    const app = process(b);
    const buf = b.fakeBuffer();
    const fd = app.fds.install(buf);
    const fence = b.sim.run(() => b.fenceOn(buf.resv, DmaResvUsage.write));
    const waiting = b.sim.spawn('reader', () => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: START_READ }));
    b.sim.runUntil(1000);
    app.fds.close(fd);
    expect(buf.references).toBe(1);
    b.sim.runUntil(2000);
    expect([waiting.outcome, buf.released]).toEqual([null, false]);
    fence.signal();
    b.sim.run();
    expect([waiting.outcome, buf.released, ...buf.priv.calls]).toEqual([
      'returned',
      true,
      'begin from-device',
      'release',
    ]);
  });

  it('holds nothing after its task was killed', () => {
    const b = bench();
    const app = process(b);
    const buf = b.fakeBuffer();
    const fd = app.fds.install(buf);
    b.sim.run(() => b.fenceOn(buf.resv, DmaResvUsage.write));
    const waiting = b.sim.spawn('reader', () => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: START_READ }));
    b.sim.runUntil(1000);
    expect(buf.references).toBe(2);
    waiting.kill();
    b.sim.run();
    expect(buf.references).toBe(1);
    app.exit();
  });
});

describe('Process.lseek', () => {
  it('PSI-07 basic-llseek-size: tells the exact size', () => {
    const b = bench();
    const app = process(b);
    for (let i = 0; i < 10; i++) {
      const fd = app.fds.install(b.fakeBuffer({}, (4 * KIB) << i));
      expect(app.lseek(fd, 0, SEEK.end)).toBe((4 * KIB) << i);
    }
    app.exit();
  });

  it('PSI-08 basic-llseek-bad: answers EINVAL to all but offset 0 from an end', () => {
    const b = bench();
    const app = process(b);
    const size = 2 * PAGE_SIZE;
    const fd = app.fds.install(b.fakeBuffer({}, size));
    const bad: readonly [number, number][] = [
      [-1, SEEK.end],
      ...[1, size, size - 1, size + 1, -1, Number.NaN].map((offset): [number, number] => [offset, SEEK.set]),
      [0, SEEK.cur],
      [0, 3],
    ];
    for (const [offset, whence] of bad) expect(() => app.lseek(fd, offset, whence)).toThrow(errno('EINVAL'));
    expect([app.lseek(fd, 0, SEEK.set), app.lseek(fd, 0, SEEK.end)]).toEqual([0, size]);
    app.exit();
  });

  it('answers EBADF and ESPIPE where there is no buffer', () => {
    const app = process(bench());
    expect(() => app.lseek(3, 0, SEEK.end)).toThrow(errno('EBADF'));
    expect(() => app.lseek(1, 0, SEEK.end)).toThrow(errno('ESPIPE'));
  });
});

describe('Process', () => {
  it('gives back everything it has when it exits', () => {
    const b = bench();
    const app = process(b);
    const [one, two] = [b.fakeBuffer(), b.fakeBuffer({}, 4096, 'two')];
    const fds = [app.fds.install(one), app.fds.install(two)] as const;
    b.sim.run(function* () {
      yield* app.mmap(fds[0]);
      yield* app.mmap(fds[1]);
      app.fds.dup(fds[0]);
      app.fds.close(fds[1]);
      app.fds.reserve();
    });
    expect([one.references, two.references]).toEqual([3, 1]);
    app.exit();
    expect([app.fds.open, app.fds.reserved, app.mappings, one.references, two.references]).toEqual([[], [], [], 0, 0]);
    b.sim.run();
    expect([one.released, two.released]).toEqual([true, true]);
    app.exit();
  });

  it('gives back what it can when it exits, keeps what a device is attached to, and then throws the first error', () => {
    const b = bench();
    const [app, cam, gpu] = [process(b), b.device('cam'), b.device('gpu')];
    const [one, two, free] = [b.fakeBuffer(), b.fakeBuffer({}, 4096, 'two'), b.fakeBuffer({}, 4096, 'free')];
    const fds = [one, two, free].map((buf) => app.fds.install(buf));
    const [mapping, ...atts] = b.sim.run(function* () {
      return [yield* app.mmap(fds[0] ?? -1), yield* one.attach(cam), yield* two.attach(gpu)] as const;
    });
    app.fds.close(fds[0] ?? -1);
    app.fds.reserve();
    expect(() => app.exit()).toThrow(invariant('fake: last put while cam is attached'));
    expect([app.mappings, app.fds.open, app.fds.reserved]).toEqual([[mapping], [fds[1]], []]);
    expect([one, two, free].map((buf) => buf.references)).toEqual([1, 1, 0]);
    b.sim.run(function* () {
      for (const att of atts) yield* att.buf.detach(att);
    });
    app.exit();
    expect([app.mappings, app.fds.open, one.references, two.references]).toEqual([[], [], 0, 0]);
  });

  it('has descriptors of its own: the number of one means nothing to another', () => {
    const b = bench();
    const [app, other] = [process(b), b.machine.addProcess({ name: 'other' })];
    const fd = app.fds.install(b.fakeBuffer());
    expect(() => other.fds.get(fd)).toThrow(errno('EBADF'));
    app.exit();
  });

  it('has as many descriptors as it was given', () => {
    const b = bench();
    const app = process(b, 3);
    const buf = b.fakeBuffer();
    expect(() => app.fds.install(buf)).toThrow(errno('EMFILE'));
    expect(buf.references).toBe(1);
    buf.put();
  });
});
