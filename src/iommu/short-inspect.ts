/**
 * Looking at a page table of short descriptors without changing it: its leaves, one walk as text, and a check of its own consistency.
 *
 * @internal
 */
import { hex, type Iova, iova as iovaOf, physAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { formatBytes } from '../base/units.ts';
import type { IoPgtableDumpLeaf } from './io-pgtable.ts';
import {
  entryBytes,
  isLarge,
  isShortTable,
  LARGE_COUNT,
  leafBytes,
  PAGE_LEVEL,
  SECTION_BYTES,
  SECTION_LEVEL,
  type ShortEncoding,
  SMALL_PAGE_BYTES,
} from './short-descriptor.ts';
import { PAGE_ENTRIES, type ShortTableArena } from './short-table-arena.ts';

/** What inspection needs of a table. @internal */
export interface ShortView {
  readonly format: string;
  readonly arena: ShortTableArena;
  readonly encoding: ShortEncoding;
}

/** All leaves, ascending. The equal descriptors of a supersection or large page are one leaf. @internal */
export function* shortLeaves(view: ShortView): IterableIterator<IoPgtableDumpLeaf> {
  const { arena } = view;
  for (let root = 0; root < arena.rootEntries; ) {
    const table = arena.child[root] as number;
    if (table === 0) {
      root += yield* leafAt(view, root, SECTION_LEVEL, root * SECTION_BYTES, root);
      continue;
    }
    for (let i = 0; i < PAGE_ENTRIES; )
      i += yield* leafAt(view, table + i, PAGE_LEVEL, root * SECTION_BYTES + i * SMALL_PAGE_BYTES, i);
    root++;
  }
}

/** Yields the leaf at `entry`, number `index` of its table, if there is one. @returns descriptors that it takes, or 1. */
function* leafAt(
  view: ShortView,
  entry: number,
  level: number,
  start: number,
  index: number,
): Generator<IoPgtableDumpLeaf, number> {
  const { words } = view.arena;
  const low = words[entry] as number;
  if (low === 0) return 1;
  let count = 1;
  const last = LARGE_COUNT - (index % LARGE_COUNT);
  if (isLarge(low, level)) while (count < last && words[entry + count] === low) count++;
  const sizeBytes = count * entryBytes(level);
  yield { iova: iovaOf(start), level, sizeBytes, phys: physAddr(translate(view, low, level, start)), low, high: 0 };
  return count;
}

/** The walk for `iova`, one line a level: index, descriptor, what it means. @internal */
export function dumpShort(view: ShortView, iova: Iova): string {
  const { arena } = view;
  const lines = [`${view.format} walk of ${hex(iova)}`];
  const root = Math.floor(iova / SECTION_BYTES) & (arena.rootEntries - 1);
  const table = arena.child[root] as number;
  if (table === 0) {
    lines.push(describe(view, root, SECTION_LEVEL, root, iova));
  } else {
    lines.push(`  level 1 [${root}] ${hex(arena.words[root] as number)} table at ${hex(arena.physOf(table))}`);
    const index = Math.floor(iova / SMALL_PAGE_BYTES) & (PAGE_ENTRIES - 1);
    lines.push(describe(view, table + index, PAGE_LEVEL, index, iova));
  }
  return lines.join('\n');
}

function describe(view: ShortView, entry: number, level: number, index: number, iova: number): string {
  const descriptor = view.arena.words[entry] as number;
  const where = `  level ${level} [${index}] ${hex(descriptor)}`;
  if (descriptor === 0) return `${where} not mapped`;
  const sizeBytes = leafBytes(descriptor, level);
  return `${where} leaf of ${formatBytes(sizeBytes)} -> ${hex(translate(view, descriptor, level, iova))}`;
}

/**
 * Checks every table descriptor against the table it stands for, and the number of tables against the arena's count.
 *
 * @throws {InvariantError} they disagree.
 * @internal
 */
export function checkShort(view: ShortView): void {
  const { arena, encoding } = view;
  let found = 0;
  for (let root = 0; root < arena.rootEntries; root++) {
    const descriptor = arena.words[root] as number;
    const table = arena.child[root] as number;
    const isTable = isShortTable(descriptor);
    assert(isTable === (table !== 0), '%s: level 1 [%s] and its table disagree', view.format, root);
    if (!isTable) continue;
    const named = encoding.address(descriptor, SECTION_LEVEL);
    const phys = arena.physOf(table);
    assert(named === phys, '%s: level 1 [%s] names %s, not %s', view.format, root, hex(named), hex(phys));
    found++;
  }
  assert(found === arena.used, '%s: %s tables are linked, %s in use', view.format, found, arena.used);
}

function translate(view: ShortView, descriptor: number, level: number, iova: number): number {
  return view.encoding.address(descriptor, level) + (iova & (leafBytes(descriptor, level) - 1));
}
