/**
 * What an IOMMU is for: random programs of drivers that map and unmap, and of devices that access whatever they like. A naive model says
 * what a device may reach, byte by byte. `DMABUF_SIM_RUNS=100` runs 10 000 programs.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dmaAddr, PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import { KIB, MIB, ms } from '../../src/base/units.ts';
import type { Device } from '../../src/dma-api/device.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from '../../src/dma-api/dma-alloc.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import {
  dmaMapPage,
  dmaMappingError,
  dmaMapResource,
  dmaUnmapPage,
  dmaUnmapResource,
} from '../../src/dma-api/dma-single.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { IommuGroup } from '../../src/iommu/iommu-group.ts';
import { armSoc } from '../../src/platform/arm-soc.ts';
import type { Machine } from '../../src/platform/machine.ts';
import { pc } from '../../src/platform/pc.ts';
import { pattern } from '../bench.ts';
import { type ModelPage, ModelSpace, pagesOf, type Run } from './isolation-model.ts';

const RUNS = 25 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1);
const TIMEOUT_MS = 20_000 + 100 * RUNS;

/** Memory that drivers map: pages, and room for a block of the page table. */
const RAM_BASE = 0x1_8000_0000;
const RAM_PAGES = 12;
const BLOCK = 2 * MIB;
const BAR_BASE = 0x2_0000_0000;
const BAR_PAGES = 4;
const DIRS: readonly DmaDirection[] = ['to-device', 'from-device', 'bidirectional'];

type MapKind = 'page' | 'sg' | 'resource' | 'coherent' | 'block';

type Command =
  | { readonly op: 'map'; readonly dev: number; readonly kind: MapKind; readonly at: number; readonly dir: number }
  | { readonly op: 'unmap'; readonly which: number }
  | { readonly op: 'wait'; readonly ns: number }
  | { readonly op: 'burst'; readonly dev: number; readonly times: number }
  | {
      readonly op: 'access';
      readonly dev: number;
      readonly where: 'mapped' | 'once-mapped' | 'beside' | 'anywhere';
      readonly which: number;
      readonly offset: number;
      readonly length: number;
      readonly write: boolean;
    };

const small = fc.nat(1000);
const dev = fc.nat(2);
const mapCommand = fc.record({
  op: fc.constant('map' as const),
  dev,
  kind: fc.constantFrom<MapKind>('page', 'page', 'sg', 'sg', 'resource', 'coherent', 'block'),
  at: fc.nat(RAM_PAGES * PAGE_SIZE - 1),
  dir: fc.nat(2),
});
const accessCommand = fc.record({
  op: fc.constant('access' as const),
  dev,
  where: fc.constantFrom(
    'mapped' as const,
    'mapped' as const,
    'once-mapped' as const,
    'beside' as const,
    'anywhere' as const,
  ),
  which: small,
  offset: fc.nat(3 * PAGE_SIZE),
  length: fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 9000 })),
  write: fc.boolean(),
});
const program = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: mapCommand },
    { weight: 4, arbitrary: fc.record({ op: fc.constant('unmap' as const), which: small }) },
    { weight: 10, arbitrary: accessCommand },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('wait' as const), ns: fc.nat(ms(12)) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('burst' as const), dev, times: fc.nat(150) }) },
  ),
  { maxLength: 50 },
);

interface Mapping {
  readonly dev: number;
  readonly pages: readonly ModelPage[];
  readonly end: () => void;
}

/** A machine with three devices, the model of it, and the bytes that memory must hold. */
class Scene {
  readonly machine: Machine;
  readonly devices: readonly Device[];
  /** The address space of each device; the last two share one. */
  readonly spaces: readonly ModelSpace[];
  readonly mappings: Mapping[] = [];
  /** Pages of addresses that were handed out at any time. */
  readonly everMapped: number[] = [];
  /** What each page must hold, by its address. */
  readonly memory = new Map<number, Uint8Array>();
  #seed = 0;

