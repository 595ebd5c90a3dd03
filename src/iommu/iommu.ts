/**
 * The hardware unit that stands between devices and memory.
 *
 *     device port --iova--> [IOTLB] --miss--> [walk of the context's page table] --phys--> bus
 *                              |                          |
 *                              '------- no right / no leaf: fault -> event queue, handler
 *
 * Rules:
 * 1. An address that the IOTLB knows is not walked: a stale entry answers until software invalidates it.
 * 2. Only a successful translation fills the IOTLB. A walk's rights are cached with it.
 * 3. A refused access is a {@link DmaFault}: it goes to the event queue and then to the context's handler, at the same instant.
 *
 * **Inaccuracies**: one IOTLB for all devices, no walk caches, no configuration cache; a walk is one step, never interleaved with
 * a change of the table; the event queue raises no interrupt.
 */
import type { Iova } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Simulator } from '../sim/simulator.ts';
import { type DmaAccess, type DmaFault, type DmaFaultHandler, type DmaFaultReason, FaultQueue } from './fault.ts';
import { IommuProt, type IoPgtable, IoPgtableLeaf, type TablePages } from './io-pgtable.ts';
import { freeIommuCosts, type IommuCosts } from './iommu-costs.ts';
import { Iotlb, type IotlbOptions } from './iotlb.ts';
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
  /** Width of an address-space id; default 16. */
  readonly asidBits?: number;
}

/** Anything behind an IOMMU. Two clients are the same when they are the same object. */
export interface IommuClient {
  readonly name: string;
}

/** One address space as the hardware sees it. `IommuDomain` is one. */
export interface IommuContext {
  readonly name: string;
  readonly asid: number;
  readonly pgtable: IoPgtable;
  readonly stage: 1 | 2;
  readonly faultHandler: DmaFaultHandler | null;
}

const NO_WALK = -1;

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
  private readonly asidEnd: number;
  private readonly asids = new Set<number>();
  private readonly attached = new Map<IommuClient, IommuContext>();
  private readonly leaf = new IoPgtableLeaf();

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
    this.faults = new FaultQueue(options.faultCapacity);
    this.asidEnd = 2 ** (options.asidBits ?? 16);
  }

  /** The address space that `device` is attached to, or null. */
  contextOf(device: IommuClient): IommuContext | null {
    return this.attached.get(device) ?? null;
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
    const { iotlb } = this;
    const handle = iotlb.lookup(context.asid, iova);
    if (handle < 0) return this.translateByWalk(context, iova, access, out);
    out.costNs = this.costs.iotlbHitNs;
    if ((iotlb.protAt(handle) & needed(access)) === 0)
      return this.refuse(context, iova, access, 'permission', NO_WALK, out);
    out.phys = iotlb.physAt(handle, iova);
    out.runBytes = iotlb.bytesLeft(handle, iova);
    out.fault = null;
    return true;
  }

  /**
   * Attaches `device` to `context`.
   *
   * @throws {ErrnoError} `EBUSY` it is attached already, even to this very context (retry after {@link detach}).
   * @internal
   */
  attach(device: IommuClient, context: IommuContext): void {
    const current = this.attached.get(device);
    if (current !== undefined) {
      throw new ErrnoError(
        'EBUSY',
        'iommu_attach_device',
        `${device.name} is attached to ${current.name}; detach it first`,
      );
    }
    this.attached.set(device, context);
  }

  /** Detaches `device`. @throws {InvariantError} it is not attached to `context`. @internal */
  detach(device: IommuClient, context: IommuContext): void {
    assert(
      this.attached.get(device) === context,
      'iommu_detach_device: %s is not attached to %s',
      device.name,
      context.name,
    );
    this.attached.delete(device);
  }

  /** Devices attached to `context`, in order of attachment. @internal */
  clientsOf(context: IommuContext): readonly IommuClient[] {
    return [...this.attached].filter(([, at]) => at === context).map(([device]) => device);
  }

  /** Takes the lowest free address-space id; ids come again. @throws {ErrnoError} `ENOSPC` none is free (retry later). @internal */
  takeAsid(): number {
    for (let asid = 1; asid < this.asidEnd; asid++) {
      if (this.asids.has(asid)) continue;
      this.asids.add(asid);
      return asid;
    }
    throw new ErrnoError('ENOSPC', 'iommu_domain_alloc', `${this.name} has no address-space id left`);
  }

  /** Gives an address-space id back. @internal */
  freeAsid(asid: number): void {
    this.asids.delete(asid);
  }

  private translateByWalk(context: IommuContext, iova: Iova, access: DmaAccess, out: Translation): boolean {
    const { leaf, costs } = this;
    const { pgtable } = context;
    out.costNs = costs.iotlbHitNs;
    if (!pgtable.contains(iova)) return this.refuse(context, iova, access, 'address-size', NO_WALK, out);
    const isMapped = pgtable.walk(iova, leaf);
    out.costNs += leaf.reads * costs.walkPerLevelNs;
    if (!isMapped) return this.refuse(context, iova, access, 'unmapped', leaf.level, out);
    if ((leaf.prot & needed(access)) === 0) return this.refuse(context, iova, access, 'permission', leaf.level, out);
    const handle = this.iotlb.fill(context.asid, iova, leaf.phys, leaf.sizeBytes, leaf.prot);
    out.phys = leaf.phys;
    out.runBytes = this.iotlb.bytesLeft(handle, iova);
    out.fault = null;
    return true;
  }

  private refuse(
    context: IommuContext,
    iova: Iova,
    access: DmaAccess,
    reason: DmaFaultReason,
    level: number,
    out: Translation,
  ): false {
    const { sim } = this;
    const { device } = out;
    const fault: DmaFault = {
      device,
      domain: context.name,
      iova,
      access,
      reason,
      stage: context.stage,
      level,
      timeNs: sim.now,
    };
    out.runBytes = 0;
    out.fault = fault;
    this.faults.push(fault);
    if (sim.trace.enabled) sim.trace.emit({ kind: 'iommu.fault', timeNs: sim.now, device, iova, access, reason });
    context.faultHandler?.(fault);
    return false;
  }
}

function needed(access: DmaAccess): number {
  return access === 'write' ? IommuProt.write : IommuProt.read;
}
