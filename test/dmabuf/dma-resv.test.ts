import { describe, expect, it } from 'vitest';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { DmaFenceArray } from '../../src/dmabuf/dma-fence-array.ts';
import type { DmaFenceOps } from '../../src/dmabuf/dma-fence-ops.ts';
import { countLiveDmaFences, setDmaFenceRules } from '../../src/dmabuf/dma-fence-world.ts';
import {
  DmaResv,
  DmaResvUsage,
  type DmaResvUsageValue,
  usageToWaitFor,
  withResvsLocked,
} from '../../src/dmabuf/dma-resv.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { errno, invariant } from '../bench.ts';

const { kernel, write, read, bookkeep } = DmaResvUsage;
const USAGES = [kernel, write, read, bookkeep] as const;

/** A reservation, and fences of contexts told by letter. */
function setUp(): {
  sim: Simulator;
  resv: DmaResv;
  fence: (context: string, seqno?: number, ops?: DmaFenceOps) => DmaFence;
} {
  const sim = new Simulator();
  const contexts = new Map<string, { name: string; id: number }>();
  const fence = (context: string, seqno = 1, ops?: DmaFenceOps): DmaFence => {
    const known = contexts.get(context) ?? { name: context, id: contexts.size };
    contexts.set(context, known);
    return new DmaFence(sim, known, seqno, ops);
  };
  return { sim, resv: new DmaResv(sim, 'buf'), fence };
}

/** Runs `body` in a task that holds the lock. */
function locked<T>(sim: Simulator, resv: DmaResv, body: () => T): T {
  return sim.run(() => resv.withLock(body));
}

function add(sim: Simulator, resv: DmaResv, ...fences: readonly (readonly [DmaFence, DmaResvUsageValue])[]): void {
  locked(sim, resv, () => {
    resv.reserveFences(fences.length);
    for (const [fence, usage] of fences) resv.addFence(fence, usage);
  });
}

function listed(sim: Simulator, resv: DmaResv): string[] {
  return locked(sim, resv, () => resv.entries().map(({ fence, usage }) => `${fence.name} ${usage}`));
}

describe('the lock of a DmaResv', () => {
  it('RSV-01 sanitycheck: is taken and given back, also when the body throws', () => {
    const { sim, resv } = setUp();
    expect(locked(sim, resv, () => resv.isLocked)).toBe(true);
    expect(resv.isLocked).toBe(false);
    const failing = (): never => {
      throw new Error('body failed');
    };
    expect(() => locked(sim, resv, failing)).toThrow('body failed');
    expect(resv.isLocked).toBe(false);
  });

  it('is given back by a task that is killed in the body', () => {
    const { sim, resv } = setUp();
    const task = sim.spawn('holder', () => resv.withLock(() => sim.delay(1000)));
    sim.runUntil(10);
    expect(resv.isLocked).toBe(true);
    task.kill();
    sim.run();
    expect([resv.isLocked, sim.now]).toEqual([false, 10]);
  });

  it('is kept until the work that was charged under it is paid, with one lock as with several', () => {
    for (const several of [false, true]) {
      const { sim, resv } = setUp();
      const seen: string[] = [];
      const body = (): string => {
        sim.charge(100);
        return 'value';
      };
      sim.spawn('holder', function* () {
        seen.push(yield* several ? withResvsLocked<string>(sim, [resv], body) : resv.withLock<string>(body));
      });
      sim.spawn('next', () => resv.withLock(() => seen.push(`next at ${sim.now}`)));
      sim.run();
      expect(seen.sort()).toEqual(['next at 100', 'value']);
    }
  });

  it('is refused to a task that has it, which would wait for itself', () => {
    const { sim, resv } = setUp();
    expect(() => locked(sim, resv, () => resv.lock())).toThrow(invariant('would wait for itself'));
    expect(() => locked(sim, resv, () => withResvsLocked(sim, [resv], () => 0))).toThrow(invariant('resv(buf)'));
    expect(resv.isLocked).toBe(false);
  });

  it('is tried without waiting', () => {
    const { sim, resv } = setUp();
    const tried: boolean[] = [];
    sim.run(function* () {
      tried.push(resv.tryLock(), resv.tryLock());
      yield* sim.spawn('other', () => tried.push(resv.tryLock())).done;
      resv.unlock();
    });
    expect([tried, resv.isLocked]).toEqual([[true, false, false], false]);
  });

  it('must be held by the running task, not by just any', () => {
    const { sim, resv, fence } = setUp();
    sim.spawn('holder', () => resv.withLock(() => sim.delay(100)));
    sim.runUntil(1);
    const others: readonly (() => void)[] = [
      () => resv.assertHeld(),
      () => resv.reserveFences(1),
      () => resv.addFence(fence('a', 1), read),
      () => resv.entries(),
      () => resv.replaceFences({ name: 'a', id: 1 }, fence('b', 1), read),
      () => resv.copyFences(new DmaResv(sim, 'other')),
      () => resv.describeFences(),
      () => resv.unlock(),
    ];
    for (const act of others) expect(() => sim.run(act)).toThrow(invariant('resv(buf)'));
    sim.run();
  });
});

