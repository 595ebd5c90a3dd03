/**
 * Page tables against an obvious model, call by call, with a device that only honours invalidations.
 *
 * A program is a list of calls with pages of mixed sizes near the borders of tables. After each call the table and the model must have
 * answered alike; whatever the device still remembers must still be true, and no table that its walker remembers may have been freed.
 * At the end every table page has been given back.
 */
import fc from 'fast-check';
import { expect } from 'vitest';
import { type Iova, iova, type Pfn, physAddr } from '../../src/base/addr.ts';
import { allocIoPgtable, type IoPgtableFormat } from '../../src/iommu/alloc-io-pgtable.ts';
import {
  type IoPgtable,
  type IoPgtableConfig,
  type IoPgtableDumpLeaf,
  IoPgtableLeaf,
} from '../../src/iommu/io-pgtable.ts';
import { IotlbGather } from '../../src/iommu/iotlb-gather.ts';
import { FrameCounter } from './frame-counter.ts';

/** What `mapPages` answers. */
export interface MapAnswer {
  readonly ret: number;
  readonly mapped: number;
}

/** What an address leads to. */
export interface Translated {
  readonly phys: number;
  /** `IommuProt` read and write bits it was mapped with. */
  readonly prot: number;
  /** Bytes of the leaf, or null: the model does not say. */
  readonly sizeBytes: number | null;
}

/** The obvious model of one format. Addresses and sizes in bytes. */
export interface PgtableReference {
  readonly tablePages: number;
  readonly warnings: number;
  map(at: number, phys: number, size: number, count: number, prot: number): MapAnswer;
  unmap(at: number, size: number, count: number): number;
  translate(at: number): Translated | null;
  /** How many leaves there are, or null: the model does not say. */
  leaves(): number | null;
}

/** One configuration of a format, and what to try it with. */
export interface PgtableCase {
  readonly name: string;
  readonly format: IoPgtableFormat;
  readonly config: IoPgtableConfig;
  /** Page sizes, ascending. */
  readonly sizes: readonly number[];
  /** Unmapping a part of a larger page splits it; else all of it goes, and only from its start. */
  readonly splits: boolean;
  /** A border of the largest tables: addresses lie on both sides of it. */
  readonly border: number;
  reference(): PgtableReference;
  /** What a leaf that was mapped with `prot` really allows. */
  access(prot: number): number;
}

type Step =
  | { readonly kind: 'map'; readonly at: number; readonly phys: number; readonly prot: number; readonly pages: Pages }
  | { readonly kind: 'unmap'; readonly at: number; readonly pages: Pages; readonly queued: boolean }
  | { readonly kind: 'access'; readonly at: number };

interface Pages {
  readonly size: number;
  readonly count: number;
}

/** Runs `numRuns` random programs on the format of `kase`. */
export function expectModel(kase: PgtableCase, numRuns: number): void {
  fc.assert(
    fc.property(fc.array(stepOf(kase), { minLength: 4, maxLength: 40 }), (program) => {
      const rig = new Rig(kase);
      for (const step of program) rig.run(step);
      rig.end();
    }),
    { numRuns },
  );
}

/** A table, its model and a device. */
class Rig {
  readonly #case: PgtableCase;
  readonly #table: IoPgtable;
  readonly #model: PgtableReference;
  readonly #device: RememberingDevice;
  readonly #pages: FrameCounter;
  readonly #gather = new IotlbGather();

