/** What may be alive: pools, rings of a device that runs, what a process keeps for as long as it lives. */
import type { ObjectKind } from '../trace/object-ledger.ts';
import { type LedgerNode, madeAt } from './ledger-graph.ts';

/** Objects that fit all that is given. */
export interface LedgerExpectation {
  readonly kind?: ObjectKind;
  /** `'dmabuf'`, `'sync_file'`, … */
  readonly of?: string;
  /** A process, a device or a task; that of a process stands for its threads, too. */
  readonly owner?: string;
  /** The name, or the beginning of it. */
  readonly name?: string;
  /** The place, or the beginning of it: `'pool.ts'`, `'pool.ts:31:7'`. */
  readonly site?: string;
  /** The size of a pool: what is alive beyond that is not expected, the youngest first. Default: any number. */
  readonly atMost?: number;
}

/** Whether `node` is one of those that `expectation` speaks of. */
export function isExpected(node: Omit<LedgerNode, 'keeps'>, expectation: LedgerExpectation): boolean {
  const { kind, of, owner, name, site } = expectation;
  return (
    (kind === undefined || node.kind === kind) &&
    (of === undefined || node.of === of) &&
    (owner === undefined || node.owner === owner || node.owner.startsWith(`${owner}.`)) &&
    (name === undefined || node.name.startsWith(name)) &&
    (site === undefined || madeAt(node).startsWith(site))
  );
}

/** Of `nodes`, oldest first, those that no expectation covers; each takes what it covers up to its size. */
export function unexpected<T extends Omit<LedgerNode, 'keeps'>>(
  nodes: readonly T[],
  expectations: readonly LedgerExpectation[],
): readonly T[] {
  const counts = new Map<LedgerExpectation, number>();
  return nodes.filter((node) => {
    for (const expectation of expectations) {
      const count = counts.get(expectation) ?? 0;
      if (!isExpected(node, expectation) || count >= (expectation.atMost ?? Infinity)) continue;
      counts.set(expectation, count + 1);
      return false;
    }
    return true;
  });
}
