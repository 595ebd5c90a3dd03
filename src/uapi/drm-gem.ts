/**
 * GEM objects: buffers of a DRM device that its clients know by handles.
 *
 * 1. An object has references and, apart from them, a count of handles; each handle holds a reference, too.
 * 2. As long as an object has a handle, it also keeps the dma-buf it was exported as or imported from, so exporting it again
 *    gives the same one. The dma-buf keeps a reference to the object.
 * 3. A name ({@link GemObject.flinkName}) goes with the last handle; the memory with the last reference.
 * 4. An imported object keeps an attachment and a mapping of its dma-buf from import to its end.
 *
 * **Inaccuracies.** An imported object's attachment ends as work at the end of the system call that put the last reference, in
 * Linux in the middle of it.
 *
 * @see Linux 6.1 `drivers/gpu/drm/drm_gem.c`, `drm_gem_shmem_helper.c`; `Documentation/gpu/drm-mm.rst`
 */
import { PAGE_SIZE, type Pfn, pfnToPhys } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Accessor } from '../base/hazards.ts';
import { SgTable } from '../dma-api/sg-table.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import type { DmaBufAttachment } from '../dmabuf/dma-buf-attachment.ts';
import { dmaBufCore } from '../dmabuf/dma-buf-core.ts';
import { DmaResv } from '../dmabuf/dma-resv.ts';
import type { FrameBlocks } from '../mem/page-allocator.ts';
import type { Op } from '../sim/op.ts';
import type { DrmDevice } from './drm-device.ts';
import { noteObjectMade } from './drm-object-notes.ts';

/** What keeps an imported object's memory reachable. */
export interface GemImport {
  readonly buf: DmaBuf;
  readonly attachment: DmaBufAttachment;
  /** As the device sees the memory. */
  readonly table: SgTable;
}

const CLEARING: Accessor = {
  name: 'kernel',
  kind: 'cpu',
  via: 'drm clearing pages',
  beforeRead: '',
  afterWrite: 'map the object for the device before it is used',
};

/** See the header. Plain throughout. */
export class GemObject {
  readonly name: string;
  readonly device: DrmDevice;
  readonly sizeBytes: number;
  /** The fences of its users; an imported one has those of its dma-buf. */
  readonly resv: DmaResv;
  /** What it was imported from, or `null`: its memory is the device's own. */
  readonly imported: GemImport | null;
  /** The dma-buf it is known as, while it has a handle. */
  #dmaBuf: DmaBuf | null = null;
  #flinkName = 0;
  #references = 1;
  #handles = 0;
  #mmapOffset = 0;
  #blocks: FrameBlocks | null = null;
  #memory: SgTable | null = null;

  /** @internal Use `DrmDevice.createObject`. The caller gets the first reference. */
  constructor(device: DrmDevice, name: string, sizeBytes: number, imported: GemImport | null) {
    this.device = device;
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.imported = imported;
    this.resv = imported === null ? new DmaResv(device.sim, name) : imported.buf.resv;
    noteObjectMade(this);
  }

  /** References that are held; 0: it is gone. */
  get references(): number {
    return this.#references;
  }

  /** Handles that clients have to it. */
  get handleCount(): number {
    return this.#handles;
  }

  /** The dma-buf it is known as, or `null`. */
  get dmaBuf(): DmaBuf | null {
    return this.#dmaBuf;
  }

  /** Its name in its device, 0: none. @see Linux 6.1 drm_gem_flink_ioctl */
  get flinkName(): number {
    return this.#flinkName;
  }

  /** Takes a reference. @throws {InvariantError} the last one was put. */
  get(): this {
    assert(this.#references > 0, '%s: get after its last put', this.name);
    this.#references++;
    this.device.sim.objects.got(this);
    return this;
  }

  /** Gives a reference back; with the last its memory goes. @throws {InvariantError} more puts than gets. */
  put(): void {
    assert(this.#references > 0, '%s: more puts than gets', this.name);
    this.#references--;
    this.device.sim.objects.put(this);
    if (this.#references > 0) return;
    this.device.forget(this, this.#mmapOffset);
    const { imported } = this;
    if (imported !== null)
      dmaBufCore(this.device.sim).defer(`end of import ${this.name}`, () => endImport(this, imported));
    if (this.#blocks !== null) this.device.pages.freeBulk(this.#blocks);
    if (imported === null && !this.resv.isLocked) this.resv.fini();
  }

  /**
   * Where its memory is: that of an own object comes, cleared, when it is first asked for. Lines of it leave the caches when the CPU
   * does not see it through them.
   *
   * @throws {ErrnoError} `ENOMEM` (retry later).
   */
  memory(): SgTable {
    if (this.imported !== null) return this.imported.table;
    if (this.#memory !== null) return this.#memory;
    const { pages, coherency, driver } = this.device;
    const blocks = pages.allocBulk({ pageCount: this.sizeBytes / PAGE_SIZE, owner: this.name, orders: [0] });
    const frames = Array.from(blocks.firsts, (first) => first as Pfn);
    this.#blocks = blocks;
    for (const frame of frames) {
      coherency.zero(pfnToPhys(frame), PAGE_SIZE, CLEARING);
      if (driver.memory !== 'cached') coherency.cleanInvalidate(pfnToPhys(frame), PAGE_SIZE, CLEARING);
    }
    this.#memory = SgTable.fromPages(frames, { sizeBytes: this.sizeBytes });
    return this.#memory;
  }

  /** @internal A client gets a handle. Takes a reference. */
  addHandle(): void {
    this.get();
    this.#handles++;
  }

  /** @internal A client's handle is gone: rules 2 and 3. */
  dropHandle(): void {
    this.#handles--;
    if (this.#handles === 0) {
      this.device.unname(this.#flinkName);
      this.#flinkName = 0;
      const buf = this.#dmaBuf;
      this.#dmaBuf = null;
      buf?.put();
      if (buf !== null) this.device.sim.objects.unhold(this, buf);
    }
    this.put();
  }

  /** @internal Keeps `buf`, with a reference of its own, while it has a handle. */
  setDmaBuf(buf: DmaBuf): void {
    if (this.#dmaBuf !== null) return;
    this.device.sim.objects.hold(this, buf);
    this.#dmaBuf = buf.get();
  }

  /** @internal Its name, a new one if need be. */
  flink(): number {
    if (this.#flinkName === 0) this.#flinkName = this.device.nameObject(this);
    return this.#flinkName;
  }

  /** @internal Where to mmap it in files of its device; in bytes. */
  mmapOffset(): number {
    if (this.#mmapOffset === 0) this.#mmapOffset = this.device.placeObject(this);
    return this.#mmapOffset;
  }
}

function* endImport(object: GemObject, { buf, attachment, table }: GemImport): Op<void> {
  const unmap = () => attachment.unmapUnlocked(table, 'bidirectional');
  try {
    yield* unmap();
  } finally {
    // Also when the task is killed meanwhile: nobody else would give it back.
    try {
      if (attachment.mappings.has(table)) yield* unmap();
      yield* buf.detach(attachment);
    } finally {
      buf.put();
      buf.sim.objects.unhold(object, buf);
    }
  }
}
