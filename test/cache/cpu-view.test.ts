import { describe, expect, it } from 'vitest';
import { physAddr } from '../../src/base/addr.ts';
import { InvariantError } from '../../src/base/assert.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import { CpuView } from '../../src/cache/cpu-view.ts';
import { app, at, BASE, bytesOf, LINE, Machine } from './machine.ts';

describe('CpuView', () => {
  it('shows its extents in a row, in their own order', () => {
    const { machine, view } = scattered();
    view.write(0, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    machine.domain.clean(BASE, 8 * KIB);
    expect([...machine.deviceGets(at(4 * KIB), 3)]).toEqual([1, 2, 3]);
    expect([...machine.deviceGets(BASE, 4)]).toEqual([4, 5, 6, 7]);
    expect([...machine.deviceGets(at(6 * KIB), 1)]).toEqual([8]);
    const out = new Uint8Array(4);
    view.read(2, out, 1, 3);
    expect([...out]).toEqual([0, 3, 4, 5]);
    expect(view.physAt(2)).toBe(at(4 * KIB + 2));
    expect(view.physAt(3)).toBe(BASE);
    expect(view.sizeBytes).toBe(3 + 4 + 2);
  });

  it('makes one report of a read over several extents', () => {
    const { machine, view } = scattered();
    view.read(0, new Uint8Array(9));
    machine.devicePuts(BASE, 8 * KIB, 7);
    view.read(0, new Uint8Array(9));
    expect(machine.takeStale()).toMatchObject({ phys: BASE, staleLines: 3, staleBytes: 9 });
  });

  it('counts a line once though several extents lie in it', () => {
    const machine = new Machine();
    const extents = [0, 8, 16].map((offset) => ({ phys: at(offset), sizeBytes: 4 }));
    const view = new CpuView(machine.domain, { extents, attribute: 'uncached', accessor: app });
    machine.view('cached').write(0, bytesOf(LINE, 1));
    view.read(0, new Uint8Array(12));
    expect(machine.takeStale()).toMatchObject({ staleLines: 1, staleBytes: 12 });
  });

  it('refuses an access that leaves it with EFAULT, naming offset and size, and does nothing', () => {
    const { machine, view } = scattered();
    expect(() => view.write(8, bytesOf(2, 1))).toThrow(ErrnoError);
    expect(() => view.read(-1, new Uint8Array(1))).toThrow(/1 bytes at offset -1 leave the view of 9 bytes/);
    expect(() => view.peek(9)).toThrow(/EFAULT/);
    expect(() => view.physAt(9)).toThrow(/EFAULT/);
    expect(() => view.read(0.5, new Uint8Array(1))).toThrow(InvariantError);
    expect(machine.domain.cache.validLines).toBe(0);
    view.read(9, new Uint8Array(0));
  });

  it('can not be made of nothing or of what is no memory', () => {
    const { domain } = new Machine();
    const view = (phys: number, sizeBytes: number) =>
      new CpuView(domain, { extents: [{ phys: physAddr(phys), sizeBytes }], attribute: 'cached', accessor: app });
    expect(() => new CpuView(domain, { extents: [], attribute: 'cached', accessor: app })).toThrow(/extents is empty/);
    expect(() => view(BASE, 0)).toThrow(/extents\[0\]\.sizeBytes 0/);
    expect(() => view(0x1000, 1)).toThrow(/EFAULT/);
  });

  it('pokes a byte into memory and every copy of it, so that nobody sees an old one', () => {
    const machine = new Machine();
    const cached = machine.view('cached');
    cached.write(0, bytesOf(LINE, 1));
    machine.view('write-combined').write(4, bytesOf(1, 2));
    machine.devicePuts(at(2 * LINE), 1, 3);
    cached.poke(4, Uint8Array.of(9));
    expect(cached.peek(4)[0]).toBe(9);
    expect(machine.view('write-combined').peek(4)[0]).toBe(9);
    expect(machine.deviceGets(at(4), 1)[0]).toBe(9);
    expect(machine.takeHazards()).toEqual([]);
    machine.domain.barrier();
    cached.read(4, new Uint8Array(1));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('heals a lost byte by a poke', () => {
    const machine = new Machine();
    machine.view('cached').write(0, bytesOf(1, 5));
    machine.domain.invalidate(BASE, 1);
    machine.takeHazards();
    machine.view('cached').poke(0, Uint8Array.of(6));
    expect(machine.deviceGets(BASE, 1)[0]).toBe(6);
    expect(machine.takeHazards()).toEqual([]);
  });
});

function scattered(): { machine: Machine; view: CpuView } {
  const machine = new Machine();
  const extents = [
    { phys: at(4 * KIB), sizeBytes: 3 },
    { phys: BASE, sizeBytes: 4 },
    { phys: at(6 * KIB), sizeBytes: 2 },
  ];
  return { machine, view: new CpuView(machine.domain, { extents, attribute: 'cached', accessor: app }) };
}
