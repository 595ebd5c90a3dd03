import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReadyQueue } from '../../src/sim/ready-queue.ts';
import { Task, type TaskHost, WaiterList } from '../../src/sim/task.ts';

/** For tasks that never run. */
const NO_HOST: TaskHost = {
  park() {
    throw new Error('never runs');
  },
  settleDebt: () => false,
  kill: () => undefined,
};

const task = (): Task<unknown> =>
  new Task(NO_HOST, { slot: 0, name: 't', id: 0, daemon: false, cpu: 0 }, () => undefined);

const step = fc.oneof(
  fc.record({ do: fc.constant('event' as const), count: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ do: fc.constant('task' as const), count: fc.integer({ min: 1, max: 10 }) }),
  fc.record({ do: fc.constant('chain' as const), count: fc.integer({ min: 1, max: 20 }) }),
  fc.record({ do: fc.constant('take' as const), count: fc.integer({ min: 1, max: 60 }) }),
  fc.record({ do: fc.constant('nth' as const), nth: fc.nat(40) }),
);

describe('ReadyQueue', () => {
  it('is a queue of tasks and events from which any task can be taken while a task is first, like an array', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
        const queue = new ReadyQueue();
        const model: (Task<unknown> | number)[] = [];
        let events = 0;
        const taken = (): Task<unknown> | number | null => {
          const first = queue.takeTask();
          return first ?? (queue.takeEvent() ? queue.takenArg : null);
        };
        for (const s of steps) {
          if (s.do === 'event') {
            for (let i = 0; i < s.count; i++) {
              queue.pushEvent(1 + (events % 3), events);
              model.push(events++);
            }
          } else if (s.do === 'task') {
            for (let i = 0; i < s.count; i++) {
              const one = task();
              queue.pushTask(one);
              model.push(one);
            }
          } else if (s.do === 'chain') {
            const list = new WaiterList();
            const members = Array.from({ length: s.count }, task);
            for (const one of members) list.push(one);
            queue.pushChain(list.first as Task<unknown>, list.last as Task<unknown>, list.length);
            list.release();
            model.push(...members);
          } else if (s.do === 'take') {
            for (let i = 0; i < s.count && model.length > 0; i++) {
              const wanted = model.shift();
              expect(taken()).toBe(wanted);
              if (typeof wanted === 'number') expect(queue.takenKind).toBe(1 + (wanted % 3));
            }
          } else {
            const tasks = typeof model[0] === 'number' ? [] : model.filter((entry) => typeof entry !== 'number');
            expect(queue.choices).toBe(tasks.length);
            const wanted = tasks[s.nth];
            if (wanted === undefined) continue;
            expect(queue.takeNthTask(s.nth)).toBe(wanted);
            model.splice(model.indexOf(wanted), 1);
          }
          expect(queue.isEmpty).toBe(model.length === 0);
        }
        for (const wanted of model) expect(taken()).toBe(wanted);
        expect([taken(), queue.isEmpty]).toEqual([null, true]);
      }),
      { numRuns: 100 },
    );
  });
});
