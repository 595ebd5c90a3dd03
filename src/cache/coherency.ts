/**
 * A coherency domain: the CPUs that share one last-level cache, their write-combining buffer, and the memory below.
 * The single gate for all accesses, of CPUs and of devices.
 *
 *     CPU view    cached -----> cache --miss, write-back--> memory <---- device that does not snoop
 *        |                        ^                            ^
 *        +-- write-combined --> buffer ------- drain ----------+
 *        +-- uncached -----------------------------------------+
 *                                 device that snoops: cache first, then memory
 *
 * Rules:
 * 1. Each copy is real and can be old. Mixed attributes over the same memory are as incoherent as on hardware: an
 *    uncached read does not see a dirty line, a cached read does not see what waits in the buffer.
 * 2. A snooping device reads dirty lines from the cache; its writes drop cached lines, a dirty one that they cover only
 *    in part is written back first. Nobody snoops the write-combining buffer.
 * 3. Maintenance acts on whole lines and drains the buffer first, as the barrier in it does.
 * 4. CPU accesses and maintenance charge the running task; device accesses cost nothing here, the device's model knows.
 * 5. An access is checked as a whole before it begins. What the shadow finds is reported when it is done: state has
 *    changed, `out` is filled, the cost is charged, and only then does policy `'throw'` throw.
 *
 * Inaccuracies: one cache level and one buffer for all CPUs of the domain; the shadow knows the copies of this domain
 * only, so let one domain own a memory; a remap window is resolved before the cache, so a window and the memory behind
 * it share lines; x86 would snoop its own cache on uncached accesses.
 */
import { hex, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Accessor } from '../base/hazards.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { Simulator } from '../sim/simulator.ts';
import { AccessBracket } from './access-bracket.ts';
import { checkRange, checkSource, contiguousRun } from './access-range.ts';
import type { CacheCosts } from './cache-costs.ts';
import { type CacheGeometry, CpuCache } from './cpu-cache.ts';
import { CpuPort, type MemoryAttribute } from './cpu-port.ts';
import { readAsDevice, writeAsDevice } from './device-port.ts';
import type { ShadowCopies } from './line-at-hand.ts';
import { Shadow } from './shadow.ts';
import { WriteCombiningBuffer } from './write-combining.ts';

/** Where a device's accesses enter. */
export interface DevicePort {
  /** Whether they look into the CPU cache (a DMA-coherent device). */
  readonly snoops: boolean;
  readonly accessor: Accessor;
}

/** How to make a {@link CoherencyDomain}. */
export interface CoherencyOptions {
  readonly costs: CacheCosts;
  /** Default 1 MiB, 16 ways, lines of 64 bytes. */
  readonly cache?: CacheGeometry;
  /** Line buffers for write-combining. Default 10. */
  readonly writeBuffers?: number;
  /** Whether stale and lost bytes are explained. Default true; false costs nothing and reports nothing. */
  readonly shadow?: boolean;
  /** Write calls whose author is remembered. Default 65536. */
  readonly logEntries?: number;
}

const HARDWARE: Accessor = { name: 'cpu cache', kind: 'cpu', via: 'hardware', beforeRead: '', afterWrite: '' };
const KERNEL: Accessor = { name: 'kernel', kind: 'cpu', via: 'cache maintenance', beforeRead: '', afterWrite: '' };

type Maintenance = 'clean' | 'invalidate' | 'clean-invalidate';

/** The gate to memory for one group of CPUs and the devices beside them. Plain throughout: nothing waits. */
export class CoherencyDomain {
  readonly memory: PhysMemory;
  /** For counters and for looking; accesses go through the domain. */
  readonly cache: CpuCache;
  readonly costs: CacheCosts;
  readonly #sim: Simulator;
  readonly #buffer: WriteCombiningBuffer;
  readonly #copies: ShadowCopies;
  readonly #cpu: CpuPort;
  readonly #bracket: AccessBracket;
  readonly #shadow: Shadow | undefined;
  readonly #zeros = new Uint8Array(PAGE_SIZE);
  readonly #copyBuffer: Uint8Array;

  /** @throws {InvariantError} a geometry or count outside its range. */
  constructor(sim: Simulator, memory: PhysMemory, options: CoherencyOptions) {
    this.#sim = sim;
    this.memory = memory;
    this.costs = options.costs;
    this.cache = new CpuCache(memory, options.cache);
    this.#buffer = new WriteCombiningBuffer(memory, options.writeBuffers ?? 10, this.cache.lineBytes);
    this.#copyBuffer = new Uint8Array(memory.storesBytes ? PAGE_SIZE : 0);
    this.#copies = { memory, cache: this.cache, writeBuffer: this.#buffer };
    if (options.shadow !== false) {
      this.#shadow = new Shadow(sim, this.#copies, options.logEntries ?? 65536, KERNEL);
      this.cache.observer = this.#shadow;
      this.#buffer.observer = this.#shadow;
    }
    this.#cpu = new CpuPort(this.#copies, this.#shadow, this.costs);
    this.#bracket = new AccessBracket(sim, this.#cpu, this.#shadow);
  }

