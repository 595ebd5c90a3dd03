/**
 * What a number that means nothing where it was used was probably meant to be: the confusions of this trade, each tried in turn.
 *
 * | confusion | the number is |
 * |---|---|
 * | `mapping-error` | what a mapping that failed answers |
 * | `not-filled-in` | 0: a table that is not mapped, a field never written |
 * | `ended` | right, until the mapping ended |
 * | `freed` | a page that was given back |
 * | `bounce-slot` | the copy of a buffer in the bounce pool, not the buffer |
 * | `bus-offset` | right but for the shift that the device's bus makes |
 * | `other-device`, `other-context`, `other-process` | right for somebody else |
 * | `phys-as-dma`, `dma-as-phys`, `user-va-as-dma`, … | right in another space |
 * | `truncated-32` | the low 32 bits of an address |
 * | `sign-extended` | an address whose bit 31 was taken for a sign |
 * | `pfn-as-address`, `address-as-pfn` | an address divided, or multiplied, by the page size |
 * | `page-offset-lost` | the page of a mapping that begins inside it |
 * | `guard-page`, `past-end`, `before-start` | less than a page beside a mapping |
 *
 * The first that fits is the likely one. None is tried on a number that is valid where it was used.
 */
import { hex, PAGE_SIZE, type PhysAddr, physToPfn } from '../base/addr.ts';
import { busToPhys, physToBus } from '../dma-api/dma-range.ts';
import { DMA_MAPPING_ERROR } from '../dma-api/mapping-error.ts';
import type { AddressMapping, AddressPieces, AddressSpace } from '../trace/address-book.ts';
import { addressInPieces, offsetInPieces, pieceAt } from '../trace/address-pieces.ts';
import { endText, mappingText } from '../trace/address-text.ts';
import { type AddressWorld, bounceOriginal } from './address-walk.ts';

/** See the head of this file. */
export type AddressConfusion =
  | 'mapping-error'
  | 'not-filled-in'
  | 'ended'
  | 'freed'
  | 'bounce-slot'
  | 'bus-offset'
  | 'other-device'
  | 'other-context'
  | 'other-process'
  | `${AddressSpace}-as-${AddressSpace}`
  | 'truncated-32'
  | 'sign-extended'
  | 'pfn-as-address'
  | 'address-as-pfn'
  | 'page-offset-lost'
  | 'guard-page'
  | 'past-end'
  | 'before-start';

/** A number that nearly means something. */
export interface NearMiss {
  readonly confusion: AddressConfusion;
  /** In words: `"the low 32 bits of 0x180001000, 'frame1', mapped by …"`. */
  readonly what: string;
  /** The number that was probably meant, where one is known; else `null`. */
  readonly instead: number | null;
  /** The mapping it comes near to. */
  readonly mapping: AddressMapping | null;
}

/** Where the number was used; what is left out is any. */
export interface AddressUse {
  readonly space?: AddressSpace;
  readonly owner?: string;
}

/** A range that a number could have been meant for. */
interface Target {
  readonly space: AddressSpace;
  readonly owner: string;
  readonly pieces: AddressPieces;
  readonly mapping: AddressMapping;
}

/** @internal All that fit, the likeliest first. */
export function nearMisses(world: AddressWorld, address: number, use: AddressUse): NearMiss[] {
  const special = specialNumber(address);
  if (special !== null) return [special];
  const found = [
    ...ended(world, address, use),
    ...bounced(world, address, use),
    ...shifted(world, address, use),
    ...elsewhere(world, address, use),
    ...freed(world, address, use),
  ];
  return found.length > 0 ? found : arithmetic(targetsOf(world, use), address, use);
}

function specialNumber(address: number): NearMiss | null {
  if (address === DMA_MAPPING_ERROR) {
    const what = 'DMA_MAPPING_ERROR: a mapping failed, and nobody asked dmaMappingError';
    return { confusion: 'mapping-error', what, instead: null, mapping: null };
  }
  if (address !== 0) return null;
  const what = '0: the table is not mapped, or the field was never filled in';
  return { confusion: 'not-filled-in', what, instead: null, mapping: null };
}

function ended({ sim }: AddressWorld, address: number, { space, owner }: AddressUse): NearMiss[] {
  const found: NearMiss[] = [];
  for (const mapping of sim.addresses.ended) {
    if (space !== undefined && mapping.space !== space) continue;
    if (owner !== undefined && mapping.owner !== owner) continue;
    if (mapping.end === null || pieceAt(mapping.pieces, address) < 0) continue;
    const what = `${nameOf(mapping.space, mapping.owner)}: ${mappingText(mapping)}, ${endText(mapping.end)}`;
    found.unshift({ confusion: 'ended', what, instead: null, mapping });
  }
  return found.slice(0, 1);
}

