/**
 * The heart: pops events in order of (time, sequence), resumes tasks, keeps the clock.
 *
 * 1. Time stands still while anything is ready at the present instant.
 * 2. Events that were scheduled for this instant from an earlier one come before what became ready in it.
 * 3. With a {@link Chooser}, whenever a task is next and more than one is ready, the chooser picks; events that are no
 *    tasks (interrupts, timers) keep their place.
 */
import { assert, InvariantError } from '../base/assert.ts';
import { DeadlockError, type Waiter } from '../base/errors.ts';
import type { HazardFacts } from '../base/hazards.ts';
import type { TraceBus } from '../trace/trace-bus.ts';
import type { Chooser, HardwarePoint } from './chooser.ts';
import { ChosenOrder } from './chosen-order.ts';
import { Sleep, type SleepHost } from './delay.ts';
import { type EventHandle, EventQueue } from './event-queue.ts';
import type { MaybeOp } from './op.ts';
import { ReadyQueue } from './ready-queue.ts';
import {
  DYING,
  ENDING,
  KILL_REQUESTED,
  RESUMED,
  SUSPENDED,
  Task,
  type TaskHost,
  type TaskOutcome,
  type Waitable,
  type WaiterList,
} from './task.ts';
import { TaskClocks } from './task-clocks.ts';
import { NEXT, stepUnusual } from './task-step.ts';

/** Kind of the event that resumes a task; its argument is the task's slot. */
const RESUME = 0;
/** @internal What makes a simulator run; see the head of this file. */
export class Scheduler implements TaskHost, SleepHost {
  /** Starts as a fraction so that the engine takes it for one at once, and not when it grows. */
  now = 0.5;
  current: Task<unknown> | null = null;
  /** The CPU of what runs outside of tasks. */
  cpuOutside = 0;
  readonly queue = new EventQueue();
  readonly #ready = new ReadyQueue();
  readonly #sleep = new Sleep(this);
  readonly #handlers: ((arg: number) => undefined)[] = [];
  readonly #tasks: (Task<unknown> | null)[] = [];
  readonly #freeSlots: number[] = [];
  readonly #clocks = new TaskClocks();
  readonly #trace: TraceBus;
  readonly #order: ChosenOrder | null;
  readonly #report: (facts: HazardFacts, mayThrow: boolean) => void;
  #tasksMade = 0;
  /** Live tasks that are no daemons. */
  #liveTasks = 0;
  /** Entries of the queue that only resume daemons. */
  #daemonEvents = 0;
  #running = false;
  /** The running task was charged since it was resumed. */
  #owes = false;
  /** The task whose end ends the run. */
  #root: Task<unknown> | null = null;
  /** The run is to stop: its root has ended, or a task has failed. */
  #halted = false;
  #failed: Task<unknown> | null = null;

  constructor(trace: TraceBus, chooser: Chooser | null, report: (facts: HazardFacts, mayThrow: boolean) => void) {
    this.#trace = trace;
    this.#order = chooser === null ? null : new ChosenOrder(chooser, this.queue, this.#ready, trace);
    this.#report = report;
    this.now = 0;
    this.addHandler(() => undefined);
  }

  /** What the chooser chose so far; nothing without one. */
  get choices(): readonly number[] {
    return this.#order?.choices ?? [];
  }

  /** Whether a chooser is asked about hardware. */
  get hardwareIsFree(): boolean {
    return this.#order?.choosesHardware ?? false;
  }

  /** What hardware does: 0, which is nothing, without a chooser that is asked. */
  chooseHardware(count: number, point: HardwarePoint): number {
    return this.#order?.chooseHardware(count, point, this.now) ?? 0;
  }

  /** Registers what to do for events of a new kind. @returns the kind. */
  addHandler(handler: (arg: number) => undefined): number {
    return this.#handlers.push(handler) - 1;
  }

