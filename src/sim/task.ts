/**
 * A task, and what it can be parked in. The protocol between a waiting generator and the scheduler:
 *
 * 1. Whatever a task yields is {@link SUSPENDED}, and only a {@link Waitable} yields it.
 * 2. `yield* waitable` calls `next(undefined)` first. The waitable either is ready (gives its value; nothing was
 *    suspended) or parks the running task and suspends it.
 *    A wait that is never ready at once and gives nothing parks the task a moment earlier, when `yield*` asks for its
 *    iterator, which is {@link PARKED} for all of them.
 * 3. The scheduler resumes a task with `next(RESUMED)`, never with `undefined`; `yield*` passes that to the innermost
 *    waitable, which now gives its value or throws.
 * 4. A task is parked in at most one waitable. To take it out early (a kill), the scheduler calls the waitable's `cancel`
 *    and throws {@link KilledError} into the generator, so that its `finally` blocks run, also when they wait. (Ending it by
 *    `return` would not do: when a `finally` block waits, the `yield*` around it ends as if nothing had happened.) `cancel` also undoes a grant that the task was woken for
 *    and has not seen yet.
 * 5. A task that owes time (`sim.charge`) is resumed no earlier than when the debt is paid; a wait registers at once, so
 *    nothing that happens meanwhile is missed.
 *
 * Life of a task: ready → running ⇄ waiting → ended.
 */
import type { MaybeOp, Op, Suspend } from './op.ts';
import { WAITABLE } from './op.ts';

/** How a task ended. */
export type TaskOutcome = 'returned' | 'threw' | 'killed';

/**
 * Thrown to a task that is killed, at its wait, so that its `finally` blocks run; and to a task that waits for the result of another
 * that was killed. Who catches everything has to throw it on.
 */
export class KilledError extends Error {
  override readonly name = 'KilledError';
  constructor(task: string) {
    super(`task ${task} was killed`);
  }
}

/** @internal What a task needs of the scheduler. */
export interface TaskHost {
  /** Parks the running task in `waitable`. @returns that task, for the waitable's list. */
  park(waitable: Waitable<unknown>): Task<unknown>;
  /** For a waitable that is ready already: parks the running task until its debt is paid. @returns false: owes nothing. */
  settleDebt(waitable: Waitable<unknown>): boolean;
  kill(task: Task<unknown>): void;
}

/** @internal What every suspended task yields. */
export const SUSPENDED: IteratorYieldResult<Suspend> = Object.freeze({
  done: false,
  value: Object.freeze({ suspended: true }),
});

/** @internal The end of a wait that gives nothing. */
const ELAPSED: IteratorReturnResult<void> = Object.freeze({ done: true, value: undefined });

/** @internal What the scheduler passes to `next` when it resumes a task. */
export const RESUMED: object = Object.freeze({ resumed: true });

/**
 * @internal Something a task can be parked in. Users see subclasses as `Op`. It is its own iterator: it holds nothing of a
 * single wait, so one serves all tasks that wait for the same thing.
 */
export abstract class Waitable<T> implements Op<T>, Iterator<Suspend, T, unknown> {
  /** Marks the class: `isOp` asks for it. On the prototype, since waitables are made often. */
  get [WAITABLE](): true {
    return true;
  }

  [Symbol.iterator](): Iterator<Suspend, T, unknown> {
    return this;
  }

  /** Rules 2 and 3 of the protocol. */
  next(resumed?: unknown): IteratorResult<Suspend, T> {
    if (resumed === undefined && this.park()) return SUSPENDED;
    return { done: true, value: this.take() };
  }

  /** A kill: rule 4. */
  throw(error: unknown): never {
    throw error;
  }

  /** Either parks the running task and returns true, or returns false: ready now. */
  protected abstract park(): boolean;
  /** The value of the wait, for a task that was resumed or was ready at once. May throw. */
  protected abstract take(): T;
  /** Takes a parked task out again, as if it had never been parked. */
  abstract cancel(task: Task<unknown>): void;
  /** What a parked task waits for, in words that follow 'waits for'. */
  abstract describe(): string;
}

/**
 * @internal The iterator of waits that are never ready at once and give nothing. They park the task when `yield*` asks for
 * the iterator, which is one for all: so nothing of the wait itself stays alive while it lasts, and a wait that was made for
 * the occasion costs no memory.
 */
