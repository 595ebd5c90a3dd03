/** What the ledger of objects keeps of each; its rules stand in `object-ledger.ts`. */
import type { Site } from '../base/site.ts';
import type { LedgerObject, ObjectKind } from './object-ledger.ts';

/** @internal What the ledger asks its simulator. */
export interface LedgerClock {
  readonly now: number;
  readonly currentTask: { readonly name: string } | null;
  site(): Site | null;
}

/** @internal What is known of an object from its beginning. */
export interface About {
  readonly kind: ObjectKind;
  /** The thing that it stands for, or belongs to. */
  readonly subject: object;
  readonly of: string;
  /** `undefined`: the subject's own. */
  readonly name: string | undefined;
  readonly owner: string;
  readonly timeNs: number;
  readonly site: Site | null;
}

/** @internal An object that is alive. */
export abstract class Entry implements LedgerObject {
  readonly id: number;
  readonly kind: ObjectKind;
  readonly subject: object;
  readonly of: string;
  readonly owner: string;
  readonly timeNs: number;
  readonly site: Site | null;
  readonly #name: string | undefined;

  constructor(id: number, about: About) {
    this.id = id;
    this.kind = about.kind;
    this.subject = about.subject;
    this.of = about.of;
    this.owner = about.owner;
    this.timeNs = about.timeNs;
    this.site = about.site;
    this.#name = about.name;
  }

  /** See `LedgerObject.rival`. */
  rival: Site | null = null;

  abstract get holds(): number;
  abstract get within(): number;

  get name(): string {
    return this.#name ?? nameOf(this.subject);
  }
}

/** @internal A thing with references. */
export class CountedObject extends Entry {
  references = 0;
  /** References that something with a name has. */
  taken = 0;
  /** References whose holder is known already, though they are only about to be taken. */
  expected = 0;
  /** The task that put, or handed a reference over, last. */
  actor = '';
  /** Oldest first. */
  readonly loose: LooseReference[] = [];
  /** Who has taken references over without an entry of his own. */
  readonly holders = new Map<object, number>();

  get holds(): number {
    return 0;
  }

  get within(): number {
    return 0;
  }

  take(holder: object): void {
    this.taken++;
    this.holders.set(holder, (this.holders.get(holder) ?? 0) + 1);
  }

  /** @returns whether he had one. */
  release(holder: object): boolean {
    const count = this.holders.get(holder) ?? 0;
    if (count === 0) return false;
    if (count === 1) this.holders.delete(holder);
    else this.holders.set(holder, count - 1);
    this.taken--;
    return true;
  }

  /** The loose reference that most likely was given away: the youngest of the task that did, or else the youngest. */
  popLoose(wasPut: boolean): LooseReference | undefined {
    const { actor, loose } = this;
    const own = loose.findLastIndex(({ owner }) => owner === actor);
    const put = own < 0 ? loose.pop() : loose.splice(own, 1)[0];
    const next = wasPut ? loose.findLast(({ owner }) => owner === put?.owner) : undefined;
    if (next !== undefined) next.rival = put?.site ?? null;
    return put;
  }
}

/** @internal A reference that a driver has. */
export class LooseReference extends Entry {
  readonly #target: CountedObject;

  constructor(id: number, target: CountedObject, owner: string, timeNs: number, site: Site | null) {
    super(id, { kind: 'reference', subject: target.subject, of: target.of, name: undefined, owner, timeNs, site });
    this.#target = target;
  }

  override get name(): string {
    return `reference to ${this.#target.name}`;
  }

  get holds(): number {
    return this.#target.id;
  }

  get within(): number {
    return 0;
  }
}

/** @internal Something that was taken and has a name of its own. */
export class LeafObject extends Entry {
  /** What it keeps alive. */
  readonly target: CountedObject | null;
  readonly takesOver: boolean;
  readonly tag: number;
  readonly #container: () => number;

  constructor(
    id: number,
    about: About,
    place: Pick<LeafObject, 'target' | 'takesOver' | 'tag'> & { readonly container: () => number },
  ) {
    super(id, about);
    this.target = place.target;
    this.takesOver = place.takesOver;
    this.tag = place.tag;
    this.#container = place.container;
  }

  get holds(): number {
    return this.target === null || this.target.references === 0 ? 0 : this.target.id;
  }

  get within(): number {
    return this.#container();
  }
}

/** How many objects one owner has of one kind. */
export interface LedgerPeak {
  readonly kind: ObjectKind;
  readonly of: string;
  readonly owner: string;
  readonly live: number;
  /** The most since {@link LedgerPeaks.restart}. */
  readonly peak: number;
  /** The place that made the one with which there were most. */
  readonly site: Site | null;
}

/** Counts that are kept at least. */
const COUNTS_KEPT = 4096;

/** Counts by kind and owner. Plain throughout. */
export class LedgerPeaks {
  /** The oldest first. */
  readonly #counts = new Map<string, { live: number; peak: number; top: Omit<LedgerPeak, 'live' | 'peak'> }>();
  #limit = COUNTS_KEPT;

  /** One line for each kind and owner that there were since {@link restart}; of thousands of owners, those that have nothing left are forgotten. */
  get all(): LedgerPeak[] {
    return [...this.#counts.values()].map(({ live, peak, top }) => ({ ...top, live, peak }));
  }

  /** From now on peaks count anew. */
  restart(): void {
    for (const [key, count] of this.#counts) {
      if (count.live === 0) this.#counts.delete(key);
      else count.peak = count.live;
    }
  }

  /** @internal */
  entered(entry: Entry): void {
    const key = keyOf(entry);
    const count = this.#counts.get(key);
    if (count === undefined) {
      this.#counts.set(key, { live: 1, peak: 1, top: topOf(entry) });
      if (this.#counts.size > this.#limit) this.#forgetIdle();
    } else if (++count.live > count.peak) {
      count.peak = count.live;
      count.top = topOf(entry);
    }
  }

  /** @internal */
  left(entry: Entry): void {
    const count = this.#counts.get(keyOf(entry));
    if (count !== undefined) count.live--;
  }

  /** Drops owners that have nothing left; does so again when twice as many have come together. */
  #forgetIdle(): void {
    for (const [key, { live }] of this.#counts) if (live === 0) this.#counts.delete(key);
    this.#limit = Math.max(COUNTS_KEPT, 2 * this.#counts.size);
  }
}

/** Not the entry itself, which would keep its subject. */
function topOf({ kind, of, owner, site }: Entry): Omit<LedgerPeak, 'live' | 'peak'> {
  return { kind, of, owner, site };
}

/** @internal What a thing without an entry is called. */
export function nameOf(thing: object): string {
  return 'name' in thing && typeof thing.name === 'string' ? thing.name : 'somebody';
}

function keyOf({ kind, of, owner }: Entry): string {
  return `${kind}|${of}|${owner}`;
}
