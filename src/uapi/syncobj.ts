/**
 * Sync objects: holders of a fence that can be exchanged. A binary one holds one fence; a timeline holds a chain whose links are
 * its points.
 *
 * 1. A binary use replaces the fence. {@link Syncobj.addPoint} puts a link in front of the chain.
 * 2. Point 0 is whatever the object holds now.
 * 3. A point is reached when its fence and those of all points before it have signalled; it exists from when it, or a later one, is
 *    added. What waits for one that does not exist yet is asked again at every change.
 * 4. A point that is not later than the last begins a new timeline behind all that is pending: the number that
 *    {@link Syncobj.reached} tells falls back to 0.
 *
 * The links of the present timeline are also kept in a list, oldest first, from which those that were reached go: finding and
 * asking for a point does not walk the chain.
 *
 * @see Linux 6.1 `drivers/gpu/drm/drm_syncobj.c`; `include/drm/drm_syncobj.h`
 */
import { assert } from '../base/assert.ts';
import type { DmaFence } from '../dmabuf/dma-fence.ts';
import { DmaFenceChain, dmaFenceChainWalk } from '../dmabuf/dma-fence-chain.ts';
import { dmaFenceGetStub } from '../dmabuf/dma-fence-stub.ts';
import type { Simulator } from '../sim/simulator.ts';
import { noteSyncobjMade } from './drm-object-notes.ts';

/** Who follows an object without holding it. Plain. */
export interface SyncobjListener {
  /** What it holds is another thing now. */
  changed(): undefined;
  /** The object is gone. */
  gone?(): undefined;
}

/** See the header. Plain throughout. */
export class Syncobj {
  readonly sim: Simulator;
  #fence: DmaFence | null = null;
  #references = 1;
  readonly #listeners = new Set<SyncobjListener>();
  /** The head that {@link #links} belongs to, or `null`: it has to be made anew. */
  #indexed: DmaFence | null = null;
  /** Links from {@link #first} on are not known to be reached; each with a reference. */
  #links: DmaFenceChain[] = [];
  #first = 0;
  /** The last point that was reached. */
  #reached = 0;

  /** The caller gets the first reference. Holds no fence. */
  constructor(sim: Simulator) {
    this.sim = sim;
    if (sim.objects.enabled) noteSyncobjMade(this);
  }

  /** What it holds now, without a reference. */
  get fence(): DmaFence | null {
    return this.#fence;
  }

  /** References that are held; 0: it is gone. */
  get references(): number {
    return this.#references;
  }

