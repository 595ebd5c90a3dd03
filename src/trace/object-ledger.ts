/**
 * Everything that someone took and has to give back: references, attachments, mappings, pins, fds, handles, fences, each with the place
 * that made it and what it keeps alive.
 *
 * Rules:
 * 1. A *counted* thing (a buffer, a file, a fence) lives for as long as somebody has a reference. Each reference is either *taken over* by
 *    something with a name (an fd, a mapping, a sync file, the list of a reservation), or it is *loose*: a driver has it. A loose reference
 *    is an object of kind `'reference'`, with the place of its `get`.
 * 2. A `put` does not say which reference it gives back. What nothing with a name gives back is a loose one: the youngest that the same
 *    task has taken, or else the youngest.
 * 3. An object is *within* another (a mapping within its attachment, a handle within its client's file) when it goes with it.
 * 4. A fence that has signalled, and that only its maker has, is let go: nobody waits for it, and nothing hangs on it.
 *
 * While {@link ObjectLedger.enabled} is false nothing is noted, at no cost: who has something to note asks first. What was made before it
 * was switched on is not known, and passed over.
 */
import type { Site } from '../base/site.ts';
import {
  type About,
  CountedObject,
  type Entry,
  LeafObject,
  type LedgerClock,
  LedgerPeaks,
  LooseReference,
  nameOf,
} from './ledger-entry.ts';

/** What can be left behind. */
export type ObjectKind =
  | 'dma-buf'
  | 'file'
  | 'gem-object'
  | 'syncobj'
  | 'fence'
  | 'reference'
  | 'attachment'
  | 'mapping'
  | 'pin'
  | 'vmap'
  | 'mmap'
  | 'fd'
  | 'handle'
  | 'dma-mapping'
  | 'dma-allocation';

/** One thing that is alive. */
export interface LedgerObject {
  readonly id: number;
  readonly kind: ObjectKind;
  /** Of what: `'dmabuf'`, `'sync_file'`, `'fence'`, … */
  readonly of: string;
  /** `'frame1 for gpu0'`, `'fd 4 of app'`. */
  readonly name: string;
  /** Who has to give it back: a process, a device, a task, `'kernel'`. */
  readonly owner: string;
  /** What this one keeps alive, by number; 0: nothing that is in the ledger. */
  readonly holds: number;
  /** What it goes with (rule 3), by number; 0: it stands for itself. */
  readonly within: number;
  readonly timeNs: number;
  readonly site: Site | null;
  /** Of a reference: where the same task took another one, whose put may have been meant for this one; see rule 2. */
  readonly rival: Site | null;
}

/** How to note a counted thing; see {@link ObjectLedger.track}. */
export interface NewCounted {
  readonly of: string;
  /** Default: the `name` of the thing itself, asked when somebody reads it. */
  readonly name?: string;
  readonly owner: string;
  /** References that there are already. Default: its maker's one. */
  readonly references?: number;
}

/** How to note something that is not counted; see {@link ObjectLedger.note}. */
export interface NewObject {
  readonly of: string;
  readonly name: string;
  readonly owner: string;
  /** The thing that it keeps alive. */
  readonly holds?: object;
  /** It takes over one reference of what it {@link holds}, which goes back with a `put` around {@link ObjectLedger.end}. Default false. */
  readonly takesOver?: boolean;
  /** What it goes with: something that is noted, or made a part of that by {@link ObjectLedger.alias}. */
  readonly within?: object;
  /** Tells several objects of one kind apart that belong to one thing: the number of an fd. */
  readonly tag?: number;
}

/** Somebody without an entry of his own who has references: a list of fences, a system call. */
export interface LedgerHolder {
  /** The object that he is a part of; 0: none that is in the ledger. */
  readonly id: number;
  readonly name: string;
  readonly count: number;
}

/** One for each simulator: `sim.objects`. Plain throughout. */
export class ObjectLedger {
  /** Whether objects are noted. */
  enabled = false;
  /** How many of each kind each owner has and has had at most. */
  readonly peaks = new LedgerPeaks();
  readonly #clock: LedgerClock;
  readonly #all = new Map<number, Entry>();
  readonly #counted = new Map<object, CountedObject>();
  /** By what they belong to, oldest first. */
  readonly #leaves = new Map<object, LeafObject[]>();
  /** Parts of counted things and of leaves. */
  readonly #aliases = new WeakMap<object, object>();
  readonly #unsettled = new Set<CountedObject>();
  #next = 1;

