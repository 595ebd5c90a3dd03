/**
 * One IO address space: a page table, an address-space id, the devices attached, and the rule when its IOTLB entries go.
 *
 * Rules:
 * 1. `map` picks for each part the largest page size that both addresses and what is left allow, and takes everything back when a
 *    part fails.
 * 2. `unmap` takes the translation out of the page table at once. When the IOTLB learns of it is the domain's choice: strict (default), before
 *    `unmap` returns; with `invalidateOnUnmap: false` not before {@link IommuDomain.flushIotlbAll}, and a device that still has the entry
 *    in the IOTLB goes on reaching the memory.
 * 3. A table that is freed is invalidated at once in both cases; that charges `invalidateFixedNs` and one `invalidatePerPageNs`, as a
 *    range command of SMMUv3.2 does.
 *
 * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_map, iommu_unmap, iommu_pgsize; `drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c`
 */
import { hex, type Iova, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ERRNO, type ErrnoCode } from '../base/errno.ts';
import { ErrnoError } from '../base/errors.ts';
import { allocIoPgtable, type IoPgtableFormat, ioPgtableStage } from './alloc-io-pgtable.ts';
import type { DmaFaultHandler } from './fault.ts';
import { type IoPgtable, IoPgtableLeaf, type IoPgtableQuirk } from './io-pgtable.ts';
import type { Iommu, IommuClient, IommuContext } from './iommu.ts';
import { IotlbGather } from './iotlb-gather.ts';
import { PageSizes } from './page-sizes.ts';

/** How to make an {@link IommuDomain}. */
export interface IommuDomainOptions {
  /** `'camera0'`; default: the unit's name and the address-space id, `'smmu0.1'`. */
  readonly name?: string;
  /** Default `'ARM_64_LPAE_S1'`. */
  readonly format?: IoPgtableFormat;
  readonly quirks?: readonly IoPgtableQuirk[];
  /** Default true: strict invalidation. False: unmapping leaves the IOTLB as it is, until it is flushed. */
  readonly invalidateOnUnmap?: boolean;
  /** Called for each refused access, after it was queued. */
  readonly onFault?: DmaFaultHandler;
}

const CODES: readonly ErrnoCode[] = ['EINVAL', 'ERANGE', 'EEXIST', 'ENOMEM'];

/** One IO address space of one {@link Iommu}. Plain throughout: nothing waits. */
export class IommuDomain implements IommuContext {
  readonly iommu: Iommu;
  readonly name: string;
  /** Tag of this domain's IOTLB entries; comes again after {@link free}. */
  readonly asid: number;
  readonly pgtable: IoPgtable;
  readonly stage: 1 | 2;
  /** See {@link IommuDomainOptions.invalidateOnUnmap}; may be changed at any time. */
  invalidateOnUnmap: boolean;
  /** See {@link IommuDomainOptions.onFault}. @see Linux 6.1 iommu_set_fault_handler */
  faultHandler: DmaFaultHandler | null;
  private readonly sizes: PageSizes;
  private readonly gather = new IotlbGather();

  /**
   * Makes an empty domain.
   *
   * @throws {ErrnoError} `EINVAL` the format cannot do what the IOMMU asks for (never retry); `ENOMEM` no table page, `ENOSPC` no
   * address-space id (retry later).
   */
  constructor(iommu: Iommu, options: IommuDomainOptions = {}) {
    this.iommu = iommu;
    this.invalidateOnUnmap = options.invalidateOnUnmap ?? true;
    this.faultHandler = options.onFault ?? null;
    this.asid = iommu.takeAsid();
    this.name = options.name ?? `${iommu.name}.${this.asid}`;
    const { pgsizeBitmap, ias, oas, coherentWalk } = iommu;
    const config = { pgsizeBitmap, ias, oas, coherentWalk, quirks: options.quirks ?? [] };
    const format = options.format ?? 'ARM_64_LPAE_S1';
    this.stage = ioPgtableStage(format);
    try {
      this.pgtable = allocIoPgtable(format, config, iommu.pages, {
        tlbFlushAll: () => this.flushIotlbAll(),
        tlbFlushWalk: (iova, sizeBytes) => this.invalidate(iova, sizeBytes, 1),
        tlbAddPage: (gather, iova, granuleBytes, count) => this.gatherPages(gather, iova, granuleBytes, count),
      });
    } catch (error) {
      iommu.freeAsid(this.asid);
      throw error;
    }
    if (this.pgtable.pgsizeBitmap === 0) {
      this.free();
      throw new ErrnoError('EINVAL', 'iommu_domain_alloc', `${format} has none of the unit's page sizes`);
    }
    this.sizes = new PageSizes(this.pgtable.pgsizeBitmap);
  }

