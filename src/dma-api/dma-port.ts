/**
 * A device's way to memory: each access is translated (IOTLB, then walk), cut where a translation ends, and handed to the
 * coherency domain, which looks into the CPU caches for devices that snoop.
 *
 * A fault is data, not an exception: the access stops there, the fault is recorded, and the count of bytes done tells. A device that
 * is not allowed to master the bus moves no byte, and nobody is told.
 *
 * Inaccuracies: an access is one batch at one instant; interleaving by page or burst is for the device's model
 * (`transferInChunks`). Translations run ahead of the bytes: an IOMMU's fault handler is called before the bytes in front
 * of the fault have moved.
 */
import { type DmaAddr, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Accessor } from '../base/hazards.ts';
import type { CoherencyDomain, DevicePort } from '../cache/coherency.ts';
import type { DeviceCache } from '../cache/device-cache.ts';
import type { DmaAccess } from '../iommu/fault.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { DmaPath, PortFault } from './dma-path.ts';
import { type StrayDevice, StrayDma } from './stray-dma.ts';

/** Faults that are kept; older ones are dropped, {@link DmaPort.faultCount} goes on. */
const FAULTS_KEPT = 64;

/** A device as its port sees it. */
interface PortDevice extends StrayDevice {
  readonly busMaster: boolean;
  readonly seesSystemCache: boolean;
}

/** Made with its device; all accesses of a model go through it. Plain throughout. */
export class DmaPort {
  #accessor: Accessor;
  readonly #device: PortDevice;
  readonly #path: DmaPath;
  readonly #coherency: CoherencyDomain;
  #gate: DevicePort;
  readonly #faults: PortFault[] = [];
  /** Made when the address book is first asked. */
  #stray: StrayDma | null = null;
  #faultCount = 0;
  #hasEnded = false;

  /** @internal */
  constructor(device: PortDevice, path: DmaPath) {
    this.#accessor = { name: device.name, kind: 'device', via: 'dma', beforeRead: '', afterWrite: '' };
    this.#device = device;
    this.#path = path;
    this.#coherency = device.coherency;
    const { coherent: snoops, seesSystemCache } = device;
    this.#gate = { snoops, seesSystemCache, accessor: this.accessor };
  }

  /** As reports name the device. */
  get accessor(): Accessor {
    return this.#accessor;
  }

  /** The newest faults, oldest first; at most 64. */
  get faults(): readonly PortFault[] {
    return this.#faults;
  }

  /** Faults so far. */
  get faultCount(): number {
    return this.#faultCount;
  }

  /**
   * Accesses after an unmap that lazy IOTLB invalidation let through, of a trusted device: no hazard there, but worth a look. Counted only
   * while the address book is kept.
   */
  get lateAccesses(): number {
    return this.#stray?.lateAccesses ?? 0;
  }

  /**
   * The device reads `length` bytes at `address` into `out` from `outOffset`. Charges translation and memory; the time of
   * the transfer itself is the model's.
   *
   * @param out - `null`: everything but the copying happens (tag mode).
   * @returns bytes done; less than `length` after a fault, which is recorded.
   * @throws {HazardError} `device-read.stale`, `access.*`, or `dma.*` if the address is not one of the device's (see `stray-dma.ts`), under policy
   * `'throw'`; the read is done.
   * @throws {InvariantError} `outOffset` and `length` do not fit `out`; nothing has happened.
   */
  read(address: DmaAddr, out: Uint8Array | null, outOffset: number, length: number): number {
    return this.#access('read', address, out, outOffset, length);
  }

  /**
   * The device writes `length` bytes of `src` from `srcOffset` to `address`. As {@link read} otherwise.
   *
   * @param src - `null` only in tag mode.
   * @throws {HazardError} `*-write.lost`, `access.*` or `dma.*` as in {@link read} under policy `'throw'`; the write is done.
   * @throws {InvariantError} `srcOffset` and `length` do not fit `src`; nothing has happened.
   */
  write(address: DmaAddr, src: Uint8Array | null, srcOffset: number, length: number): number {
    return this.#access('write', address, src, srcOffset, length);
  }

