/**
 * A page table of iommufd: one unit's table that shows an IO address space, and the devices that use it.
 *
 * An automatic one is made when a device is attached to a space itself, is shared by the devices that can, and goes with the last of
 * them. An explicit one stays until it is destroyed.
 *
 * @see Linux 6.2 `drivers/iommu/iommufd/hw_pagetable.c`
 */
import type { Iova } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Ioas } from './ioas.ts';
import type { IoasDevice } from './ioas-device.ts';
import type { DirtyRequest, IoasClient, IoasDomain } from './ioas-domain.ts';
import type { NestedHwpt } from './ioas-nested.ts';
import { lastOf } from './ioas-ranges.ts';

/** What an {@link Hwpt} is wanted for. */
export interface HwptOptions {
  /** The unit shall mark written pages, for each device that is ever attached. */
  readonly dirtyTracking?: boolean;
  /** It shall be the second stage of others. */
  readonly nestParent?: boolean;
}

/** One page table of one address space. Plain throughout: nothing waits. */
export class Hwpt {
  readonly ioas: Ioas;
  readonly domain: IoasDomain;
  readonly isAutomatic: boolean;
  readonly dirtyTracking: boolean;
  /** It may be the second stage of others. */
  readonly nestParent: boolean;
  /** First stages on it. */
  readonly nested = new Set<NestedHwpt>();
  /** Devices that use it. */
  readonly devices = new Set<IoasDevice>();
  #isDead = false;

  private constructor(ioas: Ioas, domain: IoasDomain, isAutomatic: boolean, options: HwptOptions) {
    this.ioas = ioas;
    this.domain = domain;
    this.isAutomatic = isAutomatic;
    this.dirtyTracking = options.dirtyTracking ?? false;
    this.nestParent = options.nestParent ?? false;
  }

  /**
   * Makes a table for `client` that shows all of `ioas`.
   *
   * @throws {ErrnoError} `EOPNOTSUPP` the unit cannot do what is asked (never retry); `EADDRINUSE` something is mapped or allowed where the table cannot
   * reach, or not aligned as it needs (unmap first); `EFAULT` memory behind an area is missing; `ENOMEM` (retry later). Nothing is left then.
   */
  static alloc(ioas: Ioas, client: IoasClient, options: HwptOptions = {}): Hwpt {
    return Hwpt.make(ioas, client, options, false);
  }

  /** As {@link alloc}; `isAutomatic` ones go with their last device. @internal */
  static make(ioas: Ioas, client: IoasClient, options: HwptOptions, isAutomatic: boolean): Hwpt {
    const dirtyTracking = options.dirtyTracking ?? false;
    if (dirtyTracking && !client.canTrackDirty)
      throw new ErrnoError('EOPNOTSUPP', 'hwpt_alloc', `the unit of ${client.name} marks no written pages`);
    ioas.admit('table');
    const domain = client.allocDomain({ dirtyTracking, nestParent: options.nestParent ?? false });
    try {
      ioas.addDomain(domain);
    } catch (error) {
      domain.free();
      throw error;
    }
    const hwpt = new Hwpt(ioas, domain, isAutomatic, options);
    ioas.hwpts.add(hwpt);
    return hwpt;
  }

  /** It was destroyed. */
  get isDead(): boolean {
    return this.#isDead;
  }

  /**
   * Switches the marking of written pages; what was marked before is forgotten.
   *
   * @throws {ErrnoError} `EOPNOTSUPP` the table was made without (never retry).
   * @see Linux 6.7 `drivers/iommu/iommufd/hw_pagetable.c` iommufd_hwpt_set_dirty_tracking
   */
  setDirtyTracking(on: boolean): void {
    const { domain } = this;
    if (!this.dirtyTracking || domain.setDirtyTracking === undefined) throw noTracking('hwpt_set_dirty_tracking');
    domain.setDirtyTracking(on);
    if (on) for (const area of this.ioas.areas()) this.#clear(area.iova, area.sizeBytes);
  }

  /**
   * Sets the bit of each page that a device wrote since it was last cleared, and clears the marks unless `noClear`.
   *
   * @throws {ErrnoError} `EOPNOTSUPP` the table was made without tracking; `EINVAL` it is switched off, the range is not all mapped, or not aligned to `pageBytes`
   * and the space's alignment, or `pageBytes` is no power of two; `EOVERFLOW` (never retry).
   * @throws {InvariantError} the bitmap is too short.
   * @see Linux 6.7 `drivers/iommu/iommufd/io_pagetable.c` iopt_read_and_clear_dirty_data
   */
  readAndClearDirty(request: DirtyRequest): void {
    const op = 'hwpt_get_dirty_bitmap';
    const { domain, ioas } = this;
    if (!this.dirtyTracking || domain.readAndClearDirty === undefined) throw noTracking(op);
    const { iova, sizeBytes, pageBytes, firstBit } = request;
    const last = lastOf(op, iova, sizeBytes);
    if (!(pageBytes >= 1) || !Number.isInteger(Math.log2(pageBytes)))
      throw new ErrnoError('EINVAL', op, `pageBytes ${pageBytes} is no power of two`);
    if ([iova, sizeBytes].some((bytes) => bytes % pageBytes !== 0 || bytes % ioas.alignmentBytes !== 0))
      throw new ErrnoError(
        'EINVAL',
        op,
        `iova and size must be multiples of ${pageBytes} and ${ioas.alignmentBytes} bytes`,
      );
    const areas = ioas.areasCovering(iova, last);
    if (areas === null) throw new ErrnoError('EINVAL', op, 'not all of the range is mapped');
    // Areas adjoin here, but each is a mapping of its own: a bit may get its mark from several.
    for (const area of areas) {
      const start = Math.max(iova, area.iova);
      const size = Math.min(last, area.iova + area.sizeBytes - 1) - start + 1;
      domain.readAndClearDirty({
        ...request,
        iova: start,
        sizeBytes: size,
        firstBit: firstBit + (start - iova) / pageBytes,
      });
    }
  }

  /**
   * Ends the table.
   *
   * @throws {ErrnoError} `EBUSY` a device or a first stage uses it (retry after it was detached, moved or destroyed).
   */
  destroy(): void {
    if (this.devices.size > 0)
      throw new ErrnoError(
        'EBUSY',
        'hwpt_destroy',
        `${this.devices.size} device(s) use this page table of ${this.ioas.name}`,
      );
    if (this.nested.size > 0)
      throw new ErrnoError('EBUSY', 'hwpt_destroy', `${this.nested.size} first stage(s) stand on this page table`);
    this.ioas.removeDomain(this.domain);
    this.ioas.hwpts.delete(this);
    this.domain.free();
    this.#isDead = true;
  }

  #clear(iova: Iova, sizeBytes: number): void {
    const pageBytes = this.ioas.alignmentBytes;
    const bitmap = new Uint8Array(Math.ceil(sizeBytes / pageBytes / 8));
    this.domain.readAndClearDirty?.({ iova, sizeBytes, pageBytes, bitmap, firstBit: 0 });
  }
}

function noTracking(op: string): ErrnoError {
  return new ErrnoError('EOPNOTSUPP', op, 'the page table was made without dirty tracking');
}
