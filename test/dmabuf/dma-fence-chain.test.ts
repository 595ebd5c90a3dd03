import { describe, expect, it } from 'vitest';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { DmaFenceChain, dmaFenceChainFindSeqno, dmaFenceChainWalk } from '../../src/dmabuf/dma-fence-chain.ts';
import { DmaFenceTimeline } from '../../src/dmabuf/dma-fence-timeline.ts';
import { allocDmaFenceContext, countLiveDmaFences } from '../../src/dmabuf/dma-fence-world.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { errno } from '../bench.ts';

/** A chain of points 1..`count`, each with a fence of a context of its own; and the tail, the newest. */
function chainOf(
  count: number,
  sim = new Simulator(),
): { sim: Simulator; fences: DmaFence[]; links: DmaFenceChain[]; tail: DmaFenceChain } {
  const fences: DmaFence[] = [];
  const links: DmaFenceChain[] = [];
  for (let point = 1; point <= count; point++) {
    const fence = new DmaFence(sim, allocDmaFenceContext(sim, `f${point}`), 1);
    links.push(new DmaFenceChain(sim, links.at(-1) ?? null, fence, point));
    fences.push(fence);
  }
  return { sim, fences, links, tail: links.at(-1) ?? expect.fail('no link') };
}

describe('DmaFenceChain', () => {
  it('FCH-01 sanitycheck: one link signals with its fence, and is freed by the last put', () => {
    const { sim, fences, links, tail } = chainOf(1);
    expect([tail.seqno, tail.prevSeqno, tail.isSignaled()]).toEqual([1, 0, false]);
    fences[0]?.signal();
    expect(tail.isSignaled()).toBe(true);
    for (const fence of [...fences, ...links]) fence.put();
    expect(countLiveDmaFences(sim)).toBe(0);
  });

  it('FCH-02 find_seqno: finds each point from the tail and from every link, nothing before the first, and no future', () => {
    const { links, tail } = chainOf(64);
    expect(dmaFenceChainFindSeqno(tail, 0) === tail).toBe(true);
    for (const [i, link] of links.entries()) {
      const point = i + 1;
      expect(dmaFenceChainFindSeqno(tail, point) === link).toBe(true);
      expect(dmaFenceChainFindSeqno(link, point) === link).toBe(true);
      expect(() => dmaFenceChainFindSeqno(link, point + 1)).toThrow(errno('EINVAL'));
      const before = links[i - 1] ?? link; // point 0 is the link itself
      expect(dmaFenceChainFindSeqno(link, point - 1) === before).toBe(true);
    }
  });

  it('FCH-03 find_signaled: a point that has signalled is gone, or is the link before', () => {
    const { fences, links, tail } = chainOf(2);
    fences[0]?.signal();
    const found = dmaFenceChainFindSeqno(tail, 1);
    expect(found === null || found === links[0]).toBe(true);
  });

  it('finds the next link that is there for a point in a gap, or for one that was dropped', () => {
    const sim = new Simulator();
    const timeline = new DmaFenceTimeline(sim, { name: 'gpu', id: 1 });
    const low = new DmaFenceChain(sim, null, timeline.fence(), 10);
    const middle = new DmaFenceChain(sim, low, timeline.fence(), 20);
    const high = new DmaFenceChain(sim, middle, timeline.fence(), 30);
    const find = (point: number): number | undefined => dmaFenceChainFindSeqno(high, point)?.seqno;
    expect([5, 10, 11, 20, 25, 30].map(find)).toEqual([10, 10, 20, 20, 30, 30]);
    middle.fence.signal();
    expect([15, 20, 21].map(find)).toEqual([10, 10, 30]);
    low.fence.signal();
    expect([5, 20, 21].map(find)).toEqual([undefined, undefined, 30]);
    expect(high.prev === null).toBe(true);
  });

  it('does not look into the timeline before, when its own has begun later', () => {
    const sim = new Simulator();
    const timeline = new DmaFenceTimeline(sim, { name: 'gpu', id: 1 });
    const link = (prev: DmaFence | null, seqno: number): DmaFenceChain =>
      new DmaFenceChain(sim, prev, timeline.fence(), seqno);
    const other = link(link(null, 5), 10);
    const begin = link(other, 10);
    const tail = link(begin, 20);
    expect([3, 10, 11].map((point) => dmaFenceChainFindSeqno(tail, point)?.seqno)).toEqual([10, 10, 20]);
    expect(dmaFenceChainFindSeqno(tail, 3) === begin).toBe(true);
    begin.fence.signal();
    expect(dmaFenceChainFindSeqno(tail, 3) === other).toBe(true);
  });

  it('finds nothing in a fence that is no link', () => {
    const fence = new DmaFence(new Simulator(), { name: 'gpu', id: 1 }, 5);
    expect(() => dmaFenceChainFindSeqno(fence, 1)).toThrow(errno('EINVAL'));
    expect(() => dmaFenceChainFindSeqno(null, 1)).toThrow(errno('EINVAL'));
    expect([dmaFenceChainFindSeqno(fence, 0) === fence, dmaFenceChainFindSeqno(null, 0)]).toEqual([true, null]);
  });

  it('goes on with the context of the link before for a higher number, else begins a new one with a number as high', () => {
    const sim = new Simulator();
    const timeline = new DmaFenceTimeline(sim, { name: 'gpu', id: 1 });
    const link = (prev: DmaFence | null, seqno: number): DmaFenceChain =>
      new DmaFenceChain(sim, prev, timeline.fence(), seqno);
    const first = link(null, 2 ** 40);
    const next = link(first, 2 ** 40 + 1);
    const again = link(next, 2 ** 40 + 1);
    const back = link(next, 7);
    const onPlain = link(timeline.fence(), 1);
    expect([first, next, again, back, onPlain].map(({ seqno, prevSeqno }) => [seqno, prevSeqno])).toEqual([
      [2 ** 40, 0],
      [2 ** 40 + 1, 2 ** 40],
      [2 ** 40 + 1, 0],
      [2 ** 40 + 1, 0],
      [1, 0],
    ]);
    expect([next.context === first.context, again.context === next.context, back.context === next.context]).toEqual([
      true,
      false,
      false,
    ]);
    expect([next.isLater(first), first.isLater(next)]).toEqual([true, false]);
  });

  it('FCH-07 signal_forward: link i has signalled right after fence i, and the next one has not', () => {
    const { fences, links } = chainOf(64);
    for (const link of links) link.enableSignaling();
    for (const [i, fence] of fences.entries()) {
      fence.signal();
      expect(links.map((link) => link.isSignaled())).toEqual(links.map((_, at) => at <= i));
    }
  });

  it('FCH-08 signal_backward: no link but the first has signalled before the oldest fence, then all have', () => {
    const { fences, links } = chainOf(64);
    for (const link of links) link.enableSignaling();
    for (const fence of fences.toReversed()) {
      expect(links.filter((link) => link.isSignaled())).toHaveLength(0);
      fence.signal();
    }
    expect(links.every((link) => link.signaled)).toBe(true);
  });

  it.each(['forward', 'backward', 'random'])(
    'FCH-09 wait_%s: who waits for the tail of 4096 links goes on after the last fence, and not before',
    (order) => {
      const { sim, fences, tail } = chainOf(4096);
      if (order === 'backward') fences.reverse();
      if (order === 'random') {
        const prng = new Prng(7).fork('order');
        const keys = new Map(fences.map((fence) => [fence, prng.float()]));
        fences.sort((a, b) => (keys.get(a) ?? 0) - (keys.get(b) ?? 0));
      }
      let endNs = -1;
      let wasEarly = false;
      sim.spawn('waiter', function* () {
        yield* tail;
        endNs = sim.now;
      });
      sim.run(function* () {
        for (const fence of fences) {
          yield* sim.delay(1);
          wasEarly ||= endNs >= 0;
          fence.signal();
        }
      });
      sim.run();
      expect([endNs, wasEarly]).toEqual([4096, false]);
    },
  );

  it('calls back after the last of its fences, and not in the callback of that one', () => {
    const { fences, tail } = chainOf(3);
    const calls: string[] = [];
    tail.addCallback((link) => {
      calls.push(`${link.name} ${fences.map((fence) => fence.getStatus())}`);
      return undefined;
    });
    for (const i of [1, 2, 0]) fences[i]?.signal();
    expect(calls).toEqual([`dma_fence_chain:3 1,1,1`]);
  });

  it('does not take over errors of its fences', () => {
    const { fences, tail } = chainOf(1);
    tail.enableSignaling();
    fences[0]?.setError('EIO');
    fences[0]?.signal();
    expect(tail.getStatus()).toBe(1);
  });

  it('names the oldest fence that a deadlock is about', () => {
    const { sim, fences, tail } = chainOf(3);
    fences[0]?.signal();
    fences[2]?.signal();
    expect(() => sim.run(() => tail)).toThrow('fence dma_fence_chain:3 (oldest pending: fence f2:1) since 0 ns');
  });

  it('names a chain that becomes the fence of a link', () => {
    const { sim, tail } = chainOf(2);
    expect(() => new DmaFenceChain(sim, null, tail, 9)).toThrow('fence.nested-container: fence dma_fence_chain:2');
    expect(tail.refs).toBe(1);
  });

  it('passes a deadline on to every pending fence', () => {
    const sim = new Simulator();
    const deadlines: string[] = [];
    const timeline = new DmaFenceTimeline(
      sim,
      { name: 'gpu', id: 1 },
      {
        setDeadline: ({ name }, ns) => {
          deadlines.push(`${name} ${ns}`);
          return undefined;
        },
      },
    );
    const first = new DmaFenceChain(sim, null, timeline.fence(), 1);
    new DmaFenceChain(sim, first, timeline.fence(), 2).setDeadline(40);
    expect(deadlines).toEqual(['gpu:2 40', 'gpu:1 40']);
  });
});

