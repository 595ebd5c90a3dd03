/** What the finder of causes asks of others in its machine: which work of a device wrote a byte, and which fences a buffer waits for. */
import type { Accessor } from '../base/hazards.ts';

/** @internal What reports tell of a work. */
export interface WorkTold {
  readonly accessor: Accessor;
  readonly name: string;
  readonly fence: string;
  readonly remedy: string;
}

/** @internal A coherency domain's activity. */
export interface WorkSource {
  /** The work of `accessor` that wrote byte `phys` last, as far as it is known. */
  writerOf(accessor: Accessor, phys: number): WorkTold | undefined;
  /** Whether `fence` is that of a work that is not over. */
  isFenceOfWork(fence: string): boolean;
}

/** @internal One for each machine: `sim.part(CauseHints)`. Plain throughout. */
export class CauseHints {
  readonly works: WorkSource[] = [];
  /** Names of the pending fences of writers in the reservation of `object`. The core of shared buffers says so. */
  pendingWriters: (object: string) => readonly string[] = () => [];

  /** The work of `accessor` that wrote byte `phys` last. */
  writerOf(accessor: Accessor, phys: number): WorkTold | undefined {
    for (const source of this.works) {
      const found = source.writerOf(accessor, phys);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** A fence in the reservation of `object` by which somebody who is no device promises to have written; `''`: there is none. */
  promiseOn(object: string): string {
    const isPromise = (fence: string): boolean => !this.works.some((source) => source.isFenceOfWork(fence));
    return object === '' ? '' : (this.pendingWriters(object).find(isPromise) ?? '');
  }
}
