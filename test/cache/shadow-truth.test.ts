import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HazardFacts, LostWriteFacts } from '../../src/base/hazards.ts';
import { CacheModel, physOfLine } from './cache-model.ts';
import { LINE, Machine } from './machine.ts';
import { distinctPrograms, isRead, isWrite, LINES, luckyPrograms, runStep, type Step, TINY } from './programs.ts';

const SHAPE = { sets: 2, ways: 2, entries: 2 };

/** What every byte would be if there were no caches, and who wrote it. */
class IdealMemory {
  readonly values = new Array<number>(LINES * LINE).fill(0);
  readonly writers = new Array<string>(LINES * LINE).fill('nobody');

  run(step: Step): void {
    if (!isWrite(step)) return;
    this.values.fill(step.value, step.offset, step.offset + step.length);
    const devices: Partial<Record<Step['op'], string>> = { 'device-write': 'camera0', 'snooping-write': 'nic0' };
    this.writers.fill(devices[step.op] ?? 'app', step.offset, step.offset + step.length);
  }
}

function staleOf(hazards: readonly HazardFacts[]): readonly object[] {
  return hazards.filter((facts) => 'staleLines' in facts);
}

describe('the shadow tells the truth', () => {
  for (const [name, programs] of [
    ['of its own', distinctPrograms],
    ['that repeat', luckyPrograms],
  ] as const) {
    it(`reports a read exactly if a byte asked for is not the one written last (values ${name})`, () => {
      fc.assert(
        fc.property(programs, (steps) => {
          const machine = new Machine(TINY);
          const ideal = new IdealMemory();
          const model = new CacheModel(LINES, SHAPE);
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
            const byDevice = step.op === 'device-read' || step.op === 'snooping-read';
            expect(stale).toEqual([
              expect.objectContaining({
                hazard: byDevice ? 'device-read.stale' : 'cpu-read.stale',
                staleBytes: wrong.length,
                staleLines: lines.size,
                phys: physOfLine(Math.floor(first / LINE)),
                writer: expect.objectContaining({ who: ideal.writers[first] }),
              }),
            ]);
            // A cached read may push lines out after it has read them.
            if (step.op === 'cached-read' || name !== 'of its own') continue;
            expect(stale).toMatchObject([{ newestIn: model.placeOf(first, ideal.values[first] ?? 0) }]);
          }
        }),
        { numRuns: 300 },
      );
    });
  }

  it('reports a loss exactly if the last copy of a byte written last is gone', () => {
    fc.assert(
      fc.property(distinctPrograms, (steps) => {
        const machine = new Machine(TINY);
        const ideal = new IdealMemory();
        const model = new CacheModel(LINES, SHAPE);
        for (const step of steps) {
          const held = ideal.values.map((value, offset) => model.copies(offset).includes(value));
          const writers = [...ideal.writers];
          ideal.run(step);
          model.run(step);
          runStep(machine, step);
          // A byte that the step itself writes can not be judged from outside.
          const judged = (offset: number) =>
            !isWrite(step) || offset < step.offset || offset >= step.offset + step.length;
          const lost = ideal.values.flatMap((value, offset) =>
            held[offset] && judged(offset) && !model.copies(offset).includes(value) ? [offset] : [],
          );
          const found = machine.takeHazards().filter((facts) => 'lostLines' in facts);
          for (const kind of ['cpu', 'device'] as const) {
            const bytes = lost.filter((b) => (writers[b] === 'app' ? 'cpu' : 'device') === kind);
            const lines = new Set(bytes.map((b) => Math.floor(b / LINE)));
            const facts = found.filter((f) => f.hazard === `${kind}-write.lost`);
            if (isWrite(step)) expect(facts[0]?.lostLines ?? 0).toBeGreaterThanOrEqual(lines.size);
            else expect(facts.map(summaryOf)).toEqual(lines.size === 0 ? [] : [expectedOf(lines, writers, bytes)]);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

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
  return 'staleBytes' in facts ? { ...facts, staleBytes: 0 } : facts;
}

function summaryOf(facts: LostWriteFacts): readonly unknown[] {
  return [facts.lostLines, facts.phys, facts.writer.who];
}

function expectedOf(lines: ReadonlySet<number>, writers: readonly string[], bytes: readonly number[]): unknown[] {
  return [lines.size, physOfLine(Math.min(...lines)), writers[Math.min(...bytes)]];
}
