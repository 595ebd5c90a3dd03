/**
 * Where an address leads, stage by stage, down to memory: by the page tables and windows of this instant, and by what the address book of the
 * machine says; where the two disagree, that is told.
 */
import { hex, type Iova, PAGE_SIZE, type PhysAddr, physToPfn } from '../base/addr.ts';
import type { Device } from '../dma-api/device.ts';
import { busToPhys } from '../dma-api/dma-range.ts';
import type { Machine } from '../platform/machine.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { AddressEntry, AddressMapping, AddressSpace } from '../trace/address-book.ts';
import { addressInPieces, offsetInPieces } from '../trace/address-pieces.ts';

/** One stage of the way of an address. */
export interface AddressStep {
  readonly space: AddressSpace;
  /** Whose numbers: a device, a context, a process; `''` for memory. */
  readonly owner: string;
  readonly address: number;
  /** What leads here, or what lies here: `'by the IOMMU'`, `"RAM 'ram0', page of app"`. */
  readonly what: string;
}

/** @internal The way of an address. */
export interface AddressPath {
  readonly steps: readonly AddressStep[];
  /** Where hardware and book disagree; `''`: they agree. */
  readonly disagreement: string;
}

/** @internal What can be looked at: a machine, or the books of a simulator alone. */
export interface AddressWorld {
  readonly sim: Simulator;
  readonly machine: Machine | null;
}

/** @internal The way of `address`, which `mapping` explains, or (`null`) which the hardware alone translates. */
export function pathOf(
  world: AddressWorld,
  space: AddressSpace,
  owner: string,
  address: number,
  mapping: AddressEntry | null,
): AddressPath {
  const first: AddressStep = { space, owner, address, what: '' };
  if (space === 'phys') return { steps: [memoryStep(world, address, '')], disagreement: '' };
  if (space === 'dma') return withFirst(first, dmaPath(world, owner, address, mapping));
  const below = mapping === null ? -1 : leadsTo(mapping, address);
  if (mapping?.to == null || below < 0) return { steps: [first], disagreement: '' };
  const { to } = mapping;
  const next = to.space === 'dma' ? (world.sim.addresses.find('dma', to.owner, below) ?? null) : null;
  const rest = pathOf(world, to.space, to.owner, below, next);
  const isDead = to.space === 'dma' && next === null && mapping.end === null;
  const dead = isDead ? `${hex(below)} is not mapped for ${to.owner} any more` : '';
  return withFirst(first, { ...rest, disagreement: dead === '' ? rest.disagreement : dead });
}

/** @internal Where a device's address leads by the hardware of this instant, without its IOTLB; -1: nowhere. */
export function hardwarePhys(device: Device, address: number): number {
  const { iommuGroup: group, dmaRanges } = device;
  if (group === null) return address < 0 ? -1 : busToPhys(dmaRanges, address);
  return address < 0 ? -1 : (group.domain?.iovaToPhys(address as Iova) ?? -1);
}

/** @internal What lies at a physical address. */
export function memoryStep({ machine }: AddressWorld, address: number, via: string): AddressStep {
  const step = { space: 'phys' as const, owner: '', address };
  const region = machine === null || address < 0 ? undefined : machine.memory.regionAt(address as PhysAddr);
  if (machine === null) return { ...step, what: via };
  if (region === undefined) return { ...step, what: joined(via, 'no memory answers there') };
  const kind = region.kind === 'ram' ? 'RAM' : region.kind;
  return { ...step, what: joined(via, `${kind} '${region.name}'${ownerText(machine, address)}`) };
}

/** @internal Who holds the page, in words behind a region's name: `', page of app'`. */
function ownerText({ memory, sim }: Machine, address: number): string {
  if (!memory.hasPage(address as PhysAddr)) return '';
  const frame = physToPfn(address as PhysAddr);
  const owner = memory.ledger.ownerOf(frame);
  if (owner !== undefined) return `, page of ${owner}`;
  const former = memory.ledger.previousOwner(frame);
  if (former === undefined) return ', a page that no allocation holds';
  return `, a free page, given back by ${former.owner} at ${former.freedAtNs} ns (now ${sim.now} ns)`;
}

