/**
 * Events that tasks wait for.
 *
 * An {@link Event} happens once and stays happened: who waits later does not wait at all, so a wake-up can not be lost.
 * A {@link Signal} has no memory: it wakes those who wait now, again and again (SystemC's `sc_event`).
 */
import { assert } from '../base/assert.ts';
import type { Suspend } from './op.ts';
import type { Simulator } from './simulator.ts';
import { PARKED, type Task, Waitable, WaiterList } from './task.ts';

/** Happens once, with a value. `yield* event` gives it. */
export class Event<T = void> extends Waitable<T> {
  readonly name: string;
  readonly #sim: Simulator;
  readonly #waiters = new WaiterList();
  #fired = false;
  #failed = false;
  #value: T | undefined = undefined;
  #error: unknown = undefined;

  /** @param name - as reports and a {@link DeadlockError} call it. */
  constructor(sim: Simulator, name = 'event') {
    super();
    this.#sim = sim;
    this.name = name;
  }

  /** Whether it has happened. */
  get fired(): boolean {
    return this.#fired;
  }

  /**
   * Makes it happen: all waiters become ready at the present instant, in the order they came. Plain; charges nothing.
   *
   * @throws {InvariantError} it has happened already.
   */
  fire(value: T): void {
    this.#settle();
    this.#value = value;
    this.#sim.scheduler.wakeAll(this.#waiters);
  }

  /** Makes it happen as a failure: every `yield*` of it throws `error`. @throws {InvariantError} it has happened already. */
  fail(error: unknown): void {
    this.#settle();
    this.#failed = true;
    this.#error = error;
    this.#sim.scheduler.wakeAll(this.#waiters);
  }

  protected park(): boolean {
    if (this.#fired) return this.#sim.scheduler.settleDebt(this);
    this.#waiters.push(this.#sim.scheduler.park(this));
    return true;
  }

  protected take(): T {
    if (this.#failed) throw this.#error;
    return this.#value as T;
  }

  /** @internal */
  cancel(task: Task<unknown>): void {
    this.#waiters.remove(task);
  }

  /** @internal */
  describe(): string {
    return `event ${this.name}`;
  }

  #settle(): void {
    assert(!this.#fired, 'event %s has happened already', this.name);
    this.#fired = true;
  }
}

/** Wakes whoever waits at the moment it is notified; remembers nothing. `yield* signal` waits for the next time. */
export class Signal extends Waitable<void> {
  readonly name: string;
  readonly #sim: Simulator;
  readonly #waiters = new WaiterList();

  constructor(sim: Simulator, name = 'signal') {
    super();
    this.#sim = sim;
    this.name = name;
  }

  /** Makes all waiters ready at the present instant, in the order they came. Plain. @returns how many. */
  notify(): number {
    return this.#sim.scheduler.wakeAll(this.#waiters);
  }

  /** Makes the one ready that has waited longest. Plain. @returns whether there was one. */
  notifyOne(): boolean {
    const task = this.#waiters.shift();
    if (task === null) return false;
    this.#sim.scheduler.wake(task);
    return true;
  }

  /** @internal */
  override [Symbol.iterator](): Iterator<Suspend, void, unknown> {
    this.park();
    return PARKED;
  }

  protected park(): boolean {
    this.#waiters.push(this.#sim.scheduler.park(this));
    return true;
  }

  protected take(): void {}

  /** @internal */
  cancel(task: Task<unknown>): void {
    this.#waiters.remove(task);
  }

  /** @internal */
  describe(): string {
    return `signal ${this.name}`;
  }
}
