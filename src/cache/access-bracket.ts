/**
 * The bracket around an access: when the outermost one closes, the access is done; then its cost is charged, and last
 * the shadow reports, which may throw.
 */
import type { PhysAddr } from '../base/addr.ts';
import type { Accessor } from '../base/hazards.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { Activity } from './activity.ts';
import type { CpuPort } from './cpu-port.ts';
import type { FreeHardware } from './free-hardware.ts';
import type { Shadow } from './shadow.ts';

/** Who acts when hardware does something of its own accord. @internal */
export const HARDWARE: Accessor = { name: 'cpu cache', kind: 'cpu', via: 'hardware', beforeRead: '', afterWrite: '' };

/** Who has a part in every access. */
export interface BracketParts {
  readonly cpu: CpuPort;
  readonly shadow: Shadow | undefined;
  readonly activity: Activity | null;
  readonly hardware: FreeHardware | undefined;
}

/** Brackets the accesses of one domain. @internal */
export class AccessBracket {
  readonly #sim: Simulator;
  readonly #cpu: CpuPort;
  readonly #shadow: Shadow | undefined;
  readonly #activity: Activity | null;
  readonly #hardware: FreeHardware | undefined;
  #depth = 0;

  constructor(sim: Simulator, parts: BracketParts) {
    this.#sim = sim;
    this.#cpu = parts.cpu;
    this.#shadow = parts.shadow;
    this.#activity = parts.activity;
    this.#hardware = parts.hardware;
  }

  /**
   * `actor` begins an access to [phys, phys + length), through a cached mapping if `cached`; before it, as part of it, hardware that is free
   * does what it likes. What follows must not throw before {@link leave}.
   */
  begin(actor: Accessor, phys: PhysAddr, length: number, cached: boolean): void {
    if (this.#hardware === undefined) this.enter(actor);
    else this.#beginFree(this.#hardware, actor, phys, length, cached);
  }

  /** `actor` acts from now on; hardware has nothing to say. What follows must not throw before {@link leave}. */
  enter(actor: Accessor): void {
    this.#depth++;
    this.#shadow?.enter(actor);
  }

  /** The access is done. @throws {HazardError} under policy `'throw'`. */
  leave(): void {
    this.#depth--;
    if (this.#depth > 0) return;
    this.#pay();
    try {
      this.#shadow?.finish();
    } finally {
      this.#activity?.finish();
    }
  }

  /** {@link leave}, of a read of [phys, phys + length) by `reader`. */
  leaveRead(phys: PhysAddr, length: number, reader: Accessor): void {
    this.#shadow?.bounces.wasRead(phys, length, reader);
    this.leave();
  }

  /** Runs `body` with all its accesses as one. If it throws, they are paid but not reported. */
  around<T>(body: () => T): T {
    this.#depth++;
    let result: T;
    try {
      result = body();
    } catch (error) {
      this.#depth--;
      if (this.#depth === 0) this.#abandon();
      throw error;
    }
    this.leave();
    return result;
  }

  #beginFree(hardware: FreeHardware, actor: Accessor, phys: PhysAddr, length: number, cached: boolean): void {
    this.enter(HARDWARE);
    try {
      hardware.act(phys, length, cached);
    } catch (error) {
      this.#depth--;
      if (this.#depth === 0) this.#abandon();
      throw error;
    }
    this.#shadow?.enter(actor);
  }

  #abandon(): void {
    this.#pay();
    this.#shadow?.abandon();
    this.#activity?.abandon();
  }

  #pay(): void {
    const { debtNs } = this.#cpu;
    this.#cpu.debtNs = 0;
    if (debtNs > 0) this.#sim.charge(debtNs);
  }
}