describe('DmaResv.addFence', () => {
  it('RSV-07: is refused without room, in words that name the missing call', () => {
    const { sim, resv, fence } = setUp();
    expect(() => locked(sim, resv, () => resv.addFence(fence('a', 1), read))).toThrow(
      invariant('call reserveFences before'),
    );
    expect(listed(sim, resv)).toEqual([]);
  });

  it('has room for what was reserved, and that stays when the lock is given back', () => {
    const { sim, resv, fence } = setUp();
    locked(sim, resv, () => resv.reserveFences(9));
    locked(sim, resv, () => {
      for (let i = 0; i < 9; i++) resv.addFence(fence(`c${i}`, 1), read);
    });
    expect(listed(sim, resv)).toHaveLength(9);
  });

  it.each([
    [1, 5],
    [5, 9],
    [9, 21],
    [17, 61],
  ])("reserved for %s fences really has room for %s, as the kernel's allocator rounds up", (count, room) => {
    const { sim, resv, fence } = setUp();
    locked(sim, resv, () => resv.reserveFences(count));
    const addAnother = (i: number): void => locked(sim, resv, () => resv.addFence(fence(`c${i}`, 1), read));
    for (let i = 0; i < room; i++) addAnother(i);
    expect(() => addAnother(room)).toThrow(invariant('addFence without room'));
  });

  it('names an array that is added, which could not be replaced fence by fence', () => {
    for (const hazards of ['throw', 'record'] as const) {
      const sim = new Simulator({ hazards });
      const resv = new DmaResv(sim, 'buf');
      const array = new DmaFenceArray(sim, [new DmaFence(sim, { name: 'a', id: 1 }, 1)]);
      const act = (): void => add(sim, resv, [array, read]);
      if (hazards === 'throw') expect(act).toThrow('resv.container-added: fence dma_fence_array:1');
      else act();
      expect(sim.hazards).toMatchObject([
        { hazard: 'resv.container-added', remedy: 'add each fence that dmaFenceUnwrap gives' },
      ]);
      expect(listed(sim, resv)).toHaveLength(hazards === 'throw' ? 0 : 1);
    }
  });

  it('finds signalled fences thrown out when more room had to be made, and only then', () => {
    const { sim, resv, fence } = setUp();
    const fences = ['a', 'b', 'c', 'd', 'e'].map((context) => fence(context, 1));
    add(sim, resv, ...fences.map((each) => [each, read] as const));
    fences[1]?.signal();
    fences[3]?.signal();
    locked(sim, resv, () => resv.reserveFences(1));
    expect(listed(sim, resv)).toEqual(['a:1 2', 'b:1 2', 'c:1 2', 'd:1 2', 'e:1 2']);
    locked(sim, resv, () => resv.reserveFences(5));
    expect(listed(sim, resv)).toEqual(['a:1 2', 'c:1 2', 'e:1 2']);
  });

  it.each([0, -1, 1.5, Number.NaN])('refuses room for %s fences', (count) => {
    const { sim, resv } = setUp();
    expect(() => locked(sim, resv, () => resv.reserveFences(count))).toThrow(invariant(`count ${count}`));
  });

  it('puts a fence into the first slot whose fence has signalled, whatever its usage and context', () => {
    const { sim, resv, fence } = setUp();
    const [a, b] = [fence('a', 1), fence('b', 1)];
    add(sim, resv, [a, read], [b, bookkeep], [fence('c', 1), read]);
    b.signal();
    add(sim, resv, [fence('d', 1), kernel]);
    expect(listed(sim, resv)).toEqual(['a:1 2', 'd:1 0', 'c:1 2']);
  });

  it.each([
    ['an older one with the same usage', 1, read, 2, read, ['a:2 2']],
    ['an older one with a weaker usage', 1, bookkeep, 2, write, ['a:2 1']],
    ['no older one with a stronger usage', 1, write, 2, read, ['a:1 1', 'a:2 2']],
    ['no newer one', 2, read, 1, read, ['a:2 2', 'a:1 2']],
    ['no other one with an equal number', 1, read, 1, read, ['a:1 2', 'a:1 2']],
    ['an older one across the 32-bit wrap', 0xffff_ffff, read, 0, read, ['a:0 2']],
  ])('replaces %s of its context', (_what, oldSeqno, oldUsage, seqno, usage, expected) => {
    const { sim, resv, fence } = setUp();
    add(sim, resv, [fence('a', oldSeqno), oldUsage]);
    add(sim, resv, [fence('a', seqno), usage]);
    expect(listed(sim, resv)).toEqual(expected);
  });

  it('lists the same fence once when it is added again with a usage as strong or stronger', () => {
    const { sim, resv, fence } = setUp();
    const a = fence('a', 1);
    add(sim, resv, [a, read], [a, write]);
    expect(listed(sim, resv)).toEqual(['a:1 1']);
    add(sim, resv, [a, bookkeep]);
    expect(listed(sim, resv)).toEqual(['a:1 1', 'a:1 3']);
  });

  it('needs no room for a fence that takes a slot', () => {
    const { sim, resv, fence } = setUp();
    const fences = ['a', 'b', 'c', 'd', 'e'].map((context) => [fence(context, 1), read] as const);
    add(sim, resv, ...fences);
    locked(sim, resv, () => resv.addFence(fence('e', 2), read));
    expect(listed(sim, resv).at(-1)).toBe('e:2 2');
  });
});

