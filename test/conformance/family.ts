/** What a family of recorded cases is to the runner, and how an answer is compared with the kernel's. */
import type { Json, JsonObject, VectorCase, VectorOp } from './vector-case.ts';

/** The first point at which the simulator's answer is not the kernel's. */
export interface Mismatch {
  /** Index into the case's ops, or null when the case as a whole does not match. */
  readonly op: number | null;
  /** `'map_pages.result.tlb[0][1]'`; empty when {@link reason} says it all. */
  readonly field: string;
  readonly expected?: Json;
  readonly got?: Json;
  /** Why the case could not be compared: `'format ARM_V7S is not built'`. */
  readonly reason?: string;
}

/** One family. Each file in `families/` exports one as its default. */
export interface Family {
  /** The `family` field of its cases. */
  readonly family: string;
  /** Replays a case from a fresh start. @returns the first mismatch, or null. What it throws counts as a mismatch. */
  run(vector: VectorCase): Mismatch | null;
}

/**
 * The family whose cases are replayed op by op: `begin` makes a fresh start, `step` answers as the recorder wrote the kernel's answers down.
 * What an operation without a recorded result answers counts for nothing.
 */
export function replayedFamily(
  family: string,
  begin: (vector: VectorCase) => { step(op: VectorOp): JsonObject | undefined },
): Family {
  return {
    family,
    run(vector) {
      const replay = begin(vector);
      for (const [index, op] of vector.ops.entries()) {
        const answer = replay.step(op);
        if (op.result === undefined) continue;
        const difference = firstDifference(`${op.op}.result`, op.result, answer);
        if (difference !== null) return { op: index, ...difference };
      }
      return null;
    },
  };
}

/** The first difference between two JSON values in depth-first order of `expected`, or null. A key only in `got` is a difference, too. */
export function firstDifference(
  path: string,
  expected: Json | undefined,
  got: Json | undefined,
): Omit<Mismatch, 'op'> | null {
  if (Array.isArray(expected) && Array.isArray(got)) {
    for (let i = 0; i < Math.max(expected.length, got.length); i++) {
      const difference = firstDifference(`${path}[${i}]`, expected[i], got[i]);
      if (difference !== null) return difference;
    }
    return null;
  }
  if (isPlain(expected) && isPlain(got)) {
    for (const key of new Set([...Object.keys(expected), ...Object.keys(got)])) {
      const difference = firstDifference(`${path}.${key}`, expected[key], got[key]);
      if (difference !== null) return difference;
    }
    return null;
  }
  if (Object.is(expected, got)) return null;
  return {
    field: path,
    ...(expected === undefined ? {} : { expected }),
    ...(got === undefined ? {} : { got }),
  };
}

function isPlain(value: Json | undefined): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
