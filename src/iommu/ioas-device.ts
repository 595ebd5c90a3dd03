/** A device bound to iommufd: which page table, and so which address space, it uses. */
import { ErrnoError } from '../base/errors.ts';
import { Ioas } from './ioas.ts';
import type { IoasClient } from './ioas-domain.ts';
import { Hwpt } from './ioas-hwpt.ts';
import type { NestedHwpt } from './ioas-nested.ts';

/** What translates for a device: a page table, or a guest's on top of one. */
export type DeviceHwpt = Hwpt | NestedHwpt;

/**
 * One device. Plain throughout: nothing waits.
 *
 * @see Linux 6.2 `drivers/iommu/iommufd/device.c` iommufd_device_attach, iommufd_device_replace
 */
export class IoasDevice {
  readonly client: IoasClient;
  #hwpt: DeviceHwpt | null = null;

  constructor(client: IoasClient) {
    this.client = client;
  }

  /** The page table in use, or null. */
  get hwpt(): DeviceHwpt | null {
    return this.#hwpt;
  }

  /** The device's unit can mark written pages. @see Linux 6.7 IOMMU_HW_CAP_DIRTY_TRACKING */
  get canTrackDirty(): boolean {
    return this.client.canTrackDirty;
  }

  /**
   * Lets the device use `target`: a page table, or an address space, which finds or makes one by itself.
   *
   * @throws {ErrnoError} `EINVAL` attached already (see {@link replace}), or the table is not for this device (never retry); `ENOENT` the target was destroyed;
   * `EADDRINUSE` something is mapped where the device or its table cannot have it; `EFAULT`, `ENOMEM` as `Hwpt.alloc`. Nothing is changed then.
   */
  attach(target: Ioas | DeviceHwpt): DeviceHwpt {
    if (this.#hwpt !== null)
      throw new ErrnoError('EINVAL', 'iommufd_device_attach', `${this.client.name} is attached already; use replace`);
    return this.#use('iommufd_device_attach', target);
  }

  /**
   * Changes to another table or space; an automatic table that is left without a device goes.
   *
   * @throws {ErrnoError} `EINVAL` not attached, or not for this device; others as {@link attach}. It stays where it was then.
   */
  replace(target: Ioas | DeviceHwpt): DeviceHwpt {
    if (this.#hwpt === null)
      throw new ErrnoError('EINVAL', 'iommufd_device_replace', `${this.client.name} is not attached; use attach`);
    return this.#use('iommufd_device_replace', target);
  }

  /** Ends {@link attach}. @throws {ErrnoError} `EINVAL` not attached. */
  detach(): void {
    const before = this.#hwpt;
    if (before === null) throw new ErrnoError('EINVAL', 'iommufd_device_detach', `${this.client.name} is not attached`);
    before.domain.detach(this.client);
    this.#leave(before);
    this.#hwpt = null;
    before.ioas.unreserve(this);
  }

  #use(op: string, target: Ioas | DeviceHwpt): DeviceHwpt {
    if (!(target instanceof Ioas)) {
      if (target.isDead) throw new ErrnoError('ENOENT', op, 'the page table was destroyed');
      this.#move(target);
      return target;
    }
    const current = this.#hwpt;
    if (current?.isAutomatic && current.ioas === target) return current;
    for (const shared of target.hwpts) {
      if (shared.isAutomatic && this.#tryMove(shared)) return shared;
    }
    const hwpt = Hwpt.make(target, this.client, {}, true);
    try {
      this.#move(hwpt);
    } catch (error) {
      hwpt.destroy();
      throw error;
    }
    return hwpt;
  }

  #tryMove(hwpt: DeviceHwpt): boolean {
    try {
      this.#move(hwpt);
      return true;
    } catch (error) {
      // Another unit's table: the device gets one of its own.
      if (error instanceof ErrnoError && error.code === 'EINVAL') return false;
      throw error;
    }
  }

  #move(to: DeviceHwpt): void {
    const from = this.#hwpt;
    if (from === to) return;
    const reserves = from?.ioas !== to.ioas;
    if (reserves) this.#reserveIn(to.ioas);
    from?.domain.detach(this.client);
    try {
      to.domain.attach(this.client);
    } catch (error) {
      from?.domain.attach(this.client);
      if (reserves) to.ioas.unreserve(this);
      throw error;
    }
    to.devices.add(this);
    this.#hwpt = to;
    if (from === null) return;
    this.#leave(from);
    if (reserves) from.ioas.unreserve(this);
  }

  #reserveIn(ioas: Ioas): void {
    try {
      for (const { start, last } of this.client.reservedRanges) ioas.reserve(start, last, this);
    } catch (error) {
      ioas.unreserve(this);
      throw error;
    }
  }

  #leave(hwpt: DeviceHwpt): void {
    hwpt.devices.delete(this);
    if (hwpt.isAutomatic && hwpt.devices.size === 0) hwpt.destroy();
  }
}
