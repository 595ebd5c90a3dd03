/**
 * What the checker of the DMA API can name. A driver that breaks a rule of the API often works on one machine and corrupts memory on
 * the next; each rule has its own stable code here.
 *
 * `dma-debug.*` are found by `DmaDebug` (CONFIG_DMA_API_DEBUG), the others by the calls themselves.
 *
 * @see Linux 6.1 `kernel/dma/debug.c`; `Documentation/core-api/dma-api.rst` part III
 */
import { hex } from './addr.ts';

/** One call of the DMA API, as a report quotes it. */
export interface DmaCallFacts {
  /** `'dmaMapPage'` */
  readonly call: string;
  readonly device: string;
  /** As the device sees it. */
  readonly address: number;
  readonly sizeBytes: number;
  /** `'to-device'`, … */
  readonly dir: string;
  /** Entries of the list that was given; 0: no list. */
  readonly entries: number;
  /** When, in ns of simulated time. */
  readonly timeNs: number;
  /** Where in the driver: `'camera.ts:31:7'`; '' when call sites are not captured. */
  readonly site: string;
}

/** Each rule that the checker knows. */
export type DmaDebugCode =
  | 'dma-debug.free-not-mapped'
  | 'dma-debug.free-invalid-address'
  | 'dma-debug.size-mismatch'
  | 'dma-debug.wrong-function'
  | 'dma-debug.cpu-address-mismatch'
  | 'dma-debug.sg-count-mismatch'
  | 'dma-debug.unmap-direction-mismatch'
  | 'dma-debug.map-error-unchecked'
  | 'dma-debug.sync-not-mapped'
  | 'dma-debug.sync-out-of-range'
  | 'dma-debug.sync-direction-mismatch'
  | 'dma-debug.sync-read-only-for-cpu'
  | 'dma-debug.sync-write-only-for-device'
  | 'dma-debug.maps-stack'
  | 'dma-debug.maps-kernel-text'
  | 'dma-debug.cacheline-overlap'
  | 'dma-debug.cacheline-overlap-limit'
  | 'dma-debug.sg-segment-too-long'
  | 'dma-debug.sg-segment-crosses-boundary'
  | 'dma-debug.pending-at-unbind';

/** A driver broke a rule of the DMA API, and the checker saw it. */
export interface DmaDebugFacts {
  readonly hazard: DmaDebugCode;
  readonly device: string;
  /** What is wrong, with both values. */
  readonly what: string;
  /** The wrong call; at a driver's unbind: that. */
  readonly call: DmaCallFacts;
  /** The mapping it concerns: who made it, how; `null` when there is none. */
  readonly mapping: DmaCallFacts | null;
  /** Mappings that are alive, for `pending-at-unbind`; else 0. */
  readonly leaked: number;
  readonly remedy: string;
}

/** A call of the DMA API that can not do what it was asked for, whoever watches. */
export interface DmaCallMisuseFacts {
  readonly hazard:
    | 'dma-map.rejects-vmalloc'
    | 'dma-map.pageless'
    | 'dma-map.resource-is-ram'
    | 'dma-alloc.no-kernel-mapping'
    | 'dma-iova.leftover-link'
    | 'dmabuf.page-peek';
  readonly device: string;
  /** What is wrong, with the addresses. */
  readonly what: string;
  /** `'dmaMapSingle'` */
  readonly call: string;
  readonly timeNs: number;
  readonly remedy: string;
}

/** The members of `HazardFacts` that concern the DMA API. */
export type DmaHazardFacts = DmaDebugFacts | DmaCallMisuseFacts;

/** @internal What happened, and both sides, for the text of a report. */
export function dmaHazardSentences(facts: DmaHazardFacts): readonly [what: string, sides: string] {
  if (!('mapping' in facts)) return [facts.what, `[${facts.call}: ${facts.device}, ${facts.timeNs} ns]`];
  const mapping = facts.mapping === null ? '' : ` [mapping: ${callText(facts.mapping)}]`;
  return [facts.what, `[call: ${callText(facts.call)}]${mapping}`];
}

function callText(call: DmaCallFacts): string {
  const list = call.entries === 0 ? '' : `, ${call.entries} entries`;
  const site = call.site === '' ? '' : ` at ${call.site}`;
  const range = `${hex(call.address)} + ${call.sizeBytes}`;
  return `${call.call}${site}, ${call.device}, ${range}, ${call.dir}${list}, ${call.timeNs} ns`;
}