function bounced(world: AddressWorld, address: number, { space }: AddressUse): NearMiss[] {
  if (space !== undefined && space !== 'phys') return [];
  const found = bounceOriginal(world, address);
  if (found === null) return [];
  const { mapping, original } = found;
  const what = `a slot of the bounce pool, the copy for ${mapping.owner} of ${mappingText(mapping)}`;
  return [{ confusion: 'bounce-slot', what, instead: original, mapping }];
}

/** Devices behind a bus that shifts memory: their addresses and those of memory differ by a window's offset. */
function shifted({ machine, sim }: AddressWorld, address: number, { space, owner }: AddressUse): NearMiss[] {
  const found: NearMiss[] = [];
  for (const { name, dmaRanges, isDirect } of machine?.devices ?? []) {
    if (!isDirect || dmaRanges.length === 0) continue;
    if (space === 'dma' && (owner === undefined || owner === name)) {
      const bus = physToBus(dmaRanges, address);
      const mapping = bus < 0 ? undefined : sim.addresses.find('dma', name, bus);
      if (mapping !== undefined && bus !== address) {
        const what = `the physical address of ${mappingText(mapping)}; the bus of ${name} shows it at ${hex(bus)}`;
        found.push({ confusion: 'bus-offset', what, instead: bus, mapping });
      }
    } else if (space === 'phys') {
      const mapping = sim.addresses.find('dma', name, address);
      const phys = busToPhys(dmaRanges, address);
      if (mapping === undefined || phys < 0 || phys === address) continue;
      const what = `where the bus shows ${name} ${mappingText(mapping)}; its memory is at ${hex(phys)}`;
      found.push({ confusion: 'bus-offset', what, instead: phys, mapping });
    }
  }
  return found;
}

/** Live in another space, or for somebody else. */
function elsewhere({ sim }: AddressWorld, address: number, use: AddressUse): NearMiss[] {
  const { space, owner } = use;
  if (space === undefined) return [];
  const found: NearMiss[] = [];
  for (const mapping of sim.addresses.live) {
    const { pieces, to } = mapping;
    const isOwn = mapping.space === space && (owner === undefined || mapping.owner === owner);
    if (!isOwn && pieceAt(pieces, address) >= 0) {
      const confusion = mapping.space === space ? OTHERS[space] : (`${mapping.space}-as-${space}` as const);
      const what = `${nameOf(mapping.space, mapping.owner)}: ${mappingText(mapping)}`;
      found.push({ confusion, what, instead: counterpart(sim.addresses.live, mapping, address, use), mapping });
    }
    if (space === 'phys' || to?.space !== 'phys') continue;
    const offset = offsetInPieces(to.pieces, address);
    if (offset < 0) continue;
    const isWanted = mapping.space === space && (owner === undefined || mapping.owner === owner);
    const what = `the physical address of ${mappingText(mapping)}`;
    const instead = isWanted ? addressInPieces(pieces, offset) : null;
    found.push({ confusion: `phys-as-${space}`, what, instead, mapping });
  }
  found.sort((a, b) => Number(a.instead === null) - Number(b.instead === null));
  return found.filter(({ confusion }, at) => found.findIndex((other) => other.confusion === confusion) === at);
}

const OTHERS: Readonly<Record<AddressSpace, AddressConfusion>> = {
  phys: 'freed',
  dma: 'other-device',
  'gpu-va': 'other-context',
  'user-va': 'other-process',
  'kernel-va': 'other-process',
};

/** The number for the same byte in the space where it was used, if something there shows it. */
function counterpart(
  live: Iterable<AddressMapping>,
  mapping: AddressMapping,
  address: number,
  { space, owner }: AddressUse,
): number | null {
  const { to } = mapping;
  const below = to === null ? -1 : addressInPieces(to.pieces, offsetInPieces(mapping.pieces, address));
  if (to === null || below < 0) return null;
  if (to.space === space && (owner === undefined || to.owner === owner)) return below;
  for (const other of live) {
    if (other.space !== space || (owner !== undefined && other.owner !== owner)) continue;
    if (other.to?.space === mapping.space && other.to.owner === mapping.owner) {
      const into = offsetInPieces(other.to.pieces, address);
      if (into >= 0) return addressInPieces(other.pieces, into);
    }
    if (other.to?.space !== to.space || other.to.owner !== to.owner) continue;
    const offset = offsetInPieces(other.to.pieces, below);
    if (offset >= 0) return addressInPieces(other.pieces, offset);
  }
  return null;
}

function freed({ machine }: AddressWorld, address: number, { space }: AddressUse): NearMiss[] {
  if (machine === null || (space !== undefined && space !== 'phys' && space !== 'dma') || address < 0) return [];
  if (!machine.memory.hasPage(address as PhysAddr)) return [];
  const frame = physToPfn(address as PhysAddr);
  const former = machine.memory.ledger.previousOwner(frame);
  if (former === undefined || machine.memory.ledger.ownerOf(frame) !== undefined) return [];
  const what = `memory that ${former.owner} gave back at ${former.freedAtNs} ns`;
  return [{ confusion: 'freed', what, instead: null, mapping: null }];
}

