import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HazardFacts, LostWriteFacts } from '../../src/base/hazards.ts';
import { CacheModel, physOfLine } from './cache-model.ts';
import { LINE, Machine } from './machine.ts';
import {
  actorOf,
  type BigMachine,
  bigLuckyPrograms,
  bigMachines,
  bigPrograms,
  distinctPrograms,
  isRead,
  isWrite,
  LINES,
  luckyPrograms,
  modelOf,
  runStep,
  type Step,
  TINY,
} from './programs.ts';

const SHAPE = { sets: 2, ways: 2, entries: 2 };

/** What every byte would be if there were no caches, and who wrote it. */
class IdealMemory {
  readonly values = new Array<number>(LINES * LINE).fill(0);
  readonly writers = new Array<string>(LINES * LINE).fill('nobody');

  run(step: Step): void {
    if (!isWrite(step)) return;
    this.values.fill(step.value, step.offset, step.offset + step.length);
    this.writers.fill(actorOf(step), step.offset, step.offset + step.length);
  }
}

function staleOf(hazards: readonly HazardFacts[]): readonly object[] {
  return hazards.filter((facts) => 'staleLines' in facts);
}

const tiny = fc.constant(undefined);

/** So that what a drain destroys is told from what the invalidate itself does. */
function withBarrier(step: Step): Step[] {
  return destroysOthers(step) ? [{ ...step, op: 'barrier' }, step] : [step];
}

function destroysOthers({ op }: Step): boolean {
  return op === 'invalidate' || op === 'system-invalidate';
}

/** A machine with its model: the tiny one, or one of all kinds. */
function pairOf(options: BigMachine | undefined): { machine: Machine; model: CacheModel } {
  if (options === undefined) return { machine: new Machine(TINY), model: new CacheModel(LINES, SHAPE) };
  const machine = new Machine(options);
  expect(machine.gpuCache.validLines).toBe(0);
  return { machine, model: modelOf(options) };
}

