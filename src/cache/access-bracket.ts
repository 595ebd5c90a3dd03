/**
 * The bracket around an access: when the outermost one closes, the access is done; then its cost is charged, and last
 * the shadow reports, which may throw.
 */
import type { Accessor } from '../base/hazards.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { CpuPort } from './cpu-port.ts';
import type { Shadow } from './shadow.ts';

/** Brackets the accesses of one domain. @internal */
export class AccessBracket {
  readonly #sim: Simulator;
  readonly #cpu: CpuPort;
  readonly #shadow: Shadow | undefined;
  #depth = 0;

  constructor(sim: Simulator, cpu: CpuPort, shadow: Shadow | undefined) {
    this.#sim = sim;
    this.#cpu = cpu;
    this.#shadow = shadow;
  }

  /** `actor` begins an access. What follows must not throw before {@link leave}. */
  enter(actor: Accessor): void {
    this.#depth++;
    this.#shadow?.enter(actor);
  }

  /** The access is done. @throws {HazardError} under policy `'throw'`. */
  leave(): void {
    this.#depth--;
    if (this.#depth > 0) return;
    this.#pay();
    this.#shadow?.finish();
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

  #abandon(): void {
    this.#pay();
    this.#shadow?.abandon();
  }

  #pay(): void {
    const { debtNs } = this.#cpu;
    this.#cpu.debtNs = 0;
    if (debtNs > 0) this.#sim.charge(debtNs);
  }
}
