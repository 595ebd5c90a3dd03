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

/** @internal The system calls of one process. */
export class SyscallGate {
  readonly #sim: Simulator;
  readonly #fds: FdTable;
  /** Calls that are under way: while there are several, a reserved descriptor may be another's. */
  #running = 0;

  constructor(sim: Simulator, fds: FdTable) {
    this.#sim = sim;
    this.#fds = fds;
  }

  /** @throws {HazardError} `syscall.held-at-return` under policy `'throw'`, if `body` throws nothing itself. */
  *run<T>(op: string, body: () => MaybeOp<T>): Op<T> {
    const { currentTask } = this.#sim;
    const locks = currentTask?.held?.length ?? 0;
    const { reservedCount } = this.#fds;
    const wasAlone = this.#running === 0;
    this.#running++;
    let result: T;
    try {
      result = yield* lift(body());
    } finally {
      this.#running--;
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
