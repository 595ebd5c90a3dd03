/**
 * What the DMA API tells the books of a machine: which addresses a device was given (`sim.addresses`), and which calls handed bytes over
 * (`sim.syncs`). Nothing is told, at no cost, while nobody keeps them.
 *
 * The memory side of every note is the driver's own memory, also where the bytes really travel by way of a bounce buffer.
 */
import type { DmaAddr } from '../base/addr.ts';
import type { Site } from '../base/site.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { AddressMapping, AddressPieces, MappingEnd } from '../trace/address-book.ts';
import { bytesOfPieces, offsetInPieces, slicePieces } from '../trace/address-pieces.ts';
import type { SyncRecord } from '../trace/sync-log.ts';
import { type DmaDirection, deviceWrites } from './direction.ts';
import { DmaLints } from './dma-lints.ts';
import type { Extent, SgTable } from './sg-table.ts';

/** A device, as the notes name it. */
interface Owner {
  readonly name: string;
  readonly sim: Simulator;
  readonly coherent: boolean;
}

/** @internal A call that is noted. */
export interface NotedCall {
  /** `'dmaMapSgtable'`. */
  readonly call: string;
  readonly dir: DmaDirection;
  readonly skipped: boolean;
}

/** @internal Something that knows its number in the address book; 0: it has none. */
export interface Booked {
  bookId: number;
}

const NONE: AddressPieces = { base: new Float64Array(0), size: new Float64Array(0) };

/** @internal Whether anybody keeps notes. */
export function isNoted({ sim }: Owner): boolean {
  return sim.addresses.enabled || sim.syncs.enabled;
}

/** @internal A table is about to be mapped: what the lints say of its memory. @throws {HazardError} `dma.map-resource-in-sg`. */
export function lintMemory(dev: Owner, sgt: SgTable): void {
  if (dev.sim.lints) dev.sim.part(DmaLints).tableOf(dev, 'cpu', memoryOf(sgt), `${dev.name} driver`);
}

/** @internal A table was mapped. */
export function noteTableMapped(dev: Owner, sgt: SgTable, call: NotedCall): void {
  const { addresses } = dev.sim;
  if (!isNoted(dev)) return;
  const memory = memoryOf(sgt);
  const site = dev.sim.site();
  if (addresses.enabled) sgt.bookId = begin(dev, segmentsOf(sgt), memory, call, site);
  noteSync(dev, 'map', call, memory, site);
}

/** @internal A table is about to be unmapped. @returns what to call when it is. */
export function noteTableUnmapped(dev: Owner, sgt: SgTable, call: NotedCall): (() => void) | null {
  const { addresses } = dev.sim;
  if (!isNoted(dev)) return null;
  const site = dev.sim.site();
  noteSync(dev, 'unmap', call, memoryOf(sgt), site, addresses.get(sgt.bookId)?.object);
  const lint = lintOf(dev, sgt, call);
  endBooked(dev, sgt, 'unmap', call.call, site);
  return lint;
}

/** @internal A table is about to be synced. */
export function noteTableSynced(dev: Owner, sgt: SgTable, call: NotedCall, toCpu: boolean): void {
  const { addresses, syncs } = dev.sim;
  if (!syncs.enabled) return;
  const op = toCpu ? 'sync-for-cpu' : 'sync-for-device';
  noteSync(dev, op, call, memoryOf(sgt), dev.sim.site(), addresses.get(sgt.bookId)?.object);
}

/** @internal A run of addresses was made for memory. @returns its number in the address book; 0: it is not kept. */
export function noteRunMapped(dev: Owner, address: DmaAddr, memory: AddressPieces, call: NotedCall): number {
  const { addresses } = dev.sim;
  const site = dev.sim.site();
  noteSync(dev, 'map', call, memory, site);
  if (!addresses.enabled) return 0;
  // Typed arrays are what a note costs most, so the two sides share what they can.
  const isOne = memory.base.length === 1;
  const isSame = isOne && memory.base[0] === Number(address);
  const size = isOne ? memory.size : Float64Array.of(bytesOfPieces(memory));
  const pieces = isSame ? memory : { base: Float64Array.of(address), size };
  return begin(dev, pieces, memory, call, site);
}

/** @internal A run of addresses is about to end. @returns what to call when it has. */
export function noteRunUnmapped(
  dev: Owner,
  booked: Booked,
  memoryOf: () => AddressPieces,
  call: NotedCall,
): (() => void) | null {
  const site = dev.sim.site();
  const mapping = dev.sim.addresses.get(booked.bookId);
  noteSync(dev, 'unmap', call, mapping?.to?.pieces ?? memoryOf(), site, mapping?.object);
  const lint = lintOf(dev, booked, call);
  endBooked(dev, booked, 'unmap', call.call, site);
  return lint;
}

