/**
 * What the dma-buf core keeps once per machine: the list of all buffers, its warnings, and the work it has put off.
 *
 * Deferred work: a kernel does not release a buffer inside the put that drops the last reference, but as work of the task
 * that put it, before that task returns to user space. Here it is put off as well, and runs
 * 1. when the task asks for it with {@link DmaBufCore.runTaskWork}, as system calls do at their end, or else
 * 2. in a task of its own at the same instant; so too when no task put it (a callback), as the kernel then takes a worker.
 *
 * Once begun it is done to its end: a task that is killed meanwhile dies when it is over.
 *
 * @see Linux 6.1 `fs/file_table.c` fput; `drivers/dma-buf/dma-buf.c`
 */

import type { Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { Task } from '../sim/task.ts';
import { unkillable } from '../sim/unkillable.ts';
import { CauseHints } from '../trace/cause-hints.ts';
import type { DmaBuf } from './dma-buf.ts';
import { noteExported } from './dma-buf-ledger.ts';
import { type DmaBufProfile, linux61 } from './dma-buf-profile.ts';
import { DmaResvUsage } from './dma-resv.ts';

/** Something the kernel would print a warning with a stack trace for; it goes on afterwards. */
export interface KernelWarning {
  /** The call: `'pin'`. */
  readonly op: string;
  readonly text: string;
  readonly timeNs: number;
}

interface Deferred {
  readonly task: Task<unknown> | null;
  readonly work: () => Op<void>;
}

/** The dma-buf core of one machine; {@link dmaBufCore} gives it. */
export class DmaBufCore {
  /** The rules for buffers that bring none of their own. Takes effect for buffers exported from then on. */
  profile: DmaBufProfile = linux61;
  /** Warnings so far, oldest first. A program without bugs has none. */
  readonly warnings: KernelWarning[] = [];
  readonly #sim: Simulator;
  /** Oldest first. */
  readonly #buffers = new Set<DmaBuf>();
  readonly #deferred = new Set<Deferred>();
  #inodes = 0;

  /** @internal Use {@link dmaBufCore}. */
  constructor(sim: Simulator) {
    this.#sim = sim;
    sim.part(CauseHints).pendingWriters = (name) => this.#pendingWriters(name);
  }

  /** All buffers with a reference left, newest first. */
  get buffers(): readonly DmaBuf[] {
    return [...this.#buffers].reverse();
  }

  /**
   * Runs what the running task has put off, in the order it did, in its own context. Waits for the exporters. A kill that comes meanwhile
   * acts afterwards.
   *
   * @throws what an exporter's `release` throws; the rest still runs, in tasks of its own.
   * @see Linux 6.1 `kernel/task_work.c` task_work_run
   */
  *runTaskWork(): Op<void> {
    const task = this.#sim.currentTask;
    for (const deferred of this.#deferred) {
      if (deferred.task !== task) continue;
      yield* unkillable(this.#sim, () => this.#runAllOf(task));
      return;
    }
  }

  /** @internal Puts `work` off. Plain. */
  defer(name: string, work: () => Op<void>): void {
    const deferred: Deferred = { task: this.#sim.currentTask, work };
    this.#deferred.add(deferred);
    this.#sim.spawn(name, () => this.#runOne(deferred));
  }

  /** @internal A new buffer. @returns its inode number. */
  add(buf: DmaBuf): number {
    this.#buffers.add(buf);
    noteExported(buf);
    return ++this.#inodes;
  }

  /** @internal A buffer without references. */
  remove(buf: DmaBuf): void {
    this.#buffers.delete(buf);
  }

  /** @internal Notes a warning. Plain. */
  warn(op: string, text: string): void {
    const { now, trace } = this.#sim;
    this.warnings.push({ op, text, timeNs: now });
    if (trace.enabled) trace.emit({ kind: 'kernel.warn', timeNs: now, op, text });
  }

  /** Only looks: the fences are not asked, nor those who watch the reservation told. */
  #pendingWriters(name: string): string[] {
    for (const buf of this.#buffers) {
      const { list } = buf.resv;
      if (buf.name !== name || list === null) continue;
      const isWriter = (at: number): boolean => (list.usages[at] ?? DmaResvUsage.read) <= DmaResvUsage.write;
      return list.fences.filter((fence, at) => isWriter(at) && !fence.signaled).map((fence) => fence.name);
    }
    return [];
  }

  *#runAllOf(task: Task<unknown> | null): Op<void> {
    // What is put off meanwhile comes last, and is met, too.
    for (const deferred of this.#deferred) if (deferred.task === task) yield* this.#runOne(deferred);
  }

  *#runOne(deferred: Deferred): Op<void> {
    if (this.#deferred.delete(deferred)) yield* deferred.work();
  }
}

/** The dma-buf core of `sim`: its profile, its buffers, its warnings. Plain. */
export function dmaBufCore(sim: Simulator): DmaBufCore {
  return sim.part(DmaBufCore);
}
