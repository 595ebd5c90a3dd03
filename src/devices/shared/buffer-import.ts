/**
 * An importer's side of one buffer: a reference, an attachment and at most one mapping, taken in this order and given
 * back in reverse, whatever fails or is killed in between.
 */
import { assert } from '../../base/assert.ts';
import type { Device } from '../../dma-api/device.ts';
import type { DmaDirection } from '../../dma-api/direction.ts';
import type { SgTable } from '../../dma-api/sg-table.ts';
import type { DmaBuf } from '../../dmabuf/dma-buf.ts';
import type { DmaBufAttachment } from '../../dmabuf/dma-buf-attachment.ts';
import type { Op } from '../../sim/op.ts';
import { SgWindow } from './sg-window.ts';
import { unwind } from './unwind.ts';

/** Made by {@link BufferImport.open}. */
export class BufferImport {
  readonly buf: DmaBuf;
  readonly dir: DmaDirection;
  readonly #att: DmaBufAttachment;
  #sgt: SgTable | null = null;
  #window: SgWindow | null = null;

  private constructor(att: DmaBufAttachment, dir: DmaDirection) {
    this.buf = att.buf;
    this.dir = dir;
    this.#att = att;
  }

  /**
   * Takes a reference and attaches `dev`. Waits for the exporter.
   *
   * @throws {ErrnoError} what the exporter's `attach` throws; nothing is left then.
   */
  static *open(buf: DmaBuf, dev: Device, dir: DmaDirection): Op<BufferImport> {
    buf.get();
    let opened: BufferImport | null = null;
    try {
      opened = new BufferImport(yield* buf.attach(dev), dir);
      buf.sim.objects.adopt(opened.#att, buf);
      return opened;
    } finally {
      if (opened === null) buf.put();
    }
  }

  /** The mapping, or `null`. */
  get sgt(): SgTable | null {
    return this.#sgt;
  }

  /** The mapped buffer's bytes. @throws {InvariantError} it is not mapped. */
  get window(): SgWindow {
    assert(this.#window !== null, '%s is not mapped for %s', this.buf.name, this.#att.dev.name);
    return this.#window;
  }

  /** @internal Where the bytes of the mapped buffer are, for watchers; empty when it is not mapped. Plain. */
  physPieces(): { readonly phys: number; readonly sizeBytes: number }[] {
    const sgt = this.#sgt;
    if (sgt === null) return [];
    return Array.from({ length: sgt.origNents }, (_, i) => ({ phys: sgt.extentPhys(i), sizeBytes: sgt.length(i) }));
  }

  /**
   * Maps the buffer for the device, unless it is mapped already. Waits for the reservation lock and the exporter.
   *
   * @throws {ErrnoError} what the exporter and the DMA API throw; nothing is mapped then.
   */
  *map(): Op<SgTable> {
    if (this.#sgt !== null) return this.#sgt;
    let sgt: SgTable | null = null;
    try {
      sgt = yield* this.#att.mapUnlocked(this.dir);
    } finally {
      if (sgt === null) yield* this.unmap();
    }
    this.#sgt = sgt;
    this.#window = new SgWindow(this.#att.dev, sgt);
    return sgt;
  }

  /** Ends the mapping, if there is one. Waits for the reservation lock and the exporter. */
  *unmap(): Op<void> {
    this.#sgt = null;
    this.#window = null;
    // All of the attachment's, since a task that is killed late in a map leaves one that nobody was told of.
    yield* unwind(
      [...this.#att.mappings].map(
        ([sgt, dir]) =>
          () =>
            this.#att.unmapUnlocked(sgt, dir),
      ),
    );
  }

  /** Unmaps, detaches and gives the reference back. Waits for the exporter. */
  *close(): Op<void> {
    try {
      yield* unwind([() => this.unmap(), () => this.buf.detach(this.#att)]);
    } finally {
      this.buf.put();
      this.buf.sim.objects.unhold(this.#att, this.buf);
    }
  }
}
