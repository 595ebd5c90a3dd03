/**
 * A coherency domain: the CPUs that share one last-level cache, a write-combining buffer each, and the memory below.
 * The single gate for all accesses, of CPUs and of devices.
 *
 *     CPU view    cached -----> cache --miss, write-back--> (system cache) --> memory <---- device that does not snoop
 *        |                        ^                                              ^          (through a cache of its own)
 *        +-- write-combined --> buffer ----------------- drain ------------------+
 *        +-- uncached, device ---------------------------------------------------+
 *                                 device that snoops: cache first, then system cache, then memory
 *
 * Rules:
 * 1. Each copy is real and can be old. Mixed attributes over the same memory are as incoherent as on hardware: an
 *    uncached read does not see a dirty line, a cached read does not see what waits in a buffer.
 * 2. A snooping device reads dirty lines from the cache; its writes drop cached lines, a dirty one that they cover only
 *    in part is written back first. Nobody snoops a write-combining buffer, nor a cache of a device.
 * 3. Maintenance acts on whole lines, of the system cache too, and drains the buffer of the CPU that executes it first, as the barrier
 *    in it does; the buffers of other CPUs wait for barriers of their own. Whoever moves a task to another CPU makes a
 *    barrier first, as a kernel's context switch does.
 * 4. CPU accesses and maintenance charge the running task; device accesses cost nothing here, the device's model knows.
 * 5. An access is checked as a whole before it begins. What the shadow finds is reported when it is done: state has
 *    changed, `out` is filled, the cost is charged, and only then does policy `'throw'` throw.
 * 6. What hardware may do of its own accord it does at the beginning of an access, if the simulator's chooser decides about it
 *    (`free-hardware.ts`); what is then found belongs to that access. Uncached writes then linger in the buffers too (`cpu-port.ts`).
 *
 * Inaccuracies: one cache level for all CPUs of the domain; the shadow knows the copies of this domain only, so let one domain own a memory;
 * a remap window is resolved before the cache, so a window and the memory behind it share lines; x86 would snoop its cache on uncached accesses.
 */
import { type PhysAddr, physAddr } from '../base/addr.ts';
import type { Accessor } from '../base/hazards.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { Simulator } from '../sim/simulator.ts';
import { type AccessBracket, HARDWARE } from './access-bracket.ts';
import { checkRange, checkSource, contiguousRun } from './access-range.ts';
import type { Activity } from './activity.ts';
import type { CacheCosts } from './cache-costs.ts';
import type { CacheGeometry, CpuCache } from './cpu-cache.ts';
import { type CpuPort, checkDeviceAccess, type MemoryAttribute } from './cpu-port.ts';
import type { DeviceCache, DeviceCacheOptions } from './device-cache.ts';
import { readPast, writePast } from './device-port.ts';
import { DomainCaches, type SystemCacheOptions } from './domain-caches.ts';
import { type DomainCopies, looksOf } from './domain-copies.ts';
import { KernelCopy } from './kernel-copy.ts';
import { peekAt, pokeAt } from './looking.ts';
import { type MaintenanceCounts, type MaintenanceOp, type MemoryRect, rowOf } from './maintenance.ts';
import type { Shadow } from './shadow.ts';

/** Where a device's accesses enter. */
export interface DevicePort {
  /** Whether they look into the CPU cache (a DMA-coherent device), and so into the system cache. */
  readonly snoops: boolean;
  readonly accessor: Accessor;
  /** Whether they look into the system cache: they find what it holds, and their writes to such lines stay in it. Default: if they snoop. */
  readonly seesSystemCache?: boolean;
  /** The device's own cache, which all accesses go through; made with the same `snoops` and `seesSystemCache`. */
  readonly cache?: DeviceCache;
}

