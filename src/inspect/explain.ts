/**
 * What a number is: every space in which it is an address, or was one; its way through each stage of translation down to memory; and, when
 * it means nothing where it was used, what it was probably meant to be.
 *
 * It looks at the address book (`sim.addresses`), the live page tables and the ledger of memory, and changes nothing. Without `watch` the
 * book is empty: then only memory and page tables are known. Ended mappings are remembered for a while, see `AddressBook.capacity`.
 */
import { hex, PAGE_SIZE, type PhysAddr, physToPfn } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { Machine } from '../platform/machine.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { AddressEntry, AddressSpace } from '../trace/address-book.ts';
import { offsetInPieces, pieceAt } from '../trace/address-pieces.ts';
import { endText, mappingText } from '../trace/address-text.ts';
import {
  type AddressStep,
  type AddressWorld,
  bounceOriginal,
  hardwarePhys,
  memoryStep,
  pathOf,
} from './address-walk.ts';
import { type AddressUse, type NearMiss, nameOf, nearMisses } from './near-misses.ts';

/** One thing that the number is, or was. */
export interface AddressMeaning {
  readonly space: AddressSpace;
  /** Whose number: a device, a context, a process; `''` for memory. */
  readonly owner: string;
  /**
   * `'live'`: mapped now. `'ended'`: it was. `'memory'`: a physical address where something lies. `'unbooked'`: an IOMMU translates it, and no call of
   * the DMA API made it so (an owner of the domain did).
   */
  readonly state: 'live' | 'ended' | 'memory' | 'unbooked';
  /** With who made it, when and where, and how it ended. */
  readonly mapping: AddressEntry | null;
  /** Bytes from the mapping's first; 0 without one. */
  readonly offset: number;
  /** Each stage, down to memory, as it is now. An ended mapping leads nowhere, unless it was left behind somewhere. */
  readonly path: readonly AddressStep[];
  /** Where tables, caches and book disagree, in words; `''`: they agree. */
  readonly disagreement: string;
}

/** What {@link explain} answers. */
export interface Explanation {
  readonly address: number;
  /** Live ones first, then memory, then the youngest of those that have ended. */
  readonly meanings: readonly AddressMeaning[];
  /** Whether the number is an address now, where it was used (anywhere, if that was not said). */
  readonly isValid: boolean;
  /** What it was probably meant to be, the likeliest first; empty if it is valid. */
  readonly nearMisses: readonly NearMiss[];
  /** All of it in words, some lines. */
  readonly text: string;
}

/** Ended mappings that are told of one number, and mappings that are told of one place in memory. */
const MOST_TOLD = 4;

/**
 * Explains a number. Plain: looks only, charges nothing, changes nothing.
 *
 * @param of - a machine, or a simulator: then only its address book is asked.
 * @param address - any whole number; an address whose upper bits are all ones is negative.
 * @param space - where it was used; default: anywhere.
 * @param owner - whose number it was taken for: a device, `'gpu0/context0'`, a process; default: anybody's.
 * @throws {InvariantError} `address` is no whole number.
 */
export function explain(of: Machine | Simulator, address: number, space?: AddressSpace, owner?: string): Explanation {
  assert(Number.isInteger(address), 'explain: address %s is no whole number', address);
  const world: AddressWorld = of instanceof Machine ? { sim: of.sim, machine: of } : { sim: of, machine: null };
  const use: AddressUse = { ...(space === undefined ? {} : { space }), ...(owner === undefined ? {} : { owner }) };
  const meanings = meaningsOf(world, address);
  const isValid = meanings.some((meaning) => isValidFor(world, meaning, address, use));
  const misses = isValid ? [] : nearMisses(world, address, use);
  return {
    address,
    meanings,
    isValid,
    nearMisses: misses,
    text: textOf(world, address, use, meanings, isValid, misses),
  };
}

function meaningsOf(world: AddressWorld, address: number): AddressMeaning[] {
  const { addresses } = world.sim;
  const live = [...addresses.live].filter(({ pieces }) => pieceAt(pieces, address) >= 0);
  const ended = [...addresses.ended].filter(({ pieces }) => pieceAt(pieces, address) >= 0).reverse();
  return [
    ...live.map((mapping) => meaning(world, address, mapping)),
    ...unbooked(world, address),
    ...memory(world, address),
    ...ended.slice(0, MOST_TOLD).map((mapping) => meaning(world, address, mapping)),
  ];
}

function meaning(world: AddressWorld, address: number, mapping: AddressEntry): AddressMeaning {
  const { space, owner, pieces, end } = mapping;
  const { steps: path, disagreement } = pathOf(world, space, owner, address, mapping);
  const state = end === null ? 'live' : 'ended';
  return { space, owner, state, mapping, offset: offsetInPieces(pieces, address), path, disagreement };
}

