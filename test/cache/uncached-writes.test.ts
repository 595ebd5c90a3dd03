/** Uncached writes where hardware is free: they linger as on Arm, and nowhere else. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AdversarialChooser } from '../../src/sim/adversarial-chooser.ts';
import { type Chooser, RandomChooser } from '../../src/sim/chooser.ts';
import { Prng } from '../../src/sim/prng.ts';
import { app, at, BASE, bytesOf, LINE, Machine, nic } from './machine.ts';

const BYTES = 4 * LINE;
/** Hardware that may do anything and never does. */
const idle = (): Chooser => ({ choosesHardware: true, choose: () => 0 });
const hostile = (seed: number): Chooser => new AdversarialChooser(new Prng(seed).fork('hostile'));

describe('an uncached write', () => {
  it('is in memory at once, unless hardware is free', () => {
    for (const options of [{}, { chooser: new RandomChooser(new Prng(1)) }]) {
      const machine = new Machine(options);
      machine.view('uncached').write(0, bytesOf(8, 5));
      expect([machine.domain.pendingLines, machine.deviceGets(BASE, 1)[0]]).toEqual([0, 5]);
      expect(machine.takeHazards()).toEqual([]);
    }
  });

  it('waits for a barrier where hardware is free: a doorbell without one lets the device read old bytes, and that is named', () => {
    const machine = new Machine({ chooser: idle() });
    const view = machine.view('uncached');
    view.write(0, bytesOf(8, 5));
    expect(machine.deviceGets(BASE, 1)[0]).toBe(0);
    expect(machine.takeStale()).toMatchObject({ newestIn: 'write buffer', writer: { who: app.name } });
    machine.domain.barrier();
    expect(machine.deviceGets(BASE, 1)[0]).toBe(5);
    expect(machine.takeHazards()).toEqual([]);
  });

  it('reaches the device without a barrier in some runs, and with one in all', () => {
    const seen = Array.from({ length: 30 }, (_, seed) => {
      const machine = new Machine({ chooser: hostile(seed) });
      machine.view('uncached').write(0, bytesOf(8, 5));
      machine.view('uncached').read(LINE, new Uint8Array(1));
      const early = machine.deviceGets(BASE, 1)[0];
      machine.domain.barrier();
      expect(machine.deviceGets(BASE, 1)[0]).toBe(5);
      return early;
    });
    expect(new Set(seen)).toEqual(new Set([0, 5]));
  });

  it('never lingers in a register', () => {
    const machine = new Machine({ chooser: idle() });
    machine.view('device').write(0, bytesOf(8, 5));
    expect([machine.domain.pendingLines, machine.deviceGets(BASE, 1)[0]]).toEqual([0, 5]);
  });

  it('goes over what another CPU has written there before', () => {
    const machine = new Machine({ chooser: idle() });
    const view = machine.view('uncached');
    view.write(0, bytesOf(8, 5));
    machine.sim.runOnCpu(1);
    view.write(4, bytesOf(8, 6));
    machine.domain.drainWriteBuffer();
    expect([...machine.deviceGets(BASE, 13)]).toEqual([5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6, 0]);
    expect(machine.takeHazards()).toEqual([]);
  });

  it('costs the same wherever it ends', () => {
    const costs = { ...new Machine().domain.costs, uncachedAccessNs: 100, uncachedAccessBytes: 8, wcLineNs: 7 };
    const timeOf = (chooser?: Chooser): number => {
      const machine = new Machine({ costs, ...(chooser === undefined ? {} : { chooser }) });
      machine.sim.run(() => machine.view('uncached').write(4, bytesOf(16, 1)));
      return machine.sim.now;
    };
    expect([timeOf(), timeOf(idle())]).toEqual([300, 300]);
  });
});

describe('uncached reads of any CPU', () => {
  const step = fc.record({
    cpu: fc.nat(2),
    op: fc.constantFrom('read', 'write', 'barrier', 'peek'),
    offset: fc.nat(BYTES - 1),
    length: fc.integer({ min: 1, max: 2 * LINE }),
    value: fc.integer({ min: 1, max: 255 }),
  });

  it('get what was written last, whatever hardware does; devices get it behind the barriers of all CPUs', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), fc.nat(), (steps, seed) => {
        const machine = new Machine({ chooser: hostile(seed) });
        const view = machine.view('uncached');
        const truth = new Uint8Array(BYTES);
        for (const { cpu, op, offset, length, value } of steps) {
          machine.sim.runOnCpu(cpu);
          const count = Math.min(length, BYTES - offset);
          if (op === 'barrier') machine.domain.barrier();
          if (op === 'peek') expect([...view.peek(offset, count)]).toEqual([...truth.subarray(offset, offset + count)]);
          if (op === 'write') {
            view.write(offset, bytesOf(count, value));
            truth.fill(value, offset, offset + count);
          }
          if (op !== 'read') continue;
          const out = new Uint8Array(count);
          view.read(offset, out);
          expect([...out]).toEqual([...truth.subarray(offset, offset + count)]);
        }
        for (const cpu of [0, 1, 2]) {
          machine.sim.runOnCpu(cpu);
          machine.domain.barrier();
        }
        expect([...machine.deviceGets(at(0), BYTES, nic)]).toEqual([...truth]);
        expect(machine.takeHazards()).toEqual([]);
      }),
      { numRuns: 80 },
    );
  });
});
