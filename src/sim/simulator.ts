/**
 * The simulator: one clock, its tasks and timers, its random numbers, its trace and its hazards. Everything of a
 * simulated machine hangs on one; two of them in one process do not meet.
 */
import { type Nanos, nanos } from '../base/addr.ts';
import { InvariantError } from '../base/assert.ts';
import { DeadlockError, HazardError } from '../base/errors.ts';
import { describeHazard, type HazardFacts, type HazardPolicy } from '../base/hazards.ts';
import { Site } from '../base/site.ts';
import { AddressBook } from '../trace/address-book.ts';
import { ObjectLedger } from '../trace/object-ledger.ts';
import { SyncLog } from '../trace/sync-log.ts';
import { TraceBus } from '../trace/trace-bus.ts';
import { type Chooser, formatChoices, type HardwarePoint } from './chooser.ts';
import { Delay } from './delay.ts';
import type { EventHandle } from './event-queue.ts';
import type { MaybeOp, Op } from './op.ts';
import { Prng } from './prng.ts';
import { Scheduler } from './scheduler.ts';
import { KilledError, type Task } from './task.ts';
import { Timer } from './timer.ts';
import { WwClass } from './ww-acquire-ctx.ts';

/** Places that are kept when nobody says how many. */
const PLACES = 10_000;

/** How to make a {@link Simulator}. */
export interface SimulatorOptions {
  /** Start of all random streams; a whole number of 32 bits. Default 1. */
  readonly seed?: number;
  /** Picks among ready tasks; without one the first that became ready runs first. */
  readonly chooser?: Chooser;
  /** Default `'throw'`: a hazard ends the access that caused it with a {@link HazardError}. */
  readonly hazards?: HazardPolicy;
  /**
   * True: what is needed to name causes is kept: which addresses are whose ({@link Simulator.addresses}), which calls handed bytes over
   * ({@link Simulator.syncs}), what is alive ({@link Simulator.objects}). Default false; a `Machine` has it on.
   */
  readonly watch?: boolean;
  /**
   * How many of the things that are kept remember their place in the program, which takes about ten microseconds each; `true`: all.
   * Default with `watch`: the first 10,000, so that a unit test has every place and a film loses nothing but its time to places.
   */
  readonly callSites?: boolean | number;
  /**
   * True: habits that work here by luck are reported as well: a mapping used as a cache flush, an address of `dmaMapResource` in a list, a look
   * at the back end, two buffers over one memory. Needs `watch`. Default false.
   */
  readonly lints?: boolean;
}

/** How to run a program. */
export interface RunOptions {
  /** Simulated time, in ns from the simulator's start, at which the program must have ended. Default: none. */
  readonly limitNs?: number;
}

/** How to spawn a task. */
export interface SpawnOptions {
  /** A daemon does not keep `sim.run()` from ending. Default false. */
  readonly daemon?: boolean;
  /** The CPU it starts on, see {@link Simulator.cpu}. Default: the CPU that spawns it. */
  readonly cpu?: number;
}

/** One simulated world. */
export class Simulator {
  /** The only way to observe. */
  readonly trace = new TraceBus();
  /** Every range of addresses that was given out. */
  readonly addresses = new AddressBook();
  /** The calls that handed bytes from one owner to another. */
  readonly syncs = new SyncLog();
  /** What was taken and not given back. */
  readonly objects = new ObjectLedger(this);
  /** Whether habits that work here by luck are reported. */
  readonly lints: boolean;
  /** Named streams of random numbers. */
  readonly prng: Prng;
  /** Hazards found so far, in order, under either policy. */
  readonly hazards: HazardFacts[] = [];
  /**
   * The class of all reservation locks, so that a transaction can lock any of them.
   *
   * @see Linux 6.1 `drivers/dma-buf/dma-resv.c` reservation_ww_class
   */
  readonly reservationClass = new WwClass('wait-die', 'reservation');
  /** @internal */
  readonly scheduler: Scheduler;
  readonly #policy: HazardPolicy;
  #sitesLeft: number;
  readonly #timers: (Timer | null)[] = [];
  readonly #freeTimers: number[] = [];
  readonly #timerKind: number;
  readonly #parts = new Map<unknown, object>();

  /** @throws {InvariantError} `seed` is no whole number. */
  constructor(options: SimulatorOptions = {}) {
    this.prng = new Prng(options.seed ?? 1);
    this.#policy = options.hazards ?? 'throw';
    this.lints = options.lints ?? false;
    const watch = options.watch ?? false;
    this.#sitesLeft = placesToKeep(options.callSites ?? (watch && PLACES));
    this.addresses.enabled = watch;
    this.syncs.enabled = watch;
    this.objects.enabled = watch;
    this.scheduler = new Scheduler(this.trace, options.chooser ?? null, (facts, mayThrow) => {
      this.#note(facts, mayThrow);
    });
    this.#timerKind = this.scheduler.addHandler((index) => this.#expire(index));
  }

