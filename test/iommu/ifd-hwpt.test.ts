import { describe, expect, it } from 'vitest';
import { iova, PAGE_SIZE, type Pfn, pfn, physAddr } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import type { RevocablePages } from '../../src/iommu/ioas-backing.ts';
import { IommuIoasClient, IommuNestedDomain } from '../../src/iommu/ioas-iommu.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { HW_CAP_DIRTY_TRACKING, HWPT_ALLOC, IOAS_MAP, IOMMUFD } from '../../src/iommu/iommufd-commands.ts';
import { Translation } from '../../src/iommu/translation.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { MOCK_APERTURE_START, MOCK_PAGE_SIZE } from '../../src/testing/mock-iommu-domain.ts';
import { errnoOf } from '../mem/machine.ts';
import { FrameCounter } from './frame-counter.ts';
import { ifdBench, ioasBench, tableOf, U64_MAX, u64 } from './ifd-bench.ts';

const RW = { read: true, write: true } as const;
const BASE = iova(MOCK_APERTURE_START);

describe('a device', () => {
  it.each([1, 2])(
    'IFD-22 moves to another space and back, and takes the old automatic table along (%i devices)',
    (count) => {
      const { fd, ioas, ioasId, user, devices, hwptIds } = ioasBench(count);
      const [first] = devices;
      const [hwptId] = hwptIds;
      if (first === undefined || hwptId === undefined) throw new Error('no device');
      ioas.mapUser(user, user.mmap(PAGE_SIZE), PAGE_SIZE, RW);
      const other = fd.allocIoas();
      const moved = fd.replaceDevice(first.id, other);
      expect(moved).not.toBe(hwptId);
      errnoOf('ENOENT', () => fd.replaceDevice(first.id, hwptId));
      expect(fd.replaceDevice(first.id, other)).toBe(moved);
      expect(fd.device(first.id).hwpt?.ioas).toBe(fd.ioas(other));
      errnoOf('EBUSY', () => fd.destroy(other));
      fd.replaceDevice(first.id, ioasId);
      expect(fd.device(first.id).hwpt?.domain).toMatchObject({ mappedBytes: PAGE_SIZE });
      fd.destroy(other);
      expect([first.mock.domains.size, ioas.hwpts.size]).toEqual([1, count]);
    },
  );

  it('stays where it was when it cannot be replaced', () => {
    const { fd, ioas, ioasId, user, device } = ioasBench(1);
    ioas.mapUser(user, user.mmap(PAGE_SIZE), PAGE_SIZE, { ...RW, iova: BASE });
    const { id, mock } = device({ unit: 'unit9', reservedRanges: [{ start: BASE, last: BASE + PAGE_SIZE - 1 }] });
    const quiet = fd.allocIoas();
    const before = fd.attachDevice(id, quiet);
    errnoOf('EADDRINUSE', () => fd.replaceDevice(id, ioasId));
    expect([fd.device(id).hwpt, mock.domains.size]).toEqual([fd.hwpt(before), 1]);
    expect(fd.ioas(quiet).usableRanges()[0]?.start).toBe(BASE + PAGE_SIZE);
    errnoOf('EINVAL', () => fd.attachDevice(id, quiet));
    errnoOf('EINVAL', () => fd.replaceDevice(id, id));
    fd.detachDevice(id);
    errnoOf('EINVAL', () => fd.detachDevice(id));
    errnoOf('EINVAL', () => fd.replaceDevice(id, quiet));
    expect([fd.ioas(quiet).usableRanges()[0]?.start, mock.domains.size]).toEqual([0, 0]);
  });

  it('reserves its own addresses only in the space that it uses', () => {
    const { fd, ioasId, ioas, device } = ifdBenchWithSpace();
    const reservedRanges = [{ start: BASE + PAGE_SIZE, last: BASE + 2 * PAGE_SIZE - 1 }];
    const [other, msi] = [device({ unit: 'one' }), device({ unit: 'two', reservedRanges })];
    const foreign = fd.allocHwpt(other.id, ioasId);
    errnoOf('EINVAL', () => fd.attachDevice(msi.id, foreign));
    expect(ioas.usableRanges()).toHaveLength(1);
    fd.attachDevice(msi.id, ioasId);
    expect(ioas.usableRanges().map(({ start }) => start)).toEqual([BASE, BASE + 2 * PAGE_SIZE]);
    fd.replaceDevice(msi.id, fd.allocIoas());
    expect(ioas.usableRanges()).toHaveLength(1);
  });

  it('needs a space whose areas its unit can reach', () => {
    const { fd, user, device } = ifdBench();
    const { id, mock } = device();
    const va = user.mmap(2 * PAGE_SIZE);
    const ioasId = fd.allocIoas();
    const ioas = fd.ioas(ioasId);
    ioas.mapUser(user, va, PAGE_SIZE, { ...RW, iova: iova(BASE - PAGE_SIZE) });
    errnoOf('EADDRINUSE', () => fd.attachDevice(id, ioasId));
    ioas.unmapAll();
    ioas.mapUser(user, va + 1, MOCK_PAGE_SIZE, RW);
    errnoOf('EADDRINUSE', () => fd.attachDevice(id, ioasId));
    expect([mock.domains.size, ioas.alignmentBytes, ioas.usableRanges().length]).toEqual([0, 1, 1]);
    ioas.unmapAll();
    fd.attachDevice(id, ioasId);
  });

  it('shares the automatic table of a space with the devices of the same unit', () => {
    const { fd, ioas, ioasId, device } = ifdBenchWithSpace();
    const [a, b, c] = [device({ unit: 'one' }), device({ unit: 'one' }), device({ unit: 'two' })];
    const table = fd.attachDevice(a.id, ioasId);
    expect(fd.attachDevice(b.id, ioasId)).toBe(table);
    expect(fd.attachDevice(c.id, ioasId)).not.toBe(table);
    fd.detachDevice(a.id);
    expect(ioas.hwpts.size).toBe(2);
    fd.detachDevice(b.id);
    expect(ioas.hwpts.size).toBe(1);
    errnoOf('ENOENT', () => fd.hwpt(table));
    errnoOf('EBUSY', () => fd.unbindDevice(c.id));
    fd.detachDevice(c.id);
    fd.unbindDevice(c.id);
  });
});

