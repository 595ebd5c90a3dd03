import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Simulator } from '../../src/sim/simulator.ts';
import { TraceColumns } from '../../src/trace/trace-columns.ts';

type Row = readonly [timeNs: number, kind: number, arg: number];

function rows(columns: TraceColumns): Row[] {
  return Array.from({ length: columns.length }, (_, i) => {
    const { timeNs, kind, arg } = columns.row(i);
    return [timeNs, kind, arg] as const;
  });
}

describe('TraceColumns', () => {
  it('as a ring keeps the newest rows, oldest first', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.nat(70), (ringRows, added) => {
        const columns = new TraceColumns(ringRows);
        const all: Row[] = [];
        for (let i = 0; i < added; i++) {
          columns.add(i * 1e10, i % 7, -1 - i);
          all.push([i * 1e10, i % 7, -1 - i]);
        }
        expect(rows(columns)).toEqual(all.slice(-ringRows));
        expect(columns.total).toBe(added);
      }),
    );
  });

  it('grows without a limit and loses nothing', () => {
    const columns = new TraceColumns();
    const count = 200_000;
    for (let i = 0; i < count; i++) columns.add(i, i % 5, i * 2);
    expect([columns.length, columns.total]).toEqual([count, count]);
    for (const i of [0, 65_535, 65_536, 131_072, count - 1]) {
      expect(columns.row(i)).toEqual({ timeNs: i, kind: i % 5, arg: i * 2 });
    }
  });

  it('refuses rows that it does not have, and a bad size', () => {
    const columns = new TraceColumns(2);
    expect(() => columns.row(0)).toThrow('row: 0 is not in [0, 0)');
    columns.add(1, 2, 3);
    for (const bad of [-1, 1, 0.5]) expect(() => columns.row(bad)).toThrow(`row: ${bad} is not in [0, 1)`);
    for (const bad of [-1, 0.5])
      expect(() => new TraceColumns(bad)).toThrow(`ringRows: ${bad} is no whole number >= 0`);
  });

  it('records every event that a scheduler dispatches, with its time', () => {
    const sim = new Simulator();
    const columns = new TraceColumns();
    sim.trace.recorder = columns;
    const kind = sim.eventKind(() => undefined);
    sim.schedule(10, kind, 42);
    sim.schedule(0, kind, 43);
    sim.run(() => sim.delay(20));
    sim.trace.recorder = null;
    sim.run(() => sim.delay(20));
    const [zero, start, ten, twenty] = rows(columns);
    expect(columns.length).toBe(4);
    expect([zero, ten]).toEqual([
      [0, kind, 43],
      [10, kind, 42],
    ]);
    expect([start?.[0], twenty?.[0], start?.[1] === kind]).toEqual([0, 20, false]);
  });
});
