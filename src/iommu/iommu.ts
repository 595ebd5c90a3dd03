/**
 * The hardware unit that stands between devices and memory, and the driver's part that makes its domains.
 *
 *     device --> [context of its group] --iova--> [IOTLB] --miss--> [walk of the context's page table] --phys--> bus
 *                     |   |                          |                          |
 *                     |   '-- identity: 1:1          '------- no right / no leaf: fault -> event queue, handler
 *                     '------ blocked: fault
 *
 * Rules:
 * 1. An address that the IOTLB knows is not walked: a stale entry answers until software invalidates it.
 * 2. Only a successful translation fills the IOTLB. A walk's rights are cached with it.
 *    Where two stages translate, or written pages are marked, an access that a cached entry forbids is walked all the same, so that
 *    the fault names the stage that refused (unless `cachedDenial` is `'drop'`).
 * 3. A refused access is a {@link DmaFault}: it goes to the event queue and then to the context's handler, at the same instant. With
 *    `cachedDenial: 'drop'` the exception is an access that a cached entry forbids: it is refused and nobody is told.
 * 4. A device's context is its group's current domain. An identity domain neither walks nor fills the IOTLB; a blocked one, and a group
 *    without a domain, refuse every access.
 *
 * **Inaccuracies**: one IOTLB for all devices, no walk caches, no configuration cache; a walk is one step, never interleaved with
 * a change of the table; the event queue raises no interrupt; a change of context is free and instantaneous.
 */
