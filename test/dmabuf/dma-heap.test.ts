import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/base/addr.ts';
import type { Accessor } from '../../src/base/hazards.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import { SystemHeap } from '../../src/dmabuf/dma-heap.ts';
import type { HeapBuffer } from '../../src/dmabuf/heap-buffer.ts';
import { fragmentPages } from '../../src/mem/fragmenter.ts';
import type { Op } from '../../src/sim/op.ts';
import { type Bench, bench, errno, invariant, pattern } from '../bench.ts';

const APP: Accessor = { name: 'app', kind: 'cpu', via: 'test', beforeRead: 'begin', afterWrite: 'end' };
const HEAPS = ['systemHeap', 'cmaHeap'] as const;

const extentsOf = (buf: DmaBuf<HeapBuffer>): { phys: number; length: number }[] => buf.priv.memory.extents();

/** What the CPU sees in all of `buf`. */
function bytesOf(b: Bench, buf: DmaBuf<HeapBuffer>): Uint8Array {
  const out = new Uint8Array(buf.sizeBytes);
  let at = 0;
  for (const { phys, length } of buf.priv.memory.extents()) {
    b.machine.coherency.peek(phys, out, at, length, 'cached');
    at += length;
  }
  return out;
}

describe.each(HEAPS)('the %s', (which) => {
  it('gives whole pages of cleared memory, one reference, under its name', () => {
    const b = bench();
    const heap = b.machine[which];
    const buf = heap.alloc(3 * PAGE_SIZE - 1, 'frame');
    expect([buf.name, buf.exporterName, buf.sizeBytes, buf.references]).toEqual([
      'frame',
      which === 'systemHeap' ? 'system' : 'reserved',
      3 * PAGE_SIZE,
      1,
    ]);
    expect(heap.name).toBe(buf.exporterName);
    expect(b.machine.memory.ledger.bytesByOwner().get('frame')).toBe(3 * PAGE_SIZE);
    buf.put();
  });

  it('DHP-02 alloc_zeroed: gives zeros also where the last owner left other bytes, to the CPU and to devices', () => {
    const b = bench();
    const heap = b.machine[which];
    const device = b.device('cam');
    const before = new Set<number>();
    const old = Array.from({ length: 32 }, (_, i) => heap.alloc(PAGE_SIZE, `old${i}`));
    for (const [i, buf] of old.entries()) {
      const phys = buf.priv.memory.physAddress(0);
      before.add(phys);
      const bytes = new Uint8Array(PAGE_SIZE).fill(0xff);
      if (i % 2 === 0) b.machine.coherency.cpuWrite(phys, bytes, 0, PAGE_SIZE, 'cached', APP);
      else b.machine.memory.write(phys, bytes, 0, PAGE_SIZE);
      buf.put();
    }
    b.sim.run();
    const fresh = Array.from({ length: 32 }, (_, i) => heap.alloc(PAGE_SIZE, `new${i}`));
    expect(fresh.filter((buf) => before.has(buf.priv.memory.physAddress(0))).length).toBeGreaterThan(16);
    const zeros = new Uint8Array(PAGE_SIZE);
    b.sim.run(function* () {
      for (const buf of fresh) {
        expect(Buffer.compare(bytesOf(b, buf), zeros)).toBe(0);
        const att = yield* buf.attach(device);
        const sgt = yield* att.mapUnlocked('to-device');
        const seen = new Uint8Array(PAGE_SIZE).fill(1);
        device.port.read(sgt.dmaAddress(0), seen, 0, PAGE_SIZE);
        expect(Buffer.compare(seen, zeros)).toBe(0);
        yield* att.unmapUnlocked(sgt, 'to-device');
        yield* buf.detach(att);
        buf.put();
      }
    });
    expect(b.sim.hazards).toEqual([]);
  });

  it.each([0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 64 - 2048, 2 ** 64])(
    'answers EINVAL to a size of %s and takes nothing',
    (sizeBytes) => {
      const { machine } = bench();
      expect(() => machine[which].alloc(sizeBytes, 'bad')).toThrow(errno('EINVAL'));
      expect([machine.memory.ledger.liveCount, machine.sim.now]).toEqual([0, 0]);
    },
  );

  it.each([65 * MIB, 2 ** 60, 2 ** 64 - 4096])(
    'answers ENOMEM to %s bytes, more than there are, and takes nothing',
    (sizeBytes) => {
      const { machine } = bench();
      expect(() => machine[which].alloc(sizeBytes, 'big')).toThrow(errno('ENOMEM'));
      expect([machine.cma.usedPages, machine.memory.ledger.liveCount]).toEqual([0, 0]);
    },
  );

  it('answers ENOMEM to an allocation that is made to fail, and works the next time', () => {
    const b = bench();
    const { memory } = b.machine;
    memory.failNext = ({ owner }) => owner === 'frame';
    expect(() => b.machine[which].alloc(PAGE_SIZE, 'frame')).toThrow(errno('ENOMEM'));
    expect(b.count('dmabuf.export')).toBe(0);
    memory.failNext = undefined;
    b.machine[which].alloc(PAGE_SIZE, 'frame').put();
  });

  it('refuses a buffer without a name', () => {
    expect(() => bench().machine[which].alloc(PAGE_SIZE, '')).toThrow(invariant('name is empty'));
  });

  it('frees all of a buffer at its release, not at the put', () => {
    const b = bench();
    const { ledger } = b.machine.memory;
    const buf = b.machine[which].alloc(MIB, 'frame');
    buf.put();
    expect(ledger.bytesByOwner().get('frame')).toBe(MIB);
    b.sim.run();
    expect([ledger.bytesByOwner().has('frame'), b.machine.cma.usedPages]).toEqual([false, 0]);
  });

  it('charges the clearing by the line, and leaves the zeros in dirty lines', () => {
    const b = bench();
    const buf = b.sim.run(() => b.machine[which].alloc(PAGE_SIZE, 'frame'));
    expect(b.sim.now).toBe(64 * 8);
    expect(b.machine.coherency.cache.peekLine(buf.priv.memory.physAddress(0))?.dirty).toBe(true);
    buf.put();
  });

  it('takes nothing when clearing runs into a hazard', () => {
    const b = bench({ cacheBytes: KIB });
    const { coherency, memory } = b.machine;
    const sgt = b.scattered(1);
    const device = b.device('cam');
    coherency.cpuWrite(sgt.physAddress(0), pattern(64), 0, 64, 'cached', APP);
    coherency.deviceWrite(sgt.physAddress(0), pattern(64, 2), 0, 64, { snoops: false, accessor: device.port.accessor });
    expect(() => b.machine[which].alloc(PAGE_SIZE, 'frame')).toThrow(
      expect.objectContaining({ hazard: 'device-write.lost' }),
    );
    expect(memory.ledger.bytesByOwner().has('frame')).toBe(false);
  });
});