describe('an explicit page table', () => {
  it('IFD-23 serves devices in turn, cannot be destroyed under one, and refuses unknown flags', () => {
    const { fd, ioas, ioasId, user, devices, command } = ioasBench(1);
    const [{ id } = { id: 0 }] = devices;
    ioas.mapUser(user, user.mmap(PAGE_SIZE), PAGE_SIZE, RW);
    const alloc = (flags: number, pt = ioasId) => {
      const ids = [
        [4, flags],
        [4, id],
        [4, pt],
        [4, 0],
        [4, 0],
      ] as const;
      return command(IOMMUFD.hwptAlloc, [...ids, [4, 0], [4, 0], [8, 0], [4, 0], [4, 0]]).getUint32(16, true);
    };
    errnoOf('EOPNOTSUPP', () => alloc(0x8000_0000));
    errnoOf('ENOENT', () => alloc(0, 999));
    const [one, two] = [alloc(0), alloc(0)];
    expect(tableOf(fd, one).mappedBytes).toBe(PAGE_SIZE);
    for (const table of [one, two]) {
      expect(fd.replaceDevice(id, table)).toBe(table);
      errnoOf('EBUSY', () => fd.destroy(table));
      errnoOf('EBUSY', () => fd.destroy(ioasId));
    }
    fd.replaceDevice(id, ioasId);
    fd.destroy(one);
    fd.destroy(two);
    errnoOf('ENOENT', () => fd.replaceDevice(id, one));
    expect(ioas.hwpts.size).toBe(1);
  });

  it('IFD-24 with dirty tracking takes only devices whose unit has it', () => {
    const { fd, ioasId, device, command } = ioasBench(1);
    const [good, bad] = [device({ unit: 'd' }), device({ unit: 'd', canTrackDirty: false })];
    const table = fd.allocHwpt(good.id, ioasId, { dirtyTracking: true });
    fd.attachDevice(good.id, table);
    errnoOf('EINVAL', () => fd.attachDevice(bad.id, table));
    errnoOf('EOPNOTSUPP', () => fd.allocHwpt(bad.id, ioasId, { dirtyTracking: true }));
    const capabilities = (id: number) => {
      const fields = [
        [4, 0],
        [4, id],
        [4, 0],
        [8, 0],
        [4, 0],
        [4, 0],
        [8, 0],
      ] as const;
      return u64(command(IOMMUFD.getHwInfo, fields), 32);
    };
    expect([capabilities(good.id), capabilities(bad.id)]).toEqual([HW_CAP_DIRTY_TRACKING, 0]);
    const track = (id: number, flags: number) =>
      command(IOMMUFD.hwptSetDirtyTracking, [
        [4, flags],
        [4, id],
        [4, 0],
      ]);
    for (const flags of [1, 0, 1]) track(table, flags);
    errnoOf('EOPNOTSUPP', () => track(table, 2));
    errnoOf('EOPNOTSUPP', () => track(fd.allocHwpt(good.id, ioasId), 1));
    errnoOf('ENOENT', () => track(good.id, 1));
    expect(HWPT_ALLOC.dirtyTracking).toBe(2);
  });
});

