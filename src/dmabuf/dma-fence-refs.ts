/**
 * The references to a fence, and its end.
 *
 * Rules:
 * 1. Whoever makes a fence has one reference. Containers, reservations and sync files take references of their own and give
 *    them back; those they were given stay with the caller.
 * 2. The last `put` frees the fence, in place, in the context of whoever calls. It does not vanish: a freed fence is named when
 *    it is used.
 * 3. A program that never calls `put` keeps its fences, and none of this concerns it.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-fence.c` dma_fence_release
 */
import { InvariantError } from '../base/assert.ts';
import { Waitable } from '../sim/task.ts';
import type { DmaFenceWorld } from './dma-fence-world.ts';

/** @internal The part of a `DmaFence` that counts references. */
export abstract class DmaFenceRefs extends Waitable<void> {
  /** What all fences of the simulator share. */
  protected readonly world: DmaFenceWorld;
  #refs = 1;
  #freed: { readonly who: string; readonly timeNs: number } | null = null;

  constructor(world: DmaFenceWorld) {
    super();
    this.world = world;
    world.live++;
    const { objects } = world.sim;
    if (objects.enabled) objects.track(this, 'fence', { of: 'fence', owner: world.sim.currentTask?.name ?? 'kernel' });
  }

  /** As reports call it. */
  abstract get name(): string;

  /** Whether it was signalled. */
  abstract get signaled(): boolean;

  /** References to it; 0 once it was freed. */
  get refs(): number {
    return this.#refs;
  }

  /** One more reference. @returns itself. @throws {HazardError} `fence.use-after-free`. @see Linux 6.1 dma_fence_get */
  get(): this {
    if (this.#freed !== null) this.usedAfterFree('gets a reference, the first one,');
    this.#refs++;
    if (this.world.sim.objects.enabled) this.world.sim.objects.got(this);
    return this;
  }

  /** One more reference, unless it was freed: for who reads a pointer without its lock. @see Linux 6.1 dma_fence_get_rcu */
  tryGet(): boolean {
    if (this.#refs === 0) return false;
    this.get();
    return true;
  }

  /** @internal {@link tryGet} for `holder`, as {@link getFor}. */
  tryGetFor(holder: object): boolean {
    if (this.#refs === 0) return false;
    this.getFor(holder);
    return true;
  }

  /**
   * Gives a reference back; the last one frees the fence, in place. Plain.
   *
   * @throws {InvariantError} there is none left to give back.
   * @throws {HazardError} `fence.released-pending`: somebody waits, and now nobody can signal it. It has then signalled with
   *   `EDEADLK`.
   * @see Linux 6.1 dma_fence_put, dma_fence_release
   */
  put(): void {
    if (this.#refs === 0) {
      throw new InvariantError(
        `fence ${this.name}: put of a reference that nobody has; one put for each get and each new fence`,
      );
    }
    this.#refs--;
    if (this.world.sim.objects.enabled) this.#notePut();
    if (this.#refs > 0) return;
    const { sim } = this.world;
    const isLost = this.signalLost();
    this.#freed = { who: sim.currentTask?.name ?? 'a callback', timeNs: sim.now };
    this.world.live--;
    this.onRelease();
    if (!isLost) return;
    const what = 'was freed while somebody waited for it, so that nobody could signal it any more';
    this.world.report('fence.released-pending', this, what, 'signal it before the last put');
  }

  /** @internal {@link get} for `holder`: the ledger knows whose reference it is. */
  getFor(holder: object): this {
    if (this.world.sim.objects.enabled) this.world.sim.objects.hold(holder, this);
    return this.get();
  }

  /** @internal {@link put} of what {@link getFor} took for `holder`. */
  putFor(holder: object): void {
    this.put();
    const { objects } = this.world.sim;
    if (!objects.enabled) return;
    objects.unhold(holder, this);
    if (this.signaled) objects.over(this);
  }

  /** It has signalled. */
  protected noteSignaled(): void {
    this.world.signals++;
    if (this.world.sim.objects.enabled) this.world.sim.objects.over(this);
  }

  protected get isFreed(): boolean {
    return this.#freed !== null;
  }

  protected usedAfterFree(how: string): void {
    const what = `${how} after it was freed by ${this.#freed?.who} at ${this.#freed?.timeNs} ns`;
    this.world.report('fence.use-after-free', this, what, 'keep a reference as long as it is used');
  }

  /** Signals with `EDEADLK` when it is pending and somebody waits. @returns whether that was so. */
  protected abstract signalLost(): boolean;

  /** Gives back what it holds, when it is freed. */
  protected abstract onRelease(): void;

  #notePut(): void {
    const { objects } = this.world.sim;
    objects.put(this);
    if (this.signaled) objects.over(this);
  }
}
