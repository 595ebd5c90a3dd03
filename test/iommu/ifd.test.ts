import { describe, expect, it } from 'vitest';
import { iova, PAGE_SIZE } from '../../src/base/addr.ts';
import { IOAS_LAST } from '../../src/iommu/ioas-ranges.ts';
import { IOAS_MAP, IOMMUFD, IOMMUFD_OPTION } from '../../src/iommu/iommufd-commands.ts';
import { MOCK_APERTURE_LAST, MOCK_APERTURE_START, MOCK_PAGE_SIZE } from '../../src/testing/mock-iommu-domain.ts';
import { errnoOf } from '../mem/machine.ts';
import { type Field, ifdBench, ioasBench, tableOf, U64_MAX, u64 } from './ifd-bench.ts';

const RW = { read: true, write: true } as const;
const BASE = iova(MOCK_APERTURE_START);
const DOMAINS = [0, 1, 2];

const destroyOf = (id: number): Field[] => [[4, id]];
const mapOf = (flags: number, ioas: number, va: number, length: number, at = 0): Field[] => [
  [4, flags],
  [4, ioas],
  [4, 0],
  [8, va],
  [8, length],
  [8, at],
];
const RW_FLAGS = IOAS_MAP.readable | IOAS_MAP.writeable;
/** Every command with a structure of its right length, all zero but the size. */
const COMMANDS: readonly (readonly [name: string, cmd: number, bytes: number])[] = [
  ['destroy', IOMMUFD.destroy, 8],
  ['ioas_alloc', IOMMUFD.ioasAlloc, 12],
  ['ioas_allow_iovas', IOMMUFD.ioasAllowIovas, 24],
  ['ioas_copy', IOMMUFD.ioasCopy, 40],
  ['ioas_iova_ranges', IOMMUFD.ioasIovaRanges, 32],
  ['ioas_map', IOMMUFD.ioasMap, 40],
  ['ioas_unmap', IOMMUFD.ioasUnmap, 24],
  ['option', IOMMUFD.option, 24],
  ['hwpt_set_dirty_tracking', IOMMUFD.hwptSetDirtyTracking, 16],
  ['hwpt_get_dirty_bitmap', IOMMUFD.hwptGetDirtyBitmap, 48],
  ['ioas_map_file', IOMMUFD.ioasMapFile, 40],
];

