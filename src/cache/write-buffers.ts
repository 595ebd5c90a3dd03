/** The write-combining buffers of the CPUs of a domain, one each. */
import type { PhysAddr } from '../base/addr.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { WriteCombiningBuffer } from './write-combining.ts';

/** One buffer a CPU, made when that CPU first writes into it. @internal */
export class WriteBuffers {
  /** Those that were made, by the number of their CPU. */
  all: readonly WriteCombiningBuffer[] = [];
  /** Whether uncached writes stay in them, too: where hardware is free. */
  readonly gatherUncached: boolean;
  readonly #sim: Simulator;
  readonly #make: () => WriteCombiningBuffer;
  readonly #byCpu: (WriteCombiningBuffer | undefined)[] = [];

  constructor(sim: Simulator, make: () => WriteCombiningBuffer) {
    this.#sim = sim;
    this.gatherUncached = sim.hardwareIsFree;
    this.#make = make;
  }

  /** Of the CPU that runs now, if it ever wrote into one. */
  get mine(): WriteCombiningBuffer | undefined {
    return this.#byCpu[this.#sim.cpu];
  }

  /** Lines that wait in all of them. */
  get pendingLines(): number {
    let lines = 0;
    for (const buffer of this.all) lines += buffer.pendingLines;
    return lines;
  }

  /** Drains lines that overlap [phys, phys + length) from all of them. */
  drainRange(phys: PhysAddr, length: number): void {
    for (const buffer of this.all) buffer.drainRange(phys, length);
  }

  /** Of the CPU that runs now, made if there is none. */
  take(): WriteCombiningBuffer {
    const found = this.mine;
    if (found !== undefined) return found;
    const made = this.#make();
    this.#byCpu[this.#sim.cpu] = made;
    this.all = this.#byCpu.filter((buffer) => buffer !== undefined);
    return made;
  }
}