describe('a fence that comes into a DmaResv after all in it were found pending', () => {
  it('takes the slot of one that has signalled since', () => {
    const { sim, resv, fence } = setUp();
    const [a, b] = [fence('a'), fence('b')];
    add(sim, resv, [a, read], [b, read]);
    b.signal();
    add(sim, resv, [fence('c'), read]);
    expect(listed(sim, resv)).toEqual(['a:1 2', 'c:1 2']);
  });

  it('takes the slot of one that had signalled when it came', () => {
    const { sim, resv, fence } = setUp();
    const over = fence('over');
    over.signal();
    add(sim, resv, [fence('a'), read], [fence('b'), read], [over, read], [fence('c'), read]);
    expect(listed(sim, resv)).toEqual(['a:1 2', 'b:1 2', 'c:1 2']);
  });

  it('takes the slot of one whose driver says by now that it is over', () => {
    const { sim, resv, fence } = setUp();
    let isOver = false;
    add(sim, resv, [fence('asked', 1, { signaled: () => isOver }), read], [fence('b'), read]);
    isOver = true;
    add(sim, resv, [fence('c'), read]);
    expect(listed(sim, resv)).toEqual(['c:1 2', 'b:1 2']);
  });

  it('takes the slot of an older one of its context, also of one that came last', () => {
    const { sim, resv, fence } = setUp();
    add(sim, resv, [fence('a'), read], [fence('b'), read], [fence('c'), read], [fence('c', 2), read]);
    expect(listed(sim, resv)).toEqual(['a:1 2', 'b:1 2', 'c:2 2']);
  });
});