  /** Devices attached, in order of attachment. */
  get devices(): readonly IommuClient[] {
    return this.iommu.clientsOf(this);
  }

  /**
   * Lets `device` use this address space.
   *
   * @throws {ErrnoError} `EBUSY` it is attached already, even here (retry after {@link detachDevice}).
   * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_attach_device
   */
  attachDevice(device: IommuClient): void {
    this.iommu.attach(device, this);
  }

  /** Ends {@link attachDevice}. @throws {InvariantError} `device` is not attached here. */
  detachDevice(device: IommuClient): void {
    this.iommu.detach(device, this);
  }

  /**
   * Maps `sizeBytes` from `iova` on to memory from `phys` on, or nothing at all. Size 0 does nothing.
   *
   * Charges `mapFixedNs`, and `mapPerPageNs` for each leaf written.
   *
   * @param prot - `IommuProt` bits, read or write among them.
   * @throws {ErrnoError} `EINVAL` an address or the size is no multiple of the smallest page size, or no right given (never retry);
   * `ERANGE` outside the domain's address sizes (never retry); `EEXIST` something is mapped there (unmap first); `ENOMEM` no table page
   * (retry later).
   * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_map
   */
  map(iova: Iova, phys: PhysAddr, sizeBytes: number, prot: number): void {
    const { pgtable, sizes } = this;
    const { sim, costs } = this.iommu;
    checkSize('iommu_map', sizeBytes);
    if (!sizes.isAligned(iova) || !sizes.isAligned(phys) || !sizes.isAligned(sizeBytes)) {
      this.failMap('EINVAL', iova, phys, sizeBytes, `each must be a multiple of ${sizes.smallest} bytes`);
    }
    let done = 0;
    let leaves = 0;
    while (done < sizeBytes) {
      sizes.pick(iova + done, phys + done, sizeBytes - done);
      const at = (iova + done) as Iova;
      const ret = pgtable.mapPages(at, (phys + done) as PhysAddr, sizes.pgsize, sizes.count, prot);
      done += pgtable.mapped;
      leaves += pgtable.mapped / sizes.pgsize;
      if (ret === 0) continue;
      sim.charge(costs.mapFixedNs + leaves * costs.mapPerPageNs);
      if (done > 0) this.unmap(iova, done);
      const code = CODES.find((name) => -ERRNO[name] === ret);
      assert(code !== undefined, 'iommu_map: the page table answered %s', ret);
      this.failMap(code, at, (phys + done) as PhysAddr, sizeBytes, 'nothing is left mapped');
    }
    sim.charge(costs.mapFixedNs + leaves * costs.mapPerPageNs);
    const { trace } = sim;
    if (trace.enabled)
      trace.emit({ kind: 'iommu.map', timeNs: sim.now, domain: this.name, iova, phys, bytes: sizeBytes });
  }

  /**
   * Unmaps up to `sizeBytes` from `iova` on, stopping at the first hole; the IOTLB learns of it by rule 2 at the head of this file.
   *
   * Charges as {@link unmapFast} and {@link iotlbSync}.
   *
   * @returns bytes unmapped; 0 when `iova` or `sizeBytes` is no multiple of the smallest page size.
   * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_unmap
   */
  unmap(iova: Iova, sizeBytes: number): number {
    const { gather } = this;
    gather.reset();
    gather.queued = !this.invalidateOnUnmap;
    const done = this.unmapFast(iova, sizeBytes, gather);
    if (!gather.queued) this.iotlbSync(gather);
    return done;
  }

