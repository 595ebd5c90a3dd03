import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { iova, PAGE_SIZE } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { IommuIoasClient } from '../../src/iommu/ioas-iommu.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { MOCK_APERTURE_START, MOCK_PAGE_SIZE } from '../../src/testing/mock-iommu-domain.ts';
import { FrameCounter } from './frame-counter.ts';
import { ifdBench, tableOf } from './ifd-bench.ts';

const RUNS = Number(process.env['DMABUF_SIM_RUNS'] ?? 1);
const RW = { read: true, write: true } as const;
const BASE = MOCK_APERTURE_START;
/** Addresses and lengths of the model, so that some are misaligned for a mock table. */
const UNIT = PAGE_SIZE / 4;
const UNITS = 64;
const USER_PAGES = 16;

interface Area {
  at: number;
  size: number;
  /** Byte of the user's memory. */
  from: number;
}

/** The errno that `body` throws, or what it returns. */
function outcome<T>(body: () => T): T | string {
  try {
    return body();
  } catch (error) {
    if (error instanceof ErrnoError) return error.code;
    throw error;
  }
}

/** The slow and obvious address space: a list of areas. */
class Model {
  areas: Area[] = [];
  tables = 0;
  readonly hole = new Set<number>();

  get align(): number {
    return this.tables > 0 ? MOCK_PAGE_SIZE : 1;
  }

  private touching(at: number, size: number): Area[] {
    return this.areas.filter((area) => area.at < at + size && area.at + area.size > at);
  }

  private isWhole({ from, size }: Area): boolean {
    for (let byte = from; byte < from + size; byte += UNIT)
      if (this.hole.has(Math.floor(byte / PAGE_SIZE))) return false;
    return true;
  }

  map(at: number, size: number, from: number): number | string {
    if ([size, from % PAGE_SIZE, at].some((bytes) => bytes % this.align !== 0)) return 'EINVAL';
    if (this.touching(at, size).length > 0) return 'EEXIST';
    if (this.tables > 0 && !this.isWhole({ at, size, from })) return 'EFAULT';
    this.areas.push({ at, size, from });
    return at;
  }

  unmap(at: number, size: number): number | string {
    const gone = this.touching(at, size);
    if (gone.length === 0 || gone.some((area) => area.at < at || area.at + area.size > at + size)) return 'ENOENT';
    this.areas = this.areas.filter((area) => !gone.includes(area));
    return gone.reduce((sum, area) => sum + area.size, 0);
  }

  attach(): 'ok' | string {
    const misfit = this.areas.some(
      ({ at, size, from }) => at < BASE || [at, size, from].some((bytes) => bytes % MOCK_PAGE_SIZE !== 0),
    );
    if (misfit) return 'EADDRINUSE';
    // With a table everything is pinned already, so holes do not matter any more.
    if (this.tables === 0 && !this.areas.every((area) => this.isWhole(area))) return 'EFAULT';
    this.tables++;
    return 'ok';
  }

  /** Where the user's byte is that `at` leads to, or null. */
  byteAt(at: number): number | null {
    const [area] = this.touching(at, 1);
    return area === undefined ? null : area.from + at - area.at;
  }
}

const place = { at: fc.nat(UNITS - 1), units: fc.integer({ min: 1, max: 12 }) };
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('map' as const), ...place, from: fc.nat(40) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('auto' as const), ...place, from: fc.nat(40) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('unmap' as const), ...place }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('copy' as const), ...place, from: fc.nat(UNITS - 1) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('attach' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('detach' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('munmap' as const), page: fc.nat(USER_PAGES - 1) }) },
);

