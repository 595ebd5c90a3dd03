/**
 * What keeps what alive, from the ledger of objects (`sim.objects`) and the book of addresses (`sim.addresses`), as it is now.
 *
 * A *root* is what nothing else keeps: a process's fd, a driver's reference or attachment. Everything behind it is a consequence. What no
 * root leads to is kept by a loop.
 */
import type { Site } from '../base/site.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { AddressMapping } from '../trace/address-book.ts';
import type { LedgerObject, ObjectKind } from '../trace/object-ledger.ts';

/** One thing that is alive, and what it keeps so. */
export interface LedgerNode {
  /** Its number in the ledger; 0: it is not there, and known from elsewhere. */
  readonly id: number;
  readonly kind: ObjectKind;
  readonly of: string;
  readonly name: string;
  readonly owner: string;
  readonly timeNs: number;
  readonly site: Site | null;
  /** Where another reference was taken, which may be the one that is left instead. */
  readonly rival: Site | null;
  /** What it keeps alive, and what goes with it. */
  readonly keeps: readonly LedgerNode[];
}

interface Node extends LedgerNode {
  readonly keeps: Node[];
  readonly keptBy: Node[];
}

/** See the header. */
export interface LedgerGraph {
  /** Oldest first. */
  readonly roots: readonly LedgerNode[];
  /** One object of each loop that nothing outside keeps, oldest first. */
  readonly loops: readonly (readonly LedgerNode[])[];
  /** Everything that is alive, roots or not. */
  readonly nodes: readonly LedgerNode[];
}

/** Draws the graph of `sim`. Plain; changes nothing. */
export function ledgerGraph(sim: Simulator): LedgerGraph {
  const nodes = nodesOf(sim);
  const roots = nodes.filter(({ keptBy }) => keptBy.length === 0);
  const reached = new Set<Node>();
  for (const root of roots) reach(root, reached);
  const loops: Node[][] = [];
  for (const node of nodes) {
    if (reached.has(node)) continue;
    const loop = loopOf(node);
    loops.push(loop);
    for (const member of loop) reach(member, reached);
  }
  return { roots, loops, nodes };
}

/** Where it was made; `''`: not known. */
export function madeAt({ site }: Pick<LedgerNode, 'site'>): string {
  return site?.text ?? '';
}

/** `'dma-buf frame1'`, `'fd 4 of app'`. */
export function nodeName({ kind, name }: Pick<LedgerNode, 'kind' | 'name'>): string {
  return NAMED.has(kind) ? `${kind} ${name}` : name;
}

/** The way from `root` to what it keeps that matters most: the first buffer, or else what lies deepest. `root` first. */
export function wayDown(root: LedgerNode): readonly LedgerNode[] {
  const before = new Map<LedgerNode, LedgerNode | null>([[root, null]]);
  let end = root;
  for (const node of before.keys()) {
    end = node;
    if (node.kind === 'dma-buf') break;
    for (const next of node.keeps) if (!before.has(next)) before.set(next, node);
  }
  const way: LedgerNode[] = [];
  for (let at: LedgerNode | null = end; at !== null; at = before.get(at) ?? null) way.unshift(at);
  return way;
}

/** Kinds whose name does not say what they are. */
const NAMED: ReadonlySet<ObjectKind> = new Set(['dma-buf', 'file', 'gem-object', 'fence']);

function nodesOf(sim: Simulator): Node[] {
  const byId = new Map<number, Node>();
  const objects = [...sim.objects.live];
  for (const object of objects) byId.set(object.id, nodeOf(object));
  const outside: Node[] = [];
  for (const { id, holds, within } of objects) {
    const node = byId.get(id);
    if (node === undefined) continue;
    join(node, byId.get(holds));
    join(byId.get(within), node);
    for (const holder of sim.objects.holders(id)) {
      const known = byId.get(holder.id);
      if (known === undefined) outside.push(outsider(holder.name, node));
      else join(known, node);
    }
  }
  return [...byId.values(), ...outside, ...dmaNodes(sim, objects)];
}

function nodeOf({ id, kind, of, name, owner, timeNs, site, rival }: Omit<LedgerNode, 'keeps'>): Node {
  return { id, kind, of, name, owner, timeNs, site, rival, keeps: [], keptBy: [] };
}

/** Somebody with a reference who has no entry. */
function outsider(name: string, node: Node): Node {
  const { of, timeNs, site } = node;
  const holder = nodeOf({
    id: 0,
    rival: null,
    kind: 'reference',
    of,
    name: `reference of ${name}`,
    owner: name,
    timeNs,
    site,
  });
  join(holder, node);
  return holder;
}

function join(from: Node | undefined, to: Node | undefined): void {
  if (from === undefined || to === undefined || from.keeps.includes(to)) return;
  from.keeps.push(to);
  to.keptBy.push(from);
}

/** What devices have mapped by themselves. Mappings of a shared buffer go with its attachments. */
function dmaNodes(sim: Simulator, objects: readonly LedgerObject[]): Node[] {
  const attached = new Set(objects.flatMap(({ kind, name }) => (kind === 'attachment' ? [name] : [])));
  const nodes: Node[] = [];
  for (const mapping of sim.addresses.live) {
    const { space, object, owner } = mapping;
    if (space !== 'dma' || attached.has(`attachment of ${object} for ${owner}`)) continue;
    nodes.push(dmaNode(mapping));
  }
  return nodes;
}

function dmaNode({ owner, call, pieces, sinceNs, site }: AddressMapping): Node {
  const kind = call.startsWith('dmaAlloc') ? 'dma-allocation' : 'dma-mapping';
  const bytes = pieces.size.reduce((sum, size) => sum + size, 0);
  return nodeOf({
    id: 0,
    rival: null,
    kind,
    of: 'dma',
    name: `${call} of ${bytes} bytes for ${owner}`,
    owner,
    timeNs: sinceNs,
    site,
  });
}

function reach(from: Node, reached: Set<Node>): void {
  const open = [from];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (reached.has(node)) continue;
    reached.add(node);
    open.push(...node.keeps);
  }
}

/** A loop that keeps `node` alive: everything that is not reached has a keeper. In the order in which they keep each other. */
function loopOf(node: Node): Node[] {
  const way: Node[] = [];
  let at = node;
  while (!way.includes(at)) {
    way.push(at);
    at = at.keptBy[0] ?? at;
  }
  return way.slice(way.indexOf(at)).reverse();
}
