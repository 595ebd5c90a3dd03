/** A memory to try things on, with a clock that the test moves. */
import { nanos, physAddr } from '../../src/base/addr.ts';
import type { ErrnoCode } from '../../src/base/errno.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { PhysMemory } from '../../src/mem/phys-memory.ts';
import { TraceBus } from '../../src/trace/trace-bus.ts';

export interface Machine {
  readonly memory: PhysMemory;
  readonly trace: TraceBus;
  readonly clock: { ns: number };
}

/** RAM regions as [base, bytes]; further regions are the test's business. */
export function machine(ram: readonly (readonly [base: number, bytes: number])[] = [], bytes = true): Machine {
  const trace = new TraceBus();
  const clock = { ns: 0 };
  const memory = new PhysMemory({ trace, now: () => nanos(clock.ns), bytes });
  for (const [i, [base, size]] of ram.entries()) {
    memory.addRegion({ kind: 'ram', name: `ram${i}`, base: physAddr(base), bytes: size });
  }
  return { memory, trace, clock };
}

/** The error that `body` throws, which must be an ErrnoError of `code`. */
export function errnoOf(code: ErrnoCode, body: () => unknown): ErrnoError {
  try {
    body();
  } catch (error) {
    if (error instanceof ErrnoError && error.code === code) return error;
    throw error;
  }
  throw new Error(`nothing was thrown instead of ${code}`);
}
