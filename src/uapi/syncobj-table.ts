/** The sync objects of one client, by handle. @see Linux 6.1 `drivers/gpu/drm/drm_syncobj.c` */
import { ErrnoError } from '../base/errors.ts';
import { dmaFencePrivateStub } from '../dmabuf/dma-fence-stub.ts';
import type { Simulator } from '../sim/simulator.ts';
import { noteSyncobjHandle } from './drm-object-notes.ts';
import { HandleTable } from './handle-table.ts';
import { Syncobj } from './syncobj.ts';

/** @internal Plain throughout. */
export class SyncobjTable {
  readonly #sim: Simulator;
  readonly #table = new HandleTable<Syncobj>();

  constructor(sim: Simulator) {
    this.#sim = sim;
  }

  /** A new object. @param signaled - it holds a fence that has signalled just now; else none. */
  create(signaled: boolean): number {
    const syncobj = new Syncobj(this.#sim);
    if (signaled) {
      const stub = dmaFencePrivateStub(this.#sim, this.#sim.now);
      syncobj.replaceFence(stub);
      stub.put();
    }
    return this.#noted(syncobj, this.#table.add(syncobj));
  }

  /** A handle for an object that has one elsewhere; keeps a reference of its own. */
  add(syncobj: Syncobj): number {
    return this.#noted(syncobj.get(), this.#table.add(syncobj));
  }

  /** Closes a handle. @throws {ErrnoError} `EINVAL` there is none (never retry). */
  destroy(handle: number): void {
    const syncobj = this.#table.remove(handle);
    if (syncobj === null) throw new ErrnoError('EINVAL', 'syncobj', `client has no sync object ${handle}`);
    syncobj.put();
    this.#sim.objects.end(this.#table, 'handle', handle);
  }

  /** The object behind `handle`, or `null`; without a reference. */
  get(handle: number): Syncobj | null {
    return this.#table.get(handle);
  }

  /** As {@link get}. @throws {ErrnoError} `ENOENT` there is none (never retry). */
  find(handle: number): Syncobj {
    const syncobj = this.get(handle);
    if (syncobj === null) throw new ErrnoError('ENOENT', 'syncobj', `client has no sync object ${handle}`);
    return syncobj;
  }

  /** The client is gone. */
  release(): void {
    for (const handle of this.#table.handles) this.destroy(handle);
  }

  #noted(syncobj: Syncobj, handle: number): number {
    noteSyncobjHandle(syncobj, { subject: this.#table, within: this, handle });
    return handle;
  }
}
