import { describe, expect, it } from 'vitest';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { DmaFenceArray } from '../../src/dmabuf/dma-fence-array.ts';
import { DmaFenceChain } from '../../src/dmabuf/dma-fence-chain.ts';
import { allocDmaFenceContext, countLiveDmaFences } from '../../src/dmabuf/dma-fence-world.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { invariant } from '../bench.ts';

/** `count` fences of a context each, and a list of what was called. */
function setUp(count: number): {
  sim: Simulator;
  fences: DmaFence[];
  calls: string[];
  note: (name: string) => () => undefined;
} {
  const sim = new Simulator();
  const calls: string[] = [];
  const fences = Array.from({ length: count }, (_, i) => new DmaFence(sim, allocDmaFenceContext(sim, `f${i}`), 1));
  const note = (name: string) => (): undefined => {
    calls.push(name);
  };
  return { sim, fences, calls, note };
}

const signalAll = (fences: readonly DmaFence[]): boolean[] => fences.map((fence) => fence.signal());

describe('DmaFenceArray', () => {
  it('signals with the last of its members, or with the first, once somebody waits', () => {
    for (const [signalOnAny, expected] of [
      [false, ['0', '1', '2', 'array']],
      [true, ['0', 'array', '1', '2']],
    ] as const) {
      const { sim, fences, calls, note } = setUp(3);
      const array = new DmaFenceArray(sim, fences, { signalOnAny });
      for (const [i, fence] of fences.entries()) fence.addCallback(note(`${i}`));
      array.addCallback(note('array'));
      signalAll(fences);
      expect(calls).toEqual(expected);
      expect([array.signaled, array.getStatus(), array.rawError]).toEqual([true, 1, 0]);
    }
  });

  it('does nothing by itself, but tells who asks how its members are', () => {
    for (const signalOnAny of [false, true]) {
      const { sim, fences } = setUp(2);
      const array = new DmaFenceArray(sim, fences, { signalOnAny });
      expect(array.isSignaled()).toBe(false);
      fences[1]?.signal();
      expect([array.signaled, array.isSignaled()]).toEqual([false, signalOnAny]);
      fences[0]?.signal();
      expect([array.signaled, array.isSignaled(), array.signaled]).toEqual([signalOnAny, true, true]);
    }
  });

  it('is waited for until the members have signalled, and is named in a deadlock with those that have not', () => {
    const { sim, fences } = setUp(3);
    const array = new DmaFenceArray(sim, fences);
    sim.after(100, () => {
      fences[0]?.signal();
      return undefined;
    });
    expect(() => sim.run(() => array)).toThrow(
      'fence dma_fence_array:1 (2 of 3 pending: fence f1:1; fence f2:1) since 0 ns',
    );
    sim.after(50, () => {
      signalAll(fences);
      return undefined;
    });
    expect(sim.run(() => array.waitTimeout(80))).toBe(30);
  });

  it('takes over the error of the first member that fails while it is waited for', () => {
    const { sim, fences, note } = setUp(3);
    const array = new DmaFenceArray(sim, fences);
    array.addCallback(note('array'));
    expect([array.rawError, array.error, array.getStatus()]).toEqual([1, null, 0]);
    fences[0]?.signal();
    fences[2]?.setError('EIO');
    fences[2]?.signal();
    fences[1]?.setError('ECANCELED');
    fences[1]?.signal();
    expect([array.error, array.rawError, array.getStatus()]).toEqual(['EIO', -5, -5]);
  });

  it('takes over an error that a member had when the wait began', () => {
    const { sim, fences } = setUp(1);
    fences[0]?.setError('EIO');
    fences[0]?.signal();
    const array = new DmaFenceArray(sim, fences);
    expect([array.addCallback(() => undefined), array.getStatus()]).toEqual([false, -5]);
    const fine = setUp(1);
    signalAll(fine.fences);
    const success = new DmaFenceArray(fine.sim, fine.fences);
    expect([success.addCallback(() => undefined), success.getStatus(), success.rawError]).toEqual([false, 1, 0]);
  });

  it('has no error of a member when it was only asked, and none that comes after its signal', () => {
    const { sim, fences } = setUp(2);
    const [first, second] = fences;
    const asked = new DmaFenceArray(sim, fences, { signalOnAny: true });
    const waited = new DmaFenceArray(sim, fences, { signalOnAny: true });
    waited.enableSignaling();
    first?.signal();
    second?.setError('EIO');
    second?.signal();
    expect([asked.getStatus(), waited.getStatus(), waited.error]).toEqual([1, 1, null]);
    const late = new DmaFenceArray(sim, fences.slice(1));
    expect([late.isSignaled(), late.getStatus(), late.rawError]).toEqual([true, 1, 0]);
  });

  it('that was signalled by hand is a success that has not looked for errors', () => {
    const { sim, fences } = setUp(1);
    const array = new DmaFenceArray(sim, fences);
    array.signal();
    expect([array.getStatus(), array.rawError]).toEqual([1, 1]);
  });

  it('BG-25: signals when its last member is unlocked, not in the callback of that one', () => {
    const { sim, fences, calls, note } = setUp(1);
    const [member] = fences;
    const array = new DmaFenceArray(sim, fences);
    array.addCallback((fence) => {
      // Would be refused while a callback of the member runs.
      calls.push(`array ${fence.signaled} member ${member?.getStatus()}`);
      return undefined;
    });
    member?.addCallback(note('behind the array'));
    expect(member?.signal()).toBe(true);
    expect(calls).toEqual(['behind the array', 'array true member 1']);
  });

  it('whose last member is signalled in the callback of another fence signals when that is unlocked, too', () => {
    const { sim, fences, calls, note } = setUp(2);
    const [outer, member] = fences;
    new DmaFenceArray(sim, fences.slice(1)).addCallback(note('array'));
    outer?.addCallback(() => {
      calls.push(`member ${member?.signal()}`);
      return undefined;
    });
    outer?.addCallback(note('outer'));
    outer?.signal();
    expect(calls).toEqual(['member true', 'outer', 'array']);
  });

  it('that shares its last member with others signals after them, if it was waited for before them', () => {
    const { sim, fences, calls, note } = setUp(1);
    for (const name of ['a', 'b', 'c']) new DmaFenceArray(sim, fences).addCallback(note(name));
    signalAll(fences);
    expect(calls).toEqual(['c', 'b', 'a']);
  });

  it('passes a deadline on to its members', () => {
    const sim = new Simulator();
    const deadlines: string[] = [];
    const members = [1, 2].map(
      (seqno) =>
        new DmaFence(sim, { name: 'gpu', id: 1 }, seqno, {
          setDeadline: ({ name }, ns) => {
            deadlines.push(`${name} ${ns}`);
            return undefined;
          },
        }),
    );
    const array = new DmaFenceArray(sim, members);
    members[0]?.signal();
    array.setDeadline(700);
    expect(deadlines).toEqual(['gpu:2 700']);
  });

  it('keeps its members, and while they are watched they keep it', () => {
    const { sim, fences } = setUp(2);
    const array = new DmaFenceArray(sim, fences);
    array.enableSignaling();
    for (const fence of fences) fence.put();
    array.put();
    expect([array.refs, countLiveDmaFences(sim)]).toEqual([2, 3]);
    signalAll(fences);
    expect([array.refs, countLiveDmaFences(sim), sim.hazards]).toEqual([0, 0, []]);
  });

  it('refuses to stand for nothing', () => {
    expect(() => new DmaFenceArray(new Simulator(), [])).toThrow(invariant('no fence given'));
  });

  it('names an array or a chain that becomes a member, and takes no reference then', () => {
    const { sim, fences } = setUp(2);
    const [plain, other] = fences;
    if (plain === undefined || other === undefined) return expect.fail();
    const nested = [new DmaFenceArray(sim, [plain]), new DmaFenceChain(sim, null, plain, 1)];
    for (const container of nested) {
      expect(() => new DmaFenceArray(sim, [other, container])).toThrow('fence.nested-container: fence dma_fence_');
    }
    expect([other.refs, countLiveDmaFences(sim)]).toEqual([1, 4]);
  });
});