describe('the system heap', () => {
  it('gives scattered memory where there is no other, the CMA heap contiguous memory always (U-08)', () => {
    const b = bench();
    const display = b.device('display');
    const { pages, systemHeap, cmaHeap } = b.machine;
    const held = fragmentPages(pages, b.sim.prng.fork('fragments'), { freeFraction: 0.4, maxFreeOrder: 0 });
    const segments = (buf: DmaBuf<HeapBuffer>): Op<number> =>
      (function* () {
        const att = yield* buf.attach(display);
        const sgt = yield* att.mapUnlocked('to-device');
        const { nents } = sgt;
        yield* att.unmapUnlocked(sgt, 'to-device');
        yield* buf.detach(att);
        buf.put();
        return nents;
      })();
    const counts = b.sim.run(function* () {
      return [
        yield* segments(systemHeap.alloc(64 * KIB, 'scattered')),
        yield* segments(cmaHeap.alloc(64 * KIB, 'contiguous')),
      ];
    });
    expect(counts).toEqual([16, 1]);
    held.release();
  });

  it('takes large blocks as long as there are any', () => {
    const b = bench();
    const buf = b.machine.systemHeap.alloc(2 * MIB + 20 * PAGE_SIZE, 'frame');
    expect(extentsOf(buf).map(({ length }) => length / PAGE_SIZE)).toEqual([256, 256, 16, 1, 1, 1, 1]);
    buf.put();
  });

  it('made for the zone DMA32 gives memory that a 32-bit device reaches, the usual one may not (U-13)', () => {
    const b = bench({ ramBytes: 8 * GIB });
    const { sim, pages, coherency, systemHeap } = b.machine;
    const blitter = b.device('blitter');
    const lowHeap = new SystemHeap(sim, pages, coherency, { name: 'system-dma32', zone: 'DMA32' });
    const outcomes = sim.run(function* () {
      const seen: unknown[] = [];
      for (const heap of [systemHeap, lowHeap]) {
        const buf = heap.alloc(PAGE_SIZE, 'frame');
        const att = yield* buf.attach(blitter);
        try {
          yield* att.unmapUnlocked(yield* att.mapUnlocked('to-device'), 'to-device');
          seen.push(`${buf.exporterName} mapped`);
        } catch (error) {
          expect(error).toEqual(errno('EIO'));
          seen.push(`${buf.exporterName} refused`);
        }
        yield* buf.detach(att);
        buf.put();
      }
      return seen;
    });
    expect(outcomes).toEqual(['system refused', 'system-dma32 mapped']);
  });
});

