/**
 * One IO address space: a page table, an address-space id, the groups attached, and the rule when its IOTLB entries go.
 *
 * Rules:
 * 1. `map` picks for each part the largest page size that both addresses and what is left allow, and takes everything back when a
 *    part fails.
 * 2. `unmap` takes the translation out of the page table at once. When the IOTLB learns of it is the domain's choice: strict (default), before
 *    `unmap` returns; with `invalidateOnUnmap: false` not before {@link IommuDomain.flushIotlbAll}, and a device that still has the entry
 *    in the IOTLB goes on reaching the memory.
 * 3. A table that is freed is invalidated at once in both cases; that charges `invalidateFixedNs` and one `invalidatePerPageNs`, as a
 *    range command of SMMUv3.2 does. Formats that free tables later (VT-d) put them into the gather, and {@link IommuDomain.iotlbSync} or
 *    whoever queued it gives them back.
 * 4. The type says who manages the addresses: `'dma'` and `'dma-fq'` the DMA API, strictly and with a flush queue; `'unmanaged'` the caller;
 *    `'identity'` and `'blocked'` have no page table: everything, and nothing, translates to itself.
 *
 * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_map, iommu_unmap, iommu_pgsize; `drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c`
 */
import { ADDRESS_BITS, hex, type Iova, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ERRNO, type ErrnoCode } from '../base/errno.ts';
import { ErrnoError } from '../base/errors.ts';
import { allocIoPgtable, type IoPgtableFormat, ioPgtableStage } from './alloc-io-pgtable.ts';
import type { ContextWalker } from './context-walk.ts';
import { IommuDmaCookie } from './dma-cookie.ts';
import { DomainTlb } from './domain-tlb.ts';
import type { DmaFaultHandler } from './fault.ts';
import { type IoPgtable, IoPgtableLeaf, type IoPgtableQuirk, type TablePages } from './io-pgtable.ts';
import type { Iommu, IommuClient, IommuContext } from './iommu.ts';
import type { IommuGroup } from './iommu-group.ts';
import { IotlbGather } from './iotlb-gather.ts';
import { type IommuExtents, mapExtents } from './map-sg.ts';
import { PageSizes } from './page-sizes.ts';
import { hasUnsafeMap, hasUnsafeUnmap, reportMapNothing } from './unsafe-calls.ts';
import { UntranslatedTable } from './untranslated-table.ts';

/** Who manages a domain's addresses; rule 4 at the head of this file. @see Linux 6.1 `include/linux/iommu.h` IOMMU_DOMAIN_DMA and its neighbours */
export type IommuDomainType = 'dma' | 'dma-fq' | 'identity' | 'unmanaged' | 'blocked';

/** How to make an {@link IommuDomain}. */
export interface IommuDomainOptions {
  /** Default `'unmanaged'`. */
  readonly type?: IommuDomainType;
  /** `'camera0'`; default: the unit's name and the address-space id, `'smmu0.1'`. */
  readonly name?: string;
  /** Default: the unit's. */
  readonly format?: IoPgtableFormat;
  readonly quirks?: readonly IoPgtableQuirk[];
  /** Default true: strict invalidation. False: unmapping leaves the IOTLB as it is, until it is flushed. */
  readonly invalidateOnUnmap?: boolean;
  /** Called for each refused access that is reported, after it was queued. */
  readonly onFault?: DmaFaultHandler;
  /** Where its page tables live; default: where the unit's do. */
  readonly tablePages?: TablePages;
}

const CODES: readonly ErrnoCode[] = ['EINVAL', 'ERANGE', 'EEXIST', 'ENOMEM', 'EFAULT'];

/** One IO address space of one {@link Iommu}. Plain throughout: nothing waits. */
export class IommuDomain implements IommuContext {
  readonly iommu: Iommu;
  readonly name: string;
  /** Tag of this domain's IOTLB entries; comes again after {@link free}. 0: it has none, being of a type that is not translated. */
  readonly asid: number;
  readonly pgtable: IoPgtable;
  readonly stage: 1 | 2;
  readonly walker: ContextWalker | null = null;
  /** See {@link IommuDomainOptions.invalidateOnUnmap}; may be changed at any time. */
  invalidateOnUnmap: boolean;
  /** See {@link IommuDomainOptions.onFault}. @see Linux 6.1 iommu_set_fault_handler */
  faultHandler: DmaFaultHandler | null;
  /** Calls of {@link flushIotlbAll}: how often the driver would have flushed the whole address space. */
  flushIotlbAllCount = 0;
  /** Calls of {@link iotlbSync}, those with nothing gathered and those of {@link unmap} included. */
  iotlbSyncCount = 0;
  readonly #sizes: PageSizes;
  readonly #gather = new IotlbGather();
  readonly #tlb: DomainTlb;
  readonly #groups = new Set<IommuGroup>();
  #type: IommuDomainType;
  #cookie: IommuDmaCookie | null = null;
  /** Tables that were unmapped without invalidation; given back by the next flush. */
  readonly #late = new IotlbGather();
  #isFreed = false;