  constructor(machine: Machine, lazy: boolean) {
    this.machine = machine;
    const { memory, iommu } = machine;
    if (iommu === null) throw new Error('no IOMMU');
    const ram = { name: 'own', base: physAddr(RAM_BASE), bytes: 2 * BLOCK };
    memory.addRegion({ kind: 'carve-out', hasPages: true, ...ram });
    memory.addRegion({ kind: 'bar', name: 'bar', base: physAddr(BAR_BASE), bytes: BAR_PAGES * PAGE_SIZE });
    for (let i = 0; i < RAM_PAGES; i++) this.#fill(RAM_BASE + i * PAGE_SIZE);
    for (let i = 0; i < BAR_PAGES; i++) this.#fill(BAR_BASE + i * PAGE_SIZE);
    this.#fill(RAM_BASE + BLOCK - PAGE_SIZE);
    this.#fill(RAM_BASE + BLOCK);
    const shared = new IommuGroup(iommu, { name: 'shared', defaultType: lazy ? 'dma-fq' : 'dma' });
    const add = (name: string, group: IommuGroup | true) =>
      machine.addDevice({ name, coherent: true, iommu: group, maxSegmentSizeBytes: 8 * KIB });
    this.devices = [add('nic', true), add('gpu', shared), add('dsp', shared)];
    const space = new ModelSpace(lazy);
    this.spaces = [new ModelSpace(lazy), space, space];
  }

  run(command: Command): void {
    switch (command.op) {
      case 'map':
        this.#map(command.dev, command.kind, command.at, DIRS[command.dir] ?? 'bidirectional');
        break;
      case 'unmap':
        if (this.mappings.length > 0) this.unmap(command.which % this.mappings.length);
        break;
      case 'wait':
        this.wait(command.ns);
        break;
      case 'burst':
        for (let i = 0; i < command.times; i++) {
          this.#map(command.dev, 'page', RAM_BASE % PAGE_SIZE, 'bidirectional');
          this.unmap(this.mappings.length - 1);
        }
        break;
      case 'access':
        this.#access(command);
    }
  }

  wait(ns: number): void {
    const { sim } = this.machine;
    sim.runUntil(sim.now + ns);
    for (const space of this.spaces) space.passed(sim.now);
  }

  unmap(which: number): void {
    const [mapping] = this.mappings.splice(which, 1);
    if (mapping === undefined) return;
    mapping.end();
    this.spaces[mapping.dev]?.unmap(mapping.pages, this.machine.sim.now);
  }