describe('the references of a DmaResv', () => {
  it('are one for each slot, given back when the slot is taken, a larger list is made, or it ends', () => {
    const { sim, resv, fence } = setUp();
    const [a, b, c] = [fence('a', 1), fence('a', 2), fence('c', 1)];
    add(sim, resv, [a, read]);
    expect(a.refs).toBe(2);
    add(sim, resv, [b, read], [c, write]);
    expect([a.refs, b.refs, c.refs]).toEqual([1, 2, 2]);
    c.signal();
    locked(sim, resv, () => resv.reserveFences(20));
    expect([b.refs, c.refs]).toEqual([2, 1]);
    resv.fini();
    for (const each of [a, b, c]) each.put();
    expect([countLiveDmaFences(sim), sim.hazards]).toEqual([0, []]);
  });

  it('can not be given back while somebody holds the lock', () => {
    const { sim, resv } = setUp();
    expect(() => locked(sim, resv, () => resv.fini())).toThrow(invariant('buf: fini while its lock is held'));
  });

  it('BG-71: do not pile up: 500 readers that come, signal and go leave a list of 5 and no old fence', () => {
    const { sim, resv, fence } = setUp();
    let most = 0;
    for (let client = 0; client < 500; client++) {
      const job = fence(`client${client}`, 1);
      add(sim, resv, [job, read]);
      job.signal();
      job.put();
      most = Math.max(most, listed(sim, resv).length);
    }
    expect([most, countLiveDmaFences(sim)]).toEqual([1, 1]);
  });
});

describe('a DmaResv that finds no memory', () => {
  it('BG-30: fails the nth reservation with ENOMEM, and the locks of all are given back', () => {
    for (const nth of [1, 2, 3]) {
      const sim = new Simulator();
      const resvs = [1, 2, 3].map((i) => new DmaResv(sim, `buf${i}`));
      let attempts = 0;
      setDmaFenceRules(sim, { failAllocation: () => ++attempts === nth });
      const submit = (): unknown =>
        withResvsLocked(sim, resvs, () => {
          for (const resv of resvs) resv.reserveFences(1);
        });
      expect(() => sim.run(submit)).toThrow(errno('ENOMEM'));
      expect([attempts, resvs.some((resv) => resv.isLocked)]).toEqual([nth, false]);
      sim.run(submit);
    }
  });

  it('stays as it was', () => {
    const { sim, resv, fence } = setUp();
    add(sim, resv, [fence('a', 1), read], [fence('b', 1), write]);
    const other = new DmaResv(sim, 'other');
    add(sim, other, [fence('c', 1), read]);
    const before = listed(sim, resv);
    const live = countLiveDmaFences(sim);
    setDmaFenceRules(sim, { failAllocation: () => true });
    const acts: readonly (() => unknown)[] = [
      () => locked(sim, resv, () => resv.reserveFences(10)),
      () => locked(sim, resv, () => resv.copyFences(other)),
      () => resv.getFences(read),
      () => resv.getSingleton(read),
    ];
    for (const act of acts) expect(act).toThrow(errno('ENOMEM'));
    expect([listed(sim, resv), countLiveDmaFences(sim), resv.fences(read).map(({ refs }) => refs)]).toEqual([
      before,
      live,
      [2, 2],
    ]);
    locked(sim, resv, () => resv.reserveFences(1)); // there is room, so nothing is allocated
  });
});

describe('DmaResv.replaceFences', () => {
  it('puts a fence into the place of all of a context, whatever their usage, and nowhere else', () => {
    const { sim, resv, fence } = setUp();
    const [a, b, c] = [fence('a', 2), fence('a', 1), fence('c', 1)];
    add(sim, resv, [a, write], [c, read], [b, bookkeep]);
    const moved = fence('m', 7);
    locked(sim, resv, () => resv.replaceFences(a.context, moved, read));
    expect(listed(sim, resv)).toEqual(['m:7 2', 'c:1 2', 'm:7 2']);
    expect([a.refs, b.refs, moved.refs]).toEqual([1, 1, 3]);
    locked(sim, resv, () => resv.replaceFences(a.context, c, kernel));
    expect(listed(sim, resv)).toEqual(['m:7 2', 'c:1 2', 'm:7 2']);
  });
});

