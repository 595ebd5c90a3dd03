import { describe, expect, it } from 'vitest';
import { KIB } from '../../src/base/units.ts';
import { AdversarialChooser } from '../../src/sim/adversarial-chooser.ts';
import { type Chooser, type HardwarePoint, RandomChooser, ReplayChooser } from '../../src/sim/chooser.ts';
import { Prng } from '../../src/sim/prng.ts';
import { app, at, BASE, bytesOf, camera, gpuDma, isp, LINE, Machine, type MachineOptions, nic } from './machine.ts';

const PAGE = 4 * KIB;
const random = (seed: number): Prng => new Prng(seed).fork('chooser');
const adversary = (seed: number): AdversarialChooser => new AdversarialChooser(random(seed));

function isAll(value: number, bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === value);
}

/** Does `choices[point]` in turn at each point of that kind, then nothing. */
class Scripted implements Chooser {
  readonly choosesHardware = true;
  readonly asked: [HardwarePoint, number][] = [];
  readonly #choices: Partial<Record<HardwarePoint, number[]>>;

  constructor(choices: Partial<Record<HardwarePoint, number[]>>) {
    this.#choices = choices;
  }

  choose(count: number, point: HardwarePoint | 'task'): number {
    if (point === 'task') return 0;
    this.asked.push([point, count]);
    return this.#choices[point]?.shift() ?? 0;
  }
}

describe('hardware that is free to speculate', () => {
  /** A driver that gives a page to the camera and reads it; it invalidates before the transfer, after it, or both. */
  function receive(machine: Machine, when: readonly ('before' | 'after')[]): Uint8Array {
    const view = machine.view('cached');
    const out = new Uint8Array(PAGE);
    machine.domain.clean(BASE, PAGE, app);
    if (when.includes('before')) machine.domain.invalidate(BASE, PAGE, app);
    for (let offset = 0; offset < PAGE; offset += 256) machine.devicePuts(at(offset), 256, 7);
    if (when.includes('after')) machine.domain.invalidate(BASE, PAGE, app);
    view.read(0, out);
    return out;
  }

  it('gives stale bytes to a driver that invalidates only before the transfer, in some runs', () => {
    const stale = Array.from({ length: 40 }, (_, seed) => {
      const machine = new Machine({ chooser: adversary(seed) });
      const isRight = isAll(7, receive(machine, ['before']));
      const codes = machine.takeHazards().map(({ hazard }) => hazard);
      expect(codes).toEqual(isRight ? [] : ['cpu-read.stale']);
      return !isRight;
    });
    expect(stale.filter(Boolean).length).toBeGreaterThan(10);
    expect(stale.filter((isStale) => !isStale).length).toBeGreaterThan(0);
  });

  it('gives the right bytes to one that invalidates after it, in every run', () => {
    for (let seed = 0; seed < 60; seed++) {
      const machine = new Machine({ chooser: adversary(seed) });
      expect(isAll(7, receive(machine, seed % 2 === 0 ? ['after'] : ['before', 'after']))).toBe(true);
      expect(machine.takeHazards()).toEqual([]);
    }
  });

  it('also gives the right bytes to the first without such a chooser, which is why the bug is hard to see', () => {
    for (const options of [{}, { chooser: new RandomChooser(random(1)) }]) {
      const machine = new Machine(options);
      expect(isAll(7, receive(machine, ['before']))).toBe(true);
      expect(machine.sim.choices).toBe('');
    }
  });

  it('does the same again in a replay of the schedule', () => {
    for (let seed = 0; seed < 10; seed++) {
      const recorded = new Machine({ chooser: adversary(seed) });
      const bytes = receive(recorded, ['before']);
      const again = new Machine({ chooser: new ReplayChooser(recorded.sim.choices) });
      expect(receive(again, ['before']).join()).toBe(bytes.join());
      expect(again.sim.choices).toBe(recorded.sim.choices);
      expect(again.takeHazards()).toEqual(recorded.takeHazards());
      expect(again.domain.cache.counters).toEqual(recorded.domain.cache.counters);
    }
  });

  it('fetches no line of a page that nobody maps cached', () => {
    const chooser = new AdversarialChooser(random(1), { rates: { fill: 1 } });
    const machine = new Machine({ chooser });
    machine.domain.mapCached(at(8 * PAGE), PAGE);
    machine.view('write-combined').write(0, bytesOf(PAGE, 1));
    for (let n = 0; n < 20; n++) machine.deviceGets(BASE, PAGE);
    expect(machine.domain.cache.validLines).toBe(0);
    machine.view('cached');
    for (let n = 0; n < 20; n++) machine.deviceGets(BASE, PAGE);
    expect(machine.domain.cache.validLines).toBeGreaterThan(0);
    machine.domain.evict(BASE, PAGE);
    machine.domain.unmapCached(BASE, PAGE);
    for (let n = 0; n < 20; n++) machine.deviceGets(BASE, PAGE);
    expect(machine.domain.cache.validLines).toBe(0);
  });

  it('can fetch a single line while a device writes the page', () => {
    const machine = new Machine({ chooser: new Scripted({ fill: [1], line: [3] }) });
    const view = machine.view('cached');
    machine.devicePuts(BASE, PAGE, 7);
    expect(machine.domain.cache.validLines).toBe(1);
    expect(view.peek(2 * LINE)[0]).toBe(0);
    expect(view.peek(3 * LINE)[0]).toBe(7);
  });
});

