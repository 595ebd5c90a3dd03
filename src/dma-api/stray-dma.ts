/**
 * Watches one device's accesses for addresses that it was not given, or not any more: the address book of the machine knows which those
 * are. Only while the book is kept; it looks and never acts.
 *
 * 1. What lies in a live mapping of the device is no business of this watch, be the access refused or not.
 * 2. Else, if an ended mapping of the device covered it, that one's end names the hazard: `dma.after-unmap`, `-move`, `-revoke`, `-detach`.
 *    It is a hazard whether the IOMMU refuses the access or not: the program is as wrong, and the next machine may have no IOMMU. One
 *    exception: a trusted device behind an IOMMU with lazy invalidation may come late, as long as the IOTLB remembers; that is the price
 *    of that mode, and {@link StrayDma.lateAccesses} counts it. An untrusted device may not.
 * 3. Else, if the page holds bytes of a live mapping of the device, nothing is reported: neither IOMMU nor bus tells bytes of a page apart.
 * 4. Else, if the number means something in another space (memory, another device's addresses, a GPU's or a process's virtual ones), that is
 *    `dma.wrong-address-space`.
 * 5. Else, if it leads straight to pages that somebody owns, with no IOMMU in the way, that is `dma.api-bypass`: it works by luck.
 *
 * Who is watched: rule 5 needs a driver that maps by the DMA API, or says so (`DmaDebug.driverProbe`): a device that never had a mapping
 * is driven by firmware, or by a test of its port, which know their addresses by other means. Nobody is watched whose group was
 * taken over (VFIO, iommufd, a domain of the user's own): its owner makes the addresses. What is reserved for the device
 * (`reservedIova`) is always its own, and what is mapped for another device of its group, which no IOMMU can tell apart, its, too.
 */
import { hex, PAGE_SIZE, type PhysAddr, physToPfn } from '../base/addr.ts';
import type { DmaReachFacts } from '../base/watch-hazards.ts';
import type { DmaAccess } from '../iommu/fault.ts';
import type { IommuGroup } from '../iommu/iommu-group.ts';
import type { AddressEntry, AddressMapping, BookEntry, MappingEnd } from '../trace/address-book.ts';
import { pieceAt } from '../trace/address-pieces.ts';
import type { AddressSpaceIndex } from '../trace/address-space-index.ts';
import { endText, mappingText } from '../trace/address-text.ts';
import type { DmaMaster } from './dma-ops.ts';
import { busToPhys } from './dma-range.ts';

/** @internal A device that is watched. */
export interface StrayDevice extends DmaMaster {
  readonly isDirect: boolean;
  readonly untrusted: boolean;
  readonly iommuGroup: IommuGroup | null;
  readonly reservedIova: readonly { readonly first: number; readonly last: number }[];
  readonly dmaDebug: { hasDriver(dev: DmaMaster): boolean } | null;
}

/** What a number is, and how it probably came here. */
interface Finding {
  readonly hazard: DmaReachFacts['hazard'];
  readonly what: string;
  readonly site: string;
  readonly remedy: string;
}

const HAZARDS: Readonly<Record<MappingEnd, DmaReachFacts['hazard']>> = {
  unmap: 'dma.after-unmap',
  move: 'dma.after-move',
  revoke: 'dma.after-revoke',
  detach: 'dma.after-detach',
  'device-removed': 'dma.after-unmap',
  exit: 'dma.after-unmap',
};

const REMEDIES: Readonly<Record<MappingEnd, string>> = {
  unmap: 'stop the device, or wait for its work, before the unmap; map again for what comes later',
  move: 'mark the mapping invalid in moveNotify; map again before the next job, and give it the new addresses',
  revoke: 'give the buffer up in moveNotify: start no more work on it, and unmap it',
  detach: 'stop the device, or wait for its work, before the detach; attach and map again for what comes later',
  'device-removed': 'map again: what the device had before it was removed is gone',
  exit: 'stop the device when the process goes, before its memory does',
};

/** @internal See the head of this file. Plain throughout. */
export class StrayDma {
  /** Accesses of a trusted device after the unmap that lazy invalidation let through (rule 2). */
  lateAccesses = 0;
  readonly #device: StrayDevice;
  readonly #index: AddressSpaceIndex<BookEntry>;
  /** Where the last address was found, and the bounds of its piece. */
  #last: BookEntry | null = null;
  #from = 0;
  #to = 0;

  constructor(device: StrayDevice) {
    this.#device = device;
    this.#index = device.sim.addresses.indexOf('dma', device.name);
  }

