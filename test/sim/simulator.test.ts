import { describe, expect, it } from 'vitest';
import { HazardError } from '../../src/base/errors.ts';
import type { HeldFacts } from '../../src/base/hazards.ts';
import { Event } from '../../src/sim/event.ts';
import { Mutex } from '../../src/sim/mutex.ts';
import type { Op } from '../../src/sim/op.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { formatTraceEvent } from '../../src/trace/trace-hash.ts';

describe('sim.delay', () => {
  it('waits exactly so long, and lets others run first even for 0 ns', () => {
    const sim = new Simulator();
    const log: string[] = [];
    sim.spawn('a', function* () {
      yield* sim.delay(0);
      log.push('a');
    });
    sim.spawn('b', () => log.push('b'));
    sim.run();
    expect([log, sim.now]).toEqual([['b', 'a'], 0]);
  });

  it('refuses what is no whole number of ns, when it is made', () => {
    const sim = new Simulator();
    for (const bad of [-1, 0.5, Number.NaN, Infinity]) expect(() => sim.delay(bad)).toThrow('nanos:');
  });

  it('can be waited for again and again', () => {
    const sim = new Simulator();
    const beat = sim.delay(10);
    sim.run(function* () {
      yield* beat;
      yield* beat;
    });
    expect(sim.now).toBe(20);
  });
});

describe('sim.after', () => {
  it('calls back at its own due time and is not pending any more', () => {
    const sim = new Simulator();
    const seen: number[] = [];
    const timer = sim.after(10, () => {
      seen.push(sim.now);
      expect(timer.pending).toBe(false);
      return undefined;
    });
    expect(timer.pending).toBe(true);
    sim.run(() => sim.delay(15));
    expect([seen, timer.cancel()]).toEqual([[10], false]);
  });

  it('does not call back when it was cancelled, at delay 0 as well', () => {
    for (const ns of [0, 10]) {
      const sim = new Simulator();
      const timer = sim.after(ns, () => {
        throw new Error('called');
      });
      expect([timer.cancel(), timer.cancel(), timer.pending]).toEqual([true, false, false]);
      sim.run();
      expect(sim.now).toBe(0);
    }
  });

  it('keeps timers apart when their rows are used again', () => {
    const sim = new Simulator();
    const log: string[] = [];
    const note = (text: string) => (): undefined => {
      log.push(text);
      return undefined;
    };
    const old = sim.after(10, note('old'));
    old.cancel();
    const instant = sim.after(0, note('instant'));
    instant.cancel();
    const fresh = sim.after(20, note('fresh'));
    old.cancel();
    instant.cancel();
    sim.run();
    expect([log, fresh.pending]).toEqual([['fresh'], false]);
  });

  it('may start tasks and further timers from its callback', () => {
    const sim = new Simulator();
    const log: string[] = [];
    sim.after(5, () => {
      sim.spawn('t', function* () {
        yield* sim.delay(1);
        log.push(`task ${sim.now}`);
      });
      sim.after(2, () => {
        log.push(`timer ${sim.now}`);
        return undefined;
      });
      return undefined;
    });
    sim.run();
    expect(log).toEqual(['task 6', 'timer 7']);
  });

  it('refuses bad delays', () => {
    const sim = new Simulator();
    for (const bad of [-1, 0.5, Number.NaN]) expect(() => sim.after(bad, () => undefined)).toThrow('nanos:');
  });
});

describe('sim.schedule', () => {
  it('hands each event its number, in order; an event taken back does not happen', () => {
    const sim = new Simulator();
    const log: string[] = [];
    const first = sim.eventKind((arg) => {
      log.push(`first ${arg} at ${sim.now}`);
      return undefined;
    });
    const second = sim.eventKind((arg) => {
      log.push(`second ${arg} at ${sim.now}`);
      return undefined;
    });
    sim.schedule(10, first, 1);
    const handle = sim.schedule(10, first, 2);
    sim.schedule(10, second, -3);
    sim.schedule(0, second, 4);
    expect([sim.unschedule(handle), sim.unschedule(handle)]).toEqual([true, false]);
    sim.run();
    expect(log).toEqual(['second 4 at 0', 'first 1 at 10', 'second -3 at 10']);
    expect(sim.unschedule(handle)).toBe(false);
  });

  it('can not take back an event without delay', () => {
    const sim = new Simulator();
    const seen: number[] = [];
    const kind = sim.eventKind((arg) => {
      seen.push(arg);
      return undefined;
    });
    expect(sim.unschedule(sim.schedule(0, kind, 1))).toBe(false);
    sim.run();
    expect(seen).toEqual([1]);
  });
});

