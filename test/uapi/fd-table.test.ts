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

describe('the flags and numbers of a descriptor', () => {
  it('is closed on exec only if it was asked for; a duplicate is not, unless asked for', () => {
    const b = bench();
    const fds = new FdTable();
    const fd = fds.install(b.fakeBuffer(), { cloexec: true });
    const copies = [fds.dup(fd), fds.dup(fd, { cloexec: true }), fds.dup2(fd, 20), fds.dup3(fd, 21, { cloexec: true })];
    expect([fd, ...copies].map((each) => fds.isCloexec(each))).toEqual([true, false, true, false, true]);
    fds.setCloexec(fd, false);
    expect([fds.isCloexec(fd), fds.closedOnExec]).toEqual([false, [4 + 1, 21]]);
    expect(() => fds.isCloexec(99)).toThrow(errno('EBADF'));
    expect(() => fds.setCloexec(99, true)).toThrow(errno('EBADF'));
    for (const each of fds.open) fds.close(each);
  });

  it('dup gives the lowest free number from a wanted one on', () => {
    const b = bench();
    const fds = new FdTable(12);
    const fd = fds.install(b.fakeBuffer());
    expect([fds.dup(fd, { from: 10 }), fds.dup(fd, { from: 10 }), fds.dup(fd)]).toEqual([10, 11, 4]);
    expect(() => fds.dup(fd, { from: 10 })).toThrow(errno('EMFILE'));
    for (const from of [12, -1, 0.5]) expect(() => fds.dup(fd, { from })).toThrow(errno('EINVAL'));
    for (const each of fds.open) fds.close(each);
  });

  it('dup2 closes what the number stood for, and does nothing for the same number; dup3 refuses that', () => {
    const b = bench();
    const fds = new FdTable(8);
    const [buf, old] = [b.fakeBuffer(), b.fakeBuffer({}, 4096, 'old')];
    const [fd, target] = [fds.install(buf, { cloexec: true }), fds.install(old)];
    expect([fds.dup2(fd, target), old.references, buf.references]).toEqual([target, 0, 2]);
    expect([fds.dup2(fd, fd), fds.isCloexec(fd)]).toEqual([fd, true]);
    expect(() => fds.dup3(fd, fd)).toThrow(errno('EINVAL'));
    for (const bad of [-1, 8, 1.5]) expect(() => fds.dup2(fd, bad)).toThrow(errno('EBADF'));
    expect(() => fds.dup2(77, 5)).toThrow(errno('EBADF'));
    expect([fds.open, buf.references]).toEqual([[fd, target], 2]);
    for (const each of fds.open) fds.close(each);
  });

  it('dup2 onto a number that is being opened is EBUSY and does not disturb the opening', () => {
    const b = bench();
    const fds = new FdTable();
    const [buf, other] = [b.fakeBuffer(), b.fakeBuffer({}, 4096, 'other')];
    const [fd, reserved] = [fds.install(buf), fds.reserve()];
    expect(() => fds.dup2(fd, reserved)).toThrow(errno('EBUSY'));
    fds.installReserved(reserved, other);
    expect(buf.references).toBe(1);
    for (const each of fds.open) fds.close(each);
  });

  it('a lowered limit refuses new numbers and leaves open ones alone', () => {
    const b = bench();
    const fds = new FdTable();
    const fd = fds.install(b.fakeBuffer());
    fds.limit = 2;
    expect(() => fds.dup(fd)).toThrow(errno('EMFILE'));
    expect(fds.open).toEqual([fd]);
    fds.limit = 5;
    expect(fds.dup(fd)).toBe(4);
    const raise = (limit: number) => () => {
      fds.limit = limit;
    };
    expect(raise(-1)).toThrow(errno('EINVAL'));
    expect(raise(2 ** 21)).toThrow(errno('EPERM'));
    for (const each of fds.open) fds.close(each);
  });
});

describe('publishing a new file', () => {
  it('reserves first, then makes, then tells, then opens', () => {
    const b = bench();
    const fds = new FdTable();
    const steps: string[] = [];
    const fd = fds.publish(
      () => {
        steps.push(`make ${fds.reserved}`);
        return b.fakeBuffer();
      },
      (told) => {
        steps.push(`tell ${told}, open ${fds.open.length}`);
      },
    );
    expect([steps, fds.open, fds.reserved]).toEqual([['make 3', 'tell 3, open 0'], [fd], []]);
    fds.close(fd);
  });

  it.each(['make', 'tell'])('leaves neither number nor file when %s fails', (failing) => {
    const b = bench();
    const fds = new FdTable();
    const buf = b.fakeBuffer();
    const attempt = (step: string) => {
      if (step === failing) throw new Error(step);
    };
    const publish = () =>
      fds.publish(
        () => {
          attempt('make');
          return buf.get();
        },
        () => attempt('tell'),
      );
    expect(publish).toThrow(failing);
    expect([fds.open, fds.reserved, buf.references]).toEqual([[], [], 1]);
    buf.put();
  });
});