  /** @returns the first address of `[address, address + length)` that lies in no live mapping of the device, or -1. */
  find(address: number, length: number): number {
    const last = this.#last;
    const isThere = last !== null && last.end === null && last.dying === null;
    if (isThere && address >= this.#from && address + length <= this.#to) return -1;
    const { addresses } = this.#device.sim;
    const end = address + length;
    let at = address;
    while (at < end) {
      const entry = addresses.findIn(this.#index, at);
      if (entry === undefined) return at;
      const { base, size } = entry.pieces;
      this.#last = entry;
      entry.used = true;
      this.#from = base[this.#index.piece] as number;
      this.#to = this.#from + (size[this.#index.piece] as number);
      at = this.#to;
    }
    return -1;
  }

  /**
   * Reports an access that {@link find} found stray, after it was made.
   *
   * @param end - behind the last address that the access came to.
   * @throws {HazardError} under policy `'throw'`.
   */
  report(access: DmaAccess, at: number, sizeBytes: number, wentThrough: boolean): void {
    const device = this.#device;
    const finding = this.#classify(at, wentThrough);
    if (finding === null) return;
    const { name, sim } = device;
    sim.report({ ...finding, device: name, address: at, access, sizeBytes, timeNs: sim.now });
  }

  #classify(at: number, wentThrough: boolean): Finding | null {
    const device = this.#device;
    const { iommuGroup: group, reservedIova } = device;
    if (group !== null && (group.domain === null || group.domain !== group.defaultDomain)) return null;
    if (reservedIova.some(({ first, last }) => at >= first && at <= last)) return null;
    const { addresses } = device.sim;
    const ended = addresses.findEnded('dma', device.name, at);
    if (ended?.end != null) return this.#afterEnd(ended, ended.end.how, wentThrough);
    const page = at - (at % PAGE_SIZE);
    for (const { pieces } of this.#index.near(page, page + PAGE_SIZE)) if (touches(pieces, page)) return null;
    if (group?.devices.some(({ name }) => addresses.find('dma', name, at) !== undefined) === true) return null;
    return this.#wrongSpace(at) ?? this.#bypass(at);
  }

  #afterEnd(ended: AddressEntry, how: MappingEnd, wentThrough: boolean): Finding | null {
    const device = this.#device;
    const group = device.iommuGroup;
    const isLazy = group?.defaultDomain?.cookie?.isLazy === true;
    if (wentThrough && isLazy && !device.untrusted && (how === 'unmap' || how === 'detach')) {
      this.lateAccesses++;
      return null;
    }
    const { end } = ended;
    const told = end === null ? '' : `, ${endText(end)}`;
    return {
      hazard: HAZARDS[how],
      what: `${mappingText(ended)}${told}; ${this.#outcome(how, wentThrough)}`,
      site: end?.site?.text ?? '',
      remedy: REMEDIES[how],
    };
  }

  #outcome(how: MappingEnd, wentThrough: boolean): string {
    if (!wentThrough) return 'the IOMMU refused the access';
    if (this.#device.isDirect) return 'the access went through, for no IOMMU stands in the way';
    if (how === 'move' || how === 'revoke') return 'the access went through, for the old mapping is still in the IOMMU';
    return 'the access went through, for the IOTLB still knew the way';
  }

  #wrongSpace(at: number): Finding | null {
    const device = this.#device;
    for (const mapping of device.sim.addresses.live) {
      const confusion = confusionOf(device, mapping, at);
      if (confusion === null) continue;
      const what = `${hex(at)} is no address of ${device.name}, but ${confusion.is}: ${mappingText(mapping)}`;
      return { hazard: 'dma.wrong-address-space', what, site: mapping.site?.text ?? '', remedy: confusion.remedy };
    }
    return null;
  }

  #bypass(at: number): Finding | null {
    const { isDirect, name, dmaRanges, coherency, sim, dmaDebug } = this.#device;
    if (!isDirect || (!this.#index.isUsed && dmaDebug?.hasDriver(this.#device) !== true)) return null;
    const phys = busToPhys(dmaRanges, at);
    const { memory } = coherency;
    if (phys < 0 || !memory.hasPage(phys as PhysAddr)) return null;
    const shown = [...sim.addresses.live].find(({ to }) => to?.space === 'phys' && pieceAt(to.pieces, phys) >= 0);
    const owner = memory.ledger.ownerOf(physToPfn(phys as PhysAddr)) ?? 'nobody';
    const whose = shown === undefined ? `memory of ${owner}` : mappingText(shown);
    return {
      hazard: 'dma.api-bypass',
      what: `${whose}; nothing is mapped for ${name} there: it works by luck, as here addresses are physical`,
      site: '',
      remedy: 'map the memory (dmaMapSgtable, dmaMapSingle) and give the device the address that comes back',
    };
  }
}

/** How a live mapping explains a number that is no address of `device`; `null`: it does not. */
function confusionOf(
  device: StrayDevice,
  mapping: AddressMapping,
  at: number,
): { readonly is: string; readonly remedy: string } | null {
  const { space, owner, pieces, to } = mapping;
  if (pieceAt(pieces, at) >= 0) {
    if (space === 'gpu-va' && owner.startsWith(`${device.name}/`)) {
      return {
        is: `a GPU virtual address of ${owner}`,
        remedy: 'let the GPU translate it, or take dmaAddress of the table',
      };
    }
    if (space === 'user-va') {
      return {
        is: `a virtual address of process ${owner}`,
        remedy: 'pin and map the pages (a dma-buf, dmaMapSgtable)',
      };
    }
    if (space === 'dma' && owner !== device.name) {
      const remedy = `map the buffer for ${device.name} (dmaMapSgtable): each device has its own addresses`;
      const isPhysical = to?.space === 'phys' && pieceAt(to.pieces, at) >= 0;
      return { is: `an address of ${owner}${isPhysical ? ', where it is a physical address' : ''}`, remedy };
    }
  }
  const isPlain = device.isDirect && busToPhys(device.dmaRanges, at) === at;
  if (isPlain || to?.space !== 'phys' || pieceAt(to.pieces, at) < 0) return null;
  const remedy = 'give the device dmaAddress of its own mapping, never a physical address';
  return { is: 'a physical address', remedy };
}

/** Whether a piece has a byte in the page. */
function touches({ base, size }: AddressMapping['pieces'], page: number): boolean {
  for (let i = 0; i < base.length; i++) {
    const at = base[i] as number;
    if (at < page + PAGE_SIZE && at + (size[i] as number) > page) return true;
  }
  return false;
}
