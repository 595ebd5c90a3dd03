import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CacheModel } from './cache-model.ts';
import { at, LINE, Machine } from './machine.ts';
import {
  bigMachines,
  bigPrograms,
  distinctPrograms,
  LINES,
  luckyPrograms,
  modelOf,
  runStep,
  type Step,
  TINY,
} from './programs.ts';

const SHAPE = { sets: 2, ways: 2, entries: 2 };

describe('CoherencyDomain against a model of arrays', () => {
  it('returns every byte that the model predicts, through every kind of access', () => {
    fc.assert(
      fc.property(distinctPrograms, (steps) => {
        const machine = new Machine(TINY);
        const model = new CacheModel(LINES, SHAPE);
        for (const step of steps) expect(runStep(machine, step)).toEqual(model.run(step));
        expect(memoryOf(machine)).toEqual(model.memory);
        expect(machine.domain.cache.validLines).toBe(model.cpu.lines.length);
        expect(machine.domain.cache.dirtyLines).toBe(model.cpu.lines.filter((line) => line.dirty).length);
        expect(machine.domain.pendingLines).toBe(model.buffers.length);
      }),
      { numRuns: 300 },
    );
  });

  it('does so with a system cache, a device cache, two CPUs and every policy', () => {
    fc.assert(
      fc.property(bigMachines, bigPrograms, (options, steps) => {
        const machine = new Machine(options);
        const { gpuCache, domain } = machine;
        const model = modelOf(options);
        for (const step of steps) expect(runStep(machine, step)).toEqual(model.run(step));
        expect(memoryOf(machine)).toEqual(model.memory);
        expect(domain.cache.validLines).toBe(model.cpu.lines.length);
        expect(domain.systemCache?.dirtyLines).toBe(model.system?.lines.filter((line) => line.dirty).length);
        expect(gpuCache.dirtyLines).toBe(model.gpu?.lines.filter((line) => line.dirty).length);
        expect(domain.pendingLines).toBe(model.buffers.length);
      }),
      { numRuns: 400 },
    );
  });

  it('peeks at what a read would return, and changes nothing by it', () => {
    fc.assert(
      fc.property(distinctPrograms, (steps) => {
        const machine = new Machine(TINY);
        const model = new CacheModel(LINES, SHAPE);
        const cached = machine.view('cached', undefined, LINES * LINE);
        const uncached = machine.view('uncached', undefined, LINES * LINE);
        for (const step of steps) {
          runStep(machine, step);
          model.run(step);
          const counters = { ...machine.domain.cache.counters };
          expect([...cached.peek(0, LINES * LINE)]).toEqual(model.memory.map((_, b) => model.peek(b, true)));
          expect([...uncached.peek(0, LINES * LINE)]).toEqual(model.memory.map((_, b) => model.peek(b, false)));
          expect(machine.domain.cache.counters).toEqual(counters);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('returns the same bytes without a shadow, reports nothing then and keeps no records', () => {
    fc.assert(
      fc.property(luckyPrograms, (steps) => {
        const watched = new Machine(TINY);
        const alone = new Machine({ ...TINY, shadow: false });
        for (const step of steps) expect(runStep(alone, step)).toEqual(runStep(watched, step));
        expect(memoryOf(alone)).toEqual(memoryOf(watched));
        expect(alone.sim.hazards).toEqual([]);
        expect(alone.domain.splitLines).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('leaves the same state behind whether a hazard is thrown or recorded', () => {
    fc.assert(
      fc.property(distinctPrograms, (steps) => {
        const recording = new Machine(TINY);
        const throwing = new Machine({ ...TINY, policy: 'throw' });
        for (const step of steps) expect(runStep(throwing, step)).toEqual(runStep(recording, step));
        expect(memoryOf(throwing)).toEqual(memoryOf(recording));
        expect(throwing.domain.cache.counters).toEqual(recording.domain.cache.counters);
      }),
      { numRuns: 60 },
    );
  });

  it('puts a long write-combined write where the same write in small pieces ends', () => {
    fc.assert(
      fc.property(fc.nat(100), fc.integer({ min: 700, max: 1500 }), fc.nat(700), (offset, length, before) => {
        const early: Step = { op: 'wc-write', offset: before, length: 40, value: 9 };
        const whole = new Machine(TINY);
        const pieces = new Machine(TINY);
        runStep(whole, early);
        runStep(pieces, early);
        runStep(whole, { op: 'wc-write', offset, length, value: 7 });
        for (let done = 0; done < length; done += 50) {
          runStep(pieces, { op: 'wc-write', offset: offset + done, length: Math.min(50, length - done), value: 7 });
        }
        expect(memoryOf(whole)).toEqual(memoryOf(pieces));
        expect(whole.domain.pendingLines).toBe(pieces.domain.pendingLines);
        whole.domain.barrier();
        pieces.domain.barrier();
        expect(memoryOf(whole)).toEqual(memoryOf(pieces));
        expect(whole.sim.hazards).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });
});

function memoryOf(machine: Machine): number[] {
  const out = new Uint8Array(LINES * LINE);
  machine.memory.read(at(0), out, 0, out.length);
  return [...out];
}
