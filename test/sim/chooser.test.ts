import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Chooser,
  FifoChooser,
  formatChoices,
  parseChoices,
  RandomChooser,
  ReplayChooser,
} from '../../src/sim/chooser.ts';
import { Event } from '../../src/sim/event.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { TraceHash } from '../../src/trace/trace-hash.ts';

interface Outcome {
  readonly digest: string;
  readonly choices: string;
  readonly order: string;
}

/** Five tasks that meet at the same instants. */
function race(chooser?: Chooser, tasks = 5): Outcome {
  const sim = new Simulator(chooser === undefined ? {} : { chooser });
  const hash = new TraceHash(sim.trace);
  let order = '';
  for (let i = 0; i < tasks; i++) {
    sim.spawn(`t${i}`, function* () {
      for (let round = 0; round < 3; round++) {
        yield* sim.delay(10);
        order += i;
      }
    });
  }
  sim.run();
  return { digest: hash.digest, choices: sim.choices, order };
}

const random = (seed: number): RandomChooser => new RandomChooser(new Prng(seed).fork('chooser'));

describe('a chooser', () => {
  it('that always takes the first gives the order of no chooser, and records its choices', () => {
    const chosen = race(new FifoChooser());
    expect(chosen.order).toBe(race().order);
    expect(chosen.choices).toMatch(/^0+$/);
    expect(race().choices).toBe('');
  });

  it('that is random gives the same schedule for the same seed, and other schedules for others', () => {
    expect(race(random(3))).toEqual(race(random(3)));
    const orders = new Set(Array.from({ length: 20 }, (_, seed) => race(random(seed)).order));
    expect(orders.size).toBeGreaterThan(15);
  });

  it('is asked only when more than one task is ready, with their number', () => {
    const asked: number[] = [];
    const chooser: Chooser = {
      choose(count) {
        asked.push(count);
        return count - 1;
      },
    };
    expect(race(chooser, 3).order).toBe('012210012');
    expect(asked).toEqual([3, 2, 3, 2, 3, 2, 3, 2]);
    asked.length = 0;
    race(chooser, 1);
    expect(asked).toEqual([]);
  });

  it('that answers what is not possible is refused', () => {
    for (const answer of [-1, 5, 0.5, Number.NaN]) {
      expect(() => race({ choose: () => answer })).toThrow(`chooser: ${answer} is not in [0, 5)`);
    }
  });

  it('does not move timers and interrupts behind tasks that became ready after them', () => {
    const sim = new Simulator({ chooser: { choose: (count) => count - 1 } });
    const log: string[] = []; // the last comes first: b begins first, so its delay is the first of the two to end
    sim.after(10, () => {
      log.push('timer');
      return undefined;
    });
    for (const name of ['a', 'b']) {
      sim.spawn(name, function* () {
        yield* sim.delay(10);
        log.push(name);
      });
    }
    sim.run();
    expect(log).toEqual(['timer', 'a', 'b']);
  });

  it('that takes the first changes nothing for timers, events and tasks that are taken back at their own instant', () => {
    const logs = [undefined, new FifoChooser()].map((chooser) => {
      const sim = new Simulator(chooser === undefined ? {} : { chooser });
      const log: string[] = [];
      const kind = sim.eventKind((arg) => {
        log.push(`event ${arg}`);
        return undefined;
      });
      const first = sim.spawn('first', () => sim.delay(10));
      const timer = sim.after(10, () => {
        log.push('timer');
        return undefined;
      });
      sim.after(5, () => {
        const handle = sim.schedule(5, kind, 1);
        sim.spawn('late', function* () {
          yield* sim.delay(5);
          log.push('late');
        });
        sim.spawn('canceller', function* () {
          yield* first.exit;
          log.push(`timer ${timer.cancel()} event ${sim.unschedule(handle)}`);
        });
        return undefined;
      });
      sim.spawn('killer', function* () {
        yield* sim.delay(10);
        victim.kill();
        log.push(`timer ${timer.cancel()}`);
      });
      const victim = sim.spawn('victim', function* () {
        try {
          yield* sim.delay(10);
        } finally {
          log.push('victim');
        }
      });
      sim.run();
      return log;
    });
    expect(logs[1]).toEqual(logs[0]);
  });

  it('can not bring back an event that a task took back at its instant', () => {
    for (const chooser of [undefined, new FifoChooser()]) {
      const sim = new Simulator(chooser === undefined ? {} : { chooser });
      const seen: number[] = [];
      const kind = sim.eventKind((arg) => {
        seen.push(arg);
        return undefined;
      });
      sim.spawn('t', function* () {
        yield* sim.delay(10);
        expect(sim.unschedule(handle)).toBe(true);
      });
      sim.spawn('u', () => {
        handle = sim.schedule(10, kind, 1);
      });
      let handle = -1;
      sim.run();
      expect(seen).toEqual([]);
    }
  });
});

describe('ReplayChooser', () => {
  it('reproduces a recorded schedule, trace and all', () => {
    for (let seed = 0; seed < 20; seed++) {
      const recorded = race(random(seed));
      expect(race(new ReplayChooser(recorded.choices))).toEqual(recorded);
    }
  });

  it('goes on first come, first served when the schedule is used up', () => {
    expect(race(new ReplayChooser('4')).order).toBe('401234012340123');
    expect(race(new ReplayChooser('')).order).toBe(race(new FifoChooser()).order);
  });

  it('refuses a choice that the program does not offer', () => {
    expect(() => race(new ReplayChooser('05'))).toThrow(
      'replay: choice 2 is 5 of 4: not the program that was recorded',
    );
  });

  it.each([
    ['0!', 'schedule: "!" at position 1 is no choice'],
    ['00A12345678', 'schedule: "A1234567" at position 2 is no choice'],
    ['0(12', 'schedule: "(12" at position 1 is no choice'],
    ['()', 'schedule: "()" at position 0 is no choice'],
    ['0 1', 'schedule: " 1" at position 1 is no choice'],
  ])('refuses the text %j and shows where', (text, message) => {
    expect(() => new ReplayChooser(text)).toThrow(message);
  });
});

describe('the text form of a schedule', () => {
  it('comes back from text as it was, one character for each choice below 36', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.nat(40), fc.nat())), (choices) => {
        expect(parseChoices(formatChoices(choices))).toEqual(choices);
      }),
    );
    expect(formatChoices([0, 9, 10, 35, 36, 1234])).toBe('09az(36)(1234)');
  });

  it('records choices above 35 of many tasks so that they can be replayed', () => {
    const sim = (chooser: Chooser): string => {
      const world = new Simulator({ chooser });
      const start = new Event(world);
      let order = '';
      for (let i = 0; i < 50; i++) {
        world.spawn(`t${i}`, function* () {
          yield* start;
          order += ` ${i}`;
        });
      }
      start.fire();
      world.run();
      return `${world.choices}${order}`;
    };
    const recorded = sim({ choose: (count) => count - 1 });
    expect(recorded).toContain('(49)(48)');
    expect(sim(new ReplayChooser(recorded.split(' ')[0] as string))).toBe(recorded);
  });
});
