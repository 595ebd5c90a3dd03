import { describe, expect, it } from 'vitest';
import { DmaFence, type DmaFenceCallback, DmaFenceTimeline } from '../../src/dmabuf/dma-fence.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { invariant } from '../bench.ts';
import { everySchedule } from '../sim/every-schedule.ts';

const GPU = { name: 'gpu0', id: 1 };

/** A simulator with one fence, and callbacks that note that they were called. */
function setUp(): { sim: Simulator; fence: DmaFence; calls: string[]; callback: (name: string) => DmaFenceCallback } {
  const sim = new Simulator();
  const calls: string[] = [];
  const callback =
    (name: string): DmaFenceCallback =>
    (fence) => {
      calls.push(`${name} ${fence.name} ${fence.signaled}`);
      return undefined;
    };
  return { sim, fence: new DmaFence(sim, GPU, 1), calls, callback };
}

describe('DmaFence', () => {
  it('FEN-02 test_signaling: reports "newly" the first time and "already" the second, which changes nothing', () => {
    const { sim, fence, calls, callback } = setUp();
    let traced = 0;
    sim.trace.on('fence.signal', () => {
      traced++;
      return undefined;
    });
    fence.addCallback(callback('a'));
    expect(fence.signaled).toBe(false);
    expect(fence.signal()).toBe(true);
    expect(fence.signaled).toBe(true);
    expect(fence.signal()).toBe(false);
    expect([calls, traced]).toEqual([['a gpu0:1 true'], 1]);
  });

  it('FEN-03 add_callback: calls back once, in the order they were added', () => {
    const { fence, calls, callback } = setUp();
    for (const name of ['a', 'b', 'c']) expect(fence.addCallback(callback(name))).toBe(true);
    expect(calls).toEqual([]);
    fence.signal();
    expect(calls).toEqual(['a gpu0:1 true', 'b gpu0:1 true', 'c gpu0:1 true']);
  });

  it('FEN-04 late_add_callback: refuses a callback after the signal, and never calls it', () => {
    const { fence, calls, callback } = setUp();
    fence.signal();
    expect(fence.addCallback(callback('late'))).toBe(false);
    fence.signal();
    expect(calls).toEqual([]);
  });

  it('refuses a callback that another callback adds', () => {
    const { fence, calls, callback } = setUp();
    fence.addCallback((signalled) => {
      calls.push(`added: ${signalled.addCallback(callback('inner'))}`);
      return undefined;
    });
    fence.signal();
    expect(calls).toEqual(['added: false']);
  });

  it('FEN-05 rm_callback: a callback that was removed never runs; the others do', () => {
    const { fence, calls, callback } = setUp();
    const [first, second] = [callback('first'), callback('second')];
    fence.addCallback(first);
    fence.addCallback(second);
    expect(fence.removeCallback(first)).toBe(true);
    expect(fence.removeCallback(first)).toBe(false);
    fence.signal();
    expect(calls).toEqual(['second gpu0:1 true']);
    expect(fence.removeCallback(second)).toBe(false);
  });

  it('FEN-07 status: 0 before, positive after, negative after a failure', () => {
    const { sim, fence } = setUp();
    expect(fence.status).toBe(0);
    fence.signal();
    expect([fence.status, fence.error]).toEqual([1, null]);
    const failed = new DmaFence(sim, GPU, 2);
    failed.setError('EIO');
    expect([failed.status, failed.error, failed.signaled]).toEqual([0, 'EIO', false]);
    failed.signal();
    expect([failed.status, failed.error]).toEqual([-5, 'EIO']);
  });

  it('complains about an error after the signal, and notes it all the same, as the kernel does', () => {
    const { fence } = setUp();
    fence.signal();
    expect(() => fence.setError('ECANCELED')).toThrow(invariant('fence gpu0:1: setError after it has signalled'));
    expect(fence.status).toBe(-125);
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 53])('refuses %s as a sequence number', (seqno) => {
    expect(() => new DmaFence(new Simulator(), GPU, seqno)).toThrow(invariant(`seqno ${seqno}`));
  });

  it('is later than an earlier one of its own context, also across the 32-bit wrap', () => {
    const sim = new Simulator();
    const at = (seqno: number, context = GPU): DmaFence => new DmaFence(sim, context, seqno);
    expect([at(2).isLater(at(1)), at(1).isLater(at(2)), at(1).isLater(at(1))]).toEqual([true, false, false]);
    expect([at(1).isLater(at(0xffff_fffe)), at(0xffff_fffe).isLater(at(1))]).toEqual([true, false]);
    expect(at(2).isLater(at(1, { ...GPU }))).toBe(false);
  });
});

