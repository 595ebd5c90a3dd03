import { describe, expect, it } from 'vitest';
import { DeadlockError, HazardError } from '../../src/base/errors.ts';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import type { DmaFenceCallback } from '../../src/dmabuf/dma-fence-ops.ts';
import { dmaFenceGetStub, dmaFencePrivateStub } from '../../src/dmabuf/dma-fence-stub.ts';
import { DmaFenceTimeline } from '../../src/dmabuf/dma-fence-timeline.ts';
import { allocDmaFenceContext, countLiveDmaFences, setDmaFenceRules } from '../../src/dmabuf/dma-fence-world.ts';
import { DmaResv } from '../../src/dmabuf/dma-resv.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { invariant } from '../bench.ts';
import { everySchedule } from '../sim/every-schedule.ts';

const GPU = { name: 'gpu0', id: 1 };

function deadlockOf(run: () => void): DeadlockError {
  try {
    run();
  } catch (error) {
    if (error instanceof DeadlockError) return error;
    throw error;
  }
  return expect.fail('no deadlock');
}

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
  it('FEN-01 sanitycheck: is freed by the last put, in place', () => {
    const sim = new Simulator();
    const freed: string[] = [];
    const fence = new DmaFence(sim, GPU, 1, {
      release: ({ name }) => {
        freed.push(name);
        return undefined;
      },
    });
    fence.enableSignaling();
    fence.signal();
    fence.get();
    fence.put();
    expect([fence.refs, countLiveDmaFences(sim), freed]).toEqual([1, 1, []]);
    fence.put();
    expect([fence.refs, countLiveDmaFences(sim), freed]).toEqual([0, 0, ['gpu0:1']]);
  });

  it('FEN-02 test_signaling: reports "newly" the first time and "already" the second, which only the trace shows', () => {
    const { sim, fence, calls, callback } = setUp();
    const traced: string[] = [];
    for (const kind of ['fence.signal', 'fence.signal-again'] as const) {
      sim.trace.on(kind, (event) => {
        traced.push(event.kind);
        return undefined;
      });
    }
    fence.addCallback(callback('a'));
    expect(fence.signaled).toBe(false);
    expect(fence.signal()).toBe(true);
    expect(fence.signaled).toBe(true);
    expect(fence.signal()).toBe(false);
    expect([calls, traced]).toEqual([['a gpu0:1 true'], ['fence.signal', 'fence.signal-again']]);
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

  it('names an error after the signal, and notes it all the same, as the kernel does', () => {
    const { sim, fence } = setUp();
    fence.setError('EIO');
    expect(sim.hazards).toEqual([]);
    fence.signal();
    expect(() => fence.setError('ECANCELED')).toThrow(HazardError);
    expect(sim.hazards.map(({ hazard }) => hazard)).toEqual(['fence.error-after-signal']);
    expect([fence.getStatus(), fence.rawError]).toEqual([-125, -125]);
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 53])('refuses %s as a sequence number', (seqno) => {
    expect(() => new DmaFence(new Simulator(), GPU, seqno)).toThrow(invariant(`seqno ${seqno}`));
  });

  it('is later than an earlier one of its own context, also across the 32-bit wrap', () => {
    const sim = new Simulator();
    const at = (seqno: number, context = GPU): DmaFence => new DmaFence(sim, context, seqno);
    expect([at(2).isLater(at(1)), at(1).isLater(at(2)), at(1).isLater(at(1))]).toEqual([true, false, false]);
    expect([at(1).isLater(at(0xffff_fffe)), at(0xffff_fffe).isLater(at(1))]).toEqual([true, false]);
    expect([at(2 ** 32).isLater(at(0xffff_ffff)), at(2 ** 32).isLater(at(1))]).toEqual([true, false]);
    expect(sim.hazards).toEqual([]);
    expect(() => at(2).isLater(at(1, { ...GPU }))).toThrow('fence.compare-across-contexts: fence gpu0:2');
  });

  it('with 64-bit numbers has no wrap', () => {
    const sim = new Simulator();
    const at = (seqno: number): DmaFence => new DmaFence(sim, GPU, seqno, { seqno64: true });
    expect([at(2 ** 52).isLater(at(1)), at(1).isLater(at(2 ** 32 - 1))]).toEqual([true, false]);
  });

  it('knows when it signalled: at the signal, or when the driver says that it was over', () => {
    const { sim, fence } = setUp();
    const early = new DmaFence(sim, GPU, 2);
    sim.runUntil(500);
    expect(fence.timestampNs).toBe(null);
    fence.signal();
    early.signalTimestamp(320);
    expect([fence.timestampNs, early.timestampNs]).toEqual([500, 320]);
  });

  it('FEN-11 stub: 64 stub fences have all signalled, and are one; a private one is another, with the time it was given', () => {
    const sim = new Simulator();
    const stubs = Array.from({ length: 64 }, () => dmaFenceGetStub(sim));
    expect(stubs.every((stub) => stub.isSignaled() && stub === stubs[0])).toBe(true);
    expect([stubs[0]?.refs, stubs[0]?.getStatus(), stubs[0]?.driverName]).toEqual([65, 1, 'stub']);
    const own = dmaFencePrivateStub(sim, 70);
    expect([own === stubs[0], own.getStatus(), own.timestampNs]).toEqual([false, 1, 70]);
    expect(dmaFenceGetStub(new Simulator()) === stubs[0]).toBe(false);
  });
});

