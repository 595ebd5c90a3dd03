import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/base/addr.ts';
import { O, PROT } from '../../src/uapi/file.ts';
import type { Process } from '../../src/uapi/process.ts';
import { type Bench, bench, errno, invariant, pattern } from '../bench.ts';

/** A process with a buffer of four pages. */
function scene(): { b: Bench; app: Process; fd: number; references: () => number } {
  const b = bench();
  const app = b.machine.addProcess({ name: 'app' });
  const buf = b.fakeBuffer({}, 4 * PAGE_SIZE);
  return { b, app, fd: app.fds.install(buf), references: () => buf.references };
}

describe('the rights of a mapping', () => {
  it.each([
    [PROT.none, false, false],
    [PROT.read, true, false],
    [PROT.write, true, true],
    [PROT.exec, true, false],
    [PROT.read | PROT.write, true, true],
  ])('prot %s: reading %s, writing %s, else EFAULT', (prot, reads, writes) => {
    const { b, app, fd } = scene();
    const mapping = b.sim.run(() => app.mmap(fd, { prot }));
    const [read, write] = [() => mapping.read(0, 1), () => mapping.write(0, Uint8Array.of(1))];
    if (reads) expect(read()).toEqual(Uint8Array.of(0));
    else expect(read).toThrow(errno('EFAULT'));
    if (writes) expect(write).not.toThrow();
    else expect(write).toThrow(errno('EFAULT'));
    app.exit();
  });

  it.each([
    [O.rdonly, PROT.read, true, ''],
    [O.rdonly, PROT.write, true, 'EACCES'],
    [O.rdonly, PROT.write, false, ''],
    [O.wronly, PROT.write, true, 'EACCES'],
    [O.wronly, PROT.read, false, 'EACCES'],
    [3, PROT.read, true, 'EACCES'],
    [O.rdwr, PROT.read | PROT.write, true, ''],
  ] as const)('a file with flags %s, prot %s, shared %s: %s', (flags, prot, shared, answer) => {
    const { b, app, fd } = scene();
    app.fds.file(fd).flags = flags;
    const map = () => b.sim.run(() => app.mmap(fd, { prot, shared }));
    if (answer === '') expect(map().prot).toBe(prot);
    else expect(map).toThrow(errno(answer));
    app.exit();
  });

  it('can be changed, but not beyond what the file was opened for', () => {
    const { b, app, fd } = scene();
    app.fds.file(fd).flags = O.rdonly;
    const mapping = b.sim.run(() => app.mmap(fd));
    mapping.protect(PROT.none);
    expect(() => mapping.read(0, 1)).toThrow(errno('EFAULT'));
    mapping.protect(PROT.read);
    expect(mapping.read(0, 1)).toEqual(Uint8Array.of(0));
    expect(() => mapping.protect(PROT.read | PROT.write)).toThrow(errno('EACCES'));
    expect(mapping.prot).toBe(PROT.read);
    app.exit();
  });

  it('answers ENOMEM to a length that no address space has', () => {
    const { b, app, fd, references } = scene();
    for (const length of [2 ** 47 + 1, Number.MAX_SAFE_INTEGER, 2 ** 63]) {
      expect(() => b.sim.run(() => app.mmap(fd, { length }))).toThrow(errno('ENOMEM'));
    }
    expect(references()).toBe(1);
    app.exit();
  });
});

describe('a private mapping', () => {
  it('shows the file until it is written, and keeps what is written to itself', () => {
    const { b, app, fd } = scene();
    const [shared, mine] = b.sim.run(function* () {
      return [yield* app.mmap(fd), yield* app.mmap(fd, { shared: false })] as const;
    });
    shared.write(0, pattern(3 * PAGE_SIZE));
    expect(mine.read(0, 64)).toEqual(pattern(64));
    mine.write(PAGE_SIZE - 2, Uint8Array.of(9, 9, 9, 9));
    expect([...mine.read(PAGE_SIZE - 3, 6)]).toEqual([
      pattern(PAGE_SIZE)[PAGE_SIZE - 3],
      9,
      9,
      9,
      9,
      pattern(5000)[PAGE_SIZE + 2],
    ]);
    expect(mine.peek(PAGE_SIZE - 2, 4)).toEqual(Uint8Array.of(9, 9, 9, 9));
    expect(shared.read(0, 3 * PAGE_SIZE)).toEqual(pattern(3 * PAGE_SIZE));
    shared.write(0, Uint8Array.of(77));
    shared.write(2 * PAGE_SIZE, Uint8Array.of(78));
    expect([mine.read(0, 1)[0], mine.read(2 * PAGE_SIZE, 1)[0]]).toEqual([0 + (pattern(1)[0] ?? 0), 78]);
    app.exit();
  });
});

