/**
 * Who wrote what when: a bounded ring of write calls, one version number a call.
 *
 * Version 0 is memory as the machine found it. Versions grow by one and are never reused; an entry lives until
 * `capacity` younger ones exist, then its writer is told as `unknown (log full)`.
 */
import type { Nanos } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Accessor, HazardSide } from '../base/hazards.ts';

/** Versions stay below this, so that a shadow may use it as a mark. */
export const VERSION_LIMIT = 0xffff_ffff;

/** The ring of write calls. @internal */
export class WriteLog {
  /** Entries that are remembered. */
  readonly capacity: number;
  readonly #versions: Uint32Array;
  readonly #times: Float64Array;
  readonly #accessors: Accessor[] = [];
  #newest = 0;

  constructor(capacity: number) {
    assert(Number.isInteger(capacity) && capacity >= 1, 'write log: capacity %s is no whole number >= 1', capacity);
    this.capacity = capacity;
    this.#versions = new Uint32Array(capacity);
    this.#times = new Float64Array(capacity);
  }

  /** The version of the last write call; 0 before the first. */
  get newest(): number {
    return this.#newest;
  }

  /** Notes a write call of `accessor` at `timeNs`. @returns its version. */
  note(accessor: Accessor, timeNs: Nanos): number {
    const version = ++this.#newest;
    assert(version < VERSION_LIMIT, 'write log: more than %s write calls in one run', VERSION_LIMIT - 1);
    const slot = version % this.capacity;
    this.#versions[slot] = version;
    this.#times[slot] = timeNs;
    this.#accessors[slot] = accessor;
    return version;
  }

  /** Who made write call `version`, or `undefined` if it is 0 or forgotten. */
  writer(version: number): Accessor | undefined {
    const slot = version % this.capacity;
    return version !== 0 && this.#versions[slot] === version ? this.#accessors[slot] : undefined;
  }

  /** Write call `version` as one side of a report. */
  side(version: number): HazardSide {
    const who = this.writer(version);
    if (version === 0) return { who: 'nobody', via: 'initial contents', action: 'write', timeNs: 0 };
    if (who === undefined) return { who: 'unknown (log full)', via: 'unknown', action: 'write', timeNs: 0 };
    const timeNs = this.#times[version % this.capacity] as number;
    return { who: who.name, via: who.via, action: 'write', timeNs };
  }
}
