/**
 * A group: the devices that an IOMMU cannot tell apart or keep from each other, hence the smallest thing that gets an address space.
 *
 * Rules:
 * 1. All devices of a group are translated by its current domain, {@link IommuGroup.domain}. That is the default domain, until another
 *    one is attached.
 * 2. Attaching needs a group at its default domain (or blocked by rule 4); `EBUSY` else, even for the domain that is attached. Detaching
 *    leads back there. {@link IommuGroup.replaceDomain} changes from any domain to another without a moment in between.
 * 3. A device by itself can be attached only if it is alone in its group (`EINVAL` else).
 * 4. A group has at most one user: the kernel's drivers, each of which says {@link IommuGroup.useDefaultDomain} when it binds, or one owner
 *    that claimed it ({@link IommuGroup.claimDmaOwner}). While it is claimed, it is blocked instead of at its default domain.
 * 5. The default domain's type can be changed while no driver is bound ({@link IommuGroup.writeType}).
 *
 * **Inaccuracies**: no process address spaces (PASID); a group's reserved regions are not mapped into a new default domain.
 *
 * @see Linux 6.1 `drivers/iommu/iommu.c`; `Documentation/ABI/testing/sysfs-kernel-iommu_groups`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Iommu, IommuClient } from './iommu.ts';
import type { IommuDomain, IommuDomainType } from './iommu-domain.ts';

/** Types that a default domain can have. */
export type IommuDefaultType = 'dma' | 'dma-fq' | 'identity';

/** How to make an {@link IommuGroup}. */
export interface IommuGroupOptions {
  readonly name: string;
  /** Type of the default domain, to which `auto` leads back; null: there is none, and a group at rest refuses everything. Default `'dma'`. */
  readonly defaultType?: IommuDefaultType | null;
  /** The only type that its devices can work with: `'dma'` for a device that is not trusted. Default: any. */
  readonly requiredType?: IommuDefaultType;
}

/** Names in the `type` file. */
const TYPE_NAMES: { readonly [T in IommuDomainType]: string } = {
  dma: 'DMA',
  'dma-fq': 'DMA-FQ',
  identity: 'identity',
  unmanaged: 'unmanaged',
  blocked: 'blocked',
};
const DEFAULT_TYPES: readonly IommuDefaultType[] = ['dma', 'dma-fq', 'identity'];

/** One group of devices of one {@link Iommu}. Plain throughout: nothing waits. */
export class IommuGroup {
  readonly iommu: Iommu;
  readonly name: string;
  readonly #bootType: IommuDefaultType | null;
  readonly #requiredType: IommuDefaultType | null;
  readonly #devices: IommuClient[] = [];
  #defaultDomain: IommuDomain | null = null;
  #blockingDomain: IommuDomain | null = null;
  #domain: IommuDomain | null = null;
  /** Who claimed it, or null. */
  #owner: object | null = null;
  /** Drivers bound, or 1 while claimed. */
  #users = 0;

