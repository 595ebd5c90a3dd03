import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, pfn, physAddr } from '../../src/base/addr.ts';
import { MIB } from '../../src/base/units.ts';
import { CarveoutAllocator } from '../../src/mem/carveout.ts';
import { CmaArea } from '../../src/mem/cma.ts';
import { PageAllocator } from '../../src/mem/page-allocator.ts';
import type { TraceEvent } from '../../src/trace/trace-events.ts';
import { machine } from './machine.ts';

function platform() {
  const built = machine([[0, 16 * MIB]]);
  const { memory } = built;
  const region = memory.addRegion({ kind: 'carve-out', name: 'vpu', base: physAddr(64 * MIB), bytes: MIB });
  const cma = new CmaArea(memory, { name: 'reserved', base: physAddr(8 * MIB), bytes: 4 * MIB });
  return {
    ...built,
    ledger: memory.ledger,
    cma,
    vpu: new CarveoutAllocator(memory, region),
    pages: new PageAllocator(memory),
  };
}

describe('MemLedger', () => {
  it('lists live allocations of every allocator in the order they were made', () => {
    const { ledger, clock, cma, vpu, pages } = platform();
    clock.ns = 10;
    const frame = pages.allocPages({ order: 1, owner: 'app', site: 'mmap' });
    clock.ns = 20;
    cma.alloc(3, { owner: 'heap' });
    vpu.alloc({ bytes: 1, owner: 'vpu0' });
    pages.freePages(frame, 2);
    clock.ns = 30;
    pages.allocPages({ order: 0, owner: 'late', site: 'probe' });
    expect(ledger.liveAllocations()).toEqual([
      { id: 2, owner: 'heap', kind: 'cma', first: 2048, bytes: 3 * PAGE_SIZE, timeNs: 20 },
      { id: 3, owner: 'vpu0', kind: 'carve-out', first: 16384, bytes: PAGE_SIZE, timeNs: 20 },
      { id: 4, owner: 'late', kind: 'pages', first: 0, bytes: PAGE_SIZE, timeNs: 30, site: 'probe' },
    ]);
    expect([ledger.liveCount, ledger.liveBytes]).toEqual([3, 5 * PAGE_SIZE]);
  });

  it('adds up to nothing when everything came back, and remembers the peak', () => {
    const { ledger, cma, pages } = platform();
    const a = pages.allocPages({ order: 2, owner: 'app' });
    const b = cma.alloc(8, { owner: 'app' });
    const c = pages.allocPages({ order: 0, owner: 'other' });
    expect([...ledger.bytesByOwner()]).toEqual([
      ['app', 12 * PAGE_SIZE],
      ['other', PAGE_SIZE],
    ]);
    pages.freePages(a, 4);
    cma.free(b, 8);
    expect([...ledger.bytesByOwner()]).toEqual([['other', PAGE_SIZE]]);
    pages.freePages(c, 1);
    expect(ledger.bytesByOwner().size).toBe(0);
    expect([ledger.liveCount, ledger.liveBytes, ledger.liveAllocations().length]).toEqual([0, 0, 0]);
    pages.freePages(pages.allocPages({ order: 1, owner: 'app' }), 2);
    expect(ledger.peakBytesByOwner().get('app')).toBe(12 * PAGE_SIZE);
  });

  it('knows of each frame who has it now and who had it before', () => {
    const { ledger, clock, pages } = platform();
    const frame = pages.allocPages({ pageCount: 3, owner: 'first' });
    expect([ledger.ownerOf(pfn(frame + 2)), ledger.ownerOf(pfn(frame + 3))]).toEqual(['first', undefined]);
    expect(ledger.previousOwner(frame)).toBeUndefined();
    clock.ns = 500;
    pages.freePages(frame, 3);
    pages.allocAt(pfn(frame + 1), 2, { owner: 'second' });
    expect(ledger.ownerOf(frame)).toBeUndefined();
    expect(ledger.allocationAt(pfn(frame + 2))).toMatchObject({ owner: 'second', first: frame + 1 });
    expect([0, 1, 2, 3].map((i) => ledger.previousOwner(pfn(frame + i)))).toEqual([
      { owner: 'first', freedAtNs: 500 },
      { owner: 'first', freedAtNs: 500 },
      { owner: 'first', freedAtNs: 500 },
      undefined,
    ]);
  });

  it('keeps the history right when a whole 4 MiB block changes hands in parts', () => {
    const { ledger, pages } = platform();
    const block = pages.allocPages({ order: 10, owner: 'whole' });
    pages.freePages(block, 1024);
    pages.allocAt(pfn(block + 512), 512, { owner: 'half' });
    expect([ledger.ownerOf(block), ledger.ownerOf(pfn(block + 1023))]).toEqual([undefined, 'half']);
    pages.freePages(pfn(block + 512), 512);
    expect([511, 512].map((i) => ledger.previousOwner(pfn(block + i))?.owner)).toEqual(['whole', 'half']);
  });

  it('tells a trace listener of each allocation and return, and nothing of failures', () => {
    const { trace, clock, cma, pages } = platform();
    const events: TraceEvent[] = [];
    trace.onAny((event) => {
      events.push(event);
      return undefined;
    });
    clock.ns = 5;
    const frame = pages.allocPages({ order: 1, owner: 'app' });
    expect(() => cma.alloc(5000, { owner: 'app' })).toThrow();
    clock.ns = 6;
    pages.freePages(frame, 2);
    expect(events).toEqual([
      { kind: 'mem.alloc', timeNs: 5, owner: 'app', phys: 0, bytes: 2 * PAGE_SIZE },
      { kind: 'mem.free', timeNs: 6, owner: 'app', phys: 0, bytes: 2 * PAGE_SIZE },
    ]);
  });
});