  /** @internal @param clock - the simulator that it belongs to. */
  constructor(clock: LedgerClock) {
    this.#clock = clock;
  }

  /** What is alive, oldest first. */
  get live(): Iterable<LedgerObject> {
    this.#settleAll();
    return this.#all.values();
  }

  /** How many are alive. */
  get size(): number {
    this.#settleAll();
    return this.#all.size;
  }

  /** The living object of this number. */
  get(id: number): LedgerObject | undefined {
    return this.#all.get(id);
  }

  /** The living object that stands for `subject`, the oldest if there are several; it may also be a part of one. */
  of(subject: object): LedgerObject | undefined {
    return this.#entryOf(subject);
  }

  /** The thing that an object stands for, or belongs to. */
  subject(id: number): object | undefined {
    return this.#all.get(id)?.subject;
  }

  /** References that a counted thing has, as far as they were noted; 0: it is not in the ledger. */
  references(subject: object): number {
    return this.#counted.get(subject)?.references ?? 0;
  }

  /** Those that have references of a counted object without an entry of their own. */
  holders(id: number): LedgerHolder[] {
    const counted = this.#all.get(id);
    if (!(counted instanceof CountedObject)) return [];
    return [...counted.holders].map(([holder, count]) => {
      const of = this.#entryOf(holder);
      return { id: of?.id ?? 0, name: of?.name ?? nameOf(holder), count };
    });
  }

