import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { physAddr } from '../../src/base/addr.ts';
import { KIB } from '../../src/base/units.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import { type BouncingDevice, Swiotlb } from '../../src/dma-api/swiotlb.ts';
import { BASE, Machine, nic } from '../cache/machine.ts';
import { type ModelMapping, SwiotlbModel } from './swiotlb-model.ts';

/** Programs; 40 times as many with DMABUF_SIM_RUNS=40. */
const RUNS = 250 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1);
/** Originals lie below the pool. */
const ORIGINALS = 16 * KIB;
const SLOTS = 256;
const RAM = ORIGINALS + SLOTS * 2 * KIB;

const dirs = fc.constantFrom<DmaDirection>('to-device', 'from-device', 'bidirectional');
const steps = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant('map' as const),
        orig: fc.nat(ORIGINALS - 1),
        bytes: fc.integer({ min: 1, max: 9000 }),
        padding: fc.oneof(fc.constant(0), fc.nat(40_000), fc.nat(250_000)),
        allocAlignMask: fc.constantFrom(0, 0, 0xfff, 0x3fff),
        dir: dirs,
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('unmap' as const), which: fc.nat(), skip: fc.boolean() }) },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constantFrom('cpu-write' as const, 'dev-write' as const, 'for-cpu' as const, 'for-device' as const),
        which: fc.nat(),
        offset: fc.nat(9000),
        bytes: fc.nat(9000),
        value: fc.integer({ min: 1, max: 255 }),
      }),
    },
  ),
  { maxLength: 25 },
);
type Step = typeof steps extends fc.Arbitrary<readonly (infer S)[]> ? S : never;

/** The pool and its model, which go through the same steps. */
class Twins {
  readonly machine = new Machine({
    ramBytes: RAM,
    shadow: false,
    cache: { sets: 64, ways: 4 },
  });
  readonly pool: Swiotlb;
  readonly model: SwiotlbModel;
  readonly dev: BouncingDevice;
  readonly live: ModelMapping[] = [];
  readonly #seen = new Uint8Array(RAM);

  constructor(minAlignMask: number, segBoundaryBytes: number) {
    const { sim, domain } = this.machine;
    this.pool = new Swiotlb(sim, { coherency: domain, base: physAddr(BASE + ORIGINALS), slots: SLOTS });
    const start = new Uint8Array(RAM);
    for (let i = 0; i < ORIGINALS; i++) start[i] = i * 7 + (i >> 8);
    this.machine.memory.write(BASE, start, 0, ORIGINALS);
    this.model = new SwiotlbModel(start, ORIGINALS, BASE, SLOTS);
    this.dev = { name: 'cam0', minAlignMask, segBoundaryBytes, dmaRanges: [] };
  }

  step(step: Step): void {
    if (step.kind === 'map') this.#map(step);
    else if (this.live.length === 0) return;
    else if (step.kind === 'unmap') this.#unmap(step.which % this.live.length, step.skip);
    else this.#touch(step);
  }

  /** All memory, when the caches have written back what they hold. */
  memory(): Uint8Array {
    this.machine.domain.evict(BASE, RAM);
    this.machine.memory.read(BASE, this.#seen, 0, RAM);
    return this.#seen;
  }

  #map(step: Extract<Step, { kind: 'map' }>): void {
    const { orig, dir, allocAlignMask } = step;
    const bytes = Math.min(step.bytes, ORIGINALS - orig);
    const allocBytes = bytes + step.padding;
    const shape = { orig, bytes, allocBytes, allocAlignMask, dir };
    const expected = this.model.map({ ...shape, keep: this.dev.minAlignMask, boundary: this.dev.segBoundaryBytes });
    const request = { phys: physAddr(BASE + orig), mappingBytes: bytes, allocBytes, allocAlignMask };
    const tlb = this.pool.tblMapSingle(this.dev, request, dir);
    const isEndless = this.machine.takeHazards().length > 0;
    if (expected === null || expected === 'endless') {
      expect([tlb, isEndless]).toEqual([null, expected === 'endless']);
      return;
    }
    expect([tlb, isEndless]).toEqual([BASE + expected.copy, false]);
    this.live.push(expected);
  }

