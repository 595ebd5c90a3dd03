/**
 * The threads of a process: tasks that end with it.
 *
 * @see Linux 6.1 `kernel/exit.c` do_group_exit; `kernel/signal.c` zap_other_threads
 */
import type { Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { Task } from '../sim/task.ts';

/** Ended threads are looked for when there are so many, and then when there are twice as many as were alive. */
const FIRST_SWEEP = 16;

/** @internal See the header. */
export class ProcessThreads {
  readonly #sim: Simulator;
  readonly #name: string;
  #threads: Task<unknown>[] = [];
  #sweepAt = FIRST_SWEEP;

  /** @param name - of the process: threads are called after it. */
  constructor(sim: Simulator, name: string) {
    this.#sim = sim;
    this.#name = name;
  }

  /** Those that have not ended, oldest first. */
  get live(): readonly Task<unknown>[] {
    this.#threads = this.#threads.filter(({ outcome }) => outcome === null);
    return this.#threads;
  }

  /** Tasks that are kept, ended ones among them; no more than twice as many as were alive at once. */
  get keptCount(): number {
    return this.#threads.length;
  }

  /** Whether the running task is one of them. */
  get isCaller(): boolean {
    const { currentTask } = this.#sim;
    return currentTask !== null && this.#threads.includes(currentTask);
  }

  /** Starts one. Plain. */
  spawn<T>(name: string, body: () => Op<T>): Task<T> {
    const task = this.#sim.spawn(`${this.#name}.${name}`, body);
    if (this.#threads.length >= this.#sweepAt) this.#sweepAt = Math.max(FIRST_SWEEP, 2 * this.live.length);
    this.#threads.push(task);
    return task;
  }

  /** Kills all but the running task. Plain. @returns those that it killed; they end when their turn comes. */
  killOthers(): readonly Task<unknown>[] {
    const others = this.live.filter((task) => task !== this.#sim.currentTask);
    for (const task of others) task.kill();
    return others;
  }
}