  /** Takes a reference. @throws {InvariantError} the last one was put. */
  get(): this {
    assert(this.#references > 0, 'syncobj: get after its last put');
    this.#references++;
    this.sim.objects.got(this);
    return this;
  }

  /** Gives a reference back; with the last it lets go of its fence. @throws {InvariantError} more puts than gets. */
  put(): void {
    assert(this.#references > 0, 'syncobj: more puts than gets');
    this.#references--;
    this.sim.objects.put(this);
    if (this.#references > 0) return;
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    this.replaceFence(null);
    for (const listener of listeners) listener.gone?.();
  }

  /** Holds `fence`, with a reference of its own, instead of what it held. @see Linux 6.1 drm_syncobj_replace_fence */
  replaceFence(fence: DmaFence | null): void {
    const old = this.#fence;
    this.#forgetLinks();
    this.#fence = fence?.getFor(this) ?? null;
    old?.putFor(this);
    if (fence !== old) this.#tell();
  }

  /** Signals it from the CPU: holds a fence that has signalled. @see Linux 6.1 drm_syncobj_assign_null_handle */
  signal(): void {
    const stub = dmaFenceGetStub(this.sim);
    this.replaceFence(stub);
    stub.put();
  }

  /**
   * Adds point `point` with `fence`, of which it takes a reference; see rule 4 for one that is not later than the last.
   *
   * @param point - 1 or more; 0 is taken as any other number.
   * @see Linux 6.1 drm_syncobj_add_point
   */
  addPoint(fence: DmaFence, point: number): void {
    const prev = this.#fence;
    if (prev !== null && this.#indexed !== prev) this.#index(prev);
    const link = new DmaFenceChain(this.sim, prev, fence, point);
    if (!(prev instanceof DmaFenceChain) || prev.context !== link.context) this.#forgetLinks();
    this.#links.push(link.getFor(this));
    this.#fence = link;
    this.sim.objects.adopt(this, link);
    this.#indexed = link;
    prev?.putFor(this);
    this.#advance();
    this.#tell();
  }

  /** {@link addPoint} from the CPU: a point without anything to wait for of its own. */
  signalPoint(point: number): void {
    const stub = dmaFenceGetStub(this.sim);
    this.addPoint(stub, point);
    stub.put();
  }

  /**
   * The fence that stands for `point`, with a reference for the caller; a signalled one when it was reached before.
   *
   * @returns `null`: it does not exist yet.
   * @see Linux 6.1 drm_syncobj_find_fence
   */
  findFence(point: number): DmaFence | null {
    const head = this.#fence;
    if (head === null || point === 0) return head?.get() ?? null;
    if (!(head instanceof DmaFenceChain) || head.seqno < point) return null;
    if (this.#indexed !== head) this.#index(head);
    this.#advance();
    return point <= this.#reached ? dmaFenceGetStub(this.sim) : this.#linkOf(point).get();
  }

  /** The last point that was reached; 0 for one that is no timeline. @see Linux 6.1 drm_syncobj_query_ioctl */
  reached(): number {
    const head = this.#fence;
    if (!(head instanceof DmaFenceChain)) return 0;
    if (this.#indexed !== head) this.#index(head);
    this.#advance();
    return this.#reached;
  }

  /** The last point that was added; 0 for one that is no timeline. @see Linux 6.1 DRM_SYNCOBJ_QUERY_FLAGS_LAST_SUBMITTED */
  submitted(): number {
    return this.#fence instanceof DmaFenceChain ? this.#fence.seqno : 0;
  }

  /** Tells `listener` of every change, until {@link unlisten}. */
  listen(listener: SyncobjListener): void {
    this.#listeners.add(listener);
  }

  /** Ends {@link listen}. */
  unlisten(listener: SyncobjListener): void {
    this.#listeners.delete(listener);
  }

  #tell(): void {
    if (this.#listeners.size === 0) return;
    for (const listener of [...this.#listeners]) listener.changed();
  }

  /** The oldest link that is not reached and at or behind `point`; there is one. */
  #linkOf(point: number): DmaFenceChain {
    let low = this.#first;
    let high = this.#links.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#links[middle] as DmaFenceChain).seqno >= point) high = middle;
      else low = middle + 1;
    }
    const link = this.#links[low];
    assert(link !== undefined, 'syncobj: point %s is neither reached nor in the list', point);
    return link;
  }

  /** Lets go of links that were reached. Those go from the chain, too. */
  #advance(): void {
    for (let link = this.#links[this.#first]; link?.isSignaled() === true; link = this.#links[this.#first]) {
      this.#reached = link.seqno;
      this.#first++;
      const next = this.#links[this.#first];
      if (next !== undefined) dmaFenceChainWalk(next);
      link.putFor(this);
    }
    if (2 * this.#first < this.#links.length || this.#first === 0) return;
    this.#links.splice(0, this.#first);
    this.#first = 0;
  }

  #forgetLinks(): void {
    for (let i = this.#first; i < this.#links.length; i++) this.#links[i]?.putFor(this);
    this.#links = [];
    this.#first = 0;
    this.#reached = 0;
    this.#indexed = null;
  }

  /** Makes the list for a chain that came from elsewhere. */
  #index(head: DmaFence): void {
    this.#forgetLinks();
    this.#indexed = head;
    for (let at: DmaFence | null = head; at instanceof DmaFenceChain; at = dmaFenceChainWalk(at)) {
      if (at.context !== head.context) break;
      this.#links.push(at.getFor(this));
      this.#reached = at.prevSeqno;
    }
    this.#links.reverse();
  }
}
