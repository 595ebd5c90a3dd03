/**
 * A guest's page table as an object of iommufd: a first stage on a page table made as a parent of others.
 *
 *     device --iova--> [first stage, the guest's] --intermediate--> [parent: shows the address space] --> memory
 *
 * The guest writes its table itself; the host only passes its invalidations on.
 *
 * @see Linux 6.7 `drivers/iommu/iommufd/hw_pagetable.c` iommufd_hwpt_nested_alloc, iommufd_hwpt_invalidate
 */
import type { Iova } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import type { TablePages } from './io-pgtable.ts';
import type { Ioas } from './ioas.ts';
import type { IoasDevice } from './ioas-device.ts';
import type { IoasClient, IoasDomain } from './ioas-domain.ts';
import type { Hwpt } from './ioas-hwpt.ts';
import { lastOf } from './ioas-ranges.ts';

/** What a guest says of its first stage. */
export interface NestedHwptData {
  /** Where its tables live: intermediate frames, which the parent's address space must map. */
  readonly guestPages: TablePages;
}

/** What the guest asks to forget, in its own addresses. */
export interface NestedInvalidation {
  readonly iova: Iova;
  readonly sizeBytes: number;
}

/** A first stage as a unit makes it. */
export interface IoasNestedDomain extends Pick<IoasDomain, 'attach' | 'detach' | 'free'> {
  /** Drops what is cached of a range, or of everything. */
  invalidate(request: NestedInvalidation | 'all'): void;
}

/** One first stage. Plain throughout: nothing waits. */
export class NestedHwpt {
  readonly parent: Hwpt;
  readonly domain: IoasNestedDomain;
  readonly isAutomatic = false;
  /** Devices that use it. */
  readonly devices = new Set<IoasDevice>();
  #isDead = false;

  private constructor(parent: Hwpt, domain: IoasNestedDomain) {
    this.parent = parent;
    this.domain = domain;
  }

  /**
   * Makes an empty first stage for `client` on `parent`.
   *
   * @throws {ErrnoError} `EOPNOTSUPP` the unit does not nest (never retry); `EINVAL` `parent` was not made as one, is automatic, or is another unit's (never
   * retry); `ENOENT` it was destroyed; `ENOMEM` the guest has no page for the table (retry later).
   */
  static alloc(parent: Hwpt, client: IoasClient, data: NestedHwptData): NestedHwpt {
    const op = 'hwpt_alloc';
    if (parent.isDead) throw new ErrnoError('ENOENT', op, 'the parent was destroyed');
    if (client.allocNested === undefined)
      throw new ErrnoError('EOPNOTSUPP', op, `the unit of ${client.name} does not nest`);
    if (!parent.nestParent) throw new ErrnoError('EINVAL', op, 'the parent was made without nestParent');
    parent.ioas.admit('table');
    const hwpt = new NestedHwpt(parent, client.allocNested(parent.domain, data));
    parent.nested.add(hwpt);
    return hwpt;
  }

  /** The address space of intermediate addresses. */
  get ioas(): Ioas {
    return this.parent.ioas;
  }

  /** It was destroyed. */
  get isDead(): boolean {
    return this.#isDead;
  }

  /**
   * Does the guest's invalidations, in order.
   *
   * @returns how many were done; all unless one is wrong.
   * @throws {ErrnoError} `EINVAL` the first is an empty range, `EOVERFLOW` it is behind the last address (never retry).
   */
  invalidate(requests: readonly (NestedInvalidation | 'all')[]): number {
    let done = 0;
    for (const request of requests) {
      try {
        if (request !== 'all') lastOf('hwpt_invalidate', request.iova, request.sizeBytes);
      } catch (error) {
        // The number tells the guest which one is wrong; with none done it gets the error itself.
        if (done > 0 && error instanceof ErrnoError) return done;
        throw error;
      }
      this.domain.invalidate(request);
      done++;
    }
    return done;
  }

  /** Ends it; the table's pages go back to the guest. @throws {ErrnoError} `EBUSY` a device uses it (retry after it was moved). */
  destroy(): void {
    if (this.devices.size > 0)
      throw new ErrnoError('EBUSY', 'hwpt_destroy', `${this.devices.size} device(s) use this first stage`);
    this.domain.free();
    this.parent.nested.delete(this);
    this.#isDead = true;
  }
}
