/** A wait in a list of waiters that ends at the latest after a while; shared by all primitives that have a timeout. */
import type { Simulator } from './simulator.ts';
import { type Task, Waitable, type WaiterList } from './task.ts';
import { startTimeLimit } from './time-limit.ts';

/** @internal What a {@link ListWait} belongs to. */
export interface WaitOwner {
  /** What a task waits for, in words that follow 'waits for'. */
  describe(): string;
  /** `task` was taken out of the list and woken, but was killed before it ran: the wake-up is somebody else's now. */
  wakeUpUnseen(list: WaiterList): void;
}

/** @internal Waits in `list` until whoever keeps the list wakes the task. Holds nothing of a single wait. */
export class ListWait extends Waitable<void> {
  readonly #sim: Simulator;
  readonly #list: WaiterList;
  readonly #owner: WaitOwner;

  constructor(sim: Simulator, list: WaiterList, owner: WaitOwner) {
    super();
    this.#sim = sim;
    this.#list = list;
    this.#owner = owner;
  }

  protected park(): boolean {
    this.#list.push(this.#sim.scheduler.park(this));
    return true;
  }

  protected take(): void {}

  cancel(task: Task<unknown>): void {
    if (!this.#list.remove(task)) this.#owner.wakeUpUnseen(this.#list);
  }

  describe(): string {
    return this.#owner.describe();
  }
}

/** @internal One wait of at most `ns` in `list`; made anew for each wait. Gives false when the time was up. */
export class BoundedWait extends Waitable<boolean> {
  readonly #sim: Simulator;
  readonly #list: WaiterList;
  readonly #owner: WaitOwner;
  readonly #ns: number;
  #limit: { cancel(): unknown } | null = null;
  #expired = false;

  constructor(sim: Simulator, list: WaiterList, owner: WaitOwner, ns: number) {
    super();
    this.#sim = sim;
    this.#list = list;
    this.#owner = owner;
    this.#ns = ns;
  }

  protected park(): boolean {
    const { scheduler } = this.#sim;
    const task = scheduler.park(this);
    this.#list.push(task);
    this.#limit = startTimeLimit(this.#sim, task, this.#ns, () => {
      if (!this.#list.remove(task)) return undefined;
      this.#expired = true;
      scheduler.wake(task);
      return undefined;
    });
    return true;
  }

  protected take(): boolean {
    this.#limit?.cancel();
    return !this.#expired;
  }

  cancel(task: Task<unknown>): void {
    this.#limit?.cancel();
    if (!this.#list.remove(task) && !this.#expired) this.#owner.wakeUpUnseen(this.#list);
  }

  describe(): string {
    return `${this.#owner.describe()}, at most ${this.#ns} ns`;
  }
}