/** What IOMMUs translate though the book knows of no mapping. */
function unbooked(world: AddressWorld, address: number): AddressMeaning[] {
  const { addresses } = world.sim;
  const found: AddressMeaning[] = [];
  for (const device of world.machine?.devices ?? []) {
    const { name, iommuGroup: group } = device;
    if (group === null || group.domain === null || group.domain.type === 'identity' || device.isRemoved) continue;
    const isBooked = group.devices.some((other) => sharesPage(world, other.name, address));
    const isLeftOver = addresses.findEnded('dma', name, address) !== undefined;
    if (isBooked || isLeftOver || hardwarePhys(device, address) < 0) continue;
    const { steps: path } = pathOf(world, 'dma', name, address, null);
    found.push({ space: 'dma', owner: name, state: 'unbooked', mapping: null, offset: 0, path, disagreement: '' });
  }
  return found;
}

/** Whether a live mapping of the device has a byte in the page: an IOMMU maps no less. */
function sharesPage({ sim }: AddressWorld, owner: string, address: number): boolean {
  const page = address - (address % PAGE_SIZE);
  for (const mapping of sim.addresses.live) {
    if (mapping.space !== 'dma' || mapping.owner !== owner) continue;
    const { base, size } = mapping.pieces;
    if (base.some((at, i) => at < page + PAGE_SIZE && at + (size[i] as number) > page)) return true;
  }
  return false;
}

function memory(world: AddressWorld, address: number): AddressMeaning[] {
  const { machine } = world;
  if (machine === null || address < 0 || machine.memory.regionAt(address as PhysAddr) === undefined) return [];
  const path = [memoryStep(world, address, '')];
  const nothing = { mapping: null, offset: 0, disagreement: '' };
  return [{ space: 'phys', owner: '', state: 'memory', path, ...nothing }];
}

/** Memory means something if somebody has it; a bounce slot is nobody's buffer. */
function isValidFor(
  world: AddressWorld,
  { space, owner, state }: AddressMeaning,
  address: number,
  use: AddressUse,
): boolean {
  if (state === 'ended' || (use.space ?? space) !== space) return false;
  if (state !== 'memory') return (use.owner ?? owner) === owner;
  const { machine } = world;
  if (machine === null) return false;
  if (machine.memory.regionAt(address as PhysAddr)?.kind !== 'ram') return true;
  if (machine.swiotlb?.isBounce(address) === true)
    return use.space === 'phys' && bounceOriginal(world, address) === null;
  return (
    machine.memory.ledger.ownerOf(physToPfn(address as PhysAddr)) !== undefined || shownBy(world, address).length > 0
  );
}

/** Live mappings that lead to a physical address. */
function shownBy({ sim }: AddressWorld, address: number): AddressEntry[] {
  return [...sim.addresses.live].filter(({ to }) => to?.space === 'phys' && pieceAt(to.pieces, address) >= 0);
}

function textOf(
  world: AddressWorld,
  address: number,
  use: AddressUse,
  meanings: readonly AddressMeaning[],
  isValid: boolean,
  misses: readonly NearMiss[],
): string {
  const where = use.space === undefined ? 'an address' : nameOf(use.space, use.owner ?? 'anybody');
  const inUse = isValid || use.space !== 'phys' ? '' : ' that is in use';
  const lines = [`${hex(address)} ${isValid ? 'is' : 'is not'} ${where}${inUse}`];
  for (const one of meanings) lines.push(...meaningLines(world, address, one));
  const [likely, ...others] = misses;
  if (likely !== undefined) lines.push(`  likely confusion: ${missText(likely)}`);
  for (const miss of others) lines.push(`  or: ${missText(miss)}`);
  return lines.join('\n');
}

function meaningLines(world: AddressWorld, address: number, one: AddressMeaning): string[] {
  const { space, owner, state, mapping, offset, path, disagreement } = one;
  if (state === 'memory') return memoryLines(world, address, path[0]?.what ?? '');
  const unbooked = 'translated, though the DMA API made no such mapping';
  const what = mapping === null ? unbooked : `byte ${offset} of ${mappingText(mapping)}`;
  const over = mapping?.end == null ? '' : `, ${endText(mapping.end)}`;
  const lines = [`  ${state === 'ended' ? 'was ' : ''}${nameOf(space, owner)}: ${what}${over}`];
  for (const step of path.slice(1)) {
    const whose = step.owner === '' ? '' : ` of ${step.owner}`;
    lines.push(`    -> ${step.space} ${hex(step.address)}${whose}${step.what === '' ? '' : ` (${step.what})`}`);
  }
  if (disagreement !== '') lines.push(`    but ${disagreement}`);
  return lines;
}

function memoryLines(world: AddressWorld, address: number, what: string): string[] {
  const lines = [`  memory: ${what}`];
  for (const mapping of shownBy(world, address).slice(0, MOST_TOLD)) {
    const offset = mapping.to === null ? 0 : offsetInPieces(mapping.to.pieces, address);
    lines.push(`    byte ${offset} of ${mappingText(mapping)} for ${mapping.owner}`);
  }
  return lines;
}

function missText({ confusion, what, instead }: NearMiss): string {
  return `${confusion}: ${what}${instead === null ? '' : `; perhaps ${hex(instead)} was meant`}`;
}
