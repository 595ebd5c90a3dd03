/**
 * What is left at the end, and who would have had to give it back.
 *
 * 1. A leak is a root: something that was taken and that nothing else keeps. What it keeps alive is named with it, not counted again.
 * 2. Leaks of one kind, owner and place are one. What one call took of one buffer (a reference and an attachment) is one, too.
 * 3. Objects that only keep each other are a leak as well, and named as a loop.
 * 4. Nothing is a leak that is expected: what belongs to a process or device that goes on, and pools of a size that was told.
 */
import type { LeakFacts } from '../base/watch-hazards.ts';
import { KernelBrackets } from '../dmabuf/kernel-brackets.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { ObjectKind } from '../trace/object-ledger.ts';
import { type LedgerExpectation, unexpected } from './ledger-expectation.ts';
import { type LedgerGraph, type LedgerNode, ledgerGraph, madeAt, nodeName, wayDown } from './ledger-graph.ts';

/** What has a simulator: a machine, a process, the simulator itself. */
export type Simulated = Simulator | { readonly sim: Simulator };

/** What is no leak; default: nothing. */
export interface LeakOptions {
  /** Processes, devices and tasks that go on: what they have is theirs to keep. */
  readonly running?: readonly string[];
  readonly expect?: readonly LedgerExpectation[];
}

/** Things of one kind that one place has made and nobody has given back. */
export interface Leak {
  /** `'fd'`, `'reference and attachment'`; `'loop'`: objects that keep each other. */
  readonly object: string;
  /** Of what: `'dmabuf'`, `'sync_file'`, … */
  readonly of: string;
  readonly owner: string;
  readonly count: number;
  /** What the first of them keeps alive, or itself: `'dma-buf frame1'`. */
  readonly what: string;
  /** What keeps that alive, outermost first, each with its place. */
  readonly chain: readonly string[];
  /** Where the first was made: `'app.ts:12:3'`; `''`: places are not kept. */
  readonly site: string;
  /** When. */
  readonly timeNs: number;
  /** What has to be called. */
  readonly remedy: string;
}

/** What {@link leakReport} finds. */
export interface LeakReport {
  /** By kind, the largest number first. */
  readonly leaks: readonly Leak[];
  /** How many things are alive, those included that are no leaks. */
  readonly liveCount: number;
  /** A table of it, with the first of each leak. */
  readonly text: string;
}

/**
 * Looks for leaks now; at the end of a program, when everything that goes on is known, it finds those that are none in the middle. Plain;
 * changes nothing. A simulator that does not watch (`watch: false`) has nothing to tell.
 */
export function leakReport(of: Simulated, options: LeakOptions = {}): LeakReport {
  const graph = ledgerGraph('sim' in of ? of.sim : of);
  const leaks = leaksOf(graph, options);
  return { leaks, liveCount: graph.nodes.length, text: leakText(leaks, graph.nodes.length) };
}

/**
 * Reports every leak as a hazard `ledger.leak`, and before that brackets of CPU access that drivers have left open as
 * `dmabuf.unbalanced-sync`.
 *
 * @returns how many leaks.
 * @throws {HazardError} with policy `'throw'`: the first; call it with `'record'` to see all.
 */
export function checkLeaks(of: Simulated, options: LeakOptions = {}): number {
  const sim = 'sim' in of ? of.sim : of;
  const { leaks } = leakReport(sim, options);
  sim.part(KernelBrackets).checkOver(options.running ?? []);
  for (const leak of leaks) sim.report(leakFacts('ledger.leak', leak));
  return leaks.length;
}

/** @internal `leak` as a hazard. */
export function leakFacts(hazard: LeakFacts['hazard'], leak: Leak): LeakFacts {
  const { object, of, count, what, chain, site, timeNs, remedy } = leak;
  return { hazard, object: `${object} (${of})`, count, what, chain, site, timeNs, remedy };
}

/** @internal The leak that `roots` are: of one place, oldest first. */
export function leakOf(roots: readonly [LedgerNode, ...LedgerNode[]]): Leak {
  const [first] = roots;
  const kinds = [...new Set(roots.map(({ kind }) => kind))];
  const way = wayDown(first);
  const last = way.at(-1) ?? first;
  return {
    object: kinds.join(' and '),
    of: first.of,
    owner: [...new Set(roots.map(({ owner }) => owner))].join(', '),
    count: countOf(roots),
    what: nodeName(last),
    chain: way.slice(0, -1).map(described),
    site: madeAt(first),
    timeNs: first.timeNs,
    remedy: kinds.map((kind) => remedyFor(kind, first)).join('; '),
  };
}

