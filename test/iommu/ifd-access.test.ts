import { describe, expect, it } from 'vitest';
import { type Iova, iova, PAGE_SIZE } from '../../src/base/addr.ts';
import type { IoasAccess } from '../../src/iommu/ioas-access.ts';
import { MOCK_APERTURE_START, MOCK_PAGE_SIZE } from '../../src/testing/mock-iommu-domain.ts';
import { errnoOf } from '../mem/machine.ts';
import { ioasBench } from './ifd-bench.ts';

const RW = { read: true, write: true } as const;
const BASE = iova(MOCK_APERTURE_START);
const DOMAINS = [0, 1, 2];

/** The bench with an access object that releases everything when told. */
function accessBench(domains: number) {
  const b = ioasBench(domains);
  const told: (readonly [iova: number, bytes: number])[] = [];
  const id = b.fd.createAccess({
    name: 'vdev',
    onUnmap(at, bytes) {
      told.push([at, bytes]);
      b.fd.access(id).unpinAll();
    },
  });
  const access = b.fd.access(id);
  access.attach(b.ioas);
  return { ...b, access, accessId: id, told };
}

function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) % 251);
}

describe('an access object that pins', () => {
  it.each(DOMAINS)('IFD-12 is told to release its pins when they are unmapped (%i tables)', (domains) => {
    const { ioas, user, access, told, account } = accessBench(domains);
    const va = user.mmap(4 * PAGE_SIZE);
    ioas.mapUser(user, va, 4 * PAGE_SIZE, { ...RW, iova: BASE });
    const frames = access.pin(BASE, 3 * PAGE_SIZE, { write: true });
    expect(frames).toEqual([0, 1, 2].map((i) => user.frameAt(va + i * PAGE_SIZE)));
    expect(account.lockedPages).toBe(domains > 0 ? 4 : 3);
    expect(ioas.unmap(BASE, 4 * PAGE_SIZE)).toBe(4 * PAGE_SIZE);
    expect(told).toEqual([[BASE, 4 * PAGE_SIZE]]);
    expect([access.pinCount, account.lockedPages, user.pinnedPages]).toEqual([0, 0, 0]);
    errnoOf('ENOENT', () => access.pin(BASE, PAGE_SIZE));
  });

  it('IFD-12 that does not release fails the unmap, which changes nothing', () => {
    const { fd, ioas, user, tables } = ioasBench(1);
    const deaf = fd.access(fd.createAccess({ name: 'deaf', onUnmap: () => undefined }));
    deaf.attach(ioas);
    const va = user.mmap(2 * PAGE_SIZE);
    ioas.mapUser(user, va, 2 * PAGE_SIZE, { ...RW, iova: BASE });
    deaf.pin(BASE, PAGE_SIZE);
    errnoOf('EDEADLK', () => ioas.unmapAll());
    expect([ioas.areas().length, tables[0]?.mappedBytes]).toEqual([1, 2 * PAGE_SIZE]);
    deaf.pin(iova(BASE + PAGE_SIZE), PAGE_SIZE);
    deaf.unpin(BASE, PAGE_SIZE);
    deaf.unpin(iova(BASE + PAGE_SIZE), PAGE_SIZE);
    expect(ioas.unmapAll()).toBe(2 * PAGE_SIZE);
    expect(() => deaf.unpin(BASE, PAGE_SIZE)).toThrow('did not pin');
  });

  it.each(DOMAINS)('shares pins with others and with page tables that come and go (%i tables)', (domains) => {
    const { fd, ioas, ioasId, user, access, account, device } = accessBench(domains);
    const va = user.mmap(8 * PAGE_SIZE);
    for (let pages = 1; pages <= 8; pages++) {
      ioas.mapUser(user, va, 8 * PAGE_SIZE, { ...RW, iova: BASE });
      access.pin(BASE, pages * PAGE_SIZE);
      access.pin(BASE, pages * PAGE_SIZE);
      access.unpin(BASE, pages * PAGE_SIZE);
      expect(account.lockedPages).toBe(domains > 0 ? 8 : pages);
      const { id } = device({ unit: `extra${pages}` });
      fd.attachDevice(id, ioasId);
      expect(account.lockedPages).toBe(8);
      fd.detachDevice(id);
      expect(account.lockedPages).toBe(domains > 0 ? 8 : pages);
      access.unpin(BASE, pages * PAGE_SIZE);
      expect(ioas.unmapAll()).toBe(8 * PAGE_SIZE);
      expect([account.lockedPages, user.pinnedPages]).toEqual([0, 0]);
    }
  });

  it('says what is wrong with a request, and pins nothing then', () => {
    const { fd, ioas, user, access, account } = accessBench(0);
    const va = user.mmap(4 * PAGE_SIZE);
    expect(ioas.alignmentBytes).toBe(PAGE_SIZE);
    errnoOf('EINVAL', () => ioas.mapUser(user, va + MOCK_PAGE_SIZE, PAGE_SIZE, { ...RW, iova: BASE }));
    ioas.mapUser(user, va, 2 * PAGE_SIZE, { read: true, iova: BASE });
    ioas.mapUser(user, va, PAGE_SIZE, { ...RW, iova: iova(BASE + 2 * PAGE_SIZE) });
    errnoOf('EPERM', () => access.pin(BASE, PAGE_SIZE, { write: true }));
    errnoOf('EINVAL', () => access.pin(BASE, 0));
    errnoOf('EINVAL', () => access.pin(iova(BASE + 512), 16));
    errnoOf('ENOENT', () => access.pin(BASE, 4 * PAGE_SIZE));
    errnoOf('EOVERFLOW', () => access.pin(BASE, 2 ** 53 - 1));
    expect(access.pin(BASE, 2 * PAGE_SIZE + 1)).toHaveLength(3);
    access.unpinAll();
    user.munmap(va + PAGE_SIZE, PAGE_SIZE);
    errnoOf('EFAULT', () => access.pin(BASE, 3 * PAGE_SIZE));
    expect([account.lockedPages, user.pinnedPages]).toEqual([0, 0]);
    const reader = fd.access(fd.createAccess({ name: 'reader' }));
    errnoOf('ENOENT', () => reader.read(BASE, 1));
    reader.attach(ioas);
    errnoOf('EINVAL', () => reader.pin(BASE, PAGE_SIZE));
    errnoOf('EINVAL', () => reader.attach(ioas));
  });

  it('keeps an address space alive, and needs areas that begin at pages', () => {
    const { fd, ioas, ioasId, user } = ioasBench(0);
    const va = user.mmap(2 * PAGE_SIZE);
    ioas.mapUser(user, va + MOCK_PAGE_SIZE, PAGE_SIZE, RW);
    const id = fd.createAccess({ name: 'vdev', onUnmap: () => undefined });
    errnoOf('EADDRINUSE', () => fd.access(id).attach(ioas));
    ioas.unmapAll();
    fd.access(id).attach(ioas);
    errnoOf('EBUSY', () => fd.destroy(ioasId));
    errnoOf('EBUSY', () => fd.destroy(id));
    fd.destroyAccess(id);
    errnoOf('ENOENT', () => fd.destroyAccess(id));
    fd.destroy(ioasId);
  });
});