describe('hardware that is free to write back', () => {
  it('writes a dirty line back before the clean that the driver forgot, in some runs', () => {
    const runs = Array.from({ length: 80 }, (_, seed) => {
      const machine = new Machine({ chooser: adversary(seed) });
      const view = machine.view('cached');
      view.write(0, bytesOf(LINE, 5));
      for (let n = 0; n < 5; n++) view.read(LINE, new Uint8Array(1));
      return machine.deviceGets(BASE, 1)[0];
    });
    expect(new Set(runs)).toEqual(new Set([0, 5]));
  });

  it('writes a line that was left dirty over what a device wrote, and the owner is blamed', () => {
    const machine = new Machine({ chooser: new Scripted({ evict: [0, 1] }) });
    machine.view('cached').write(0, bytesOf(LINE, 5));
    machine.devicePuts(BASE, LINE, 7);
    machine.deviceGets(at(LINE), 1);
    expect(machine.takeLost()).toMatchObject({ hazard: 'device-write.lost', destroyer: { who: 'app' } });
  });

  it('cleans a line and keeps it', () => {
    const machine = new Machine({ chooser: new Scripted({ clean: [1] }) });
    machine.view('cached').write(0, bytesOf(LINE, 5));
    expect(machine.deviceGets(BASE, 1)[0]).toBe(5);
    expect(machine.domain.cache.peekLine(BASE)).toMatchObject({ dirty: false });
  });

  it('never writes a clean line back', () => {
    for (let seed = 0; seed < 30; seed++) {
      const machine = new Machine({ chooser: adversary(seed) });
      machine.view('cached').read(0, new Uint8Array(PAGE));
      for (let n = 1; n < 10; n++) machine.devicePuts(BASE, PAGE, n);
      expect(machine.domain.cache.counters.writtenBackBytes).toBe(0);
      expect(isAll(9, machine.deviceGets(BASE, PAGE))).toBe(true);
    }
  });

  it('picks any line of a full set as the victim', () => {
    const machine = new Machine({ chooser: new Scripted({ victim: [2] }), cache: { sets: 1, ways: 2 } });
    const view = machine.view('cached');
    for (let line = 0; line < 3; line++) view.read(line * LINE, new Uint8Array(1));
    expect(machine.domain.cache.peekLine(at(0))).toBeDefined();
    expect(machine.domain.cache.peekLine(at(LINE))).toBeUndefined();
  });
});