  /** The present instant, in ns. */
  get now(): Nanos {
    return this.scheduler.now as Nanos;
  }

  /** The running task; `null` in callbacks and outside a run. */
  get currentTask(): Task<unknown> | null {
    return this.scheduler.current;
  }

  /**
   * The CPU that runs now, from 0: the running task's; in the callback of {@link after} the one that armed the timer; in other
   * callbacks and outside a run the one last set there by {@link runOnCpu}, at first 0. A CPU is an identity, for what Linux keeps per
   * CPU (caches of addresses, flush queues): it has no effect on which task runs when, and tasks of one CPU do not exclude each other.
   */
  get cpu(): number {
    return this.scheduler.cpu;
  }

  /** The choices made so far as text, for a {@link ReplayChooser}. Empty without a chooser. */
  get choices(): string {
    const { choices, hardwareIsFree } = this.scheduler;
    return formatChoices(choices, hardwareIsFree);
  }

  /** Whether the chooser also decides what hardware does of its own accord; constant. Models ask this before they look for what could happen. */
  get hardwareIsFree(): boolean {
    return this.scheduler.hardwareIsFree;
  }

  /**
   * What hardware does here, where it is free: 0 that nothing out of the ordinary happens, `k` the `k`th of `count - 1` other things. For
   * models of hardware. The answer is part of the schedule. Plain, takes no time.
   *
   * @param count - possibilities, with nothing; below 2 nobody is asked.
   * @returns always 0 unless {@link hardwareIsFree}.
   */
  chooseHardware(count: number, point: HardwarePoint): number {
    return this.scheduler.chooseHardware(count, point);
  }

  /**
   * Runs `body` as task `main` until it has ended, with everything else that happens meanwhile, and gives its value.
   * Synchronous. Tasks that are not over then stay, and go on in the next run.
   *
   * @throws what `body` threw; {@link KilledError} when it was killed; the error of any task that nobody waits for;
   *   {@link DeadlockError} when no event is left and `body` still waits (a daemon that goes on and on leaves one: give a
   *   limit where there are any), or when the limit is reached; {@link InvariantError} when called from inside the
   *   simulation.
   */
  run<T>(body: () => Op<T>, options?: RunOptions): T;
  /** The same for a body that does not wait. */
  run<T>(body: () => T, options?: RunOptions): T;
  /** Runs until nothing but daemons is left. Same errors. */
  run(): void;
  run<T>(body?: () => MaybeOp<T>, { limitNs = Infinity }: RunOptions = {}): T | undefined {
    if (body === undefined) {
      this.scheduler.run(null, Infinity);
      return undefined;
    }
    if (limitNs !== Infinity) nanos(limitNs);
    const task = this.scheduler.spawn('main', false, body);
    task.observers++;
    try {
      this.scheduler.run(task, limitNs);
    } finally {
      task.observers--;
    }
    if (task.outcome === null) throw new DeadlockError(this.now, this.scheduler.waiters(), 'the limit is reached');
    if (task.outcome === 'threw') throw task.error;
    if (task.outcome === 'killed') throw new KilledError(task.name);
    return task.value as T;
  }

  /** Runs every event up to and including `timeNs` (whole ns) and leaves the clock there. */
  runUntil(timeNs: number): void {
    this.scheduler.run(null, nanos(timeNs));
  }

  /**
   * Starts `body` as a task of its own: it becomes ready at the present instant. Plain.
   *
   * An error it throws goes to whoever waits for `task.done`; when nobody does, it ends the run.
   */
  spawn<T>(name: string, body: () => Op<T>, options?: SpawnOptions): Task<T>;
  /** The same for a body that does not wait. */
  spawn<T>(name: string, body: () => T, options?: SpawnOptions): Task<T>;
  spawn<T>(name: string, body: () => MaybeOp<T>, options: SpawnOptions = {}): Task<T> {
    const cpu = options.cpu === undefined ? this.cpu : checkCpu(options.cpu);
    return this.scheduler.spawn(name, options.daemon ?? false, body, cpu);
  }

  /**
   * The part of class `Part` that this world has once: made when it is first asked for. For what a subsystem keeps per
   * machine, such as the list of all shared buffers. Plain.
   */
  part<T extends object>(Part: new (sim: Simulator) => T): T {
    const found = this.#parts.get(Part);
    if (found instanceof Part) return found;
    const made = new Part(this);
    this.#parts.set(Part, made);
    return made;
  }

