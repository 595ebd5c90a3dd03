import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, type PhysAddr, physAddr } from '../../src/base/addr.ts';
import { InvariantError } from '../../src/base/assert.ts';
import { GIB, KIB } from '../../src/base/units.ts';
import { PageAllocator } from '../../src/mem/page-allocator.ts';
import type { PhysMemory } from '../../src/mem/phys-memory.ts';
import { CHUNK_BYTES } from '../../src/mem/sparse-bytes.ts';
import { errnoOf, machine } from './machine.ts';

const at = (bytes: number): PhysAddr => physAddr(bytes);

function bytesAt(memory: PhysMemory, phys: number, length: number): number[] {
  const out = new Uint8Array(length).fill(0xee);
  memory.read(at(phys), out, 0, length);
  return [...out];
}

function put(memory: PhysMemory, phys: number, ...bytes: number[]): void {
  memory.write(at(phys), Uint8Array.from(bytes), 0, bytes.length);
}

describe('PhysMemory regions', () => {
  it('refuses a region that overlaps another and names both', () => {
    const { memory } = machine([[0x8000, 0x4000]]);
    const overlapping = { kind: 'bar', name: 'vram', base: at(0xb000), bytes: 0x2000 } as const;
    expect(() => memory.addRegion(overlapping)).toThrow(/vram.*overlaps.*ram0/);
    expect(memory.regions).toHaveLength(1);
  });

  it.each([
    ['base', { base: at(0x8001), bytes: 0x1000 }, /base 0x8001 is not page aligned/],
    ['size', { base: at(0x8000), bytes: 0x1001 }, /bytes 4097/],
    ['empty size', { base: at(0x8000), bytes: 0 }, /bytes 0/],
    ['end', { base: at(2 ** 52 - 4096), bytes: 8192 }, /beyond 2\^52/],
  ])('refuses a bad %s and names it', (_, place, message) => {
    expect(() => machine().memory.addRegion({ kind: 'ram', name: 'bad', ...place })).toThrow(message);
  });

  it('refuses a name that is taken', () => {
    const { memory } = machine([[0, 0x1000]]);
    expect(() => memory.addRegion({ kind: 'ram', name: 'ram0', base: at(0x8000), bytes: 0x1000 })).toThrow(/taken/);
  });

  it('keeps regions ascending and finds them by address', () => {
    const { memory } = machine();
    const bar = memory.addRegion({ kind: 'bar', name: 'bar', base: at(0x9000), bytes: 0x1000 });
    const ram = memory.addRegion({ kind: 'ram', name: 'ram', base: at(0x1000), bytes: 0x2000 });
    expect(memory.regions).toEqual([ram, bar]);
    expect(memory.regionAt(at(0x2fff))).toBe(ram);
    expect(memory.regionAt(at(0x3000))).toBeUndefined();
    expect(memory.regionAt(at(0x9000))).toBe(bar);
    expect(memory.regionAt(at(0xfff))).toBeUndefined();
  });

  it('has page frames behind RAM only', () => {
    const { memory } = machine([[0, 0x1000]]);
    memory.addRegion({ kind: 'carve-out', name: 'c', base: at(0x1000), bytes: 0x1000 });
    memory.addRegion({ kind: 'bar', name: 'b', base: at(0x2000), bytes: 0x1000 });
    memory.addRegion({ kind: 'window', name: 'w', base: at(0x3000), bytes: 0x1000, resolve: () => at(0) });
    expect([0, 0x1000, 0x2000, 0x3000, 0x4000].map((a) => memory.hasPage(at(a)))).toEqual([
      true,
      false,
      false,
      false,
      false,
    ]);
  });

  it('forgets the bytes of a region that is taken out, and keeps RAM', () => {
    const { memory } = machine([[0, 0x1000]]);
    const spec = { kind: 'bar', name: 'bar', base: at(0x1000), bytes: 0x1000 } as const;
    const bar = memory.addRegion(spec);
    put(memory, 0x1000, 7);
    memory.removeRegion(bar);
    errnoOf('EFAULT', () => bytesAt(memory, 0x1000, 1));
    memory.addRegion(spec);
    expect(bytesAt(memory, 0x1000, 1)).toEqual([0]);
    expect(() => memory.removeRegion(memory.regions[0] ?? bar)).toThrow(/RAM, which stays/);
    expect(() => memory.removeRegion(bar)).toThrow(InvariantError);
  });

  it('takes no RAM after the page allocator was built, but still a BAR', () => {
    const { memory } = machine([[0, 0x1000]]);
    new PageAllocator(memory);
    expect(() => memory.addRegion({ kind: 'ram', name: 'late', base: at(0x8000), bytes: 0x1000 })).toThrow(/late/);
    expect(memory.addRegion({ kind: 'bar', name: 'bar', base: at(0x8000), bytes: 0x1000 }).hasPages).toBe(false);
  });
});

