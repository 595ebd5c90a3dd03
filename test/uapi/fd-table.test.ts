import { describe, expect, it } from 'vitest';
import { FdTable } from '../../src/uapi/fd-table.ts';
import { bench, errno, invariant } from '../bench.ts';

describe('FdTable', () => {
  it('gives out the lowest free number, from 3 on', () => {
    const b = bench();
    const fds = new FdTable();
    const buf = b.fakeBuffer();
    expect([fds.install(buf), fds.dup(3), fds.dup(3), fds.dup(4)]).toEqual([3, 4, 5, 6]);
    fds.close(4);
    fds.close(3);
    expect([fds.dup(5), fds.dup(5), fds.dup(5)]).toEqual([3, 4, 7]);
    expect([fds.open, buf.references]).toEqual([[3, 4, 5, 6, 7], 5]);
    for (const fd of fds.open) fds.close(fd);
    expect(buf.references).toBe(0);
  });

  it('takes over the reference it is given, and gives it back at the close; the release comes after it', () => {
    const b = bench();
    const fds = new FdTable();
    const buf = b.fakeBuffer();
    b.sim.run(function* () {
      const fd = fds.install(buf);
      expect(buf.references).toBe(1);
      fds.close(fd);
      expect([buf.references, buf.released]).toEqual([0, false]);
      yield* b.sim.delay(0);
      expect(buf.released).toBe(true);
    });
  });

  it("CORE-02: gives the buffer behind a descriptor with a reference of the caller's own", () => {
    const b = bench();
    const fds = new FdTable();
    const buf = b.fakeBuffer();
    const fd = fds.install(buf);
    expect([fds.get(fd) === buf, buf.references]).toEqual([true, 2]);
    fds.close(fd);
    expect(buf.references).toBe(1);
    buf.put();
  });

  it.each([3, 1000, -1, 0.5, Number.NaN, 2 ** 32])(
    'CORE-02: answers EBADF for %s, which is not open, to every call',
    (fd) => {
      const fds = new FdTable();
      for (const call of [() => fds.get(fd), () => fds.dup(fd), () => fds.close(fd)])
        expect(call).toThrow(errno('EBADF'));
      expect(fds.open).toEqual([]);
    },
  );

  it('CORE-02: answers EINVAL for a file that is no dma-buf', () => {
    for (const fd of [0, 1, 2]) expect(() => new FdTable().get(fd)).toThrow(errno('EINVAL'));
  });

  it('stays open when the last reference can not go, since a device is attached; the close works after the detach', () => {
    const b = bench();
    const [fds, buf, device] = [new FdTable(), b.fakeBuffer(), b.device('cam')];
    const fd = fds.install(buf);
    const att = b.sim.run(() => buf.attach(device));
    expect(() => fds.close(fd)).toThrow(invariant('last put while cam is attached'));
    expect([fds.open, buf.references]).toEqual([[fd], 1]);
    b.sim.run(() => buf.detach(att));
    fds.close(fd);
    expect([fds.open, buf.references]).toEqual([[], 0]);
  });

  it('answers EBADF to a second close', () => {
    const b = bench();
    const fds = new FdTable();
    fds.close(fds.install(b.fakeBuffer()));
    expect(() => fds.close(3)).toThrow(errno('EBADF'));
  });

  it('gives out the number of a standard descriptor that was closed or duplicated like any other', () => {
    const b = bench();
    const fds = new FdTable();
    fds.close(1);
    expect(() => fds.close(1)).toThrow(errno('EBADF'));
    expect([fds.install(b.fakeBuffer()), fds.dup(0)]).toEqual([1, 3]);
    expect(() => fds.get(3)).toThrow(errno('EINVAL'));
    expect(fds.open).toEqual([1]);
    fds.close(3);
    fds.close(1);
  });

  it('answers EMFILE when it is full and changes nothing: the caller keeps its reference', () => {
    const b = bench();
    const fds = new FdTable(5);
    const [buf, other] = [b.fakeBuffer(), b.fakeBuffer({}, 4096, 'other')];
    fds.install(buf);
    fds.dup(3);
    for (const call of [() => fds.dup(3), () => fds.install(other), () => fds.reserve()]) {
      expect(call).toThrow(errno('EMFILE'));
    }
    expect([fds.open, fds.reserved, buf.references, other.references]).toEqual([[3, 4], [], 2, 1]);
    fds.close(3);
    expect(fds.install(other)).toBe(3);
    for (const fd of fds.open) fds.close(fd);
  });

  it.each([2, 3.5, Number.NaN, -1])('cannot be made with a limit of %s', (limit) => {
    expect(() => new FdTable(limit)).toThrow(invariant(`limit ${limit}`));
  });

  it('refuses a buffer whose last reference was put', () => {
    const b = bench();
    const fds = new FdTable();
    const buf = b.fakeBuffer();
    buf.put();
    expect(() => fds.install(buf)).toThrow(invariant('the last reference of fake was put'));
    expect([fds.open, fds.reserved]).toEqual([[], []]);
  });
});

describe('a reserved descriptor', () => {
  it('is not open to anybody until the file is installed, and counts as taken', () => {
    const b = bench();
    const fds = new FdTable();
    const buf = b.fakeBuffer();
    const fd = fds.reserve();
    for (const call of [() => fds.get(fd), () => fds.dup(fd), () => fds.close(fd)])
      expect(call).toThrow(errno('EBADF'));
    expect([fd, fds.reserve(), fds.reserved, fds.open]).toEqual([3, 4, [3, 4], []]);
    fds.installReserved(fd, buf);
    fds.unreserve(4);
    expect([fds.reserved, fds.open, buf.references]).toEqual([[], [3], 1]);
    fds.close(fd);
  });

  it('can be given back and used only once', () => {
    const b = bench();
    const fds = new FdTable();
    const buf = b.fakeBuffer();
    const fd = fds.reserve();
    fds.unreserve(fd);
    expect(() => fds.unreserve(fd)).toThrow(invariant('fd 3 is not reserved'));
    expect(() => fds.installReserved(fd, buf)).toThrow(invariant('fd 3 is not reserved'));
    expect(() => fds.unreserve(0)).toThrow(invariant('fd 0 is not reserved'));
    expect(fds.install(buf)).toBe(3);
    expect(() => fds.installReserved(3, buf)).toThrow(invariant('fd 3 is not reserved'));
    expect(buf.references).toBe(1);
    fds.close(3);
  });
});
