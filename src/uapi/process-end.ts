/**
 * How a process ends, and what it gives back then: its mappings, its descriptors, the numbers it has reserved. Its other threads go first.
 *
 * @see Linux 6.1 `kernel/exit.c` do_exit, do_group_exit
 */
import type { Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { Task } from '../sim/task.ts';
import type { AddressSpace } from './address-space.ts';
import { DmaBufFile, dmaBufFile } from './dma-buf-file.ts';
import type { FdTable } from './fd-table.ts';
import type { OpenFile } from './file.ts';
import type { ProcessThreads } from './process-threads.ts';
import type { SyncBrackets } from './sync-brackets.ts';
import { doAll, type SyscallGate } from './syscall.ts';

/** What a process consists of. */
interface ProcessParts {
  readonly name: string;
  readonly fds: FdTable;
  readonly space: AddressSpace;
  readonly threads: ProcessThreads;
  readonly gate: SyscallGate;
  /** `null`: nobody watches them. */
  readonly brackets: SyncBrackets | null;
}

/** @internal The end of one process; see `Process.exit` and `Process.kill`. */
export class ProcessEnd {
  readonly #sim: Simulator;
  readonly #parts: ProcessParts;
  /** Gives everything back when the other threads are gone. */
  #reaper: Task<void> | null = null;

  constructor(sim: Simulator, parts: ProcessParts) {
    this.#sim = sim;
    this.#parts = parts;
    if (parts.brackets === null) return;
    const dropped = (file: OpenFile, call: string): void => {
      if (file instanceof DmaBufFile) this.#checkBrackets(file, call);
    };
    parts.fds.onClose = dropped;
    parts.space.onUnmap = dropped;
  }

  /** See `Process.exec`. */
  exec(): void {
    this.#giveBack('exec', this.#parts.fds.closedOnExec);
  }

  /** See `Process.exit`. */
  exit(): void {
    if (this.#reaper?.outcome === null) return;
    const others = this.#parts.threads.killOthers();
    if (others.length === 0) this.#giveBackAll();
    else this.#reap(others);
  }

  /** See `Process.kill`. */
  *kill(): Op<void> {
    const { threads, gate, brackets, space } = this.#parts;
    brackets?.forget();
    space.isKilled = true;
    const isOwn = threads.isCaller;
    const others = threads.killOthers();
    if (isOwn) this.#sim.currentTask?.kill();
    const reaper = this.#reaper?.outcome === null ? this.#reaper : isOwn ? this.#reap(threads.live) : null;
    if (reaper !== null) {
      yield* reaper.done;
      return;
    }
    for (const thread of others) yield* thread.exit;
    brackets?.forget();
    yield* gate.run('exit', () => this.exit());
  }

  /** Gives everything back when `threads` are gone. */
  #reap(threads: readonly Task<unknown>[]): Task<void> {
    const { name, gate } = this.#parts;
    const giveBack = () => this.#giveBackAll();
    this.#reaper = this.#sim.spawn(`${name}.exit`, function* () {
      for (const thread of threads) yield* thread.exit;
      yield* gate.run('exit', giveBack);
    });
    return this.#reaper;
  }

  #giveBackAll(): void {
    const { fds } = this.#parts;
    this.#giveBack('exit', fds.open, fds.reserved);
  }

  /** Unmaps everything and closes `numbers`; throws the first error at the end. */
  #giveBack(call: string, numbers: readonly number[], reserved: readonly number[] = []): void {
    const { fds, space, brackets } = this.#parts;
    doAll([
      ...space.mappings.map((mapping) => () => mapping.remove()),
      ...numbers.map((fd) => () => fds.drop(fd)),
      ...reserved.map((fd) => () => fds.unreserve(fd)),
      ...(brackets?.buffers ?? []).map((buf) => () => this.#checkBrackets(dmaBufFile(buf), call)),
    ]);
  }

  /** Reports brackets of a buffer that nothing of the process holds any more. */
  #checkBrackets(file: DmaBufFile, call: string): void {
    const { fds, space, brackets } = this.#parts;
    if (brackets?.has(file.buf) !== true) return;
    const isHeld = space.mappings.some(({ vma }) => vma.file === file) || fds.isOpen(file);
    if (!isHeld) brackets.left(file.buf, call);
  }
}