describe('DmaResv.copyFences', () => {
  it('takes over what is pending, with its usages, in the place of its own', () => {
    const { sim, resv, fence } = setUp();
    const copy = new DmaResv(sim, 'copy');
    const old = fence('old', 1);
    add(sim, copy, [old, write]);
    const done = fence('b', 1);
    add(sim, resv, [fence('a', 1), kernel], [done, read], [fence('c', 1), bookkeep]);
    done.signal();
    locked(sim, copy, () => copy.copyFences(resv));
    expect([listed(sim, copy), old.refs]).toEqual([['a:1 0', 'c:1 3'], 1]);
    locked(sim, copy, () => copy.copyFences(new DmaResv(sim, 'empty')));
    expect(listed(sim, copy)).toEqual([]);
  });
});

describe('DmaResv.iter', () => {
  it('starts over when a larger list was made, and tells so', () => {
    const { sim, resv, fence } = setUp();
    const [a, b] = [fence('a', 1), fence('b', 1)];
    add(sim, resv, [a, read], [b, read]);
    const iter = resv.iter(read);
    const next = (): unknown => [iter.next()?.name, iter.isRestarted, iter.listedCount];
    expect(next()).toEqual(['a:1', true, 2]);
    locked(sim, resv, () => {
      resv.reserveFences(9);
      resv.addFence(fence('c', 1), kernel);
    });
    expect([next(), next()]).toEqual([
      ['a:1', true, 3],
      ['b:1', false, 3],
    ]);
    expect([iter.next()?.name, iter.usage, iter.fence?.name]).toEqual(['c:1', kernel, 'c:1']);
    expect([iter.next(), iter.isRestarted, a.refs]).toEqual([null, false, 2]);
  });

  it('holds a reference to what it shows, and gives it back when it is broken off', () => {
    const { sim, resv, fence } = setUp();
    const a = fence('a', 1);
    add(sim, resv, [a, read]);
    const iter = resv.iter(read);
    iter.next();
    expect(a.refs).toBe(3);
    iter.end();
    expect(a.refs).toBe(2);
  });

  it('never shows a signalled fence, also one that is signalled only by being asked', () => {
    const { sim, resv, fence } = setUp();
    let over = false;
    const lazy = fence('a', 1, { signaled: () => over });
    add(sim, resv, [lazy, read]);
    expect([resv.fences(read).length, resv.testSignaled(read)]).toEqual([1, false]);
    over = true;
    expect([resv.fences(read).length, resv.testSignaled(read), lazy.signaled]).toEqual([0, true, true]);
  });

  it('shows only what is in the new list, once, when a callback of a fence that it asks changes the list', () => {
    for (const [change, expected] of [
      ['grow', 'b:1,c:1'],
      ['empty', ''],
    ] as const) {
      const { sim, resv, fence } = setUp();
      const copy = new DmaResv(sim, 'copy');
      let over = false;
      const lazy = fence('lazy', 1, { signaled: () => over });
      const c = fence('c', 1);
      // Grown: behind one that was shown already. Emptied: the reservation alone keeps the one that is dropped.
      if (change === 'grow') add(sim, resv, [fence('b', 1), read], [lazy, read], [c, read]);
      else add(sim, resv, [lazy, read], [c, read]);
      if (change === 'empty') c.put();
      lazy.addCallback(() => {
        if (change === 'grow') resv.reserveFences(20);
        else resv.copyFences(new DmaResv(sim, 'none'));
        return undefined;
      });
      over = true;
      const names = locked(sim, resv, () => resv.fences(read).map(({ name }) => name));
      expect([names.join(), sim.hazards]).toEqual([expected, []]);
      locked(sim, copy, () => copy.copyFences(resv));
      expect(listed(sim, copy)).toHaveLength(names.length);
    }
  });

  it('does not show what was dropped while it asked a fence, although somebody else keeps it', () => {
    const { sim, resv, fence } = setUp();
    let over = false;
    const lazy = fence('lazy', 1, { signaled: () => over });
    add(sim, resv, [lazy, read], [fence('dropped', 1), read]);
    lazy.addCallback(() => {
      resv.copyFences(new DmaResv(sim, 'none'));
      return undefined;
    });
    over = true;
    expect(locked(sim, resv, () => resv.fences(read).length)).toBe(0);
  });

  it('copied while a callback changes the list, is copied once', () => {
    const { sim, resv, fence } = setUp();
    const copy = new DmaResv(sim, 'copy');
    let over = false;
    const lazy = fence('lazy', 1, { signaled: () => over });
    add(sim, resv, [fence('b', 1), read], [lazy, read], [fence('c', 1), read]);
    lazy.addCallback(() => {
      resv.reserveFences(20);
      return undefined;
    });
    over = true;
    sim.run(() => resv.withLock(() => copy.withLock(() => copy.copyFences(resv))));
    expect(listed(sim, copy)).toEqual(['b:1 2', 'c:1 2']);
  });
});