  /**
   * Makes a group without devices, with its default domain.
   *
   * @throws {ErrnoError} `EINVAL` `defaultType` is not `requiredType`, or the unit cannot translate as asked (never retry); `ENOMEM` no
   * table page, `ENOSPC` no address-space id (retry later).
   */
  constructor(iommu: Iommu, options: IommuGroupOptions) {
    this.iommu = iommu;
    this.name = options.name;
    this.#bootType = options.defaultType === undefined ? 'dma' : options.defaultType;
    this.#requiredType = options.requiredType ?? null;
    if (this.#bootType === null) return;
    this.#checkRequired(this.#bootType);
    this.#defaultDomain = this.#allocDefault(this.#bootType);
    this.#enter(this.#defaultDomain);
  }

  /** Its devices, in the order they were added. */
  get devices(): readonly IommuClient[] {
    return this.#devices;
  }

  /** Where it is at rest, or null. */
  get defaultDomain(): IommuDomain | null {
    return this.#defaultDomain;
  }

  /** What its devices are translated by now; null: nothing, all accesses are refused. @see Linux 6.1 iommu_get_domain_for_dev */
  get domain(): IommuDomain | null {
    return this.#domain;
  }

  /** Its default domain's type as the `type` file shows it: `'DMA'`, `'DMA-FQ'`, `'identity'`; `'unknown'` without one. */
  get typeText(): string {
    return this.#defaultDomain === null ? 'unknown' : TYPE_NAMES[this.#defaultDomain.type];
  }

  /** True while it has a user: a driver that is bound, or an owner. @see Linux 6.1 iommu_group_dma_owner_claimed */
  get isDmaOwnerClaimed(): boolean {
    return this.#users > 0;
  }

  /**
   * Adds a device, which is translated by the current domain from now on.
   *
   * @throws {ErrnoError} `EBUSY` it is in a group already, or another group answers for one of its requester ids (never retry).
   * @see Linux 6.1 iommu_group_add_device
   */
  addDevice(device: IommuClient): void {
    this.iommu.enrol(device, this);
    this.#devices.push(device);
  }

  /** Takes a device out, all of whose accesses are refused from now on. @throws {InvariantError} it is not in this group. */
  removeDevice(device: IommuClient): void {
    const at = this.#devices.indexOf(device);
    assert(at >= 0, 'iommu_group_remove_device: %s is not in group %s', device.name, this.name);
    this.iommu.strike(device);
    this.#devices.splice(at, 1);
  }

  /**
   * Translates by `domain` until {@link detach}.
   *
   * @throws {ErrnoError} `EBUSY` another domain than the default one is attached, or this very one (retry after {@link detach}).
   * @throws {InvariantError} `domain` is of another unit.
   * @see Linux 6.1 iommu_attach_group
   */
  attach(domain: IommuDomain): void {
    const current = this.#domain;
    if (current !== null && current !== this.#defaultDomain && current !== this.#blockingDomain) {
      const what = `group ${this.name} is attached to ${current.name}; detach it first`;
      throw new ErrnoError('EBUSY', 'iommu_attach_group', what);
    }
    this.#enter(domain);
  }

  /** Ends {@link attach}: back to the default domain, or blocked while claimed. @throws {InvariantError} `domain` is not attached. @see Linux 6.1 iommu_detach_group */
  detach(domain: IommuDomain): void {
    assert(this.#domain === domain, 'iommu_detach_group: group %s is not attached to %s', this.name, domain.name);
    this.#enter(this.#owner === null ? this.#defaultDomain : this.#blockingDomain);
  }

  /** As {@link attach}, for one device. @throws {ErrnoError} `EINVAL` it is not alone in its group (never retry); `EBUSY` as there. @internal */
  attachDevice(device: IommuClient, domain: IommuDomain): void {
    const { length } = this.#devices;
    if (length !== 1) {
      const what = `${device.name} shares group ${this.name} with ${length - 1} others; attach the group`;
      throw new ErrnoError('EINVAL', 'iommu_attach_device', what);
    }
    this.attach(domain);
  }

  /**
   * Changes from the domain that is attached to `domain` in one step: no access falls in between. Also from the default domain.
   *
   * @returns the domain before, or null.
   * @throws {InvariantError} `domain` is of another unit; nothing has changed.
   * @see Linux 6.4 `drivers/iommu/iommu.c` iommu_group_replace_domain
   */
  replaceDomain(domain: IommuDomain): IommuDomain | null {
    const before = this.#domain;
    this.#enter(domain);
    return before;
  }

  /**
   * Takes the group for one owner (a user process, by way of VFIO) and blocks it, until {@link releaseDmaOwner}. Mappings of the default
   * domain stay and work again then.
   *
   * @param owner - who; two owners are the same when they are the same object.
   * @throws {ErrnoError} `EPERM` it has a user already, this very owner included (retry after its release, or when the drivers are unbound);
   * `EBUSY` another domain than the default one is attached (retry after {@link detach}).
   * @see Linux 6.1 iommu_group_claim_dma_owner
   */
  claimDmaOwner(owner: object): void {
    if (this.#users > 0) {
      const user = this.#owner === null ? 'used by a driver of the kernel; unbind it' : 'claimed already; release it';
      throw new ErrnoError('EPERM', 'iommu_group_claim_dma_owner', `group ${this.name} is ${user} first`);
    }
    if (this.#domain !== this.#defaultDomain) {
      const what = `group ${this.name} is attached to ${this.#domain?.name}; detach it first`;
      throw new ErrnoError('EBUSY', 'iommu_group_claim_dma_owner', what);
    }
    this.#blockingDomain ??= this.iommu.allocDomain({ type: 'blocked', name: `${this.name}.blocked` });
    this.#enter(this.#blockingDomain);
    this.#owner = owner;
    this.#users = 1;
  }

  /** Ends {@link claimDmaOwner}: back to the default domain, whatever is attached. @throws {InvariantError} it is not claimed. @see Linux 6.1 iommu_group_release_dma_owner */
  releaseDmaOwner(): void {
    assert(this.#owner !== null, 'iommu_group_release_dma_owner: group %s is not claimed', this.name);
    this.#owner = null;
    this.#users = 0;
    this.#enter(this.#defaultDomain);
  }

  /**
   * A driver of the kernel binds to a device of the group and will use the DMA API.
   *
   * @throws {ErrnoError} `EBUSY` the group is claimed, or other drivers are bound and another domain than the default one is attached (retry
   * after the release).
   * @see Linux 6.1 iommu_device_use_default_domain
   */
  useDefaultDomain(): void {
    if (this.#users > 0 && (this.#owner !== null || !this.#isAtRest())) {
      const why = this.#owner !== null ? 'claimed' : `attached to ${this.#domain?.name}`;
      throw new ErrnoError('EBUSY', 'iommu_device_use_default_domain', `group ${this.name} is ${why}`);
    }
    this.#users++;
  }

  /** Ends {@link useDefaultDomain}. @throws {InvariantError} no driver is bound. @see Linux 6.1 iommu_device_unuse_default_domain */
  unuseDefaultDomain(): void {
    const isBound = this.#users > 0 && this.#owner === null;
    assert(isBound, 'iommu_device_unuse_default_domain: no driver is bound in group %s', this.name);
    this.#users--;
  }

  /**
   * What a write to the group's `type` file does: changes the default domain's type. `'DMA'` to `'DMA-FQ'` keeps domain, addresses and
   * mappings, also while a driver is bound; every other change makes a new, empty domain and ends the old one. `'auto'` goes back to the type
   * of the start. One newline at the end is fine, and an empty text does nothing.
   *
   * @throws {ErrnoError} `EINVAL` no such name (case matters), the group has not exactly one device or no default domain, or its devices need
   * another type (never retry); `EBUSY` a driver is bound, another domain attached, or another group attached to the default domain, or a nested
   * domain stands on it (retry after that); `ENOMEM`, `ENOSPC` no table page or address-space id (retry later). Nothing has changed then.
   * @see Linux 6.1 iommu_group_store_type
   */
  writeType(text: string): void {
    if (text === '') return;
    const name = text.endsWith('\n') ? text.slice(0, -1) : text;
    const asked = DEFAULT_TYPES.find((type) => TYPE_NAMES[type] === name) ?? null;
    const { length } = this.#devices;
    if (asked === null && name !== 'auto') this.#refuseType('EINVAL', `'${name}' is no type of a default domain`);
    if (length !== 1) this.#refuseType('EINVAL', `it has ${length} devices`);
    const old = this.#defaultDomain;
    if (old === null) return this.#refuseType('EINVAL', 'it has no default domain');
    const keepsDomain = asked === 'dma-fq' && old.type === 'dma';
    if (this.#users > 0 && !keepsDomain) this.#refuseType('EBUSY', 'a driver is bound; unbind it first');
    if (this.#domain !== old) this.#refuseType('EBUSY', `${this.#domain?.name} is attached; detach it first`);
    const type = asked ?? this.#requiredType ?? this.#bootType;
    if (asked !== null) this.#checkRequired(asked);
    if (type === null || type === old.type) return;
    if (type === 'dma-fq' && old.type === 'dma') return old.enableFlushQueue();
    if (old.isSharedBeyond(this)) this.#refuseType('EBUSY', `other groups are attached to ${old.name}`);
    this.iommu.checkNotNested(old.asid, old.name);
    const next = this.#allocDefault(type);
    this.#defaultDomain = next;
    this.#enter(next);
    old.free();
    // What a group's devices need mapped is mapped now, and the unit told of it.
    if (type !== 'identity') next.flushIotlbAll();
  }

  /**
   * Ends the group with its default domain.
   *
   * @throws {ErrnoError} `EBUSY` it has devices, a user, or another domain attached, or another group or a nested domain uses its default
   * domain (retry after that).
   */
  free(): void {
    const [first] = this.#devices;
    const why = first !== undefined ? `${first.name} is in it` : this.#users > 0 ? 'it is in use' : null;
    const isShared = this.#defaultDomain?.isSharedBeyond(this) === true;
    const other = isShared ? 'other groups are attached to its default domain' : null;
    const attached = this.#domain !== this.#defaultDomain ? `${this.#domain?.name} is attached` : other;
    if (why !== null || attached !== null) {
      throw new ErrnoError('EBUSY', 'iommu_group_free', `group ${this.name}: ${why ?? attached}`);
    }
    const old = this.#defaultDomain;
    if (old !== null) this.iommu.checkNotNested(old.asid, old.name);
    this.#enter(null);
    this.#defaultDomain = null;
    old?.free();
    this.#blockingDomain?.free();
    this.#blockingDomain = null;
  }

  /** At its default domain, or at another identity domain in place of one. */
  #isAtRest(): boolean {
    if (this.#domain === this.#defaultDomain) return true;
    return this.#domain?.type === 'identity' && this.#defaultDomain?.type === 'identity';
  }

  #enter(domain: IommuDomain | null): void {
    const isOurs = domain === null || domain.iommu === this.iommu;
    assert(isOurs, 'iommu_attach_group: domain %s is of another unit than group %s', domain?.name, this.name);
    const before = this.#domain;
    if (before === domain) return;
    domain?.entered(this);
    this.#domain = domain;
    before?.left(this);
  }

  #allocDefault(type: IommuDefaultType): IommuDomain {
    return this.iommu.allocDomain({ type, name: this.name });
  }

  #checkRequired(type: IommuDefaultType): void {
    const required = this.#requiredType;
    if (required === null || required === type) return;
    this.#refuseType('EINVAL', `its devices need ${TYPE_NAMES[required]}`);
  }

  #refuseType(code: 'EINVAL' | 'EBUSY', why: string): never {
    throw new ErrnoError(code, 'iommu_group_type', `group ${this.name}: ${why}`);
  }
}