/** @internal `count` ranges of addresses of equal length, equally far apart, are about to be synced. */
export function noteRangesSynced(
  dev: Owner,
  op: 'sync-for-cpu' | 'sync-for-device',
  rows: { readonly first: number; readonly bytes: number; readonly pitchBytes: number; readonly count: number },
  call: NotedCall,
): void {
  const { addresses, syncs } = dev.sim;
  if (!syncs.enabled) return;
  const mapping = addresses.find('dma', dev.name, rows.first);
  noteSync(dev, op, call, rowsIn(mapping, rows), dev.sim.site(), mapping?.object);
}

/** @internal What was booked ends, without a call that hands bytes over. */
export function endBooked(dev: Owner, booked: Booked, how: MappingEnd, call: string, site: Site | null): void {
  if (booked.bookId === 0) return;
  dev.sim.addresses.end(booked.bookId, { how, call, timeNs: dev.sim.now, site });
  booked.bookId = 0;
}

/** @internal Memory of an allocation or a single buffer, as the notes want it. */
export function extentPieces(extents: readonly Extent[]): AddressPieces {
  return {
    base: Float64Array.from(extents, ({ phys }) => phys),
    size: Float64Array.from(extents, ({ length }) => length),
  };
}

/** What the lints say of an unmap, for when it is done: they may throw. */
function lintOf(dev: Owner, { bookId }: Booked, { call, skipped }: NotedCall): (() => void) | null {
  const { addresses, lints } = dev.sim;
  if (!lints || dev.coherent || skipped || call.startsWith('dmaFree') || call === 'dmaUnmapResource') return null;
  const mapping = addresses.get(bookId);
  const wasUsed = addresses.isUsed(bookId);
  return mapping === undefined ? null : () => dev.sim.part(DmaLints).unmapping(dev, mapping, wasUsed);
}

/** As a process or a driver writes the call. */
function textOf(dev: Owner, { call, dir, skipped }: NotedCall): string {
  return skipped ? `${call}(${dev.name}, ${dir}, skipCpuSync)` : `${call}(${dev.name}, ${dir})`;
}

function begin(
  dev: Owner,
  pieces: AddressPieces,
  memory: AddressPieces,
  { call, dir }: NotedCall,
  site: Site | null,
): number {
  return dev.sim.addresses.begin({
    space: 'dma',
    owner: dev.name,
    pieces,
    to: { space: 'phys', owner: '', pieces: memory },
    call,
    object: '',
    writable: deviceWrites(dir),
    sinceNs: dev.sim.now,
    site,
  });
}

function noteSync(
  dev: Owner,
  op: SyncRecord['op'],
  call: NotedCall,
  phys: AddressPieces,
  site: Site | null,
  object = '',
): void {
  dev.sim.syncs.note({
    timeNs: dev.sim.now,
    op,
    call: textOf(dev, call),
    by: `${dev.name} driver`,
    device: dev.name,
    object,
    dir: call.dir,
    phys,
    skipped: call.skipped,
    site,
  });
}

/** The CPU side of what is mapped. It never changes, so the notes share it with the table. */
function memoryOf(sgt: SgTable): AddressPieces {
  const { phys, length } = (sgt.mappedPart ?? sgt).columns;
  return { base: phys, size: length };
}

function segmentsOf(sgt: SgTable): AddressPieces {
  const { dmaAddress, dmaLength } = sgt.columns;
  return { base: dmaAddress.slice(0, sgt.nents), size: dmaLength.slice(0, sgt.nents) };
}

function rowsIn(
  mapping: AddressMapping | undefined,
  { first, bytes, pitchBytes, count }: Parameters<typeof noteRangesSynced>[2],
): AddressPieces {
  if (mapping?.to == null) return NONE;
  const offset = offsetInPieces(mapping.pieces, first);
  if (count === 1) return slicePieces(mapping.to.pieces, offset, bytes);
  const base: number[] = [];
  const size: number[] = [];
  for (let row = 0; row < count; row++) {
    const piece = slicePieces(mapping.to.pieces, offset + row * pitchBytes, bytes);
    base.push(...piece.base);
    size.push(...piece.size);
  }
  return { base: Float64Array.from(base), size: Float64Array.from(size) };
}