  constructor(kase: PgtableCase) {
    const device = new RememberingDevice();
    const pages = new FrameCounter();
    const free = pages.free.bind(pages);
    pages.free = (frame, order) => {
      device.expectForgotten(frame);
      free(frame, order);
    };
    this.#case = kase;
    this.#device = device;
    this.#pages = pages;
    this.#model = kase.reference();
    this.#table = allocIoPgtable(kase.format, kase.config, pages, {
      tlbFlushAll: () => device.forgetAll(),
      tlbFlushWalk: (at, size) => device.forget(at, size),
      tlbAddPage: (_gather, at, size, count) => device.forgetLater(at, size * count),
    });
  }

  run(step: Step): void {
    if (step.kind === 'map') this.#map(step.at, step.phys, step.pages, step.prot);
    else if (step.kind === 'unmap') this.#unmap(step.at, step.pages, step.queued);
    else this.#access(step.at);
    const model = this.#model;
    expectSame(this.#table.tablePages, model.tablePages, 'tables');
    expectSame(this.#table.warnings, model.warnings, 'warnings');
    this.#device.expectTruth((at) => model.translate(at)?.phys ?? null, this.#case.sizes[0] ?? 0);
  }

  end(): void {
    this.#table.check();
    let leaves = 0;
    for (const leaf of this.#table.leaves()) {
      this.#expectAlike(leaf, this.#model.translate(leaf.iova));
      leaves++;
    }
    expectSame(leaves, this.#model.leaves() ?? leaves, 'leaves');
    this.#table.free();
    expectSame(this.#pages.outstanding, 0, 'frames that are out');
  }

  #map(at: number, phys: number, { size, count }: Pages, prot: number): void {
    if (this.#table.hasLargerLeaf?.(iova(at), size * count)) return;
    const ret = this.#table.mapPages(iova(at), physAddr(phys), size, count, prot);
    const answer = this.#model.map(at, phys, size, count, prot);
    expectSame(ret, answer.ret, 'mapPages');
    expectSame(this.#table.mapped, answer.mapped, 'mapped');
  }

  /** The invalidation of a queued unmap comes later and drops everything, as that of a flush queue does. */
  #unmap(at: number, { size, count }: Pages, queued: boolean): void {
    // The device knows what is going to vanish, and its neighbour.
    for (const last of [at, at + size * (count - 1), at + size * count - 1, at + size * count]) this.#access(last);
    if ((this.#table.unmapSpan?.(iova(at), size * count) ?? 0) < 0) return;
    this.#gather.reset();
    this.#gather.queued = queued;
    const unmapped = this.#table.unmapPages(iova(at), size, count, this.#gather);
    expectSame(unmapped, this.#model.unmap(at, size, count), 'unmapPages');
    if (queued) this.#device.forgetAll();
    else this.#device.sync(this.#gather.hasTables);
    this.#gather.releaseTables();
  }

  #access(at: number): void {
    const there = this.#model.translate(at);
    const leaf = new IoPgtableLeaf();
    const isMapped = this.#table.walk(iova(at), leaf);
    expectSame(this.#table.iovaToPhys(iova(at)), there?.phys ?? 0, 'iovaToPhys');
    expectSame(isMapped, there !== null, 'walk');
    if (there === null) return;
    this.#expectAlike(leaf, there);
    expectSame(leaf.prot, this.#case.access(there.prot), 'rights');
    this.#device.remember(at, leaf, this.#table);
  }

  #expectAlike(leaf: IoPgtableLeaf | IoPgtableDumpLeaf, there: Translated | null): void {
    expectSame(leaf.phys, there?.phys, 'physical address');
    expectSame(leaf.sizeBytes, there?.sizeBytes ?? leaf.sizeBytes, 'size of a leaf');
  }
}

interface Remembered {
  readonly start: number;
  readonly end: number;
  readonly phys: number;
}

/**
 * A device with an endless IOTLB and an endless walk cache. It drops what it is told to: any leaf or walk that shares a byte with
 * the range, as hardware does.
 */
class RememberingDevice {
  #leaves: Remembered[] = [];
  /** For an address that was walked: the frames of the tables on the way. */
  #walks: { readonly at: number; readonly frames: readonly number[] }[] = [];
  #pending: { readonly start: number; readonly end: number }[] = [];

  remember(at: Iova | number, leaf: IoPgtableLeaf, table: IoPgtable): void {
    const start = Math.floor(at / leaf.sizeBytes) * leaf.sizeBytes;
    this.#leaves.push({ start, end: start + leaf.sizeBytes, phys: leaf.phys - (at - start) });
    const named = [...table.dump(iova(at)).matchAll(/table at 0x([0-9a-f]+)/g)];
    this.#walks.push({ at, frames: named.map(([, text]) => Math.floor(Number.parseInt(text ?? '', 16) / 4096)) });
  }

  forget(at: number, size: number): undefined {
    this.#leaves = this.#leaves.filter(({ start, end }) => end <= at || start >= at + size);
    this.#walks = this.#walks.filter((walk) => walk.at < at || walk.at >= at + size);
  }

  forgetLater(start: number, size: number): undefined {
    this.#pending.push({ start, end: start + size });
  }

  forgetAll(): undefined {
    this.#leaves = [];
    this.#walks = [];
    this.#pending = [];
  }

  /** @param withTables - tables went, too; else the invalidation need not reach the walk cache. */
  sync(withTables: boolean): void {
    for (const { start, end } of this.#pending) {
      if (withTables) this.forget(start, end - start);
      else this.#leaves = this.#leaves.filter((leaf) => leaf.end <= start || leaf.start >= end);
    }
    this.#pending = [];
  }

  /** The page `frame` is about to be free: nobody may walk through it any more. */
  expectForgotten(frame: Pfn): void {
    const user = this.#walks.find(({ frames }) => frames.includes(frame));
    if (user !== undefined)
      expect.fail(`the table at frame ${frame} is freed while a walk of ${user.at} goes through it`);
  }

  /** What is remembered must be what `translate` says: at both ends of each leaf and at some pages between them. */
  expectTruth(translate: (at: number) => number | null, granule: number): void {
    for (const { start, end, phys } of this.#leaves) {
      const pages = (end - start) / granule;
      for (let page = 0; page < pages; page += Math.max(1, Math.floor(pages / 8)))
        expectSame(phys + page * granule, translate(start + page * granule), 'what the device remembers');
      expectSame(phys + end - start - 1, translate(end - 1), 'what the device remembers');
    }
  }
}

/** As `expect`, which would take most of the time. */
function expectSame<T>(actual: T, expected: T, what: string): void {
  if (actual !== expected) expect(actual, what).toBe(expected);
}

function stepOf({ sizes, border, config }: PgtableCase): fc.Arbitrary<Step> {
  const reach = 2 ** Math.min(config.oas, 40);
  const end = border < 0 ? 0 : 2 ** config.ias;
  const pick = <T>(choices: readonly T[]) => fc.constantFrom(...choices);
  const sizeIndex = fc.oneof(fc.constant(0), fc.nat(sizes.length - 1));
  // Around the border, around the start and end of each table below, and a few pages in a row.
  const digits = sizes.map((size, i) => {
    const next = sizes[i + 1];
    if (next === undefined) return pick([-1, -1, 0, 0, 1].map((digit) => digit * size));
    return pick([0, 0, 1, 2, next / size - 2, next / size - 1].map((digit) => digit * size));
  });
  const address = fc.tuple(...digits).map((parts) => parts.reduce((sum, part) => sum + part, border));
  const pages = fc.tuple(sizeIndex, fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 600 })));
  const place = fc.tuple(address, pages).map(([at, [index, wanted]]) => {
    const size = sizes[index] ?? 0;
    const start = Math.floor(at / size) * size;
    const count = index === 0 ? wanted : Math.min(wanted, index === sizes.length - 1 ? 2 : 5);
    // What lies behind the input range is the caller's to refuse.
    return { at: start, pages: { size, count: Math.min(count, (end - start) / size) } };
  });
  const mapping = fc
    .tuple(place, fc.nat(2 ** 31), pick([1, 2, 3]))
    .map(
      ([{ at, pages }, where, prot]) => ({ kind: 'map', at, pages, prot, phys: physFor(where, pages, reach) }) as const,
    );
  const unmapping = fc
    .tuple(place, fc.boolean())
    .map(([{ at, pages }, queued]) => ({ kind: 'unmap', at, pages, queued }) as const);
  const access = fc
    .tuple(address, fc.nat(sizes[0] ?? 0))
    .map(([at, offset]) => ({ kind: 'access', at: at + (offset % (sizes[0] ?? 1)) }) as const);
  return fc.oneof(
    { arbitrary: mapping, weight: 3 },
    { arbitrary: unmapping, weight: 2 },
    { arbitrary: access, weight: 3 },
  );
}

/** An address for a run of pages that lies below `reach`, often next to a border of 4 GiB; never 0, which says "not mapped". */
function physFor(where: number, { size, count }: Pages, reach: number): number {
  const slots = Math.max(1, Math.floor(reach / size) - count);
  const near = Math.max(1, Math.min(slots, 2 ** 32 / size - Math.floor(count / 2)));
  return (where % 3 === 0 ? near : 1 + (where % slots)) * size;
}
