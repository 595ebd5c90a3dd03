/**
 * What the live tasks owe, in columns by slot. Apart from the tasks, because few of them owe anything at a given time.
 */
const FIRST_TASKS = 64;

/** @internal Used by the scheduler only. */
export class TaskClocks {
  #debt = new Float64Array(FIRST_TASKS);
  #notBefore = new Float64Array(FIRST_TASKS);

  /** Prepares the row of a new task. */
  reset(slot: number): void {
    if (slot >= this.#debt.length) this.#grow();
    this.#debt[slot] = 0;
    this.#notBefore[slot] = 0;
  }

  /** Charged and not paid yet, in ns; may be a fraction, and below 0 by less than 1 after a rounded payment. */
  debt(slot: number): number {
    return this.#debt[slot] as number;
  }

  charge(slot: number, ns: number): void {
    this.#debt[slot] = (this.#debt[slot] as number) + ns;
  }

  /** Takes the debt off, in whole ns; a fraction paid too much is credited to the next charge. */
  pay(slot: number): number {
    const debt = this.#debt[slot] as number;
    if (debt <= 0) return 0;
    const whole = Math.ceil(debt);
    this.#debt[slot] = debt - whole;
    return whole;
  }

  /** When the debt of the last step is paid. */
  notBefore(slot: number): number {
    return this.#notBefore[slot] as number;
  }

  setNotBefore(slot: number, timeNs: number): void {
    this.#notBefore[slot] = timeNs;
  }

  #grow(): void {
    const debt = new Float64Array(this.#debt.length * 2);
    const notBefore = new Float64Array(debt.length);
    debt.set(this.#debt);
    notBefore.set(this.#notBefore);
    this.#debt = debt;
    this.#notBefore = notBefore;
  }
}