function dmaPath(world: AddressWorld, owner: string, address: number, mapping: AddressEntry | null): AddressPath {
  const device = world.machine?.devices.find(({ name }) => name === owner);
  const booked = mapping === null ? -1 : leadsTo(mapping, address);
  if (device === undefined) {
    const steps = booked < 0 || mapping?.end != null ? [] : [memoryStep(world, booked, 'by the mapping')];
    return { steps, disagreement: '' };
  }
  const phys = hardwarePhys(device, address);
  const steps = phys < 0 ? [] : [memoryStep(world, phys, stageText(device))];
  if (phys < 0 || world.machine?.swiotlb?.isBounce(phys) !== true) {
    return { steps, disagreement: disagreementOf(world, device, address, phys, booked, mapping) };
  }
  const copy = steps.map((step) => ({ ...step, what: joined(step.what, 'a bounce slot') }));
  const isKnown = booked >= 0 && mapping?.end === null;
  const original = isKnown ? [memoryStep(world, booked, 'what the slot stands for, copied by syncs')] : [];
  return { steps: [...copy, ...original], disagreement: '' };
}

function stageText({ iommuGroup, dmaRanges }: Device): string {
  if (iommuGroup !== null)
    return iommuGroup.domain?.type === 'identity' ? 'through the IOMMU, unchanged' : 'by the IOMMU';
  return dmaRanges.length > 0 ? 'by a window of the bus' : 'as it is, for there is no IOMMU';
}

function disagreementOf(
  { machine }: AddressWorld,
  device: Device,
  address: number,
  phys: number,
  booked: number,
  mapping: AddressEntry | null,
): string {
  const { iommuGroup: group } = device;
  if (group === null || mapping === null) return '';
  const { domain } = group;
  const cached = domain === null ? -1 : (machine?.iommu?.iotlb.peek(domain.asid, address as Iova) ?? -1);
  if (mapping.end !== null) {
    if (phys >= 0) return `the mapping has ended, but the page table still leads to ${hex(phys)}`;
    return cached < 0 ? '' : `the mapping has ended, but the IOTLB still leads to ${hex(cached)} until it is flushed`;
  }
  if (phys < 0)
    return 'the mapping is alive, but the IOMMU leads nowhere: another domain, or unmapped behind the DMA API';
  if (phys !== booked && booked >= 0) return `the IOMMU leads to ${hex(phys)}, the mapping to ${hex(booked)}`;
  return cached < 0 || cached === phys ? '' : `the IOTLB still leads to ${hex(cached)}`;
}

/** Where `address` leads in the space below, by the mapping; -1: nowhere. */
function leadsTo({ pieces, to }: AddressMapping, address: number): number {
  const offset = offsetInPieces(pieces, address);
  return offset < 0 || to === null ? -1 : addressInPieces(to.pieces, offset);
}

function withFirst(first: AddressStep, { steps, disagreement }: AddressPath): AddressPath {
  return { steps: [first, ...steps], disagreement };
}

function joined(...texts: readonly string[]): string {
  return texts.filter((text) => text !== '').join(', ');
}

/** @internal Live mappings of the bounce pool that a slot at `phys` belongs to, with the original's address. */
export function bounceOriginal(
  { machine, sim }: AddressWorld,
  phys: number,
): { readonly mapping: AddressMapping; readonly original: number } | null {
  if (machine?.swiotlb?.isBounce(phys) !== true) return null;
  for (const mapping of sim.addresses.live) {
    const device = mapping.space === 'dma' ? machine.devices.find(({ name }) => name === mapping.owner) : undefined;
    if (device === undefined) continue;
    const address = addressLeadingTo(device, mapping, phys);
    const original = address < 0 ? -1 : leadsTo(mapping, address);
    if (original >= 0 && original !== phys) return { mapping, original };
  }
  return null;
}

/** The address of a mapping that the hardware leads to `phys`, or -1. */
function addressLeadingTo(device: Device, { pieces: { base, size } }: AddressMapping, phys: number): number {
  for (let i = 0; i < base.length; i++) {
    const first = base[i] as number;
    const end = first + (size[i] as number);
    for (let at = first; at < end; at = at - (at % PAGE_SIZE) + PAGE_SIZE) {
      const start = hardwarePhys(device, at);
      const bytes = Math.min(end - at, PAGE_SIZE - (at % PAGE_SIZE));
      if (start >= 0 && phys >= start && phys < start + bytes) return at + phys - start;
    }
  }
  return -1;
}