describe('an address space', () => {
  it('agrees with a list of areas, and leaves nothing behind', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { fd, user, account, pages, device } = ifdBench();
        const free = pages.freePageCount();
        const va = user.mmap(USER_PAGES * PAGE_SIZE);
        const phys = Array.from({ length: USER_PAGES }, (_, page) => user.frameAt(va + page * PAGE_SIZE) * PAGE_SIZE);
        const ioasId = fd.allocIoas();
        const ioas = fd.ioas(ioasId);
        const model = new Model();
        const attached: { id: number; hwpt: number }[] = [];
        let units = 0;
        for (const one of steps) {
          if (one.op === 'map') {
            const [at, size, from] = [BASE + one.at * UNIT, one.units * UNIT, one.from * UNIT];
            expect(outcome(() => ioas.mapUser(user, va + from, size, { ...RW, iova: iova(at) }))).toBe(
              model.map(at, size, from),
            );
          } else if (one.op === 'auto') {
            const [size, from] = [one.units * UNIT, one.from * UNIT];
            const at = outcome(() => ioas.mapUser(user, va + from, size, RW));
            if (typeof at === 'number') expect(at % PAGE_SIZE).toBe(from % PAGE_SIZE);
            expect(model.map(typeof at === 'number' ? at : BASE + 2 ** 28 + (from % PAGE_SIZE), size, from)).toBe(at);
          } else if (one.op === 'unmap') {
            const [at, size] = [BASE + one.at * UNIT, one.units * UNIT];
            expect(outcome(() => ioas.unmap(iova(at), size))).toBe(model.unmap(at, size));
          } else if (one.op === 'copy') {
            const [at, from, size] = [BASE + 2 ** 20 + one.at * PAGE_SIZE, BASE + one.from * UNIT, one.units * UNIT];
            const byte = model.byteAt(from);
            const isOneArea =
              byte !== null && model.areas.some((area) => area.at <= from && area.at + area.size >= from + size);
            if (!isOneArea) continue;
            const isPinned = model.tables > 0;
            const hole = isPinned ? new Set(model.hole) : null;
            if (isPinned) model.hole.clear();
            expect(outcome(() => ioas.copy(ioas, iova(from), size, { ...RW, iova: iova(at) }))).toBe(
              model.map(at, size, byte),
            );
            for (const page of hole ?? []) model.hole.add(page);
          } else if (one.op === 'attach') {
            const { id } = device({ unit: `unit${units++}` });
            const hwpt = outcome(() => fd.attachDevice(id, ioasId));
            expect(typeof hwpt === 'number' ? 'ok' : hwpt).toBe(model.attach());
            if (typeof hwpt === 'number') attached.push({ id, hwpt });
          } else if (one.op === 'detach') {
            const last = attached.pop();
            if (last === undefined) continue;
            fd.detachDevice(last.id);
            model.tables--;
          } else {
            user.munmap(va + one.page * PAGE_SIZE, PAGE_SIZE);
            model.hole.add(one.page);
          }
          expect(ioas.areas().map(({ iova: at, sizeBytes }) => [at, sizeBytes])).toEqual(
            model.areas.map(({ at, size }) => [at, size]).sort((a, b) => (a[0] as number) - (b[0] as number)),
          );
          for (const { hwpt } of attached) {
            const table = tableOf(fd, hwpt);
            expect(table.mappedBytes).toBe(model.areas.reduce((sum, area) => sum + area.size, 0));
            for (const { at, size, from } of model.areas)
              for (let done = 0; done < size; done += MOCK_PAGE_SIZE)
                expect(table.iovaToPhys(at + done)).toBe(
                  (phys[Math.floor((from + done) / PAGE_SIZE)] as number) + ((from + done) % PAGE_SIZE),
                );
          }
          expect(user.pinnedPages).toBe(attached.length > 0 ? pinnedBy(model) : 0);
        }
        for (const { id } of attached) fd.detachDevice(id);
        expect([account.lockedPages, user.pinnedPages]).toEqual([0, 0]);
        ioas.unmapAll();
        user.exit();
        expect([user.heldPages, pages.freePageCount()]).toEqual([0, free + 1]);
      }),
      { numRuns: 60 * RUNS },
    );
  });
});

function pinnedBy(model: Model): number {
  const pages = new Set<number>();
  for (const { from, size } of model.areas)
    for (let byte = from; byte < from + size; byte += UNIT) pages.add(Math.floor(byte / PAGE_SIZE));
  return pages.size;
}