describe('Iommufd.ioctl', () => {
  it('IFD-01 tells an unknown object, a bad pointer and an unknown command apart', () => {
    const { command, fd, args, user } = ifdBench();
    errnoOf('ENOENT', () => command(IOMMUFD.destroy, destroyOf(77)));
    errnoOf('EFAULT', () => fd.ioctl(IOMMUFD.destroy, 0));
    errnoOf('ENOTTY', () => fd.ioctl(0x3b70, args));
    errnoOf('ENOTTY', () => fd.ioctl(IOMMUFD.destroy + 0x10_0000, args));
    // The size is there, the structure is not.
    const end = user.mmap(PAGE_SIZE) + PAGE_SIZE - 4;
    user.write(end, Uint8Array.of(8, 0, 0, 0));
    errnoOf('EFAULT', () => fd.ioctl(IOMMUFD.destroy, end));
    expect(fd.ids).toEqual([]);
  });

  it.each(COMMANDS)(
    'IFD-01 %s refuses a short structure, and a longer one unless its tail is zero',
    (_, cmd, bytes) => {
      const { command } = ifdBench();
      const fields: Field[] = Array.from({ length: bytes / 4 - 1 }, () => [4, 0]);
      errnoOf('EINVAL', () => command(cmd, fields, { size: bytes - 1 }));
      errnoOf('E2BIG', () => command(cmd, fields, { tail: [0, 0, 7] }));
      const outcome = (tail: readonly number[]) => {
        try {
          command(cmd, fields, { tail });
        } catch (error) {
          return String(error);
        }
        return 'ok';
      };
      expect(outcome([0, 0, 0, 0])).toBe(outcome([]));
    },
  );

  it('IFD-01 does nothing when the answer cannot be written', () => {
    const { fd, user } = ifdBench();
    const readOnly = user.mmap(PAGE_SIZE, { isWritable: false });
    user.memory.write((user.frameAt(readOnly) * PAGE_SIZE) as never, Uint8Array.of(12, 0, 0, 0), 0, 4);
    errnoOf('EFAULT', () => fd.ioctl(IOMMUFD.ioasAlloc, readOnly));
    expect(fd.ids).toEqual([]);
  });

  it('gives numbers from 1 on, the lowest free one first, and refuses flags it does not know', () => {
    const { command, fd } = ifdBench();
    const alloc = () =>
      command(IOMMUFD.ioasAlloc, [
        [4, 0],
        [4, 0],
      ]).getUint32(8, true);
    expect([alloc(), alloc(), alloc()]).toEqual([1, 2, 3]);
    command(IOMMUFD.destroy, destroyOf(2));
    expect([alloc(), alloc()]).toEqual([2, 4]);
    errnoOf('EOPNOTSUPP', () =>
      command(IOMMUFD.ioasAlloc, [
        [4, 1],
        [4, 0],
      ]),
    );
    expect(fd.ids).toEqual([1, 2, 3, 4]);
  });

  it('maps, copies, translates and unmaps as the calls do', () => {
    const { command, fd, user, ioas, ioasId, tables } = ioasBench(1);
    const va = user.mmap(4 * PAGE_SIZE);
    errnoOf('EINVAL', () => command(IOMMUFD.ioasMap, mapOf(0, ioasId, va, PAGE_SIZE)));
    errnoOf('EOPNOTSUPP', () => command(IOMMUFD.ioasMap, mapOf(8 | RW_FLAGS, ioasId, va, PAGE_SIZE)));
    errnoOf('EOVERFLOW', () => command(IOMMUFD.ioasMap, mapOf(RW_FLAGS, ioasId, va, U64_MAX)));
    const at = u64(command(IOMMUFD.ioasMap, mapOf(RW_FLAGS, ioasId, va, 2 * PAGE_SIZE)), 32);
    expect(tables[0]?.iovaToPhys(at)).toBe(user.frameAt(va) * PAGE_SIZE);
    const other = fd.allocIoas();
    const copied = command(IOMMUFD.ioasCopy, [
      ...([
        [4, IOAS_MAP.fixedIova | IOAS_MAP.readable],
        [4, other],
        [4, ioasId],
      ] as const),
      ...([
        [8, 2 * PAGE_SIZE],
        [8, 0x5_0000],
        [8, at],
      ] as const),
    ]);
    expect(u64(copied, 24)).toBe(0x5_0000);
    expect(fd.ioas(other).areas()).toEqual([{ iova: 0x5_0000, sizeBytes: 2 * PAGE_SIZE, read: true, write: false }]);
    const unmapped = command(IOMMUFD.ioasUnmap, [
      [4, ioasId],
      [8, 0],
      [8, U64_MAX],
    ]);
    expect([u64(unmapped, 16), ioas.areas()]).toEqual([2 * PAGE_SIZE, []]);
  });

  it('sets the limit mode while nothing exists', () => {
    const { command } = ifdBench();
    const mode = (op: number, value: number, object = 0) =>
      command(IOMMUFD.option, [
        [4, IOMMUFD_OPTION.rlimitMode],
        [2, op],
        [2, 0],
        [4, object],
        [8, value],
      ]);
    expect(u64(mode(IOMMUFD_OPTION.get, 1), 16)).toBe(0);
    errnoOf('EOPNOTSUPP', () => mode(IOMMUFD_OPTION.get, 0, 2));
    errnoOf('EOPNOTSUPP', () => mode(123, 0));
    errnoOf('EINVAL', () => mode(IOMMUFD_OPTION.set, 2));
    mode(IOMMUFD_OPTION.set, 1);
    expect(u64(mode(IOMMUFD_OPTION.get, 0), 16)).toBe(1);
    command(IOMMUFD.ioasAlloc, [
      [4, 0],
      [4, 0],
    ]);
    errnoOf('EBUSY', () => mode(IOMMUFD_OPTION.set, 0));
    errnoOf('EOPNOTSUPP', () =>
      command(IOMMUFD.option, [
        [4, 9],
        [2, 1],
        [2, 0],
        [4, 0],
        [8, 0],
      ]),
    );
  });
});

