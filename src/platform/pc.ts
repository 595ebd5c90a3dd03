/**
 * A PC: RAM below and above the hole under 4 GiB, caches that every device snoops, a bounce pool for devices that do not
 * reach all of it, and, if wanted, a VT-d unit.
 *
 * ```text
 *   0                     2 GiB        4 GiB          5 GiB
 *   |---- RAM ------------|  PCI hole  |---- RAM ------|
 *              [swiotlb]^
 * ```
 *
 * | constant | value | source |
 * |---|---|---|
 * | a line in the cache | 2 ns | memcpy out of L1 (0.3–0.8 ns a line) and L2; measured on x86 |
 * | a line from memory | 8 ns | copies at 7–13 GB/s, 5–10 ns a line; measured on x86 |
 * | 8 bytes uncached | 61 ns | 130 MB/s out of uncached memory, ZCU102, github.com/ikwzm/udmabuf/issues/97; assumed here |
 * | `clflush` of a line | 10 ns | assumption; a device that snoops never needs it |
 * | `mfence` | 20 ns | assumption |
 * | a system call | 150 ns | ioctl 123–213 ns; measured on x86 |
 * | VT-d | see `vtdCosts` | rIOMMU, ASPLOS'15; SIGCOMM'18 |
 */
import { PAGE_SIZE } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { GIB, KIB, MIB } from '../base/units.ts';
import { Machine, type MachineOptions, type MachineSpec } from './machine.ts';
import { vtdCosts } from './vt-d.ts';

const CACHE_COSTS: MachineSpec['cacheCosts'] = {
  hitLineNs: 2,
  missLineNs: 8,
  uncachedAccessNs: 61,
  uncachedAccessBytes: 8,
  wcLineNs: 8,
  cleanLineNs: 10,
  invalidateLineNs: 10,
  barrierNs: 20,
};
const CACHE = { lineBytes: 64, sets: 1024, ways: 16 };
const SYSCALL_NS = 150;
/** Page 0 is the firmware's. */
const RAM_BASE = PAGE_SIZE;

/** What to change of the PC. */
export interface PcOptions extends MachineOptions {
  /** A VT-d unit stands in front of the devices that are added with `iommu: true`. Default true. */
  readonly vtd?: boolean;
  /** Bytes of RAM below 4 GiB, from 4 KiB on; a multiple of a page, at most 3 GiB. Default 2 GiB. */
  readonly lowRamBytes?: number;
  /** Bytes of RAM from 4 GiB on; a multiple of a page, may be 0. Default 1 GiB. */
  readonly highRamBytes?: number;
  /** Bytes of the CMA area; a multiple of a page. Default 64 MiB. */
  readonly cmaBytes?: number;
  /** Bytes of the bounce pool: a multiple of 256 KiB, or 0 for none. Default 64 MiB, as Linux's. */
  readonly swiotlbBytes?: number;
}

/**
 * Makes the PC. Devices and processes are added to it; they should be `coherent`, as everything on PCI is. Memory takes host memory
 * only where it is written.
 *
 * @throws {InvariantError} an option is out of range; the text names it.
 */
export function pc(options: PcOptions = {}): Machine {
  const { lowRamBytes = 2 * GIB, highRamBytes = GIB, cmaBytes = 64 * MIB, swiotlbBytes = 64 * MIB } = options;
  checkPages('lowRamBytes', lowRamBytes, 3 * GIB);
  checkPages('highRamBytes', highRamBytes, 2 ** 46);
  assert(lowRamBytes >= 16 * MIB, 'lowRamBytes: %s are below 16 MiB', lowRamBytes);
  checkPages('cmaBytes', cmaBytes, lowRamBytes);
  assert(swiotlbBytes % (256 * KIB) === 0, 'swiotlbBytes: %s is no multiple of 256 KiB', swiotlbBytes);
  const high = highRamBytes > 0 ? [{ base: 4 * GIB, bytes: highRamBytes }] : [];
  const spec: MachineSpec = {
    ram: [{ base: RAM_BASE, bytes: lowRamBytes - RAM_BASE }, ...high],
    cmaBytes,
    cache: CACHE,
    cacheCosts: CACHE_COSTS,
    iommu: options.vtd === false ? null : { name: 'dmar0', format: 'INTEL_VTD_S2', costs: vtdCosts },
    swiotlbSlots: swiotlbBytes / (2 * KIB),
    syscallNs: SYSCALL_NS,
  };
  return new Machine(spec, options);
}

function checkPages(what: string, bytes: number, most: number): void {
  const isPages = Number.isSafeInteger(bytes) && bytes >= 0 && bytes % PAGE_SIZE === 0 && bytes <= most;
  assert(isPages, '%s: %s is no multiple of a page of at most %s bytes', what, bytes, most);
}
