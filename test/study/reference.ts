/** What the independent model says of a mutant: whether it can go wrong, and how. */
import { type MayResult, mayRun } from './may-model.ts';
import type { Mutant } from './mutants.ts';
import type { Program } from './program.ts';

/** What may happen to a mutant. */
export interface Verdict {
  /** An observing step that may get another byte than the correct program's, or `null`. */
  readonly wrong: {
    readonly label: string;
    readonly offset: number;
    readonly value: number;
    readonly right: number;
  } | null;
  /** Rules that it breaks though no byte need go wrong. */
  readonly broken: readonly string[];
  readonly mayHang: boolean;
}

/** The bytes of a correct program. @throws it is not correct: a byte may be one of several, a rule is broken, or it may hang. */
export function rightBytes(program: Program): ReadonlyMap<string, Uint8Array> {
  const result = mayRun(program);
  if (result.broken.size > 0 || result.mayHang) {
    throw new Error(`${program.name}: ${[...result.broken].join(', ')} ${result.mayHang ? 'may hang' : ''}`);
  }
  return new Map(
    [...result.observed].map(([label, sets]) => [label, Uint8Array.from(sets, (set, i) => only(label, set, i))]),
  );

  function only(label: string, set: readonly number[], offset: number): number {
    const [value, ...others] = set;
    if (value === undefined || others.length > 0)
      throw new Error(`${program.name}: ${label}[${offset}] may be ${set.join()}`);
    return value;
  }
}

/** The verdict on `mutant`, whose original gives `right`. */
export function judge(mutant: Mutant, right: ReadonlyMap<string, Uint8Array>): Verdict {
  const result = mayRun(mutant.program);
  return { wrong: firstWrong(result, right), broken: [...result.broken].sort(), mayHang: result.mayHang };
}

function firstWrong({ observed }: MayResult, right: ReadonlyMap<string, Uint8Array>): Verdict['wrong'] {
  for (const [label, bytes] of right) {
    const sets = observed.get(label) ?? [];
    for (const [offset, set] of sets.entries()) {
      const value = set.find((one) => one !== bytes[offset]);
      if (value !== undefined) return { label, offset, value, right: bytes[offset] ?? -1 };
    }
  }
  return null;
}
