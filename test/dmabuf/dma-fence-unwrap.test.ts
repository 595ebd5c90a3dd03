import { describe, expect, it } from 'vitest';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { DmaFenceArray } from '../../src/dmabuf/dma-fence-array.ts';
import { DmaFenceChain } from '../../src/dmabuf/dma-fence-chain.ts';
import { dedupDmaFences, dmaFenceUnwrap, dmaFenceUnwrapMerge } from '../../src/dmabuf/dma-fence-unwrap.ts';
import { allocDmaFenceContext, countLiveDmaFences, setDmaFenceRules } from '../../src/dmabuf/dma-fence-world.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { errno } from '../bench.ts';

/** Contexts a, b and c, numbered in that order; fences are told by context and number: `'a:1'`. */
function setUp(): { sim: Simulator; fence: (name: string) => DmaFence; merge: (...fences: DmaFence[]) => DmaFence } {
  const sim = new Simulator();
  const contexts = new Map(['a', 'b', 'c'].map((name) => [name, allocDmaFenceContext(sim, name)]));
  const fence = (name: string): DmaFence => {
    const [context = '', seqno] = name.split(':');
    return new DmaFence(sim, contexts.get(context) ?? expect.fail(context), Number(seqno));
  };
  return { sim, fence, merge: (...fences) => dmaFenceUnwrapMerge(sim, fences) };
}

const names = (fences: readonly DmaFence[]): string[] => fences.map(({ name }) => name);
const inside = (fence: DmaFence): string[] => names(dmaFenceUnwrap(fence));

describe('dmaFenceUnwrap', () => {
  it('FUW-01 unwrap_array: gives exactly the members, in their order', () => {
    const { sim, fence } = setUp();
    expect(inside(new DmaFenceArray(sim, [fence('b:1'), fence('a:1')]))).toEqual(['b:1', 'a:1']);
  });

  it('FUW-02 unwrap_chain: gives exactly the fences of the links, the newest first', () => {
    const { sim, fence } = setUp();
    const first = new DmaFenceChain(sim, null, fence('a:1'), 1);
    expect(inside(new DmaFenceChain(sim, first, fence('b:1'), 2))).toEqual(['b:1', 'a:1']);
    expect(inside(new DmaFenceChain(sim, fence('c:1'), fence('b:1'), 2))).toEqual(['b:1', 'c:1']);
  });

  it('FUW-03 unwrap_chain_array: gives the members of an array that is the fence of a link, flattened', () => {
    const { sim, fence } = setUp();
    const array = new DmaFenceArray(sim, [fence('a:1'), fence('b:1')]);
    expect(inside(new DmaFenceChain(sim, null, array, 1))).toEqual(['a:1', 'b:1']);
    expect(inside(new DmaFenceChain(sim, array, fence('c:1'), 1))).toEqual(['c:1', 'a:1', 'b:1']);
  });

  it('gives a plain fence itself, and shows signalled ones but drops links that are behind', () => {
    const { sim, fence } = setUp();
    expect(inside(fence('a:1'))).toEqual(['a:1']);
    const done = fence('a:1');
    done.signal();
    expect(inside(new DmaFenceArray(sim, [done, fence('b:1')]))).toEqual(['a:1', 'b:1']);
    const first = new DmaFenceChain(sim, null, done, 1);
    expect(inside(new DmaFenceChain(sim, first, fence('c:1'), 2))).toEqual(['c:1']);
    expect(inside(first)).toEqual(['a:1']);
  });
});

