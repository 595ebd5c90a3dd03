/**
 * Shared buffers, fences and reservations.
 *
 *     node dmabuf.bench.js cycle PAGES                    prints { "value": cycles a second }
 *     node dmabuf.bench.js fence CALLBACKS                prints { "value": fences a second }
 *     node dmabuf.bench.js resv FENCES                    prints { "value": fences a second }
 *     node dmabuf.bench.js ww                             prints { "value": locks a second }
 *     node --expose-gc dmabuf.bench.js bytes WHAT COUNT   prints { "value": bytes of host memory of one }
 *
 * `cycle`: export, attach, map, unmap, detach, put and release of a buffer whose pages are all apart, without an IOMMU. `fence`: a
 * fence is made, gets so many callbacks, signals and is put. `resv`: that many fences, each of a context of its own, are
 * added one by one to an empty reservation, waited for, signalled. `ww`: eight tasks lock sixteen reservations, each in an order of
 * its own. `bytes`: a live `buffer`, `attachment` (mapped, one page) or `fence`.
 */
import process from 'node:process';
import {
  type DmaBuf,
  DmaFence,
  DmaFenceTimeline,
  DmaResv,
  DmaResvUsage,
  dmaMapSgtable,
  dmaUnmapSgtable,
  exportDmaBuf,
  GIB,
  lift,
  type MaybeOp,
  type Op,
  PAGE_SIZE,
  pc,
  physAddr,
  SgTable,
  Simulator,
  withResvsLocked,
} from '../src/index.ts';
import { cpuSeconds } from './limits/cpu-seconds.mjs';

const [what = '', first = '', second = ''] = process.argv.slice(2);

/** Times `rounds` rounds after a quarter of them as a warm-up. @returns useful operations a second. */
function rate(rounds: number, perRound: number, round: () => void): number {
  for (let i = 0; i < rounds / 4; i++) round();
  const start = cpuSeconds();
  for (let i = 0; i < rounds; i++) round();
  return (rounds * perRound) / (cpuSeconds() - start);
}

function scattered(pages: number): SgTable {
  return new SgTable(
    Array.from({ length: pages }, (_, i) => ({ phys: physAddr(4 * GIB + 2 * i * PAGE_SIZE), length: PAGE_SIZE })),
  );
}

function machineWithDevice() {
  const machine = pc({ highRamBytes: GIB, bytes: false, shadow: false, dmaDebug: false });
  return { sim: machine.sim, dev: machine.addDevice({ name: 'dev0', coherent: true, dmaMaskBits: 64 }) };
}

function exportTable(sim: Simulator, priv: SgTable): DmaBuf<SgTable> {
  return exportDmaBuf<SgTable>(sim, {
    exporterName: 'bench',
    name: 'buf',
    sizeBytes: priv.origNents * PAGE_SIZE,
    priv,
    ops: {
      mapDmaBuf(att, dir) {
        const sgt = att.buf.priv.clone();
        dmaMapSgtable(att.dev, sgt, dir);
        return sgt;
      },
      unmapDmaBuf: (att, sgt, dir) => dmaUnmapSgtable(att.dev, sgt, dir),
      release() {},
    },
  });
}

function cycle(pages: number): number {
  const { sim, dev } = machineWithDevice();
  const table = scattered(pages);
  const batch = Math.ceil(20_000 / (10 + pages));
  const program = function* (): Op<void> {
    for (let i = 0; i < batch; i++) {
      const buf = exportTable(sim, table);
      const att = yield* buf.attach(dev);
      const sgt = yield* att.mapUnlocked('bidirectional');
      yield* att.unmapUnlocked(sgt, 'bidirectional');
      yield* buf.detach(att);
      buf.put();
    }
  };
  return rate(pages > 1000 ? 200 : 60, batch, () => {
    sim.run(program);
    sim.run();
  });
}

