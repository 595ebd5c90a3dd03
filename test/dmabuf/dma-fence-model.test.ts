/** Random programs of fences, arrays and chains, against a model that knows only what each of them stands for. */
import { describe, expect, it } from 'vitest';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { DmaFenceArray } from '../../src/dmabuf/dma-fence-array.ts';
import { DmaFenceChain } from '../../src/dmabuf/dma-fence-chain.ts';
import type { DmaFenceCallback } from '../../src/dmabuf/dma-fence-ops.ts';
import { dmaFenceUnwrap, dmaFenceUnwrapMerge } from '../../src/dmabuf/dma-fence-unwrap.ts';
import { allocDmaFenceContext, countLiveDmaFences } from '../../src/dmabuf/dma-fence-world.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator } from '../../src/sim/simulator.ts';

/** Random programs; 50 times as many with DMABUF_SIM_RUNS=50. */
const RUNS = 100 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1);
const STEPS = 60;

/** What a fence stands for. `isOver` asks the model, never the library. */
interface Modelled {
  readonly fence: DmaFence;
  readonly kind: 'plain' | 'array' | 'chain';
  /** Signalled by hand. */
  signalled: boolean;
  /** What its parts say. */
  readonly partsAreOver: () => boolean;
  readonly callbacks: { readonly number: number; readonly callback: DmaFenceCallback }[];
}

class Program {
  readonly sim = new Simulator();
  readonly all: Modelled[] = [];
  readonly fired: number[] = [];
  readonly #prng: Prng;
  readonly #contexts = [0, 1, 2].map((i) => ({
    context: allocDmaFenceContext(this.sim, `c${i}`),
    next: 2 ** 32 - 3 * i,
  }));
  #callbacks = 0;

  constructor(seed: number) {
    this.#prng = new Prng(seed).fork('program');
    for (let i = 0; i < 3; i++) this.plain();
  }

  step(): void {
    const steps = [
      () => this.plain(),
      () => this.array(),
      () => this.chain(),
      () => this.add(),
      () => this.add(),
      () => this.remove(),
      () => this.signal(),
      () => this.signal(),
      () => this.ask(),
      () => this.merge(),
    ];
    this.fired.length = 0;
    const before = this.all.map(({ callbacks }) => callbacks.map(({ number }) => number));
    steps[this.#prng.int(steps.length)]?.();
    this.check(before);
  }

  plain(): void {
    const timeline = this.pick(this.#contexts);
    this.push('plain', new DmaFence(this.sim, timeline.context, timeline.next++ % 2 ** 32), () => false);
  }

  array(): void {
    const members = Array.from({ length: 1 + this.#prng.int(4) }, () => this.pick(this.of('plain')));
    const signalOnAny = this.#prng.int(2) === 0;
    const array = new DmaFenceArray(
      this.sim,
      members.map(({ fence }) => fence),
      { signalOnAny },
    );
    this.push('array', array, () => (signalOnAny ? members.some(isOver) : members.every(isOver)));
  }

  chain(): void {
    const prev = this.#prng.int(4) === 0 ? null : this.pick(this.all);
    const own = this.pick(this.all.filter(({ kind }) => kind !== 'chain'));
    const link = new DmaFenceChain(this.sim, prev?.fence ?? null, own.fence, 1 + this.#prng.int(5));
    // A link that was signalled by hand says nothing about its fence: who comes behind looks at that.
    const before = (): boolean => prev === null || (prev.kind === 'chain' ? prev.partsAreOver() : isOver(prev));
    this.push('chain', link, () => isOver(own) && before());
  }

  add(): void {
    const to = this.pick(this.all);
    const number = this.#callbacks++;
    const callback: DmaFenceCallback = () => {
      this.fired.push(number);
      return undefined;
    };
    const wasOver = isOver(to);
    expect(to.fence.addCallback(callback)).toBe(!wasOver);
    if (!wasOver) to.callbacks.push({ number, callback });
  }

  remove(): void {
    const from = this.pick(this.all);
    const last = from.callbacks.pop();
    if (last === undefined) return;
    expect([from.fence.removeCallback(last.callback), from.fence.removeCallback(last.callback)]).toEqual([true, false]);
  }

  signal(): void {
    const one = this.pick(this.all);
    const { signaled } = one.fence;
    one.signalled = true;
    expect(one.fence.signal()).toBe(!signaled);
  }

  ask(): void {
    const one = this.pick(this.all);
    expect([one.fence.isSignaled(), one.fence.getStatus()]).toEqual([isOver(one), isOver(one) ? 1 : 0]);
  }

  merge(): void {
    const parts = [this.pick(this.all), this.pick(this.all), this.pick(this.all)].map(({ fence }) => fence);
    const pending = parts.flatMap((fence) => dmaFenceUnwrap(fence)).filter((leaf) => !isOver(this.modelOf(leaf)));
    const merged = dmaFenceUnwrapMerge(this.sim, parts);
    const kept = dmaFenceUnwrap(merged);
    if (pending.length === 0) expect(merged.signaled).toBe(true);
    else {
      const best = new Map<object, DmaFence>();
      for (const leaf of pending) {
        const known = best.get(leaf.context);
        if (known === undefined || ((leaf.seqno - known.seqno) | 0) > 0) best.set(leaf.context, leaf);
      }
      const expected = [...best.values()].sort((a, b) => a.context.id - b.context.id);
      expect(kept.map(({ name }) => name)).toEqual(expected.map(({ name }) => name));
    }
    merged.put();
  }

  /** Callbacks have run exactly where something is over now, each once, those of one fence in their order. */
  check(before: readonly (readonly number[])[]): void {
    let count = 0;
    for (const [i, numbers] of before.entries()) {
      const one = this.all[i];
      if (one === undefined || numbers.length === 0) continue;
      const fired = this.fired.filter((number) => numbers.includes(number));
      const expected = isOver(one) ? numbers.filter((n) => one.callbacks.some(({ number }) => number === n)) : [];
      count += expected.length;
      if (fired.join() !== expected.join()) expect(fired).toEqual(expected);
      if (isOver(one)) one.callbacks.length = 0;
    }
    expect(this.fired.length).toBe(count);
  }

  push(kind: Modelled['kind'], fence: DmaFence, partsAreOver: () => boolean): void {
    this.all.push({ fence, kind, signalled: false, partsAreOver, callbacks: [] });
  }

  of(kind: Modelled['kind']): Modelled[] {
    return this.all.filter((one) => one.kind === kind);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.#prng.int(from.length)] ?? expect.fail('nothing to pick from');
  }

  modelOf(fence: DmaFence): Modelled {
    return this.all.find((one) => one.fence === fence) ?? expect.fail(`unknown fence ${fence.name}`);
  }
}

function isOver(one: Modelled): boolean {
  return one.signalled || one.partsAreOver();
}

describe('random programs of fences, arrays and chains', () => {
  it('call back when what they stand for is over, each callback once and in order, and leave no fence behind', () => {
    let callbacks = 0;
    for (let seed = 1; seed <= RUNS; seed++) {
      const program = new Program(seed);
      for (let step = 0; step < STEPS; step++) {
        program.step();
        callbacks += program.fired.length;
      }
      for (const { fence } of program.all) fence.signal();
      for (const { fence } of program.all) fence.put();
      expect([seed, countLiveDmaFences(program.sim), program.sim.hazards.length]).toEqual([seed, 0, 0]);
    }
    expect(callbacks).toBeGreaterThan(RUNS);
  });
});
