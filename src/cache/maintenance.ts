/**
 * Cache maintenance by address: each operation acts on whole lines of the CPUs' cache and, where the point of coherency lies below the
 * system cache, of that as well; what it did is counted.
 */
import type { PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Accessor } from '../base/hazards.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { AccessBracket } from './access-bracket.ts';
import { checkRange, contiguousRun } from './access-range.ts';
import type { CacheCosts } from './cache-costs.ts';
import type { CpuCache } from './cpu-cache.ts';
import type { CpuPort } from './cpu-port.ts';
import type { DomainCopies } from './domain-copies.ts';
import type { Shadow } from './shadow.ts';

/** What maintenance does with the lines that overlap its range. */
export type MaintenanceOp = 'clean' | 'invalidate' | 'clean-invalidate';

/** What one maintenance call did, or all of them. Lines, unless the name says bytes. */
export interface MaintenanceCounts {
  /** Lines of the ranges, cached or not: what the CPU had to ask for. */
  lines: number;
  /** Dirty lines that were written back. */
  cleaned: number;
  /** Lines that were dropped. */
  invalidated: number;
  /** Bytes that reached memory. */
  writtenBackBytes: number;
}

/** A rectangle of memory: `rows` rows of `rowBytes`, `strideBytes` from the start of one to the next. */
export interface MemoryRect {
  /** Of its first byte. */
  readonly phys: PhysAddr;
  readonly rowBytes: number;
  /** At least `rowBytes`. */
  readonly strideBytes: number;
  readonly rows: number;
}

/** A range as a rectangle of one row. @internal */
export function rowOf(phys: PhysAddr, length: number): MemoryRect {
  return { phys, rowBytes: length, strideBytes: length, rows: 1 };
}

/** What {@link Maintenance} needs beside the caches. */
export interface MaintenanceParts {
  readonly bracket: AccessBracket;
  readonly cpu: CpuPort;
  readonly shadow: Shadow | undefined;
  readonly costs: CacheCosts;
  /** Whether the system cache lies beyond the point of coherency. */
  readonly isBeyond: boolean;
}

/** Maintenance of one domain. @internal */
export class Maintenance {
  /** All calls so far. */
  readonly total: MaintenanceCounts = { lines: 0, cleaned: 0, invalidated: 0, writtenBackBytes: 0 };
  readonly #sim: Simulator;
  readonly #copies: DomainCopies;
  readonly #bracket: AccessBracket;
  readonly #cpu: CpuPort;
  readonly #shadow: Shadow | undefined;
  readonly #costs: CacheCosts;
  /** Those that operations by address act on. */
  readonly #byAddress: readonly CpuCache[];
  readonly #ofSystem: readonly CpuCache[];

  constructor(sim: Simulator, copies: DomainCopies, parts: MaintenanceParts) {
    const { cache, system } = copies;
    this.#sim = sim;
    this.#copies = copies;
    this.#bracket = parts.bracket;
    this.#cpu = parts.cpu;
    this.#shadow = parts.shadow;
    this.#costs = parts.costs;
    this.#ofSystem = system === undefined ? [] : [system];
    this.#byAddress = parts.isBeyond ? [cache] : [cache, ...this.#ofSystem];
  }

  /** Does `op` on every row of `rect`, as one access of `by`, and charges. @returns what it did. */
  run(op: MaintenanceOp, rect: MemoryRect, by: Accessor, ofSystem = false): MaintenanceCounts {
    const { phys, rowBytes, strideBytes, rows } = rect;
    assert(Number.isSafeInteger(rows) && rows >= 0, '%s: rows %s is no whole number >= 0', op, rows);
    assert(strideBytes >= rowBytes, '%s: strideBytes %s is below rowBytes %s', op, strideBytes, rowBytes);
    const rowAt = (row: number) => (phys + row * strideBytes) as PhysAddr;
    for (let row = 0; row < rows; row++) checkRange(this.#copies.memory, op, rowAt(row), null, 0, rowBytes);
    this.#bracket.begin(by, phys, rows === 0 ? 0 : (rows - 1) * strideBytes + rowBytes, false);
    this.#copies.buffers.mine?.drainAll();
    const counts = { lines: 0, cleaned: 0, invalidated: 0, writtenBackBytes: 0 };
    const caches = ofSystem ? this.#ofSystem : this.#byAddress;
    for (let row = 0; row < rows; row++) addCounts(counts, this.#onRange(caches, op, rowAt(row), rowBytes));
    addCounts(this.total, counts);
    const perLineNs = op === 'invalidate' ? this.#costs.invalidateLineNs : this.#costs.cleanLineNs;
    this.#cpu.debtNs += counts.lines * perLineNs + this.#costs.barrierNs;
    const { trace, now } = this.#sim;
    try {
      const { lines } = counts;
      if (trace.enabled) trace.emit({ kind: 'cache.maintain', timeNs: now, op, phys, bytes: rows * rowBytes, lines });
    } finally {
      this.#bracket.leave(); // also when a listener throws: the bracket must not stay open
    }
    return counts;
  }

  #onRange(caches: readonly CpuCache[], op: MaintenanceOp, phys: PhysAddr, length: number): MaintenanceCounts {
    const { memory, cache } = this.#copies;
    const before = caches.map(({ counters }) => ({ ...counters }));
    let lines = 0;
    for (let done = 0, step = 0; done < length; done += step) {
      step = contiguousRun(memory, phys + done, length - done);
      const at = memory.resolve((phys + done) as PhysAddr);
      if (op === 'invalidate') this.#shadow?.beginInvalidate(at, step);
      for (const each of caches) onLines(each, op, at, step);
      lines += cache.lineOf(at + step - 1) - cache.lineOf(at) + 1;
    }
    this.#shadow?.endInvalidate();
    const counts = { lines, cleaned: 0, invalidated: 0, writtenBackBytes: 0 };
    for (const [i, { counters }] of caches.entries()) {
      counts.cleaned += counters.cleaned - (before[i]?.cleaned ?? 0);
      counts.invalidated += counters.invalidated - (before[i]?.invalidated ?? 0);
      if (i === caches.length - 1)
        counts.writtenBackBytes += counters.writtenBackBytes - (before[i]?.writtenBackBytes ?? 0);
    }
    return counts;
  }
}

function addCounts(sum: MaintenanceCounts, counts: MaintenanceCounts): void {
  sum.lines += counts.lines;
  sum.cleaned += counts.cleaned;
  sum.invalidated += counts.invalidated;
  sum.writtenBackBytes += counts.writtenBackBytes;
}

function onLines(cache: CpuCache, op: MaintenanceOp, phys: PhysAddr, length: number): void {
  if (op === 'clean') cache.clean(phys, length);
  else if (op === 'invalidate') cache.invalidate(phys, length);
  else cache.cleanInvalidate(phys, length);
}
