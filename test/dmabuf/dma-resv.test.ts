import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ErrnoCode } from '../../src/base/errno.ts';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import {
  DmaResv,
  DmaResvUsage,
  type DmaResvUsageValue,
  usageToWaitFor,
  withResvsLocked,
} from '../../src/dmabuf/dma-resv.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { invariant } from '../bench.ts';

const { kernel, write, read, bookkeep } = DmaResvUsage;
const USAGES = [kernel, write, read, bookkeep] as const;

/** A reservation, and fences of contexts told by letter. */
function setUp(): { sim: Simulator; resv: DmaResv; fence: (context: string, seqno: number) => DmaFence } {
  const sim = new Simulator();
  const contexts = new Map<string, { name: string; id: number }>();
  const fence = (context: string, seqno: number): DmaFence => {
    const known = contexts.get(context) ?? { name: context, id: contexts.size };
    contexts.set(context, known);
    return new DmaFence(sim, known, seqno);
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

  it('must be held by the running task, not by just any', () => {
    const { sim, resv, fence } = setUp();
    sim.spawn('holder', () => resv.withLock(() => sim.delay(100)));
    sim.runUntil(1);
    const others: readonly (() => void)[] = [
      () => resv.assertHeld(),
      () => resv.reserveFences(1),
      () => resv.addFence(fence('a', 1), read),
      () => resv.entries(),
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

describe('the queries of a DmaResv', () => {
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
    expect([sim.run(() => resv.waitTimeout(read, 500)), sim.now]).toEqual([true, 100]);
  });

  it('with a limit tells whether all have signalled, at the exact time', () => {
    const { sim, resv, fence } = setUp();
    const pending = fence('a', 1);
    expect(sim.run(() => resv.waitTimeout(bookkeep, 0))).toBe(true);
    add(sim, resv, [pending, write]);
    expect(sim.run(() => resv.waitTimeout(kernel, 50))).toBe(true);
    expect(sim.run(() => resv.waitTimeout(write, 0))).toBe(false);
    expect(sim.now).toBe(0);
    expect(sim.run(() => resv.waitTimeout(write, 50))).toBe(false);
    expect(sim.now).toBe(50);
    sim.after(20, () => {
      pending.signal();
      return undefined;
    });
    expect(sim.run(() => resv.waitTimeout(write, 50))).toBe(true);
    expect(sim.now).toBe(70);
    expect(() => sim.run(() => resv.waitTimeout(write, -1))).toThrow(invariant('nanos: -1'));
  });
});

interface Op {
  readonly op: string;
  readonly args: Readonly<Record<string, number>> & { readonly usage?: string; readonly set_error_before?: string };
  readonly result: { readonly ret?: unknown; readonly list?: unknown } & Readonly<Record<string, unknown>>;
}

/** Replays a recorded program up to the first operation that the library does not have. @returns operations compared. */
function replay(ops: readonly Op[]): number {
  const sim = new Simulator();
  const contexts = [0, 1, 2, 3].map((id) => ({ name: `c${id}`, id }));
  const fences: DmaFence[] = [];
  const resvs = [new DmaResv(sim, 'r0'), new DmaResv(sim, 'r1')];
  const numbers = (of: readonly { fence: DmaFence; usage: number }[]) =>
    of.map(({ fence, usage }) => [fences.indexOf(fence), usage]);
  let compared = 0;
  for (const { op, args, result } of ops) {
    const resv = resvs[args['resv'] ?? 0] ?? expect.fail('no resv');
    const fence = fences[args['fence'] ?? -1];
    const usage = USAGES.find(
      (value) => value === ['KERNEL', 'WRITE', 'READ', 'BOOKKEEP'].findIndex((name) => args.usage?.endsWith(name)),
    );
    let answer: unknown;
    if (op === 'dma_fence_init') {
      fences[args['fence'] ?? 0] = new DmaFence(
        sim,
        contexts[args['context'] ?? 0] ?? expect.fail(),
        args['seqno'] ?? 0,
      );
      continue;
    }
    if (op === 'dma_resv_reserve_fences') {
      locked(sim, resv, () => resv.reserveFences(args['num_fences'] ?? 0));
      answer = { ret: 0, list: numbers(locked(sim, resv, () => resv.entries())) };
    } else if (op === 'dma_resv_add_fence' && usage !== undefined && fence !== undefined) {
      locked(sim, resv, () => resv.addFence(fence, usage));
      answer = { list: numbers(locked(sim, resv, () => resv.entries())) };
    } else if (op === 'dma_fence_signal' && fence !== undefined) {
      if (args.set_error_before !== undefined) fence.setError(args.set_error_before.slice(1) as ErrnoCode);
      answer = { ret: fence.signal() ? 0 : '-EINVAL', status: fence.status };
    } else if (op === 'query' && usage !== undefined) {
      const pending = new Set(resv.fences(usage));
      const all = locked(sim, resv, () => resv.entries(usage));
      answer = {
        test_signaled: resv.testSignaled(usage),
        wait_timeout_0: sim.run(() => resv.waitTimeout(usage, 0)) ? 1 : 0,
        locked_iter: numbers(all),
        unlocked_iter: numbers(all.filter((entry) => pending.has(entry.fence))),
      };
    } else if (op === 'dma_resv_get_fences' && usage !== undefined) {
      answer = { ret: 0, fences: resv.fences(usage).map((each) => fences.indexOf(each)) };
    } else if (op === 'dma_resv_get_singleton') {
      continue;
    } else return compared;
    expect(answer).toEqual(result);
    compared++;
  }
  return compared;
}

describe('a DmaResv and Linux 6.1', () => {
  it('answer alike in the recorded programs (resv-kernel), signalled fences and room included', () => {
    const file = path.resolve(import.meta.dirname, '../conformance/vectors/resv-kernel.jsonl');
    const cases = readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line): { case: string; ops: Op[] } => JSON.parse(line));
    const programs = cases.filter(({ case: name }) => name.startsWith('resv-'));
    const compared = programs.reduce((sum, { ops }) => sum + replay(ops), 0);
    expect([programs.length > 10, compared]).toEqual([true, 413]);
  });
});
