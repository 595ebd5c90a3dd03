/**
 * What the checker remembers of a mapping, and when two of them are alike.
 *
 * @see Linux 6.1 `kernel/dma/debug.c` struct dma_debug_entry
 */
import type { DmaAddr } from '../base/addr.ts';
import type { DmaCallFacts } from '../base/dma-hazards.ts';
import type { DmaDirection } from './direction.ts';

/** By which family of calls a mapping is made and ended. Single buffers and pages are one. */
export type DmaMappingKind = 'single' | 'sg' | 'coherent' | 'resource';

/** A mapping, or one segment of a list: as it was made, or as a call claims that it was. */
export interface DmaDebugRef {
  readonly call: string;
  readonly kind: DmaMappingKind;
  readonly address: DmaAddr;
  /** Where it is in memory; -1: the call does not say. */
  readonly phys: number;
  readonly sizeBytes: number;
  readonly dir: DmaDirection;
  /** Entries of the list that was given to the call; 0: no list. */
  readonly sgCallEnts: number;
  readonly site: string;
}

/** @internal What is known of a mapping beyond what its call says. */
export interface DmaDebugState {
  readonly timeNs: number;
  /** Order in which they were made. */
  readonly serial: number;
  /** Segments that the list became; 0: no list. */
  readonly sgMappedEnts: number;
  /** Whether the driver asked for a mapping error: `'none'` where there is nothing to ask. */
  readonly errorCheck: 'none' | 'unchecked' | 'checked';
}

/** @internal A live mapping, or one segment of a list. A class, field by field: one is made at each mapping, and a spread costs 20 times as much. */
export class DmaDebugEntry implements DmaDebugRef {
  readonly call: string;
  readonly kind: DmaMappingKind;
  readonly address: DmaAddr;
  readonly phys: number;
  readonly sizeBytes: number;
  readonly dir: DmaDirection;
  readonly sgCallEnts: number;
  readonly site: string;
  readonly timeNs: number;
  readonly serial: number;
  readonly sgMappedEnts: number;
  errorCheck: DmaDebugState['errorCheck'];

  constructor(ref: DmaDebugRef, state: DmaDebugState) {
    this.call = ref.call;
    this.kind = ref.kind;
    this.address = ref.address;
    this.phys = ref.phys;
    this.sizeBytes = ref.sizeBytes;
    this.dir = ref.dir;
    this.sgCallEnts = ref.sgCallEnts;
    this.site = ref.site;
    this.timeNs = state.timeNs;
    this.serial = state.serial;
    this.sgMappedEnts = state.sgMappedEnts;
    this.errorCheck = state.errorCheck;
  }
}

/** @internal How many of size, kind, direction and count of entries agree: 0 to 4. */
export function matchLevel(entry: DmaDebugRef, ref: DmaDebugRef): number {
  return (
    Number(entry.sizeBytes === ref.sizeBytes) +
    Number(entry.kind === ref.kind) +
    Number(entry.dir === ref.dir) +
    Number(entry.sgCallEnts === ref.sgCallEnts)
  );
}

/** @internal Whether all of `ref` lies in `entry`. */
export function contains(entry: DmaDebugRef, ref: DmaDebugRef): boolean {
  return entry.address <= ref.address && entry.address + entry.sizeBytes >= ref.address + ref.sizeBytes;
}

/** @internal `ref` as a report quotes it. */
export function callFacts(device: string, ref: DmaDebugRef, timeNs: number): DmaCallFacts {
  const { call, address, sizeBytes, dir, sgCallEnts: entries, site } = ref;
  return { call, device, address, sizeBytes, dir, entries, timeNs, site };
}
