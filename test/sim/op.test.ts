import { describe, expect, it } from 'vitest';
import { Event, Signal } from '../../src/sim/event.ts';
import { isOp, lift, type Op } from '../../src/sim/op.ts';
import { Simulator } from '../../src/sim/simulator.ts';

describe('isOp', () => {
  it('tells operations from plain values, other iterables among them', () => {
    const sim = new Simulator();
    const task = sim.spawn('t', () => 1);
    const generator = (function* (): Op<void> {})();
    for (const op of [generator, new Event(sim), new Signal(sim), task.done, task.exit, sim.delay(1)]) {
      expect(isOp<unknown>(op)).toBe(true);
    }
    const plain = [undefined, null, 0, 'text', [], new Map(), new Set(), {}, new Uint8Array(1), () => generator, task];
    for (const value of plain) expect(isOp<unknown>(value)).toBe(false);
  });
});

describe('lift', () => {
  it('passes a plain value through at once and waits for an operation', () => {
    const sim = new Simulator();
    const body = function* (): Op<string> {
      yield* sim.delay(5);
      return 'op';
    };
    const seen = sim.run(function* () {
      const first = yield* lift<number>(3);
      const list = yield* lift<number[]>([4]);
      const at = sim.now;
      const second = yield* lift(body());
      return [first, list, at, second, sim.now];
    });
    expect(seen).toEqual([3, [4], 0, 'op', 5]);
  });
});