  /**
   * Makes an empty domain.
   *
   * @throws {ErrnoError} `EINVAL` the format cannot do what the IOMMU asks for (never retry); `ENOMEM` no table page, `ENOSPC` no
   * address-space id (retry later).
   */
  constructor(iommu: Iommu, options: IommuDomainOptions = {}) {
    const type = options.type ?? 'unmanaged';
    const isTranslated = type !== 'identity' && type !== 'blocked';
    this.iommu = iommu;
    this.#type = type;
    this.invalidateOnUnmap = options.invalidateOnUnmap ?? true;
    this.faultHandler = options.onFault ?? null;
    this.asid = isTranslated ? iommu.takeAsid() : 0;
    this.name = options.name ?? `${iommu.name}.${isTranslated ? this.asid : type}`;
    this.#tlb = new DomainTlb(iommu, this.asid, this.name);
    const format = options.format ?? iommu.format;
    this.stage = ioPgtableStage(format);
    this.pgtable = isTranslated
      ? this.#allocTable(format, options)
      : new UntranslatedTable(type, iommu.pgsizeBitmap, iommu.oas);
    if (this.pgtable.pgsizeBitmap === 0) {
      this.#release();
      throw new ErrnoError('EINVAL', 'iommu_domain_alloc', `${format} has none of the unit's page sizes`);
    }
    this.#sizes = new PageSizes(this.pgtable.pgsizeBitmap);
  }

  /** Who manages its addresses. */
  get type(): IommuDomainType {
    return this.#type;
  }

