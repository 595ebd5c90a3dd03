/**
 * Short programs that race, under every order of ready tasks. Each has a form that is right in all of them and a broken one,
 * with a mistake that drivers really make, which the search finds although the first schedule shows nothing.
 */
import { describe, expect, it } from 'vitest';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import { dmaMapSgtable } from '../../src/dma-api/dma-map.ts';
import type { SgTable } from '../../src/dma-api/sg-table.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufAttachment } from '../../src/dmabuf/dma-buf-attachment.ts';
import { linux61 } from '../../src/dmabuf/dma-buf-profile.ts';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { countLiveDmaFences } from '../../src/dmabuf/dma-fence-world.ts';
import { DmaResv, DmaResvUsage, withResvsLocked } from '../../src/dmabuf/dma-resv.ts';
import type { Chooser } from '../../src/sim/chooser.ts';
import { ReplayChooser } from '../../src/sim/chooser.ts';
import { Event } from '../../src/sim/event.ts';
import type { Op } from '../../src/sim/op.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { Bench, type FakePriv } from '../bench.ts';
import { explore, searchSchedules } from '../explore.ts';
import { type TestExporter, testBuffer } from './exporter.ts';

/** A program; `broken` chooses the form with the mistake. Throws when an invariant does not hold. */
type Race = (chooser: Chooser, broken: boolean) => void;

const told = { moveNotify: () => undefined };

/** Every callback is called once or refused; broken: what `addCallback` answers is not looked at. */
const signalAndAddCallback: Race = (chooser, broken) => {
  const sim = new Simulator({ chooser });
  const fence = new DmaFence(sim, { name: 'job', id: 1 }, 1);
  const served: string[] = [];
  for (const name of ['a', 'b']) {
    sim.spawn(name, function* () {
      yield* sim.delay(0);
      const complete = (): undefined => {
        expect(fence.signaled).toBe(true);
        served.push(name);
      };
      const isAdded = fence.addCallback(complete);
      if (!broken && !isAdded) complete();
    });
  }
  sim.spawn('signaller', function* () {
    for (let i = 0; i < 2; i++) yield* sim.delay(0);
    fence.signal();
  });
  sim.run();
  expect(served.sort()).toEqual(['a', 'b']);
};

/** A wait with a limit says truly whether the fence has signalled; broken: the buffer is used whatever it says. */
const signalAndWaitTimeout: Race = (chooser, broken) => {
  const sim = new Simulator({ chooser });
  const fence = new DmaFence(sim, { name: 'job', id: 1 }, 1);
  const timeUp: number[] = [];
  sim.spawn('signaller', function* () {
    yield* sim.delay(10);
    fence.signal();
  });
  for (const name of ['a', 'b']) {
    sim.spawn(name, function* () {
      yield* sim.delay(0);
      const left = yield* fence.waitTimeout(10);
      expect(sim.now).toBe(10);
      if (left === 0) timeUp.push(sim.now);
      if (broken || left > 0) expect(fence.signaled).toBe(true);
    });
  }
  sim.run();
  expect(fence.signaled).toBe(true);
};

/** A buffer that moves: every table knows the place that it was made for. */
class Movable {
  readonly buf: DmaBuf<TestExporter>;
  place = 1;
  readonly #sim: Simulator;
  readonly #placeOf = new Map<SgTable, number>();

  constructor(b: Bench) {
    this.#sim = b.sim;
    this.buf = testBuffer(b, { dynamic: true }, { profile: { ...linux61, moveNotify: true } });
    const { ops, priv } = this.buf;
    Object.assign(ops, {
      pin: () => this.step(),
      mapDmaBuf: (att: DmaBufAttachment<TestExporter>, dir: DmaDirection) => {
        const table = priv.memory.clone();
        dmaMapSgtable(att.dev, table, dir);
        this.#placeOf.set(table, this.place);
        return table;
      },
    });
  }

