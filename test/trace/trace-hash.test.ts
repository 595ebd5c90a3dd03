import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TraceBus } from '../../src/trace/trace-bus.ts';
import type { TraceEvent } from '../../src/trace/trace-events.ts';
import { formatTraceEvent, TraceHash } from '../../src/trace/trace-hash.ts';

function digest(events: readonly TraceEvent[]): string {
  const bus = new TraceBus();
  const hash = new TraceHash(bus);
  for (const event of events) bus.emit(event);
  expect(hash.count).toBe(events.length);
  return hash.digest;
}

const choice = (timeNs: number, among: number, chosen: number): TraceEvent => ({
  kind: 'choice',
  timeNs,
  among,
  chosen,
});

const event: fc.Arbitrary<TraceEvent> = fc.oneof(
  fc.record({ kind: fc.constant('task.spawn' as const), timeNs: fc.nat(300), task: fc.string({ maxLength: 3 }) }),
  fc.record({ kind: fc.constant('task.kill' as const), timeNs: fc.nat(300), task: fc.string({ maxLength: 3 }) }),
  fc.tuple(fc.nat(300), fc.nat(40), fc.nat(40)).map(([timeNs, among, chosen]) => choice(timeNs, among, chosen)),
);

describe('TraceHash', () => {
  it('is 16 digits that depend on the events alone', () => {
    fc.assert(
      fc.property(fc.array(event), (events) => {
        expect(digest(events)).toMatch(/^[0-9a-f]{16}$/);
        expect(digest(events)).toBe(digest(events));
      }),
    );
  });

  it('differs for traces that differ in any event, its place or their number', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 8 }), fc.array(event, { maxLength: 8 }), (one, other) => {
        const text = (events: TraceEvent[]): string => events.map(formatTraceEvent).join('\n');
        fc.pre(text(one) !== text(other));
        expect(digest(one)).not.toBe(digest(other));
      }),
    );
    const events = Array.from({ length: 50 }, (_, i) => choice(i, 5, i % 5));
    const seen = new Set([digest(events), digest(events.slice(1)), digest([...events].reverse())]);
    for (let i = 0; i < events.length; i++) {
      seen.add(digest(events.toSpliced(i, 1)));
      seen.add(digest(events.with(i, choice(i, 5, (i % 5) + 1))));
      seen.add(digest(events.with(i, choice(i + 1000, 5, i % 5))));
    }
    expect(seen.size).toBe(3 + 3 * 50 - 1); // without the first event: once as a slice, once as a splice
  });

  it('tells apart where one event ends and the next begins', () => {
    expect(digest([choice(0, 5, 1), choice(23, 5, 1)])).not.toBe(digest([choice(0, 5, 12), choice(3, 5, 1)]));
  });

  it('folds nothing after it was closed', () => {
    const bus = new TraceBus();
    const hash = new TraceHash(bus);
    bus.emit(choice(1, 2, 0));
    const before = hash.digest;
    hash.close();
    bus.emit(choice(2, 2, 1));
    expect([hash.digest, hash.count, bus.enabled]).toEqual([before, 1, false]);
  });
});

describe('formatTraceEvent', () => {
  it('is one line with time, kind and every field in the order given', () => {
    expect(formatTraceEvent(choice(1200, 3, 2))).toBe('1200 choice among=3 chosen=2');
    expect(formatTraceEvent({ kind: 'task.end', timeNs: 0, task: 'gpu0', outcome: 'killed' })).toBe(
      '0 task.end task=gpu0 outcome=killed',
    );
  });
});
