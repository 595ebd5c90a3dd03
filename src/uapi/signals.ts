/**
 * Signals, and the one way to wait that a signal can end.
 *
 * 1. A signal comes to a process: every call of it that waits so that it can be interrupted ends with `EINTR`, has changed nothing and
 *    can be made again.
 * 2. It counts for the calls that are under way when it comes. One that waits for something else at that time (a lock, an exporter's
 *    callback) finds it pending at its next wait that can be interrupted. A call that begins later knows nothing of it: the handler has run.
 * 3. Whether a call that is woken by both, the signal and what it waits for, succeeds, is the affair of what waits: a condition
 *    ({@link waitInterruptibly}) is asked first, as `wait_event_interruptible` does; a fence ({@link waitForFences}) is not.
 *
 * Which call a task is in is known from {@link callsUnderWay}, as the kernel knows `current`: nothing of it is passed down.
 *
 * **Inaccuracies.** A signal reaches all threads of a process, as a handler without `SA_RESTART` that does nothing. A fence whose driver
 * waits itself (`DmaFenceOps.wait`) is waited for without interruption.
 *
 * @see Linux 6.1 `include/linux/wait.h`; `drivers/dma-buf/dma-fence.c` dma_fence_default_wait; signal(7)
 */
import { ErrnoError } from '../base/errors.ts';
import type { DmaFence } from '../dmabuf/dma-fence.ts';
import type { DmaResv, DmaResvUsageValue } from '../dmabuf/dma-resv.ts';
import { BoundedWait, ListWait, type WaitOwner } from '../sim/bounded-wait.ts';
import type { Op } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import type { Simulator } from '../sim/simulator.ts';
import { type Task, WaiterList } from '../sim/task.ts';
import { WaitQueue } from '../sim/wait-queue.ts';
import type { Process } from './process.ts';

/** @internal Signals to one process. */
export class SignalState {
  /** Signals so far. */
  count = 0;
  readonly queue: WaitQueue;
  /** Whose they are; `null`: a part of a test. */
  readonly process: Process | null;

  constructor(sim: Simulator, name: string, process: Process | null = null) {
    this.process = process;
    this.queue = new WaitQueue(sim, `signals to ${name}`);
  }

  /** One comes: rule 1. Plain. */
  deliver(): void {
    this.count++;
    this.queue.wakeUpAll();
  }
}

/** A system call that a task is in. */
interface CallUnderWay {
  readonly signals: SignalState;
  /** Signals that came before it. */
  readonly seen: number;
}

/** @internal System calls by the task that makes them. Plain throughout. */
export class CallsUnderWay {
  readonly #calls = new Map<Task<unknown>, CallUnderWay>();

  /** `task` begins a call. @returns the call that it is in already, for {@link leave}. */
  enter(task: Task<unknown>, signals: SignalState): CallUnderWay | undefined {
    const outer = this.#calls.get(task);
    this.#calls.set(task, { signals, seen: signals.count });
    return outer;
  }

  /** The call that `task` began last is over. */
  leave(task: Task<unknown>, outer: CallUnderWay | undefined): void {
    if (outer === undefined) this.#calls.delete(task);
    else this.#calls.set(task, outer);
  }

  /** The call that `task` is in. */
  of(task: Task<unknown> | null): CallUnderWay | undefined {
    return task === null ? undefined : this.#calls.get(task);
  }
}

/** @internal The system calls that are under way. Plain. */
export function callsUnderWay(sim: Simulator): CallsUnderWay {
  return sim.part(CallsUnderWay);
}

/** @internal The process whose system call the running task is in, or `null`. Plain. */
export function callingProcess(sim: Simulator): Process | null {
  return callsUnderWay(sim).of(sim.currentTask)?.signals.process ?? null;
}

/** Whether a signal came during the running task's system call. Plain. @see Linux `signal_pending(current)` */
export function isSignalPending(sim: Simulator): boolean {
  const call = callsUnderWay(sim).of(sim.currentTask);
  return call !== undefined && call.signals.count !== call.seen;
}

/** @internal @throws {ErrnoError} `EINTR` a signal is pending (retry). Plain. */
function checkSignals(sim: Simulator, op: string): void {
  if (isSignalPending(sim)) throw new ErrnoError('EINTR', op, 'a signal came first');
}

/**
 * @internal One task asleep until one of several things wakes it, a signal comes, or the time is up. What is told between
 * {@link arm} and {@link sleep} ends that sleep at once, so nothing is lost.
 */