  /** The addresses of `table` still lead to the buffer. */
  expectCurrent(table: SgTable | null): void {
    expect(table === null ? 'no table' : this.#placeOf.get(table)).toBe(this.place);
  }

  /** As an exporter moves it, with the lock held. */
  move(): void {
    this.buf.moveNotify();
    this.place++;
  }

  /** Lets others run. */
  *step(count = 1): Op<void> {
    for (let i = 0; i < count; i++) yield* this.#sim.delay(0);
  }
}

/** Nothing is left behind: no attachment, no mapping, no lock, no memory. */
function expectRest(b: Bench): void {
  b.sim.run();
  expect([b.leftovers(), b.sim.hazards]).toEqual([[], []]);
}

/** An importer that maps when it has to and uses its addresses with the lock held never uses old ones; broken: it forgets a notice. */
const attachAndMoveNotify: Race = (chooser, broken) => {
  const b = new Bench({ chooser, shadow: false });
  const movable = new Movable(b);
  const { buf } = movable;
  const gpu = b.device('gpu');
  const firstJob = new Event(b.sim, 'first job');
  b.sim.spawn('importer', function* () {
    let isValid = false;
    let table: SgTable | null = null;
    const att = yield* buf.dynamicAttach(gpu, {
      moveNotify() {
        isValid = false;
      },
    });
    for (let job = 0; job < 2; job++) {
      yield* buf.resv.withLock(function* () {
        if (isValid) return movable.expectCurrent(table);
        if (table !== null) yield* att.unmap(table, 'to-device');
        table = yield* att.map('to-device');
        if (!broken) isValid = true;
        movable.expectCurrent(table);
      });
      if (!firstJob.fired) firstJob.fire();
      yield* movable.step();
      if (broken) isValid = true;
      yield* movable.step(2);
    }
    const last: SgTable | null = table;
    if (last !== null) yield* att.unmapUnlocked(last, 'to-device');
    yield* buf.detach(att);
  });
  b.sim.spawn('mover', function* () {
    yield* movable.step();
    yield* buf.resv.withLock(() => movable.move());
    yield* firstJob;
    yield* movable.step(2);
    yield* buf.resv.withLock(() => movable.move());
  });
  b.sim.run();
  buf.put();
  expectRest(b);
};

/** A mapping is taken away when the job that uses it is over; broken: the driver does not wait for its fence. */
const detachAndSignal: Race = (chooser, broken) => {
  const b = new Bench({ chooser, shadow: false });
  const buf = b.fakeBuffer();
  const dev = b.device('dsp', { iommu: true });
  const fence = b.fence();
  b.sim.spawn('driver', function* () {
    const att = yield* buf.attach(dev);
    const sgt = yield* att.mapUnlocked('from-device');
    const address = sgt.dmaAddress(0);
    b.sim.spawn('engine', function* () {
      for (let i = 0; i < 2; i++) yield* b.sim.delay(0);
      dev.port.write(address, Uint8Array.of(1), 0, 1);
      fence.signal();
    });
    for (let i = 0; i < 4; i++) yield* b.sim.delay(0);
    if (!broken) yield* fence;
    yield* att.unmapUnlocked(sgt, 'from-device');
    yield* buf.detach(att);
    buf.put();
  });
  expectRest(b);
  expect([dev.port.faultCount, buf.released]).toEqual([0, true]);
};

/** A dynamic importer looks at the KERNEL fences before it uses what it has mapped; broken: it does not. */
const mapAndMove: Race = (chooser, broken) => {
  const b = new Bench({ chooser, shadow: false });
  const movable = new Movable(b);
  const { buf } = movable;
  let contentAt = 1;
  b.sim.spawn('importer', function* () {
    const att = yield* buf.dynamicAttach(b.device('gpu'), told);
    yield* buf.resv.withLock(function* () {
      const sgt = yield* att.map('to-device');
      movable.expectCurrent(sgt);
      if (!broken) yield* buf.resv.wait(DmaResvUsage.kernel);
      expect(contentAt).toBe(movable.place);
      yield* att.unmap(sgt, 'to-device');
    });
    yield* buf.detach(att);
  });
  b.sim.spawn('mover', function* () {
    yield* movable.step();
    const copied = b.fence();
    yield* buf.resv.withLock(() => {
      buf.resv.reserveFences(1);
      movable.move();
      buf.resv.addFence(copied, DmaResvUsage.kernel);
    });
    yield* movable.step();
    contentAt = movable.place;
    copied.signal();
  });
  b.sim.run();
  buf.put();
  expectRest(b);
};

/** Two tasks lock two buffers in opposite orders and both come to an end; broken: without a context. */
const lockOrder: Race = (chooser, broken) => {
  const sim = new Simulator({ chooser });
  const resvs = ['a', 'b'].map((name) => new DmaResv(sim, name));
  let inside = 0;
  const work = function* (): Op<void> {
    expect(++inside).toBe(1);
    yield* sim.delay(0);
    inside--;
  };
  for (const [startNs, order] of [resvs, [...resvs].reverse()].entries()) {
    sim.spawn(`task${startNs}`, function* () {
      const [first, second] = order as [DmaResv, DmaResv];
      yield* sim.delay(startNs);
      for (let i = 0; i < 3 * startNs; i++) yield* sim.delay(0);
      sim.charge(1); // so that it is interrupted with its first lock taken
      if (broken) yield* first.withLock(() => second.withLock(work));
      else yield* withResvsLocked(sim, order, work);
    });
  }
  sim.run();
  expect(resvs.some(({ isLocked }) => isLocked)).toBe(false);
};

/** A buffer does not move while anybody has it pinned; broken: the exporter looks at the pins before it has the lock. */
const twoPinsAndMove: Race = (chooser, broken) => {
  const b = new Bench({ chooser, shadow: false });
  const movable = new Movable(b);
  const { buf } = movable;
  const isPinned = (): boolean => buf.attachments.some(({ pinCount }) => pinCount > 0);
  for (const name of ['cam', 'gpu']) {
    b.sim.spawn(name, function* () {
      const att = yield* buf.dynamicAttach(b.device(name), told);
      yield* buf.resv.withLock(() => att.pin());
      const pinnedAt = movable.place;
      yield* buf.resv.withLock(() => {
        expect(movable.place).toBe(pinnedAt);
        return att.unpin();
      });
      yield* buf.detach(att);
    });
  }
  b.sim.spawn('mover', function* () {
    yield* movable.step();
    const seenEarly = isPinned();
    yield* buf.resv.withLock(() => {
      if (!(broken ? seenEarly : isPinned())) movable.move();
    });
  });
  b.sim.run();
  expect(isPinned()).toBe(false);
  buf.put();
  expectRest(b);
};

/** An importer takes its own reference in the step in which it looks a buffer up; broken: later. */
const putAndAttach: Race = (chooser, broken) => {
  const b = new Bench({ chooser, shadow: false });
  const made = b.fakeBuffer({ attach: () => b.sim.delay(0) });
  const slot: { buf: DmaBuf<FakePriv> | null } = { buf: made };
  b.sim.spawn('importer', function* () {
    const buf = slot.buf;
    if (buf === null) return;
    if (!broken) buf.get();
    const att: DmaBufAttachment<FakePriv> = yield* buf.attach(b.device('gpu'));
    yield* b.sim.delay(0);
    expect(buf.released).toBe(false);
    yield* buf.detach(att);
    if (!broken) buf.put();
  });
  b.sim.spawn('closer', function* () {
    for (let i = 0; i < 4; i++) yield* b.sim.delay(0);
    slot.buf?.put();
    slot.buf = null;
  });
  expectRest(b);
  expect([made.released, made.priv.calls.at(-1)]).toEqual([true, 'release']);
  expect(countLiveDmaFences(b.sim)).toBe(0);
};

const RACES: readonly (readonly [title: string, race: Race])[] = [
  ['a fence that signals while callbacks are added', signalAndAddCallback],
  ['a fence that signals when the limit of a wait is over', signalAndWaitTimeout],
  ['an importer that attaches while the exporter moves the buffer', attachAndMoveNotify],
  ['a driver that detaches while a job is about to signal', detachAndSignal],
  ['an importer that maps while a move is under way', mapAndMove],
  ['two tasks that lock two buffers in opposite orders', lockOrder],
  ['two importers that pin while the exporter wants to move', twoPinsAndMove],
  ['an importer that attaches while the last known reference is put', putAndAttach],
];

describe.each(RACES)('%s', (_, race) => {
  it('is right in every schedule', () => {
    const schedules = explore((chooser) => race(chooser, false));
    expect(schedules).toBeGreaterThan(5);
  });

  it('is found in its broken form, by a schedule that can be replayed', () => {
    const { failure } = searchSchedules((chooser) => race(chooser, true));
    const message = failure?.error instanceof Error ? failure.error.message : 'no failure';
    expect(failure?.nth, 'the first schedule must not show it').toBeGreaterThan(1);
    expect(() => race(new ReplayChooser(failure?.choices ?? ''), true)).toThrow(message);
  });
});
