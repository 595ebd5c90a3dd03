/**
 * The way of a task into the kernel and back. On the way back it does what it has put off, and nothing that is the kernel's may be
 * left with it: no lock, and no descriptor that was reserved and neither installed nor given back.
 *
 * @see Linux 6.1 `kernel/entry/common.c` syscall_exit_to_user_mode; `kernel/locking/lockdep.c` lockdep_sys_exit
 */
import { dmaBufCore } from '../dmabuf/dma-buf-core.ts';
import { lift, type MaybeOp, type Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { FdTable } from './fd-table.ts';
import type { OpenFile } from './file.ts';
import { SYSTEM_CALL } from './object-notes.ts';
import { type CallsUnderWay, callsUnderWay, type SignalState } from './signals.ts';

/** @internal The system calls of one process. */
export class SyscallGate {
  readonly #sim: Simulator;
  readonly #fds: FdTable;
  readonly #signals: SignalState;
  readonly #calls: CallsUnderWay;
  /** Calls that are under way: while there are several, a reserved descriptor may be another's. */
  #running = 0;

  /** @param signals - what interrupts the calls. */
  constructor(sim: Simulator, fds: FdTable, signals: SignalState) {
    this.#sim = sim;
    this.#fds = fds;
    this.#signals = signals;
    this.#calls = callsUnderWay(sim);
  }

  /** @throws {HazardError} `syscall.held-at-return` under policy `'throw'`, if `body` throws nothing itself. */
  *run<T>(op: string, body: () => MaybeOp<T>): Op<T> {
    const { currentTask } = this.#sim;
    const locks = currentTask?.held?.length ?? 0;
    const { reservedCount } = this.#fds;
    const wasAlone = this.#running === 0;
    this.#running++;
    const calls = this.#calls;
    const outer = currentTask === null ? undefined : calls.enter(currentTask, this.#signals);
    let result: T;
    try {
      result = yield* lift(body());
    } finally {
      this.#running--;
      if (currentTask !== null) calls.leave(currentTask, outer);
      yield* dmaBufCore(this.#sim).runTaskWork();
    }
    const held = (currentTask?.held ?? []).slice(locks).map((lock) => lock.name);
    const kept = this.#fds.reservedCount - reservedCount;
    if (wasAlone && this.#running === 0 && kept > 0) held.push(`${kept} reserved descriptors`);
    if (held.length > 0) this.#report(op, held);
    return result;
  }

  #report(call: string, held: readonly string[]): void {
    const { now, currentTask } = this.#sim;
    this.#sim.report({
      hazard: 'syscall.held-at-return',
      call,
      task: currentTask?.name ?? 'no task',
      held,
      timeNs: now,
      remedy: `release ${held.join(', ')} on every way out of ${call}`,
    });
  }
}

/** @internal Runs `body` with a reference of `file`. */
export function* holding<T>(file: OpenFile, body: (file: OpenFile) => MaybeOp<T>): Op<T> {
  file.getFor(SYSTEM_CALL);
  try {
    return yield* lift(body(file));
  } finally {
    file.putFor(SYSTEM_CALL);
  }
}

/** @internal Does every step, whatever others throw. Plain. @throws the first error, at the end. */
export function doAll(steps: readonly (() => void)[]): void {
  const errors: unknown[] = [];
  for (const step of steps) {
    try {
      step();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}