export const PARKED: Iterator<Suspend, void, unknown> = Object.freeze({
  next(resumed?: unknown): IteratorResult<Suspend, void> {
    return resumed === undefined ? SUSPENDED : ELAPSED;
  },
  throw(error: unknown): never {
    throw error;
  },
});

/** Something that a task has to give back before it ends: a lock. */
export interface Held {
  readonly name: string;
}

/** @internal Bits of {@link Task.unusual}: it has not run yet. */
export const UNSTARTED = 1;
/** @internal It is to be taken out of its wait, or of its next one. */
export const KILL_REQUESTED = 2;
/** @internal It was killed and its `finally` blocks run. */
export const DYING = 4;
/** @internal A kill has to wait: see `unkillable.ts`. */
export const SHIELDED = 8;
/** @internal It has ended, and only its debt is still to be paid. */
export const ENDING = 16;

/** An activity of the simulation; made by `sim.spawn`. */
export class Task<T> {
  // What every wait and resume touches comes first, to lie side by side.
  /** @internal 0 for a task that goes from one wait to the next; else bits. */
  unusual = UNSTARTED;
  /** @internal It was woken. A task that was woken together with its whole list does not say so: see {@link woken}. */
  ready = false;
  /** @internal Its delay or payment has ended at this instant, and with a chooser it waits to be chosen. */
  gathered = false;
  /** @internal At its last wait it owed something. */
  paying = false;
  /** @internal The `ticket` of the list when it came there. */
  ticket = 0;
  /** @internal When its present wait began. */
  sinceNs = 0.5;
  /** @internal Slot of the event that ends its delay. */
  timer = -1;
  /** @internal What `body` gave, from the first resume on. */
  generator: Generator<unknown, unknown, unknown> | null = null;
  /** @internal What it is parked in. Stale while it runs. */
  waiting: Waitable<unknown> | null = null;
  /** @internal The list it stands in, or stood in until it was woken. */
  listedIn: WaiterList | null = null;
  /** @internal Its neighbours there; the next one in the queue of what is ready as well. */
  nextWaiter: Task<unknown> | null = null;
  /** @internal */
  previousWaiter: Task<unknown> | null = null;
  /** @internal Its row in the scheduler's table while it lives. */
  readonly slot: number;

  readonly name: string;
  /** Order of creation, from 0; unique in its simulator. */
  readonly id: number;
  /** A daemon does not keep `sim.run()` from ending. */
  readonly daemon: boolean;
  /** The CPU it runs on, from 0: an identity, see `Simulator.cpu`. */
  cpu: number;
  /** @internal */
  readonly body: () => MaybeOp<T>;
  /** @internal What was thrown into it to kill it. */
  killedBy: KilledError | null = null;
  /** @internal It has ended so, and only its debt is still to be paid. */
  endingAs: TaskOutcome | null = null;
  /** How it ended; `null` while it lives. */
  outcome: TaskOutcome | null = null;
  /** @internal How many wait for its end now, and so take its error as their own affair. */
  observers = 0;
  /** @internal */
  value: T | undefined = undefined;
  /** @internal */
  error: unknown = undefined;
  /** @internal Tasks that wait for the end of this one. */
  watchers: WaiterList | null = null;
  /** @internal What it has to give back, in the order taken. */
  held: Held[] | null = null;
  readonly #host: TaskHost;

  /** @internal Use `sim.spawn`. */
  constructor(host: TaskHost, identity: TaskIdentity, body: () => MaybeOp<T>) {
    this.#host = host;
    this.sinceNs = 0;
    this.slot = identity.slot;
    this.name = identity.name;
    this.id = identity.id;
    this.daemon = identity.daemon;
    this.cpu = identity.cpu;
    this.body = body;
  }