/** @internal How often what made `roots` was done: of several kinds, the one there are most of. */
export function countOf(roots: readonly Pick<LedgerNode, 'kind'>[]): number {
  const counts = new Map<ObjectKind, number>();
  for (const { kind } of roots) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return Math.max(0, ...counts.values());
}

/** What keeps `name` alive, as reports write it: `'fd 4 of app (made at app.ts:12:3)'`. */
function described(node: LedgerNode): string {
  const site = madeAt(node);
  const rival = node.rival?.text ?? '';
  if (site === '') return nodeName(node);
  return `${nodeName(node)} (made at ${site}${rival === '' || rival === site ? '' : `, or it is the one of ${rival}`})`;
}

function leaksOf(graph: LedgerGraph, { running = [], expect = [] }: LeakOptions): Leak[] {
  const all = [...running.map((owner) => ({ owner })), ...expect];
  const roots = unexpected(graph.roots, all);
  const loops = graph.loops.filter((loop) => unexpected(loop, all).length === loop.length);
  const leaks = [...[...groupByPlace(roots).values()].map(leakOf), ...loops.map(loopLeak)];
  return leaks.sort((a, b) => b.count - a.count || a.timeNs - b.timeNs);
}

/** @internal Rule 2: by place, oldest first. */
export function groupByPlace<T extends Omit<LedgerNode, 'keeps'>>(roots: readonly T[]): Map<string, [T, ...T[]]> {
  const byPlace = new Map<string, [T, ...T[]]>();
  for (const root of roots) {
    const key = placeOf(root);
    const group = byPlace.get(key);
    if (group === undefined) byPlace.set(key, [root]);
    else group.push(root);
  }
  return byPlace;
}

/** What has to agree. A reference and an attachment of one place belong together, whoever runs there. */
function placeOf(root: Omit<LedgerNode, 'keeps'>): string {
  const { kind, of, owner } = root;
  const site = madeAt(root);
  const isImport = kind === 'reference' || kind === 'attachment';
  return isImport && site !== '' ? `import|${of}|${site}` : `${kind}|${of}|${owner}|${site}`;
}

function loopLeak(loop: readonly LedgerNode[]): Leak {
  const [first] = loop;
  const { of = '', owner = '', timeNs = 0 } = first ?? {};
  return {
    ...{ object: 'loop', of, owner, count: 1, timeNs },
    what: first === undefined ? '' : nodeName(first),
    chain: loop.map(described),
    site: first === undefined ? '' : madeAt(first),
    remedy: 'give one of these back before the last thing outside the loop lets go',
  };
}

const REMEDIES: Readonly<Record<ObjectKind, string>> = {
  'dma-buf': 'buf.put()',
  file: 'close its last descriptor',
  'gem-object': 'close its handles',
  syncobj: 'DRM_IOCTL_SYNCOBJ_DESTROY of its handles',
  fence: 'fence.signal(), fence.put()',
  reference: 'put() for this get(), or for its making',
  attachment: 'buf.detach(attachment)',
  mapping: 'attachment.unmap(table, dir)',
  pin: 'attachment.unpin()',
  vmap: 'buf.vunmap(map)',
  mmap: 'munmap of it',
  fd: 'close',
  handle: 'DRM_IOCTL_GEM_CLOSE or DRM_IOCTL_SYNCOBJ_DESTROY of it',
  'dma-mapping': 'dmaUnmap… of it',
  'dma-allocation': 'dmaFree… of it',
};

function remedyFor(kind: ObjectKind, { name }: LedgerNode): string {
  return kind === 'fd' ? `close(${/\d+/.exec(name)?.[0] ?? ''})` : REMEDIES[kind];
}

function leakText(leaks: readonly Leak[], liveCount: number): string {
  if (leaks.length === 0) return `no leaks; ${liveCount} objects are alive`;
  const rows = leaks.map(({ object, of, count, owner, site }) => [object, of, String(count), owner, site]);
  const table = [['left', 'of', 'count', 'owner', 'made at'], ...rows];
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...table.map((row) => (row[column] ?? '').length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  const body = leaks.flatMap(({ what, chain, timeNs }, i) => {
    const way = chain.length === 0 ? what : `${chain.join(' > ')} > ${what}`;
    return [line(table[i + 1] ?? []), `  first, at ${timeNs} ns: ${way}`];
  });
  return [line(table[0] ?? []), ...body].join('\n');
}