  /** Notes a counted thing. Its maker's reference is loose. */
  track(subject: object, kind: ObjectKind, { of, name, owner, references = 1 }: NewCounted): void {
    if (!this.enabled || this.#counted.has(subject)) return;
    const counted = new CountedObject(this.#next++, this.#about(kind, subject, { of, name, owner }));
    counted.references = references;
    this.#counted.set(subject, counted);
    this.#enter(counted);
    for (let i = 0; i < references; i++) this.#addLoose(counted, counted.site);
  }

  /** A reference of `subject` was taken: a loose one, unless {@link hold} was called before. */
  got(subject: object): void {
    const counted = this.#counted.get(subject);
    if (counted === undefined) return;
    if (counted.expected > 0) counted.expected--;
    else {
      this.#settle(counted);
      this.#addLoose(counted, this.#clock.site());
    }
    counted.references++;
  }

  /** A reference of `subject` was put; with the last one it is gone. */
  put(subject: object): void {
    const counted = this.#counted.get(subject);
    if (counted === undefined) return;
    if (counted.loose.length > counted.references - counted.taken) this.#settle(counted);
    counted.references--;
    counted.actor = this.#who();
    if (counted.references <= 0) this.#forget(counted);
    else this.#unsettled.add(counted);
  }

  /** Rule 4: a counted thing is over. @returns false: somebody still has it for a reason. */
  over(subject: object): boolean {
    const counted = this.#counted.get(subject);
    if (counted === undefined) return true;
    if (counted.references > 1 || counted.taken > 0) return false;
    this.#forget(counted);
    return true;
  }

  /** The next reference of `subject` that is taken is `holder`'s. */
  hold(holder: object, subject: object): void {
    const counted = this.#counted.get(subject);
    if (counted === undefined) return;
    counted.take(holder);
    counted.expected++;
  }

  /** `holder` takes over a reference that is loose. */
  adopt(holder: object, subject: object): void {
    const counted = this.#counted.get(subject);
    if (counted === undefined) return;
    this.#beforeTaking(counted);
    counted.take(holder);
    this.#settle(counted, false);
  }

  /** `holder` has put its reference of `subject`, or is about to hand it on. */
  unhold(holder: object, subject: object): void {
    const counted = this.#counted.get(subject);
    if (counted?.release(holder) === true) this.#unsettled.add(counted);
  }

  /** From now on `part` stands for the object of `whole`. */
  alias(part: object, whole: object): void {
    if (this.enabled) this.#aliases.set(part, whole);
  }

  /** Notes something that was taken and belongs to `subject`. */
  note(subject: object, kind: ObjectKind, what: NewObject): void {
    if (!this.enabled) return;
    const target = what.holds === undefined ? null : (this.#counted.get(what.holds) ?? null);
    const { within = null, tag = 0 } = what;
    const takesOver = what.takesOver === true && target !== null;
    const place = { target, takesOver, tag, container: () => this.#idOf(within ?? this.#aliases.get(subject) ?? null) };
    const leaf = new LeafObject(this.#next++, this.#about(kind, subject, what), place);
    const leaves = this.#leaves.get(subject);
    if (leaves === undefined) this.#leaves.set(subject, [leaf]);
    else leaves.push(leaf);
    this.#enter(leaf);
    if (!takesOver) return;
    this.#beforeTaking(target);
    target.taken++;
    this.#settle(target, false);
  }

  /** What {@link note} noted last of this kind and tag for `subject` was given back; one that is not alive is passed over. */
  end(subject: object, kind: ObjectKind, tag = 0): void {
    const leaves = this.#leaves.get(subject);
    const at = leaves?.findLastIndex((leaf) => leaf.kind === kind && leaf.tag === tag) ?? -1;
    const leaf = leaves?.[at];
    if (leaves === undefined || leaf === undefined) return;
    leaves.splice(at, 1);
    if (leaves.length === 0) this.#leaves.delete(subject);
    this.#leave(leaf);
    const { target } = leaf;
    if (!leaf.takesOver || target === null) return;
    target.taken--;
    if (target.references > 0) this.#unsettled.add(target);
  }

  /** Of the loose references the running task's is going to be taken over. */
  #beforeTaking(counted: CountedObject): void {
    if (counted.loose.length > counted.references - counted.taken) this.#settle(counted);
    counted.actor = this.#who();
  }

  /** Rules 1 and 2: as many loose references as nobody has taken over. @param wasPut - those too many were put. */
  #settle(counted: CountedObject, wasPut = true): void {
    this.#unsettled.delete(counted);
    const wanted = counted.references - counted.taken;
    for (let left = counted.loose.length; left > Math.max(0, wanted); left--) {
      const loose = counted.popLoose(wasPut);
      if (loose !== undefined) this.#leave(loose);
    }
    while (counted.loose.length < wanted) this.#addLoose(counted, null);
  }

  #settleAll(): void {
    for (const counted of this.#unsettled) this.#settle(counted);
  }

  #addLoose(counted: CountedObject, site: Site | null): void {
    const loose = new LooseReference(this.#next++, counted, this.#who(), this.#clock.now, site);
    counted.loose.push(loose);
    this.#enter(loose);
  }

  #forget(counted: CountedObject): void {
    this.#unsettled.delete(counted);
    this.#counted.delete(counted.subject);
    for (const loose of counted.loose) this.#leave(loose);
    counted.references = 0;
    this.#leave(counted);
  }

  #enter(entry: Entry): void {
    this.#all.set(entry.id, entry);
    this.peaks.entered(entry);
  }

  #leave(entry: Entry): void {
    this.#all.delete(entry.id);
    this.peaks.left(entry);
  }

  #entryOf(subject: object): Entry | undefined {
    let at: object | undefined = subject;
    for (let depth = 0; at !== undefined && depth < 4; depth++) {
      const entry: Entry | undefined = this.#counted.get(at) ?? this.#leaves.get(at)?.[0];
      if (entry !== undefined) return entry;
      at = this.#aliases.get(at);
    }
    return undefined;
  }

  #idOf(subject: object | null): number {
    return subject === null ? 0 : (this.#entryOf(subject)?.id ?? 0);
  }

  #about(
    kind: ObjectKind,
    subject: object,
    what: { readonly of: string; readonly name?: string | undefined; readonly owner: string },
  ): About {
    const { of, name, owner } = what;
    return { kind, subject, of, name, owner, timeNs: this.#clock.now, site: this.#clock.site() };
  }

  #who(): string {
    return this.#clock.currentTask?.name ?? 'kernel';
  }
}