export class Sleeper implements WaitOwner {
  readonly #sim: Simulator;
  readonly #what: () => string;
  readonly #list = new WaiterList();
  readonly #wait: ListWait;
  readonly #ends: (() => void)[] = [];
  #isTriggered = false;
  #hearsSignals = false;

  /** @param what - what it sleeps for, in words that follow 'waits for'. */
  constructor(sim: Simulator, what: () => string) {
    this.#sim = sim;
    this.#what = what;
    this.#wait = new ListWait(sim, this.#list, this);
  }

  /** Wakes it: for a fence's callback. */
  readonly wake = (): undefined => {
    this.#isTriggered = true;
    this.#sim.scheduler.wakeAll(this.#list);
  };

  /** Whatever wakes `queue` wakes it, until {@link end}. */
  watch(queue: WaitQueue): void {
    this.#ends.push(queue.onWakeUp(this.wake));
  }

  /** What is told from here on ends the next {@link sleep}. */
  arm(): void {
    this.#isTriggered = false;
  }

  /**
   * Sleeps at most `ns`; `Infinity`: as long as it takes.
   *
   * @returns whether something woke it; false: the time is up.
   * @throws {ErrnoError} `EINTR` a signal is pending (retry). One that comes while it sleeps wakes it like anything else.
   */
  *sleep(op: string, ns = Infinity): Op<boolean> {
    yield* settle(this.#sim);
    const deadline = this.#sim.now + ns;
    checkSignals(this.#sim, op);
    this.#hearSignals();
    while (!this.#isTriggered) {
      const left = deadline - this.#sim.now;
      if (left <= 0) return false;
      if (left === Infinity) yield* this.#wait;
      else yield* new BoundedWait(this.#sim, this.#list, this, left);
    }
    return true;
  }

  /** Nothing wakes it any more. */
  end(): void {
    for (const end of this.#ends.splice(0)) end();
  }

  /** @internal */
  describe(): string {
    return this.#what();
  }

  /** @internal Only one task sleeps here. */
  wakeUpUnseen(): void {}

  #hearSignals(): void {
    if (this.#hearsSignals) return;
    this.#hearsSignals = true;
    const call = callsUnderWay(this.#sim).of(this.#sim.currentTask);
    if (call !== undefined) this.watch(call.signals.queue);
  }
}

/**
 * Waits until `condition` holds, which is asked at first and whenever `queue` is woken; so that a signal ends it. For files whose `read`,
 * `write` or `ioctl` waits. Outside a system call nothing interrupts it.
 *
 * @param condition - plain; must not change the simulation. It holds at the instant the wait ends.
 * @throws {ErrnoError} `EINTR` a signal came and it does not hold (retry); nothing has happened.
 * @see Linux `wait_event_interruptible`
 */
export function* waitInterruptibly(sim: Simulator, queue: WaitQueue, condition: () => boolean, op: string): Op<void> {
  yield* settle(sim);
  if (condition()) return;
  const sleeper = new Sleeper(sim, () => queue.describe());
  try {
    sleeper.watch(queue);
    do {
      sleeper.arm();
      yield* sleeper.sleep(op);
    } while (!condition());
  } finally {
    sleeper.end();
  }
}

/**
 * Waits for the fences of `usage` and stronger, as `DmaResv.wait`; so that a signal ends it.
 *
 * @throws {ErrnoError} `EINTR` a signal came while a fence was pending, also when that signalled at the same instant (retry).
 * @see Linux 6.1 dma_resv_wait_timeout with `intr`
 */
export function* waitForFences(sim: Simulator, resv: DmaResv, usage: DmaResvUsageValue, op: string): Op<void> {
  const iter = resv.iter(usage);
  try {
    for (let fence = iter.next(); fence !== null; fence = iter.next()) yield* waitForFence(sim, fence, op);
  } finally {
    iter.end();
  }
}

function* waitForFence(sim: Simulator, fence: DmaFence, op: string): Op<void> {
  // A fence is its own iterator, unless its driver waits: then that is how it is waited for.
  const ownWait = fence[Symbol.iterator]();
  if (ownWait !== fence) {
    yield* { [Symbol.iterator]: () => ownWait };
    return;
  }
  const sleeper = new Sleeper(sim, () => fence.describe());
  if (!fence.addCallback(sleeper.wake)) return;
  try {
    yield* sleeper.sleep(op);
    checkSignals(sim, op);
  } finally {
    fence.removeCallback(sleeper.wake);
    sleeper.end();
  }
}
