/**
 * Random programs: trees of tasks that wait, lock, kill and charge, made from a seed. A program is data; the interpreter
 * here runs it on a simulator, so one program can be run again under another chooser.
 */
import { DeadlockError, ErrnoError, HazardError } from '../../src/base/errors.ts';
import type { Chooser } from '../../src/sim/chooser.ts';
import { Mutex } from '../../src/sim/mutex.ts';
import type { Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Semaphore } from '../../src/sim/semaphore.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import type { Task } from '../../src/sim/task.ts';
import { WaitQueue } from '../../src/sim/wait-queue.ts';
import { WwAcquireCtx, WwClass } from '../../src/sim/ww-acquire-ctx.ts';
import { WwMutex } from '../../src/sim/ww-mutex.ts';
import { TraceBus } from '../../src/trace/trace-bus.ts';
import { TraceHash } from '../../src/trace/trace-hash.ts';

/** Number of locks of each kind. */
const LOCKS = 3;
const DEEPEST = 3;

type Statement =
  | { readonly do: 'delay' | 'charge' | 'timer'; readonly ns: number }
  | { readonly do: 'spawn'; readonly body: readonly Statement[]; readonly daemon: boolean }
  | { readonly do: 'lock'; readonly lock: number; readonly careless: boolean; readonly body: readonly Statement[] }
  | { readonly do: 'ww'; readonly locks: readonly number[]; readonly body: readonly Statement[] }
  | { readonly do: 'down'; readonly ns: number; readonly body: readonly Statement[] }
  | { readonly do: 'kill'; readonly which: number }
  | { readonly do: 'join'; readonly which: number }
  | { readonly do: 'wait'; readonly ns: number }
  | { readonly do: 'wake' };

/** A program of a few dozen statements. */
export function randomProgram(seed: number): readonly Statement[] {
  const random = new Prng(seed).fork('random program');
  let left = 25 + random.int(50);

  function block(depth: number): Statement[] {
    const statements: Statement[] = [];
    const wanted = 2 + random.int(7);
    while (statements.length < wanted && left-- > 0) statements.push(statement(depth));
    return statements;
  }

  function statement(depth: number): Statement {
    const kind = random.int(depth < DEEPEST ? 18 : 8);
    if (kind < 2) return { do: 'delay', ns: random.int(20) };
    if (kind === 2) return { do: 'charge', ns: random.int(40) / 4 };
    if (kind === 3) return { do: 'timer', ns: random.int(20) };
    if (kind === 4) return random.int(4) === 0 ? { do: 'kill', which: random.int(1000) } : { do: 'delay', ns: 1 };
    if (kind === 5) return random.int(3) === 0 ? { do: 'join', which: random.int(1000) } : { do: 'wake' };
    if (kind === 6) return { do: 'wait', ns: random.int(10) };
    if (kind === 7) return { do: 'wake' };
    if (kind < 11) return { do: 'spawn', body: block(depth + 1), daemon: random.int(10) === 0 };
    if (kind < 13) {
      return { do: 'lock', lock: random.int(LOCKS), careless: random.int(30) === 0, body: block(depth + 1) };
    }
    if (kind === 13) return { do: 'down', ns: random.int(30), body: block(depth + 1) };
    const pool = Array.from({ length: LOCKS }, (_, i) => i);
    const count = 1 + random.int(LOCKS);
    const locks = Array.from({ length: count }, () => pool.splice(random.int(pool.length), 1)[0] ?? 0);
    return { do: 'ww', locks, body: block(depth + 1) };
  }

  return Array.from({ length: 3 }, (): Statement => ({ do: 'spawn', body: block(0), daemon: false }));
}

/** How a run ended, and what must be the same whenever it is repeated. */
export interface ProgramRun {
  readonly digest: string;
  /** Digest without the choices themselves. */
  readonly effects: string;
  readonly events: number;
  readonly choices: string;
  /** When it came to rest, 0 if it did not; only then are daemons killed. */
  readonly endNs: number;
  readonly end: 'rest' | 'deadlock' | 'hazard' | 'error';
  readonly message: string;
  readonly locksHeld: number;
  readonly tasksLeft: number;
}

/** Runs `program` to its end. */
export function runProgram(program: readonly Statement[], seed: number, chooser?: Chooser): ProgramRun {
  const sim = new Simulator(chooser === undefined ? { seed } : { seed, chooser });
  const hash = new TraceHash(sim.trace);
  const effects = new TraceBus();
  const effectsHash = new TraceHash(effects);
  sim.trace.onAny((event) => {
    if (event.kind !== 'choice') effects.emit(event);
    return undefined;
  });
  const world = new Interpreter(sim);
  for (const statement of program) if (statement.do === 'spawn') world.spawn(statement.body, statement.daemon);
  let end: ProgramRun['end'] = 'rest';
  let message = '';
  let endNs = 0;
  try {
    sim.run();
    endNs = sim.now;
    world.killDaemons();
    sim.runUntil(endNs + 1_000_000);
  } catch (error) {
    end = error instanceof DeadlockError ? 'deadlock' : error instanceof HazardError ? 'hazard' : 'error';
    message = String(error);
  }
  return {
    digest: hash.digest,
    effects: effectsHash.digest,
    events: hash.count,
    choices: sim.choices,
    endNs,
    end,
    message,
    locksHeld: world.locksHeld,
    tasksLeft: world.tasksLeft,
  };
}