  /** Accesses that got old bytes which happened to equal the newest; 0 without a shadow. */
  get luckyReads(): number {
    return this.#shadow?.luckyReads ?? 0;
  }

  /** Lines of which the shadow keeps a record by byte; 0 without a shadow. */
  get splitLines(): number {
    return this.#shadow?.splitLines ?? 0;
  }

  /** Lines that wait in the write-combining buffer. */
  get pendingLines(): number {
    return this.#buffer.pendingLines;
  }

  /**
   * A CPU of the domain reads `length` bytes at `phys` into `out` from `outOffset`. Charges by lines or, past the cache,
   * by accesses. `out` may be `null`: everything but the copying happens.
   *
   * @throws {ErrnoError} `EFAULT` a byte outside memory; nothing has happened (never retry).
   * @throws {HazardError} `cpu-read.stale`, or `*-write.lost` of a line that had to leave; the read is done.
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
    this.#bracket.enter(accessor);
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.memory, phys + done, length - done);
      const at = this.memory.resolve((phys + done) as PhysAddr);
      this.#cpu.read(at, out, outOffset + done, step, attribute);
    }
    this.#bracket.leave();
  }

  /**
   * A CPU of the domain writes `length` bytes of `src` from `srcOffset` at `phys`. Charges as {@link cpuRead}. `src` may be
   * `null` in tag mode only.
   *
   * @throws {ErrnoError} `EFAULT` a byte outside memory; nothing has happened (never retry).
   * @throws {HazardError} `*-write.lost` of a line that had to leave; the write is done.
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
    this.#bracket.enter(accessor);
    this.#shadow?.beginWrite();
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.memory, phys + done, length - done);
      const at = this.memory.resolve((phys + done) as PhysAddr);
      this.#cpu.write(at, src, srcOffset + done, step, attribute);
    }
    this.#bracket.leave();
  }

  /**
   * A device reads `length` bytes at `phys` into `out` (or `null`: only the shadow looks). Charges nothing.
   *
   * @throws {ErrnoError} `EFAULT` a byte outside memory; nothing has happened (never retry).
   * @throws {HazardError} `device-read.stale`; the read is done.
   */
  deviceRead(phys: PhysAddr, out: Uint8Array | null, outOffset: number, length: number, port: DevicePort): void {
    checkRange(this.memory, 'deviceRead', phys, out, outOffset, length);
    this.#bracket.enter(port.accessor);
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.memory, phys + done, length - done);
      const at = this.memory.resolve((phys + done) as PhysAddr);
      readAsDevice(this.#copies, this.#shadow, at, out, outOffset + done, step, port.snoops);
    }
    this.#bracket.leave();
  }

  /**
   * A device writes `length` bytes of `src` from `srcOffset` at `phys`; `src` may be `null` in tag mode only. Charges
   * nothing.
   *
   * @throws {ErrnoError} `EFAULT` a byte outside memory; nothing has happened (never retry).
   * @throws {HazardError} `*-write.lost` of an old dirty line that a snooping write met; the write is done.
   */
  deviceWrite(phys: PhysAddr, src: Uint8Array | null, srcOffset: number, length: number, port: DevicePort): void {
    checkSource(this.memory, 'deviceWrite', phys, src, srcOffset, length);
    this.#bracket.enter(port.accessor);
    this.#shadow?.beginWrite();
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.memory, phys + done, length - done);
      const at = this.memory.resolve((phys + done) as PhysAddr);
      writeAsDevice(this.#copies, this.#shadow, at, src, srcOffset + done, step, port.snoops);
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
    return this.#maintain('clean', phys, length, by);
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
    return this.#maintain('invalidate', phys, length, by);
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
    return this.#maintain('clean-invalidate', phys, length, by);
  }

  /** Waits until all writes have left the CPU: drains the write-combining buffer and charges a barrier. */
  barrier(by: Accessor = KERNEL): void {
    this.#bracket.enter(by);
    this.#buffer.drainAll();
    this.#cpu.debtNs += this.costs.barrierNs;
    this.#bracket.leave();
  }

  /**
   * Drains the write-combining buffer, which hardware may do at any time. Costs nothing.
   *
   * @returns the lines drained.
   * @throws {HazardError} `*-write.lost` old bytes went over newer ones; all is drained.
   */
  drainWriteBuffer(): number {
    this.#bracket.enter(HARDWARE);
    const lines = this.#buffer.drainAll();
    this.#bracket.leave();
    return lines;
  }

  /** Fetches lines into the cache, which hardware may do at any time (speculation). Costs nothing. Errors as {@link clean}. */
  prefetch(phys: PhysAddr, length: number): void {
    this.#onLines(phys, length, 'fetch');
  }

  /** Evicts lines, dirty ones are written back, which hardware may do at any time. Costs nothing. Errors as {@link clean}. */
  evict(phys: PhysAddr, length: number): void {
    this.#onLines(phys, length, 'cleanInvalidate');
  }

  /**
   * Clears memory as the kernel clears pages it gives out: through a cached mapping, so the zeros stay in dirty lines.
   * Charges as a cached write; errors as {@link cpuWrite}.
   *
   * @see Linux 6.1 `include/linux/highmem.h` clear_highpage
   */
  zero(phys: PhysAddr, length: number, accessor: Accessor): void {
    checkRange(this.memory, 'zero', phys, null, 0, length);
    this.#bracket.enter(accessor);
    this.#shadow?.beginWrite();
    for (let done = 0, step = 0; done < length; done += step) {
      step = Math.min(PAGE_SIZE, contiguousRun(this.memory, phys + done, length - done));
      this.#cpu.writeCached(this.memory.resolve((phys + done) as PhysAddr), this.#zeros, 0, step);
    }
    this.#bracket.leave();
  }

  /**
   * A CPU copies `length` bytes from `src` to `dst` through cached mappings (bounce buffers, migration). Charges a cached
   * read and write. The ranges must not overlap. Errors as {@link cpuRead} and {@link cpuWrite}, one report for all.
   */
  copy(dst: PhysAddr, src: PhysAddr, length: number, accessor: Accessor): void {
    checkRange(this.memory, 'copy (dst)', dst, null, 0, length);
    checkRange(this.memory, 'copy (src)', src, null, 0, length);
    assert(
      dst + length <= src || src + length <= dst,
      'copy: %s bytes at %s and %s overlap',
      length,
      hex(src),
      hex(dst),
    );
    this.#bracket.enter(accessor);
    this.#shadow?.beginWrite();
    for (let done = 0, step = 0; done < length; done += step) {
      const left = Math.min(length - done, PAGE_SIZE);
      step = Math.min(contiguousRun(this.memory, src + done, left), contiguousRun(this.memory, dst + done, left));
      const piece = this.memory.storesBytes ? this.#copyBuffer : null;
      this.#cpu.readCached(this.memory.resolve((src + done) as PhysAddr), piece, 0, step);
      this.#cpu.writeCached(this.memory.resolve((dst + done) as PhysAddr), piece, 0, step);
    }
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
    this.memory.read(phys, out, outOffset, length);
    if (!this.memory.storesBytes) return;
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.memory, phys + done, length - done);
      const at = this.memory.resolve((phys + done) as PhysAddr);
      if (attribute === 'cached') this.cache.overlay(at, out, outOffset + done, step);
      else this.#buffer.overlay(at, out, outOffset + done, step);
    }
  }

  /** Puts `bytes` where everyone sees them: into memory and every copy of it. No time, nobody's write. Errors as {@link cpuWrite}. */
  poke(phys: PhysAddr, bytes: Uint8Array): void {
    checkRange(this.memory, 'poke', phys, bytes, 0, bytes.length);
    this.memory.write(phys, bytes, 0, bytes.length);
    for (let i = 0; this.memory.storesBytes && i < bytes.length; i++) {
      const at = this.memory.resolve((phys + i) as PhysAddr);
      const value = bytes[i] as number;
      this.cache.poke(at, value);
      const waiting = this.#buffer.indexOf(at);
      if (waiting >= 0) this.#buffer.bytes[waiting] = value;
      this.#shadow?.poked(at, value);
    }
  }

  #maintain(op: Maintenance, phys: PhysAddr, length: number, by: Accessor): number {
    checkRange(this.memory, op, phys, null, 0, length);
    this.#bracket.enter(by);
    this.#buffer.drainAll();
    let lines = 0;
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.memory, phys + done, length - done);
      const at = this.memory.resolve((phys + done) as PhysAddr);
      if (op === 'clean') lines += this.cache.clean(at, step);
      else if (op === 'invalidate') lines += this.cache.invalidate(at, step);
      else lines += this.cache.cleanInvalidate(at, step);
    }
    const perLineNs = op === 'invalidate' ? this.costs.invalidateLineNs : this.costs.cleanLineNs;
    this.#cpu.debtNs += lines * perLineNs + this.costs.barrierNs;
    try {
      this.#traceMaintenance(op, phys, length, lines);
    } finally {
      this.#bracket.leave(); // also when a listener throws: the bracket must not stay open
    }
    return lines;
  }

  #traceMaintenance(op: Maintenance, phys: PhysAddr, bytes: number, lines: number): void {
    const { trace, now } = this.#sim;
    if (trace.enabled) trace.emit({ kind: 'cache.maintain', timeNs: now, op, phys, bytes, lines });
  }

  #onLines(phys: PhysAddr, length: number, op: 'fetch' | 'cleanInvalidate'): void {
    checkRange(this.memory, op, phys, null, 0, length);
    this.#bracket.enter(HARDWARE);
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(this.memory, phys + done, length - done);
      this.cache[op](this.memory.resolve((phys + done) as PhysAddr), step);
    }
    this.#bracket.leave();
  }
}
