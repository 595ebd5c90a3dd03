import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatReports, loadFamilies, readCases, runCases } from './runner.ts';
import type { JsonObject, VectorCase, VectorOp } from './vector-case.ts';

const HERE = import.meta.dirname;
const families = await loadFamilies(join(HERE, 'families'));
const cases = readCases(join(HERE, 'vectors', 'dma-debug.jsonl'));

const TO = 'DMA_TO_DEVICE';
const FROM = 'DMA_FROM_DEVICE';

function map(size: number, dir: string, isChecked = true, error = false): VectorOp {
  return {
    op: 'dma_map_single',
    args: { size, dir },
    result: { mapping_error_checked: isChecked, error: isChecked ? error : null },
  };
}

function op(name: string, args: JsonObject, result?: JsonObject): VectorOp {
  return result === undefined ? { op: name, args } : { op: name, args, result };
}

/** What a case of these ops is found to complain about, or the first field that differs. */
function complaintsOf(complaints: Readonly<Record<string, number>>, ops: readonly VectorOp[]): readonly string[] {
  const stack_traces = Object.values(complaints).reduce((sum, count) => sum + count, 0);
  const vector: VectorCase = { family: 'dma-debug', case: 'own', setup: {}, ops, result: { complaints, stack_traces } };
  return formatReports(runCases([vector], families), true);
}

describe('family dma-debug', () => {
  it('matches every recorded case', () => {
    expect(formatReports(runCases(cases, families), true)).toEqual(['dma-debug: 44/44', '44 of 44 match']);
  });

  it('compares the complaints of every case', () => {
    for (const vector of cases) {
      const wrong = { ...vector, result: { ...vector.result, complaints: { 'size-mismatch': 9 } } };
      expect(runCases([wrong], families)[0]?.failed, vector.case).toHaveLength(1);
    }
  });

  const others: readonly [string, Readonly<Record<string, number>>, readonly VectorOp[]][] = [
    [
      'a second unmap',
      { 'free-not-mapped': 1 },
      [map(100, TO), op('dma_unmap_single', { size: 100, dir: TO }), op('dma_unmap_single', { size: 100, dir: TO })],
    ],
    [
      'an unmap of the error address',
      { 'free-invalid-address': 1 },
      [op('dma_unmap_single', { what: 'DMA_MAPPING_ERROR', size: 100, dir: TO })],
    ],
    [
      'an error that nobody asked for',
      { 'map-error-unchecked': 1 },
      [map(100, TO, false), op('dma_unmap_single', { size: 100, dir: TO })],
    ],
    [
      'a buffer on the stack',
      { 'rejects-vmalloc': 1 },
      [map(64, TO, true, true), op('note', { what: 'on the stack' })],
    ],
    ['mappings of two adjacent lines', {}, [map(64, FROM), map(64, FROM), op('note', { what: 'two adjacent lines' })]],
    [
      'segments across a boundary',
      { 'sg-segment-crosses-boundary': 3 },
      [op('note', { what: 'seg_boundary 0xffff' }), op('dma_map_sg', { entries: 3, dir: TO }, { ret: 3 })],
    ],
    [
      'a free with another size',
      { 'size-mismatch': 1 },
      [op('dma_alloc_coherent', { size: 8192 }), op('dma_free_coherent', { size: 4096 })],
    ],
    [
      'a resource ended as a page',
      { 'wrong-function': 1 },
      [
        op('dma_map_resource', { size: 4096, dir: TO }, { mapping_error_checked: true, error: false }),
        op('dma_unmap_page', { size: 4096, dir: TO }),
      ],
    ],
  ];

  it.each(others)('tells of %s, which no recorded case has', (_what, complaints, ops) => {
    expect(complaintsOf(complaints, ops)).toEqual(['dma-debug: 1/1', '1 of 1 match']);
  });
});