describe('what a driver supplies to its DmaFence', () => {
  it('enables signalling once: at the first callback, wait, or request', () => {
    const sim = new Simulator();
    const enabled: number[] = [];
    const make = (seqno: number): DmaFence =>
      new DmaFence(sim, GPU, seqno, { enableSignaling: (fence) => enabled.push(fence.seqno) > 0 });
    const [asked, called, waited, requested] = [make(1), make(2), make(3), make(4)];
    asked.isSignaled();
    called.addCallback(() => undefined);
    called.addCallback(() => undefined);
    expect(sim.run(() => waited.waitTimeout(0))).toBe(0);
    requested.enableSignaling();
    expect(enabled).toEqual([2, 3, 4]);
  });

  it('that says "over already" when signalling is enabled signals the fence, and refuses the callback', () => {
    const sim = new Simulator();
    const make = (): DmaFence => new DmaFence(sim, GPU, 1, { enableSignaling: () => false });
    const fence = make();
    expect([fence.addCallback(() => undefined), fence.signaled]).toEqual([false, true]);
    expect([sim.run(() => make().waitTimeout(100)), sim.now]).toEqual([100, 0]);
    sim.run(make);
    expect(sim.now).toBe(0);
  });

  it('is asked by who asks the fence, and true signals it; looking only does not ask', () => {
    const { sim, calls, callback } = setUp();
    let over = false;
    const fence = new DmaFence(sim, GPU, 5, { signaled: () => over });
    fence.addCallback(callback('a'));
    expect([fence.isSignaled(), fence.getStatus()]).toEqual([false, 0]);
    over = true;
    expect([fence.signaled, fence.status, calls.length]).toEqual([false, 0, 0]);
    expect([fence.getStatus(), fence.signaled]).toEqual([1, true]);
    expect(calls).toEqual(['a gpu0:5 true']);
  });

  it('names it, takes its deadline while it is pending, and can wait in its own way', () => {
    const sim = new Simulator();
    const deadlines: number[] = [];
    const fence = new DmaFence(sim, GPU, 1, {
      getDriverName: () => 'xpu',
      getTimelineName: () => 'ring0',
      setDeadline: (_, ns) => {
        deadlines.push(ns);
        return undefined;
      },
      *wait(_, ns) {
        yield* sim.delay(Math.min(ns, 30));
        return ns > 30 ? 1 : 0;
      },
    });
    fence.setDeadline(2000);
    expect(fence.summary()).toBe('xpu ring0 seq 1 unsignalled');
    expect([sim.run(() => fence.waitTimeout(20)), sim.run(() => fence.waitTimeout(99)), sim.now]).toEqual([0, 1, 50]);
    sim.run(() => fence);
    expect(sim.now).toBe(80);
    fence.signal();
    fence.setDeadline(3000);
    expect([fence.summary(), deadlines]).toEqual(['xpu ring0 seq 1 signalled', [2000]]);
  });

  it('FEN-13 ops dropped: with the rule of 7.x its names can not be reached after the signal, with those of 6.1 they can', () => {
    for (const [opsAfterSignal, names] of [
      ['kept', ['xpu', 'gpu0']],
      ['dropped', ['detached-driver', 'signaled-timeline']],
    ] as const) {
      const sim = new Simulator();
      setDmaFenceRules(sim, { opsAfterSignal });
      const fence = new DmaFence(sim, GPU, 1, { getDriverName: () => 'xpu' });
      expect([fence.driverName, fence.timelineName]).toEqual(['xpu', 'gpu0']);
      fence.signal();
      expect([fence.driverName, fence.timelineName]).toEqual(names);
    }
  });

  it('has contexts that no other has', () => {
    const sim = new Simulator();
    const ids = ['a', 'b', 'c'].map((name) => allocDmaFenceContext(sim, name).id);
    expect(new Set(ids).size).toBe(3);
    expect(() => allocDmaFenceContext(sim, '')).toThrow(invariant('the name is empty'));
  });
});

