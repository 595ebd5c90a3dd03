import { describe, expect, it } from 'vitest';
import { freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { app, at, BASE, bytesOf, camera, isp, LINE, Machine, nic } from './machine.ts';

const systemCache = { sets: 16, ways: 4 };
const beyond = { ...systemCache, beyondPointOfCoherency: true };

describe('a system cache before the point of coherency', () => {
  it('gets what leaves the CPUs, so that a device past it needs a clean that goes on to memory', () => {
    const machine = new Machine({ systemCache });
    machine.view('cached').write(0, bytesOf(LINE, 5));
    machine.domain.evict(BASE, LINE);
    expect(machine.domain.systemCache?.dirtyLines).toBe(1);
    expect(machine.deviceGets(BASE, LINE)).toEqual(bytesOf(LINE, 0));
    expect(machine.takeStale()).toMatchObject({ newestIn: 'system cache', remedy: app.afterWrite });
    machine.domain.clean(BASE, LINE, app);
    expect(machine.deviceGets(BASE, LINE)).toEqual(bytesOf(LINE, 5));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('is seen by devices that look into it and by those that snoop', () => {
    for (const port of [isp, nic]) {
      const machine = new Machine({ systemCache });
      machine.view('cached').write(0, bytesOf(LINE, 5));
      machine.domain.evict(BASE, LINE);
      expect(machine.deviceGets(BASE, LINE, port)).toEqual(bytesOf(LINE, 5));
      expect(machine.takeHazards()).toEqual([]);
    }
  });

  it('does not show lines that are still with the CPUs to a device that does not snoop', () => {
    const machine = new Machine({ systemCache });
    machine.view('cached').write(0, bytesOf(LINE, 5));
    machine.deviceGets(BASE, LINE, isp);
    expect(machine.takeStale()).toMatchObject({ newestIn: 'cpu cache' });
  });

  it('keeps the writes of a device that sees it, where it has the line: others then read old memory', () => {
    const machine = new Machine({ systemCache });
    machine.view('cached').read(0, new Uint8Array(1));
    machine.devicePuts(BASE, 2 * LINE, 7, isp);
    expect(machine.deviceGets(BASE, 2 * LINE, isp)).toEqual(bytesOf(2 * LINE, 7));
    expect(machine.deviceGets(at(LINE), LINE, camera)).toEqual(bytesOf(LINE, 7));
    expect(machine.takeHazards()).toEqual([]);
    machine.deviceGets(BASE, LINE, camera);
    expect(machine.takeStale()).toMatchObject({ newestIn: 'system cache', writer: { who: 'isp0' } });
  });

  it('has to be invalidated with the CPU cache after a device wrote past it, which maintenance by address does', () => {
    const machine = new Machine({ systemCache });
    const view = machine.view('cached');
    const out = new Uint8Array(LINE);
    view.read(0, out);
    machine.devicePuts(BASE, LINE, 7);
    machine.domain.invalidate(BASE, LINE, app);
    view.read(0, out);
    expect(out).toEqual(bytesOf(LINE, 7));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('is gone past by uncached accesses, as mixed attributes are', () => {
    const machine = new Machine({ systemCache });
    machine.view('cached').write(0, bytesOf(8, 5));
    machine.domain.evict(BASE, LINE);
    machine.view('uncached').read(0, new Uint8Array(8));
    expect(machine.takeStale()).toMatchObject({ newestIn: 'system cache' });
  });
});

describe('a system cache beyond the point of coherency', () => {
  it('is not reached by maintenance by address, only by its own registers', () => {
    const machine = new Machine({ systemCache: beyond });
    machine.view('cached').write(0, bytesOf(LINE, 5));
    machine.domain.clean(BASE, LINE, app);
    machine.deviceGets(BASE, LINE);
    expect(machine.takeStale()).toMatchObject({ newestIn: 'system cache' });
    expect(machine.domain.maintainSystemCache('clean', BASE, LINE, app)).toEqual({
      ...{ lines: 1, cleaned: 1, invalidated: 0, writtenBackBytes: LINE },
    });
    expect(machine.deviceGets(BASE, LINE)).toEqual(bytesOf(LINE, 5));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('is seen by all of the CPUs, through every kind of mapping, and by devices on its side', () => {
    const machine = new Machine({ systemCache: beyond });
    machine.view('cached').write(0, bytesOf(LINE, 5));
    machine.domain.clean(BASE, LINE, app);
    for (const attribute of ['uncached', 'write-combined', 'device'] as const) {
      expect([...machine.view(attribute).peek(0, 4)]).toEqual([5, 5, 5, 5]);
      machine.view(attribute).read(0, new Uint8Array(8));
    }
    machine.view('uncached').write(0, bytesOf(8, 6));
    machine.view('write-combined').write(8, bytesOf(8, 7));
    machine.domain.barrier();
    expect(machine.deviceGets(BASE, 16, isp)).toEqual(Uint8Array.of(...bytesOf(8, 6), ...bytesOf(8, 7)));
    expect(machine.takeHazards()).toEqual([]);
    expect(machine.deviceGets(BASE, 1)[0]).toBe(0);
  });
});

describe('the cost of a system cache', () => {
  it('is that of a line found there instead of one from memory', () => {
    const costs = { ...freeCacheCosts, missLineNs: 100, systemHitLineNs: 30 };
    const machine = new Machine({ systemCache, costs, cache: { sets: 1, ways: 1 } });
    const view = machine.view('cached');
    machine.sim.run(() => {
      view.read(0, new Uint8Array(1));
      view.read(LINE, new Uint8Array(1));
      view.read(0, new Uint8Array(1));
    });
    expect(machine.sim.now).toBe(230);
  });

  it('loses neighbours of both kinds of writers to an invalidate of another: told is who wrote the first byte', () => {
    const machine = new Machine({ systemCache });
    machine.view('cached').write(LINE + 32, bytesOf(32, 1));
    machine.domain.evict(at(LINE), LINE);
    machine.devicePuts(at(LINE), 32, 2, isp);
    machine.domain.invalidate(BASE, LINE + 1);
    const lost = { hazard: 'cache.neighbour-destroyed', phys: at(LINE), lostLines: 1, writer: { who: 'isp0' } };
    expect(machine.takeHazards()).toMatchObject([{ hazard: 'device-write.lost' }, lost]);
  });

  it('is nothing where there is none', () => {
    expect(new Machine().domain.systemCache).toBeNull();
  });
});

describe('a poke', () => {
  it('reaches every copy: system cache, device cache and the buffers of all CPUs', () => {
    const machine = new Machine({ systemCache });
    const view = machine.view('cached');
    view.write(0, bytesOf(LINE, 1));
    machine.domain.evict(BASE, LINE);
    machine.deviceGets(BASE, LINE, machine.gpu);
    machine.takeHazards();
    machine.view('write-combined').write(0, bytesOf(1, 2));
    view.poke(0, Uint8Array.of(9));
    for (const port of [camera, isp, nic, machine.gpu]) expect(machine.deviceGets(BASE, 1, port)[0]).toBe(9);
    machine.domain.drainWriteBuffer();
    expect(view.peek(0)[0]).toBe(9);
    expect(machine.takeHazards()).toEqual([]);
  });
});
