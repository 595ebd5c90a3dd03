/**
 * What attachments tell the address book of a machine: which buffer a mapping shows, and when an importer may not use it any more although
 * the exporter has not unmapped it yet.
 *
 * 1. A table whose exporter made its addresses without the DMA API (it knows them, as for memory of another device) is a mapping, too.
 * 2. When a buffer moves or is revoked, work that was going on may use the old mapping until its fences have signalled, and not longer.
 */
import { hex } from '../base/addr.ts';
import { DmaLints } from '../dma-api/dma-lints.ts';
import type { SgTable } from '../dma-api/sg-table.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { AddressPieces, MappingEnd } from '../trace/address-book.ts';
import { placeText } from '../trace/address-text.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { DmaBufAttachment } from './dma-buf-attachment.ts';

/** What rule 1 calls such a mapping. */
const BY_EXPORTER = 'mapDmaBuf';

/** @internal The exporter gave a table. */
export function noteTableMade(att: DmaBufAttachment, sgt: SgTable): void {
  const { buf, dev } = att;
  const { addresses } = buf.sim;
  if (!addresses.enabled) return;
  if (addresses.get(sgt.bookId) === undefined && sgt.nents > 0) {
    const { phys, length, dmaAddress, dmaLength } = sgt.columns;
    sgt.bookId = addresses.begin({
      space: 'dma',
      owner: dev.name,
      pieces: { base: dmaAddress.slice(0, sgt.nents), size: dmaLength.slice(0, sgt.nents) },
      to: { space: 'phys', owner: '', pieces: { base: phys, size: length } },
      call: BY_EXPORTER,
      object: buf.name,
      writable: true,
      sinceNs: buf.sim.now,
      site: buf.sim.site(),
    });
  }
  addresses.name(sgt.bookId, buf.name);
}

/** @internal The exporter is about to get a table back. */
export function noteTableReturned({ buf }: DmaBufAttachment, sgt: SgTable, how: 'unmap' | 'detach'): void {
  const { addresses, now: timeNs } = buf.sim;
  if (!addresses.enabled) return;
  const mapping = addresses.get(sgt.bookId);
  if (mapping === undefined || (how === 'unmap' && mapping.call !== BY_EXPORTER)) return;
  addresses.end(mapping.id, { how, call: how === 'detach' ? 'detach' : 'unmapDmaBuf', timeNs, site: buf.sim.site() });
}

/** @internal The importer was told to give its mappings up (rule 2). The reservation lock is held. */
export function noteMoved(att: DmaBufAttachment, how: Extract<MappingEnd, 'move' | 'revoke'>): void {
  const { buf } = att;
  const { addresses, now: timeNs } = buf.sim;
  if (!addresses.enabled || att.tables.size === 0) return;
  const pending = buf.resv.isLocked ? buf.resv.entries().flatMap(({ fence }) => (fence.signaled ? [] : [fence])) : [];
  const end = { how, call: how === 'move' ? 'moveNotify' : 'revoke', timeNs, site: buf.sim.site() };
  for (const sgt of att.tables.keys()) {
    if (sgt !== att.keptTable) addresses.endAfter(sgt.bookId, end, () => pending.every((fence) => fence.signaled));
  }
}

/** @internal Reports habits of exporters: `dma-lints.ts`, and two buffers over one memory. */
export function lintTable({ buf, dev }: DmaBufAttachment, sgt: SgTable): void {
  const { phys, length, dmaAddress, dmaLength } = sgt.columns;
  const device = { base: dmaAddress.subarray(0, sgt.nents), size: dmaLength.subarray(0, sgt.nents) };
  const { sim } = buf;
  sim.part(DmaLints).tableOf(dev, 'device', device, buf.exporterName);
  if (buf.ops.mayAlias !== true) sim.part(AliasLint).look(buf, { base: phys, size: length });
}

/** Which pairs of buffers were told. */
class AliasLint {
  readonly #sim: Simulator;
  readonly #told = new Set<string>();

  constructor(sim: Simulator) {
    this.#sim = sim;
  }

  /** Looks for memory that a live mapping of another buffer shows, too; each pair of buffers is reported once. */
  look(buf: DmaBuf, memory: AddressPieces): void {
    for (const { object, to, call, site } of this.#sim.addresses.live) {
      const pair = [object, buf.name].sort().join(' ');
      if (object === '' || object === buf.name || to?.space !== 'phys' || this.#told.has(pair)) continue;
      const shared = firstShared(memory, to.pieces);
      if (shared < 0) continue;
      this.#told.add(pair);
      this.#sim.report({
        hazard: 'dmabuf.alias',
        who: buf.exporterName,
        what: `${buf.name} and ${object} (${call}${placeText(site)}) both show the memory at ${hex(shared)}`,
        site: this.#sim.site()?.text ?? '',
        timeNs: this.#sim.now,
        remedy:
          'export the memory once and pass that buffer on: fences and brackets of one buffer do not hold for the other',
      });
    }
  }
}

/** First byte that both have, or -1. */
function firstShared(a: AddressPieces, b: AddressPieces): number {
  const [left, right] = [byAddress(a), byAddress(b)];
  let j = 0;
  for (const [from, to] of left) {
    while (j < right.length && (right[j] as Span)[1] <= from) j++;
    const [otherFrom] = right[j] ?? [Number.POSITIVE_INFINITY];
    if (otherFrom < to) return Math.max(from, otherFrom);
  }
  return -1;
}

/** Bytes from the first to the one behind the last. */
type Span = readonly [from: number, to: number];

function byAddress({ base, size }: AddressPieces): Span[] {
  const spans = Array.from(base, (at, i): Span => [at, at + (size[i] as number)]);
  return spans.sort((one, other) => one[0] - other[0]);
}
