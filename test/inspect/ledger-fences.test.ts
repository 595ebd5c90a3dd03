/** Random drivers with fences. After each call the ledger tells whose every reference is: the driver's own are loose, no others. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { DmaFenceArray } from '../../src/dmabuf/dma-fence-array.ts';
import { DmaFenceChain } from '../../src/dmabuf/dma-fence-chain.ts';
import { allocDmaFenceContext } from '../../src/dmabuf/dma-fence-world.ts';
import { DmaResv, DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import { SyncFile } from '../../src/dmabuf/sync-file.ts';
import { ledgerGraph } from '../../src/inspect/ledger-graph.ts';
import { lift } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { Syncobj } from '../../src/uapi/syncobj.ts';

class Driver {
  readonly sim = new Simulator({ watch: true, callSites: false });
  readonly #random: Prng;
  readonly #context = allocDmaFenceContext(this.sim, 'ring');
  readonly #resvs = [new DmaResv(this.sim, 'a'), new DmaResv(this.sim, 'b')];
  readonly #syncobjs = [new Syncobj(this.sim), new Syncobj(this.sim)];
  readonly #files: SyncFile[] = [];
  /** Its own references, each fence as often as it has some. */
  readonly #mine: DmaFence[] = [];
  #seqno = 0;

  constructor(seed: number) {
    this.#random = new Prng(seed);
  }

  run(calls: number): void {
    for (let i = 0; i < calls; i++) {
      this.#call(this.#random.int(14));
      this.#compare();
    }
    for (const fence of [...this.#mine].reverse()) fence.signal();
    for (const syncobj of this.#syncobjs) syncobj.put();
    for (const file of this.#files) file.release();
    for (const resv of this.#resvs) resv.fini();
    for (const fence of this.#mine) fence.put();
    expect([...this.sim.objects.live].map(({ name }) => name)).toEqual([]);
  }

  #call(what: number): void {
    const fence = this.#pick(this.#mine.slice(-6)); // young ones, so that much happens to each
    const syncobj = this.#pick(this.#syncobjs) as Syncobj;
    const file = this.#pick(this.#files);
    if (what < 3 || fence === undefined) this.#mine.push(new DmaFence(this.sim, this.#context, ++this.#seqno));
    else if (what === 3) this.#mine.push(fence.get());
    else if (what === 4) this.#put(fence);
    else if (what === 5) fence.signal();
    else if (what === 6) this.#files.push(new SyncFile(this.sim, fence));
    else if (what === 7 && file !== undefined) this.#files.splice(this.#files.indexOf(file), 1)[0]?.release();
    else if (what === 8) this.#addTo(this.#pick(this.#resvs) as DmaResv, fence);
    else if (what === 9) this.#gather();
    else if (what === 10 && !fence.isContainer) syncobj.addPoint(fence, syncobj.submitted() + 1 + this.#random.int(3));
    else if (what === 11) syncobj.replaceFence(this.#random.int(2) === 0 ? null : fence);
    else if (what === 12) {
      const found = syncobj.findFence(this.#random.int(4));
      if (found !== null) this.#mine.push(found);
    } else if (what === 13) fence.addCallback(() => undefined);
  }

  /** One of its own references, but not the last of a pending fence: somebody has to signal it. */
  #put(fence: DmaFence): void {
    if (!fence.signaled && this.#mine.filter((mine) => mine === fence).length === 1) return;
    this.#mine.splice(this.#mine.indexOf(fence), 1);
    fence.put();
  }

  #addTo(resv: DmaResv, fence: DmaFence): void {
    if (fence.isContainer || !resv.tryLock()) return;
    resv.reserveFences(1);
    resv.addFence(fence, this.#random.int(2) === 0 ? DmaResvUsage.write : DmaResvUsage.read);
    resv.unlock();
  }

  #gather(): void {
    const plain = this.#mine.filter((fence) => !fence.isContainer);
    const [one, two] = [this.#pick(plain), this.#pick(plain)];
    if (one === undefined || two === undefined) return;
    const isArray = this.#random.int(2) === 0;
    const prev = this.#pick(this.#mine.filter((fence) => fence instanceof DmaFenceChain)) ?? null;
    this.#mine.push(isArray ? new DmaFenceArray(this.sim, [one, two]) : new DmaFenceChain(this.sim, prev, one, 1));
  }

  #compare(): void {
    const { objects } = this.sim;
    const live = [...objects.live];
    const loose = new Map<object, number>();
    for (const { id, kind } of live) {
      const thing = objects.subject(id);
      if (kind === 'reference' && thing !== undefined) loose.set(thing, (loose.get(thing) ?? 0) + 1);
    }
    for (const { id, kind, name } of live) {
      const thing = objects.subject(id);
      if (kind !== 'fence' || !(thing instanceof DmaFence)) continue;
      const mine = this.#mine.filter((fence) => fence === thing).length;
      const told = { name, references: objects.references(thing), loose: loose.get(thing) ?? 0 };
      expect(told).toEqual({ name, references: thing.refs, loose: mine });
      expect([name, thing.signaled && thing.refs === mine && mine === 1]).toEqual([name, false]);
    }
    const known = new Set(live.map(({ id }) => objects.subject(id)));
    for (const fence of this.#mine) if (!fence.signaled) expect(known.has(fence), fence.name).toBe(true);
    for (const loop of ledgerGraph(this.sim).loops) for (const { kind } of loop) expect(kind).toBe('fence');
  }

  #pick<T>(from: readonly T[]): T | undefined {
    return from.length === 0 ? undefined : from[this.#random.int(from.length)];
  }
}

describe('the ledger of fences', () => {
  it('knows whose each reference is, whatever arrays, chains, reservations, sync files and sync objects take', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000_000 }), (seed) => {
        const driver = new Driver(seed);
        driver.sim.run(() => lift(driver.run(150)));
      }),
      { numRuns: 5, seed: 3 },
    );
  });
});
