/**
 * The two-step API behind an IOMMU: addresses of the group's default domain, linked page by page by the caller.
 *
 * @see Linux 6.16 `drivers/iommu/dma-iommu.c` dma_iova_try_alloc, dma_iova_link, dma_iova_unlink
 */
import type { Iova, PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { IotlbGather } from '../iommu/iotlb-gather.ts';
import type { DmaDirection } from './direction.ts';
import type { DmaAttrs } from './dma-attrs.ts';
import { type IommuAddresses, unmapPages } from './dma-iommu-addresses.ts';
import type { IommuDmaMaster } from './dma-iommu-master.ts';
import { dmaInfoToProt } from './dma-iommu-prot.ts';
import type { DmaIovaOps } from './dma-ops.ts';

/** @internal Of one device. */
export class IommuIova implements DmaIovaOps {
  readonly #device: IommuDmaMaster;
  readonly #addresses: IommuAddresses;
  readonly #gather = new IotlbGather();

  constructor(device: IommuDmaMaster, addresses: IommuAddresses) {
    this.#device = device;
    this.#addresses = addresses;
  }

  get granuleBytes(): number {
    return this.#addresses.granuleBytes;
  }

  reserve(sizeBytes: number): number {
    return this.#addresses.take(sizeBytes, this.#device.dmaMaskBits);
  }

  release(address: number, sizeBytes: number): void {
    this.#addresses.giveBack(address as Iova, sizeBytes);
  }

  link(address: number, phys: PhysAddr, sizeBytes: number, dir: DmaDirection, attrs: DmaAttrs): void {
    const prot = dmaInfoToProt(dir, this.#device.coherent, attrs);
    this.#addresses.domain.map(address as Iova, phys, sizeBytes, prot);
  }

  /** @throws {InvariantError} a part was unmapped by way of the domain; the rest is unmapped then. */
  unlink(address: number, sizeBytes: number): void {
    const { domain, granuleBytes } = this.#addresses;
    const gather = this.#gather;
    gather.reset();
    gather.queued = false;
    const missing = unmapPages(domain, address, sizeBytes, granuleBytes, gather);
    domain.iotlbSync(gather);
    assert(missing === 0, 'dmaIovaUnlink: %s bytes were unmapped behind the DMA API', missing);
  }
}
