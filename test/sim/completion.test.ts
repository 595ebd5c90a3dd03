import { describe, expect, it } from 'vitest';
import { Completion } from '../../src/sim/completion.ts';
import { Simulator } from '../../src/sim/simulator.ts';

describe('Completion', () => {
  it('lets one waiter through for each complete, first come, first served', () => {
    const sim = new Simulator();
    const completion = new Completion(sim);
    const log: string[] = [];
    for (const name of ['a', 'b', 'c']) {
      sim.spawn(name, function* () {
        yield* completion.wait();
        log.push(`${name} ${sim.now}`);
      });
    }
    for (const ns of [10, 20, 30]) {
      sim.after(ns, () => {
        completion.complete();
        return undefined;
      });
    }
    sim.run();
    expect([log, completion.isDone]).toEqual([['a 10', 'b 20', 'c 30'], false]);
  });

  it('counts completions that nobody has waited for', () => {
    const sim = new Simulator();
    const completion = new Completion(sim);
    completion.complete();
    completion.complete();
    sim.run(function* () {
      yield* completion.wait();
      expect([completion.isDone, completion.tryWait(), completion.isDone, completion.tryWait()]).toEqual([
        true,
        true,
        false,
        false,
      ]);
    });
  });

  it('lets everybody through after completeAll, until it is made new', () => {
    const sim = new Simulator();
    const completion = new Completion(sim, 'probe');
    const tasks = [1, 2, 3].map((n) => sim.spawn(`t${n}`, () => completion.wait()));
    sim.run(function* () {
      yield* sim.delay(5);
      completion.completeAll();
      for (const task of tasks) yield* task.done;
      for (let i = 0; i < 5; i++) yield* completion.wait();
      completion.complete();
      expect([completion.isDone, sim.now]).toEqual([true, 5]);
      completion.reinit();
      expect(completion.isDone).toBe(false);
    });
    expect(() => sim.run(() => completion.wait())).toThrow('task main waits for completion probe');
  });

  it('may be taken by a newcomer before the woken waiter runs, which then waits on', () => {
    const sim = new Simulator();
    const completion = new Completion(sim);
    const waiter = sim.spawn('waiter', () => completion.wait());
    sim.run(function* () {
      yield* sim.delay(5);
      completion.complete();
      expect(completion.tryWait()).toBe(true);
      yield* sim.delay(5);
      expect(waiter.outcome).toBeNull();
      completion.complete();
      yield* waiter.done;
    });
    expect(completion.isDone).toBe(false);
  });

  it('is not over for a woken waiter when it is made new before that runs', () => {
    const sim = new Simulator();
    const completion = new Completion(sim);
    const waiter = sim.spawn('waiter', () => completion.wait());
    sim.runUntil(5);
    completion.completeAll();
    completion.reinit();
    sim.runUntil(10);
    expect(waiter.outcome).toBeNull();
    completion.complete();
    sim.run();
    expect(waiter.outcome).toBe('returned');
  });

  it('passes the wake-up of a killed task on to the next, timed or not', () => {
    for (const timed of [false, true]) {
      const sim = new Simulator();
      const completion = new Completion(sim);
      const wait = timed ? () => completion.waitTimeout(1000) : () => completion.wait();
      const first = sim.spawn<unknown>('first', wait);
      const second = sim.spawn<unknown>('second', wait);
      sim.run(function* () {
        yield* sim.delay(5);
        completion.complete();
        first.kill();
        expect([timed, yield* second.exit, sim.now, completion.isDone]).toEqual([timed, 'returned', 5, false]);
      });
    }
  });
});

describe('Completion.waitTimeout', () => {
  it('tells the time left, at least 1, and takes the completion', () => {
    const sim = new Simulator();
    const completion = new Completion(sim);
    sim.after(30, () => {
      completion.complete();
      return undefined;
    });
    expect(sim.run(() => completion.waitTimeout(100))).toBe(70);
    expect(completion.isDone).toBe(false);
    completion.complete();
    expect(sim.run(() => completion.waitTimeout(0))).toBe(1);
    sim.run();
    expect(sim.now).toBe(30);
  });

  it('tells 0 when the time is up; what is completed later stays for others', () => {
    const sim = new Simulator();
    const completion = new Completion(sim);
    sim.run(function* () {
      sim.charge(7);
      expect([yield* completion.waitTimeout(10), sim.now]).toEqual([0, 17]);
      expect(yield* completion.waitTimeout(0)).toBe(0);
    });
    completion.complete();
    expect(completion.isDone).toBe(true);
    for (const bad of [-1, 0.5]) expect(() => sim.run(() => completion.waitTimeout(bad))).toThrow('nanos:');
  });

  it('takes a completion of the very last instant', () => {
    const sim = new Simulator();
    const completion = new Completion(sim);
    sim.after(10, () => {
      completion.complete();
      return undefined;
    });
    expect(sim.run(() => completion.waitTimeout(10))).toBe(1);
  });
});