describe('Process.munmap', () => {
  it('cuts a hole: two mappings are left, each with a reference, and nothing of the old one', () => {
    const { b, app, fd, references } = scene();
    const mapping = b.sim.run(() => app.mmap(fd));
    mapping.write(0, pattern(4 * PAGE_SIZE));
    const left = app.munmap(mapping.address + PAGE_SIZE, 2 * PAGE_SIZE);
    expect(left.map(({ address, sizeBytes }) => [address - mapping.address, sizeBytes])).toEqual([
      [0, PAGE_SIZE],
      [3 * PAGE_SIZE, PAGE_SIZE],
    ]);
    expect([references(), app.mappings, mapping.mapped]).toEqual([3, left, false]);
    expect(left[1]?.read(5, 20)).toEqual(pattern(4 * PAGE_SIZE).slice(3 * PAGE_SIZE + 5, 3 * PAGE_SIZE + 25));
    expect(() => mapping.read(0, 1)).toThrow(invariant('was unmapped'));
    expect(() => left[0]?.read(PAGE_SIZE - 1, 2)).toThrow(errno('EFAULT'));
    app.exit();
    expect(references()).toBe(0);
  });

  it('cuts the ends of two mappings at once, rounds up to pages, and needs nothing to be there', () => {
    const { b, app, fd, references } = scene();
    const [one, two] = b.sim.run(function* () {
      return [yield* app.mmap(fd), yield* app.mmap(fd)] as const;
    });
    expect(app.munmap(one.address + 3 * PAGE_SIZE, PAGE_SIZE + 1)).toHaveLength(2);
    expect(app.mappings.map(({ sizeBytes }) => sizeBytes)).toEqual([3 * PAGE_SIZE, 3 * PAGE_SIZE]);
    expect(app.munmap(two.address + 64 * PAGE_SIZE, PAGE_SIZE)).toEqual([]);
    expect(app.munmap(one.address, 8 * PAGE_SIZE)).toEqual([]);
    expect([app.mappings, references()]).toEqual([[], 1]);
    app.exit();
  });

  it.each([
    [1, PAGE_SIZE],
    [0, 0],
    [0, -1],
    [0.5, PAGE_SIZE],
    [0, Number.NaN],
  ])('answers EINVAL to offset %s, length %s', (offset, length) => {
    const { b, app, fd } = scene();
    const mapping = b.sim.run(() => app.mmap(fd));
    expect(() => app.munmap(mapping.address + offset, length)).toThrow(errno('EINVAL'));
    expect(mapping.mapped).toBe(true);
    app.exit();
  });
});

describe('a buffer in several mappings', () => {
  it('PMM-02: map, check, unmap, map again: the same content', () => {
    const { b, app, fd } = scene();
    const first = b.sim.run(() => app.mmap(fd));
    first.write(0, pattern(PAGE_SIZE));
    first.munmap();
    expect(b.sim.run(() => app.mmap(fd)).read(0, PAGE_SIZE)).toEqual(pattern(PAGE_SIZE));
    app.exit();
  });

  it('PMM-04: a child maps the descriptor that it has inherited', () => {
    const { b, app, fd } = scene();
    b.sim.run(() => app.mmap(fd)).write(0, pattern(100));
    const child = app.fork('child');
    expect(b.sim.run(() => child.mmap(fd)).read(0, 100)).toEqual(pattern(100));
    for (const process of [app, child]) process.exit();
  });

  it('PMM-05: is written and read through a writable mapping', () => {
    const { b, app, fd } = scene();
    const mapping = b.sim.run(() => app.mmap(fd, { prot: PROT.read | PROT.write }));
    mapping.write(0, pattern(4 * PAGE_SIZE));
    expect(mapping.read(0, 4 * PAGE_SIZE)).toEqual(pattern(4 * PAGE_SIZE));
    app.exit();
  });

  it('PMM-06: what a child writes through a mapping that it has inherited, the parent sees', () => {
    const { b, app, fd, references } = scene();
    const mapping = b.sim.run(() => app.mmap(fd));
    const child = app.fork('child');
    expect(references()).toBe(4);
    expect(child.mappings.map(({ address }) => address)).toEqual([mapping.address]);
    child.mappings[0]?.write(0, pattern(100));
    expect(mapping.read(0, 100)).toEqual(pattern(100));
    child.exit();
    expect([references(), mapping.mapped]).toEqual([2, true]);
    app.exit();
  });

  it('PMM-08: maps through a duplicate of the descriptor', () => {
    const { b, app, fd } = scene();
    b.sim.run(() => app.mmap(fd)).write(0, pattern(10));
    const copy = app.fds.dup(fd);
    app.fds.close(fd);
    expect(b.sim.run(() => app.mmap(copy)).read(0, 10)).toEqual(pattern(10));
    app.exit();
  });

  it('PMM-10: answers EBADF to a closed descriptor', () => {
    const { b, app, fd } = scene();
    app.fds.close(fd);
    expect(() => b.sim.run(() => app.mmap(fd))).toThrow(errno('EBADF'));
  });

  it("keeps a fork's private pages apart from the parent's", () => {
    const { b, app, fd } = scene();
    const mine = b.sim.run(() => app.mmap(fd, { shared: false }));
    mine.write(0, Uint8Array.of(1));
    const child = app.fork('child');
    child.mappings[0]?.write(0, Uint8Array.of(2));
    mine.write(1, Uint8Array.of(3));
    expect([mine.read(0, 2), child.mappings[0]?.read(0, 2)]).toEqual([Uint8Array.of(1, 3), Uint8Array.of(2, 0)]);
    for (const process of [app, child]) process.exit();
  });
});