  /**
   * What the device would read now: no time, no state change, no fault, no hazard. Rights are not looked at, and addresses
   * are translated by the page table of this instant: what a stale IOTLB remembers is not.
   *
   * @returns bytes found; the rest of `out` is left alone.
   * @throws {InvariantError} `outOffset` and `length` do not fit `out`.
   */
  peek(address: DmaAddr, out: Uint8Array, outOffset: number, length: number): number {
    checkSlice('peek', out, outOffset, length);
    if (this.#hasEnded) return 0;
    const { memory } = this.#coherency;
    let done = 0;
    while (done < length) {
      const translation = this.#path.peekTranslate(address + done);
      if (translation === undefined) break;
      const step = runOfMemory(memory, translation.phys, Math.min(translation.runBytes, length - done));
      if (step === 0) break;
      this.#peekRun(memory.resolve(translation.phys), out, outOffset + done, step);
      done += step;
    }
    return done;
  }

  /** @internal All accesses go through `cache` from now on; `accessor` names its maintenance. @throws {InvariantError} it has one. */
  useCache(cache: DeviceCache, accessor: Accessor): void {
    assert(this.#gate.cache === undefined, 'cache: %s has a cache of its own already', this.#accessor.name);
    this.#accessor = accessor;
    this.#gate = { ...this.#gate, accessor, cache };
  }

  /** @internal The device is gone: its accesses do nothing from now on, and nobody is told. */
  end(): void {
    this.#hasEnded = true;
  }

  #access(kind: DmaAccess, address: DmaAddr, bytes: Uint8Array | null, offset: number, length: number): number {
    checkSlice(kind, bytes, offset, length);
    if (this.#hasEnded || !this.#device.busMaster) return 0;
    if (this.#device.sim.addresses.enabled) return this.#watched(kind, address, bytes, offset, length);
    return this.#move(kind, address, bytes, offset, length);
  }

  /** An access, and a look at whether its addresses were given to the device. */
  #watched(kind: DmaAccess, address: DmaAddr, bytes: Uint8Array | null, offset: number, length: number): number {
    this.#stray ??= new StrayDma(this.#device);
    const at = this.#stray.find(address, length);
    const done = this.#move(kind, address, bytes, offset, length);
    if (at >= 0) this.#stray.report(kind, at, address + length - at, address + done > at);
    return done;
  }

  #move(kind: DmaAccess, address: DmaAddr, bytes: Uint8Array | null, offset: number, length: number): number {
    return this.#coherency.asOneAccess(() => {
      const done = this.#transfer(kind, address, bytes, offset, length);
      this.#path.charge();
      return done;
    });
  }

  /** Runs that are neighbours in memory go as one, so that a scattered frame costs one call for each of its extents. */
  #transfer(kind: DmaAccess, address: DmaAddr, bytes: Uint8Array | null, offset: number, length: number): number {
    const path = this.#path;
    let done = 0;
    let runStart = 0;
    let runBytes = 0;
    let refused = false;
    while (done + runBytes < length) {
      const at = done + runBytes;
      if (!path.translate(address + at, kind)) {
        refused = true;
        break;
      }
      const step = Math.min(path.runBytes, length - at);
      if (runBytes > 0 && runStart + runBytes === path.phys) {
        runBytes += step;
        continue;
      }
      const moved = this.#run(kind, runStart, bytes, offset + done, runBytes);
      done += moved;
      if (moved < runBytes) return this.#stop(this.#noMemory(kind, address + done), done, length);
      runStart = path.phys;
      runBytes = step;
    }
    const moved = this.#run(kind, runStart, bytes, offset + done, runBytes);
    done += moved;
    if (moved < runBytes) return this.#stop(this.#noMemory(kind, address + done), done, length);
    return refused ? this.#stop(path.fault(), done, length) : done;
  }

  /** @returns bytes moved; fewer when memory ends. */
  #run(kind: DmaAccess, phys: number, bytes: Uint8Array | null, offset: number, length: number): number {
    const { memory } = this.#coherency;
    let backed = 0;
    while (backed < length) {
      const step = runOfMemory(memory, phys + backed, length - backed);
      if (step === 0) break;
      backed += step;
    }
    if (backed === 0) return 0;
    if (kind === 'read') this.#coherency.deviceRead(phys as PhysAddr, bytes, offset, backed, this.#gate);
    else this.#coherency.deviceWrite(phys as PhysAddr, bytes, offset, backed, this.#gate);
    return backed;
  }

  /** Looks at contiguous memory: what is there, and over it the lines of caches that the device looks into, its own last. */
  #peekRun(phys: PhysAddr, out: Uint8Array, outOffset: number, length: number): void {
    const { memory, systemCache } = this.#coherency;
    memory.read(phys, out, outOffset, length);
    if (!memory.storesBytes) return;
    if (this.#gate.seesSystemCache) systemCache?.overlay(phys, out, outOffset, length);
    if (this.#gate.snoops) this.#peekDirty(phys, out, outOffset, length);
    this.#gate.cache?.overlay(phys, out, outOffset, length);
  }

  /** Over `out`, the dirty lines of the CPUs that a snooping device would be given. */
  #peekDirty(phys: PhysAddr, out: Uint8Array, outOffset: number, length: number): void {
    const { cache } = this.#coherency;
    const { lineBytes } = cache;
    for (let line = phys - (phys % lineBytes); line < phys + length; line += lineBytes) {
      const copy = cache.peekLine(line as PhysAddr);
      if (copy?.dirty !== true) continue;
      const from = Math.max(phys, line);
      const to = Math.min(phys + length, line + lineBytes);
      out.set(copy.bytes.subarray(from - line, to - line), outOffset + from - phys);
    }
  }

  #noMemory(access: DmaAccess, address: number): PortFault {
    const { name, sim } = this.#device;
    return { device: name, address: address as DmaAddr, length: 0, access, reason: 'no-memory', timeNs: sim.now };
  }

  #stop(fault: PortFault, done: number, length: number): number {
    this.#faultCount++;
    this.#faults.push({ ...fault, length: length - done });
    if (this.#faults.length > FAULTS_KEPT) this.#faults.shift();
    return done;
  }
}

/** Bytes from `phys` on, at most `length`, in one piece of real memory (a page of a remap window); 0: none there. */
function runOfMemory(memory: PhysMemory, phys: number, length: number): number {
  const region = memory.regionAt(phys as PhysAddr);
  if (region === undefined) return 0;
  if (region.resolve === undefined) return Math.min(length, region.end - phys);
  const inPage = phys % PAGE_SIZE;
  const isMapped = region.resolve(phys - inPage - region.base) !== undefined;
  return isMapped ? Math.min(length, PAGE_SIZE - inPage) : 0;
}

function checkSlice(op: string, bytes: Uint8Array | null, offset: number, length: number): void {
  assert(Number.isSafeInteger(length) && length >= 0, 'port.%s: length %s is no whole number >= 0', op, length);
  const fits = bytes === null || (Number.isInteger(offset) && offset >= 0 && length <= bytes.length - offset);
  assert(fits, 'port.%s: %s bytes from offset %s do not fit an array of %s', op, length, offset, bytes?.length);
}
