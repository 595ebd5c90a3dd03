/**
 * iommufd: the objects of one open `/dev/iommu`, by number, and its commands (`iommufd-commands.ts`).
 *
 *     address space (ioas) --- page table (hwpt) --- device
 *                         '--- access object
 *
 * Users make and destroy address spaces and page tables by command; drivers bind devices and make access objects by call. Numbers are the
 * lowest free ones from 1 on, so they come again.
 *
 * **Inaccuracies**: no VFIO emulation, no fault queues, no virtual IOMMUs, no change of the owning process.
 *
 * @see Linux 6.2 `drivers/iommu/iommufd/main.c`; `Documentation/userspace-api/iommufd.rst`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { Ioas } from './ioas.ts';
import { IoasAccess, type IoasAccessOptions } from './ioas-access.ts';
import type { RevocablePages, UserSpace } from './ioas-backing.ts';
import { type DeviceHwpt, IoasDevice } from './ioas-device.ts';
import type { IoasClient } from './ioas-domain.ts';
import { Hwpt, type HwptOptions } from './ioas-hwpt.ts';
import { NestedHwpt, type NestedHwptData } from './ioas-nested.ts';
import { MemlockAccount } from './ioas-pages.ts';
import type { IoasOptions } from './ioas-table.ts';
import { runCommand } from './iommufd-commands.ts';

/** How to make an {@link Iommufd}. */
export interface IommufdOptions {
  /** The process that opened it: its memory is mapped, and holds the arguments of commands. */
  readonly user: UserSpace;
  /** Whom pinned memory is charged to; default: an account of its own without limit. */
  readonly account?: MemlockAccount;
  /** The buffer behind a descriptor of the process, for mapping by file; default: there is none. @throws {ErrnoError} `EBADF`, `EINVAL`. */
  readonly file?: (fd: number) => RevocablePages;
  readonly failNext?: IoasOptions['failNext'];
}

/** What a number can stand for. */
export type IommufdObject = Ioas | Hwpt | NestedHwpt | IoasDevice | IoasAccess;

/** One open `/dev/iommu`. Plain throughout: nothing waits. */
export class Iommufd {
  readonly user: UserSpace;
  readonly account: MemlockAccount;
  readonly #options: IommufdOptions;
  readonly #objects = new Map<number, IommufdObject>();
  #rlimitMode: 0 | 1 = 0;

  constructor(options: IommufdOptions) {
    this.user = options.user;
    this.account = options.account ?? new MemlockAccount();
    this.#options = options;
  }