describe('a failing allocation', () => {
  /** Everything that can be seen from outside. */
  function state(b: ReturnType<typeof faultBench>) {
    const { fd, user, account, frames, clients } = b;
    const spaces = fd.ids.map((id) => outcome(() => fd.ioas(id))).filter((one) => typeof one !== 'string');
    return {
      ids: fd.ids,
      areas: spaces.map((ioas) => ioas.areas()),
      ranges: spaces.map((ioas) => [ioas.usableRanges(), ioas.alignmentBytes, ioas.hwpts.size, ioas.accesses.size]),
      memory: [account.lockedPages, user.pinnedPages, user.heldPages, frames.outstanding],
      tables: clients.map((client) => [...client.domains].map((table) => [table.mappedBytes, table.attached.size])),
    };
  }

  function faultBench(failAt: number) {
    let left = failAt;
    const failNext = () => --left === 0;
    const b = ifdBench({ failNext });
    const frames = new FrameCounter();
    // A table page that fails is one more place for the same counter.
    const pages = {
      alloc: (order: number) => {
        if (failNext()) throw new ErrnoError('ENOMEM', 'alloc_pages', 'failure injected');
        return frames.alloc(order);
      },
      free: frames.free.bind(frames),
    };
    const iommu = new Iommu(new Simulator(), { name: 'smmu0', pages, dirtyTracking: true });
    const mocks = [b.device({ unit: 'a', failNext }), b.device({ unit: 'b', failNext })] as const;
    const real = b.fd.bindDevice(new IommuIoasClient(iommu, { name: 'nic0' }));
    return { ...b, frames, mocks, real, clients: mocks.map(({ mock }) => mock) };
  }

  /** A life of two address spaces, call by call. */
  function script(b: ReturnType<typeof faultBench>): (() => unknown)[] {
    const { fd, user, mocks, real } = b;
    const ids: number[] = [];
    const va = user.mmap(8 * PAGE_SIZE);
    const access = fd.createAccess({ name: 'vdev', onUnmap: () => fd.access(access).unpinAll() });
    const space = (i: number) => fd.ioas(ids[i] as number);
    const at = (page: number) => iova(BASE + page * PAGE_SIZE);
    return [
      () => ids.push(fd.allocIoas()),
      () => ids.push(fd.allocIoas()),
      // Page by page, so that a table may fail in the middle of an area.
      () => space(0).setHugePages(0),
      () => space(0).mapUser(user, va, 4 * PAGE_SIZE, { ...RW, iova: at(0) }),
      () => space(0).mapUser(user, va + 2 * PAGE_SIZE, 4 * PAGE_SIZE, { ...RW, iova: at(4) }),
      () => fd.attachDevice(mocks[0].id, ids[0] as number),
      () => fd.attachDevice(mocks[1].id, ids[0] as number),
      () => ids.push(fd.allocHwpt(real, ids[0] as number, { dirtyTracking: true })),
      () => fd.attachDevice(real, ids[2] as number),
      () => space(0).mapUser(user, va, 8 * PAGE_SIZE, { ...RW, iova: at(600) }),
      () => fd.access(access).attach(space(0)),
      () => fd.access(access).pin(at(0), 6 * PAGE_SIZE),
      () => space(1).copy(space(0), at(1), 6 * PAGE_SIZE, { ...RW, iova: at(1) }),
      () => fd.replaceDevice(mocks[0].id, ids[1] as number),
      () => fd.access(access).replace(space(1)),
      () => space(0).unmap(at(0), 8 * PAGE_SIZE),
      () => fd.replaceDevice(real, ids[1] as number),
    ];
  }

  it('changes nothing, wherever it happens, and everything can still be given back', () => {
    let failures = 0;
    for (let failAt = 1; ; failAt++) {
      const b = faultBench(failAt);
      const steps = script(b);
      let hasFailed = false;
      for (const run of steps) {
        const before = state(b);
        const result = outcome(run);
        if (typeof result !== 'string') continue;
        expect(result).toBe('ENOMEM');
        expect(state(b)).toEqual(before);
        hasFailed = true;
        break;
      }
      if (hasFailed) failures++;
      const { fd, user, account, frames, mocks, real } = b;
      for (const id of [mocks[0].id, mocks[1].id, real]) {
        if (fd.device(id).hwpt !== null) fd.detachDevice(id);
        fd.unbindDevice(id);
      }
      for (const id of fd.ids) if (typeof outcome(() => fd.access(id)) !== 'string') fd.destroyAccess(id);
      fd.close();
      user.exit();
      expect([account.lockedPages, user.heldPages, frames.outstanding]).toEqual([0, 0, 0]);
      expect(mocks.map(({ mock }) => mock.domains.size)).toEqual([0, 0]);
      if (!hasFailed) break;
    }
    expect(failures).toBeGreaterThan(30);
  });
});