describe('the CMA heap', () => {
  it('takes the lowest aligned place, and ENOMEM is also the answer when only the alignment fails', () => {
    const b = bench();
    const { cmaHeap, cma } = b.machine;
    const first = cmaHeap.alloc(3 * PAGE_SIZE, 'a');
    const second = cmaHeap.alloc(4 * PAGE_SIZE, 'b');
    expect([first, second].map((buf) => (buf.priv.memory.physAddress(0) - cma.base) / PAGE_SIZE)).toEqual([0, 4]);
    expect(() => cmaHeap.alloc(8 * MIB - 8 * PAGE_SIZE, 'c')).toThrow(errno('ENOMEM'));
    for (const buf of [first, second]) buf.put();
  });
});

describe('a CPU bracket of a heap buffer', () => {
  it('cleans or invalidates for each mapping of each device that does not snoop, and for no other', () => {
    const b = bench();
    const [cam, nic, idle] = [b.device('cam'), b.device('nic', { coherent: true }), b.device('idle')];
    const buf = b.machine.systemHeap.alloc(PAGE_SIZE, 'frame');
    b.sim.run(function* () {
      const atts = [yield* buf.attach(cam), yield* buf.attach(nic), yield* buf.attach(idle)] as const;
      const [first, second] = [
        yield* atts[0].mapUnlocked('bidirectional'),
        yield* atts[1].mapUnlocked('bidirectional'),
      ];
      const seen: string[] = [];
      b.sim.trace.on('cache.maintain', ({ op, lines }) => {
        seen.push(`${op} ${lines}`);
        return undefined;
      });
      for (const dir of ['from-device', 'to-device', 'bidirectional'] as const) {
        seen.push(dir);
        yield* buf.beginCpuAccess(dir);
        seen.push('end');
        yield* buf.endCpuAccess(dir);
      }
      expect(seen.join(', ')).toBe(
        [
          'from-device, invalidate 64, end, clean 64',
          'to-device, end, clean 64',
          'bidirectional, invalidate 64, end, clean 64',
        ].join(', '),
      );
      yield* atts[0].unmapUnlocked(first, 'bidirectional');
      yield* atts[1].unmapUnlocked(second, 'bidirectional');
      for (const att of atts) yield* buf.detach(att);
      seen.length = 0;
      yield* buf.beginCpuAccess('from-device');
      expect(seen).toEqual([]);
      yield* buf.endCpuAccess('from-device');
    });
    buf.put();
  });
});

describe('a dynamic importer of a heap buffer', () => {
  it('is synced by CPU brackets although it maps nothing itself: the table it got at attach counts', () => {
    const b = bench();
    const buf = b.machine.systemHeap.alloc(PAGE_SIZE, 'frame');
    b.sim.run(function* () {
      const att = yield* buf.dynamicAttach(b.device('cam'), { moveNotify: () => undefined });
      yield* buf.beginCpuAccess('from-device');
      yield* buf.endCpuAccess('from-device');
      expect([b.count('dma.sync'), att.mappings.size, att.tables.size]).toEqual([2, 0, 1]);
      yield* buf.detach(att);
    });
    buf.put();
  });
});

describe('the kernel', () => {
  it('IGD-08 export_vmap: maps a fresh heap buffer whole, and every user gets the same', () => {
    const b = bench();
    const buf = b.machine.systemHeap.alloc(3 * PAGE_SIZE, 'frame');
    b.sim.run(function* () {
      const maps = [yield* buf.vmap(), yield* buf.vmap()] as const;
      expect(maps[0]).toBe(maps[1]);
      expect(maps[0].extents.reduce((sum, { length }) => sum + length, 0)).toBe(3 * PAGE_SIZE);
      expect(bytesOf(b, buf).every((byte) => byte === 0)).toBe(true);
      for (const map of maps) yield* buf.vunmap(map);
    });
    buf.put();
  });
});