describe('the growth of a DmaFenceChain', () => {
  it('is what is pending: a walk drops the links whose fence has signalled', () => {
    const { fences, tail } = chainOf(5);
    for (const i of [0, 2, 3]) fences[i]?.signal();
    expect(dmaFenceChainWalk(tail)?.seqno).toBe(2);
    expect([tail.prev?.seqno, tail.prevSeqno]).toEqual([2, 4]);
    fences[1]?.signal();
    expect(dmaFenceChainWalk(tail)).toBe(null);
  });

  it('ends with its last reference, however long it is, without a recursion as deep', () => {
    const sim = new Simulator();
    const timeline = new DmaFenceTimeline(sim, { name: 'gpu', id: 1 });
    let tail: DmaFenceChain | null = null;
    for (let point = 1; point <= 60_000; point++) {
      const fence = timeline.fence();
      const next: DmaFenceChain = new DmaFenceChain(sim, tail, fence, point);
      fence.put();
      tail?.put();
      tail = next;
    }
    expect(countLiveDmaFences(sim)).toBe(120_000);
    tail?.put();
    expect([countLiveDmaFences(sim), sim.hazards]).toEqual([0, []]);
  });

  it('stays constant when signalled points are added and somebody looks now and then', () => {
    const sim = new Simulator();
    const timeline = new DmaFenceTimeline(sim, { name: 'gpu', id: 1 });
    let tail: DmaFenceChain | null = null;
    let most = 0;
    for (let point = 1; point <= 1000; point++) {
      const fence = timeline.fence();
      const next: DmaFenceChain = new DmaFenceChain(sim, tail, fence, point);
      fence.signal();
      fence.put();
      tail?.put();
      tail = next;
      if (point % 10 === 0) dmaFenceChainWalk(tail);
      most = Math.max(most, countLiveDmaFences(sim));
    }
    expect(most).toBeLessThan(30);
  });
});