class Interpreter {
  readonly #sim: Simulator;
  readonly #tasks: Task<unknown>[] = [];
  readonly #mutexes: Mutex[] = [];
  readonly #wwMutexes: WwMutex[] = [];
  readonly #wwClasses = [new WwClass('wound-wait', 'ww'), new WwClass('wait-die', 'wd')] as const;
  readonly #semaphore: Semaphore;
  readonly #queue: WaitQueue;

  constructor(sim: Simulator) {
    this.#sim = sim;
    for (let i = 0; i < LOCKS; i++) {
      this.#mutexes.push(new Mutex(sim, `m${i}`));
      for (const wwClass of this.#wwClasses) this.#wwMutexes.push(new WwMutex(sim, wwClass, `${wwClass.name}${i}`));
    }
    this.#semaphore = new Semaphore(sim, 2);
    this.#queue = new WaitQueue(sim);
  }

  get locksHeld(): number {
    const held = [...this.#mutexes, ...this.#wwMutexes].filter((lock) => lock.isLocked).length;
    return held + (2 - this.#semaphore.count);
  }

  get tasksLeft(): number {
    return this.#tasks.filter((task) => task.outcome === null).length;
  }

  killDaemons(): void {
    for (const task of this.#tasks) if (task.daemon) task.kill();
  }

  spawn(body: readonly Statement[], daemon: boolean): void {
    this.#tasks.push(this.#sim.spawn(`t${this.#tasks.length}`, () => this.#block(body), { daemon }));
  }

  *#block(statements: readonly Statement[]): Op<void> {
    for (const statement of statements) yield* this.#statement(statement);
  }

  *#statement(s: Statement): Op<void> {
    const sim = this.#sim;
    const some = <T>(items: readonly T[], which: number): T => items[which % items.length] as T;
    switch (s.do) {
      case 'delay':
        return yield* sim.delay(s.ns);
      case 'charge':
        return sim.charge(s.ns);
      case 'timer':
        sim.after(s.ns, () => {
          this.#queue.wakeUp();
          return undefined;
        });
        return;
      case 'spawn':
        return this.spawn(s.body, s.daemon);
      case 'kill':
        return some(this.#tasks, s.which).kill();
      case 'wake':
        this.#queue.wakeUp();
        return;
      case 'wait':
        yield* this.#queue.waitEventTimeout(() => false, s.ns, { exclusive: s.ns % 2 === 0 });
        return;
      case 'join': {
        const task = some(this.#tasks, s.which);
        if (task !== sim.currentTask) yield* task.exit;
        return;
      }
      case 'lock':
        return yield* this.#lock(some(this.#mutexes, s.lock), s.careless, s.body);
      case 'down':
        return yield* this.#down(s.ns, s.body);
      case 'ww':
        return yield* this.#ww(s.locks, s.body);
    }
  }

  *#lock(mutex: Mutex, careless: boolean, body: readonly Statement[]): Op<void> {
    if (mutex.owner === this.#sim.currentTask) return yield* this.#block(body);
    if (!careless) return yield* mutex.withLock(() => this.#block(body));
    yield* mutex.lock();
    yield* this.#block(body); // a kill in here leaves the lock held
    mutex.unlock();
  }

  *#down(ns: number, body: readonly Statement[]): Op<void> {
    try {
      yield* this.#semaphore.downTimeout(ns);
    } catch {
      return;
    }
    try {
      yield* this.#block(body);
    } finally {
      this.#semaphore.up();
    }
  }

  *#ww(locks: readonly number[], body: readonly Statement[]): Op<void> {
    const sim = this.#sim;
    const wwClass = this.#wwClasses[(locks[0] ?? 0) % 2] ?? this.#wwClasses[0];
    const mine = this.#wwMutexes.filter((mutex) => mutex.wwClass === wwClass);
    const wanted = locks.map((at) => mine[at] as WwMutex);
    if (wanted.some((mutex) => mutex.owner === sim.currentTask)) return;
    const held = sim.currentTask?.held ?? [];
    if (held.some((lock) => lock instanceof WwMutex && lock.wwClass === wwClass)) return; // one transaction at a time
    const ctx = new WwAcquireCtx(wwClass);
    let contended: WwMutex | null = null;
    do {
      if (contended !== null) wanted.unshift(...wanted.splice(wanted.indexOf(contended), 1));
      contended = yield* this.#wwRound(ctx, wanted, contended !== null, body);
    } while (contended !== null);
    ctx.fini();
  }

  /** Takes time between the locks, so that transactions meet. @returns the lock to begin again with; `null` when done. */
  *#wwRound(
    ctx: WwAcquireCtx,
    wanted: readonly WwMutex[],
    slow: boolean,
    body: readonly Statement[],
  ): Op<WwMutex | null> {
    const held: WwMutex[] = [];
    try {
      for (const mutex of wanted) {
        try {
          yield* slow && held.length === 0 ? mutex.lockSlow(ctx) : mutex.lock(ctx);
        } catch (error) {
          if (error instanceof ErrnoError && error.code === 'EDEADLK') return mutex;
          throw error;
        }
        held.push(mutex);
        yield* this.#sim.delay(3);
      }
      ctx.done();
      yield* this.#block(body);
      return null;
    } finally {
      for (const mutex of held) mutex.unlock();
    }
  }
}