describe('waiting for a DmaFence', () => {
  it('ends at the time of the signal, after the callbacks, for each waiter', () => {
    const { sim, fence, calls, callback } = setUp();
    fence.addCallback(callback('callback'));
    for (const name of ['w1', 'w2']) {
      sim.spawn(name, function* () {
        yield* fence;
        calls.push(`${name} at ${sim.now}`);
      });
    }
    sim.run(function* () {
      yield* sim.delay(500);
      fence.signal();
      calls.push('signalled');
    });
    sim.run();
    expect(calls).toEqual(['callback gpu0:1 true', 'signalled', 'w1 at 500', 'w2 at 500']);
  });

  it('does not wait after the signal, and does not throw for an error', () => {
    const { sim, fence } = setUp();
    fence.setError('EIO');
    fence.signal();
    expect(sim.run(() => fence)).toBeUndefined();
    expect(sim.now).toBe(0);
  });

  it('FEN-09 wait: with a limit of 0 it is out of time before the signal and not after it, in every schedule', () => {
    const schedules = everySchedule(50, (chooser) => {
      const sim = new Simulator({ chooser });
      const fence = new DmaFence(sim, GPU, 1);
      sim.spawn('other', () => sim.delay(0));
      expect(sim.run(() => fence.waitTimeout(0))).toBe(false);
      fence.signal();
      expect(sim.run(() => fence.waitTimeout(0))).toBe(true);
      expect(sim.now).toBe(0);
      sim.run();
    });
    expect(schedules).toBeLessThan(50);
  });

  it('FEN-10 wait_timeout: ends at its limit without a signal, at the signal with one', () => {
    const { sim, fence } = setUp();
    expect(sim.run(() => fence.waitTimeout(1))).toBe(false);
    expect(sim.now).toBe(1);
    sim.after(1, () => {
      fence.signal();
      return undefined;
    });
    expect(sim.run(() => fence.waitTimeout(1000))).toBe(true);
    expect(sim.now).toBe(2);
  });

  it.each([-1, 0.5, Number.NaN])('refuses a limit of %s ns, also when it has signalled', (ns) => {
    const { sim, fence } = setUp();
    expect(() => sim.run(() => fence.waitTimeout(ns))).toThrow(invariant(`nanos: ${ns}`));
    fence.signal();
    expect(() => sim.run(() => fence.waitTimeout(ns))).toThrow(invariant(`nanos: ${ns}`));
  });

  it('that never ends is a deadlock that names the fence', () => {
    const { sim, fence } = setUp();
    expect(() => sim.run(() => fence)).toThrow('task main waits for event fence gpu0:1 since 0 ns');
  });
});

describe('DmaFenceTimeline', () => {
  it('gives fences of one context, numbered from 1 on, and traces them', () => {
    const sim = new Simulator();
    const made: string[] = [];
    sim.trace.on('fence.init', ({ fence, context, seqno }) => {
      made.push(`${fence} ${context} ${seqno}`);
      return undefined;
    });
    const timeline = new DmaFenceTimeline(sim, { name: 'vpu', id: 7 });
    const [first, second] = [timeline.fence(), timeline.fence()];
    expect([first.name, second.name, second.isLater(first)]).toEqual(['vpu:1', 'vpu:2', true]);
    expect(made).toEqual(['vpu:1 7 1', 'vpu:2 7 2']);
  });
});
