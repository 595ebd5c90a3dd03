/**
 * The DMA API without an IOMMU: device addresses are physical addresses. Extents are neither joined nor split, so a device
 * that needs one segment needs contiguous memory.
 *
 * Inaccuracies: an access beyond the mask is refused; hardware would drop the upper bits and hit other memory. No bounce
 * buffers: what the device does not reach is not mapped.
 *
 * @see Linux 6.1 `kernel/dma/direct.c`
 */
import { type DmaAddr, hex, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { DmaAccess } from '../iommu/fault.ts';
import type { DmaMaster, DmaOps, DmaTarget, PortFault } from './dma-ops.ts';
import type { SgTable } from './sg-table.ts';

/** @internal The back end of a device without an IOMMU. */
export class DirectDma implements DmaOps {
  phys = 0;
  runBytes = 0;
  readonly #device: DmaMaster;
  #fault: PortFault | null = null;

  constructor(device: DmaMaster) {
    this.#device = device;
  }

  /** @throws {ErrnoError} `EIO` memory that the device's mask does not reach (never retry: allocate lower). */
  mapSg(sgt: SgTable): void {
    const { dmaLimit, dmaMaskBits, name } = this.#device;
    for (let i = 0; i < sgt.origNents; i++) {
      const end = sgt.physAddress(i) + sgt.length(i);
      if (end <= dmaLimit) continue;
      const where = `extent ${i} ends at ${hex(end)}, beyond the ${dmaMaskBits}-bit mask of ${name}`;
      throw new ErrnoError('EIO', 'dmaMapSgtable', `${where}; allocate it lower or put the device behind an IOMMU`);
    }
    for (let i = 0; i < sgt.origNents; i++) sgt.addSegment(sgt.physAddress(i), sgt.length(i));
  }

  unmapSg(): void {}

  translate(address: number, access: DmaAccess): boolean {
    const { dmaLimit, name, sim } = this.#device;
    if (address >= 0 && address < dmaLimit) {
      this.phys = address;
      this.runBytes = dmaLimit - address;
      return true;
    }
    const at = { device: name, address: address as DmaAddr, length: 0, access };
    this.#fault = { ...at, reason: 'address-size', timeNs: sim.now };
    return false;
  }

  charge(): void {}

  fault(): PortFault {
    assert(this.#fault !== null, 'fault: no access of %s was refused', this.#device.name);
    return this.#fault;
  }

  peekTranslate(address: number): DmaTarget | undefined {
    const { dmaLimit } = this.#device;
    if (!(address >= 0 && address < dmaLimit)) return undefined;
    return { phys: address as PhysAddr, runBytes: dmaLimit - address };
  }
}