describe('PhysMemory storage', () => {
  it('costs nothing for 64 GiB until written, and one chunk for one byte', () => {
    const { memory } = machine([[0, 64 * GIB]]);
    memory.fill(at(0), 64 * GIB, 0);
    memory.copy(at(32 * GIB), at(0), 8 * GIB);
    expect(bytesAt(memory, 63 * GIB, 4)).toEqual([0, 0, 0, 0]);
    expect(memory.allocatedBytes).toBe(0);
    put(memory, 63 * GIB + 1, 5);
    expect(bytesAt(memory, 63 * GIB, 3)).toEqual([0, 5, 0]);
    expect(memory.allocatedBytes).toBe(CHUNK_BYTES);
  });

  it('keeps no bytes in tag mode but still checks addresses', () => {
    const { memory } = machine([[0, 0x2000]], false);
    put(memory, 0, 1, 2, 3);
    memory.fill(at(0), 0x2000, 9);
    memory.copy(at(0x1000), at(0), 0x1000);
    expect(bytesAt(memory, 0, 3)).toEqual([0, 0, 0]);
    expect(memory.chunkFor(at(0), true)).toBeUndefined();
    expect(memory.allocatedBytes).toBe(0);
    errnoOf('EFAULT', () => put(memory, 0x1fff, 1, 2));
  });

  it('reads and writes across chunks and adjacent regions of different kinds', () => {
    const { memory } = machine([[0, CHUNK_BYTES + 0x1000]]);
    memory.addRegion({ kind: 'bar', name: 'bar', base: at(CHUNK_BYTES + 0x1000), bytes: 0x1000 });
    const border = CHUNK_BYTES - 2;
    put(memory, border, 1, 2, 3, 4);
    put(memory, CHUNK_BYTES + 0xffe, 5, 6, 7, 8);
    expect(bytesAt(memory, border - 1, 6)).toEqual([0, 1, 2, 3, 4, 0]);
    expect(bytesAt(memory, CHUNK_BYTES + 0xffe, 4)).toEqual([5, 6, 7, 8]);
    expect(bytesAt(memory, CHUNK_BYTES + 0x1000, 2)).toEqual([7, 8]);
  });

  it('fails with EFAULT, names the first address outside, and changes nothing', () => {
    const { memory } = machine([
      [0x1000, 0x1000],
      [0x3000, 0x1000],
    ]);
    put(memory, 0x1ffe, 1, 2);
    const out = new Uint8Array(4).fill(0xee);
    expect(errnoOf('EFAULT', () => memory.read(at(0x1ffe), out, 0, 4)).message).toMatch(/0x2000 /);
    expect([...out]).toEqual([0xee, 0xee, 0xee, 0xee]);
    errnoOf('EFAULT', () => put(memory, 0x1ffe, 9, 9, 9, 9));
    errnoOf('EFAULT', () => memory.fill(at(0x1ffe), 0x1003, 9));
    errnoOf('EFAULT', () => memory.copy(at(0x1ffe), at(0x3000), 4));
    errnoOf('EFAULT', () => memory.copy(at(0x3000), at(0x1ffe), 4));
    expect(errnoOf('EFAULT', () => memory.chunkFor(at(0x2abc), true)).message).toContain('0x2abc');
    expect(bytesAt(memory, 0x1ffe, 2)).toEqual([1, 2]);
    expect(bytesAt(memory, 0x3000, 4)).toEqual([0, 0, 0, 0]);
  });

  it('refuses arguments that do not fit and names them', () => {
    const { memory } = machine([[0, 0x1000]]);
    const small = new Uint8Array(4);
    expect(() => memory.read(at(0), small, 2, 3)).toThrow(/3 bytes from offset 2/);
    expect(() => memory.write(at(0), small, -1, 2)).toThrow(/offset -1/);
    expect(() => memory.read(at(0), small, 0, -1)).toThrow(/length -1/);
    expect(() => memory.write(at(0), small, 0, 1.5)).toThrow(/length 1.5/);
    expect(() => memory.fill(at(0), 4, 256)).toThrow(/byte 256/);
  });

  it('hands the loops of a cache model the stored bytes and words in place', () => {
    const base = 5 * CHUNK_BYTES;
    const { memory } = machine([[base, 0x2000]]);
    expect(memory.chunkFor(at(base), false)).toBeUndefined();
    const phys = at(base + 0x1040);
    const chunk = memory.chunkFor(phys, true);
    const offset = memory.chunkOffset(phys);
    chunk?.fill(0x11, offset, offset + 64);
    expect(bytesAt(memory, base + 0x103f, 66)).toEqual([0, ...new Array(64).fill(0x11), 0]);
    const words = memory.wordsFor(phys, false);
    expect(words?.[offset / 4]).toBe(0x11111111);
    expect(words?.[offset / 4 + 16]).toBe(0);
  });

  it('agrees with one flat array under random writes, fills and overlapping copies', () => {
    const base = 3 * CHUNK_BYTES - 2 * PAGE_SIZE;
    const size = 5 * PAGE_SIZE;
    const place = fc.nat(size - 1);
    const length = fc.oneof(fc.nat(70), fc.nat(size));
    const step = fc.record({
      op: fc.constantFrom('write', 'fill', 'copy'),
      a: place,
      b: place,
      length,
      byte: fc.nat(255),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const { memory } = machine([
          [base, PAGE_SIZE],
          [base + PAGE_SIZE, size - PAGE_SIZE],
        ]);
        const flat = new Uint8Array(size);
        for (const { op, a, b, length: wanted, byte } of steps) {
          const count = Math.min(wanted, size - a, size - b);
          if (op === 'write') {
            const data = Uint8Array.from({ length: count + 3 }, (_, i) => (byte + i * 7) & 0xff);
            memory.write(at(base + a), data, 3, count);
            flat.set(data.subarray(3), a);
          } else if (op === 'fill') {
            memory.fill(at(base + a), count, byte);
            flat.fill(byte, a, a + count);
          } else {
            memory.copy(at(base + a), at(base + b), count);
            flat.copyWithin(a, b, b + count);
          }
        }
        expect(Buffer.from(bytesAt(memory, base, size)).equals(flat)).toBe(true);
      }),
      { numRuns: 150 },
    );
  });
});

