/**
 * A DRM device in software: what all its clients share. Opening it gives a client (`drm-file.ts`).
 *
 * Two drivers are shipped: `vgemDriver`, which only makes buffers and fences to try sharing with, and `vkmsDriver`, a display
 * without hardware. Others say what they can in a {@link DrmDriver}.
 *
 * @see Linux 6.1 `drivers/gpu/drm/vgem/vgem_drv.c`, `drivers/gpu/drm/vkms/vkms_drv.c`; `Documentation/gpu/drm-uapi.rst`
 */
import { PAGE_SIZE } from '../base/addr.ts';
import type { ErrnoCode } from '../base/errno.ts';
import { seconds } from '../base/units.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import type { Device } from '../dma-api/device.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import type { CpuMapping } from '../dmabuf/dma-buf-ops.ts';
import type { PageAllocator } from '../mem/page-allocator.ts';
import type { Simulator } from '../sim/simulator.ts';
import { type GemImport, GemObject } from './drm-gem.ts';
import { HandleTable } from './handle-table.ts';

/** Capabilities. @see Linux 6.1 `include/uapi/drm/drm.h` DRM_CAP_* */
export const DRM_CAP = {
  dumbBuffer: 1,
  vblankHighCrtc: 2,
  dumbPreferredDepth: 3,
  dumbPreferShadow: 4,
  prime: 5,
  timestampMonotonic: 6,
  asyncPageFlip: 7,
  cursorWidth: 8,
  cursorHeight: 9,
  addfb2Modifiers: 0x10,
  pageFlipTarget: 0x11,
  crtcInVblankEvent: 0x12,
  syncobj: 0x13,
  syncobjTimeline: 0x14,
} as const;

/** What a driver can. */
export interface DrmDriver {
  readonly name: string;
  /** It sets modes (`DRIVER_MODESET`); without, most capabilities are no business of it. */
  readonly modeset: boolean;
  /** It has sync objects: none, binary ones (`DRIVER_SYNCOBJ`), or timelines as well (`DRIVER_SYNCOBJ_TIMELINE`). */
  readonly syncobj: 'none' | 'binary' | 'timeline';
  /** Processes may attach fences of their own to its objects. */
  readonly fences: boolean;
  /** When such a fence that nobody signals ends, and with which error; `null`: with none, as vgem of Linux 6.1 ends it. */
  readonly fenceTimeoutNs: number;
  readonly fenceTimeoutError: ErrnoCode | null;
  /**
   * A dma-buf is one object to all clients of the device, with one name; else, as with DRM's own helpers, each client that imports
   * it gets an object of its own.
   */
  readonly sharesImports: boolean;
  /** How the CPU sees its objects. */
  readonly memory: CpuMapping['attribute'];
  /** Capabilities whose value is not the usual one; see {@link DRM_CAP}. */
  readonly caps: Readonly<Record<number, number>>;
}

const SOFTWARE: Omit<DrmDriver, 'name' | 'memory'> = {
  modeset: false,
  syncobj: 'none',
  fences: false,
  fenceTimeoutNs: seconds(10),
  fenceTimeoutError: 'ETIMEDOUT',
  sharesImports: false,
  caps: {},
};

/** Makes buffers and fences, and nothing else. Its memory is write-combined. */
export const vgemDriver: DrmDriver = { ...SOFTWARE, name: 'vgem', fences: true, memory: 'write-combined' };

/** A display without hardware. */
export const vkmsDriver: DrmDriver = { ...SOFTWARE, name: 'vkms', modeset: true, memory: 'cached' };

/** What a {@link DrmDevice} is made from. */
export interface DrmDeviceOptions {
  readonly driver: DrmDriver;
  /** What it attaches and maps imported buffers with. */
  readonly device: Device;
  readonly pages: PageAllocator;
  readonly coherency: CoherencyDomain;
}

/** First page for mmap: offsets below stand for nothing. @see Linux 6.1 `include/drm/drm_vma_manager.h` DRM_FILE_PAGE_OFFSET_START */
const FIRST_MMAP_PAGE = 0x100000;

/** See the header. Plain throughout. */
export class DrmDevice {
  readonly sim: Simulator;
  readonly driver: DrmDriver;
  readonly device: Device;
  readonly pages: PageAllocator;
  readonly coherency: CoherencyDomain;
  readonly #names = new HandleTable<GemObject>();
  readonly #objects = new Set<GemObject>();
  readonly #places = new Map<number, GemObject>();
  #nextPage = FIRST_MMAP_PAGE;
  #created = 0;

  constructor(sim: Simulator, options: DrmDeviceOptions) {
    this.sim = sim;
    this.driver = options.driver;
    this.device = options.device;
    this.pages = options.pages;
    this.coherency = options.coherency;
  }

  /** Objects that live, oldest first. */
  get objects(): readonly GemObject[] {
    return [...this.#objects];
  }

  /** A new object of whole pages; the caller gets the only reference. Its memory comes when it is needed. */
  createObject(sizeBytes: number, imported: GemImport | null = null): GemObject {
    const object = new GemObject(this, `${this.device.name} bo${this.#created++}`, sizeBytes, imported);
    this.#objects.add(object);
    return object;
  }

  /** @internal The object that `buf` is to all clients, or `null`: there is none, or each client has its own. */
  importOf(buf: DmaBuf): GemObject | null {
    if (!this.driver.sharesImports) return null;
    for (const object of this.#objects) if (object.imported?.buf === buf) return object;
    return null;
  }

  /** @internal The object called `name`, or `null`. */
  byName(name: number): GemObject | null {
    return this.#names.get(name);
  }

  /** @internal The object that lies at byte `offset` of the device's files, or `null`. */
  byOffset(offset: number): GemObject | null {
    return this.#places.get(offset) ?? null;
  }

  /** @internal */
  nameObject(object: GemObject): number {
    return this.#names.add(object);
  }

  /** @internal */
  unname(name: number): void {
    this.#names.remove(name);
  }

  /** @internal Gives `object` a place in the device's files. @returns its offset in bytes. */
  placeObject(object: GemObject): number {
    const offset = this.#nextPage * PAGE_SIZE;
    this.#nextPage += object.sizeBytes / PAGE_SIZE;
    this.#places.set(offset, object);
    return offset;
  }

  /** @internal `object`, whose place is at `offset`, is gone. */
  forget(object: GemObject, offset: number): void {
    this.#objects.delete(object);
    this.#places.delete(offset);
  }
}