describe('hardware that is free to drain', () => {
  it('sends write-combining buffers of any CPU in any order, a part of their bytes at a time', () => {
    const machine = new Machine({ chooser: new Scripted({ drain: [0, 0, 3, 1], bytes: [2, 0] }) });
    const view = machine.view('write-combined');
    view.write(0, bytesOf(LINE, 1));
    view.write(LINE, bytesOf(LINE, 2));
    machine.sim.runOnCpu(1);
    view.write(0, bytesOf(LINE, 3));
    expect(machine.deviceGets(BASE, 16)).toEqual(Uint8Array.of(...bytesOf(8, 0), ...bytesOf(8, 3)));
    expect(machine.domain.pendingLines).toBe(3);
    expect(machine.deviceGets(BASE, 16)).toEqual(bytesOf(16, 1));
    expect(machine.domain.pendingLines).toBe(2);
  });

  it('shows a doorbell before the data, in some runs, when the barrier between them is missing', () => {
    const orders = Array.from({ length: 60 }, (_, seed) => {
      const machine = new Machine({ chooser: adversary(seed) });
      const view = machine.view('write-combined');
      view.write(0, bytesOf(8, 1));
      view.write(PAGE - 8, bytesOf(8, 1));
      return `${machine.deviceGets(BASE, 1)[0]}${machine.deviceGets(at(PAGE - 8), 1)[0]}`;
    });
    expect(orders).toContain('01');
    expect(orders).toContain('10');
  });
});

describe('every legal behaviour', () => {
  /** A correct round trip: a CPU fills a page, a device works on it, the CPU reads the result. */
  function roundTrip(machine: Machine, round: number): void {
    const { domain } = machine;
    const view = machine.view('cached');
    const out = new Uint8Array(PAGE);
    const holds = (value: number, bytes: Uint8Array) => !machine.memory.storesBytes || isAll(value, bytes);
    view.write(0, bytesOf(PAGE, round));
    domain.clean(BASE, PAGE, app);
    machine.gpuCache.invalidate();
    for (const port of [camera, nic, isp, machine.gpu]) {
      expect(holds(round, machine.deviceGets(BASE, PAGE, port))).toBe(true);
    }
    machine.gpuCache.invalidate();
    machine.devicePuts(BASE, PAGE, 100 + round, machine.gpu);
    machine.gpuCache.flush();
    domain.invalidate(BASE, PAGE, app);
    view.read(0, out);
    expect(holds(100 + round, out)).toBe(true);
    machine.view('write-combined').write(PAGE - 8, bytesOf(8, 3));
    domain.barrier(app);
    domain.invalidate(BASE, PAGE, app);
  }

  const systemCache = { sets: 4, ways: 2 };
  const machines: readonly [string, MachineOptions][] = [
    ['a plain machine', {}],
    ['a tiny cache', { cache: { sets: 2, ways: 2 } }],
    ['a write-through cache', { cache: { writes: 'through', writeAllocate: false } }],
    ['a system cache', { systemCache, cache: { sets: 4, ways: 4 } }],
    ['no bytes', { bytes: false }],
  ];
  for (const [name, options] of machines) {
    it(`leaves a correct program right and silent: ${name}`, () => {
      for (let seed = 0; seed < 25; seed++) {
        const machine = new Machine({ ...options, chooser: adversary(seed) });
        for (let round = 1; round <= 3; round++) roundTrip(machine, round);
        expect(machine.takeHazards()).toEqual([]);
      }
    });
  }

  it('lets a device cache write back whenever it likes, which only a program without flushes can tell', () => {
    const seen = Array.from({ length: 40 }, (_, seed) => {
      const machine = new Machine({ chooser: adversary(seed) });
      machine.devicePuts(BASE, LINE, 9, machine.gpu);
      for (let n = 0; n < 4; n++) machine.deviceGets(at(PAGE), 1);
      const [byte] = machine.deviceGets(BASE, 1);
      const stale = machine.takeHazards();
      if (byte === 9) expect(stale).toEqual([]);
      else expect(stale).toMatchObject([{ newestIn: 'device cache', remedy: gpuDma.afterWrite }]);
      return byte;
    });
    expect(new Set(seen)).toEqual(new Set([0, 9]));
  });
});