describe('PhysMemory remap window', () => {
  /** A window of four pages that shows RAM pages 2 and 0, then nothing, then page 2 again. */
  function tiler() {
    const { memory } = machine([[0, 16 * KIB]]);
    const targets = [0x2000, 0, undefined, 0x2000];
    memory.addRegion({
      kind: 'window',
      name: 'tiler',
      base: at(0x60000000),
      bytes: 16 * KIB,
      resolve: (offset) => {
        const target = targets[offset / PAGE_SIZE];
        return target === undefined ? undefined : at(target);
      },
    });
    return { memory, targets, base: 0x60000000 };
  }

  it('shows the memory that its pages lead to, for reading and writing', () => {
    const { memory, base } = tiler();
    put(memory, 0x2ffe, 1, 2);
    put(memory, 0x0, 3, 4);
    expect(bytesAt(memory, base + 0xffe, 4)).toEqual([1, 2, 3, 4]);
    put(memory, base + 0xfff, 8, 9);
    expect(bytesAt(memory, 0x2fff, 1)).toEqual([8]);
    expect(bytesAt(memory, 0, 2)).toEqual([9, 4]);
    expect(bytesAt(memory, base + 0x3ffe, 2)).toEqual([1, 8]);
    memory.copy(at(0x1000), at(base + 0xfff), 2);
    expect(bytesAt(memory, 0x1000, 2)).toEqual([8, 9]);
    memory.fill(at(base + 0x1000), 1, 0x55);
    expect(bytesAt(memory, 0, 1)).toEqual([0x55]);
  });

  it('gives hot loops the chunk, offset and address of what lies behind', () => {
    const { memory, base } = tiler();
    put(memory, 0x2010, 0x77);
    const phys = at(base + 0x10);
    expect(memory.resolve(phys)).toBe(0x2010);
    expect(memory.chunkFor(phys, false)?.[memory.chunkOffset(phys)]).toBe(0x77);
    expect(memory.wordsFor(phys, false)?.[memory.chunkOffset(phys) / 4]).toBe(0x77);
  });

  it('follows its owner when he changes the mapping', () => {
    const { memory, targets, base } = tiler();
    put(memory, 0x3000, 0xaa);
    targets[2] = 0x3000;
    expect(bytesAt(memory, base + 0x2000, 1)).toEqual([0xaa]);
  });

  it('fails with EFAULT where nothing is mapped, and changes nothing', () => {
    const { memory, base } = tiler();
    const text = errnoOf('EFAULT', () => put(memory, base + 0x1fff, 1, 2)).message;
    expect(text).toContain('0x60002000');
    expect(text).toContain('tiler');
    expect(bytesAt(memory, 0xfff, 1)).toEqual([0]);
  });

  it('refuses a resolver that answers an unaligned address, another window, or no memory', () => {
    const { memory, targets, base } = tiler();
    targets[0] = 0x2004;
    expect(() => bytesAt(memory, base, 1)).toThrow(/unaligned/);
    targets[0] = base + 0x1000;
    expect(() => bytesAt(memory, base, 1)).toThrow(/into the window tiler/);
    targets[0] = 0x50000000;
    errnoOf('EFAULT', () => bytesAt(memory, base, 1));
  });
});
