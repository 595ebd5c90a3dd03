/**
 * The flush queue of a domain with lazy invalidation: ranges that are unmapped and whose IOTLB entries may still be there.
 *
 * 1. Every CPU has a queue of 255 ranges. A range goes to the queue of the CPU that unmaps it.
 * 2. The domain has one timer of 10 ms. The first range queued while it does not run starts it; nothing stops or restarts it.
 * 3. A flush invalidates the whole domain once. It comes when the timer expires, and when a CPU finds its queue full.
 * 4. After a flush ranges queued before it are free, in the order they were queued: with the timer those of all CPUs, CPU by
 *    CPU; else only those of the CPU that found its queue full. Another CPU's are freed when it queues its next, or by the timer.
 * 5. A freed range goes to the address cache of the CPU that frees it; the timer runs on the CPU that started it.
 *
 * So addresses stay taken for up to 10 ms after an unmap, and a device may go on reaching the memory through the IOTLB meanwhile.
 * A request that finds no address does not flush.
 *
 * @see Linux 6.1 `drivers/iommu/dma-iommu.c` queue_iova, fq_flush_timeout
 */
import { ms } from '../base/units.ts';
import type { Timer } from '../sim/timer.ts';
import type { UnlinkedTables } from './iotlb-gather.ts';
import type { CpuSource, IovaSpace } from './iova-space.ts';

/** Ranges a CPU's queue holds. */
const QUEUE_RANGES = 255;
/** From the first queued range to the flush. */
const FLUSH_AFTER_NS = ms(10);

/** Clock and CPUs of a {@link FlushQueue}: a `Simulator`. */
export interface FlushQueueClock extends CpuSource {
  after(ns: number, callback: () => undefined): Timer;
}

/** What a flush invalidates: an IOMMU domain. */
export interface FlushTarget {
  /** Invalidates all of the domain's IOTLB entries. */
  flushIotlbAll(): undefined;
}

/** See the head of this file. Plain: never waits. */
export class FlushQueue {
  /** Flushes so far. */
  flushCount = 0;
  readonly #clock: FlushQueueClock;
  readonly #target: FlushTarget;
  readonly #iovas: IovaSpace;
  readonly #rings: (Ring | undefined)[] = [];
  #timer: Timer | null = null;

  constructor(clock: FlushQueueClock, target: FlushTarget, iovas: IovaSpace) {
    this.#clock = clock;
    this.#target = target;
    this.#iovas = iovas;
  }

  /** Ranges that wait, of all CPUs. */
  get length(): number {
    let sum = 0;
    for (const ring of this.#rings) sum += ring?.count ?? 0;
    return sum;
  }

  /** True while the timer of rule 2 runs. */
  get isTimerRunning(): boolean {
    return this.#timer !== null;
  }

  /**
   * Queues an unmapped range; it is freed in the address space after the next flush.
   *
   * @param tables - released at that moment, too.
   */
  queue(firstPfn: number, pageCount: number, tables: UnlinkedTables | null = null): void {
    const { cpu } = this.#clock;
    let ring = this.#rings[cpu];
    if (ring === undefined) {
      ring = new Ring();
      this.#rings[cpu] = ring;
    }
    ring.freeFlushed(this.flushCount, this.#iovas);
    if (ring.count === QUEUE_RANGES) {
      this.#flush();
      ring.freeFlushed(this.flushCount, this.#iovas);
    }
    ring.add(firstPfn, pageCount, this.flushCount, tables);
    this.#timer ??= this.#clock.after(FLUSH_AFTER_NS, () => this.#expire());
  }

  /** Ends the queue with its domain: the timer stops, table pages are released, ranges are forgotten. */
  dispose(): void {
    this.#timer?.cancel();
    this.#timer = null;
    for (const ring of this.#rings) ring?.forget();
  }

  #expire(): undefined {
    this.#timer = null;
    this.#flush();
    for (const ring of this.#rings) ring?.freeFlushed(this.flushCount, this.#iovas);
  }

  #flush(): void {
    this.#target.flushIotlbAll();
    this.flushCount++;
  }
}

/** One CPU's queue. */
class Ring {
  count = 0;
  #head = 0;
  readonly #firsts = new Float64Array(QUEUE_RANGES);
  readonly #pages = new Float64Array(QUEUE_RANGES);
  /** Flushes before the range was queued. */
  readonly #flushes = new Float64Array(QUEUE_RANGES);
  readonly #tables: (UnlinkedTables | null)[] = new Array<UnlinkedTables | null>(QUEUE_RANGES).fill(null);

  add(firstPfn: number, pageCount: number, flushCount: number, tables: UnlinkedTables | null): void {
    const at = (this.#head + this.count) % QUEUE_RANGES;
    this.#firsts[at] = firstPfn;
    this.#pages[at] = pageCount;
    this.#flushes[at] = flushCount;
    this.#tables[at] = tables;
    this.count++;
  }

  /** Frees ranges that were queued before the last of `flushCount` flushes. */
  freeFlushed(flushCount: number, iovas: IovaSpace): void {
    while (this.count > 0 && (this.#flushes[this.#head] as number) < flushCount) {
      const at = this.#head;
      this.#head = (at + 1) % QUEUE_RANGES;
      this.count--;
      this.#tables[at]?.release();
      this.#tables[at] = null;
      iovas.freeFast(this.#firsts[at] as number, this.#pages[at] as number);
    }
  }

  forget(): void {
    for (const tables of this.#tables) tables?.release();
    this.#tables.fill(null);
    this.count = 0;
  }
}
