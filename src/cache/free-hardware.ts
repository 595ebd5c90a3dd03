/**
 * What the hardware of a domain does of its own accord, where a chooser decides it (`sim.hardwareIsFree`). It is asked
 * at the beginning of every access and every maintenance call, of CPUs and of devices, so also between the accesses of one transfer:
 *
 * - `'drain'` a write-combining buffer of any CPU goes to memory, or 8 bytes of it;
 * - `'clean'` dirty lines are written back early, and stay;
 * - `'evict'` lines leave, dirty ones after a write-back;
 * - `'fill'` lines are fetched by speculation: a CPU may load any line of memory that is mapped cached, at any time, also while a
 *   device writes it;
 * - `'device-cache'` a line of a device's cache leaves;
 * - `'victim'` any line of a full set makes room, once an access.
 *
 * Rules:
 * 1. Only lines of pages that were mapped or accessed cached are fetched; a clean line is never written back.
 * 2. Lines are picked around the {@link RECENT} ranges that were accessed last, by CPUs or devices: the choices stay few, and fall where
 *    something is going on. Of the range that is chosen, `'page'` picks up to {@link PAGES_AT_ONCE} pages (0) or one, and `'line'` all
 *    lines of a single page (0) or one.
 *
 * @see Arm DDI 0487 B2.7.1, D7.5 (speculative loads of Normal cacheable memory, cleaning and eviction at any time); Intel SDM volume 3, 12.3
 */
import { PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { HardwarePoint } from '../sim/chooser.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { CpuCache } from './cpu-cache.ts';
import type { DomainCopies } from './domain-copies.ts';

/** Ranges of recent accesses that are kept. */
const RECENT = 16;
/** Pages of a range that move together at most. */
const PAGES_AT_ONCE = 16;
/** Bytes of a partly filled write buffer that go out together. */
const PIECE_BYTES = 8;

/** Pages [first, end) that somebody accessed, by their numbers. */
interface PageRange {
  first: number;
  end: number;
}

/** Free hardware of one domain; made only if a chooser decides it. @internal */
export class FreeHardware {
  readonly #sim: Simulator;
  readonly #copies: DomainCopies;
  readonly #deviceCaches: CpuCache[] = [];
  /** Oldest first. */
  readonly #recent: PageRange[] = [];
  readonly #cachedPages = new Set<number>();
  /** Whether the chooser had its say in this access about a victim. */
  #hasChosenVictim = false;

  constructor(sim: Simulator, copies: DomainCopies) {
    this.#sim = sim;
    this.#copies = copies;
    this.#letVictimBeChosen(copies.cache);
    if (copies.system !== undefined) this.#letVictimBeChosen(copies.system);
  }

  /** `cache` belongs to a device of the domain. */
  addDeviceCache(cache: CpuCache): void {
    this.#deviceCaches.push(cache);
    this.#letVictimBeChosen(cache);
  }

  /** [phys, phys + length) is mapped cached from now on: lines of it may be fetched at any time. */
  mapCached(phys: number, length: number): void {
    const end = Math.ceil((phys + length) / PAGE_SIZE);
    for (let page = Math.floor(phys / PAGE_SIZE); page < end; page++) this.#cachedPages.add(page);
  }

  /** No cached mapping of these pages is left: no line of them is fetched any more. */
  unmapCached(phys: number, length: number): void {
    const end = Math.ceil((phys + length) / PAGE_SIZE);
    for (let page = Math.floor(phys / PAGE_SIZE); page < end; page++) this.#cachedPages.delete(page);
  }

  /** Somebody is about to access [phys, phys + length), a CPU through a cached mapping if `cached`: now is the time for anything. */
  act(phys: PhysAddr, length: number, cached: boolean): void {
    this.#hasChosenVictim = false;
    if (cached) this.mapCached(phys, length);
    if (length > 0 && !isWindow(this.#copies.memory, phys)) this.#remember(phys, length);
    this.#drain();
    this.#deviceLine();
    const { cache, system } = this.#copies;
    for (const each of system === undefined ? [cache] : [cache, system]) {
      if (each.dirtyLines > 0) this.#onChosen('clean', (at, bytes) => each.clean(at, bytes));
      if (each.validLines > 0) this.#onChosen('evict', (at, bytes) => each.cleanInvalidate(at, bytes));
    }
    if (this.#cachedPages.size > 0) this.#onChosen('fill', (at, bytes) => this.#fill(at, bytes));
  }

  #letVictimBeChosen(cache: CpuCache): void {
    cache.directory.chooseVictim = (ways) => {
      if (this.#hasChosenVictim) return -1;
      this.#hasChosenVictim = true;
      return this.#sim.chooseHardware(ways + 1, 'victim') - 1;
    };
  }

  #remember(phys: number, length: number): void {
    const first = Math.floor(phys / PAGE_SIZE);
    const end = Math.ceil((phys + length) / PAGE_SIZE);
    const at = this.#recent.findIndex((range) => first <= range.end && range.first <= end);
    const known = at < 0 ? { first, end } : (this.#recent.splice(at, 1)[0] as PageRange);
    known.first = Math.min(known.first, first);
    known.end = Math.max(known.end, end);
    this.#recent.push(known);
    if (this.#recent.length > RECENT) this.#recent.shift();
  }

  #drain(): void {
    const { buffers } = this.#copies;
    const pending = buffers.pendingLines;
    if (pending === 0) return;
    let chosen = this.#sim.chooseHardware(1 + pending, 'drain') - 1;
    if (chosen < 0) return;
    for (const buffer of buffers.all) {
      if (chosen >= buffer.pendingLines) {
        chosen -= buffer.pendingLines;
        continue;
      }
      const piece = this.#sim.chooseHardware(1 + buffer.lineBytes / PIECE_BYTES, 'bytes');
      const from = Math.max(0, piece - 1) * PIECE_BYTES;
      buffer.drainPart(buffer.pendingEntry(chosen), from, piece === 0 ? buffer.lineBytes : from + PIECE_BYTES);
      return;
    }
  }

  #deviceLine(): void {
    for (const cache of this.#deviceCaches) {
      if (cache.validLines === 0) continue;
      const chosen = this.#sim.chooseHardware(1 + cache.validLines, 'device-cache');
      if (chosen === 0) continue;
      const line = cache.directory.nthHeld(chosen - 1);
      cache.cleanInvalidate((line * cache.lineBytes) as PhysAddr, cache.lineBytes);
    }
  }

  /** Lets the chooser pick a part of what was accessed lately, and does `act` to it. */
  #onChosen(point: HardwarePoint, act: (phys: PhysAddr, bytes: number) => void): void {
    const chosen = this.#sim.chooseHardware(1 + this.#recent.length, point);
    const range = this.#recent[this.#recent.length - chosen];
    if (chosen === 0 || range === undefined) return;
    const pages = range.end - range.first;
    const page = pages < 2 ? 1 : this.#sim.chooseHardware(1 + pages, 'page');
    const first = page > 0 ? range.first + page - 1 : Math.max(range.first, range.end - PAGES_AT_ONCE);
    const count = page > 0 ? 1 : range.end - first;
    for (let n = 0; n < count; n++) {
      if (this.#copies.memory.regionAt(((first + n) * PAGE_SIZE) as PhysAddr) === undefined) continue;
      if (count > 1) act(((first + n) * PAGE_SIZE) as PhysAddr, PAGE_SIZE);
      else this.#onLines(first, act);
    }
  }

  #onLines(page: number, act: (phys: PhysAddr, bytes: number) => void): void {
    const { lineBytes } = this.#copies.cache;
    const line = this.#sim.chooseHardware(1 + PAGE_SIZE / lineBytes, 'line');
    if (line === 0) act((page * PAGE_SIZE) as PhysAddr, PAGE_SIZE);
    else act((page * PAGE_SIZE + (line - 1) * lineBytes) as PhysAddr, lineBytes);
  }

  /** Fetches what is mapped cached. */
  #fill(phys: PhysAddr, bytes: number): void {
    if (this.#cachedPages.has(Math.floor(phys / PAGE_SIZE))) this.#copies.cache.fetch(phys, bytes);
  }
}

/** A page of a window is no memory of its own. */
function isWindow(memory: PhysMemory, phys: PhysAddr): boolean {
  return memory.regionAt(phys)?.resolve !== undefined;
}
