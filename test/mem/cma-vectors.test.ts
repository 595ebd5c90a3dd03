/** Placement in a CMA area, compared with what Linux 6.1 answered to the same requests. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, type Pfn, pfnToPhys, physAddr } from '../../src/base/addr.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { CmaArea } from '../../src/mem/cma.ts';
import { machine } from './machine.ts';

interface VectorResult {
  readonly ret: number | string;
  readonly phys?: readonly (readonly [string, number])[];
  readonly used_pages: number;
  readonly largest_free_pages: number;
}

interface VectorCase {
  readonly case: string;
  readonly setup: {
    readonly area: { readonly base: string; readonly pages: number };
    readonly max_align_order: number;
  };
  readonly ops: readonly {
    readonly op: string;
    readonly args: { readonly id: number; readonly len?: number | string; readonly fd_flags?: string };
    readonly result: VectorResult;
  }[];
}

const FILE = new URL('../conformance/vectors/cma-heap.jsonl', import.meta.url);
const cases: readonly VectorCase[] = readFileSync(FILE, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line));

interface Buffer {
  readonly first: Pfn;
  readonly pageCount: number;
  /** The fd, and each mapping. */
  holds: number;
}

/** The little of the heap that decides about placement: a buffer lives while its fd or a mapping does. */
class Heap {
  readonly area: CmaArea;
  readonly #buffers = new Map<number, Buffer>();

  constructor(setup: VectorCase['setup']) {
    const base = Number(setup.area.base);
    const bytes = setup.area.pages * PAGE_SIZE;
    const { memory } = machine([[base, bytes]]);
    this.area = new CmaArea(memory, {
      name: 'reserved',
      base: physAddr(base),
      bytes,
      maxAlignOrder: setup.max_align_order,
    });
  }

  alloc(id: number, length: number): Pick<VectorResult, 'ret' | 'phys'> {
    const pageCount = Math.ceil(length / PAGE_SIZE);
    try {
      const first = this.area.alloc(pageCount, { owner: `buffer ${id}` });
      this.#buffers.set(id, { first, pageCount, holds: 1 });
      return { ret: 0, phys: [[`0x${pfnToPhys(first).toString(16)}`, pageCount * PAGE_SIZE]] };
    } catch (error) {
      if (error instanceof ErrnoError) return { ret: `-${error.code}` };
      throw error;
    }
  }

  hold(id: number, change: 1 | -1): void {
    const buffer = this.#buffers.get(id);
    if (buffer === undefined) throw new Error(`no buffer ${id}`);
    buffer.holds += change;
    if (buffer.holds > 0) return;
    this.#buffers.delete(id);
    this.area.free(buffer.first, buffer.pageCount);
  }
}

describe('CmaArea against recorded answers of the kernel', () => {
  it.each(cases.map((vector) => [vector.case, vector] as const))('%s', (_, { setup, ops }) => {
    const heap = new Heap(setup);
    let compared = 0;
    for (const { op, args, result } of ops) {
      // A bad length or flag is refused by the heap before the area is asked.
      if (result.ret === '-EINVAL') continue;
      let ret: number | string = 0;
      if (op === 'DMA_HEAP_IOCTL_ALLOC') {
        const answer = heap.alloc(args.id, Number(args.len));
        ret = answer.ret;
        expect(answer.phys).toEqual(result.phys);
      } else if (op === 'mmap_and_look') {
        heap.hold(args.id, 1);
      } else {
        expect(['close', 'munmap']).toContain(op);
        heap.hold(args.id, -1);
      }
      expect({ ret, used: heap.area.usedPages, largest: heap.area.largestFreePages }).toEqual({
        ret: result.ret,
        used: result.used_pages,
        largest: result.largest_free_pages,
      });
      compared++;
    }
    expect(compared).toBeGreaterThan(5);
  });

  it('has recorded cases of every kind of operation', () => {
    const kinds = new Set(cases.flatMap((vector) => vector.ops.map(({ op }) => op)));
    expect([...kinds].sort()).toEqual(['DMA_HEAP_IOCTL_ALLOC', 'close', 'mmap_and_look', 'munmap']);
  });
});