describe('an access object that reads and writes', () => {
  const expectBytes = (access: IoasAccess, at: Iova, truth: Uint8Array, from: number, length: number) => {
    const data = pattern(length).map((byte) => byte ^ 0x5a);
    access.write(iova(at + from), data);
    truth.set(data, from);
    expect(access.read(iova(at + from), length)).toEqual(truth.slice(from, from + length));
  };

  it.each([0, 1])('IFD-13 moves exactly the bytes asked for around a page edge (%i tables)', (domains) => {
    const { ioas, user, access } = accessBench(domains);
    const va = user.mmap(4 * PAGE_SIZE);
    const truth = pattern(4 * PAGE_SIZE);
    user.write(va, truth);
    ioas.mapUser(user, va, 2 * PAGE_SIZE, { ...RW, iova: BASE });
    ioas.mapUser(user, va + 2 * PAGE_SIZE, 2 * PAGE_SIZE, { ...RW, iova: iova(BASE + 2 * PAGE_SIZE) });
    // Pages pinned meanwhile are the slow way of the kernel; the bytes are the same.
    access.pin(BASE, PAGE_SIZE);
    for (let length = 1; length < 64; length += 3) {
      for (let offset = -50; offset <= 50; offset += 7) {
        expectBytes(access, BASE, truth, PAGE_SIZE + offset, length);
        expectBytes(access, BASE, truth, 2 * PAGE_SIZE + offset, length);
      }
    }
    expectBytes(access, BASE, truth, 0, truth.length);
    expect(user.read(va, truth.length)).toEqual(truth);
    access.unpinAll();
  });

  it('IFD-13 finds bytes of an area that begins inside a page', () => {
    const { fd, ioas, user, account } = ioasBench(0);
    const access = fd.access(fd.createAccess({ name: 'rw' }));
    access.attach(ioas);
    const va = user.mmap(3 * PAGE_SIZE);
    user.write(va, pattern(3 * PAGE_SIZE));
    const at = ioas.mapUser(user, va + 300, 2 * PAGE_SIZE + 17, RW);
    expect(at % PAGE_SIZE).toBe(300);
    expect(access.read(at, 2 * PAGE_SIZE + 17)).toEqual(pattern(3 * PAGE_SIZE).slice(300, 2 * PAGE_SIZE + 317));
    errnoOf('ENOENT', () => access.read(at, 2 * PAGE_SIZE + 18));
    expect([account.lockedPages, user.pinnedPages]).toEqual([0, 0]);
  });

  it('is refused what the mapping does not allow, and what is no longer there', () => {
    const { fd, ioas, user } = ioasBench(0);
    const access = fd.access(fd.createAccess({ name: 'rw' }));
    access.attach(ioas);
    const va = user.mmap(4 * PAGE_SIZE);
    user.write(va, pattern(4 * PAGE_SIZE));
    const readable = ioas.mapUser(user, va, PAGE_SIZE, { read: true });
    const writable = ioas.mapUser(user, va, 4 * PAGE_SIZE, { write: true });
    errnoOf('EPERM', () => access.write(readable, Uint8Array.of(1)));
    errnoOf('EPERM', () => access.read(writable, 1));
    errnoOf('EINVAL', () => access.read(readable, 0));
    user.munmap(va + 2 * PAGE_SIZE, PAGE_SIZE);
    errnoOf('EFAULT', () => access.write(writable, new Uint8Array(4 * PAGE_SIZE)));
    // Nothing was written before the hole was met.
    expect(user.read(va, 2 * PAGE_SIZE)).toEqual(pattern(2 * PAGE_SIZE));
  });
});