  /**
   * Waits until the task has ended and gives what it returned.
   *
   * @throws what the task threw; {@link KilledError} when it was killed.
   */
  get done(): Op<T> {
    return new DoneWait(this.#host, this);
  }

  /** Waits until the task has ended, however it did, and gives its outcome. Never throws for it. */
  get exit(): Op<TaskOutcome> {
    return new ExitWait(this.#host, this);
  }

  /**
   * Ends the task: {@link KilledError} is thrown at what it waits for, its `finally` blocks run (they may wait and spend time), and its
   * outcome is `'killed'`. Acts when the task's turn comes, at the present instant, or when its debt is paid. A task that
   * kills itself ends at its next wait. A task that does what has to be done to its end, as the release of a buffer, is
   * killed when that is over. Killing an ended task does nothing. Plain.
   */
  kill(): void {
    this.#host.kill(this);
  }

  /** @internal Whether it is to be killed at its present or next wait. */
  get isToDie(): boolean {
    return (this.unusual & (KILL_REQUESTED | DYING | SHIELDED)) === KILL_REQUESTED;
  }

  /** @internal Whether it was woken and has not run since. */
  get woken(): boolean {
    return this.ready || (this.listedIn !== null && this.listedIn.ticket !== this.ticket);
  }

  /** @internal Forgets its place in a list or in the queue of what is ready. */
  unlink(): void {
    this.listedIn = null;
    this.nextWaiter = null;
    this.previousWaiter = null;
  }
}

/** @internal Who a {@link Task} is. */
export interface TaskIdentity {
  readonly slot: number;
  readonly name: string;
  readonly id: number;
  readonly daemon: boolean;
  readonly cpu: number;
}

/**
 * @internal The tasks parked in one waitable, in the order they came. Links run through the tasks themselves, since a task
 * is parked in at most one place: adding, taking and removing allocate nothing and take constant time. So does taking all:
 * the whole chain goes, and a new ticket tells those who were in it that they are not any more.
 */
export class WaiterList {
  first: Task<unknown> | null = null;
  last: Task<unknown> | null = null;
  length = 0;
  /** Changes when all are taken. */
  ticket = 0;
  /** Whether one of those that came since all were taken owed something. */
  paying = false;

  push(task: Task<unknown>): void {
    const { last } = this;
    task.listedIn = this;
    task.ticket = this.ticket;
    task.previousWaiter = last;
    if (last === null) this.first = task;
    else last.nextWaiter = task;
    this.last = task;
    this.length++;
    if (task.paying) this.paying = true;
  }

  /** Takes the one that has waited longest. */
  shift(): Task<unknown> | null {
    const task = this.first;
    if (task !== null) this.remove(task);
    return task;
  }

  /** Takes `task` out. @returns false when it is not here. */
  remove(task: Task<unknown>): boolean {
    if (task.listedIn !== this || task.ticket !== this.ticket) return false;
    const { previousWaiter, nextWaiter } = task;
    if (previousWaiter === null) this.first = nextWaiter;
    else previousWaiter.nextWaiter = nextWaiter;
    if (nextWaiter === null) this.last = previousWaiter;
    else nextWaiter.previousWaiter = previousWaiter;
    this.length--;
    task.unlink();
    return true;
  }

  /** Empties the list; whoever calls has taken over the chain from `first` to `last`. */
  release(): void {
    this.first = null;
    this.last = null;
    this.length = 0;
    this.paying = false;
    this.ticket = (this.ticket + 1) | 0;
  }
}

abstract class EndWait<T, R> extends Waitable<R> {
  protected readonly task: Task<T>;
  readonly #host: TaskHost;

  constructor(host: TaskHost, task: Task<T>) {
    super();
    this.#host = host;
    this.task = task;
  }

  protected park(): boolean {
    if (this.task.outcome !== null) return this.#host.settleDebt(this);
    this.task.observers++;
    this.task.watchers ??= new WaiterList();
    this.task.watchers.push(this.#host.park(this));
    return true;
  }

  cancel(watcher: Task<unknown>): void {
    if (this.task.watchers?.remove(watcher) === true) this.task.observers--;
  }

  describe(): string {
    return `task ${this.task.name} to end`;
  }
}

class DoneWait<T> extends EndWait<T, T> {
  protected take(): T {
    const { outcome, name } = this.task;
    if (outcome === 'threw') throw this.task.error;
    if (outcome === 'killed') throw new KilledError(name);
    return this.task.value as T;
  }
}

class ExitWait<T> extends EndWait<T, TaskOutcome> {
  protected take(): TaskOutcome {
    return this.task.outcome ?? 'returned';
  }
}
