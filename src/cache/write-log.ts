/**
 * Who wrote what when: a bounded ring of write calls, one version number a call.
 *
 * Version 0 is memory as the machine found it. Versions grow by one and are never reused; an entry lives until
 * `capacity` younger ones exist, then its writer is told as `unknown (log full)`. Places in the program are kept for the
 * youngest {@link SITES_KEPT} calls only: each holds a stack.
 */
import type { Nanos } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Accessor } from '../base/hazards.ts';
import type { Site } from '../base/site.ts';
import type { HazardSide } from '../base/watch-hazards.ts';

/** Versions stay below this, so that a shadow may use it as a mark. */
export const VERSION_LIMIT = 0xffff_ffff;

/** Write calls whose place is remembered; about 2 KiB each. */
const SITES_KEPT = 2048;

/** What a log asks of the simulator. */
export interface WriteOrigin {
  /** The place of the present call, or `null`. */
  site(): Site | null;
  /** The calls that hand bytes over, to tell what came before and after a write. */
  readonly syncs: { readonly newest: number };
}

/** A write call that is remembered. */
export interface WriteCall {
  readonly version: number;
  readonly accessor: Accessor;
  /** The youngest of `sim.syncs` when it was made. */
  readonly seq: number;
  /** As one side of a report. */
  readonly side: HazardSide;
}

/** The ring of write calls. @internal */
export class WriteLog {
  /** Entries that are remembered. */
  readonly capacity: number;
  readonly #origin: WriteOrigin | null;
  readonly #versions: Uint32Array;
  readonly #times: Float64Array;
  readonly #seqs: Float64Array;
  readonly #accessors: Accessor[] = [];
  readonly #sites: (Site | null)[] = [];
  /** The place of the access that is going on, once a write asked for it. */
  #site: Site | null | undefined;
  #newest = 0;

  /** @param origin - `null`: neither places nor the order of writes and syncs are kept. */
  constructor(capacity: number, origin: WriteOrigin | null = null) {
    assert(Number.isInteger(capacity) && capacity >= 1, 'write log: capacity %s is no whole number >= 1', capacity);
    this.capacity = capacity;
    this.#origin = origin;
    this.#versions = new Uint32Array(capacity);
    this.#times = new Float64Array(capacity);
    this.#seqs = new Float64Array(capacity);
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
    const origin = this.#origin;
    if (origin === null) return version;
    this.#seqs[slot] = origin.syncs.newest;
    if (this.#site === undefined) this.#site = origin.site();
    this.#sites[version % SITES_KEPT] = this.#site;
    return version;
  }

  /** The access whose write calls were noted is over: the next one has a place of its own. */
  endAccess(): void {
    this.#site = undefined;
  }

  /** Who made write call `version`, or `undefined` if it is 0 or forgotten. */
  writer(version: number): Accessor | undefined {
    return this.#isKept(version) ? this.#accessors[version % this.capacity] : undefined;
  }

  /** Write call `version`, or `undefined` if it is 0 or forgotten. */
  call(version: number): WriteCall | undefined {
    const accessor = this.writer(version);
    if (accessor === undefined) return undefined;
    return { version, accessor, seq: this.#seqs[version % this.capacity] as number, side: this.side(version) };
  }

  /** Write call `version` as one side of a report. */
  side(version: number): HazardSide {
    const who = this.writer(version);
    if (version === 0) return { who: 'nobody', via: 'initial contents', action: 'write', timeNs: 0 };
    if (who === undefined) return { who: 'unknown (log full)', via: 'unknown', action: 'write', timeNs: 0 };
    const timeNs = this.#times[version % this.capacity] as number;
    const site = this.#newest - version < SITES_KEPT ? (this.#sites[version % SITES_KEPT]?.text ?? '') : '';
    const { name, via } = who;
    return site === ''
      ? { who: name, via, action: 'write', timeNs }
      : { who: name, via, action: 'write', timeNs, site };
  }

  #isKept(version: number): boolean {
    return version !== 0 && this.#versions[version % this.capacity] === version;
  }
}
