/** Random programs of reservations, against a model that keeps plain lists and the documented rules. */
import { describe, expect, it } from 'vitest';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { DmaFenceArray } from '../../src/dmabuf/dma-fence-array.ts';
import { allocDmaFenceContext, countLiveDmaFences } from '../../src/dmabuf/dma-fence-world.ts';
import { DmaResv, type DmaResvUsageValue } from '../../src/dmabuf/dma-resv.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator } from '../../src/sim/simulator.ts';

/** Random programs; 50 times as many with DMABUF_SIM_RUNS=50. */
const RUNS = 60 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1);
const STEPS = 60;
const USAGES: readonly DmaResvUsageValue[] = [0, 1, 2, 3];
/** Sizes of the allocator up to two pages. */
const SIZES = [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192];

interface Slot {
  fence: DmaFence;
  usage: number;
}

/** One reservation and what it must hold. */
class Pair {
  readonly resv: DmaResv;
  slots: Slot[] = [];
  room = 0;

  constructor(sim: Simulator, name: string) {
    this.resv = new DmaResv(sim, name);
  }

  reserve(count: number): void {
    if (this.room > 0 && this.slots.length + count <= this.room) return;
    let power = 1;
    while (power < count) power *= 2;
    const least = this.room > 0 ? Math.max(this.slots.length + count, this.room * 2) : Math.max(4, power);
    this.room = ((SIZES.find((bytes) => bytes >= 24 + 8 * least) ?? 0) - 24) / 8;
    this.slots = this.slots.filter(({ fence }) => !fence.signaled);
  }

  add(fence: DmaFence, usage: number): void {
    const slot = this.slots.find(
      (old) =>
        old.fence.signaled ||
        (old.fence.context === fence.context &&
          old.usage >= usage &&
          (old.fence === fence || ((fence.seqno - old.fence.seqno) | 0) > 0)),
    );
    if (slot === undefined) this.slots.push({ fence, usage });
    else Object.assign(slot, { fence, usage });
  }
}

class Program {
  readonly sim = new Simulator();
  readonly fences: DmaFence[] = [];
  readonly #prng: Prng;
  readonly #contexts = [0, 1, 2, 3].map((i) => ({
    context: allocDmaFenceContext(this.sim, `c${i}`),
    next: 2 ** 32 - i * i,
  }));
  readonly pairs = [new Pair(this.sim, 'r0'), new Pair(this.sim, 'r1')];

  constructor(seed: number) {
    this.#prng = new Prng(seed).fork('program');
    this.#fence();
  }

  step(): void {
    const pair = this.#pick(this.pairs);
    const usage = this.#pick(USAGES);
    const [add, what] = [() => this.#add(pair, usage), this.#prng.int(9)];
    if (what <= 3) this.sim.run(() => pair.resv.withLock(add));
    else if (what === 4) this.#pick(this.fences).signal();
    else if (what === 5) this.#replace(pair, usage);
    else if (what === 6) this.#copy(pair);
    else if (what === 7) this.#fence();
    else this.#query(pair, usage);
    this.#compare(pair);
  }

  #fence(): void {
    const timeline = this.#pick(this.#contexts);
    this.fences.push(new DmaFence(this.sim, timeline.context, timeline.next++ % 2 ** 32));
  }

  #add(pair: Pair, usage: DmaResvUsageValue): void {
    const count = 1 + this.#prng.int(this.#prng.int(8) === 0 ? 40 : 4);
    pair.resv.reserveFences(count);
    pair.reserve(count);
    for (let i = this.#prng.int(count + 1); i > 0; i--) {
      const fence = this.#pick(this.fences);
      pair.resv.addFence(fence, usage);
      pair.add(fence, usage);
    }
  }

  #replace(pair: Pair, usage: DmaResvUsageValue): void {
    const { context } = this.#pick(this.#contexts);
    const replacement = this.#pick(this.fences);
    this.sim.run(() => pair.resv.withLock(() => pair.resv.replaceFences(context, replacement, usage)));
    for (const slot of pair.slots) {
      if (slot.fence.context === context) Object.assign(slot, { fence: replacement, usage });
    }
  }

  #copy(pair: Pair): void {
    const from = this.#pick(this.pairs);
    this.sim.run(() => pair.resv.withLock(() => pair.resv.copyFences(from.resv)));
    const { length } = from.slots;
    pair.slots = from.slots.filter(({ fence }) => !fence.signaled).map((slot) => ({ ...slot }));
    const bytes = SIZES.find((size) => size >= 24 + 8 * length) ?? 0;
    pair.room = pair.slots.length > 0 ? (bytes - 24) / 8 : 0;
  }

  #query({ resv, slots }: Pair, usage: DmaResvUsageValue): void {
    const pending = slots.filter((slot) => slot.usage <= usage && !slot.fence.signaled).map(({ fence }) => fence);
    const names = (fences: readonly DmaFence[]): string => fences.map(({ name }) => name).join();
    const isIdle = pending.length === 0;
    const singleton = resv.getSingleton(usage);
    const parts = singleton instanceof DmaFenceArray ? singleton.fences : singleton === null ? [] : [singleton];
    expect([
      names(resv.fences(usage)),
      names(parts),
      resv.testSignaled(usage),
      this.sim.run(() => resv.waitTimeout(usage, 0)),
    ]).toEqual([names(pending), names(pending), isIdle, isIdle ? 1 : 0]);
    singleton?.put();
  }

  #compare({ resv, slots }: Pair): void {
    const text = (list: readonly { readonly fence: DmaFence; readonly usage: number }[]): string =>
      list.map(({ fence, usage }) => `${fence.name}/${usage}`).join();
    const listed = this.sim.run(() => resv.withLock<string>(() => text(resv.entries())));
    if (listed !== text(slots)) expect(listed).toBe(text(slots));
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#prng.int(from.length)] ?? expect.fail('nothing to pick from');
  }
}

describe('random programs of reservations', () => {
  it('list what the rules say, answer alike to every query, and keep exactly one reference a slot', () => {
    let longest = 0;
    for (let seed = 1; seed <= RUNS; seed++) {
      const program = new Program(seed);
      for (let step = 0; step < STEPS; step++) program.step();
      for (const { resv, slots } of program.pairs) {
        longest = Math.max(longest, slots.length);
        resv.fini();
      }
      const { sim, fences } = program;
      expect([seed, fences.filter(({ refs }) => refs !== 1).length]).toEqual([seed, 0]);
      for (const fence of fences) fence.put();
      expect([seed, countLiveDmaFences(sim), sim.hazards.length]).toEqual([seed, 0, 0]);
    }
    expect(longest).toBeGreaterThan(10);
  });
});