  /** Numbers in use, ascending. */
  get ids(): number[] {
    return [...this.#live()].map(([id]) => id).sort((a, b) => a - b);
  }

  /**
   * Does command `cmd` with the argument structure at `address` of the user's memory, in the layout of the real interface.
   *
   * @throws {ErrnoError} `ENOTTY` no such command; `EFAULT` the argument is not there; `EINVAL` it is too short; `E2BIG` it is longer than known and
   * not zero there; `EOPNOTSUPP` an unknown flag; `ENOENT` no such object (never retry); others as the call behind it.
   * @see Linux 6.2 `drivers/iommu/iommufd/main.c` iommufd_fops_ioctl; `include/uapi/linux/iommufd.h`
   */
  ioctl(cmd: number, address: number): void {
    runCommand(this, cmd, address);
  }

  /** What locked memory counts against: 0 the user's limit, 1 the process's. Kept and shown only; there is one account. */
  get rlimitMode(): 0 | 1 {
    return this.#rlimitMode;
  }

  /** @throws {ErrnoError} `EBUSY` there are objects already; `EINVAL` neither 0 nor 1 (never retry). */
  setRlimitMode(mode: number): void {
    if (this.#live().size > 0) throw new ErrnoError('EBUSY', 'iommufd_option', 'objects exist; set it first');
    if (mode !== 0 && mode !== 1)
      throw new ErrnoError('EINVAL', 'iommufd_option', `limit mode ${mode} is neither 0 nor 1`);
    this.#rlimitMode = mode;
  }

  /** Makes an address space. @returns its number. @throws {ErrnoError} `ENOMEM` (retry later). */
  allocIoas(): number {
    const { failNext } = this.#options;
    if (failNext?.('table')) throw new ErrnoError('ENOMEM', 'ioas_alloc', 'failure injected');
    const id = this.#lowestFree();
    const ioas = new Ioas({
      name: `ioas${id}`,
      account: this.account,
      ...(failNext === undefined ? {} : { failNext }),
    });
    return this.#add(ioas);
  }

  /** Makes a page table for a device. @returns its number. @throws {ErrnoError} `ENOENT` no such object; `EINVAL`, `EOPNOTSUPP` no address space; others as `Hwpt.alloc`. */
  allocHwpt(deviceId: number, ioasId: number, options: HwptOptions = {}): number {
    const { client } = this.device(deviceId);
    const target = this.#target('hwpt_alloc', ioasId);
    if (!(target instanceof Ioas))
      throw new ErrnoError(
        'EOPNOTSUPP',
        'hwpt_alloc',
        `object ${ioasId} is a page table: a first stage needs the guest's data`,
      );
    return this.#add(Hwpt.alloc(target, client, options));
  }

  /**
   * Makes a guest's first stage for a device on page table `parentId`. @returns its number.
   *
   * @throws {ErrnoError} `ENOENT` no such object; others as `NestedHwpt.alloc`.
   */
  allocNestedHwpt(deviceId: number, parentId: number, data: NestedHwptData): number {
    const { client } = this.device(deviceId);
    const parent = this.#target('hwpt_alloc', parentId);
    if (!(parent instanceof Hwpt))
      throw new ErrnoError('EINVAL', 'hwpt_alloc', `object ${parentId} is no page table that could be a second stage`);
    return this.#add(NestedHwpt.alloc(parent, client, data));
  }

  /** Binds a device: what its driver does. @returns its number. */
  bindDevice(client: IoasClient): number {
    return this.#add(new IoasDevice(client));
  }

  /** Unbinds a device: what its driver does, after it detached. @throws {ErrnoError} `EBUSY` it is attached; `ENOENT`. */
  unbindDevice(id: number): void {
    if (this.device(id).hwpt !== null)
      throw new ErrnoError('EBUSY', 'iommufd_device_unbind', `device ${id} is attached`);
    this.#objects.delete(id);
  }

  /** Makes an access object: what a driver does. @returns its number. */
  createAccess(options: IoasAccessOptions): number {
    return this.#add(new IoasAccess(options));
  }

  /** Ends an access object: what its driver does; it releases its pins first. @throws {ErrnoError} `EBUSY` it keeps pins; `ENOENT`. */
  destroyAccess(id: number): void {
    const access = this.access(id);
    if (access.ioas !== null) access.detach();
    this.#objects.delete(id);
  }

  /**
   * Lets device `id` use address space or page table `targetId`. @returns the number of the page table.
   *
   * @throws {ErrnoError} `ENOENT` no such object; `EINVAL` the target is of another kind, or attached already; others as `IoasDevice.attach`.
   */
  attachDevice(id: number, targetId: number): number {
    return this.#idOf(this.device(id).attach(this.#target('iommufd_device_attach', targetId)));
  }

  /** Changes to another address space or page table. @returns the number of the page table. @throws {ErrnoError} as {@link attachDevice}. */
  replaceDevice(id: number, targetId: number): number {
    return this.#idOf(this.device(id).replace(this.#target('iommufd_device_replace', targetId)));
  }

  /** Ends {@link attachDevice}. @throws {ErrnoError} `ENOENT`, `EINVAL` not attached. */
  detachDevice(id: number): void {
    this.device(id).detach();
  }

  /** The address space with number `id`. @throws {ErrnoError} `ENOENT` there is none. */
  ioas(id: number): Ioas {
    const object = this.#objects.get(id);
    if (!(object instanceof Ioas)) throw none('address space', id);
    return object;
  }

  /** The page table with number `id`. @throws {ErrnoError} `ENOENT` there is none. */
  hwpt(id: number): Hwpt {
    const object = this.#objects.get(id);
    if (!(object instanceof Hwpt) || object.isDead) throw none('page table', id);
    return object;
  }

  /** The first stage with number `id`. @throws {ErrnoError} `ENOENT` there is none. */
  nestedHwpt(id: number): NestedHwpt {
    const object = this.#objects.get(id);
    if (!(object instanceof NestedHwpt)) throw none('first stage', id);
    return object;
  }

  /** The device with number `id`. @throws {ErrnoError} `ENOENT` there is none. */
  device(id: number): IoasDevice {
    const object = this.#objects.get(id);
    if (!(object instanceof IoasDevice)) throw none('device', id);
    return object;
  }

  /** The access object with number `id`. @throws {ErrnoError} `ENOENT` there is none. */
  access(id: number): IoasAccess {
    const object = this.#objects.get(id);
    if (!(object instanceof IoasAccess)) throw none('access object', id);
    return object;
  }

  /** The buffer behind descriptor `fd`. @throws {ErrnoError} `EBADF` there is none. @internal */
  file(fd: number): RevocablePages {
    const { file } = this.#options;
    if (file === undefined) throw new ErrnoError('EBADF', 'ioas_map_file', `descriptor ${fd} is not open`);
    return file(fd);
  }

  /**
   * Destroys address space or page table `id`.
   *
   * @throws {ErrnoError} `ENOENT` no such object (never retry); `EBUSY` something uses it, or it is a driver's (devices, access objects).
   */
  destroy(id: number): void {
    const object = this.#objects.get(id);
    if (object === undefined || (object instanceof Hwpt && object.isDead)) throw none('object', id);
    if (object instanceof IoasDevice || object instanceof IoasAccess)
      throw new ErrnoError('EBUSY', 'iommufd_destroy', `object ${id} is in use by its driver`);
    object.destroy();
    this.#objects.delete(id);
  }

  /**
   * The last descriptor is closed: every page table and address space goes with its areas.
   *
   * @throws {InvariantError} a driver still has a device bound or an access object.
   */
  close(): void {
    const held = [...this.#objects.values()].filter((one) => one instanceof IoasDevice || one instanceof IoasAccess);
    assert(held.length === 0, 'iommufd: %s device(s) or access object(s) are not released', held.length);
    for (const object of this.#objects.values()) if (object instanceof NestedHwpt) object.destroy();
    for (const object of this.#objects.values()) if (object instanceof Hwpt && !object.isDead) object.destroy();
    for (const object of this.#objects.values()) if (object instanceof Ioas) object.destroy();
    this.#objects.clear();
  }

  #target(op: string, id: number): Ioas | DeviceHwpt {
    const object = this.#objects.get(id);
    if (object === undefined || (object instanceof Hwpt && object.isDead)) throw none('object', id);
    if (object instanceof IoasDevice || object instanceof IoasAccess)
      throw new ErrnoError('EINVAL', op, `object ${id} is neither an address space nor a page table`);
    return object;
  }

  /** Number of `hwpt`, which may be an automatic one that has none yet. */
  #idOf(hwpt: DeviceHwpt): number {
    for (const [id, object] of this.#objects) if (object === hwpt) return id;
    // Beside the table that the device has just left: a number does not come again while its object goes.
    let id = 1;
    while (this.#objects.has(id)) id++;
    this.#objects.set(id, hwpt);
    this.#live();
    return id;
  }

  /** Objects that are alive; automatic page tables may have gone by themselves. */
  #live(): Map<number, IommufdObject> {
    for (const [id, object] of this.#objects) if (object instanceof Hwpt && object.isDead) this.#objects.delete(id);
    return this.#objects;
  }

  #lowestFree(): number {
    const used = this.#live();
    let id = 1;
    while (used.has(id)) id++;
    return id;
  }

  #add(object: IommufdObject): number {
    const id = this.#lowestFree();
    this.#objects.set(id, object);
    return id;
  }
}

function none(what: string, id: number): ErrnoError {
  return new ErrnoError('ENOENT', 'iommufd', `there is no ${what} with number ${id}`);
}