import type { Iova, PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { IoPgtableFormat } from './alloc-io-pgtable.ts';
import { ContextLeaf, type ContextWalker, MARK_ON_WRITE, neededRight } from './context-walk.ts';
import { type DmaAccess, type DmaFault, type DmaFaultHandler, type DmaFaultReason, FaultQueue } from './fault.ts';
import { type IoPgtable, IoPgtableLeaf, type TablePages } from './io-pgtable.ts';
import { freeIommuCosts, type IommuCosts } from './iommu-costs.ts';
import { IommuDomain, type IommuDomainOptions, type IommuDomainType } from './iommu-domain.ts';
import { IommuGroup } from './iommu-group.ts';
import { IOTLB_DENIED, IOTLB_MISS, Iotlb, type IotlbOptions } from './iotlb.ts';
import type { Translation } from './translation.ts';

/** How to make an {@link Iommu}. */
export interface IommuOptions {
  /** `'smmu0'` */
  readonly name: string;
  /** Where page tables of this unit's domains live. */
  readonly pages: TablePages;
  /** Page sizes the walker knows, one bit each; default 4 KiB, 2 MiB and 1 GiB. */
  readonly pgsizeBitmap?: number;
  /** Input address bits; default 48. */
  readonly ias?: number;
  /** Output address bits; default 48. */
  readonly oas?: number;
  /** Walks snoop the CPU caches; default true. */
  readonly coherentWalk?: boolean;
  readonly iotlb?: IotlbOptions;
  /** Default: everything is free. Presets of `platform` have real ones. */
  readonly costs?: IommuCosts;
  /** Faults that wait at most; default 128. */
  readonly faultCapacity?: number;
  /**
   * As long as a fault of a requester waits in the event queue, further ones of it are refused as ever, but neither recorded nor handled (VT-d
   * allows it; the unit that QEMU emulates does it). Default false.
   */
  readonly collapseFaults?: boolean;
  /** Width of an address-space id, 1 to 20; default 16. */
  readonly asidBits?: number;
  /** Page-table format of its domains; default `'ARM_64_LPAE_S1'`. */
  readonly format?: IoPgtableFormat;
  /**
   * What becomes of an access that a cached entry forbids: `'fault'` (default) reports it as a walk would; `'drop'` refuses it without a
   * report, as the VT-d unit that QEMU emulates does.
   */
  readonly cachedDenial?: 'fault' | 'drop';
  /** Accesses mapped with `IommuProt.cache` snoop the CPU caches. Default true. @see Linux 6.1 IOMMU_CAP_CACHE_COHERENCY */
  readonly cacheCoherency?: boolean;
  /**
   * The IOTLB may remember that nothing is mapped somewhere, so that software invalidates what it maps, too (VT-d caching mode, what a
   * guest of a hypervisor with shadow tables sees). Default false. The model's IOTLB never remembers that; only the cost is real.
   */
  readonly cachingMode?: boolean;
  /** The unit marks written pages in the page table, for domains that ask for it. Default false. */
  readonly dirtyTracking?: boolean;
  /**
   * What one command for a range of addresses invalidates: `'exact'` (default) that range; `'power-of-two'` the smallest naturally aligned
   * power of two around it, as VT-d's page-selective command does.
   */
  readonly rangeInvalidation?: 'exact' | 'power-of-two';
}

/** Anything behind an IOMMU. Two clients are the same when they are the same object. */
export interface IommuClient {
  readonly name: string;
  /** Requester id of its accesses: bus, device and function of a PCI function in 8, 5 and 3 bits, or a stream id. */
  readonly sourceId?: number | undefined;
  /** Further ids that its accesses may carry, as behind a PCI bridge. */
  readonly aliases?: readonly number[] | undefined;
}

/** One address space as the hardware sees it. `IommuDomain` is one. */
export interface IommuContext {
  readonly type: IommuDomainType;
  readonly name: string;
  /** Tag of its IOTLB entries; 0 for the types that are not translated, and only for those. */
  readonly asid: number;
  readonly pgtable: IoPgtable;
  readonly stage: 1 | 2;
  readonly faultHandler: DmaFaultHandler | null;
  /** What walks in place of {@link pgtable} alone: through two stages, or marking written pages; null for a plain walk. */
  readonly walker: ContextWalker | null;
}

const NO_WALK = -1;
/** What a fault says of a device without a context. */
const NO_CONTEXT = { name: 'none', stage: 1, faultHandler: null } as const;

/** One IOMMU. Plain throughout: nothing waits. */
export class Iommu {
  readonly sim: Simulator;
  readonly name: string;
  readonly pages: TablePages;
  readonly pgsizeBitmap: number;
  readonly ias: number;
  readonly oas: number;
  readonly coherentWalk: boolean;
  readonly iotlb: Iotlb;
  readonly costs: IommuCosts;
  /** The event queue. */
  readonly faults: FaultQueue;
  readonly format: IoPgtableFormat;
  readonly cachedDenial: 'fault' | 'drop';
  readonly cacheCoherency: boolean;
  readonly cachingMode: boolean;
  readonly dirtyTracking: boolean;
  readonly rangeInvalidation: 'exact' | 'power-of-two';
  /** Calls of `flushIotlbAll` of all its domains. */
  flushIotlbAllCount = 0;
  /** Calls of `iotlbSync` of all its domains. */
  iotlbSyncCount = 0;
  readonly #asidEnd: number;
  readonly #asids = new Set<number>();
  /** None below it is free. */
  #lowestAsid = 1;
  readonly #groups = new Map<IommuClient, IommuGroup>();
  readonly #sources = new Map<number, IommuGroup>();
  readonly #leaf = new IoPgtableLeaf();
  readonly #contextLeaf = new ContextLeaf();
  /** Tags of first stages, by the tag of the second stage they stand on. */
  readonly #nested = new Map<number, Set<number>>();
  readonly #addressEnd: number;

  /** @throws {InvariantError} a number in `options` is out of its range. */
  constructor(sim: Simulator, options: IommuOptions) {
    this.sim = sim;
    this.name = options.name;
    this.pages = options.pages;
    this.pgsizeBitmap = options.pgsizeBitmap ?? 0x4020_1000;
    this.ias = options.ias ?? 48;
    this.oas = options.oas ?? 48;
    this.coherentWalk = options.coherentWalk ?? true;
    this.iotlb = new Iotlb(options.iotlb);
    this.costs = options.costs ?? freeIommuCosts;
    this.faults = new FaultQueue(options.faultCapacity, options.collapseFaults);
    this.format = options.format ?? 'ARM_64_LPAE_S1';
    this.cachedDenial = options.cachedDenial ?? 'fault';
    this.cacheCoherency = options.cacheCoherency ?? true;
    this.cachingMode = options.cachingMode ?? false;
    this.dirtyTracking = options.dirtyTracking ?? false;
    this.rangeInvalidation = options.rangeInvalidation ?? 'exact';
    const { asidBits = 16 } = options;
    const isWidth = Number.isInteger(asidBits) && asidBits >= 1 && asidBits <= 20;
    assert(isWidth, 'Iommu: asidBits %s is not in 1 to 20', asidBits);
    this.#asidEnd = 2 ** asidBits;
    this.#addressEnd = 2 ** this.oas;
  }

  /** The group that `device` is in, or null. */
  groupOf(device: IommuClient): IommuGroup | null {
    return this.#groups.get(device) ?? null;
  }

  /** The group whose accesses carry the requester id `sourceId`, aliases included, or null. */
  groupOfSource(sourceId: number): IommuGroup | null {
    return this.#sources.get(sourceId) ?? null;
  }

  /** The address space that `device`'s accesses are translated by: its group's current domain. Null: none, every access is refused. */
  contextOf(device: IommuClient): IommuDomain | null {
    return this.#groups.get(device)?.domain ?? null;
  }

  /** Makes an empty domain: as `new IommuDomain(this, options)`, with the same errors. */
  allocDomain(options: IommuDomainOptions = {}): IommuDomain {
    return new IommuDomain(this, options);
  }

  /** The group of `device`; one of its own without a default domain if it is in none yet. @internal */
  ensureGroup(device: IommuClient): IommuGroup {
    const known = this.#groups.get(device);
    if (known !== undefined) return known;
    const group = new IommuGroup(this, { name: device.name, defaultType: null });
    group.addDevice(device);
    return group;
  }

  /**
   * Translates one address for an access by `out.device`; charges what that took to the running task.
   *
   * @param out - filled: `phys`, `runBytes`, `costNs`, and `fault` when false is returned.
   * @returns false when the access is refused; the fault has been recorded and handled then.
   */
  translate(context: IommuContext, iova: Iova, access: DmaAccess, out: Translation): boolean {
    const isAllowed = this.translateDeferred(context, iova, access, out);
    this.sim.charge(out.costNs);
    return isAllowed;
  }

  /** As {@link translate}, but charges nothing: the caller adds `out.costNs` up over a frame and charges the sum once. */
  translateDeferred(context: IommuContext, iova: Iova, access: DmaAccess, out: Translation): boolean {
    const { asid } = context;
    if (asid === 0) return this.#untranslated(context, iova, access, out);
    out.costNs = this.costs.iotlbHitNs;
    const found = this.iotlb.translate(asid, iova, neededRight(access), out);
    if (found < 0) return this.#notInIotlb(found, context, iova, access, out);
    out.fault = null;
    return true;
  }

  /**
   * Refuses an access of a device that has no context at all, and records the fault. @returns false, as {@link translate} does.
   */
  refuseWithoutContext(iova: Iova, access: DmaAccess, out: Translation): false {
    out.costNs = this.costs.iotlbHitNs;
    return this.#refuse(NO_CONTEXT, iova, access, 'no-context', NO_WALK, out);
  }

  /**
   * Puts `device` into `group`, which answers for its requester ids from now on.
   *
   * @throws {ErrnoError} `EBUSY` it is in a group already, or another group answers for one of its ids (never retry).
   * @internal
   */
  enrol(device: IommuClient, group: IommuGroup): void {
    const known = this.#groups.get(device);
    const ids = sourceIdsOf(device);
    const taken = ids.find((id) => this.#sources.has(id) && this.#sources.get(id) !== group);
    if (known !== undefined || taken !== undefined) {
      const why =
        known !== undefined
          ? `is in group ${known.name} already; remove it there first`
          : `shares requester id ${taken} with group ${this.#sources.get(taken as number)?.name}; put both into one group`;
      throw new ErrnoError('EBUSY', 'iommu_group_add_device', `${device.name} ${why}`);
    }
    this.#groups.set(device, group);
    for (const id of ids) this.#sources.set(id, group);
  }

  /** Ends {@link enrol}; ids that another device of the group carries, too, stay. @internal */
  strike(device: IommuClient): void {
    const group = this.#groups.get(device);
    this.#groups.delete(device);
    const kept = new Set((group?.devices ?? []).filter((other) => other !== device).flatMap(sourceIdsOf));
    for (const id of sourceIdsOf(device)) if (!kept.has(id)) this.#sources.delete(id);
  }

  /** Takes the lowest free address-space id; ids come again. @throws {ErrnoError} `ENOSPC` none is free (retry later). @internal */
  takeAsid(): number {
    for (let asid = this.#lowestAsid; asid < this.#asidEnd; asid++) {
      if (this.#asids.has(asid)) continue;
      this.#asids.add(asid);
      this.#lowestAsid = asid + 1;
      return asid;
    }
    throw new ErrnoError('ENOSPC', 'iommu_domain_alloc', `${this.name} has no address-space id left`);
  }

  /** Entries tagged `asid` hold translations of the second stage tagged `parent`, too, from now on. @internal */
  nest(parent: number, asid: number): void {
    const known = this.#nested.get(parent);
    if (known === undefined) this.#nested.set(parent, new Set([asid]));
    else known.add(asid);
  }

  /** Ends {@link nest}. @internal */
  unnest(parent: number, asid: number): void {
    this.#nested.get(parent)?.delete(asid);
  }

  /** Tags of the first stages on the second stage tagged `parent`. @internal */
  nestedOn(parent: number): Iterable<number> {
    return this.#nested.get(parent) ?? [];
  }

  /** @throws {ErrnoError} `EBUSY` a first stage stands on the second stage tagged `parent` (retry when it is freed). @internal */
  checkNotNested(parent: number, name: string): void {
    const count = this.#nested.get(parent)?.size ?? 0;
    if (count === 0) return;
    throw new ErrnoError('EBUSY', 'iommu_domain_free', `${count} nested domain(s) stand on ${name}; free them first`);
  }

  /** Gives an address-space id back. @internal */
  freeAsid(asid: number): void {
    this.#asids.delete(asid);
    if (asid < this.#lowestAsid) this.#lowestAsid = asid;
  }

  /** `found` is what `Iotlb.translate` answered: no entry, or one that forbids the access. */
  #notInIotlb(found: number, context: IommuContext, iova: Iova, access: DmaAccess, out: Translation): boolean {
    if (found === IOTLB_MISS) return this.#translateByWalk(context, iova, access, out);
    // Several tables, or a mark to be made: only a walk can tell.
    const prot = this.iotlb.protAt(IOTLB_DENIED - found);
    const mustWalk = (prot & MARK_ON_WRITE) !== 0 || (context.walker !== null && this.cachedDenial === 'fault');
    if (mustWalk) return this.#translateByWalk(context, iova, access, out);
    return this.#refuse(context, iova, access, 'permission', NO_WALK, out);
  }

  /** A context that is not translated: identity passes what the unit can address, blocked nothing. */
  #untranslated(context: IommuContext, iova: Iova, access: DmaAccess, out: Translation): boolean {
    out.costNs = this.costs.iotlbHitNs;
    if (context.type === 'blocked') return this.#refuse(context, iova, access, 'unmapped', NO_WALK, out);
    const isInRange = iova >= 0 && iova < this.#addressEnd;
    if (!isInRange) return this.#refuse(context, iova, access, 'address-size', NO_WALK, out);
    out.phys = Number(iova) as PhysAddr;
    out.runBytes = this.#addressEnd - iova;
    out.fault = null;
    return true;
  }

  #translateByWalk(context: IommuContext, iova: Iova, access: DmaAccess, out: Translation): boolean {
    const { costs } = this;
    const leaf = this.#leaf;
    const { pgtable, walker } = context;
    out.costNs = costs.iotlbHitNs;
    if (!pgtable.contains(iova)) return this.#refuse(context, iova, access, 'address-size', NO_WALK, out);
    if (walker !== null) return this.#translateByWalker(walker, context, iova, access, out);
    const isMapped = pgtable.walk(iova, leaf);
    out.costNs += leaf.reads * costs.walkPerLevelNs;
    if (!isMapped) return this.#refuse(context, iova, access, 'unmapped', leaf.level, out);
    if ((leaf.prot & neededRight(access)) === 0)
      return this.#refuse(context, iova, access, 'permission', leaf.level, out);
    return this.#fill(context, iova, leaf, out);
  }

  #translateByWalker(
    walker: ContextWalker,
    context: IommuContext,
    iova: Iova,
    access: DmaAccess,
    out: Translation,
  ): boolean {
    const leaf = this.#contextLeaf;
    const isAllowed = walker.walk(iova, access, leaf);
    out.costNs += leaf.reads * this.costs.walkPerLevelNs;
    return isAllowed
      ? this.#fill(context, iova, leaf, out)
      : this.#refuse(context, iova, access, leaf.reason, leaf.level, out, leaf);
  }

  #fill(context: IommuContext, iova: Iova, leaf: IoPgtableLeaf, out: Translation): true {
    const handle = this.iotlb.fill(context.asid, iova, leaf.phys, leaf.sizeBytes, leaf.prot);
    out.phys = leaf.phys;
    out.runBytes = this.iotlb.bytesLeft(handle, iova);
    out.fault = null;
    return true;
  }

  #refuse(
    context: Pick<IommuContext, 'name' | 'stage' | 'faultHandler'>,
    iova: Iova,
    access: DmaAccess,
    reason: DmaFaultReason,
    level: number,
    out: Translation,
    walked: ContextLeaf | null = null,
  ): false {
    const { sim } = this;
    const { device, sourceId } = out;
    const isReported = reason !== 'permission' || level !== NO_WALK || this.cachedDenial === 'fault';
    const fault: DmaFault = {
      device,
      sourceId,
      domain: context.name,
      iova,
      access,
      reason,
      stage: walked?.stage ?? context.stage,
      level,
      ...(walked === null ? {} : walked.stage2Facts()),
      isReported,
      timeNs: sim.now,
    };
    out.runBytes = 0;
    out.fault = fault;
    if (!isReported) return false;
    const isNew = this.faults.push(fault);
    if (sim.trace.enabled) sim.trace.emit({ kind: 'iommu.fault', timeNs: sim.now, device, iova, access, reason });
    if (isNew) context.faultHandler?.(fault);
    return false;
  }
}

function sourceIdsOf(device: IommuClient): readonly number[] {
  return [...(device.sourceId === undefined ? [] : [device.sourceId]), ...(device.aliases ?? [])];
}
