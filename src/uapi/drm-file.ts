/**
 * A client of a DRM device: one opening of `/dev/dri/*`, with handles of its own. What its methods do, the requests of
 * `drm-ioctl.ts` do for a process.
 *
 * @see Linux 6.1 `drivers/gpu/drm/drm_file.c`, `drm_gem.c`, `drm_prime.c`; `Documentation/gpu/drm-uapi.rst`
 */
import { ErrnoError } from '../base/errors.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import type { Op } from '../sim/op.ts';
import type { DrmDevice } from './drm-device.ts';
import type { GemObject } from './drm-gem.ts';
import { DRM_REQUESTS } from './drm-ioctl.ts';
import { noteHandle } from './drm-object-notes.ts';
import { cpuMapping, exportObject, importObject, PrimeTable } from './drm-prime.ts';
import { O, OpenFile, type VmaBacking, type VmaRequest } from './file.ts';
import { HandleTable } from './handle-table.ts';
import { type IoctlCall, ioctlParts } from './ioctl.ts';
import { SyncobjTable } from './syncobj-table.ts';
import { VgemFences } from './vgem-fence.ts';

/** See the header. */
export class DrmFile extends OpenFile {
  readonly path: string;
  readonly device: DrmDevice;
  /** @internal Its sync objects. */
  readonly syncobjs: SyncobjTable;
  /** @internal Fences that it attached to objects. */
  readonly fences: VgemFences;
  readonly #objects = new HandleTable<GemObject>();
  readonly #prime = new PrimeTable();

  /** A new client of `device`; its reference is for whoever installs it. */
  constructor(device: DrmDevice, flags: number = O.rdwr) {
    super(flags);
    this.device = device;
    this.path = `/dev/dri/${device.driver.name}`;
    this.syncobjs = new SyncobjTable(device.sim);
    this.fences = new VgemFences(device);
  }

  /** Handles of objects, ascending. */
  get handles(): number[] {
    return this.#objects.handles;
  }

  /**
   * What a request does, by its number alone. May wait, as the request says.
   *
   * @throws {ErrnoError} `EINVAL` an unknown number; `EOPNOTSUPP`, `ENOSYS` the driver cannot; `EFAULT` (never retry); what the
   *   request throws.
   * @see Linux 6.1 drm_ioctl
   */
  override *ioctl(call: IoctlCall): Op<number> {
    const { nr } = ioctlParts(call.code);
    const request = DRM_REQUESTS.get(nr);
    if (request === undefined) throw new ErrnoError('EINVAL', 'ioctl', `${this.path} has no request number ${nr}`);
    return yield* request(this, call);
  }

  /** The object behind `handle`, without a reference. @throws {ErrnoError} `ENOENT` there is none (never retry). */
  object(handle: number, op = 'drm_gem_object_lookup'): GemObject {
    const object = this.#objects.get(handle);
    if (object === null) throw new ErrnoError('ENOENT', op, `client has no handle ${handle}`);
    return object;
  }

  /** A new handle for `object`, which keeps a reference of its own. Plain. @see Linux 6.1 drm_gem_handle_create */
  createHandle(object: GemObject): number {
    object.addHandle();
    const handle = this.#objects.add(object);
    noteHandle(this, object, handle);
    return handle;
  }

  /** Closes a handle. Plain. @throws {ErrnoError} `EINVAL` there is none (never retry). @see Linux 6.1 drm_gem_handle_delete */
  deleteHandle(handle: number): void {
    const object = this.#objects.remove(handle);
    if (object === null) throw new ErrnoError('EINVAL', 'drm_gem_handle_delete', `client has no handle ${handle}`);
    this.#prime.remove(handle);
    object.dropHandle();
    object.device.sim.objects.end(this, 'handle', handle);
  }

  /**
   * The dma-buf of the object behind `handle`, with a reference for the caller. Plain.
   *
   * @param flags - of its file, if it is made now: {@link O} bits.
   * @throws {ErrnoError} `ENOENT` no such handle (never retry).
   * @see Linux 6.1 drm_gem_prime_handle_to_fd
   */
  exportHandle(handle: number, flags: number): DmaBuf {
    const object = this.object(handle, 'drm_gem_prime_handle_to_fd');
    const known = this.#prime.bufOf(handle);
    if (known !== null) return known.get();
    const buf = exportObject(object, flags);
    this.#prime.add(buf, handle);
    return buf;
  }

  /**
   * The handle of the object that `buf` is to this client's device: the one it has, or a new one. Waits for the exporter.
   *
   * @throws {ErrnoError} what the exporter throws; no handle is left then.
   * @see Linux 6.1 drm_gem_prime_fd_to_handle
   */
  *importBuf(buf: DmaBuf): Op<number> {
    const known = this.#prime.handleOf(buf);
    if (known !== null) return known;
    const object = yield* importObject(this.device, buf);
    // Another task of this client may have been faster while the exporter was waited for.
    const raced = this.#prime.handleOf(buf);
    try {
      if (raced !== null) return raced;
      const handle = this.createHandle(object);
      object.setDmaBuf(buf);
      this.#prime.add(buf, handle);
      return handle;
    } finally {
      object.put();
    }
  }

  /**
   * Maps an object at the offset that `DRM_IOCTL_MODE_MAP_DUMB` told. The mapping keeps the object.
   *
   * @throws {ErrnoError} `EINVAL` nothing lies there, the range is longer than the object, or it is private; `EACCES` the client has
   *   no handle to it (never retry); `ENOMEM` (retry later).
   * @see Linux 6.1 drm_gem_mmap
   */
  override mmap({ offset, length, shared }: VmaRequest): VmaBacking {
    const object = this.device.byOffset(offset);
    if (object === null) throw new ErrnoError('EINVAL', 'mmap', `no object of ${this.path} lies at ${offset}`);
    if (!this.handles.some((handle) => this.#objects.get(handle) === object)) {
      throw new ErrnoError('EACCES', 'mmap', `client has no handle to ${object.name}`);
    }
    if (length > object.sizeBytes || !shared) {
      throw new ErrnoError(
        'EINVAL',
        'mmap',
        `${length} bytes, shared: ${shared}, of ${object.sizeBytes} of ${object.name}`,
      );
    }
    const { extents, attribute } = cpuMapping(object);
    const { objects } = object.device.sim;
    const opened = (): undefined => {
      objects.hold(this, object);
      object.get();
    };
    const closed = (): undefined => {
      object.put();
      objects.unhold(this, object);
    };
    opened();
    return { memory: { extents: head(extents, length), attribute }, name: object.name, opened, closed };
  }

  override get parts(): readonly object[] {
    return [this.#prime, this.syncobjs];
  }

  /** The client is gone: its fences signal, its handles close. */
  protected override release(): void {
    this.fences.release();
    for (const handle of this.handles) this.deleteHandle(handle);
    this.syncobjs.release();
  }
}

/** The first `length` bytes of `extents`. */
function head<E extends { readonly length: number }>(extents: readonly E[], length: number): E[] {
  const parts: E[] = [];
  let left = length;
  for (const extent of extents) {
    if (left <= 0) break;
    parts.push({ ...extent, length: Math.min(extent.length, left) });
    left -= extent.length;
  }
  return parts;
}