  /** One access; what came of it must agree with the model, to the byte. */
  access(index: number, address: number, length: number, isWrite: boolean): number {
    const { port } = this.#device(index);
    const bytes = isWrite ? pattern(length, ++this.#seed) : new Uint8Array(length).fill(0xee);
    const done = isWrite
      ? port.write(dmaAddr(address), bytes, 0, length)
      : port.read(dmaAddr(address), bytes, 0, length);
    let at = 0;
    while (at < length) {
      const inPage = (address + at) % PAGE_SIZE;
      const step = Math.min(PAGE_SIZE - inPage, length - at);
      const { pass, phys } = this.#space(index).verdict(address + at - inPage, isWrite);
      const isThrough = pass === 'yes' || (pass === 'maybe' && done > at);
      if (!isThrough) break;
      const holds = this.#page(phys);
      const part = bytes.subarray(at, at + step);
      if (isWrite) holds.set(part, inPage);
      else
        expect(
          part.every((byte, i) => byte === holds[inPage + i]),
          'the device read other bytes',
        ).toBe(true);
      at += step;
    }
    must(done === at, `0x${address.toString(16)}: ${isWrite ? 'wrote' : 'read'} ${done} of ${length} bytes, not ${at}`);
    if (!isWrite) for (let i = at; i < length; i++) must(bytes[i] === 0xee, 'bytes arrived that were not done');
    return done;
  }

  /** Memory holds what was written to it, and nothing else. */
  checkMemory(): void {
    const { coherency } = this.machine;
    const now = new Uint8Array(PAGE_SIZE);
    for (const [phys, wanted] of this.memory) {
      coherency.peek(physAddr(phys), now, 0, PAGE_SIZE, 'cached');
      must(Buffer.compare(now, wanted) === 0, `other bytes at 0x${phys.toString(16)}`);
    }
  }

  /** Every address that was ever handed out, tried by every device. */
  tryAll(): void {
    for (const address of new Set(this.everMapped)) {
      for (const index of this.devices.keys()) {
        this.access(index, address + 5, 1, false);
        this.access(index, address + 6, 1, true);
      }
    }
  }

  #map(index: number, kind: MapKind, at: number, dir: DmaDirection): void {
    const device = this.#device(index);
    const room = RAM_PAGES * PAGE_SIZE - at;
    const bytes = Math.min(room, 1 + ((at * 7919) % (3 * PAGE_SIZE)));
    const phys = physAddr(RAM_BASE + at);
    if (kind === 'page') this.#mapPage(index, phys, bytes, dir);
    else if (kind === 'block') this.#mapPage(index, physAddr(RAM_BASE), BLOCK, dir);
    else if (kind === 'sg') this.#mapSg(index, at, dir);
    else if (kind === 'resource') {
      const bar = physAddr(BAR_BASE + (at % ((BAR_PAGES - 1) * PAGE_SIZE)));
      const size = Math.min(bytes, PAGE_SIZE);
      const address = dmaMapResource(device, bar, size, dir);
      must(!dmaMappingError(device, address), 'no address');
      const runs = [[{ start: Number(bar), length: size }], [{ start: Number(address), length: size }]] as const;
      this.#enter(index, pagesOf(...runs, dir), () => dmaUnmapResource(device, address, size, dir));
    } else this.#allocate(index, bytes);
  }

  #mapPage(index: number, phys: number, length: number, dir: DmaDirection): void {
    const device = this.#device(index);
    const address = dmaMapPage(device, physAddr(phys), length, dir);
    must(!dmaMappingError(device, address), 'no address');
    const pages = pagesOf([{ start: phys, length }], [{ start: Number(address), length }], dir);
    this.#enter(index, pages, () => dmaUnmapPage(device, address, length, dir));
  }

  /** Three extents: the middle ones end where pages do, as the IOMMU wants it, or not: then each has an own page. */
  #mapSg(index: number, at: number, dir: DmaDirection): void {
    const device = this.#device(index);
    const first = Math.floor(at / PAGE_SIZE);
    const inPage = at % PAGE_SIZE;
    const page = (i: number) => RAM_BASE + ((first + i) % RAM_PAGES) * PAGE_SIZE;
    const memory: Run[] = [
      { start: page(0) + inPage, length: PAGE_SIZE - inPage },
      { start: page(2), length: PAGE_SIZE },
      { start: page(5), length: 1 + ((at * 31) % PAGE_SIZE) },
    ];
    const sgt = new SgTable(memory.map(({ start, length }) => ({ phys: physAddr(start), length })));
    dmaMapSgtable(device, sgt, dir);
    const seen = sgt.segments().map(({ address, length }) => ({ start: Number(address), length }));
    this.#enter(index, pagesOf(memory, seen, dir), () => dmaUnmapSgtable(device, sgt, dir));
  }

  #allocate(index: number, bytes: number): void {
    const device = this.#device(index);
    const allocation = dmaAllocCoherent(device, bytes);
    if (allocation === null) expect.fail('no memory');
    const memory = allocation.extents.map(({ phys, length }) => ({ start: Number(phys), length }));
    const length = memory.reduce((sum, run) => sum + run.length, 0);
    const pages = pagesOf(memory, [{ start: Number(allocation.address), length }], 'bidirectional');
    for (const { phys } of pages) this.memory.set(phys, new Uint8Array(PAGE_SIZE));
    this.#enter(index, pages, () => dmaFreeCoherent(device, allocation));
  }

  #enter(index: number, pages: readonly ModelPage[], end: () => void): void {
    const wrong = this.#space(index).map(pages);
    must(wrong === '', wrong);
    this.mappings.push({ dev: index, pages, end });
    for (const { io } of pages.length > 16 ? [...pages.slice(0, 8), ...pages.slice(-2)] : pages)
      this.everMapped.push(io);
  }

  #access({ dev: index, where, which, offset, length, write }: Command & { readonly op: 'access' }): void {
    const live = this.mappings.flatMap(({ pages }) => [pages[0], pages.at(-1)]).map((page) => page?.io ?? 0);
    const known = where === 'once-mapped' ? this.everMapped : live;
    const base = known[which % Math.max(1, known.length)] ?? 0;
    if (where === 'anywhere') this.access(index, (which * 0x1234_5678_9abc) % 2 ** 33, length, write);
    else if (where === 'beside')
      this.access(index, Math.max(0, base - PAGE_SIZE) + (offset % PAGE_SIZE), length, write);
    else this.access(index, base + (offset % PAGE_SIZE), length, write);
  }

  #device(index: number): Device {
    return this.devices[index] ?? expect.fail('no device');
  }

  #space(index: number): ModelSpace {
    return this.spaces[index] ?? expect.fail('no space');
  }

  /** What a page must hold: zeros unless something was put there. */
  #page(phys: number): Uint8Array {
    let page = this.memory.get(phys);
    if (page === undefined) {
      page = new Uint8Array(PAGE_SIZE);
      this.memory.set(phys, page);
    }
    return page;
  }

  #fill(phys: number): void {
    const bytes = pattern(PAGE_SIZE, ++this.#seed);
    this.machine.memory.write(physAddr(phys), bytes, 0, PAGE_SIZE);
    this.memory.set(phys, bytes);
  }
}