function fence(callbacks: number): number {
  const timeline = new DmaFenceTimeline(new Simulator(), { name: 'bench', id: 1 });
  const functions = Array.from({ length: callbacks }, () => () => undefined);
  const batch = 1000;
  return rate(1600 / (1 + callbacks), batch, () => {
    for (let i = 0; i < batch; i++) {
      const made = timeline.fence();
      for (const callback of functions) made.addCallback(callback);
      made.signal();
      made.put();
    }
  });
}

function resv(count: number): number {
  const sim = new Simulator();
  const contexts = Array.from({ length: count }, (_, i) => ({ name: `c${i}`, id: i }));
  const batch = Math.ceil(1000 / count);
  const program = function* (): Op<void> {
    for (let i = 0; i < batch; i++) {
      const reservation = new DmaResv(sim, 'bench');
      const fences = contexts.map((context) => new DmaFence(sim, context, 1));
      yield* reservation.lock();
      for (const each of fences) {
        reservation.reserveFences(1);
        reservation.addFence(each, DmaResvUsage.read);
      }
      reservation.unlock();
      sim.spawn('signaller', () => {
        for (const each of fences) {
          each.signal();
          each.put();
        }
      });
      yield* reservation.wait(DmaResvUsage.bookkeep);
      reservation.fini();
    }
  };
  return rate(200, batch * count, () => sim.run(program));
}

function ww(): number {
  const sim = new Simulator();
  const resvs = Array.from({ length: 16 }, (_, i) => new DmaResv(sim, `r${i}`));
  const rounds = 20;
  const task = (own: number) =>
    function* (): Op<void> {
      const order = resvs.map((_, i) => resvs[(i * (2 * own + 1) + own) % resvs.length] as DmaResv);
      for (let i = 0; i < rounds; i++) yield* withResvsLocked(sim, order, () => sim.delay(1));
    };
  const tasks = Array.from({ length: 8 }, (_, i) => task(i));
  return rate(60, tasks.length * rounds * resvs.length, () => {
    for (const body of tasks) sim.spawn('task', body);
    sim.run();
  });
}

function usedBytes(): number {
  if (globalThis.gc === undefined) throw new Error('needs --expose-gc');
  for (let i = 0; i < 3; i++) globalThis.gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function bytes(kind: string, count: number): number {
  const { sim, dev } = machineWithDevice();
  const table = scattered(1);
  const timeline = new DmaFenceTimeline(sim, { name: 'bench', id: 1 });
  const kept: unknown[] = new Array(count).fill(null);
  const shared = exportTable(sim, table);
  const make: { readonly [kind: string]: (i: number) => MaybeOp<void> } = {
    buffer(i) {
      kept[i] = exportTable(sim, table);
    },
    *attachment(i) {
      const att = yield* (kept[i] as DmaBuf<SgTable>).attach(dev);
      yield* att.mapUnlocked('bidirectional');
    },
    fence(i) {
      kept[i] = timeline.fence();
    },
  };
  const chosen = make[kind];
  if (chosen === undefined) throw new Error(`no kind ${kind}: one of ${Object.keys(make).join(', ')}`);
  if (kind === 'attachment') for (let i = 0; i < count; i++) kept[i] = exportTable(sim, table);
  const start = usedBytes();
  sim.run(function* () {
    for (let i = 0; i < count; i++) yield* lift(chosen(i));
  });
  const used = usedBytes() - start;
  if (kept.length !== count || shared.released) throw new Error('nothing was kept');
  return used / count;
}

const cases: { readonly [what: string]: () => number } = {
  cycle: () => cycle(Number(first)),
  fence: () => fence(Number(first)),
  resv: () => resv(Number(first)),
  ww,
  bytes: () => bytes(first, Number(second)),
};
const run = cases[what];
if (run === undefined) throw new Error(`no case ${what}: one of ${Object.keys(cases).join(', ')}`);
console.log(JSON.stringify({ value: run() }));