describe('a callback of a DmaFence, which has the fence locked', () => {
  it.each<[string, (fence: DmaFence) => unknown]>([
    ['signal', (fence) => fence.signal()],
    ['removeCallback', (fence) => fence.removeCallback(() => undefined)],
    ['getStatus', (fence) => fence.getStatus()],
  ])('must not call %s of it: it would wait for itself', (op, act) => {
    const { fence } = setUp();
    fence.addCallback((locked) => {
      act(locked);
      return undefined;
    });
    expect(() => fence.signal()).toThrow(invariant(`fence gpu0:1: ${op} by its own callback`));
  });

  it('may look at it, and signal another', () => {
    const { sim, fence, calls, callback } = setUp();
    const next = new DmaFence(sim, GPU, 2);
    next.addCallback(callback('next'));
    fence.addCallback((locked) => {
      calls.push(`${locked.signaled} ${locked.isSignaled()} ${locked.status} ${next.signal()}`);
      return undefined;
    });
    fence.signal();
    expect(calls).toEqual(['next gpu0:2 true', 'true true 1 true']);
  });

  it('that throws leaves the fence signalled and unlocked', () => {
    const { fence } = setUp();
    fence.addCallback(() => {
      throw new Error('driver bug');
    });
    expect(() => fence.signal()).toThrow('driver bug');
    expect([fence.getStatus(), fence.signal()]).toEqual([1, false]);
  });
});