describe('dmaFenceUnwrapMerge', () => {
  it('FUW-04 unwrap_merge: gives an array of exactly both, which signals after both', () => {
    const { fence, merge } = setUp();
    const [a, b] = [fence('a:1'), fence('b:1')];
    const merged = merge(a, b);
    expect([merged instanceof DmaFenceArray, inside(merged), merged.seqno]).toEqual([true, ['a:1', 'b:1'], 1]);
    a.signal();
    expect(merged.isSignaled()).toBe(false);
    b.signal();
    expect(merged.isSignaled()).toBe(true);
  });

  it('FUW-06 merge_duplicate: gives a fence that comes twice once, as itself', () => {
    const { fence, merge } = setUp();
    const a = fence('a:1');
    expect(merge(a, a) === a).toBe(true);
  });

  it('keeps the latest of each context, across the 32-bit wrap as well', () => {
    const { fence, merge } = setUp();
    const merged = merge(fence('b:3'), fence('a:4294967295'), fence('b:4'), fence('a:0'), fence('b:2'));
    expect(inside(merged)).toEqual(['a:0', 'b:4']);
    const [old, young] = [fence('c:1'), fence('c:2')];
    expect([merge(old, young) === young, merge(young, old) === young]).toEqual([true, true]);
  });

  it('FUW-08 merge_order: gives each fence of an array and a chain once, sorted by context', () => {
    const { sim, fence, merge } = setUp();
    const [f1, f2] = [fence('a:1'), fence('b:1')];
    const array = new DmaFenceArray(sim, [f1, f2]);
    const chain = new DmaFenceChain(sim, new DmaFenceChain(sim, null, f1, 1), f2, 2);
    expect(inside(merge(array, chain))).toEqual(['a:1', 'b:1']);
    expect(inside(merge(chain, array))).toEqual(['a:1', 'b:1']);
  });

  it('merges what was merged before', () => {
    const { sim, fence, merge } = setUp();
    const older = merge(fence('a:1'), fence('b:5'));
    const chain = new DmaFenceChain(sim, new DmaFenceChain(sim, null, fence('b:6'), 1), older, 2);
    expect(inside(merge(chain, fence('a:2'), fence('c:1')))).toEqual(['a:2', 'b:6', 'c:1']);
  });

  it('leaves out what has signalled; the only one that is left comes as itself, with a reference', () => {
    const { fence, merge } = setUp();
    const [done, left] = [fence('a:1'), fence('b:1')];
    done.signal();
    expect([merge(done, left) === left, left.refs]).toEqual([true, 2]);
  });

  it('gives a fresh stub when nothing is pending: without the error of a part, signalled when the last one was', () => {
    const { sim, fence, merge } = setUp();
    const [first, last] = [fence('a:1'), fence('b:1')];
    first.setError('EIO');
    sim.runUntil(100);
    last.signal();
    first.signalTimestamp(30);
    const stub = merge(first, last);
    expect([stub.driverName, stub.getStatus(), stub.timestampNs]).toEqual(['stub', 1, 100]);
    expect(merge(first, last) === stub).toBe(false);
    expect([merge().getStatus(), merge().timestampNs]).toEqual([1, 0]);
  });

  it('keeps all pending fences of a context by the rule of kernels before it was changed', () => {
    const { sim, fence, merge } = setUp();
    setDmaFenceRules(sim, { mergeKeeps: 'all' });
    const twice = fence('a:1');
    expect(inside(merge(fence('b:1'), twice, fence('a:2'), twice))).toEqual(['a:1', 'a:2', 'b:1']);
  });

  it('that finds no memory changes nothing', () => {
    const { sim, fence, merge } = setUp();
    const fences = [fence('a:1'), fence('b:1')];
    setDmaFenceRules(sim, { failAllocation: (site) => site === 'dma_fence_unwrap_merge' });
    expect(() => merge(...fences)).toThrow(errno('ENOMEM'));
    expect([fences.map(({ refs }) => refs), countLiveDmaFences(sim)]).toEqual([[1, 1], 2]);
  });
});

describe('dedupDmaFences', () => {
  it('FUW-10 dedup_empty: gives nothing for nothing', () => {
    expect(dedupDmaFences([])).toEqual([]);
  });

  it('gives the latest of each context, sorted by context', () => {
    const { fence } = setUp();
    expect(names(dedupDmaFences(['c:1', 'a:2', 'c:3', 'a:1'].map(fence)))).toEqual(['a:2', 'c:3']);
  });
});