/** How to make a {@link CoherencyDomain}. */
export interface CoherencyOptions {
  readonly costs: CacheCosts;
  /** Default 1 MiB, 16 ways, lines of 64 bytes. */
  readonly cache?: CacheGeometry;
  /** A cache between that of the CPUs and memory. Default: there is none. */
  readonly systemCache?: SystemCacheOptions;
  /** Line buffers for write-combining, of each CPU. Default 10. */
  readonly writeBuffers?: number;
  /** Whether stale and lost bytes are explained. Default true; false costs nothing and reports nothing. */
  readonly shadow?: boolean;
  /** Write calls whose author is remembered. Default 65536. */
  readonly logEntries?: number;
}

const START = physAddr(0);
const KERNEL: Accessor = { name: 'kernel', kind: 'cpu', via: 'cache maintenance', beforeRead: '', afterWrite: '' };

/** The gate to memory for one group of CPUs and the devices beside them. Plain throughout: nothing waits. */
export class CoherencyDomain {
  readonly memory: PhysMemory;
  /** For counters and for looking; accesses go through the domain. */
  readonly cache: CpuCache;
  readonly costs: CacheCosts;
  /** Who is at work on which bytes; `null` without a shadow. */
  readonly activity: Activity | null;
  /** @internal Which bytes are copies of which, by bounce buffers; `null` without a shadow. */
  readonly bounces: Shadow['bounces'] | null;
  /** @internal */
  readonly sim: Simulator;
  readonly #parts: DomainCaches;
  readonly #copies: DomainCopies;
  readonly #cpu: CpuPort;
  readonly #bracket: AccessBracket;
  readonly #shadow: Shadow | undefined;
  readonly #kernel: KernelCopy;

  /** @throws {InvariantError} a geometry or count outside its range. */
  constructor(sim: Simulator, memory: PhysMemory, options: CoherencyOptions) {
    this.sim = sim;
    this.memory = memory;
    this.costs = options.costs;
    this.#parts = new DomainCaches(sim, memory, options, KERNEL);
    this.#copies = this.#parts.copies;
    this.#cpu = this.#parts.cpu;
    this.#bracket = this.#parts.bracket;
    this.#shadow = this.#parts.shadow;
    this.#kernel = new KernelCopy(memory, this.#cpu);
    this.cache = this.#copies.cache;
    this.activity = this.#parts.activity;
    this.bounces = this.#shadow?.bounces ?? null;
  }

  /** The cache between that of the CPUs and memory, for counters and for looking; `null` if there is none. */
  get systemCache(): CpuCache | null {
    return this.#copies.system ?? null;
  }

  /** Accesses that got old bytes which happened to equal the newest; 0 without a shadow. */
  get luckyReads(): number {
    return this.#shadow?.luckyReads ?? 0;
  }

  /** Lines of which the shadow keeps a record by byte; 0 without a shadow. */
  get splitLines(): number {
    return this.#shadow?.splitLines ?? 0;
  }

  /** Host bytes that the shadow's arrays take, the log of write calls apart; 0 without a shadow. */
  get shadowBytes(): number {
    return this.#shadow?.hostBytes ?? 0;
  }

  /** Lines that wait in the write-combining buffers of all CPUs. */
  get pendingLines(): number {
    return this.#copies.buffers.pendingLines;
  }

  /** What all maintenance calls did, taken together. */
  get maintained(): Readonly<MaintenanceCounts> {
    return this.#parts.maintenance.total;
  }

  /**
   * Makes a cache for a device of this domain, to be given to its port. Plain.
   *
   * @throws {InvariantError} a geometry outside its range.
   */
  addDeviceCache(options: DeviceCacheOptions): DeviceCache {
    return this.#parts.addDeviceCache(options);
  }

  /** [phys, phys + length) is mapped cached: hardware that is free may fetch lines of it at any time. {@link CpuView} says so. */
  mapCached(phys: PhysAddr, length: number): void {
    this.#parts.hardware?.mapCached(phys, length);
  }

  /** No cached mapping of these pages is left, the kernel's own included: hardware fetches no line of them any more. */
  unmapCached(phys: PhysAddr, length: number): void {
    this.#parts.hardware?.unmapCached(phys, length);
  }