describe('the references to a DmaFence', () => {
  it('that are gone while somebody waits are named, and who waits goes on with EDEADLK', () => {
    for (const wait of ['callback', 'task'] as const) {
      const sim = new Simulator({ hazards: 'record' });
      const fence = new DmaFence(sim, GPU, 1);
      const seen: number[] = [];
      const see = (): undefined => {
        seen.push(fence.status);
      };
      if (wait === 'callback') fence.addCallback(see);
      else {
        sim.spawn('waiter', function* () {
          yield* fence;
          see();
        });
      }
      sim.runUntil(10);
      sim.spawn('driver', () => fence.put());
      sim.run();
      expect(seen).toEqual([-35]);
      expect(sim.hazards).toMatchObject([
        { hazard: 'fence.released-pending', fence: 'gpu0:1', who: 'driver', timeNs: 10 },
      ]);
    }
  });

  it('that are gone with nobody waiting, or after the signal, are no news', () => {
    const { sim, fence, callback } = setUp();
    fence.put();
    const other = new DmaFence(sim, GPU, 2);
    const gone = callback('gone');
    other.addCallback(gone);
    other.removeCallback(gone);
    other.put();
    expect([sim.hazards, countLiveDmaFences(sim)]).toEqual([[], 0]);
    expect(() => other.put()).toThrow(invariant('fence gpu0:2: put of a reference that nobody has'));
  });

  it.each<[string, (fence: DmaFence) => unknown]>([
    ['gets a reference', (fence) => fence.get()],
    ['is signalled', (fence) => fence.signal()],
    ['gets a callback', (fence) => fence.addCallback(() => undefined)],
  ])('name its use after it was freed: it %s', (what, act) => {
    const sim = new Simulator();
    const fence = new DmaFence(sim, GPU, 1);
    sim.spawn('closer', () => fence.put());
    sim.run();
    expect(fence.tryGet()).toBe(false);
    expect(sim.hazards).toEqual([]);
    expect(() => act(fence)).toThrow(
      new RegExp(`fence.use-after-free: fence gpu0:1 ${what}.* freed by closer at 0 ns`),
    );
  });

  it('BG-34: are safe with tryGet in every order of a reader and a replacer, and named with get in some', () => {
    const named = { get: 0, tryGet: 0 };
    for (const how of ['get', 'tryGet'] as const) {
      const schedules = everySchedule(200, (chooser) => {
        const sim = new Simulator({ chooser, hazards: 'record' });
        let slot = new DmaFence(sim, GPU, 1);
        sim.spawn('reader', function* () {
          for (let taken = false; !taken; ) {
            const seen = slot;
            yield* sim.delay(0);
            taken = how === 'get' ? seen.get() === seen : seen.tryGet();
            if (taken) seen.put();
          }
        });
        sim.spawn('replacer', function* () {
          yield* sim.delay(0);
          const old = slot;
          slot = new DmaFence(sim, GPU, 2);
          old.put();
        });
        sim.run();
        if (sim.hazards.some(({ hazard }) => hazard === 'fence.use-after-free')) named[how]++;
      });
      expect(schedules).toBeGreaterThan(1);
      expect(schedules).toBeLessThan(200);
    }
    expect([named.get > 0, named.tryGet]).toEqual([true, 0]);
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
      expect(sim.run(() => fence.waitTimeout(0))).toBe(0);
      fence.signal();
      expect(sim.run(() => fence.waitTimeout(0))).toBe(1);
      expect(sim.now).toBe(0);
      sim.run();
    });
    expect(schedules).toBeLessThan(50);
  });

  it('with a limit of 0 lets nobody else run', () => {
    const { sim, fence } = setUp();
    const left = sim.run(function* () {
      sim.spawn('other', () => fence.signal());
      return yield* fence.waitTimeout(0);
    });
    expect([left, fence.signaled]).toEqual([0, false]);
    sim.run();
  });

  it('FEN-10 wait_timeout: ends at its limit without a signal, at the signal with one', () => {
    const { sim, fence } = setUp();
    expect(sim.run(() => fence.waitTimeout(1))).toBe(0);
    expect(sim.now).toBe(1);
    sim.after(1, () => {
      fence.signal();
      return undefined;
    });
    expect(sim.run(() => fence.waitTimeout(1000))).toBe(999);
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
    expect(() => sim.run(() => fence)).toThrow('task main waits for fence gpu0:1 since 0 ns');
  });

  it('BG-28: names the task that has to signal it, which waits for a lock of the waiter itself', () => {
    const sim = new Simulator();
    const resv = new DmaResv(sim, 'buf');
    const fence = new DmaFence(sim, GPU, 1);
    fence.signaler = sim.spawn('reset', function* () {
      yield* sim.delay(100);
      yield* resv.withLock(() => fence.signal());
    });
    sim.spawn('submit', () => resv.withLock(() => fence));
    const report = deadlockOf(() => sim.run());
    expect(report.waiters).toMatchObject([
      { task: 'reset', waitsFor: 'ww mutex resv(buf), held by submit' },
      { task: 'submit', waitsFor: 'fence gpu0:1, which task reset has to signal' },
    ]);
  });

  it('says that nobody can signal it when the task that had to has ended', () => {
    const { sim, fence } = setUp();
    fence.signaler = sim.spawn('gpu', () => 0);
    expect(() => sim.run(() => fence)).toThrow('fence gpu0:1, which nobody can signal: task gpu has ended');
  });

  it('ends with a kill, and leaves the fence as it was', () => {
    const { sim, fence } = setUp();
    for (const wait of [() => fence, () => fence.waitTimeout(1000)]) {
      const task = sim.spawn('waiter', function* () {
        yield* wait();
      });
      sim.runUntil(sim.now + 5);
      task.kill();
      sim.run();
      expect(task.outcome).toBe('killed');
    }
    expect([fence.signal(), sim.hazards]).toEqual([true, []]);
  });

  it('loses no wake-up: in every order of a waiter, a callback and the signal each is served once', () => {
    const orders = new Set<string>();
    const schedules = everySchedule(2000, (chooser) => {
      const sim = new Simulator({ chooser });
      const fence = new DmaFence(sim, GPU, 1);
      const seen: string[] = [];
      sim.spawn('waiter', function* () {
        yield* sim.delay(0);
        yield* fence;
        seen.push(`waiter ${fence.signaled}`);
      });
      sim.spawn('adder', function* () {
        yield* sim.delay(0);
        const added = fence.addCallback(() => {
          seen.push('called true');
          return undefined;
        });
        if (!added) seen.push('refused true');
      });
      sim.spawn('signaller', function* () {
        yield* sim.delay(0);
        fence.signal();
      });
      sim.run();
      expect(seen.map((line) => line.split(' ')[1])).toEqual(['true', 'true']);
      orders.add(seen.join());
    });
    expect(schedules).toBeLessThan(2000);
    expect(orders.size).toBeGreaterThan(2);
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