  /**
   * Moves the running task to another CPU at once; outside of tasks, whatever runs there from now on. Plain.
   *
   * @throws {InvariantError} `cpu` is no whole number in [0, 1024).
   * @see Linux 6.1 sched_setaffinity(2)
   */
  runOnCpu(cpu: number): void {
    const { scheduler } = this;
    if (scheduler.current !== null) scheduler.current.cpu = checkCpu(cpu);
    else scheduler.cpuOutside = checkCpu(cpu);
  }

  /** Waits `ns` after the running task's debt is paid. @throws {InvariantError} negative or not whole. */
  delay(ns: number): Op<void> {
    if (!Number.isSafeInteger(ns) || ns < 0) nanos(ns);
    return new Delay(this.scheduler, ns);
  }

  /**
   * Adds to what the running task owes; it is paid, rounded up to whole ns, at its next wait or end. Fractions add up
   * without loss. Outside a task (callbacks, tests) nobody owes, so nothing happens. Plain.
   *
   * @throws {InvariantError} `ns` is negative or not finite.
   */
  charge(ns: number): void {
    if (!(ns >= 0 && ns < Infinity)) throw new InvariantError(`charge: ${ns} ns is no time span`);
    this.scheduler.charge(ns);
  }

  /**
   * Calls `callback` in `ns`, at its own due time. A callback can not wait. Plain.
   *
   * @returns a timer that can be cancelled.
   */
  after(ns: number, callback: () => undefined): Timer {
    const index = this.#freeTimers.pop() ?? this.#timers.length;
    const drop = () => {
      if (this.unschedule(timer.handle)) this.#dropTimer(index);
    };
    const timer = new Timer(callback, drop, this.cpu);
    timer.handle = this.scheduler.schedule(nanos(ns), this.#timerKind, index);
    this.#timers[index] = timer;
    return timer;
  }

  /**
   * Registers what happens for a kind of event of your own. Many events of one kind share the function; each carries
   * a number. This is the fast way: no closure an event.
   *
   * @returns the kind, for {@link schedule}.
   */
  eventKind(handler: (arg: number) => undefined): number {
    return this.scheduler.addHandler(handler);
  }

  /**
   * Schedules an event of `kind` in `ns` (whole, not checked) with a 32-bit `arg`. Plain.
   *
   * @returns a handle for {@link unschedule}; events without delay can not be taken back.
   */
  schedule(ns: number, kind: number, arg: number): EventHandle {
    return this.scheduler.schedule(ns, kind, arg);
  }

  /** Takes an event back. @returns false when it happened already or had no delay. */
  unschedule(handle: EventHandle): boolean {
    return handle >= 0 && this.scheduler.queue.cancel(handle);
  }

  /** @internal The place of the call that is being made, or `null` when places are not kept. */
  site(): Site | null {
    if (this.#sitesLeft === 0) return null;
    this.#sitesLeft--;
    return new Site();
  }

  /**
   * Notes a hazard: it is traced and kept in {@link hazards}.
   *
   * @throws {HazardError} with policy `'throw'`.
   */
  report(facts: HazardFacts): void {
    this.#note(facts, true);
  }

  #note(facts: HazardFacts, mayThrow: boolean): void {
    this.hazards.push(facts);
    if (this.trace.enabled) {
      this.trace.emit({ kind: 'hazard', timeNs: this.now, code: facts.hazard, text: describeHazard(facts) });
    }
    if (mayThrow && this.#policy === 'throw') throw new HazardError(facts);
  }

  #expire(index: number): undefined {
    const timer = this.#timers[index];
    this.#dropTimer(index);
    const { scheduler } = this;
    const before = scheduler.cpuOutside;
    scheduler.cpuOutside = timer?.cpu ?? before;
    try {
      timer?.expire();
    } finally {
      scheduler.cpuOutside = before;
    }
  }

  #dropTimer(index: number): void {
    this.#timers[index] = null;
    this.#freeTimers.push(index);
  }
}

/** @throws {InvariantError} `callSites` is no whole number >= 0. */
function placesToKeep(callSites: boolean | number): number {
  if (typeof callSites === 'boolean') return callSites ? Infinity : 0;
  if (!(Number.isInteger(callSites) && callSites >= 0)) throw new InvariantError(`callSites: ${callSites} is no count`);
  return callSites;
}

function checkCpu(cpu: number): number {
  if (!(Number.isInteger(cpu) && cpu >= 0 && cpu < 1024)) throw new InvariantError(`cpu: ${cpu} is not in [0, 1024)`);
  return cpu;
}