describe('the dirty bitmap of a page table', () => {
  const SIZES = [128, 256, 640, 1024, 2048].map((kib) => [kib] as const);

  function dirtyBench(kib: number) {
    const b = ifdBenchWithSpace();
    const { id } = b.device();
    const hwptId = b.fd.allocHwpt(id, b.ioasId, { dirtyTracking: true });
    const va = b.user.mmap(kib * 1024);
    const { ioas, user, fd } = b;
    ioas.mapUser(user, va, kib * 1024, { ...RW, iova: BASE });
    const bitmapVa = user.mmap(4 * PAGE_SIZE);
    user.write(bitmapVa, new Uint8Array(4 * PAGE_SIZE));
    fd.hwpt(hwptId).setDirtyTracking(true);
    const get = (data: number, options: { flags?: number; at?: number; size?: number; page?: number } = {}) =>
      b.command(IOMMUFD.hwptGetDirtyBitmap, [
        ...([
          [4, hwptId],
          [4, options.flags ?? 0],
          [4, 0],
          [8, options.at ?? BASE],
        ] as const),
        ...([
          [8, options.size ?? kib * 1024],
          [8, options.page ?? MOCK_PAGE_SIZE],
          [8, data],
        ] as const),
      ]);
    return { ...b, hwptId, table: tableOf(fd, hwptId), get, bitmapVa, bits: (kib * 1024) / MOCK_PAGE_SIZE };
  }

  it.each(SIZES)('IFD-25 has exactly the pages that were written, once (%i KiB)', (kib) => {
    const { table, get, bitmapVa, bits, user } = dirtyBench(kib);
    for (const offset of [0, 3, PAGE_SIZE - 5]) {
      for (let page = 0; page < bits; page += 2) table.deviceWrites(BASE + page * MOCK_PAGE_SIZE + 100);
      get(bitmapVa + offset);
      expect(user.read(bitmapVa + offset, bits / 8)).toEqual(new Uint8Array(bits / 8).fill(0x55));
      user.write(bitmapVa, new Uint8Array(2 * PAGE_SIZE));
      get(bitmapVa + offset);
      expect(user.read(bitmapVa, 2 * PAGE_SIZE).every((byte) => byte === 0)).toBe(true);
    }
  });

  it.each(SIZES)('can be read without clearing (%i KiB)', (kib) => {
    const { table, get, bitmapVa, bits, user } = dirtyBench(kib);
    for (let page = 0; page < bits; page += 2) table.deviceWrites(BASE + page * MOCK_PAGE_SIZE);
    for (const flags of [1, 1, 0]) {
      user.write(bitmapVa, new Uint8Array(PAGE_SIZE));
      get(bitmapVa, { flags });
      expect(user.read(bitmapVa, bits / 8)).toEqual(new Uint8Array(bits / 8).fill(0x55));
    }
    user.write(bitmapVa, new Uint8Array(PAGE_SIZE));
    get(bitmapVa);
    expect(user.read(bitmapVa, bits / 8).every((byte) => byte === 0)).toBe(true);
  });

  it('has a bit for each larger page too, and keeps the bits that were set', () => {
    const { table, get, bitmapVa, user } = dirtyBench(128);
    table.deviceWrites(BASE + 5 * MOCK_PAGE_SIZE);
    user.write(bitmapVa, Uint8Array.of(0x80));
    get(bitmapVa, { page: 2 * PAGE_SIZE });
    expect([...user.read(bitmapVa, 4)]).toEqual([0x82, 0, 0, 0]);
  });

  it('refuses ranges and sizes that make no sense, and clears nothing then', () => {
    const { fd, hwptId, table, get, bitmapVa, user } = dirtyBench(128);
    table.deviceWrites(BASE);
    errnoOf('EINVAL', () => get(bitmapVa, { page: 0 }));
    errnoOf('EINVAL', () => get(bitmapVa, { page: 3 * MOCK_PAGE_SIZE }));
    errnoOf('EINVAL', () => get(bitmapVa, { at: BASE + 1 }));
    errnoOf('EINVAL', () => get(bitmapVa, { size: 128 * 1024 + MOCK_PAGE_SIZE }));
    errnoOf('EINVAL', () => get(bitmapVa, { size: 0 }));
    errnoOf('EOVERFLOW', () => get(bitmapVa, { size: U64_MAX }));
    errnoOf('EOPNOTSUPP', () => get(bitmapVa, { flags: 2 }));
    errnoOf('EFAULT', () => get(0x1000));
    get(bitmapVa);
    expect(user.read(bitmapVa, 1)).toEqual(Uint8Array.of(1));
    fd.hwpt(hwptId).setDirtyTracking(false);
    errnoOf('EINVAL', () => get(bitmapVa));
  });

  it('forgets what was written before tracking was switched on', () => {
    const { fd, hwptId, table, get, bitmapVa, user } = dirtyBench(128);
    table.deviceWrites(BASE);
    fd.hwpt(hwptId).setDirtyTracking(true);
    get(bitmapVa);
    expect(user.read(bitmapVa, 1)).toEqual(Uint8Array.of(0));
  });
});

