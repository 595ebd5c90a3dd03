import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { transferInChunks, transferNs } from '../../src/sim/access.ts';
import { Simulator } from '../../src/sim/simulator.ts';

/** The slow obvious one. */
function exactNs(bytes: number, bytesPerSecond: number): number {
  const product = BigInt(bytes) * 1_000_000_000n;
  const rate = BigInt(bytesPerSecond);
  return Number((product + rate - 1n) / rate);
}

describe('transferNs', () => {
  it('is exact for all sizes and rates', () => {
    const bytes = fc.oneof(fc.nat(10_000), fc.integer({ min: 0, max: 2 ** 50 }));
    const rate = fc.oneof(
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 1_000_000, max: 2 ** 31 - 1 }),
      fc.integer({ min: 1, max: 9e12 }),
      fc.constantFrom(1, 3, 1e9, 1e9 - 1, 1e9 + 1, 9e12),
    );
    fc.assert(
      fc.property(bytes, rate, (n, bytesPerSecond) => {
        const wanted = exactNs(n, bytesPerSecond);
        fc.pre(Number.isSafeInteger(wanted));
        expect(transferNs(n, bytesPerSecond)).toBe(wanted);
      }),
      { numRuns: 2000 },
    );
    expect([transferNs(0, 5), transferNs(1, 1e9), transferNs(1, 2e9), transferNs(3, 1)]).toEqual([0, 1, 1, 3e9]);
  });

  it('refuses sizes and rates outside its range', () => {
    for (const bad of [-1, 0.5, Number.NaN]) expect(() => transferNs(bad, 1)).toThrow(`transferNs: bytes ${bad}`);
    for (const bad of [0, -1, 0.5, 9e12 + 1, Number.NaN]) {
      expect(() => transferNs(1, bad)).toThrow(`transferNs: bytesPerSecond ${bad}`);
    }
  });
});

describe('transferInChunks', () => {
  it('does each chunk when it has been moved, and ends without drift', () => {
    fc.assert(
      fc.property(
        fc.nat(5000),
        fc.integer({ min: 1, max: 6000 }),
        fc.integer({ min: 1e6, max: 9e9 }),
        fc.nat(100),
        (bytes, chunkBytes, bytesPerSecond, debt) => {
          const sim = new Simulator();
          let moved = 0;
          let steps = 0;
          sim.run(function* () {
            sim.charge(debt);
            yield* transferInChunks(sim, { bytes, chunkBytes, bytesPerSecond }, (offset, length) => {
              expect([offset, length]).toEqual([moved, Math.min(chunkBytes, bytes - moved)]);
              moved += length;
              steps++;
              expect(sim.now).toBe(debt + exactNs(moved, bytesPerSecond));
              return undefined;
            });
          });
          expect([moved, steps]).toEqual([bytes, Math.ceil(bytes / chunkBytes)]);
          expect(sim.now).toBe(debt + exactNs(bytes, bytesPerSecond));
        },
      ),
      { numRuns: 100 },
    );
  });

  it('lets others run between chunks, and none within one batch', () => {
    const seen = [100, 1000].map((chunkBytes) => {
      const sim = new Simulator();
      const log: string[] = [];
      sim.spawn('other', function* () {
        yield* sim.delay(450);
        log.push('other');
      });
      sim.run(() =>
        transferInChunks(sim, { bytes: 1000, chunkBytes, bytesPerSecond: 1e9 }, (offset) => {
          log.push(String(offset));
          return undefined;
        }),
      );
      return log.join(' ');
    });
    expect(seen).toEqual(['0 100 200 300 other 400 500 600 700 800 900', 'other 0']);
  });

  it('lets what a step charges run beside the transfer, and waits for it only when it takes longer', () => {
    for (const [charged, wanted] of [
      [50, [100, 200, 300]],
      [150, [100, 250, 400]],
    ] as const) {
      const sim = new Simulator();
      const times: number[] = [];
      sim.run(() =>
        transferInChunks(sim, { bytes: 300, chunkBytes: 100, bytesPerSecond: 1e9 }, () => {
          times.push(sim.now);
          sim.charge(charged);
          return undefined;
        }),
      );
      expect([times, sim.now]).toEqual([wanted, (wanted.at(-1) ?? 0) + charged]);
    }
  });

  it('ends with the error of a step, or when the task is killed', () => {
    const sim = new Simulator();
    let steps = 0;
    const plan = { bytes: 300, chunkBytes: 100, bytesPerSecond: 1e9 };
    const step = (): undefined => {
      if (++steps === 2) throw new Error('fault');
    };
    expect(() => sim.run(() => transferInChunks(sim, plan, step))).toThrow('fault');
    expect([steps, sim.now]).toEqual([2, 200]);
    steps = 2;
    sim.run(function* () {
      const task = sim.spawn('t', () => transferInChunks(sim, plan, step));
      yield* sim.delay(150);
      task.kill();
      expect([yield* task.exit, steps, sim.now]).toEqual(['killed', 3, 350]);
    });
  });

  it('refuses a bad plan before anything has moved', () => {
    const plan = { bytes: 10, chunkBytes: 10, bytesPerSecond: 10 };
    const bad = [{ bytes: -1 }, { bytes: 0.5 }, { chunkBytes: 0 }, { chunkBytes: 1.5 }, { bytesPerSecond: 0 }];
    for (const change of bad) {
      const sim = new Simulator();
      const never = (): never => {
        throw new Error('moved');
      };
      const key = Object.keys(change)[0] as string;
      expect(() => sim.run(() => transferInChunks(sim, { ...plan, ...change }, never))).toThrow(key);
      expect(sim.now).toBe(0);
    }
  });
});
