/**
 * The kernel's own mapping of a whole buffer: made for the first user, shared by all, taken away after the last.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_vmap, dma_buf_vunmap
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { Mutex } from '../sim/mutex.ts';
import type { Op } from '../sim/op.ts';
import type { DmaBuf } from './dma-buf.ts';
import { noteVmapped, noteVunmapped } from './dma-buf-ledger.ts';
import { callExporter } from './dma-buf-locking.ts';
import type { CpuMapping } from './dma-buf-ops.ts';

/** @internal The shared mapping of one buffer and its users. */
export class KernelMapping<Priv> {
  readonly #buf: DmaBuf<Priv>;
  readonly #mutex: Mutex;
  #map: CpuMapping | null = null;
  #users = 0;

  constructor(buf: DmaBuf<Priv>) {
    this.#buf = buf;
    this.#mutex = new Mutex(buf.sim, `dmabuf(${buf.name})`);
  }

  /** Users now. */
  get users(): number {
    return this.#users;
  }

  *take(): Op<CpuMapping> {
    const buf = this.#buf;
    const { vmap } = buf.ops;
    if (vmap === undefined) throw new ErrnoError('EINVAL', 'vmap', `${buf.exporterName} has no vmap`);
    yield* this.#mutex.lock();
    try {
      this.#map ??= yield* this.#make(vmap);
      this.#users++;
      noteVmapped(buf);
      this.#trace('dmabuf.vmap');
      return this.#map;
    } finally {
      this.#mutex.unlock();
    }
  }

  *give(map: CpuMapping): Op<void> {
    const buf = this.#buf;
    yield* this.#mutex.lock();
    try {
      assert(this.#users > 0, '%s: more vunmaps than vmaps', buf.name);
      assert(map === this.#map, '%s: vunmap of another mapping than vmap gave', buf.name);
      this.#users--;
      noteVunmapped(buf);
      this.#trace('dmabuf.vunmap');
      if (this.#users > 0) return;
      this.#map = null;
      yield* callExporter(buf, 'vunmap', () => buf.ops.vunmap?.(buf, map));
    } finally {
      this.#mutex.unlock();
    }
  }

  *#make(vmap: NonNullable<DmaBuf<Priv>['ops']['vmap']>): Op<CpuMapping> {
    const buf = this.#buf;
    try {
      return yield* callExporter(buf, 'vmap', () => vmap.call(buf.ops, buf));
    } catch (error) {
      if (error instanceof ErrnoError) buf.core.warn('vmap', `${buf.exporterName}: vmap of ${buf.name}: ${error.code}`);
      throw error;
    }
  }

  #trace(kind: 'dmabuf.vmap' | 'dmabuf.vunmap'): void {
    const { sim, name } = this.#buf;
    const { trace, now } = sim;
    if (trace.enabled) trace.emit({ kind, timeNs: now, buf: name, count: this.#users });
  }
}