describe('the queries of a DmaResv', () => {
  it('give one fence for all: none, the only one, or a new array of them', () => {
    const { sim, resv, fence } = setUp();
    const [a, b] = [fence('a', 1), fence('b', 1)];
    expect(resv.getSingleton(bookkeep)).toBe(null);
    add(sim, resv, [a, write], [b, read]);
    expect(resv.getSingleton(write) === a).toBe(true);
    const both = resv.getSingleton(read);
    expect(both instanceof DmaFenceArray && both.fences.map(({ name }) => name)).toEqual(['a:1', 'b:1']);
    expect([both?.isSignaled(), a.refs, b.refs]).toEqual([false, 4, 3]);
  });

  it('hand out references on request', () => {
    const { sim, resv, fence } = setUp();
    const a = fence('a', 1);
    add(sim, resv, [a, read]);
    expect([resv.fences(read).length, a.refs]).toEqual([1, 2]);
    expect([resv.getFences(read).length, a.refs]).toEqual([1, 3]);
  });

  it('show debugfs all but bookkeeping, signalled ones too', () => {
    const { sim, resv, fence } = setUp();
    const ops = { getDriverName: () => 'xpu', getTimelineName: () => 'ring0' };
    const done = fence('a', 1, ops);
    add(sim, resv, [done, kernel], [fence('b', 7, ops), write], [fence('c', 1), bookkeep]);
    done.signal();
    expect(locked(sim, resv, () => resv.describeFences())).toEqual([
      'kernel fence:xpu ring0 seq 1 signalled',
      'write fence:xpu ring0 seq 7 unsignalled',
    ]);
  });

  it('pass a deadline on to the pending fences of a usage', () => {
    const { sim, resv, fence } = setUp();
    const told: string[] = [];
    const ops: DmaFenceOps = {
      setDeadline: ({ name }, ns) => {
        told.push(`${name} ${ns}`);
        return undefined;
      },
    };
    add(sim, resv, [fence('a', 1, ops), write], [fence('b', 1, ops), read]);
    resv.setDeadline(write, 90);
    expect(told).toEqual(['a:1 90']);
  });

  it('BG-36: who is about to write asks for readers as well, or sees an idle buffer that is being read', () => {
    const { sim, resv, fence } = setUp();
    add(sim, resv, [fence('encoder', 1), read]);
    expect([resv.testSignaled(usageToWaitFor('read')), resv.testSignaled(usageToWaitFor('write'))]).toEqual([
      true,
      false,
    ]);
  });

  it.each(USAGES)(
    'RSV-02 signaling, RSV-03 for_each, RSV-05 get_fences: a fence of usage %s is seen by it and weaker ones, until it signals',
    (usage) => {
      const { sim, resv, fence } = setUp();
      const only = fence('a', 1);
      add(sim, resv, [only, usage]);
      const seen = USAGES.map((asked) => [resv.testSignaled(asked), resv.fences(asked).length]);
      expect(seen).toEqual(USAGES.map((asked) => (asked >= usage ? [false, 1] : [true, 0])));
      expect(resv.fences(bookkeep)[0] === only).toBe(true);
      expect(listed(sim, resv)).toEqual([`a:1 ${usage}`]);
      only.signal();
      expect(USAGES.map((asked) => resv.testSignaled(asked))).toEqual([true, true, true, true]);
      expect(resv.fences(bookkeep)).toEqual([]);
      expect(listed(sim, resv)).toEqual([`a:1 ${usage}`]);
    },
  );

  it('say what an access has to wait for: a reader for writers, a writer for readers too, neither for bookkeeping', () => {
    expect([usageToWaitFor('read'), usageToWaitFor('write')]).toEqual([write, read]);
  });
});