describe('a buffer that its exporter may revoke', () => {
  function bufferBench(tables: number) {
    const buffer = new TestBuffer(4);
    const b = ioasBench(tables, {
      file(fd) {
        if (fd !== 5) throw new ErrnoError('EBADF', 'fget', `descriptor ${fd} is not open`);
        return buffer;
      },
    });
    const mapFile = (fd: number, start: number, length: number) =>
      u64(
        b.command(IOMMUFD.ioasMapFile, [
          ...([
            [4, IOAS_MAP.readable | IOAS_MAP.writeable],
            [4, b.ioasId],
            [4, fd],
          ] as const),
          ...([
            [8, start],
            [8, length],
            [8, 0],
          ] as const),
        ]),
        32,
      );
    return { ...b, buffer, mapFile };
  }

  it.each([0, 1, 2])('IFD-27 is mapped in parts that lie in it, where its ranges are (%i tables)', (count) => {
    const { mapFile, buffer, ioas, tables, account } = bufferBench(count);
    const size = buffer.sizeBytes;
    errnoOf('EINVAL', () => mapFile(5, 0, 0));
    errnoOf('EINVAL', () => mapFile(5, size, size));
    errnoOf('EINVAL', () => mapFile(5, 0, size + 1));
    errnoOf('EBADF', () => mapFile(6, 0, size));
    const at = mapFile(5, 0, size);
    for (const table of tables)
      for (let page = 0; page < 4; page++)
        expect(table.iovaToPhys(at + page * PAGE_SIZE)).toBe(buffer.frameOf(page) * PAGE_SIZE);
    expect([account.lockedPages, buffer.pins]).toEqual([0, count > 0 ? 4 : 0]);
    const part = mapFile(5, 2 * PAGE_SIZE, PAGE_SIZE);
    for (const table of tables) expect(table.iovaToPhys(part)).toBe(buffer.frameOf(2) * PAGE_SIZE);
    ioas.unmapAll();
    expect([buffer.pins, buffer.listeners]).toEqual([0, 0]);
  });

  it.each([0, 1, 2])(
    'IFD-28 is gone from all tables when it is revoked, until it is mapped anew (%i tables)',
    (count) => {
      const { fd, mapFile, buffer, ioas, ioasId, tables, device } = bufferBench(count);
      const old = mapFile(5, 0, buffer.sizeBytes);
      buffer.revoke();
      for (const table of tables) expect([table.mappedBytes, table.iovaToPhys(old)]).toEqual([0, null]);
      expect(buffer.pins).toBe(0);
      // Without a table before, the area lies where a mock table does not reach.
      const late = count === 0 ? [] : [tableOf(fd, fd.allocHwpt(device({ unit: 'late' }).id, ioasId))];
      for (const table of late) expect(table.mappedBytes).toBe(0);
      errnoOf('ENODEV', () => mapFile(5, 0, buffer.sizeBytes));
      buffer.giveBack();
      const fresh = mapFile(5, 0, buffer.sizeBytes);
      for (const table of [...tables, ...late]) {
        expect(table.iovaToPhys(fresh)).toBe(buffer.frameOf(0) * PAGE_SIZE);
        expect(table.iovaToPhys(old)).toBeNull();
      }
      expect(ioas.unmapAll()).toBe(2 * buffer.sizeBytes);
      expect([buffer.pins, buffer.listeners]).toEqual([0, 0]);
    },
  );

  it('is for page tables only', () => {
    const { fd, ioas, mapFile, buffer } = bufferBench(0);
    const access = fd.access(fd.createAccess({ name: 'vdev', onUnmap: () => undefined }));
    access.attach(ioas);
    const at = iova(mapFile(5, 0, buffer.sizeBytes));
    errnoOf('EINVAL', () => access.pin(at, PAGE_SIZE));
    errnoOf('EINVAL', () => access.read(at, 8));
  });
});

