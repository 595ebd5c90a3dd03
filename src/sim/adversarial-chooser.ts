/**
 * A chooser against the program: tasks in any order, and hardware that does what it is allowed to do, now and then.
 * What goes wrong under it is wrong on some machine; its schedule replays it.
 */
import { assert } from '../base/assert.ts';
import type { RandomSource } from '../base/random.ts';
import { type ChoicePoint, type Chooser, type HardwarePoint, RandomChooser } from './chooser.ts';

/** How an {@link AdversarialChooser} plays. */
export interface AdversarialOptions {
  /** Picks the tasks. Default: any of them, with equal chance. */
  readonly tasks?: Chooser;
  /** Chance in [0, 1] that hardware does something, by point; the others keep their defaults. */
  readonly rates?: Partial<Readonly<Record<HardwarePoint, number>>>;
}

/** Chances by point: at every access something small, rarely all at once. */
const RATES: Readonly<Record<HardwarePoint, number>> = {
  fill: 0.3,
  evict: 0.1,
  clean: 0.1,
  victim: 0.2,
  drain: 0.2,
  'device-cache': 0.1,
  page: 0.5,
  line: 0.5,
  bytes: 0.3,
};

/** Tasks in any order and free hardware, from one seeded stream: the same stream, the same schedule. */
export class AdversarialChooser implements Chooser {
  readonly choosesHardware = true;
  readonly #random: RandomSource;
  readonly #tasks: Chooser;
  readonly #rates: Readonly<Record<HardwarePoint, number>>;

  /** @throws {InvariantError} a rate outside [0, 1]. */
  constructor(random: RandomSource, options: AdversarialOptions = {}) {
    this.#random = random;
    this.#tasks = options.tasks ?? new RandomChooser(random);
    this.#rates = { ...RATES, ...options.rates };
    for (const [point, rate] of Object.entries(this.#rates)) {
      assert(rate >= 0 && rate <= 1, 'AdversarialChooser: rates.%s %s is not in [0, 1]', point, rate);
    }
  }

  choose(count: number, point: ChoicePoint): number {
    if (point === 'task') return this.#tasks.choose(count, point);
    return this.#random.float() < this.#rates[point] ? 1 + this.#random.int(count - 1) : 0;
  }
}