  #unmap(which: number, skipCpuSync: boolean): void {
    const [mapping] = this.live.splice(which, 1) as [ModelMapping];
    this.model.unmap(mapping, skipCpuSync);
    this.pool.tblUnmapSingle(this.dev, physAddr(BASE + mapping.copy), mapping.bytes, mapping.dir, { skipCpuSync });
  }

  #touch(step: Exclude<Step, { kind: 'map' | 'unmap' }>): void {
    const mapping = this.live[step.which % this.live.length] as ModelMapping;
    const offset = step.offset % mapping.bytes;
    const bytes = Math.min(step.bytes, mapping.bytes - offset);
    const value = new Uint8Array(bytes).fill(step.value);
    const copy = mapping.copy + offset;
    const orig = mapping.orig + offset;
    const by = { ...nic.accessor, kind: 'cpu' as const };
    if (step.kind === 'cpu-write') {
      this.model.memory.set(value, orig);
      this.machine.domain.cpuWrite(physAddr(BASE + orig), value, 0, bytes, 'cached', by);
    } else if (step.kind === 'dev-write') {
      this.model.memory.set(value, copy);
      this.machine.domain.deviceWrite(physAddr(BASE + copy), value, 0, bytes, nic);
    } else if (this.#isRefused(mapping, offset)) {
      this.#refused(step.kind, mapping, copy, bytes);
    } else {
      this.model[step.kind === 'for-cpu' ? 'toCpu' : 'toDevice'](mapping, offset, bytes);
      this.#sync(step.kind, mapping, copy, bytes);
    }
  }

  /** In a later slot, at less than the offset of the original in its slot. */
  #isRefused(mapping: ModelMapping, offset: number): boolean {
    const first = mapping.copy - ORIGINALS - mapping.firstSlot * 2 * KIB;
    return (first + offset) % (2 * KIB) < first;
  }

  #refused(kind: 'for-cpu' | 'for-device', mapping: ModelMapping, copy: number, bytes: number): void {
    const before = this.pool.warnings;
    this.#sync(kind, mapping, copy, bytes);
    const idle = kind === 'for-cpu' ? 'to-device' : 'from-device';
    expect(this.pool.warnings - before).toBe(mapping.dir === idle ? 0 : 1);
  }

  #sync(kind: 'for-cpu' | 'for-device', mapping: ModelMapping, copy: number, bytes: number): void {
    const sync = kind === 'for-cpu' ? 'syncForCpu' : 'syncForDevice';
    this.pool[sync](this.dev, physAddr(BASE + copy), bytes, mapping.dir);
  }
}

describe('Swiotlb', () => {
  it(
    'answers like a list of slots, and memory holds the bytes that copying by hand gives',
    () => {
      const masks = fc.constantFrom(0, 0x1ff, 0x7ff, 0xfff, 0x3fff, 0xffff);
      const boundaries = fc.constantFrom(4 * KIB, 16 * KIB, 64 * KIB, 2 ** 32, 2 ** 64);
      fc.assert(
        fc.property(masks, boundaries, steps, (mask, boundary, program) => {
          const twins = new Twins(mask, boundary);
          for (const step of program) {
            twins.step(step);
            expect(twins.pool.usedSlots).toBe(twins.model.used.filter((used) => used).length);
          }
          expect(Buffer.compare(twins.memory(), twins.model.memory)).toBe(0);
          for (const mapping of twins.live) {
            twins.pool.tblUnmapSingle(twins.dev, physAddr(BASE + mapping.copy), mapping.bytes, 'to-device');
          }
          expect(twins.pool.usedSlots).toBe(0);
        }),
        { numRuns: RUNS },
      );
    },
    20_000 + RUNS * 30,
  );
});