describe('memory that goes away under an address space', () => {
  it.each([1, 2])('IFD-19 fails the map with a hole in the source and leaves nothing mapped (%i tables)', (domains) => {
    const { ioas, user, tables, account } = ioasBench(domains);
    const page = user.mmap(PAGE_SIZE);
    const at = ioas.mapUser(user, page, PAGE_SIZE, RW);
    for (const table of tables) expect(table.iovaToPhys(at + 5)).toBe(user.frameAt(page) * PAGE_SIZE + 5);
    const va = user.mmap(8 * PAGE_SIZE);
    user.munmap(va + 4 * PAGE_SIZE, 4 * PAGE_SIZE);
    errnoOf('EFAULT', () => ioas.mapUser(user, va, 8 * PAGE_SIZE, RW));
    user.munmap(va, 4 * PAGE_SIZE);
    errnoOf('EFAULT', () => ioas.mapUser(user, va, 8 * PAGE_SIZE, RW));
    for (const table of tables) expect(table.mappedBytes).toBe(PAGE_SIZE);
    expect([ioas.areas().length, account.lockedPages, user.pinnedPages]).toEqual([1, 1, 1]);
  });

  it('keeps pinned pages until they are unmapped from the device, and then gives them back', () => {
    const { ioas, user, tables, pages } = ioasBench(1);
    const free = pages.freePageCount();
    const va = user.mmap(4 * PAGE_SIZE);
    const frame = user.frameAt(va);
    const at = ioas.mapUser(user, va, 4 * PAGE_SIZE, RW);
    user.munmap(va, 4 * PAGE_SIZE);
    expect(tables[0]?.iovaToPhys(at)).toBe(frame * PAGE_SIZE);
    expect(pages.freePageCount()).toBe(free - 4);
    ioas.unmapAll();
    expect(pages.freePageCount()).toBe(free);
  });

  it.each(DOMAINS)(
    'serves tables made after the process has ended only from pages that are pinned (%i tables)',
    (domains) => {
      const { fd, ioas, ioasId, user, device } = ioasBench(domains);
      const va = user.mmap(2 * PAGE_SIZE);
      const frame = user.frameAt(va);
      ioas.mapUser(user, va, 2 * PAGE_SIZE, { ...RW, iova: BASE });
      user.exit();
      const { id } = device({ unit: 'late' });
      if (domains === 0) {
        errnoOf('EFAULT', () => fd.attachDevice(id, ioasId));
        expect([fd.device(id).hwpt, ioas.hwpts.size, ioas.alignmentBytes]).toEqual([null, 0, 1]);
        return;
      }
      fd.attachDevice(id, ioasId);
      expect(fd.device(id).hwpt?.domain).toMatchObject({ mappedBytes: 2 * PAGE_SIZE });
      expect(user.heldPages).toBe(2);
      expect(frame).toBeGreaterThan(0);
    },
  );

  it('maps every alignment of a whole number of mock pages', () => {
    const { ioas, user, tables } = ioasBench(2);
    const va = user.mmap(4 * PAGE_SIZE);
    for (let start = 0; start < 3 * PAGE_SIZE; start += MOCK_PAGE_SIZE) {
      for (let end = start + MOCK_PAGE_SIZE; end <= 4 * PAGE_SIZE; end += MOCK_PAGE_SIZE) {
        const at = ioas.mapUser(user, va + start, end - start, RW);
        for (const table of tables) {
          for (let done = 0; done < end - start; done += MOCK_PAGE_SIZE) {
            const from = va + start + done;
            expect(table.iovaToPhys(at + done)).toBe(user.frameAt(from) * PAGE_SIZE + (from % PAGE_SIZE));
          }
          expect(table.mappedBytes).toBe(end - start);
        }
        expect(ioas.unmap(at, end - start)).toBe(end - start);
      }
    }
  });

  it('charges a page once, and refuses what is above the limit', () => {
    const { ioas, user, account, tables } = ioasBench(1, { limitPages: 4 });
    const va = user.mmap(8 * PAGE_SIZE);
    errnoOf('ENOMEM', () => ioas.mapUser(user, va, 5 * PAGE_SIZE, RW));
    ioas.mapUser(user, va, 3 * PAGE_SIZE, RW);
    errnoOf('ENOMEM', () => ioas.mapUser(user, va, 2 * PAGE_SIZE, RW));
    expect([account.lockedPages, tables[0]?.mappedBytes]).toEqual([3, 3 * PAGE_SIZE]);
    ioas.unmapAll();
    expect(account.lockedPages).toBe(0);
  });
});

