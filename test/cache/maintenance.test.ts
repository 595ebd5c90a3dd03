import { describe, expect, it } from 'vitest';
import { InvariantError } from '../../src/base/assert.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import { freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { app, at, BASE, bytesOf, kernel, LINE, Machine } from './machine.ts';

const STRIDE = 4 * LINE;
/** The left half of 4 rows. */
const rect = { phys: BASE, rowBytes: 2 * LINE, strideBytes: STRIDE, rows: 4 };

describe('maintenance of a rectangle', () => {
  it('acts on the lines of its rows and leaves those between them alone', () => {
    const machine = new Machine();
    machine.view('cached').write(0, bytesOf(4 * STRIDE, 5));
    expect(machine.domain.maintainRect('clean', rect, app)).toEqual({
      ...{ lines: 8, cleaned: 8, invalidated: 0, writtenBackBytes: 8 * LINE },
    });
    expect(machine.domain.cache.dirtyLines).toBe(8);
    expect(machine.deviceGets(at(STRIDE), 2 * LINE)).toEqual(bytesOf(2 * LINE, 5));
    expect(machine.takeHazards()).toEqual([]);
    expect(machine.domain.maintainRect('invalidate', rect, app)).toMatchObject({ lines: 8, invalidated: 8 });
    expect(machine.domain.cache.validLines).toBe(8);
    expect(machine.takeHazards()).toEqual([]);
  });

  it('counts what each call did, and all of them together', () => {
    const machine = new Machine();
    machine.view('cached').write(0, bytesOf(LINE, 5));
    machine.domain.clean(BASE, 2 * LINE);
    machine.domain.maintainRect('clean-invalidate', { ...rect, rows: 1 });
    expect(machine.domain.maintained).toEqual({
      ...{ lines: 4, cleaned: 1, invalidated: 1, writtenBackBytes: LINE },
    });
  });

  it('counts bytes that reach memory once though they pass through a system cache', () => {
    const machine = new Machine({ systemCache: {} });
    machine.view('cached').write(0, bytesOf(LINE, 5));
    expect(machine.domain.maintainRect('clean', { ...rect, rows: 1 })).toEqual({
      ...{ lines: 2, cleaned: 2, invalidated: 0, writtenBackBytes: LINE },
    });
  });

  it('charges the lines of every row and one barrier', () => {
    const costs = { ...freeCacheCosts, cleanLineNs: 20, invalidateLineNs: 5, barrierNs: 1000 };
    const machine = new Machine({ costs });
    machine.sim.run(() => machine.domain.maintainRect('clean', rect));
    expect(machine.sim.now).toBe(1160);
    machine.sim.run(() => machine.domain.maintainRect('invalidate', { ...rect, rowBytes: 1 }));
    expect(machine.sim.now).toBe(2180);
  });

  it('refuses a rectangle that is none, or leaves memory, before anything happens', () => {
    const machine = new Machine();
    machine.view('cached').write(0, bytesOf(LINE, 5));
    const { domain } = machine;
    expect(() => domain.maintainRect('clean', { ...rect, strideBytes: LINE })).toThrow(InvariantError);
    expect(() => domain.maintainRect('clean', { ...rect, rows: 1.5 })).toThrow(/rows 1.5/);
    expect(() => domain.maintainRect('clean', { ...rect, strideBytes: 32 * KIB })).toThrow(ErrnoError);
    expect(domain.cache.dirtyLines).toBe(1);
    expect(domain.maintainRect('clean', { ...rect, rows: 0 }).lines).toBe(0);
  });
});

describe('a neighbour in the same line', () => {
  it('is destroyed by an invalidate that was not asked for its bytes, and the report says so', () => {
    const machine = new Machine();
    machine.view('cached', kernel).write(32, bytesOf(64, 1));
    machine.domain.invalidate(BASE, 32, app);
    expect(machine.takeLost()).toMatchObject({ hazard: 'cache.neighbour-destroyed', phys: BASE, lostLines: 1 });
    machine.domain.invalidate(at(64), 32, app);
    expect(machine.takeLost()).toMatchObject({ hazard: 'cpu-write.lost', phys: at(64) });
  });

  it('is told apart from bytes that the invalidate was asked to drop', () => {
    const machine = new Machine();
    machine.view('cached', kernel).write(0, bytesOf(LINE, 1));
    machine.domain.invalidate(BASE, 32, app);
    const codes = machine.takeHazards().map(({ hazard }) => hazard);
    expect(codes.sort()).toEqual(['cache.neighbour-destroyed', 'cpu-write.lost']);
  });

  it('is none in another row of a rectangle', () => {
    const machine = new Machine();
    machine.view('cached').write(0, bytesOf(STRIDE, 5));
    machine.domain.clean(BASE, STRIDE);
    machine.domain.maintainRect('invalidate', { ...rect, rowBytes: 8, strideBytes: 8, rows: 8 }, app);
    expect(machine.takeHazards()).toEqual([]);
  });
});
