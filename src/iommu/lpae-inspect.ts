/**
 * Looking at an LPAE page table without changing it: its leaves, one walk as text, and a check of its own consistency.
 *
 * @internal
 */
import { hex, type Iova, iova as iovaOf, type PhysAddr, physAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { formatBytes } from '../base/units.ts';
import type { IoPgtableDumpLeaf } from './io-pgtable.ts';
import { descriptorAddress, LAST_LEVEL, type LpaeGeometry, levelBytes } from './lpae-geometry.ts';
import type { TableArena } from './table-arena.ts';

/** What inspection needs of a table. @internal */
export interface LpaeView {
  readonly format: string;
  readonly geometry: LpaeGeometry;
  readonly arena: TableArena;
  /** Address that index 0 stands for: 0, or -2^ias with TTBR1. */
  readonly firstIova: number;
}

interface Descriptor {
  readonly low: number;
  readonly high: number;
  readonly child: number;
}

/** All leaves, ascending. @internal */
export function* lpaeLeaves(view: LpaeView): IterableIterator<IoPgtableDumpLeaf> {
  const { geometry } = view;
  yield* leavesOf(view, 0, 2 ** geometry.pgdBits, geometry.startLevel, view.firstIova);
}

function* leavesOf(
  view: LpaeView,
  slot: number,
  count: number,
  level: number,
  base: number,
): IterableIterator<IoPgtableDumpLeaf> {
  const { geometry, arena } = view;
  const sizeBytes = levelBytes(geometry, level);
  for (let index = 0; index < count; index++) {
    const { low, high, child } = descriptorAt(arena, slot * arena.entries + index);
    if (low === 0) continue;
    const start = base + index * sizeBytes;
    if (child !== 0) yield* leavesOf(view, child, arena.entries, level + 1, start);
    else yield { iova: iovaOf(start), level, sizeBytes, phys: addressOf(geometry, low, high), low, high };
  }
}

/** The walk for `iova`, one line a level: index, descriptor, what it means. @internal */
export function dumpLpae(view: LpaeView, iova: Iova): string {
  const { geometry, arena } = view;
  const lines = [`${view.format} walk of ${hex(iova)}`];
  let slot = 0;
  let rest = iova - view.firstIova;
  for (let level = geometry.startLevel; level <= LAST_LEVEL; level++) {
    const sizeBytes = levelBytes(geometry, level);
    const count = level === geometry.startLevel ? 2 ** geometry.pgdBits : arena.entries;
    const index = Math.floor(rest / sizeBytes) % count;
    const { low, high, child } = descriptorAt(arena, slot * arena.entries + index);
    const where = `  level ${level} [${index}] ${hex(high * 2 ** 32 + low)}`;
    if (child === 0) {
      const offset = rest % sizeBytes;
      const to = hex(descriptorAddress(geometry, low, high) + offset);
      lines.push(low === 0 ? `${where} not mapped` : `${where} leaf of ${formatBytes(sizeBytes)} -> ${to}`);
      break;
    }
    lines.push(`${where} table at ${hex(arena.phys[child] as number)}`);
    slot = child;
    rest %= sizeBytes;
  }
  return lines.join('\n');
}

/**
 * Checks every table descriptor against the slot it stands for, and the number of tables against the arena's count.
 *
 * @throws {InvariantError} they disagree.
 * @internal
 */
export function checkLpae(view: LpaeView): void {
  const { geometry, arena } = view;
  const found = checkTable(view, 0, 2 ** geometry.pgdBits, geometry.startLevel);
  assert(found === arena.belowRoot, '%s: %s tables are linked, %s in use', view.format, found, arena.belowRoot);
}

function checkTable(view: LpaeView, slot: number, count: number, level: number): number {
  const { geometry, arena } = view;
  let tables = 0;
  for (let index = 0; index < count; index++) {
    const { low, high, child } = descriptorAt(arena, slot * arena.entries + index);
    if (child === 0) {
      assert(
        level === LAST_LEVEL || (low & 3) !== 3,
        '%s: level %s [%s] names an unknown table',
        view.format,
        level,
        index,
      );
      continue;
    }
    const named = descriptorAddress(geometry, low, high);
    assert(
      level < LAST_LEVEL && (low & 3) === 3 && named === arena.phys[child],
      '%s: level %s [%s] names a table at %s, which is at %s',
      view.format,
      level,
      index,
      hex(named),
      hex(arena.phys[child] as number),
    );
    tables += 1 + checkTable(view, child, arena.entries, level + 1);
  }
  return tables;
}

function descriptorAt(arena: TableArena, entry: number): Descriptor {
  return {
    low: arena.words[2 * entry] as number,
    high: arena.words[2 * entry + 1] as number,
    child: arena.child[entry] as number,
  };
}

function addressOf(geometry: LpaeGeometry, low: number, high: number): PhysAddr {
  return physAddr(descriptorAddress(geometry, low, high));
}