  /**
   * A CPU of the domain reads `length` bytes at `phys` into `out` from `outOffset`. Charges by lines or, past the cache,
   * by accesses. `out` may be `null`: everything but the copying happens.
   *
   * @throws {ErrnoError} `EFAULT` a byte outside memory, or an unaligned access to Device memory; nothing has happened (never retry).
   * @throws {HazardError} `cpu-read.stale`; `*-write.lost` of a line that had to leave; `access.*`, see `activity.ts`; the read is done.
   */
  cpuRead(
    phys: PhysAddr,
    out: Uint8Array | null,
    outOffset: number,
    length: number,
    attribute: MemoryAttribute,
    accessor: Accessor,
  ): void {
    checkRange(this.memory, 'cpuRead', phys, out, outOffset, length);
    if (attribute === 'device') checkDeviceAccess('cpuRead', phys, length);
    this.#bracket.begin(accessor, phys, length, attribute === 'cached');
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.memory, phys + done, length - done);
      const at = this.memory.resolve((phys + done) as PhysAddr);
      this.activity?.access('read', at, step, accessor);
      this.#cpu.read(at, out, outOffset + done, step, attribute);
    }
    this.#bracket.leaveRead(phys, length, accessor);
  }

  /**
   * A CPU of the domain writes `length` bytes of `src` from `srcOffset` at `phys`. Charges as {@link cpuRead}. `src` may be
   * `null` in tag mode only.
   *
   * @throws {ErrnoError} `EFAULT` a byte outside memory; nothing has happened (never retry).
   * @throws {HazardError} `*-write.lost` of a line that had to leave; `access.*`, see `activity.ts`; the write is done.
   */
  cpuWrite(
    phys: PhysAddr,
    src: Uint8Array | null,
    srcOffset: number,
    length: number,
    attribute: MemoryAttribute,
    accessor: Accessor,
  ): void {
    checkSource(this.memory, 'cpuWrite', phys, src, srcOffset, length);
    if (attribute === 'device') checkDeviceAccess('cpuWrite', phys, length);
    this.#bracket.begin(accessor, phys, length, attribute === 'cached');
    this.#shadow?.beginWrite(phys, length);
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.memory, phys + done, length - done);
      const at = this.memory.resolve((phys + done) as PhysAddr);
      this.activity?.access('write', at, step, accessor);
      this.#cpu.write(at, src, srcOffset + done, step, attribute);
    }
    this.#bracket.leave();
  }

  /**
   * A device reads `length` bytes at `phys` into `out` (or `null`: only the shadow looks). Charges nothing.
   *
   * @throws {ErrnoError} `EFAULT` a byte outside memory; nothing has happened (never retry).
   * @throws {HazardError} `device-read.stale`; `access.*`, see `activity.ts`; the read is done.
   */
  deviceRead(phys: PhysAddr, out: Uint8Array | null, outOffset: number, length: number, port: DevicePort): void {
    checkRange(this.memory, 'deviceRead', phys, out, outOffset, length);
    this.#bracket.begin(port.accessor, phys, length, false);
    const looks = looksOf(port.snoops, port.seesSystemCache);
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.memory, phys + done, length - done);
      const at = this.memory.resolve((phys + done) as PhysAddr);
      this.activity?.access('read', at, step, port.accessor);
      if (port.cache !== undefined) port.cache.read(at, out, outOffset + done, step);
      else readPast(this.#copies, this.#shadow, at, out, outOffset + done, step, looks);
    }
    this.#bracket.leaveRead(phys, length, port.accessor);
  }

  /**
   * A device writes `length` bytes of `src` from `srcOffset` at `phys`; `src` may be `null` in tag mode only. Charges
   * nothing.
   *
   * @throws {ErrnoError} `EFAULT` a byte outside memory; nothing has happened (never retry).
   * @throws {HazardError} `*-write.lost` of an old dirty line that a snooping write met; `access.*`, see `activity.ts`; the write is done.
   */
  deviceWrite(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number, port: DevicePort): void {
    checkSource(this.memory, 'deviceWrite', phys, src, srcOffset, length);
    this.#bracket.begin(port.accessor, phys, length, false);
    const looks = looksOf(port.snoops, port.seesSystemCache);
    this.#shadow?.beginWrite(phys, length);
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.memory, phys + done, length - done);
      const at = this.memory.resolve((phys + done) as PhysAddr);
      this.activity?.access('write', at, step, port.accessor);
      if (port.cache !== undefined) port.cache.write(at, src, srcOffset + done, step);
      else writePast(this.#copies, this.#shadow, at, src, srcOffset + done, step, looks);
    }
    this.#bracket.leave();
  }

  /**
   * Writes the dirty lines that overlap [phys, phys + length) back to memory and keeps them, clean. Charges
   * `cleanLineNs` for each line of the range, cached or not, and a barrier. `by` is named in reports.
   *
   * @returns the lines of the range.
   * @throws {ErrnoError} `EFAULT` a byte outside memory; nothing has happened (never retry).
   * @throws {HazardError} `*-write.lost` old lines went over newer bytes; the clean is done.
   * @see Arm DDI 0487 `DC CVAC`; Linux 6.1 `arch/arm64/mm/cache.S` dcache_clean_poc
   */
  clean(phys: PhysAddr, length: number, by: Accessor = KERNEL): number {
    return this.#parts.maintenance.run('clean', rowOf(phys, length), by).lines;
  }

  /**
   * Drops the lines that overlap [phys, phys + length); dirty bytes in them are gone, a neighbour's too. Charges
   * `invalidateLineNs` for each line of the range and a barrier.
   *
   * @returns the lines of the range.
   * @throws {ErrnoError} `EFAULT` a byte outside memory; nothing has happened (never retry).
   * @throws {HazardError} `*-write.lost` bytes nobody else had are gone; the invalidate is done.
   * @see Arm DDI 0487 `DC IVAC`; Linux 6.1 `arch/arm64/mm/cache.S` dcache_inval_poc
   */
  invalidate(phys: PhysAddr, length: number, by: Accessor = KERNEL): number {
    return this.#parts.maintenance.run('invalidate', rowOf(phys, length), by).lines;
  }

  /**
   * Writes the dirty lines that overlap [phys, phys + length) back, then drops all of them. Charges `cleanLineNs` for each
   * line of the range and a barrier.
   *
   * @returns the lines of the range.
   * @throws {ErrnoError} `EFAULT` a byte outside memory; nothing has happened (never retry).
   * @throws {HazardError} `*-write.lost` as {@link clean}.
   * @see Arm DDI 0487 `DC CIVAC`; Linux 6.1 `arch/arm64/mm/cache.S` dcache_clean_inval_poc
   */
  cleanInvalidate(phys: PhysAddr, length: number, by: Accessor = KERNEL): number {
    return this.#parts.maintenance.run('clean-invalidate', rowOf(phys, length), by).lines;
  }

  /**
   * Maintenance of a rectangle, row by row and with one barrier at the end: charges the lines of every row, so those that two rows
   * share twice. Errors as {@link clean} and {@link invalidate}.
   *
   * @returns what it did.
   * @throws {InvariantError} `strideBytes` below `rowBytes`, or `rows` that is no whole number.
   */
  maintainRect(op: MaintenanceOp, rect: MemoryRect, by: Accessor = KERNEL): MaintenanceCounts {
    return this.#parts.maintenance.run(op, rect, by);
  }

  /**
   * Maintenance of the system cache alone, by its own registers: all there is for one that lies beyond the point of coherency. Charges
   * as maintenance by address; errors as {@link clean} and {@link invalidate}.
   *
   * @returns what it did.
   * @see Linux 6.1 `arch/arm/mm/cache-l2x0.c` outer_cache operations
   */
  maintainSystemCache(op: MaintenanceOp, phys: PhysAddr, length: number, by: Accessor = KERNEL): MaintenanceCounts {
    return this.#parts.maintenance.run(op, rowOf(phys, length), by, true);
  }

  /** Waits until all writes have left the CPU that runs: drains its write-combining buffer and charges a barrier. */
  barrier(by: Accessor = KERNEL): void {
    this.#bracket.begin(by, START, 0, false);
    this.#copies.buffers.mine?.drainAll();
    this.#cpu.debtNs += this.costs.barrierNs;
    this.#bracket.leave();
  }

  /**
   * Drains the write-combining buffers of all CPUs, which hardware may do at any time. Costs nothing.
   *
   * @returns the lines drained.
   * @throws {HazardError} `*-write.lost` old bytes went over newer ones; all is drained.
   */
  drainWriteBuffer(): number {
    this.#bracket.enter(HARDWARE);
    let lines = 0;
    for (const buffer of this.#copies.buffers.all) lines += buffer.drainAll();
    this.#bracket.leave();
    return lines;
  }

  /** Fetches lines into the cache, which hardware may do at any time (speculation). Costs nothing. Errors as {@link clean}. */
  prefetch(phys: PhysAddr, length: number): void {
    checkRange(this.memory, 'prefetch', phys, null, 0, length);
    this.#parts.onLines('fetch', phys, length);
  }

  /** Evicts lines, dirty ones are written back, which hardware may do at any time. Costs nothing. Errors as {@link clean}. */
  evict(phys: PhysAddr, length: number): void {
    checkRange(this.memory, 'evict', phys, null, 0, length);
    this.#parts.onLines('cleanInvalidate', phys, length);
  }

  /**
   * Clears memory as the kernel clears pages it gives out: through a cached mapping, so the zeros stay in dirty lines.
   * Charges as a cached write; errors as {@link cpuWrite}.
   *
   * @see Linux 6.1 `include/linux/highmem.h` clear_highpage
   */
  zero(phys: PhysAddr, length: number, accessor: Accessor): void {
    checkRange(this.memory, 'zero', phys, null, 0, length);
    this.#bracket.begin(accessor, phys, length, true);
    this.#shadow?.beginWrite(phys, length);
    this.#kernel.zero(phys, length);
    this.#bracket.leave();
  }

  /**
   * A CPU copies `length` bytes from `src` to `dst` through cached mappings (bounce buffers, migration). Charges a cached
   * read and write. The ranges must not overlap. Errors as {@link cpuRead} and {@link cpuWrite}, one report for all.
   */
  copy(dst: PhysAddr, src: PhysAddr, length: number, accessor: Accessor): void {
    this.#kernel.checkCopy(dst, src, length);
    this.#bracket.begin(accessor, src, length, true);
    this.mapCached(dst, length);
    this.#shadow?.beginWrite(dst, length);
    this.#kernel.copy(dst, src, length);
    this.#bracket.leave();
  }

  /**
   * Runs `body`, whose accesses count as one: their findings make one report of a kind, and are charged and reported
   * when it has returned. For a device that works through a list of extents. May nest.
   *
   * @throws what `body` throws; what was found is charged but not reported then.
   */
  asOneAccess<T>(body: () => T): T {
    return this.#bracket.around(body);
  }

  /** Fills `out` with what a CPU read with this attribute would return now. No time, no state change. Errors as {@link cpuRead}. */
  peek(phys: PhysAddr, out: Uint8Array, outOffset: number, length: number, attribute: MemoryAttribute): void {
    checkRange(this.memory, 'peek', phys, out, outOffset, length);
    peekAt(this.#copies, phys, out, outOffset, length, attribute, this.#parts.past.seesSystem);
  }

  /** Puts `bytes` where everyone sees them: into memory and every copy of it. No time, nobody's write. Errors as {@link cpuWrite}. */
  poke(phys: PhysAddr, bytes: Uint8Array): void {
    checkRange(this.memory, 'poke', phys, bytes, 0, bytes.length);
    pokeAt(this.#copies, this.#parts.all, this.#shadow, phys, bytes);
  }
}