describe('sim.report', () => {
  const facts: HeldFacts = {
    hazard: 'lock.held-at-exit',
    task: 't',
    held: ['resv(buf0)'],
    timeNs: 3,
    remedy: 'unlock in a finally block',
  };

  it('throws, keeps and traces a hazard by default', () => {
    const sim = new Simulator();
    const lines: string[] = [];
    sim.trace.on('hazard', (event) => {
      lines.push(event.code);
      return undefined;
    });
    expect(() => sim.report(facts)).toThrow(HazardError);
    expect([sim.hazards, lines]).toEqual([[facts], ['lock.held-at-exit']]);
  });

  it('only keeps and traces it under policy record', () => {
    const sim = new Simulator({ hazards: 'record' });
    sim.report(facts);
    expect(sim.hazards).toEqual([facts]);
  });

  it('is told of a task that ends with locks held, in the order taken', () => {
    const sim = new Simulator({ hazards: 'record' });
    const locks = ['a', 'b', 'c'].map((name) => new Mutex(sim, name));
    const leaker = sim.spawn('leaker', function* () {
      for (const lock of locks) yield* lock.lock();
      locks[1]?.unlock();
      yield* sim.delay(7);
    });
    sim.run();
    expect(leaker.outcome).toBe('returned');
    expect(sim.hazards).toEqual([{ ...facts, task: 'leaker', held: ['a', 'c'], timeNs: 7 }]);
  });

  it('is told of a killed task that ends with locks held, too', () => {
    const sim = new Simulator();
    const lock = new Mutex(sim, 'a');
    const task = sim.spawn('t', function* () {
      yield* lock.lock();
      yield* sim.delay(100);
    });
    sim.after(5, () => {
      task.kill();
      return undefined;
    });
    expect(() => sim.run()).toThrow('task t ended with a held');
  });
});

describe('sim.trace', () => {
  it('tells of every task, its kill and its end, with time', () => {
    const sim = new Simulator();
    const lines: string[] = [];
    sim.trace.onAny((event) => {
      lines.push(formatTraceEvent(event));
      return undefined;
    });
    sim.run(function* () {
      const task = sim.spawn('t', () => sim.delay(100));
      yield* sim.delay(5);
      task.kill();
      yield* task.exit;
    });
    expect(lines).toEqual([
      '0 task.spawn task=main',
      '0 task.spawn task=t',
      '5 task.kill task=t',
      '5 task.end task=t outcome=killed',
      '5 task.end task=main outcome=returned',
    ]);
  });

  it('ends the run with the error of a listener', () => {
    const sim = new Simulator();
    sim.trace.on('task.end', () => {
      throw new Error('listener broke');
    });
    expect(() => sim.run(() => 1)).toThrow('listener broke');
  });
});

/** A program that uses time, randomness, names and locks; logs with the time. */
function* program(sim: Simulator, log: string[]): Op<void> {
  const random = sim.prng.fork('program');
  const lock = new Mutex(sim, 'lock');
  const event = new Event(sim);
  for (let i = 0; i < 5; i++) {
    sim.spawn(`t${i}`, function* () {
      for (let round = 0; round < 5; round++) {
        yield* sim.delay(random.int(100));
        yield* lock.withLock(() => sim.delay(random.int(20)));
        sim.charge(random.float());
        log.push(`${sim.now} t${i}`);
      }
      if (i === 0) event.fire();
    });
  }
  yield* event;
}

describe('two simulators in one process', () => {
  it('do not influence one another, interleaved step by step', () => {
    const solo = ([1, 2] as const).map((seed) => {
      const sim = new Simulator({ seed });
      const log: string[] = [];
      sim.spawn('p', () => program(sim, log));
      sim.run();
      return log;
    });
    const sims = [new Simulator({ seed: 1 }), new Simulator({ seed: 2 })];
    const logs: string[][] = [[], []];
    for (const [i, sim] of sims.entries()) sim.spawn('p', () => program(sim, logs[i] as string[]));
    for (let t = 0; t < 2000; t += 7) for (const sim of sims) sim.runUntil(t);
    expect(logs).toEqual(solo);
    expect(logs[0]).not.toEqual(logs[1]);
  });

  it('do not influence one another when one runs inside a task of the other', () => {
    const outer = new Simulator();
    const inner = new Simulator();
    const seen = outer.run(function* () {
      yield* outer.delay(10);
      const value = inner.run(function* () {
        inner.charge(3);
        yield* inner.delay(5);
        return inner.now;
      });
      outer.charge(1);
      yield* outer.delay(0);
      return [value, outer.now, inner.now];
    });
    expect(seen).toEqual([8, 11, 8]);
  });
});

describe('Simulator.part', () => {
  class Ledger {
    readonly sim: Simulator;
    constructor(sim: Simulator) {
      this.sim = sim;
    }
  }

  it('makes what a subsystem keeps once for each world, when it is first asked for', () => {
    const [one, other] = [new Simulator(), new Simulator()];
    expect(one.part(Ledger)).toBe(one.part(Ledger));
    expect(one.part(Ledger)).not.toBe(other.part(Ledger));
    expect(other.part(Ledger).sim).toBe(other);
  });
});