describe('waiting for a DmaResv', () => {
  it.each([
    ['not for one that was added meanwhile', 1, 200],
    ['and after a larger list was made for all in that', 4, 300],
  ])('lasts until the fences that were listed and count have signalled, %s', (_what, count, untilNs) => {
    const { sim, resv, fence } = setUp();
    const [first, late, unrelated] = [fence('a', 1), fence('b', 1), fence('c', 1)];
    add(sim, resv, [first, read], [unrelated, bookkeep]);
    sim.spawn('driver', function* () {
      yield* sim.delay(100);
      yield* resv.withLock(() => {
        resv.reserveFences(count);
        resv.addFence(late, write);
      });
      yield* sim.delay(100);
      first.signal();
      yield* sim.delay(100);
      late.signal();
    });
    sim.run(() => resv.wait(read));
    expect([sim.now, unrelated.signaled]).toEqual([untilNs, false]);
    sim.run();
  });

  it('takes each slot as it is at its turn: also a fence that took the slot of a signalled one', () => {
    const { sim, resv, fence } = setUp();
    const [first, second, third] = [fence('a', 1), fence('b', 1), fence('c', 1)];
    add(sim, resv, [first, read], [second, read]);
    sim.spawn('driver', function* () {
      second.signal();
      yield* resv.withLock(() => resv.addFence(third, read));
      yield* sim.delay(100);
      first.signal();
      yield* sim.delay(100);
      third.signal();
    });
    sim.run(() => resv.wait(read));
    expect(sim.now).toBe(200);
  });

  it('with a limit is in time although a fence was added meanwhile', () => {
    const { sim, resv, fence } = setUp();
    const [first, late] = [fence('a', 1), fence('b', 1)];
    add(sim, resv, [first, read]);
    sim.spawn('driver', function* () {
      yield* sim.delay(50);
      yield* resv.withLock(() => resv.addFence(late, read));
      yield* sim.delay(50);
      first.signal();
    });
    expect([sim.run(() => resv.waitTimeout(read, 500)), sim.now]).toEqual([400, 100]);
  });

  it('with a limit tells what was left of it when all have signalled, at the exact time; at least 1, also of 0', () => {
    const { sim, resv, fence } = setUp();
    const pending = fence('a', 1);
    expect(sim.run(() => resv.waitTimeout(bookkeep, 0))).toBe(1);
    add(sim, resv, [pending, write]);
    expect(sim.run(() => resv.waitTimeout(kernel, 50))).toBe(50);
    expect(sim.run(() => resv.waitTimeout(write, 0))).toBe(0);
    expect(sim.now).toBe(0);
    expect(sim.run(() => resv.waitTimeout(write, 50))).toBe(0);
    expect(sim.now).toBe(50);
    sim.after(20, () => {
      pending.signal();
      return undefined;
    });
    expect(sim.run(() => resv.waitTimeout(write, 50))).toBe(30);
    expect(sim.now).toBe(70);
    expect(() => sim.run(() => resv.waitTimeout(write, -1))).toThrow(invariant('nanos: -1'));
  });
});
