/**
 * A small Arm SoC as found on camera and set-top boards: 2 GiB of RAM from 0x4000_0000 on, one cluster of CPUs with a 1 MiB
 * last-level cache, an SMMUv3 for the devices that are behind one, and devices that do not snoop the CPU caches.
 *
 * | constant | value | source |
 * |---|---|---|
 * | a line in the cache | 2 ns | between memcpy out of L1 (0.3–0.8 ns a line) and out of memory; measured on x86 |
 * | a line from memory | 8 ns | copies at 7–13 GB/s, 5–10 ns a line; measured on x86 |
 * | 8 bytes uncached | 61 ns | 130 MB/s out of uncached memory, ZCU102, github.com/ikwzm/udmabuf/issues/97 |
 * | clean or invalidate a line | 10 ns | 5–20 ns; assumption, no public figure found |
 * | a barrier (`dsb`) | 200 ns | 100–300 ns; assumption |
 * | a system call | 150 ns | ioctl 123–213 ns; measured on x86 |
 * | SMMUv3 | see `smmuV3Costs` | `dma_map_benchmark`, Arm Morello |
 */
import { PAGE_SIZE } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { alignDown, GIB, KIB, MIB } from '../base/units.ts';
import { Machine, type MachineOptions, type MachineSpec } from './machine.ts';
import { smmuV3Costs } from './smmu-v3.ts';

const SPEC: Omit<MachineSpec, 'ram' | 'cache' | 'cmaBytes'> = {
  cacheCosts: {
    hitLineNs: 2,
    missLineNs: 8,
    uncachedAccessNs: 61,
    uncachedAccessBytes: 8,
    wcLineNs: 8,
    cleanLineNs: 10,
    invalidateLineNs: 10,
    barrierNs: 200,
  },
  iommu: { name: 'smmu0', costs: smmuV3Costs },
  syscallNs: 150,
};

/** Where RAM begins. */
const RAM_BASE = 0x4000_0000;
/** The last-level cache: ways of a set, and bytes of a line. */
const WAYS = 16;
const LINE_BYTES = 64;

/** What to change of the SoC. */
export interface ArmSocOptions extends MachineOptions {
  /** Bytes of the last-level cache, 16 ways of 64-byte lines: 1 KiB times a power of two. Default 1 MiB. */
  readonly cacheBytes?: number;
  /** Bytes of RAM from 0x4000_0000 on, a multiple of a page. Default 2 GiB. What lies above 3 GiB is above 4 GiB of address. */
  readonly ramBytes?: number;
  /** Bytes of the CMA area, a multiple of a page; it lies in the RAM below 4 GiB, from a multiple of 4 MiB on. Default 256 MiB. */
  readonly cmaBytes?: number;
}

/**
 * Makes the SoC. Devices and processes are added to it. Memory takes host memory only where it is written.
 *
 * @throws {InvariantError} an option is out of range; the text names it.
 */
export function armSoc(options: ArmSocOptions = {}): Machine {
  const { cacheBytes = 1024 * KIB, ramBytes = 2048 * MIB, cmaBytes = 256 * MIB } = options;
  const sets = cacheBytes / (WAYS * LINE_BYTES);
  assert(
    sets >= 1 && Number.isInteger(Math.log2(sets)),
    'cacheBytes: %s is not 1 KiB times a power of two',
    cacheBytes,
  );
  assert(isPages(ramBytes), 'ramBytes: %s is no positive multiple of a page', ramBytes);
  assert(isPages(cmaBytes), 'cmaBytes: %s is no positive multiple of a page', cmaBytes);
  const cmaBase = alignDown(Math.min(RAM_BASE + ramBytes, 4 * GIB) - cmaBytes, 4 * MIB);
  assert(cmaBase >= RAM_BASE, 'cmaBytes: %s do not fit into the RAM below 4 GiB (ramBytes: %s)', cmaBytes, ramBytes);
  const cache = { lineBytes: LINE_BYTES, sets, ways: WAYS };
  return new Machine({ ...SPEC, cache, cmaBytes, ram: [{ base: RAM_BASE, bytes: ramBytes }] }, options);
}

function isPages(bytes: number): boolean {
  return Number.isSafeInteger(bytes) && bytes > 0 && bytes % PAGE_SIZE === 0;
}
