/** The IOMMUs of this library behind IO address spaces: a device of an {@link Iommu} as iommufd knows it. */
import { ADDRESS_BITS, type Iova, type PhysAddr } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import { alignDown, alignUp } from '../base/units.ts';
import type { IoPgtableFormat } from './alloc-io-pgtable.ts';
import { TrackedDomain } from './dirty-tracking.ts';
import type { DirtyRequest, IoasClient, IoasDomain, IoasDomainRequest } from './ioas-domain.ts';
import type { IoasNestedDomain, NestedHwptData, NestedInvalidation } from './ioas-nested.ts';
import type { IoasRange } from './ioas-ranges.ts';
import type { Iommu, IommuClient } from './iommu.ts';
import { IommuDomain } from './iommu-domain.ts';
import { IotlbGather } from './iotlb-gather.ts';
import { NestedDomain } from './nested-translation.ts';

/** The format that a unit with tables of the first one uses for a second stage. */
const SECOND_STAGES: ReadonlyMap<IoPgtableFormat, IoPgtableFormat> = new Map([
  ['ARM_64_LPAE_S1', 'ARM_64_LPAE_S2'],
  ['ARM_64_LPAE_S2', 'ARM_64_LPAE_S2'],
  ['INTEL_VTD_S2', 'INTEL_VTD_S2'],
]);

/** A device behind `iommu`; the group that it is in must not be attached elsewhere. */
export class IommuIoasClient implements IoasClient {
  readonly iommu: Iommu;
  readonly device: IommuClient;
  readonly reservedRanges: readonly IoasRange[];

  constructor(iommu: Iommu, device: IommuClient, options: { readonly reservedRanges?: readonly IoasRange[] } = {}) {
    this.iommu = iommu;
    this.device = device;
    this.reservedRanges = options.reservedRanges ?? [];
  }

  get name(): string {
    return this.device.name;
  }

  get canTrackDirty(): boolean {
    return this.iommu.dirtyTracking;
  }

  allocDomain(request: IoasDomainRequest): IommuIoasDomain {
    const { iommu } = this;
    const format = request.nestParent ? SECOND_STAGES.get(iommu.format) : iommu.format;
    if (format === undefined)
      throw new ErrnoError('EOPNOTSUPP', 'hwpt_alloc', `${iommu.name} has no second stage beside ${iommu.format}`);
    const Domain = request.dirtyTracking ? TrackedDomain : IommuDomain;
    return new IommuIoasDomain(new Domain(iommu, { format }));
  }

  allocNested(parent: IoasDomain, data: NestedHwptData): IommuNestedDomain {
    if (!(parent instanceof IommuIoasDomain) || parent.domain.iommu !== this.iommu)
      throw new ErrnoError('EINVAL', 'hwpt_alloc', `the parent is not of ${this.iommu.name}`);
    return new IommuNestedDomain(new NestedDomain(parent.domain, data));
  }
}

/** A domain of an {@link Iommu} as the page table of an IO address space. */
export class IommuIoasDomain implements IoasDomain {
  readonly domain: IommuDomain;
  readonly aperture: IoasRange;

  constructor(domain: IommuDomain) {
    this.domain = domain;
    this.aperture = { start: 0, last: 2 ** Math.min(domain.pgtable.ias, ADDRESS_BITS) - 1 };
  }

  get pgsizeBitmap(): number {
    return this.domain.pgtable.pgsizeBitmap;
  }

  map(iova: Iova, phys: PhysAddr, sizeBytes: number, prot: number): void {
    this.domain.map(iova, phys, sizeBytes, prot);
  }

  unmap(iova: Iova, sizeBytes: number): number {
    return this.domain.unmap(iova, sizeBytes);
  }

  attach(client: IoasClient): void {
    attach(this.domain, client);
  }

  detach(client: IoasClient): void {
    detach(this.domain, client);
  }

  setDirtyTracking(on: boolean): void {
    this.#tracked('hwpt_set_dirty_tracking').setDirtyTracking(on);
  }

  readAndClearDirty(request: DirtyRequest): void {
    const { iova, sizeBytes, bitmap, ...options } = request;
    this.#tracked('hwpt_get_dirty_bitmap').readAndClearDirty(iova as Iova, sizeBytes, bitmap, options);
  }

  free(): void {
    this.domain.free();
  }

  #tracked(op: string): TrackedDomain {
    const { domain } = this;
    if (!(domain instanceof TrackedDomain))
      throw new ErrnoError('EOPNOTSUPP', op, `${domain.name} marks no written pages`);
    return domain;
  }
}

/** A guest's first stage on an {@link IommuIoasDomain}. */
export class IommuNestedDomain implements IoasNestedDomain {
  readonly domain: NestedDomain;

  constructor(domain: NestedDomain) {
    this.domain = domain;
  }

  attach(client: IoasClient): void {
    attach(this.domain, client);
  }

  detach(client: IoasClient): void {
    detach(this.domain, client);
  }

  invalidate(request: NestedInvalidation | 'all'): void {
    if (request === 'all') {
      this.domain.flushIotlbAll();
      return;
    }
    const gather = new IotlbGather();
    const { granuleBytes } = this.domain.pgtable;
    const start = alignDown(request.iova, granuleBytes);
    gather.add(start, alignUp(request.iova + request.sizeBytes, granuleBytes) - start, granuleBytes);
    this.domain.iotlbSync(gather);
  }

  free(): void {
    this.domain.free();
  }
}

function attach(domain: IommuDomain, client: IoasClient): void {
  if (!(client instanceof IommuIoasClient) || client.iommu !== domain.iommu)
    throw new ErrnoError('EINVAL', 'hwpt_attach', `${client.name} is not behind ${domain.iommu.name}`);
  domain.attachDevice(client.device);
}

function detach(domain: IommuDomain, client: IoasClient): void {
  if (client instanceof IommuIoasClient) domain.detachDevice(client.device);
}