  /** Schedules an event `delayNs` (whole) from now. */
  schedule(delayNs: number, kind: number, arg: number): EventHandle {
    if (delayNs > 0) return this.queue.push(this.now + delayNs, kind, arg);
    this.#ready.pushEvent(kind, arg);
    return -1;
  }

  /** The CPU that runs now. */
  get cpu(): number {
    return this.current?.cpu ?? this.cpuOutside;
  }

  spawn<T>(name: string, daemon: boolean, body: () => MaybeOp<T>, cpu = this.cpu): Task<T> {
    const slot = this.#freeSlots.pop() ?? this.#tasks.length;
    const task = new Task<T>(this, { slot, name, id: this.#tasksMade++, daemon, cpu }, body);
    this.#tasks[slot] = task;
    this.#clocks.reset(slot);
    if (!daemon) this.#liveTasks++;
    if (this.#trace.enabled) this.#trace.emit({ kind: 'task.spawn', timeNs: this.now, task: name });
    this.wake(task);
    return task;
  }

  /** Adds to what the running task owes. */
  charge(ns: number): void {
    if (this.current === null) return;
    this.#owes = true;
    this.#clocks.charge(this.current.slot, ns);
  }

  park(waitable: Waitable<unknown>): Task<unknown> {
    const task = this.current;
    if (task === null)
      throw new InvariantError('an operation was used outside a task: wrap it in sim.run or sim.spawn');
    task.waiting = waitable;
    task.sinceNs = this.now;
    if (this.#owes || task.paying) this.#startToPay(task);
    return task;
  }

  settleDebt(waitable: Waitable<unknown>): boolean {
    const task = this.current;
    if (task === null || this.#clocks.debt(task.slot) <= 0) return false;
    this.wake(this.park(waitable));
    return true;
  }

  wake(task: Task<unknown>): void {
    if (task.ready || task.listedIn !== null) throw new InvariantError(`task ${task.name} was woken twice`);
    task.ready = true;
    if (task.paying && this.#clocks.notBefore(task.slot) > this.now) {
      this.#resumeAt(task, this.#clocks.notBefore(task.slot));
    } else this.#ready.pushTask(task);
  }

  /** Makes all tasks of a list ready, in its order. @returns how many. */
  wakeAll(list: WaiterList): number {
    const { first, last, length } = list;
    if (first === null || last === null) return 0;
    if (!list.paying) {
      this.#ready.pushChain(first, last, length);
      list.release();
      return length;
    }
    for (let task = list.shift(); task !== null; task = list.shift()) this.wake(task);
    list.release();
    return length;
  }

  /** Parks the running task for `delayNs` after its debt. */
  sleep(delayNs: number): void {
    const task = this.park(this.#sleep);
    const start = task.paying ? this.#clocks.notBefore(task.slot) : this.now;
    if (start + delayNs > this.now) task.timer = this.#resumeAt(task, start + delayNs);
    else {
      task.timer = -1;
      this.wake(task);
    }
  }

  /** Ends a `sleep` early. */
  cancelSleep(task: Task<unknown>): void {
    if (task.gathered) this.#order?.ungather(task);
    if (task.timer < 0) return;
    this.queue.cancelSlot(task.timer);
    task.timer = -1;
    if (task.daemon) this.#daemonEvents--;
  }

  kill(task: Task<unknown>): void {
    if (task.outcome !== null || (task.unusual & KILL_REQUESTED) !== 0) return;
    task.unusual |= KILL_REQUESTED;
    if (this.#trace.enabled) this.#trace.emit({ kind: 'task.kill', timeNs: this.now, task: task.name });
    if (task.isToDie && !task.woken && task !== this.current) this.#leaveWait(task);
  }

  /**
   * Runs until `root` has ended; without one until nothing but daemons is left.
   *
   * @param limitNs - stop before the first event after this time.
   * @throws the error of a task that nobody waits for; {@link DeadlockError}.
   */
  run(root: Task<unknown> | null, limitNs: number): void {
    assert(!this.#running, 'sim.run was called from inside the simulation; use yield* or sim.spawn');
    this.#running = true;
    this.#root = root;
    this.#halted = false;
    try {
      while (root === null ? limitNs !== Infinity || !this.#idle() : root.outcome === null) {
        if (this.#instantIsReady()) this.#runReady();
        else if (!this.#advance(limitNs)) {
          if (limitNs === Infinity) this.#throwIfStuck();
          break;
        }
        if (this.#failed !== null) this.#throwFailure();
      }
      if (limitNs !== Infinity && limitNs > this.now) this.now = limitNs;
    } finally {
      this.#running = false;
      this.current = null;
    }
  }

  /** Whether only daemons are left. */
  #idle(): boolean {
    if (this.#liveTasks > 0 || this.queue.size > this.#daemonEvents) return false;
    return this.#ready.isEmpty || (this.#order?.isIdle ?? false);
  }

  /** Whether it is the turn of what is ready: there is something, and the queue has no event of this instant (rule 2). */
  #instantIsReady(): boolean {
    if (this.#ready.isEmpty) return false;
    return this.#order !== null || this.queue.poppedTime !== this.now || !this.queue.hasMoreAtPoppedTime();
  }

  /**
   * Dispatches what is ready until nothing is left of this instant. No event can come into the queue for an instant that
   * has begun, so it need not be asked in between; nor can a run without a root be over while something is ready. With a
   * chooser it can, so then it is one thing at a time.
   */
  #runReady(): void {
    const ready = this.#ready;
    do {
      const task = this.#order === null ? ready.takeTask() : this.#order.takeTask(this.now);
      if (task !== null) {
        const { recorder } = this.#trace;
        if (recorder !== null) recorder.add(this.now, RESUME, task.slot);
        this.#resume(task);
      } else if (!ready.takeEvent()) return;
      else if (ready.takenHeld < 0 || this.queue.release(ready.takenHeld)) {
        this.#dispatch(ready.takenKind, ready.takenArg);
      }
    } while (!this.#halted && this.#order === null);
  }

  /** Goes on to the next event of the queue. @returns false when there is none up to `limitNs`. */
  #advance(limitNs: number): boolean {
    const { queue } = this;
    if (limitNs !== Infinity && queue.nextTime() > limitNs) return false;
    if (this.#order !== null) {
      if (queue.size === 0) return false;
      this.#order.gather((kind, arg) => this.#sleeper(kind, arg));
      this.now = queue.poppedTime;
      return true;
    }
    if (!queue.pop()) return false;
    this.now = queue.poppedTime;
    this.#dispatch(queue.poppedKind, queue.poppedArg);
    return true;
  }

  /** The task that an event of the queue resumes, counted out if a daemon; `null` for any other event. */
  #sleeper(kind: number, arg: number): Task<unknown> | null {
    if (kind !== RESUME) return null;
    const task = this.#tasks[arg] as Task<unknown>;
    if (task.daemon) this.#daemonEvents--;
    return task;
  }

  #dispatch(kind: number, arg: number): void {
    const { recorder } = this.#trace;
    if (recorder !== null) recorder.add(this.now, kind, arg);
    const task = this.#sleeper(kind, arg);
    if (task === null) (this.#handlers[kind] as (arg: number) => undefined)(arg);
    else this.#resume(task);
  }

  /** Runs a task up to its next wait or its end. */
  #resume(task: Task<unknown>): undefined {
    task.ready = false;
    if (task.unusual >= ENDING) return this.#complete(task);
    this.#owes = false;
    this.current = task;
    let result: IteratorResult<unknown, unknown>;
    try {
      result =
        task.unusual === 0
          ? NEXT.call(task.generator as Generator<unknown, unknown, unknown>, RESUMED)
          : stepUnusual(task);
    } catch (error) {
      this.current = null;
      return error === task.killedBy && error !== null ? this.#end(task, 'killed') : this.#fail(task, error);
    }
    this.current = null;
    if (result === SUSPENDED && task.unusual === 0) return undefined;
    return this.#afterStep(task, result);
  }

  /** After a step that did more than go from one wait to the next. */
  #afterStep(task: Task<unknown>, result: IteratorResult<unknown, unknown>): undefined {
    if (result === SUSPENDED) {
      // It killed itself, and has come to its next wait.
      if (task.isToDie && !task.woken) this.#leaveWait(task);
      return undefined;
    }
    if (result.done !== true) {
      const yielded = String(result.value);
      return this.#fail(task, new InvariantError(`task ${task.name} yielded ${yielded}: call operations with yield*`));
    }
    task.value = result.value;
    return this.#end(task, (task.unusual & DYING) !== 0 ? 'killed' : 'returned');
  }

  #fail(task: Task<unknown>, error: unknown): undefined {
    task.error = error;
    return this.#end(task, 'threw');
  }

  /** Ends a task when its debt is paid. */
  #end(task: Task<unknown>, outcome: TaskOutcome): undefined {
    task.endingAs = outcome;
    const due = this.#clocks.pay(task.slot);
    if (due === 0) return this.#complete(task);
    task.unusual |= ENDING;
    task.ready = true;
    this.#resumeAt(task, this.now + due);
    return undefined;
  }

  #complete(task: Task<unknown>): undefined {
    const outcome = task.endingAs as TaskOutcome;
    task.outcome = outcome;
    task.waiting = null;
    task.generator = null;
    this.#tasks[task.slot] = null;
    this.#freeSlots.push(task.slot);
    if (task === this.#root) this.#halted = true;
    if (!task.daemon) this.#liveTasks--;
    if (this.#trace.enabled) this.#trace.emit({ kind: 'task.end', timeNs: this.now, task: task.name, outcome });
    if (task.watchers !== null) this.wakeAll(task.watchers);
    if (outcome === 'threw' && task.observers === 0) {
      this.#failed = task;
      this.#halted = true;
    }
    if (task.held !== null && task.held.length > 0) this.#reportHeld(task.name, task.held, outcome !== 'threw');
    return undefined;
  }

  /** @param mayThrow - false for a task that threw: its own error must not be hidden. */
  #reportHeld(task: string, locks: readonly { readonly name: string }[], mayThrow: boolean): void {
    const held = locks.map((lock) => lock.name);
    const remedy = 'unlock in a finally block';
    this.#report({ hazard: 'lock.held-at-exit', task, held, timeNs: this.now, remedy }, mayThrow);
  }

  #throwFailure(): never {
    const task = this.#failed as Task<unknown>;
    this.#failed = null;
    throw task.error;
  }

  #throwIfStuck(): void {
    const waiters = this.waiters();
    if (waiters.length > 0) throw new DeadlockError(this.now, waiters);
  }

  /** The tasks that wait for something, daemons apart. */
  waiters(): Waiter[] {
    const waiters: Waiter[] = [];
    for (const task of this.#tasks) {
      if (task === null || task.daemon || task.waiting === null) continue;
      waiters.push({ task: task.name, waitsFor: task.waiting.describe(), sinceNs: task.sinceNs });
    }
    return waiters;
  }

  /** Begins to pay for the last step. */
  #startToPay(task: Task<unknown>): void {
    const due = this.#clocks.pay(task.slot);
    task.paying = due > 0;
    this.#clocks.setNotBefore(task.slot, this.now + due);
  }

  /** Takes a task that is to be killed out of its wait. */
  #leaveWait(task: Task<unknown>): void {
    task.waiting?.cancel(task);
    task.waiting = null;
    this.wake(task);
  }

  #resumeAt(task: Task<unknown>, timeNs: number): number {
    if (task.daemon) this.#daemonEvents++;
    return this.queue.add(timeNs, RESUME, task.slot);
  }
}