/** What numbers could have been meant for: where they were used, then everywhere; memory by what shows it. */
function targetsOf({ sim }: AddressWorld, { space, owner }: AddressUse): Target[] {
  const own: Target[] = [];
  const others: Target[] = [];
  for (const mapping of sim.addresses.live) {
    const isOwn = (space === undefined || mapping.space === space) && (owner === undefined || mapping.owner === owner);
    (isOwn ? own : others).push({ ...mapping, mapping });
    const { to } = mapping;
    if (to?.space !== 'phys') continue;
    const target = { space: 'phys' as const, owner: '', pieces: to.pieces, mapping };
    (space === undefined || space === 'phys' ? own : others).push(target);
  }
  return [...own, ...others];
}

/** A rule: the number that was meant if `address` was made wrongly from one in `[base, end)`; -1: it was not. */
interface Rule {
  readonly confusion: AddressConfusion;
  readonly words: string;
  /** `'there'`: tried in the space where the number was used; `'memory'`: on physical addresses, too; `'any'`: on all. */
  readonly tried: 'there' | 'memory' | 'any';
  readonly meant: (address: number, base: number, end: number, space: AddressSpace) => number;
}

const HIGH = 2 ** 32;

const RULES: readonly Rule[] = [
  {
    confusion: 'truncated-32',
    words: 'the low 32 bits of',
    tried: 'any',
    meant: (address, base, end) => {
      const meant = address + Math.max(1, Math.ceil((base - address) / HIGH)) * HIGH;
      return address >= PAGE_SIZE && address < HIGH && meant >= base && meant < end ? meant : -1;
    },
  },
  {
    confusion: 'sign-extended',
    words: 'bit 31 was taken for the sign of',
    tried: 'any',
    meant: (address, base, end) => inside(address < 0 ? address + HIGH : -1, base, end),
  },
  {
    confusion: 'pfn-as-address',
    words: 'the page number of',
    tried: 'memory',
    meant: (address, base, end) => {
      const page = address * PAGE_SIZE;
      return page < end && page + PAGE_SIZE > base ? Math.max(page, base) : -1;
    },
  },
  {
    confusion: 'address-as-pfn',
    words: 'multiplied by the page size once too often:',
    tried: 'any',
    meant: (address, base, end) => inside(address % PAGE_SIZE === 0 ? address / PAGE_SIZE : -1, base, end),
  },
  {
    confusion: 'page-offset-lost',
    words: 'the page without the offset of',
    tried: 'there',
    meant: (address, base) => (address % PAGE_SIZE === 0 && base > address && base < address + PAGE_SIZE ? base : -1),
  },
  {
    confusion: 'guard-page',
    words: 'in the guard page behind',
    tried: 'there',
    meant: (address, _base, end, space) => (space === 'gpu-va' ? justBehind(address, end) : -1),
  },
  {
    confusion: 'past-end',
    words: 'behind the last byte of',
    tried: 'there',
    meant: (address, _base, end) => justBehind(address, end),
  },
  {
    confusion: 'before-start',
    words: 'before the first byte of',
    tried: 'there',
    meant: (address, base) => (address < base && address >= base - PAGE_SIZE ? base : -1),
  },
];

function arithmetic(targets: readonly Target[], address: number, { space, owner }: AddressUse): NearMiss[] {
  const found: NearMiss[] = [];
  for (const { confusion, words, tried, meant } of RULES) {
    for (const target of targets) {
      const isThere = (space ?? target.space) === target.space && (owner ?? target.owner) === target.owner;
      const isTried = isThere || tried === 'any' || (tried === 'memory' && target.space === 'phys');
      const instead = isTried ? meantIn(target, address, meant) : -1;
      if (instead < 0) continue;
      const whose = nameOf(target.space, target.owner);
      const what = `${words} ${hex(instead)}, ${whose}: ${mappingText(target.mapping)}`;
      found.push({ confusion, what, instead, mapping: target.mapping });
      break;
    }
  }
  return found;
}

function meantIn({ pieces: { base, size }, space }: Target, address: number, meant: Rule['meant']): number {
  for (let i = 0; i < base.length; i++) {
    const from = base[i] as number;
    const number = meant(address, from, from + (size[i] as number), space);
    if (number >= 0) return number;
  }
  return -1;
}

function inside(address: number, base: number, end: number): number {
  return address >= base && address < end ? address : -1;
}

/** The last byte before `end`, if `address` lies less than a page behind it. */
function justBehind(address: number, end: number): number {
  return address >= end && address < end + PAGE_SIZE ? end - 1 : -1;
}

/** `'an address of gpu0'`, `'a physical address'`. @internal */
export function nameOf(space: AddressSpace, owner: string): string {
  switch (space) {
    case 'phys':
      return 'a physical address';
    case 'dma':
      return `a DMA address of ${owner}`;
    case 'gpu-va':
      return `a GPU virtual address of ${owner}`;
    case 'user-va':
      return `a virtual address of process ${owner}`;
    case 'kernel-va':
      return 'a kernel virtual address';
  }
}
