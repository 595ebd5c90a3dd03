import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AdversarialChooser } from '../../src/sim/adversarial-chooser.ts';
import {
  type ChoicePoint,
  type Chooser,
  FifoChooser,
  formatChoices,
  parseChoices,
  RandomChooser,
  ReplayChooser,
} from '../../src/sim/chooser.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import type { TraceEvent } from '../../src/trace/trace-events.ts';

const random = (seed: number): Prng => new Prng(seed).fork('chooser');

/** Two tasks that meet and ask about hardware in between. */
function play(chooser?: Chooser): { readonly log: string; readonly choices: string } {
  const sim = new Simulator(chooser === undefined ? {} : { chooser });
  let log = '';
  for (const name of ['a', 'b']) {
    sim.spawn(name, function* () {
      for (let i = 0; i < 10; i++) {
        yield* sim.delay(5);
        log += name + sim.chooseHardware(4, 'fill') + sim.chooseHardware(3, 'drain');
      }
    });
  }
  sim.run();
  return { log, choices: sim.choices };
}

describe('hardware', () => {
  it('is free in the replay of a run in which it was free and nothing came up', () => {
    const quiet = new Simulator({ chooser: new AdversarialChooser(random(1)) });
    expect(new ReplayChooser(quiet.choices).choosesHardware).toBe(true);
    expect(new ReplayChooser('01').choosesHardware).toBe(false);
    expect(parseChoices(quiet.choices)).toEqual([]);
  });

  it('does nothing of its own accord without a chooser, and with one that is not asked about it', () => {
    for (const chooser of [undefined, new FifoChooser(), new RandomChooser(random(1)), new ReplayChooser('0101')]) {
      const { log, choices } = play(chooser);
      expect(log).toMatch(/^([ab]00)*$/);
      expect(choices).toMatch(/^[01]*$/);
      expect(new Simulator(chooser === undefined ? {} : { chooser }).hardwareIsFree).toBe(false);
    }
  });

  it('does what its chooser says at each point, and nobody is asked where nothing else is possible', () => {
    const asked: [number, ChoicePoint][] = [];
    const chooser: Chooser = {
      choosesHardware: true,
      choose(count, point) {
        asked.push([count, point]);
        return count - 1;
      },
    };
    const sim = new Simulator({ chooser });
    expect(sim.hardwareIsFree).toBe(true);
    expect([sim.chooseHardware(5, 'evict'), sim.chooseHardware(1, 'evict'), sim.chooseHardware(2, 'drain')]).toEqual([
      4, 0, 1,
    ]);
    expect(asked).toEqual([
      [5, 'evict'],
      [2, 'drain'],
    ]);
    expect(sim.choices).toBe('[4][1]');
  });

  it('refuses a choice that is not possible', () => {
    const sim = new Simulator({ chooser: { choosesHardware: true, choose: () => 3 } });
    expect(() => sim.chooseHardware(3, 'fill')).toThrow('chooser: 3 is not in [0, 3)');
  });

  it('shows in the trace what it did, and not that it did nothing', () => {
    const answers = [0, 2, 0];
    const sim = new Simulator({ chooser: { choosesHardware: true, choose: () => answers.shift() ?? 0 } });
    const events: TraceEvent[] = [];
    sim.trace.onAny((event) => {
      events.push(event);
      return undefined;
    });
    for (let i = 0; i < 3; i++) sim.chooseHardware(4, 'fill');
    expect(events).toEqual([{ kind: 'choice', timeNs: 0, among: 4, chosen: 2 }]);
  });
});

describe('AdversarialChooser', () => {
  it('plays the same for the same seed, and otherwise for others', () => {
    const again = (seed: number) => play(new AdversarialChooser(random(seed)));
    expect(again(7)).toEqual(again(7));
    expect(new Set(Array.from({ length: 20 }, (_, seed) => again(seed).choices)).size).toBe(20);
  });

  it('replays from its schedule, hardware and all', () => {
    for (let seed = 0; seed < 30; seed++) {
      const recorded = play(new AdversarialChooser(random(seed)));
      expect(play(new ReplayChooser(recorded.choices))).toEqual(recorded);
    }
  });

  it('does nothing at rate 0 and always something at rate 1', () => {
    const rates = { fill: 0, drain: 1 };
    const { log } = play(new AdversarialChooser(random(3), { rates, tasks: new FifoChooser() }));
    expect(log).toMatch(/^(a0[12]b0[12])*$/);
    const { choices } = play(new AdversarialChooser(random(3), { rates: { fill: 0, drain: 0 } }));
    expect(choices).toContain('<4>');
    expect(choices).not.toContain('[');
  });

  it('refuses a rate that is no chance, naming it', () => {
    expect(() => new AdversarialChooser(random(1), { rates: { evict: 1.5 } })).toThrow('rates.evict 1.5');
  });
});

describe('a schedule with hardware', () => {
  it('comes back from text as it was', () => {
    const choice = fc.oneof(fc.nat(40), fc.constant(-1), fc.integer({ min: -50, max: -1 }));
    fc.assert(
      fc.property(fc.array(choice), (choices) => {
        expect(parseChoices(formatChoices(choices))).toEqual(choices);
      }),
    );
    expect(formatChoices([0, -1, 10, -1, -1, -1, -3, 36, -2])).toBe('0.a<3>[2](36)[1]');
  });

  it('is refused where the program asks about something else than it recorded', () => {
    expect(() => new ReplayChooser('[1]').choose(2, 'task')).toThrow(
      "replay: choice 1 is the hardware's, but the program asks about a task: not the program that was recorded",
    );
    expect(() => new ReplayChooser('1.').choose(2, 'fill')).toThrow(
      "choice 1 is a task's, but the program asks about a",
    );
    expect(() => new ReplayChooser('[3]').choose(3, 'fill')).toThrow('choice 1 is 3 of 3');
  });

  it.each([
    ['0<', 'schedule: "<" at position 1 is no choice'],
    ['[]', 'schedule: "[]" at position 0 is no choice'],
    ['<99999999999>', 'is longer than'],
  ])('refuses the text %j', (text, message) => {
    expect(() => new ReplayChooser(text)).toThrow(message);
  });
});
