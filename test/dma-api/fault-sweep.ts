/** Makes the n-th allocation fail, for every n, and looks at what is left after each failure. */
import { expect } from 'vitest';
import { ErrnoError } from '../../src/base/errors.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { DMA_MAPPING_ERROR } from '../../src/dma-api/mapping-error.ts';
import type { SgTable } from '../../src/dma-api/sg-table.ts';
import type { Machine } from '../../src/platform/machine.ts';
import { rangesInUse } from '../iova-use.ts';

/** How a call says that it failed: an errno, or its answer. */
type Failure = 'ENOMEM' | 'ENOSPC' | 'EIO' | 'null' | 'mapping-error' | '0';

/** A call that takes something, how it fails, and what gives back what it took. */
interface Step<T> {
  readonly name: string;
  readonly fails: Failure;
  readonly attempt: () => T;
  readonly undo: (taken: T) => void;
}

/** One run of a scenario. */
export class Sweep {
  readonly machine: Machine;
  /** Tables of the scenario; after a failure none may have segments that it had not before. */
  readonly tables: SgTable[] = [];
  /** Steps that failed. */
  readonly failed: string[] = [];
  /** Steps that got along without what they were refused. */
  readonly coped: string[] = [];
  readonly #failing: number;
  readonly #staysOut: boolean;
  readonly #undos: (() => void)[] = [];
  #asked = 0;
  #isArmed = false;
  #wasHit = false;

  /** @param staysOut - every further allocation of the step fails, too, so that it can not cope. */
  constructor(machine: Machine, failing: number, staysOut: boolean) {
    this.machine = machine;
    this.#staysOut = staysOut;
    this.#failing = failing;
    machine.memory.failNext = () => this.ask();
  }

  /** Whether the allocation that was to fail was ever asked for. */
  get hasFailed(): boolean {
    return this.#asked >= this.#failing;
  }

  /** An allocation is about to be made. @returns whether it fails. */
  ask(): boolean {
    if (!this.#isArmed) return false;
    const isHit = ++this.#asked === this.#failing || (this.#staysOut && this.#wasHit);
    this.#wasHit ||= isHit;
    return isHit;
  }

  /** Does a step. If an allocation fails in it, the call must say so, must leave everything as it was, and must work the second time. */
  take<T>(step: Step<T>): T {
    const before = this.state();
    const first = this.#try(step);
    if (!this.#wasHit) return this.#keep(step, first.isOk ? first.value : expect.fail(`${step.name}: ${first.text}`));
    this.#wasHit = false;
    if (first.isOk) {
      this.coped.push(step.name);
      return this.#keep(step, first.value);
    }
    this.failed.push(step.name);
    expect(first.text, `${step.name} failed in another way than it says`).toBe(step.fails);
    expect(this.state(), `${step.name} left something behind when it failed`).toEqual(before);
    const second = this.#try(step);
    return this.#keep(step, second.isOk ? second.value : expect.fail(`${step.name}, tried again: ${second.text}`));
  }

  /** Undoes all steps, the last first. */
  undoAll(): void {
    for (let undo = this.#undos.pop(); undo !== undefined; undo = this.#undos.pop()) undo();
  }

  /** Everything that somebody holds, but for page tables, which stay with their domain when a mapping fails. */
  state(): unknown {
    const { memory, iommu, swiotlb, dmaDebug, devices, coherentPool } = this.machine;
    const asid = iommu?.takeAsid() ?? 0;
    iommu?.freeAsid(asid);
    return {
      held: [...memory.ledger.bytesByOwner()].filter(([owner]) => !STAYS.test(owner)),
      slots: swiotlb?.usedSlots,
      pool: coherentPool.usedBytes,
      lowestAsid: asid,
      segments: this.tables.map(({ nents, mappedFor }) => [nents, mappedFor?.name]),
      devices: devices.map((device) => [device.name, ...stateOf(device), dmaDebug?.mappingsOf(device).length]),
    };
  }

  #try<T>({ fails, attempt }: Step<T>): { isOk: true; value: T } | { isOk: false; text: string } {
    this.#isArmed = true;
    try {
      const value = attempt();
      const text = failureOf(value, fails);
      return text === null ? { isOk: true, value } : { isOk: false, text };
    } catch (error) {
      if (error instanceof ErrnoError) return { isOk: false, text: error.code };
      throw error;
    } finally {
      this.#isArmed = false;
    }
  }

  #keep<T>({ undo }: Step<T>, value: T): T {
    this.#undos.push(() => undo(value));
    return value;
  }
}

/** Page tables stay with their domain, a pool that is taken at first use with its machine. */
const STAYS = /^(iommu tables|coherent pool)/;

function failureOf(value: unknown, fails: Failure): Failure | null {
  if (value === null) return 'null';
  if (value === DMA_MAPPING_ERROR) return 'mapping-error';
  return fails === '0' && value === 0 ? '0' : null;
}

function stateOf(device: Device): unknown[] {
  const { domain, defaultDomain, typeText } = device.iommuGroup ?? {};
  const leaves = [...(domain?.pgtable.leaves() ?? [])].length;
  return [rangesInUse(device), leaves, domain?.name, defaultDomain?.name, typeText];
}
