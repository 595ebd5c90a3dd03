import { describe, expect, it } from 'vitest';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { DmaFenceChain } from '../../src/dmabuf/dma-fence-chain.ts';
import { dmaFenceGetStub } from '../../src/dmabuf/dma-fence-stub.ts';
import { allocDmaFenceContext, countLiveDmaFences, setDmaFenceRules } from '../../src/dmabuf/dma-fence-world.ts';
import { SyncFile } from '../../src/dmabuf/sync-file.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { errno, invariant } from '../bench.ts';

const OPS = { getDriverName: () => 'sw_sync', getTimelineName: () => 'user' };

/** Two fences of a context each, and a file for each. */
function setUp(): { sim: Simulator; a: DmaFence; b: DmaFence; fileA: SyncFile; fileB: SyncFile } {
  const sim = new Simulator();
  const make = (name: string, seqno: number): DmaFence =>
    new DmaFence(sim, allocDmaFenceContext(sim, name), seqno, OPS);
  const [a, b] = [make('a', 3), make('b', 4)];
  return { sim, a, b, fileA: new SyncFile(sim, a), fileB: new SyncFile(sim, b) };
}

describe('a SyncFile', () => {
  it('is named as it was told, or after driver, timeline, context and number of its fence; 31 characters at most', () => {
    const { sim, a, b, fileA, fileB } = setUp();
    expect(fileA.name).toBe(`sw_sync-user${a.context.id}-3`);
    expect(fileA.merge(fileB, 'both').name).toBe('both');
    const merged = fileA.merge(fileB, '');
    expect(merged.name).toBe(`dma_fence_array-unbound${merged.fence.context.id}-1`.slice(0, 31));
    expect(new SyncFile(sim, b, 'x'.repeat(40)).name).toBe('x'.repeat(31));
    expect(new SyncFile(sim, dmaFenceGetStub(sim)).name).toBe('stub-stub0-0');
  });

  it('tells status, names and times of its fences', () => {
    const { sim, a, b, fileA, fileB } = setUp();
    const both = fileA.merge(fileB, 'both');
    const pending = { objName: 'user', driverName: 'sw_sync', status: 0, timestampNs: 0 };
    expect(both.info()).toEqual({ name: 'both', status: 0, numFences: 2, fences: [pending, pending] });
    sim.runUntil(25);
    a.signal();
    expect(both.info()).toMatchObject({ status: 0, fences: [{ status: 1, timestampNs: 25 }, { status: 0 }] });
    b.setError('EIO');
    b.signal();
    expect(both.info()).toMatchObject({ status: -5, fences: [{ status: 1 }, { status: -5 }] });
  });

  it('asked for the number only, tells the status of the whole, which is not that of a part', () => {
    const { b, fileA, fileB, a } = setUp();
    const both = fileA.merge(fileB, 'both');
    expect(both.info(0)).toEqual({ name: 'both', status: 0, numFences: 2, fences: [] });
    a.signal();
    b.setError('EIO');
    b.signal();
    expect([both.info(0).status, both.info(2).status]).toEqual([1, -5]);
  });

  it('has the status of the first that failed', () => {
    const { a, b, fileA, fileB } = setUp();
    const both = fileA.merge(fileB, 'both');
    a.setError('EIO');
    a.signal();
    b.setError('ECANCELED');
    expect(both.info().status).toBe(-5);
    b.signal();
    expect(both.info().status).toBe(-5);
  });

  it('refuses to tell more fences than there is room for', () => {
    const { fileA, fileB } = setUp();
    const both = fileA.merge(fileB, 'both');
    expect(() => both.info(1)).toThrow(errno('EINVAL'));
    expect(() => both.info(-1)).toThrow(invariant('room -1'));
    expect(both.info(2).numFences).toBe(2);
  });

  it('shows the fences of a chain, as far as they are pending', () => {
    const { sim, a, b } = setUp();
    const file = new SyncFile(sim, new DmaFenceChain(sim, new DmaFenceChain(sim, null, a, 1), b, 2));
    expect(file.info().numFences).toBe(2);
    a.signal();
    expect(file.info().numFences).toBe(1);
  });

  it('merged from what has signalled, has signalled with status 1: the error of a part is lost', () => {
    const { a, b, fileA, fileB } = setUp();
    a.setError('ENOENT');
    a.signal();
    b.signal();
    expect(fileA.info()).toMatchObject({ status: -2 });
    const merged = fileA.merge(fileB, 'm');
    expect(merged.info()).toMatchObject({ status: 1, numFences: 1, fences: [{ objName: 'stub', driverName: 'stub' }] });
    expect(fileA.merge(fileA, 'm').info().status).toBe(1);
  });

  it('is a snapshot: what is merged later does not change it', () => {
    const { a, b, fileA, fileB } = setUp();
    const both = fileA.merge(fileB, 'both');
    fileA.release();
    fileB.release();
    a.signal();
    expect([both.poll(), both.info().numFences]).toEqual([false, 2]);
    b.signal();
    expect(both.poll()).toBe(true);
  });

  it('shows a poller that it has signalled, failed or not, and wakes who waits then', () => {
    const { sim, a, fileA } = setUp();
    let endNs = -1;
    sim.spawn('poller', function* () {
      while (!fileA.poll()) yield* fileA.waiters.wait();
      endNs = sim.now;
    });
    sim.runUntil(40);
    a.setError('EIO');
    a.signal();
    sim.run();
    expect([endNs, fileA.poll()]).toEqual([40, true]);
  });

  it('is waited for with a limit', () => {
    const { sim, a, fileA } = setUp();
    expect([sim.run(() => fileA.waitTimeout(10)), sim.now]).toEqual([0, 10]);
    a.signal();
    expect(sim.run(() => fileA.waitTimeout(0))).toBe(1);
  });

  it('gives everything back with its release, also when somebody has polled', () => {
    const { sim, a, b, fileA, fileB } = setUp();
    const both = fileA.merge(fileB, 'both');
    for (const file of [both, fileA, fileB]) {
      file.poll();
      file.release();
    }
    expect([a.refs, b.refs]).toEqual([2, 2]); // the merged fence is watched, so its parts keep it until they signal
    a.signal();
    b.signal();
    expect([a.refs, b.refs, countLiveDmaFences(sim)]).toEqual([1, 1, 2]);
    expect(() => both.info()).toThrow(invariant('SyncFile both: info after its release'));
  });

  it('is not called any more by its fence after the release', () => {
    const { sim, a, fileA } = setUp();
    let isWoken = false;
    fileA.poll();
    sim.spawn(
      'poller',
      function* () {
        yield* fileA.waiters.wait();
        isWoken = true;
      },
      { daemon: true },
    );
    sim.runUntil(1);
    fileA.release();
    a.signal();
    sim.run();
    expect(isWoken).toBe(false);
  });

  it.each(['sync_file_create', 'dma_fence_unwrap_merge'] as const)(
    'that finds no memory in %s changes nothing',
    (where) => {
      const { sim, a, b, fileA, fileB } = setUp();
      setDmaFenceRules(sim, { failAllocation: (site) => site === where });
      expect(() => fileA.merge(fileB, 'both')).toThrow(errno('ENOMEM'));
      expect([a.refs, b.refs, countLiveDmaFences(sim)]).toEqual([2, 2, 2]);
    },
  );
});