  /** What the DMA API keeps for it: null unless the type is `'dma'` or `'dma-fq'`. Made by the first use. */
  get cookie(): IommuDmaCookie | null {
    if (this.#cookie === null && (this.#type === 'dma' || this.#type === 'dma-fq')) this.#cookie = this.#makeCookie();
    return this.#cookie;
  }

  /** Devices attached, by group in order of attachment. */
  get devices(): readonly IommuClient[] {
    return [...this.#groups].flatMap((group) => group.devices);
  }

  /**
   * Lets `device` use this address space: attaches its group, of which it must be the only device. A device without a group gets one.
   *
   * @throws {ErrnoError} `EBUSY` another domain than the default one is attached, even this very one (retry after {@link detachDevice});
   * `EINVAL` the group has other devices (never retry).
   * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_attach_device
   */
  attachDevice(device: IommuClient): void {
    this.iommu.ensureGroup(device).attachDevice(device, this);
  }

  /** Ends {@link attachDevice}: back to the group's default domain. @throws {InvariantError} `device` is not attached here. @see Linux 6.1 iommu_detach_device */
  detachDevice(device: IommuClient): void {
    const group = this.iommu.groupOf(device);
    if (group === null) return assert(false, 'iommu_detach_device: %s is not attached to %s', device.name, this.name);
    group.detach(this);
  }

  /**
   * Maps `sizeBytes` from `iova` on to memory from `phys` on, or nothing at all. Size 0 does nothing.
   *
   * Charges `mapFixedNs`, and `mapPerPageNs` for each leaf written; with caching mode, invalidates what it mapped.
   *
   * @param prot - `IommuProt` bits, read or write among them.
   * @throws {ErrnoError} `EINVAL` an address or the size is no multiple of the smallest page size, no right given, or the domain is not
   * translated (never retry); `ERANGE` outside the domain's address sizes, `EFAULT` with VT-d (never retry); `EEXIST` something is mapped
   * there (unmap first; VT-d keeps 4 KiB pages that are mapped, and counts a warning for each instead); `ENOMEM` no table page (retry later).
   * @throws {HazardError} `iommu.map-over-superpage`, `iommu.map-nothing`: the kernel's driver would follow a wrong pointer; nothing has changed.
   * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_map
   */
  map(iova: Iova, phys: PhysAddr, sizeBytes: number, prot: number): void {
    this.#mapRange(iova, phys, sizeBytes, prot);
    if (this.iommu.cachingMode) {
      if (sizeBytes === 0) return reportMapNothing(this, iova);
      this.#tlb.invalidate(iova, sizeBytes, 1);
    }
    const { sim } = this.iommu;
    if (!sim.trace.enabled) return;
    sim.trace.emit({ kind: 'iommu.map', timeNs: sim.now, domain: this.name, iova, phys, bytes: sizeBytes });
  }

  /**
   * Maps the extents one behind the other from `iova` on, or nothing at all. Extents that follow each other in memory are mapped as one.
   *
   * Charges as {@link map} for each run of extents.
   *
   * @returns bytes mapped.
   * @throws {ErrnoError} as {@link map}: `EINVAL` also where an extent that begins or ends inside a page does not go on in the next one.
   * @throws {HazardError} as {@link map}.
   * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_map_sg
   */
  mapSg(iova: Iova, extents: IommuExtents, prot: number): number {
    return mapExtents(this, iova, extents, prot);
  }

  /**
   * Unmaps up to `sizeBytes` from `iova` on, stopping at the first hole; the IOTLB learns of it by rule 2 at the head of this file.
   *
   * Charges as {@link unmapFast} and {@link iotlbSync}.
   *
   * @returns bytes unmapped: 0 when `iova` or `sizeBytes` is no multiple of the smallest page size; with VT-d more than asked for when the
   * range ends inside a superpage that it begins with, and holes count as unmapped where there is a table.
   * @throws {HazardError} `iommu.unmap-inside-superpage`, `iommu.unmap-without-table` (VT-d): the kernel's driver would destroy what it was
   * not asked for; nothing has changed.
   * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_unmap
   */
  unmap(iova: Iova, sizeBytes: number): number {
    const gather = this.#gather;
    gather.queued = !this.invalidateOnUnmap;
    const done = this.unmapFast(iova, sizeBytes, gather);
    if (gather.queued) this.#late.takeTablesOf(gather);
    else this.iotlbSync(gather);
    gather.reset();
    return done;
  }

  /**
   * As {@link unmap}, but leaves the invalidation to the caller: {@link iotlbSync} with the same `gather`, or {@link flushIotlbAll}. Leaves that
   * cannot join the gather (other size, or not adjoining) are invalidated by the way. Tables that `gather` collects go back by {@link iotlbSync}
   * or by `gather.takeTables()`.
   *
   * Charges `unmapFixedNs`, and `unmapPerPageNs` for each leaf cleared.
   *
   * @throws {HazardError} as {@link unmap}.
   * @see Linux 6.1 `drivers/iommu/iommu.c` iommu_unmap_fast
   */
  unmapFast(iova: Iova, sizeBytes: number, gather: IotlbGather): number {
    checkSize('iommu_unmap', sizeBytes);
    const sizes = this.#sizes;
    if (!sizes.isAligned(iova) || !sizes.isAligned(sizeBytes)) return 0;
    if (this.pgtable.unmapSpan !== undefined && hasUnsafeUnmap(this, sizes, iova, sizeBytes)) return 0;
    const done = this.#unmapRange(iova, sizeBytes, gather);
    const { sim } = this.iommu;
    const { trace } = sim;
    if (trace.enabled) trace.emit({ kind: 'iommu.unmap', timeNs: sim.now, domain: this.name, iova, bytes: done });
    return done;
  }

  /**
   * Invalidates what `gather` holds, gives its tables back and empties it. Charges `invalidateFixedNs`, and `invalidatePerPageNs` for each leaf;
   * nothing when it is empty.
   *
   * @see Linux 6.1 `include/linux/iommu.h` iommu_iotlb_sync
   */
  iotlbSync(gather: IotlbGather): void {
    this.iotlbSyncCount++;
    this.iommu.iotlbSyncCount++;
    if (gather.pgsize === 0) return;
    const sizeBytes = gather.end - gather.start;
    this.#tlb.invalidate(gather.start as Iova, sizeBytes, sizeBytes / gather.pgsize);
    gather.releaseTables();
    gather.reset();
  }

  /** Invalidates everything of this address space. Charges `invalidateFixedNs` and one `invalidatePerPageNs`. @see Linux 6.1 iommu_flush_iotlb_all */
  flushIotlbAll(): undefined {
    this.flushIotlbAllCount++;
    this.iommu.flushIotlbAllCount++;
    this.#tlb.invalidateAll();
    this.#late.releaseTables();
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
   * Ends the domain: invalidates its IOTLB entries, gives its table pages, its address-space id and its addresses back.
   *
   * @throws {ErrnoError} `EBUSY` a group is still attached (retry after {@link detachDevice}), or a nested domain stands on it.
   */
  free(): void {
    const [group] = this.#groups;
    if (group !== undefined) {
      const who = group.devices[0]?.name ?? `group ${group.name}`;
      throw new ErrnoError('EBUSY', 'iommu_domain_free', `${who} is still attached to ${this.name}`);
    }
    assert(!this.#isFreed, 'iommu_domain_free: %s is freed already', this.name);
    this.iommu.checkNotNested(this.asid, this.name);
    this.#release();
  }

  /** Turns a `'dma'` domain into a `'dma-fq'` one; mappings and addresses stay. @internal */
  enableFlushQueue(): void {
    assert(this.#type === 'dma', 'iommu_dma_init_fq: %s is of type %s', this.name, this.#type);
    this.#cookie?.enableFlushQueue();
    this.#type = 'dma-fq';
  }

  /** True when a group besides `group` is translated by this domain. @internal */
  isSharedBeyond(group: IommuGroup): boolean {
    return this.#groups.size > (this.#groups.has(group) ? 1 : 0);
  }

  /** `group` is translated by this domain from now on. @internal */
  entered(group: IommuGroup): void {
    assert(!this.#isFreed, 'iommu_attach_group: %s is freed', this.name);
    this.#groups.add(group);
  }

  /** Ends {@link entered}. @internal */
  left(group: IommuGroup): void {
    this.#groups.delete(group);
  }

  #release(): void {
    this.#isFreed = true;
    this.#cookie?.dispose();
    this.pgtable.free();
    this.#late.releaseTables();
    if (this.asid !== 0) this.iommu.freeAsid(this.asid);
  }

  #allocTable(format: IoPgtableFormat, { quirks = [], tablePages = this.iommu.pages }: IommuDomainOptions): IoPgtable {
    const { pgsizeBitmap, ias, oas, coherentWalk } = this.iommu;
    const config = { pgsizeBitmap, ias, oas, coherentWalk, quirks };
    try {
      return allocIoPgtable(format, config, tablePages, {
        tlbFlushAll: () => this.#tlb.invalidateAll(),
        tlbFlushWalk: (iova, sizeBytes) => this.#tlb.invalidate(iova, sizeBytes, 1),
        tlbAddPage: (gather, iova, granuleBytes, count) => this.#gatherPages(gather, iova, granuleBytes, count),
      });
    } catch (error) {
      this.iommu.freeAsid(this.asid);
      throw error;
    }
  }

  #makeCookie(): IommuDmaCookie {
    const { sim } = this.iommu;
    const bits = Math.min(this.pgtable.ias, ADDRESS_BITS);
    const range = { granuleBytes: this.#sizes.smallest, apertureEnd: 2 ** bits - 1 };
    return new IommuDmaCookie(sim, this, { ...range, lazy: this.#type === 'dma-fq' });
  }

  #mapRange(iova: Iova, phys: PhysAddr, sizeBytes: number, prot: number): void {
    const { pgtable } = this;
    const sizes = this.#sizes;
    const { sim, costs } = this.iommu;
    checkSize('iommu_map', sizeBytes);
    if (!sizes.isAligned(iova) || !sizes.isAligned(phys) || !sizes.isAligned(sizeBytes)) {
      failMap(this.name, 'EINVAL', iova, phys, sizeBytes, `each must be a multiple of ${sizes.smallest} bytes`);
    }
    if (pgtable.hasLargerLeaf !== undefined && hasUnsafeMap(this, iova, sizeBytes)) {
      failMap(this.name, 'EEXIST', iova, phys, sizeBytes, 'nothing has changed');
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
      if (done > 0) this.#takeBack(iova, done);
      const code = CODES.find((name) => -ERRNO[name] === ret);
      assert(code !== undefined, 'iommu_map: the page table answered %s', ret);
      failMap(this.name, code, at, (phys + done) as PhysAddr, sizeBytes, 'nothing is left mapped');
    }
    sim.charge(costs.mapFixedNs + leaves * costs.mapPerPageNs);
  }

  /** Unmaps what a failing map mapped; not seen by a trace, which was never told of the map either. */
  #takeBack(iova: Iova, sizeBytes: number): void {
    const gather = new IotlbGather();
    this.#unmapRange(iova, sizeBytes, gather);
    this.iotlbSync(gather);
  }

  /** Charges; leaves the invalidation to the caller. @returns bytes unmapped. */
  #unmapRange(iova: Iova, sizeBytes: number, gather: IotlbGather): number {
    const { pgtable } = this;
    const sizes = this.#sizes;
    const { sim, costs } = this.iommu;
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
    return done;
  }

  #gatherPages(gather: IotlbGather, iova: Iova, granuleBytes: number, count: number): undefined {
    const sizeBytes = granuleBytes * count;
    if (gather.isDisjoint(iova, sizeBytes, granuleBytes)) this.iotlbSync(gather);
    gather.add(iova, sizeBytes, granuleBytes);
  }
}

/** Not `assert` with arguments, which would gather them at every call. @throws {InvariantError} no whole number of at least 0. */
function checkSize(op: string, sizeBytes: number): void {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0)
    assert(false, '%s: sizeBytes %s is no whole number', op, sizeBytes);
}

function failMap(domain: string, code: ErrnoCode, iova: Iova, phys: PhysAddr, sizeBytes: number, why: string): never {
  const what = `${domain}: iova ${hex(iova)}, phys ${hex(phys)}, ${sizeBytes} bytes: ${why}`;
  throw new ErrnoError(code, 'iommu_map', what);
}