describe('the shadow tells the truth', () => {
  for (const [name, machines, programs] of [
    ['values of its own', tiny, distinctPrograms],
    ['values that repeat', tiny, luckyPrograms],
    ['any machine', bigMachines, bigPrograms],
    ['any machine, values that repeat', bigMachines, bigLuckyPrograms],
  ] as const) {
    it(`reports a read exactly if a byte asked for is not the one written last (${name})`, () => {
      fc.assert(
        fc.property(machines, programs, (options, steps) => {
          const { machine, model } = pairOf(options);
          const ideal = new IdealMemory();
          for (const step of steps) {
            ideal.run(step);
            model.run(step);
            const wrong = runStep(machine, step).flatMap((value, i) =>
              value === ideal.values[step.offset + i] ? [] : [step.offset + i],
            );
            const stale = staleOf(machine.takeHazards());
            if (wrong.length === 0 || !isRead(step)) {
              expect(stale).toEqual([]);
              continue;
            }
            const lines = new Set(wrong.map((offset) => Math.floor(offset / LINE)));
            const [first = 0] = wrong;
            expect(stale).toEqual([
              expect.objectContaining({
                hazard: actorOf(step) === 'app' ? 'cpu-read.stale' : 'device-read.stale',
                staleBytes: wrong.length,
                staleLines: lines.size,
                phys: physOfLine(Math.floor(first / LINE)),
                writer: expect.objectContaining({ who: ideal.writers[first] }),
              }),
            ]);
            // A read through a cache may push lines out after it has read them.
            if (step.op === 'cached-read' || step.op === 'gpu-read' || name.includes('repeat')) continue;
            expect(stale).toMatchObject([{ newestIn: model.placeOf(first, ideal.values[first] ?? 0) }]);
          }
        }),
        { numRuns: 200 },
      );
    });
  }

  for (const [name, machines, programs] of [
    ['a small machine', tiny, distinctPrograms],
    ['any machine', bigMachines, bigPrograms],
  ] as const) {
    it(`reports a loss exactly if the last copy of a byte written last is gone (${name})`, () => {
      fc.assert(
        fc.property(machines, programs, (options, steps) => {
          const { machine, model } = pairOf(options);
          const ideal = new IdealMemory();
          let kept = ideal.values.map(() => true);
          for (const step of steps.flatMap(withBarrier)) {
            const held = kept;
            const writers = [...ideal.writers];
            ideal.run(step);
            model.run(step);
            runStep(machine, step);
            const isInside = (offset: number) => offset >= step.offset && offset < step.offset + step.length;
            // A byte that the step itself writes can not be judged from outside.
            kept = ideal.values.map((value, b) => model.copies(b).includes(value));
            const lost = kept.flatMap((isKept, b) =>
              held[b] && !isKept && !(isWrite(step) && isInside(b)) ? [b] : [],
            );
            const found = machine.takeHazards().filter((facts) => 'lostLines' in facts);
            const codeOf = (b: number): LostWriteFacts['hazard'] => {
              if (destroysOthers(step) && !isInside(b)) return 'cache.neighbour-destroyed';
              return writers[b] === 'app' ? 'cpu-write.lost' : 'device-write.lost';
            };
            for (const code of ['cpu-write.lost', 'device-write.lost', 'cache.neighbour-destroyed'] as const) {
              const bytes = lost.filter((b) => codeOf(b) === code);
              const lines = new Set(bytes.map((b) => Math.floor(b / LINE)));
              const facts = found.filter((f) => f.hazard === code);
              if (isWrite(step)) expect(facts[0]?.lostLines ?? 0).toBeGreaterThanOrEqual(lines.size);
              else expect(facts.map(summaryOf)).toEqual(lines.size === 0 ? [] : [expectedOf(lines, writers, bytes)]);
            }
          }
        }),
        { numRuns: 60 },
      );
    });
  }

  it('finds the same hazards without bytes', () => {
    fc.assert(
      fc.property(distinctPrograms, (steps) => {
        const bytes = new Machine(TINY);
        const tags = new Machine({ ...TINY, bytes: false });
        for (const step of steps) {
          runStep(bytes, step);
          runStep(tags, step);
          expect(tags.takeHazards()).toEqual(bytes.takeHazards().map(withoutByteCount));
        }
        expect(tags.domain.cache.counters).toEqual(bytes.domain.cache.counters);
        expect(bytes.domain.luckyReads).toBe(0);
        expect(tags.memory.allocatedBytes).toBe(0);
      }),
      { numRuns: 200 },
    );
  });

  it('finds the same hazards without bytes on any machine', () => {
    fc.assert(
      fc.property(bigMachines, bigPrograms, (options, steps) => {
        const bytes = new Machine(options);
        const tags = new Machine({ ...options, bytes: false });
        for (const step of steps) {
          runStep(bytes, step);
          runStep(tags, step);
          expect(tags.takeHazards().map(codeAndLine)).toEqual(bytes.takeHazards().map(codeAndLine));
        }
        expect(tags.gpuCache.counters).toEqual(bytes.gpuCache.counters);
        expect(tags.domain.systemCache?.counters).toEqual(bytes.domain.systemCache?.counters);
      }),
      { numRuns: 100 },
    );
  });

  it('keeps no records once all was written back, dropped and written anew', () => {
    fc.assert(
      fc.property(distinctPrograms, (steps) => {
        const machine = new Machine(TINY);
        for (const step of steps) runStep(machine, step);
        const all = { offset: 0, length: LINES * LINE, value: 200 };
        runStep(machine, { op: 'clean-invalidate', ...all });
        runStep(machine, { op: 'device-write', ...all });
        machine.takeHazards();
        expect(machine.domain.splitLines).toBe(0);
        runStep(machine, { op: 'cached-read', ...all });
        runStep(machine, { op: 'device-read', ...all });
        expect(machine.takeHazards()).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });
});

function withoutByteCount(facts: HazardFacts): HazardFacts {
  if (!('staleBytes' in facts) && !('lostLines' in facts)) return facts;
  const { values, ...rest } = facts;
  return 'staleBytes' in rest ? { ...rest, staleBytes: 0 } : rest;
}

function codeAndLine(facts: HazardFacts): readonly unknown[] {
  return [facts.hazard, 'phys' in facts ? facts.phys : undefined];
}

function summaryOf(facts: LostWriteFacts): readonly unknown[] {
  return [facts.lostLines, facts.phys, facts.writer.who];
}

function expectedOf(lines: ReadonlySet<number>, writers: readonly string[], bytes: readonly number[]): unknown[] {
  return [lines.size, physOfLine(Math.min(...lines)), writers[Math.min(...bytes)]];
}
