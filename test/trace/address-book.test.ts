import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AddressBook } from '../../src/trace/address-book.ts';
import { addressInPieces, offsetInPieces, onePiece, slicePieces } from '../../src/trace/address-pieces.ts';

const END = { how: 'unmap', call: 'dmaUnmapPage', timeNs: 9, site: null } as const;

function opened(capacity?: number): AddressBook {
  const book = new AddressBook(capacity);
  book.enabled = true;
  return book;
}

function add(book: AddressBook, base: number, bytes: number, owner = 'cam0'): number {
  const rest = { to: null, call: 'dmaMapPage', object: '', writable: true, sinceNs: 0, site: null };
  return book.begin({ space: 'dma', owner, pieces: onePiece(base, bytes), ...rest });
}

describe('AddressBook', () => {
  it('notes nothing, and numbers nothing, until it is enabled', () => {
    const book = new AddressBook();
    expect(add(book, 0, 8)).toBe(0);
    book.end(0, END);
    expect([[...book.live], [...book.ended], book.knows('dma', 'cam0')]).toEqual([[], [], false]);
  });

  it('finds what a list of all mappings finds, whatever begins and ends', () => {
    const step = fc.record({ base: fc.nat(60), bytes: fc.integer({ min: 1, max: 30 }), ends: fc.nat(3) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const book = opened();
        const live = new Map<number, { readonly base: number; readonly end: number }>();
        for (const { base, bytes, ends } of steps) {
          live.set(add(book, base, bytes), { base, end: base + bytes });
          const [oldest] = live.keys();
          if (ends === 0 && oldest !== undefined) {
            live.delete(oldest);
            book.end(oldest, END);
          }
          for (let at = 0; at < 92; at++) {
            const found = book.find('dma', 'cam0', at);
            const covers = [...live].filter(([, range]) => at >= range.base && at < range.end).map(([id]) => id);
            expect(covers.length === 0 ? found === undefined : covers.includes(found?.id ?? 0)).toBe(true);
          }
        }
      }),
      { numRuns: 50 },
    );
  });

  it('keeps owners apart', () => {
    const book = opened();
    add(book, 0, 8, 'gpu0');
    expect([book.find('dma', 'cam0', 4), book.find('dma', 'gpu0', 4)?.owner]).toEqual([undefined, 'gpu0']);
    expect([book.knows('dma', 'cam0'), book.knows('dma', 'gpu0'), book.knows('phys', 'gpu0')]).toEqual([
      false,
      true,
      false,
    ]);
  });

  it('remembers the youngest ended mappings, as many as it has room for, and finds the youngest of an address', () => {
    const book = opened(3);
    const ids = Array.from({ length: 10 }, (_, i) => add(book, i % 2 === 0 ? 0 : 100, 8));
    for (const id of ids) book.end(id, END);
    expect(Array.from(book.ended, ({ id }) => id)).toEqual(ids.slice(-3));
    expect([book.findEnded('dma', 'cam0', 3)?.id, book.findEnded('dma', 'cam0', 8)]).toEqual([ids[8], undefined]);
  });

  it('lets work that was going on use what was declared dead, and ends it with the first reason', () => {
    const book = opened();
    const id = add(book, 0, 8);
    let isOver = false;
    book.endAfter(id, { ...END, how: 'move', call: 'moveNotify' }, () => isOver);
    book.endAfter(id, { ...END, how: 'revoke' }, () => true);
    expect(book.find('dma', 'cam0', 0)?.id).toBe(id);
    isOver = true;
    expect(book.find('dma', 'cam0', 0)).toBeUndefined();
    expect(book.findEnded('dma', 'cam0', 0)?.end).toMatchObject({ how: 'move', call: 'moveNotify' });
  });
});

describe('address pieces', () => {
  it('count bytes in their own order, whatever the addresses are', () => {
    const pieces = { base: Float64Array.of(100, 10, 50), size: Float64Array.of(4, 2, 6) };
    expect([10, 11, 12, 100, 55, 56].map((at) => offsetInPieces(pieces, at))).toEqual([4, 5, -1, 0, 11, -1]);
    expect([0, 4, 6, 11, 12].map((offset) => addressInPieces(pieces, offset))).toEqual([100, 10, 50, 55, -1]);
    expect(slicePieces(pieces, 3, 4)).toEqual({ base: Float64Array.of(103, 10, 50), size: Float64Array.of(1, 2, 1) });
    expect(slicePieces(pieces, 0, 12)).toBe(pieces);
  });
});