function ifdBenchWithSpace() {
  const b = ifdBench();
  const ioasId = b.fd.allocIoas();
  return { ...b, ioasId, ioas: b.fd.ioas(ioasId) };
}

/** Pages of device memory, every second frame, that can be revoked. */
class TestBuffer implements RevocablePages {
  readonly kind = 'revocable';
  readonly name = 'bar0';
  readonly sizeBytes: number;
  isRevoked = false;
  pins = 0;
  readonly #listeners = new Set<() => undefined>();

  constructor(pages: number) {
    this.sizeBytes = pages * PAGE_SIZE;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  revoke(): void {
    this.isRevoked = true;
    for (const tell of this.#listeners) tell();
  }

  giveBack(): void {
    this.isRevoked = false;
  }

  pin(firstPage: number, pageCount: number, _forWrite: boolean, handles: Uint32Array, at: number): void {
    if (this.isRevoked) throw new ErrnoError('ENODEV', 'pin', 'revoked');
    for (let i = 0; i < pageCount; i++) handles[at + i] = firstPage + i;
    this.pins += pageCount;
  }

  frameOf(handle: number): Pfn {
    return pfn(0x10_0000 + 2 * handle);
  }

  unpin(_handles: Uint32Array, _at: number, pageCount: number): void {
    this.pins -= pageCount;
  }

  onRevoke(listener: () => undefined): () => undefined {
    const mine = () => listener();
    this.#listeners.add(mine);
    return () => void this.#listeners.delete(mine);
  }
}

describe('a first stage of a guest', () => {
  const GUEST_TABLES = 0x1000_0000;

  /** A host that shows a guest's memory, 32 pages, where the guest's tables and data lie. */
  function guestBench() {
    const b = ifdBenchWithSpace();
    const frames = new FrameCounter();
    const iommu = new Iommu(new Simulator(), { name: 'smmu0', pages: frames });
    const nic = { name: 'nic0' };
    const id = b.fd.bindDevice(new IommuIoasClient(iommu, nic));
    const va = b.user.mmap(32 * PAGE_SIZE);
    b.ioas.mapUser(b.user, va, 32 * PAGE_SIZE, { ...RW, iova: iova(GUEST_TABLES) });
    const parentId = b.fd.allocHwpt(id, b.ioasId, { nestParent: true });
    const guestPages = new FrameCounter();
    const nestedId = b.fd.allocNestedHwpt(id, parentId, { guestPages });
    const { domain } = b.fd.nestedHwpt(nestedId);
    if (!(domain instanceof IommuNestedDomain)) throw new Error('not nested');
    const out = new Translation('nic0');
    const access = (at: number) => {
      const context = iommu.contextOf(nic);
      return context !== null && iommu.translate(context, iova(at), 'read', out);
    };
    return { ...b, frames, guestPages, id, va, parentId, nestedId, guest: domain.domain, out, access };
  }

  it('translates for the device that is attached to it, through the address space of its parent', () => {
    const { fd, user, va, id, nestedId, guest, out, access } = guestBench();
    fd.attachDevice(id, nestedId);
    guest.map(iova(0x5000), physAddr(GUEST_TABLES + 20 * PAGE_SIZE), PAGE_SIZE, 3);
    expect(access(0x5004)).toBe(true);
    expect(out.phys).toBe(user.frameAt(va + 20 * PAGE_SIZE) * PAGE_SIZE + 4);
    guest.map(iova(0x6000), physAddr(GUEST_TABLES + 32 * PAGE_SIZE), PAGE_SIZE, 3);
    expect(access(0x6000)).toBe(false);
    expect(out.fault).toMatchObject({ stage: 2, ipa: GUEST_TABLES + 32 * PAGE_SIZE });
  });

  it('goes on answering from the IOTLB until the guest invalidates', () => {
    const { fd, id, nestedId, guest, access } = guestBench();
    fd.attachDevice(id, nestedId);
    guest.invalidateOnUnmap = false;
    for (const page of [5, 6]) {
      guest.map(iova(page * PAGE_SIZE), physAddr(GUEST_TABLES + 20 * PAGE_SIZE), PAGE_SIZE, 3);
      access(page * PAGE_SIZE);
      guest.unmap(iova(page * PAGE_SIZE), PAGE_SIZE);
    }
    expect([access(0x5000), access(0x6000)]).toEqual([true, true]);
    const nested = fd.nestedHwpt(nestedId);
    errnoOf('EINVAL', () => nested.invalidate([{ iova: iova(0x5000), sizeBytes: 0 }]));
    expect(
      nested.invalidate([
        { iova: iova(0x5010), sizeBytes: 8 },
        { iova: iova(0), sizeBytes: 0 },
      ]),
    ).toBe(1);
    expect([access(0x5000), access(0x6000)]).toEqual([false, true]);
    expect(nested.invalidate(['all'])).toBe(1);
    expect(access(0x6000)).toBe(false);
  });

  it('needs a parent that was made as one, and keeps it alive', () => {
    const { fd, ioasId, id, parentId, nestedId, frames, guestPages, device, user, account } = guestBench();
    const plain = fd.allocHwpt(id, ioasId);
    errnoOf('EINVAL', () => fd.allocNestedHwpt(id, plain, { guestPages }));
    errnoOf('EINVAL', () => fd.allocNestedHwpt(id, ioasId, { guestPages }));
    errnoOf('EINVAL', () => fd.allocNestedHwpt(id, nestedId, { guestPages }));
    errnoOf('ENOENT', () => fd.allocNestedHwpt(id, 999, { guestPages }));
    errnoOf('EOPNOTSUPP', () => fd.allocHwpt(id, parentId));
    const mock = device();
    errnoOf('EOPNOTSUPP', () => fd.allocNestedHwpt(mock.id, parentId, { guestPages }));
    errnoOf('EINVAL', () => fd.attachDevice(mock.id, nestedId));
    errnoOf('EBUSY', () => fd.destroy(parentId));
    fd.attachDevice(id, nestedId);
    errnoOf('EBUSY', () => fd.destroy(nestedId));
    fd.replaceDevice(id, parentId);
    fd.destroy(nestedId);
    errnoOf('ENOENT', () => fd.nestedHwpt(nestedId));
    fd.detachDevice(id);
    for (const one of [id, mock.id]) fd.unbindDevice(one);
    fd.close();
    expect([frames.outstanding, guestPages.outstanding, user.pinnedPages, account.lockedPages]).toEqual([0, 0, 0, 0]);
  });
});
