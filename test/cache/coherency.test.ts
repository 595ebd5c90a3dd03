import { describe, expect, it } from 'vitest';
import { physAddr } from '../../src/base/addr.ts';
import { InvariantError } from '../../src/base/assert.ts';
import { ErrnoError, HazardError } from '../../src/base/errors.ts';
import { KIB } from '../../src/base/units.ts';
import { type CacheCosts, freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { CoherencyDomain } from '../../src/cache/coherency.ts';
import { PhysMemory } from '../../src/mem/phys-memory.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import type { TraceEvent } from '../../src/trace/trace-events.ts';
import { app, at, BASE, bytesOf, camera, cameraDma, kernel, LINE, Machine, nic } from './machine.ts';

const FRAME = 4 * LINE;

describe('a device that does not snoop and a CPU', () => {
  it('gives the CPU the device write when the CPU begins its access by an invalidate', () => {
    const { domain, ...machine } = primed();
    machine.put(FRAME, 7);
    domain.invalidate(BASE, FRAME, app);
    expect(machine.cpuGets()).toEqual(bytesOf(FRAME, 7));
    expect(machine.hazards).toEqual([]);
  });

  it('gives the CPU the one old line that it had of a large buffer, which the device wrote at one go', () => {
    const sizeBytes = 1024 * KIB;
    const machine = new Machine({ ramBytes: 2 * sizeBytes });
    const { domain } = machine;
    const middle = at(sizeBytes / 2);
    domain.cpuWrite(middle, bytesOf(8, 1), 0, 8, 'cached', app);
    machine.devicePuts(at(16), sizeBytes - 32, 7);
    machine.devicePuts(at(0), sizeBytes, 8);
    expect(machine.deviceGets(BASE, sizeBytes).every((byte) => byte === 8)).toBe(true);
    expect([machine.takeHazards(), domain.splitLines]).toEqual([[], 0]);
    domain.cpuRead(middle, new Uint8Array(4), 0, 4, 'cached', app);
    expect(machine.takeStale()).toMatchObject({ phys: middle, staleBytes: 4, writer: { who: 'camera0' } });
    domain.cpuRead(at(sizeBytes / 2 + LINE), new Uint8Array(4), 0, 4, 'cached', app);
    expect(machine.takeHazards()).toEqual([]);
    domain.clean(middle, LINE, kernel);
    expect(machine.takeLost()).toMatchObject({ hazard: 'device-write.lost', phys: middle, lostLines: 1 });
    expect(machine.deviceGets(at(sizeBytes / 2 + LINE), LINE)).toEqual(bytesOf(LINE, 8));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('gives the CPU old lines without it, and names the call that is missing', () => {
    const { machine, ...rest } = primed();
    rest.put(FRAME, 7);
    expect(rest.cpuGets()).toEqual(bytesOf(FRAME, 0));
    expect(machine.takeStale()).toEqual({
      hazard: 'cpu-read.stale',
      phys: BASE,
      staleLines: 4,
      staleBytes: FRAME,
      newestIn: 'memory',
      reader: { who: 'app', via: 'mmap of fd 4', action: 'read', timeNs: 0 },
      writer: { who: 'camera0', via: 'dma', action: 'write', timeNs: 0 },
      cause: expect.objectContaining({ call: app.beforeRead }),
      values: expect.objectContaining({ phys: BASE }),
      remedy: app.beforeRead,
    });
  });

  it('gives the device the CPU write when the CPU ends its access by a clean', () => {
    const machine = new Machine();
    machine.view('cached').write(0, bytesOf(FRAME, 5));
    machine.domain.clean(BASE, FRAME, app);
    expect(machine.deviceGets(BASE, FRAME)).toEqual(bytesOf(FRAME, 5));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('gives the device old memory without it, and blames the writer', () => {
    const machine = new Machine();
    machine.view('cached').write(LINE, bytesOf(LINE, 5));
    expect(machine.deviceGets(BASE, FRAME)).toEqual(bytesOf(FRAME, 0));
    expect(machine.takeStale()).toMatchObject({
      hazard: 'device-read.stale',
      phys: at(LINE),
      staleLines: 1,
      staleBytes: LINE,
      newestIn: 'cpu cache',
      reader: { who: 'camera0' },
      writer: { who: 'app' },
      remedy: app.afterWrite,
    });
  });

  it('loses the CPU write when the CPU invalidates where it should clean, and tells later readers so', () => {
    const machine = new Machine();
    machine.view('cached').write(0, bytesOf(FRAME, 5));
    machine.domain.invalidate(BASE, FRAME, kernel);
    expect(machine.takeLost()).toMatchObject({
      hazard: 'cpu-write.lost',
      phys: BASE,
      lostLines: 4,
      destroyer: { who: 'kernel', action: 'invalidate' },
      writer: { who: 'app' },
      remedy: app.afterWrite,
    });
    expect(machine.deviceGets(BASE, LINE)).toEqual(bytesOf(LINE, 0));
    expect(machine.takeStale()).toMatchObject({ newestIn: 'lost', staleBytes: LINE, writer: { who: 'app' } });
  });

  it('sees a clean as no invalidate: a line cleaned and then written by the device stays old for the CPU', () => {
    const { machine, domain, ...rest } = primed();
    rest.put(FRAME, 7);
    domain.clean(BASE, FRAME, app);
    rest.cpuGets();
    expect(machine.takeStale()).toMatchObject({ hazard: 'cpu-read.stale' });
    domain.invalidate(BASE, FRAME, app);
    expect(rest.cpuGets()).toEqual(bytesOf(FRAME, 7));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('loses device bytes to a dirty line that is written back late, and blames who left it dirty', () => {
    const machine = new Machine();
    machine.domain.zero(BASE, FRAME, kernel);
    machine.devicePuts(BASE, FRAME, 7);
    machine.domain.evict(at(LINE), LINE);
    expect(machine.takeLost()).toMatchObject({
      hazard: 'device-write.lost',
      phys: at(LINE),
      lostLines: 1,
      destroyer: { who: 'kernel', action: 'write-back' },
      writer: { who: 'camera0' },
      remedy: kernel.afterWrite,
    });
  });

  it('is silent when a dirty line is dropped whose bytes the device has all overwritten', () => {
    const machine = new Machine();
    machine.domain.zero(BASE, FRAME, kernel);
    machine.devicePuts(BASE, FRAME, 7);
    machine.domain.invalidate(BASE, FRAME, app);
    expect(machine.view('cached').peek(0, FRAME)).toEqual(bytesOf(FRAME, 7));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('lets a speculative fetch make a line old that the CPU never touched', () => {
    const machine = new Machine();
    machine.domain.prefetch(at(LINE), 1);
    machine.devicePuts(BASE, FRAME, 7);
    expect(machine.view('cached').peek(0, 2 * LINE)).toEqual(Uint8Array.of(...bytesOf(LINE, 7), ...bytesOf(LINE, 0)));
    machine.view('cached').read(0, new Uint8Array(FRAME));
    expect(machine.takeStale()).toMatchObject({ phys: at(LINE), staleLines: 1, staleBytes: LINE });
  });
});

describe('false sharing of a line', () => {
  it('is silent about bytes that lie beside the accessed ones', () => {
    const machine = new Machine();
    machine.view('cached').write(32, bytesOf(32, 1));
    machine.devicePuts(BASE, 32, 2);
    expect(machine.deviceGets(BASE, 32)).toEqual(bytesOf(32, 2));
    machine.view('cached').read(32, new Uint8Array(32));
    expect(machine.takeHazards()).toEqual([]);
    machine.view('cached').read(31, new Uint8Array(2));
    expect(machine.takeStale()).toMatchObject({ staleBytes: 1, writer: { who: 'camera0' } });
  });

  it('destroys the neighbour of an invalidated buffer, and names both owners', () => {
    const machine = new Machine();
    machine.view('cached', kernel).write(32, bytesOf(32, 1));
    machine.devicePuts(BASE, 32, 2);
    machine.domain.invalidate(BASE, 32, app);
    expect(machine.view('cached').peek(32, 1)[0]).toBe(0);
    expect(machine.takeLost()).toMatchObject({
      hazard: 'cache.neighbour-destroyed',
      destroyer: { who: 'app', action: 'invalidate' },
      writer: { who: 'kernel' },
    });
  });

  it('destroys the device half of a line when the CPU cleans its own half', () => {
    const machine = new Machine();
    machine.view('cached').write(32, bytesOf(32, 1));
    machine.devicePuts(BASE, 32, 2);
    machine.domain.clean(at(32), 32, app);
    expect(machine.takeLost()).toMatchObject({
      hazard: 'device-write.lost',
      destroyer: { who: 'app', action: 'write-back' },
      writer: { who: 'camera0' },
    });
  });

  it('reports bytes of a CPU and of a device that one write-back destroys under two codes', () => {
    const machine = new Machine();
    machine.view('cached', kernel).write(0, bytesOf(LINE, 1));
    machine.devicePuts(BASE, 32, 2);
    machine.view('uncached').write(32, bytesOf(32, 3));
    machine.domain.evict(BASE, LINE);
    expect(machine.takeHazards()).toMatchObject([
      { hazard: 'cpu-write.lost', lostLines: 1, writer: { who: 'app' }, destroyer: { who: 'kernel' } },
      { hazard: 'device-write.lost', lostLines: 1, writer: { who: 'camera0' }, destroyer: { who: 'kernel' } },
    ]);
  });
});

describe('a lost line', () => {
  it('counts once though two copies destroy it in one call', () => {
    const machine = new Machine();
    machine.view('cached', kernel).write(0, bytesOf(LINE, 1));
    machine.view('write-combined').write(0, bytesOf(8, 2));
    machine.devicePuts(BASE, LINE, 3);
    machine.domain.clean(BASE, LINE, app);
    expect(machine.takeLost()).toMatchObject({ hazard: 'device-write.lost', lostLines: 1 });
  });
});

describe('a snooping device', () => {
  it('needs nothing from the CPU in either direction', () => {
    const machine = new Machine();
    const view = machine.view('cached');
    const out = new Uint8Array(FRAME);
    for (let round = 1; round <= 4; round++) {
      view.write(8, bytesOf(FRAME, round));
      expect(machine.deviceGets(at(8), FRAME, nic)).toEqual(bytesOf(FRAME, round));
      machine.devicePuts(at(20), FRAME, 100 + round, nic);
      view.read(20, out);
      expect(out).toEqual(bytesOf(FRAME, 100 + round));
    }
    expect(machine.takeHazards()).toEqual([]);
    expect(machine.domain.cache.counters.cleaned).toBeGreaterThan(0);
  });

  it('is misled by a dirty line older than what another device wrote past it', () => {
    const machine = new Machine();
    machine.view('cached').write(0, bytesOf(LINE, 1));
    machine.devicePuts(BASE, LINE, 2, camera);
    expect(machine.deviceGets(BASE, LINE, nic)).toEqual(bytesOf(LINE, 1));
    expect(machine.takeStale()).toMatchObject({
      hazard: 'device-read.stale',
      newestIn: 'memory',
      reader: { who: 'nic0' },
      writer: { who: 'camera0' },
      remedy: app.afterWrite,
    });
  });

  it('does not see what waits in the write-combining buffer', () => {
    const machine = new Machine();
    machine.view('write-combined').write(0, bytesOf(8, 1));
    expect(machine.deviceGets(BASE, 8, nic)).toEqual(bytesOf(8, 0));
    expect(machine.takeStale()).toMatchObject({ newestIn: 'write buffer', staleBytes: 8, remedy: app.afterWrite });
    machine.domain.barrier();
    expect(machine.deviceGets(BASE, 8, nic)).toEqual(bytesOf(8, 1));
    expect(machine.takeHazards()).toEqual([]);
  });
});

describe('luck', () => {
  it('keeps silent about old lines whose bytes are right, and counts the access', () => {
    const { machine, ...rest } = primed();
    rest.put(FRAME, 0);
    rest.cpuGets();
    expect(machine.takeHazards()).toEqual([]);
    expect(machine.domain.luckyReads).toBe(1);
  });

  it('does not count a read as lucky that also got wrong bytes', () => {
    const { machine, ...rest } = primed();
    rest.put(LINE, 0);
    machine.devicePuts(at(LINE), LINE, 1);
    rest.cpuGets();
    expect(machine.takeStale()).toMatchObject({ phys: at(LINE), staleLines: 1 });
    expect(machine.domain.luckyReads).toBe(0);
  });

  it('loses nothing when the dropped bytes equal those in memory', () => {
    const machine = new Machine();
    machine.devicePuts(BASE, FRAME, 3);
    machine.view('cached').write(0, bytesOf(FRAME, 3));
    machine.domain.invalidate(BASE, FRAME, app);
    expect(machine.deviceGets(BASE, FRAME)).toEqual(bytesOf(FRAME, 3));
    expect(machine.takeHazards()).toEqual([]);
  });
});

describe('mixed attributes', () => {
  it('hide a dirty line from uncached reads, and a waiting write from cached ones', () => {
    const machine = new Machine();
    machine.view('cached').write(0, bytesOf(8, 1));
    machine.view('uncached', kernel).read(0, new Uint8Array(8));
    expect(machine.takeStale()).toMatchObject({ newestIn: 'cpu cache', reader: { who: 'kernel' } });
    machine.view('write-combined').write(LINE, bytesOf(8, 1));
    machine.view('cached', kernel).read(LINE, new Uint8Array(8));
    expect(machine.takeStale()).toMatchObject({ newestIn: 'write buffer' });
  });

  it('lose an uncached write to an older dirty line of the CPU itself', () => {
    const machine = new Machine();
    machine.view('cached', kernel).write(0, bytesOf(8, 1));
    machine.view('uncached').write(0, bytesOf(8, 2));
    machine.domain.evict(BASE, LINE);
    expect(machine.takeLost()).toMatchObject({ hazard: 'cpu-write.lost', destroyer: { who: 'kernel' } });
  });

  it('lose device bytes to a late drain, only where bytes were waiting', () => {
    const machine = new Machine();
    machine.view('write-combined').write(4, bytesOf(4, 1));
    machine.devicePuts(BASE, LINE, 2);
    expect(machine.domain.drainWriteBuffer()).toBe(1);
    expect(machine.takeLost()).toMatchObject({ hazard: 'device-write.lost', destroyer: { who: 'app' } });
    expect(machine.deviceGets(BASE, 4)).toEqual(bytesOf(4, 2));
    expect(machine.takeHazards()).toEqual([]);
  });
});

describe('the write-combining buffer', () => {
  it('drains its oldest line when all are in use', () => {
    const machine = new Machine();
    const view = machine.view('write-combined');
    for (let line = 0; line < 10; line++) view.write(line * LINE, bytesOf(1, 1));
    expect(machine.domain.pendingLines).toBe(10);
    expect(machine.memory.allocatedBytes).toBe(0);
    view.write(10 * LINE, bytesOf(1, 1));
    expect(machine.domain.pendingLines).toBe(10);
    expect(machine.deviceGets(BASE, 1)[0]).toBe(1);
  });

  it('is drained by a read of the line, maintenance, a barrier and an uncached access', () => {
    const machine = new Machine();
    const view = machine.view('write-combined');
    const drains: (() => void)[] = [
      () => view.read(0, new Uint8Array(1)),
      () => machine.domain.clean(at(8 * LINE), 1),
      () => machine.domain.barrier(),
      () => machine.view('uncached').read(8 * LINE, new Uint8Array(1)),
    ];
    for (const drain of drains) {
      view.write(0, bytesOf(1, 1));
      expect(machine.domain.pendingLines).toBe(1);
      drain();
      expect(machine.domain.pendingLines).toBe(0);
    }
    view.write(0, bytesOf(1, 1));
    view.read(LINE, new Uint8Array(1));
    expect(machine.domain.pendingLines).toBe(1);
  });
});

describe('reports', () => {
  it('make one of several extents when the accesses are bracketed as one', () => {
    const { machine, domain } = primed();
    machine.devicePuts(BASE, FRAME, 7);
    domain.asOneAccess(() => {
      for (let line = 0; line < 4; line++) domain.cpuRead(at(line * LINE), null, 0, LINE, 'cached', app);
    });
    expect(machine.takeStale()).toMatchObject({ staleLines: 4, staleBytes: FRAME });
  });

  it('drop the findings of a bracket whose body throws, and go on', () => {
    const { machine, domain, ...rest } = primed();
    machine.devicePuts(BASE, FRAME, 7);
    const body = () => {
      domain.cpuRead(BASE, null, 0, LINE, 'cached', app);
      throw new Error('driver');
    };
    expect(() => domain.asOneAccess(body)).toThrow('driver');
    expect(machine.takeHazards()).toEqual([]);
    rest.cpuGets();
    expect(machine.takeStale()).toMatchObject({ staleLines: 4 });
  });

  it('end the access with an error under policy throw, after it is done', () => {
    const machine = new Machine({ policy: 'throw' });
    machine.view('cached').write(0, bytesOf(LINE, 5));
    expect(() => machine.domain.invalidate(BASE, LINE)).toThrow(HazardError);
    expect(machine.domain.cache.validLines).toBe(0);
    const out = bytesOf(1, 9);
    expect(() => machine.domain.deviceRead(BASE, out, 0, 1, camera)).toThrow(/device-read.stale/);
    expect(out[0]).toBe(0);
    machine.devicePuts(BASE, LINE, 6);
    expect(machine.deviceGets(BASE, 1)[0]).toBe(6);
  });

  it('say so when the log no longer knows who wrote', () => {
    const machine = new Machine({ logEntries: 4 });
    machine.view('cached').read(0, new Uint8Array(LINE));
    machine.devicePuts(BASE, LINE, 1);
    for (let n = 0; n < 4; n++) machine.devicePuts(at(LINE), 1, 1);
    machine.view('cached').read(0, new Uint8Array(LINE));
    expect(machine.takeStale()).toMatchObject({ writer: { who: 'unknown (log full)' }, remedy: app.beforeRead });
  });

  it('carry the times of both sides', () => {
    const { machine, ...rest } = primed();
    machine.sim.runUntil(100);
    rest.put(FRAME, 7);
    machine.sim.runUntil(250);
    rest.cpuGets();
    expect(machine.takeStale()).toMatchObject({ writer: { timeNs: 100 }, reader: { timeNs: 250 } });
  });

  it('do not exist without a shadow', () => {
    const machine = new Machine({ shadow: false });
    machine.view('cached').write(0, bytesOf(LINE, 5));
    expect(machine.deviceGets(BASE, LINE)).toEqual(bytesOf(LINE, 0));
    machine.domain.invalidate(BASE, LINE);
    expect(machine.takeHazards()).toEqual([]);
    expect(machine.domain.luckyReads).toBe(0);
  });
});

describe('costs', () => {
  const costs: CacheCosts = {
    hitLineNs: 1,
    missLineNs: 10,
    uncachedAccessNs: 100,
    uncachedAccessBytes: 8,
    wcLineNs: 7,
    cleanLineNs: 20,
    invalidateLineNs: 5,
    barrierNs: 1000,
  };
  const cases: [name: string, expected: number, act: (m: Machine) => void][] = [
    ['a cold cached read by missed lines', 40, (m) => m.view('cached').read(0, new Uint8Array(FRAME))],
    ['a cached write by lines', 20, (m) => m.view('cached').write(LINE - 1, bytesOf(2, 1))],
    ['an uncached read by accesses', 300, (m) => m.view('uncached').read(4, new Uint8Array(16))],
    ['a write-combined write by lines', 14, (m) => m.view('write-combined').write(0, bytesOf(LINE + 1, 1))],
    ['a clean by lines and a barrier', 1060, (m) => m.domain.clean(at(1), 2 * LINE)],
    ['an invalidate by lines and a barrier', 1010, (m) => m.domain.invalidate(BASE, 2 * LINE)],
    ['a clean and invalidate like a clean', 1020, (m) => m.domain.cleanInvalidate(BASE, 1)],
    ['a barrier', 1000, (m) => m.domain.barrier()],
    ['nothing for a device', 0, (m) => m.devicePuts(BASE, FRAME, 1, nic)],
    ['nothing for a peek and a poke', 0, (m) => m.view('cached').poke(0, m.view('uncached').peek(0, 8))],
    ['a copy by its read and its write', 20, (m) => m.domain.copy(at(KIB), BASE, LINE, kernel)],
  ];
  for (const [name, expected, act] of cases) {
    it(`charges ${name}`, () => {
      const machine = new Machine({ costs });
      machine.sim.run(() => act(machine));
      expect(machine.sim.now).toBe(expected);
    });
  }

  it('charges a warm read by hits', () => {
    const machine = new Machine({ costs });
    machine.sim.run(() => {
      for (let i = 0; i < 2; i++) machine.view('cached').read(0, new Uint8Array(FRAME));
    });
    expect(machine.sim.now).toBe(44);
  });
});

describe('maintenance', () => {
  it('traces one event a call, with the lines of the range', () => {
    const machine = new Machine();
    const events: TraceEvent[] = [];
    machine.sim.trace.onAny((event) => {
      events.push(event);
      return undefined;
    });
    machine.domain.clean(at(1), LINE);
    machine.domain.invalidate(BASE, FRAME);
    expect(events).toEqual([
      { kind: 'cache.maintain', timeNs: 0, op: 'clean', phys: at(1), bytes: LINE, lines: 2 },
      { kind: 'cache.maintain', timeNs: 0, op: 'invalidate', phys: BASE, bytes: FRAME, lines: 4 },
    ]);
  });

  it('refuses what is no memory with EFAULT before anything happens', () => {
    const machine = new Machine();
    const end = 64 * KIB;
    machine.view('cached').write(0, bytesOf(LINE, 1));
    const calls: (() => unknown)[] = [
      () => machine.domain.cleanInvalidate(BASE, end + 1),
      () => machine.domain.deviceWrite(at(end - 1), bytesOf(2, 1), 0, 2, camera),
      () => machine.domain.cpuRead(physAddr(0), null, 0, 1, 'cached', app),
      () => machine.domain.zero(at(end - LINE), 2 * LINE, kernel),
    ];
    for (const call of calls) expect(call).toThrow(ErrnoError);
    expect(machine.domain.cache.counters.cleaned).toBe(0);
    expect(machine.deviceGets(at(end - 1), 1)[0]).toBe(0);
  });

  it('refuses lengths and arrays that do not fit, naming them', () => {
    const { domain } = new Machine();
    expect(() => domain.clean(BASE, -1)).toThrow(InvariantError);
    expect(() => domain.deviceRead(BASE, new Uint8Array(4), 2, 3, camera)).toThrow(/3 bytes from offset 2/);
    expect(() => domain.deviceWrite(BASE, null, 0, 3, camera)).toThrow(/src is null/);
  });
});

describe('zero and copy', () => {
  it('leave zeros in dirty lines, which a device does not see', () => {
    const machine = new Machine();
    machine.devicePuts(BASE, 4 * KIB, 9);
    machine.domain.zero(BASE, 4 * KIB, kernel);
    expect(machine.domain.cache.dirtyLines).toBe(64);
    expect(machine.deviceGets(BASE, 1)[0]).toBe(9);
    expect(machine.takeStale()).toMatchObject({ writer: { who: 'kernel' }, remedy: kernel.afterWrite });
  });

  it('copy what the cache shows, a stale byte included', () => {
    const machine = new Machine();
    machine.view('cached').read(0, new Uint8Array(LINE));
    machine.devicePuts(BASE, 2 * LINE, 3);
    machine.domain.copy(at(KIB), BASE, 2 * LINE, kernel);
    expect(machine.takeStale()).toMatchObject({ reader: { who: 'kernel' }, staleLines: 1 });
    expect(machine.view('cached').peek(KIB, 1)[0]).toBe(0);
    expect(machine.view('cached').peek(KIB + LINE, 1)[0]).toBe(3);
    expect(() => machine.domain.copy(at(1), BASE, LINE, kernel)).toThrow(/overlap/);
  });
});

describe('a remap window', () => {
  it('shares lines with the memory behind it', () => {
    const machine = new Machine();
    const base = physAddr(0x1000);
    const pages = [at(8 * KIB), at(4 * KIB)];
    machine.memory.addRegion({ name: 'w', kind: 'window', base, bytes: 8 * KIB, resolve: (o) => pages[o / (4 * KIB)] });
    machine.domain.cpuWrite(physAddr(0x1ffc), Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), 0, 8, 'cached', app);
    expect([...machine.view('cached', app, 16 * KIB).peek(12 * KIB - 4, 4)]).toEqual([1, 2, 3, 4]);
    machine.domain.cleanInvalidate(physAddr(0x1fc0), 128);
    expect([...machine.deviceGets(at(4 * KIB), 4)]).toEqual([5, 6, 7, 8]);
    expect(machine.takeHazards()).toEqual([]);
  });
});

describe('a device without bytes', () => {
  it('finds the same hazards with null in place of arrays', () => {
    const machine = new Machine({ bytes: false });
    machine.domain.cpuRead(BASE, null, 0, LINE, 'cached', app);
    machine.domain.deviceWrite(BASE, null, 0, LINE, { snoops: false, accessor: cameraDma });
    const out = bytesOf(LINE, 9);
    machine.domain.cpuRead(BASE, out, 0, LINE, 'cached', app);
    expect(out).toEqual(bytesOf(LINE, 0));
    expect(machine.takeStale()).toMatchObject({ hazard: 'cpu-read.stale', staleLines: 1, staleBytes: 0 });
  });
});

/** A machine whose CPU has a frame of zeros in its cache. */
function primed() {
  const machine = new Machine();
  const view = machine.view('cached');
  const cpuGets = () => {
    const out = new Uint8Array(FRAME);
    view.read(0, out);
    return out;
  };
  cpuGets();
  const put = (length: number, value: number) => machine.devicePuts(BASE, length, value);
  return { machine, domain: machine.domain, hazards: machine.sim.hazards, cpuGets, put };
}

describe('a trace listener that throws', () => {
  it('leaves accesses charged and hazards reported afterwards', () => {
    const sim = new Simulator({ hazards: 'record' });
    const memory = new PhysMemory({ trace: sim.trace, now: () => sim.now });
    memory.addRegion({ kind: 'ram', name: 'ram', base: physAddr(0), bytes: 65536 });
    const domain = new CoherencyDomain(sim, memory, { costs: { ...freeCacheCosts, missLineNs: 10 } });
    const stop = sim.trace.on('cache.maintain', () => {
      throw new Error('listener broke');
    });
    expect(() => domain.clean(physAddr(0), 64)).toThrow('listener broke');
    stop();
    const cpu = { name: 'app', kind: 'cpu', via: 'test', beforeRead: 'begin', afterWrite: 'end' } as const;
    const dev = { name: 'dev', kind: 'device', via: 'dma', beforeRead: '', afterWrite: '' } as const;
    sim.run(function* () {
      domain.cpuRead(physAddr(0), new Uint8Array(4), 0, 4, 'cached', cpu);
      domain.deviceWrite(physAddr(0), Uint8Array.of(7), 0, 1, { snoops: false, accessor: dev });
      domain.cpuRead(physAddr(0), new Uint8Array(4), 0, 4, 'cached', cpu);
      yield* sim.delay(0);
      expect(sim.now).toBe(10);
    });
    expect(sim.hazards.map(({ hazard }) => hazard)).toEqual(['cpu-read.stale']);
  });
});