describe('Ioas.copy', () => {
  it('IFD-21 shows the same pages in another space, and lets the first one go', () => {
    const { fd, ioas, user, access, account, tables } = accessBench(1);
    const old = fd.allocIoas();
    const va = user.mmap(8 * PAGE_SIZE);
    const source = fd.ioas(old).mapUser(user, va, 8 * PAGE_SIZE, RW);
    access.replace(fd.ioas(old));
    const frames = access.pin(source, 8 * PAGE_SIZE);
    const at = ioas.copy(fd.ioas(old), source, 8 * PAGE_SIZE, RW);
    expect(frames.map((frame) => frame * PAGE_SIZE)).toEqual(
      frames.map((_, i) => tables[0]?.iovaToPhys(at + i * PAGE_SIZE)),
    );
    expect(account.lockedPages).toBe(8);
    const next = fd.allocIoas();
    access.replace(fd.ioas(next));
    expect([access.pinCount, access.ioas]).toEqual([0, fd.ioas(next)]);
    fd.ioas(old).unmapAll();
    fd.destroy(old);
    expect(tables[0]?.mappedBytes).toBe(8 * PAGE_SIZE);
    ioas.unmapAll();
    expect([account.lockedPages, user.pinnedPages]).toEqual([0, 0]);
  });

  it('joins several areas and parts of them, but no holes', () => {
    const { fd, ioas, user, tables } = ioasBench(1);
    const from = fd.ioas(fd.allocIoas());
    const va = user.mmap(8 * PAGE_SIZE);
    from.mapUser(user, va, 4 * PAGE_SIZE, { ...RW, iova: iova(0x10_0000) });
    from.mapUser(user, va + 4 * PAGE_SIZE, 4 * PAGE_SIZE, { read: true, iova: iova(0x10_4000) });
    errnoOf('EPERM', () => ioas.copy(from, iova(0x10_1000), 6 * PAGE_SIZE, { ...RW, iova: BASE }));
    errnoOf('ENOENT', () => ioas.copy(from, iova(0x10_1000), 8 * PAGE_SIZE, { read: true, iova: BASE }));
    errnoOf('EINVAL', () => ioas.copy(from, iova(0x10_1000), 0, { read: true }));
    expect(ioas.areas()).toEqual([]);
    expect(ioas.copy(from, iova(0x10_1000), 6 * PAGE_SIZE, { read: true, iova: BASE })).toBe(BASE);
    expect(ioas.areas().map(({ iova: at, sizeBytes }) => [at - BASE, sizeBytes / PAGE_SIZE])).toEqual([
      [0, 3],
      [3 * PAGE_SIZE, 3],
    ]);
    for (let page = 0; page < 6; page++)
      expect(tables[0]?.iovaToPhys(BASE + page * PAGE_SIZE)).toBe(
        user.frameAt(va + (page + 1) * PAGE_SIZE) * PAGE_SIZE,
      );
    errnoOf('EEXIST', () => ioas.copy(from, iova(0x10_1000), PAGE_SIZE, { read: true, iova: BASE }));
  });
});