  /**
   * As {@link unmap}, but leaves the invalidation to the caller: {@link iotlbSync} with the same `gather`, or {@link flushIotlbAll}. Leaves that
   * cannot join the gather (other size, or not adjoining) are invalidated by the way.
   *
   * Charges `unmapFixedNs`, and `unmapPerPageNs` for each leaf cleared.
   *
   * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_unmap_fast
   */
  unmapFast(iova: Iova, sizeBytes: number, gather: IotlbGather): number {
    const { pgtable, sizes } = this;
    const { sim, costs } = this.iommu;
    assert(
      Number.isSafeInteger(sizeBytes) && sizeBytes >= 0,
      'iommu_unmap: sizeBytes %s is no whole number',
      sizeBytes,
    );
    if (!sizes.isAligned(iova) || !sizes.isAligned(sizeBytes)) return 0;
    let done = 0;
    let leaves = 0;
    while (done < sizeBytes) {
      sizes.pick(iova + done, iova + done, sizeBytes - done);
      const unmapped = pgtable.unmapPages((iova + done) as Iova, sizes.pgsize, sizes.count, gather);
      if (unmapped === 0) break;
      done += unmapped;
      leaves += unmapped / sizes.pgsize;
    }
    sim.charge(costs.unmapFixedNs + leaves * costs.unmapPerPageNs);
    const { trace } = sim;
    if (trace.enabled) trace.emit({ kind: 'iommu.unmap', timeNs: sim.now, domain: this.name, iova, bytes: done });
    return done;
  }

  /**
   * Invalidates what `gather` holds and empties it. Charges `invalidateFixedNs`, and `invalidatePerPageNs` for each leaf; nothing when it is empty.
   *
   * @see Linux 6.1 `include/linux/iommu.h` iommu_iotlb_sync
   */
  iotlbSync(gather: IotlbGather): void {
    if (gather.pgsize === 0) return;
    const sizeBytes = gather.end - gather.start;
    this.invalidate(gather.start as Iova, sizeBytes, sizeBytes / gather.pgsize);
    gather.reset();
  }

  /** Invalidates everything of this address space. Charges `invalidateFixedNs` and one `invalidatePerPageNs`. @see Linux 6.1 iommu_flush_iotlb_all */
  flushIotlbAll(): undefined {
    const { iotlb, sim, costs, ias } = this.iommu;
    iotlb.invalidateAsid(this.asid);
    sim.charge(costs.invalidateFixedNs + costs.invalidatePerPageNs);
    const { trace } = sim;
    if (trace.enabled)
      trace.emit({ kind: 'iommu.flush', timeNs: sim.now, domain: this.name, iova: 0, bytes: 2 ** ias });
  }

  /**
   * The translation of `iova` by the page table, or null when nothing is mapped there. Looks only: no IOTLB, no time.
   *
   * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_iova_to_phys
   */
  iovaToPhys(iova: Iova): PhysAddr | null {
    const phys = this.pgtable.iovaToPhys(iova);
    return phys === 0 && !this.pgtable.walk(iova, new IoPgtableLeaf()) ? null : phys;
  }

  /**
   * Ends the domain: invalidates its IOTLB entries, gives its table pages and its address-space id back.
   *
   * @throws {ErrnoError} `EBUSY` a device is still attached (retry after {@link detachDevice}).
   */
  free(): void {
    const [first] = this.devices;
    if (first !== undefined)
      throw new ErrnoError('EBUSY', 'iommu_domain_free', `${first.name} is still attached to ${this.name}`);
    this.pgtable.free();
    this.iommu.freeAsid(this.asid);
  }

  private invalidate(iova: Iova, sizeBytes: number, commands: number): undefined {
    const { iotlb, sim, costs } = this.iommu;
    iotlb.invalidateRange(this.asid, iova, sizeBytes);
    sim.charge(costs.invalidateFixedNs + commands * costs.invalidatePerPageNs);
    const { trace } = sim;
    if (trace.enabled) trace.emit({ kind: 'iommu.flush', timeNs: sim.now, domain: this.name, iova, bytes: sizeBytes });
  }

  private gatherPages(gather: IotlbGather, iova: Iova, granuleBytes: number, count: number): undefined {
    const sizeBytes = granuleBytes * count;
    if (gather.isDisjoint(iova, sizeBytes, granuleBytes)) this.iotlbSync(gather);
    gather.add(iova, sizeBytes, granuleBytes);
  }

  private failMap(code: ErrnoCode, iova: Iova, phys: PhysAddr, sizeBytes: number, why: string): never {
    const what = `${this.name}: iova ${hex(iova)}, phys ${hex(phys)}, ${sizeBytes} bytes: ${why}`;
    throw new ErrnoError(code, 'iommu_map', what);
  }
}

/** Not `assert` with arguments, which would gather them at every call. @throws {InvariantError} no whole number of at least 0. */
function checkSize(op: string, sizeBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0)
    assert(false, '%s: sizeBytes %s is no whole number', op, sizeBytes);
}
