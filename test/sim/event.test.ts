import { describe, expect, it } from 'vitest';
import { Event, Signal } from '../../src/sim/event.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import type { Task } from '../../src/sim/task.ts';

describe('Event', () => {
  it('wakes all waiters with its value, in the order they came, at the instant it happens', () => {
    const sim = new Simulator();
    const event = new Event<number>(sim);
    const log: string[] = [];
    for (const name of ['a', 'b', 'c']) {
      sim.spawn(name, function* () {
        log.push(`${name} ${yield* event} ${sim.now}`);
      });
    }
    sim.after(10, () => {
      event.fire(7);
      log.push('fired');
      return undefined;
    });
    sim.run();
    expect(log).toEqual(['fired', 'a 7 10', 'b 7 10', 'c 7 10']);
  });

  it('stays happened: who waits later gets the value without waiting', () => {
    const sim = new Simulator();
    const event = new Event<string>(sim);
    expect(event.fired).toBe(false);
    event.fire('early');
    expect(event.fired).toBe(true);
    expect(sim.run(() => event)).toBe('early');
  });

  it('throws its error to every waiter, early and late, when it failed', () => {
    const sim = new Simulator();
    const event = new Event(sim);
    const failure = new Error('no answer');
    const early = sim.spawn('early', () => event);
    sim.run(function* () {
      yield* sim.delay(1);
      event.fail(failure);
      expect(yield* early.exit).toBe('threw');
    });
    expect(early.error).toBe(failure);
    expect(() => sim.run(() => event)).toThrow(failure);
  });

  it('may fail with undefined', () => {
    const sim = new Simulator();
    const event = new Event(sim);
    event.fail(undefined);
    const outcome = sim.run(function* () {
      return yield* sim.spawn('t', () => event).exit;
    });
    expect(outcome).toBe('threw');
  });

  it('can not happen twice', () => {
    const sim = new Simulator();
    const event = new Event(sim, 'irq');
    event.fire();
    expect(() => event.fire()).toThrow('event irq has happened already');
    expect(() => event.fail(new Error('late'))).toThrow('event irq has happened already');
    sim.run(() => event);
  });

  it('forgets a waiter that was killed and wakes the others', () => {
    const sim = new Simulator();
    const event = new Event(sim);
    const log: string[] = [];
    const tasks = ['a', 'b', 'c', 'd'].map((name) =>
      sim.spawn(name, function* () {
        yield* event;
        log.push(name);
      }),
    );
    const kill = (...which: number[]): void => {
      for (const at of which) (tasks[at] as Task<void>).kill();
    };
    sim.run(function* () {
      yield* sim.delay(1);
      kill(0, 3, 1);
      event.fire();
    });
    sim.run();
    expect(log).toEqual(['c']);
  });
});

describe('Signal', () => {
  it('wakes those who wait now and remembers nothing', () => {
    const sim = new Simulator();
    const signal = new Signal(sim);
    const log: string[] = [];
    expect(signal.notify()).toBe(0);
    sim.spawn('t', function* () {
      for (let i = 0; i < 2; i++) {
        yield* signal;
        log.push(`t ${sim.now}`);
      }
    });
    for (const ns of [10, 20, 30]) {
      sim.after(ns, () => {
        log.push(`woke ${signal.notify()}`);
        return undefined;
      });
    }
    sim.run();
    expect(log).toEqual(['woke 1', 't 10', 'woke 1', 't 20', 'woke 0']);
  });

  it('wakes the one that has waited longest', () => {
    const sim = new Simulator();
    const signal = new Signal(sim);
    const log: string[] = [];
    for (const name of ['a', 'b', 'c']) {
      sim.spawn(name, function* () {
        yield* signal;
        log.push(name);
      });
    }
    sim.run(function* () {
      yield* sim.delay(1);
      expect(signal.notifyOne()).toBe(true);
      yield* sim.delay(1);
      expect(log).toEqual(['a']);
      expect([signal.notify(), signal.notifyOne()]).toEqual([2, false]);
    });
    sim.run();
    expect(log).toEqual(['a', 'b', 'c']);
  });
});