describe('an address space', () => {
  it.each(DOMAINS)('IFD-02 can be destroyed only while no device uses it (%i tables)', (domains) => {
    const { command, fd, ioasId, devices } = ioasBench(domains);
    if (domains > 0) errnoOf('EBUSY', () => command(IOMMUFD.destroy, destroyOf(ioasId)));
    for (const { id } of devices) fd.detachDevice(id);
    command(IOMMUFD.destroy, destroyOf(ioasId));
    expect(fd.ids).toEqual(devices.map(({ id }) => id));
    errnoOf('ENOENT', () => command(IOMMUFD.destroy, destroyOf(ioasId)));
  });

  it('IFD-03 takes its areas with it, and closing takes everything', () => {
    const { fd, ioas, ioasId, user, account, pages } = ioasBench(0);
    const free = pages.freePageCount();
    const va = user.mmap(10 * PAGE_SIZE);
    ioas.mapUser(user, va, PAGE_SIZE, { ...RW, iova: BASE });
    fd.destroy(ioasId);
    const again = fd.ioas(fd.allocIoas());
    const access = fd.createAccess({ name: 'vdev', onUnmap: () => undefined });
    fd.access(access).attach(again);
    for (let i = 0; i < 10; i++)
      again.mapUser(user, va, (i + 1) * PAGE_SIZE, { ...RW, iova: iova(BASE + i * 16 * PAGE_SIZE) });
    expect(again.areas()).toHaveLength(10);
    fd.access(access).pin(BASE, PAGE_SIZE);
    fd.access(access).unpinAll();
    fd.destroyAccess(access);
    fd.close();
    user.exit();
    expect([fd.ids, account.lockedPages, user.heldPages, pages.freePageCount()]).toEqual([[], 0, 0, free + 1]);
  });

  it.each(DOMAINS)('IFD-05 unmaps what was mapped, whole and nothing else (%i tables)', (domains) => {
    const { ioas, user, tables, account } = ioasBench(domains);
    const va = user.mmap(16 * PAGE_SIZE);
    errnoOf('ENOENT', () => ioas.unmap(BASE, PAGE_SIZE));
    for (let i = 0; i < 10; i++) ioas.mapUser(user, va, PAGE_SIZE, { ...RW, iova: iova(BASE + i * PAGE_SIZE) });
    for (const table of tables) expect(table.mappedBytes).toBe(10 * PAGE_SIZE);
    for (let i = 0; i < 10; i++) expect(ioas.unmap(iova(BASE + i * PAGE_SIZE), PAGE_SIZE)).toBe(PAGE_SIZE);
    ioas.mapUser(user, va, 2 * PAGE_SIZE, { ...RW, iova: BASE });
    errnoOf('ENOENT', () => ioas.unmap(BASE, PAGE_SIZE));
    errnoOf('ENOENT', () => ioas.unmap(iova(BASE + PAGE_SIZE), PAGE_SIZE));
    expect(ioas.unmap(BASE, 2 * PAGE_SIZE)).toBe(2 * PAGE_SIZE);
    ioas.mapUser(user, va, 8 * PAGE_SIZE, { ...RW, iova: iova(BASE + 4 * PAGE_SIZE) });
    // The same; inside; over the end; over the start; around.
    const over = [
      [4, 8],
      [6, 2],
      [10, 4],
      [2, 4],
      [2, 12],
    ] as const;
    for (const [at, pages] of over)
      errnoOf('EEXIST', () => ioas.mapUser(user, va, pages * PAGE_SIZE, { ...RW, iova: iova(BASE + at * PAGE_SIZE) }));
    expect([ioas.unmapAll(), ioas.unmapAll()]).toEqual([8 * PAGE_SIZE, 0]);
    expect([account.lockedPages, ...tables.map((table) => table.mappedBytes)]).toEqual([0, ...tables.map(() => 0)]);
  });

  it('unmaps several whole areas and the gaps between them at once, and none when one would be cut', () => {
    const { ioas, user } = ioasBench(1);
    const va = user.mmap(8 * PAGE_SIZE);
    const base = BASE + 4 * PAGE_SIZE;
    for (let i = 0; i < 4; i++) ioas.mapUser(user, va, 8 * PAGE_SIZE, { ...RW, iova: iova(base + i * 16 * PAGE_SIZE) });
    errnoOf('ENOENT', () => ioas.unmap(iova(base - 4 * PAGE_SIZE), 8 * PAGE_SIZE));
    errnoOf('ENOENT', () => ioas.unmap(iova(base + 52 * PAGE_SIZE), 8 * PAGE_SIZE));
    errnoOf('ENOENT', () => ioas.unmap(iova(base), 52 * PAGE_SIZE));
    expect(ioas.areas()).toHaveLength(4);
    expect(ioas.unmap(iova(base - 4 * PAGE_SIZE), 64 * PAGE_SIZE)).toBe(32 * PAGE_SIZE);
    expect(ioas.areas()).toEqual([]);
  });

  it.each(DOMAINS)(
    'IFD-07 places areas aligned, beside what is reserved, inside what is allowed (%i tables)',
    (domains) => {
      const { ioas, user } = ioasBench(domains);
      const va = user.mmap(16 * PAGE_SIZE, { align: 64 * PAGE_SIZE });
      const placeTen = () =>
        Array.from({ length: 10 }, (_, i) => {
          const length = (i + 1) * PAGE_SIZE;
          const at = ioas.mapUser(user, va, length, RW);
          expect(at % (length & -length)).toBe(0);
          return { start: at, last: at + length - 1 };
        });
      expect(Math.min(...placeTen().map(({ start }) => start))).toBeGreaterThan(0);
      ioas.unmapAll();
      const reserved = { start: BASE + PAGE_SIZE, last: BASE + 101 * PAGE_SIZE - 1 };
      ioas.reserve(reserved.start, reserved.last, reserved);
      for (const { start, last } of placeTen()) expect(start > reserved.last || last < reserved.start).toBe(true);
      ioas.unmapAll();
      const allowed = { start: BASE + 200 * PAGE_SIZE, last: BASE + 600 * PAGE_SIZE - 1 };
      ioas.allow([allowed]);
      for (const { start, last } of placeTen()) expect(start >= allowed.start && last <= allowed.last).toBe(true);
      ioas.unmapAll();
      errnoOf('EADDRINUSE', () => ioas.allow([{ start: reserved.last, last: allowed.start }]));
      errnoOf('EADDRINUSE', () => ioas.reserve(allowed.last, allowed.last, {}));
      errnoOf('EINVAL', () => ioas.allow([allowed, { start: allowed.last, last: allowed.last + 9 }]));
      errnoOf('EINVAL', () => ioas.allow([{ start: 9, last: 8 }]));
      // The refused lists changed nothing: the old one still rules.
      for (let i = 0; i < 4; i++) expect(ioas.mapUser(user, va, PAGE_SIZE, RW)).toBe(allowed.start + i * PAGE_SIZE);
      errnoOf('EINVAL', () => ioas.mapUser(user, va, PAGE_SIZE, { ...RW, iova: iova(reserved.start + 4 * PAGE_SIZE) }));
      errnoOf('ENOSPC', () => ioas.mapUser(user, va, 401 * PAGE_SIZE, RW));
      ioas.allow([]);
      ioas.unreserve(reserved);
      expect(ioas.mapUser(user, va, PAGE_SIZE, RW)).toBeLessThan(allowed.start);
    },
  );

  it.each(DOMAINS)('IFD-10 lists where anything can be mapped, and how many ranges that are (%i tables)', (domains) => {
    const { command, answer, args, ioas, ioasId, user } = ioasBench(domains);
    const list = args + 1024;
    const ask = (room: number) =>
      command(IOMMUFD.ioasIovaRanges, [
        [4, ioasId],
        [4, room],
        [4, 0],
        [8, list],
        [8, 0],
      ]);
    const listed = (i: number) => {
      const view = new DataView(user.read(list + 16 * i, 16).buffer);
      return [u64(view, 0), u64(view, 8)];
    };
    const found = ask(10);
    expect(found.getUint32(8, true)).toBe(1);
    expect(u64(found, 24)).toBe(domains > 0 ? MOCK_PAGE_SIZE : 1);
    const last = domains > 0 ? MOCK_APERTURE_LAST : U64_MAX;
    const first = domains > 0 ? MOCK_APERTURE_START : 0;
    expect(listed(0)).toEqual([first, last]);
    errnoOf('EMSGSIZE', () => ask(0));
    expect(answer(32).getUint32(8, true)).toBe(1);
    ioas.reserve(first + PAGE_SIZE, first + 2 * PAGE_SIZE - 1, ioas);
    user.write(list, new Uint8Array(64));
    errnoOf('EMSGSIZE', () => ask(1));
    expect(answer(32).getUint32(8, true)).toBe(2);
    expect([listed(0), listed(1)]).toEqual([
      [first, first + PAGE_SIZE - 1],
      [0, 0],
    ]);
    expect(ask(2).getUint32(8, true)).toBe(2);
    expect([listed(0), listed(1)]).toEqual([
      [first, first + PAGE_SIZE - 1],
      [first + 2 * PAGE_SIZE, last],
    ]);
    expect(ioas.usableRanges()[1]?.last).toBe(domains > 0 ? last : IOAS_LAST);
  });

  it.each(DOMAINS)('IFD-16 wants lengths that its tables can map (%i tables)', (domains) => {
    const { ioas, user, account } = ioasBench(domains);
    const va = user.mmap(2 * PAGE_SIZE);
    for (let length = 1; length < 2 * PAGE_SIZE; length += 37) {
      const map = () => ioas.mapUser(user, va, length, RW);
      if (domains > 0 && length % MOCK_PAGE_SIZE !== 0) errnoOf('EINVAL', map);
      else expect(ioas.unmap(map(), length)).toBe(length);
    }
    const length = MOCK_PAGE_SIZE;
    expect(ioas.unmap(ioas.mapUser(user, va, length, RW), length)).toBe(length);
    errnoOf('EINVAL', () => ioas.mapUser(user, va, 0, RW));
    expect(account.lockedPages).toBe(0);
  });

  it('IFD-17 aligns everything to CPU pages without huge pages, unless an area is in the way', () => {
    const { ioas, user } = ioasBench(0);
    const va = user.mmap(2 * PAGE_SIZE);
    ioas.setHugePages(0);
    expect(ioas.alignmentBytes).toBe(PAGE_SIZE);
    ioas.unmap(ioas.mapUser(user, va, PAGE_SIZE, { ...RW, iova: BASE }), PAGE_SIZE);
    errnoOf('EINVAL', () => ioas.mapUser(user, va + MOCK_PAGE_SIZE, PAGE_SIZE, { ...RW, iova: BASE }));
    errnoOf('EINVAL', () => ioas.mapUser(user, va, MOCK_PAGE_SIZE, { ...RW, iova: BASE }));
    errnoOf('EINVAL', () => ioas.mapUser(user, va, PAGE_SIZE, { ...RW, iova: iova(BASE + MOCK_PAGE_SIZE) }));
    ioas.setHugePages(1);
    ioas.mapUser(user, va + MOCK_PAGE_SIZE, PAGE_SIZE, { ...RW, iova: BASE });
    errnoOf('EADDRINUSE', () => ioas.setHugePages(0));
    expect([ioas.hugePages, ioas.alignmentBytes]).toEqual([true, 1]);
    ioas.unmapAll();
    ioas.setHugePages(0);
  });

  it('IFD-18 has huge pages on at first, and takes 0 and 1 only', () => {
    const { command, ioasId } = ioasBench(1);
    const option = (op: number, value: number) =>
      u64(
        command(IOMMUFD.option, [
          [4, IOMMUFD_OPTION.hugePages],
          [2, op],
          [2, 0],
          [4, ioasId],
          [8, value],
        ]),
        16,
      );
    expect(option(IOMMUFD_OPTION.get, 7)).toBe(1);
    option(IOMMUFD_OPTION.set, 0);
    expect(option(IOMMUFD_OPTION.get, 7)).toBe(0);
    option(IOMMUFD_OPTION.set, 1);
    expect(option(IOMMUFD_OPTION.get, 7)).toBe(1);
    errnoOf('EINVAL', () => option(IOMMUFD_OPTION.set, 2));
  });

  it('IFD-18 maps page by page without huge pages, and keeps them while a table shows areas', () => {
    const { fd, ioas, ioasId, user, device } = ioasBench(0);
    const { id } = device({ hugePages: true });
    const table = tableOf(fd, fd.attachDevice(id, ioasId));
    const huge = 512 * MOCK_PAGE_SIZE;
    // Frames come in a row, so that twice the size has an aligned large page in it.
    const start = user.mmap(2 * huge);
    const va = start + ((2 * huge - ((user.frameAt(start) * PAGE_SIZE) % huge)) % huge);
    expect(user.frameAt(va + huge - 1) - user.frameAt(va)).toBe(huge / PAGE_SIZE - 1);
    ioas.mapUser(user, va, huge, { ...RW, iova: BASE });
    expect(table.pageBytesAt(BASE)).toBe(huge);
    errnoOf('EINVAL', () => ioas.setHugePages(0));
    ioas.unmapAll();
    ioas.setHugePages(0);
    ioas.mapUser(user, va, huge, { ...RW, iova: BASE });
    expect(table.pageBytesAt(BASE)).toBe(MOCK_PAGE_SIZE);
  });
});
