/**
 * The hardware between one device and memory: what its address lines carry, what the bus shifts, what the IOMMU translates.
 * It knows nothing of mappings made by software; an address that no software gave out goes where the hardware leads it.
 *
 *     address --> within the device's address lines? --> behind an IOMMU: current domain of its group --> IOTLB, walk --> phys
 *                                                    '-> without: the bus's windows on to memory --------------> phys
 *
 * Inaccuracies: an access beyond the address lines is refused; hardware would drop the upper bits and hit other memory.
 */
import type { DmaAddr, Iova, PhysAddr } from '../base/addr.ts';
import { PAGE_SIZE } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { DmaAccess } from '../iommu/fault.ts';
import type { IommuClient } from '../iommu/iommu.ts';
import type { IommuGroup } from '../iommu/iommu-group.ts';
import { Translation } from '../iommu/translation.ts';
import type { DmaMaster } from './dma-ops.ts';
import { busToPhys, bytesInRange } from './dma-range.ts';

/** An access that a device was refused. */
export interface PortFault {
  readonly device: string;
  /** First byte refused, as the device sees it. */
  readonly address: DmaAddr;
  /** Bytes from there on that were not done. */
  readonly length: number;
  readonly access: DmaAccess;
  /**
   * `'unmapped'`, `'permission'`: the IOMMU refused; `'address-size'`: beyond the IOMMU's input or the device's mask;
   * `'no-memory'`: translated, but no memory answers there; `'dropped'`: the IOMMU refused without a report.
   */
  readonly reason: string;
  readonly timeNs: number;
}

/** Where an address leads. */
export interface DmaTarget {
  readonly phys: PhysAddr;
  /** Bytes from there on that this translation covers. */
  readonly runBytes: number;
}

/** @internal The path of one device; translates one address at a time, and is filled anew by each. */
export class DmaPath {
  /** Result of the last successful {@link translate}. */
  phys = 0;
  runBytes = 0;
  readonly #device: DmaMaster;
  readonly #group: IommuGroup | null;
  readonly #found: Translation;
  /** The last access did not come as far as the IOMMU. */
  #refusal: PortFault | null = null;
  /** Cost of the translations that were not charged yet. */
  #owedNs = 0;

  constructor(device: DmaMaster & IommuClient, group: IommuGroup | null) {
    this.#device = device;
    this.#group = group;
    this.#found = new Translation(device.name, device.sourceId ?? null);
  }

  /** Translates one address; {@link charge} charges for it. @returns false when it is refused: see {@link fault}. */
  translate(address: number, access: DmaAccess): boolean {
    const device = this.#device;
    this.#refusal = null;
    if (!(address >= 0 && address < device.dmaLimit)) return this.#refuse(address, access, 'address-size');
    const group = this.#group;
    return group === null ? this.#throughBus(address, access) : this.#throughIommu(group, address, access);
  }

  /** Charges what the translations since the last call took: once an access, not once a page. */
  charge(): void {
    if (this.#owedNs === 0) return;
    this.#device.sim.charge(this.#owedNs);
    this.#owedNs = 0;
  }

  /** The fault of the last {@link translate}, which was refused; `length` 0. */
  fault(): PortFault {
    if (this.#refusal !== null) return this.#refusal;
    const { fault } = this.#found;
    assert(fault !== null, 'fault: the last access of %s was not refused', this.#device.name);
    const { access, timeNs } = fault;
    const reason = fault.isReported ? fault.reason : 'dropped';
    return { device: this.#device.name, address: Number(fault.iova) as DmaAddr, length: 0, access, reason, timeNs };
  }

  /** As {@link translate}, without time, state change or record; `undefined` when it leads nowhere. */
  peekTranslate(address: number): DmaTarget | undefined {
    const { dmaLimit, dmaRanges } = this.#device;
    if (!(address >= 0 && address < dmaLimit)) return undefined;
    if (this.#group !== null) {
      const phys = this.#group.domain?.iovaToPhys(address as Iova) ?? null;
      return phys === null ? undefined : { phys, runBytes: PAGE_SIZE - (address % PAGE_SIZE) };
    }
    const phys = busToPhys(dmaRanges, address);
    if (phys < 0) return undefined;
    return { phys: phys as PhysAddr, runBytes: Math.min(dmaLimit - address, bytesInRange(dmaRanges, address)) };
  }

  #throughBus(address: number, access: DmaAccess): boolean {
    const { dmaLimit, dmaRanges } = this.#device;
    this.phys = busToPhys(dmaRanges, address);
    this.runBytes = dmaLimit - address;
    if (this.phys < 0) return this.#refuse(address, access, 'no-memory');
    if (dmaRanges.length > 0) this.runBytes = Math.min(this.runBytes, bytesInRange(dmaRanges, address));
    return true;
  }

  #throughIommu(group: IommuGroup, address: number, access: DmaAccess): boolean {
    const { domain, iommu } = group;
    const found = this.#found;
    const isAllowed =
      domain === null
        ? iommu.refuseWithoutContext(address as Iova, access, found)
        : iommu.translateDeferred(domain, address as Iova, access, found);
    this.#owedNs += found.costNs;
    this.phys = found.phys;
    this.runBytes = found.runBytes;
    return isAllowed;
  }

  #refuse(address: number, access: DmaAccess, reason: string): false {
    const { name, sim } = this.#device;
    this.#refusal = { device: name, address: address as DmaAddr, length: 0, access, reason, timeNs: sim.now };
    return false;
  }
}