/** `expect` would take most of the time: this is asked of every access. */
function must(isSo: boolean, what: string): void {
  if (!isSo) throw new Error(what);
}

const QUIET = { dmaDebug: false, shadow: false } as const;
const MACHINES = [
  {
    format: 'Arm LPAE',
    make: (lazyIommu: boolean) =>
      armSoc({ ramBytes: 16 * MIB, cmaBytes: 4 * MIB, cacheBytes: 16 * KIB, lazyIommu, ...QUIET }),
  },
  {
    format: 'VT-d',
    make: (lazyIommu: boolean) =>
      pc({ lowRamBytes: 32 * MIB, highRamBytes: 0, cmaBytes: 4 * MIB, swiotlbBytes: 256 * KIB, lazyIommu, ...QUIET }),
  },
] as const;

describe.each(MACHINES)('devices behind an IOMMU ($format)', ({ make }) => {
  it(
    'reach with strict invalidation what is mapped for them, with the rights it was mapped with, and not a byte else',
    () => {
      fc.assert(
        fc.property(program, (commands) => {
          const scene = new Scene(make(false), false);
          for (const command of commands) scene.run(command);
          scene.tryAll();
          scene.checkMemory();
          while (scene.mappings.length > 0) scene.unmap(0);
          scene.tryAll();
          scene.checkMemory();
        }),
        { numRuns: RUNS },
      );
    },
    TIMEOUT_MS,
  );

  it(
    'reach with lazy invalidation what was unmapped until the flush at most, and never what was not mapped',
    () => {
      fc.assert(
        fc.property(program, (commands) => {
          const scene = new Scene(make(true), true);
          for (const command of commands) scene.run(command);
          scene.tryAll();
          scene.checkMemory();
          while (scene.mappings.length > 0) scene.unmap(0);
          scene.wait(ms(10));
          expect(scene.spaces.map((space) => space.deadPages)).toEqual([0, 0, 0]);
          scene.tryAll();
          scene.checkMemory();
        }),
        { numRuns: RUNS },
      );
    },
    TIMEOUT_MS,
  );
});
