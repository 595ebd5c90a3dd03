/**
 * Who is at work on which bytes: finds two accesses to the same bytes that nothing orders, whatever their timing was this time.
 *
 * ```
 *  a job:   submitted ----- waits signal ======= first access === last access ======= fence signals
 *                           |<------------------- at work: it could access at any moment --------->|
 * ```
 *
 * Rules:
 * 1. A work (a job, a frame, a scanout) is *waiting* until all it waits for has signalled and the work before it in its ring could
 *    begin; then it is *at work* until it is ended, which its device does just before it signals the fence.
 * 2. Two accesses conflict if they share a byte, one of them writes, one is made by a work, and the other is made by somebody else while
 *    that work is at work: before or after the work's own access. Works of one device are in order, so they never conflict.
 * 3. So a work that waits for another's fence does not conflict with it, and neither does who accesses after the fence.
 * 4. Accesses count as they happen, byte by byte: nothing is taken from what a job declares. Whoever is found with one work is reported
 *    once for each kind of conflict, at the second access, when it is done.
 * 5. Cache maintenance, write-backs, bounce copies and clearing are the kernel's and the hardware's: they are no accesses.
 * 6. While nothing is at work, waits or is watched, an access costs one comparison and nothing is kept; and of works that are over, only what
 *    the last ones wrote and whether it was touched since (`past-works.ts`), to tell who of two came too early.
 * 7. An access that goes on where the last one of the same kind by the same accessor and task ended, or is inside it, at the same instant, is
 *    told as part of it: with its place in the program.
 *
 * **Inaccuracies.** A CPU's accesses are instants: a bracket is no work. A job that waits inside its body (for a flag in memory, say) counts as
 * at work all the time. Memory is the domain's physical memory, so an access through a bounce buffer is one to the bounce buffer.
 */
import type { PhysAddr } from '../base/addr.ts';
import type { Accessor, HazardFacts } from '../base/hazards.ts';
import type { Site } from '../base/site.ts';
import type { HazardSide, RaceFacts } from '../base/watch-hazards.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { Task } from '../sim/task.ts';
import { CauseHints, type WorkTold } from '../trace/cause-hints.ts';
import { ByteRanges } from './byte-ranges.ts';
import { PastWorks } from './past-works.ts';

const NOTHING: readonly never[] = [];

/** What an access does. */
export type AccessKind = 'read' | 'write';

/** What a device tells of a {@link Work} when it takes it on. */
export interface WorkSpec {
  /** Whose accesses it makes: `device.port.accessor`. */
  readonly accessor: Accessor;
  /** `"job 'blit'"`, `'frame 7'`. */
  readonly name: string;
  /** The fence that ends it: `'gpu0:3'`; `''` for none. */
  readonly fence: string;
  /** How others wait for its end: `"wait for fence gpu0:3 (job 'blit')"`. */
  readonly remedy: string;
  /** It can not begin before all of these are signalled. */
  readonly waits?: readonly { readonly signaled: boolean }[];
  /** The one before it in its ring: it can not begin before that one could. */
  readonly after?: Work | null;
  /** What `activity.moment` was when the program ordered it. Default: now. */
  readonly orderedAt?: number;
}

/** One side of a possible conflict. */
interface Touch {
  readonly accessor: Accessor;
  readonly action: AccessKind;
  readonly timeNs: number;
  readonly site: Site | null;
  readonly work: Work | null;
  /** Who ran. */
  readonly task: Task<unknown> | null;
  /** Nobody has touched before what an earlier work had written there. */
  readonly isDue: boolean;
}

/** Accesses by what they do; made when the first comes. */
interface Touches {
  read: ByteRanges<Touch> | null;
  write: ByteRanges<Touch> | null;
}

/** Something that a device does; made by {@link Activity.submit}. */
export class Work {
  /** What its device told; not what it waits for. */
  readonly spec: WorkSpec;
  /** Later ones have larger numbers. */
  readonly moment: number;
  /** When the program ordered it; below {@link moment} for what was recorded first. */
  readonly orderedAt: number;
  /** The task that submitted it. */
  readonly task: Task<unknown> | null;
  /** @internal Where it was submitted. */
  readonly site: Site | null;
  /** @internal */
  state: 'waiting' | 'at work' | 'over' = 'waiting';
  /** @internal Its own accesses, and those of others while it is at work. */
  readonly own: Touches = { read: null, write: null };
  /** @internal */
  readonly others: Touches = { read: null, write: null };
  #waits: readonly { readonly signaled: boolean }[];
  #after: Work | null;
  #signaled = 0;
  #reported: Set<string> | null = null;

  /** @internal Use {@link Activity.submit}. */
  constructor(spec: WorkSpec, moment: number, submitter: { task: Task<unknown> | null; site: Site | null }) {
    const { accessor, name, fence, remedy, waits = NOTHING, after = null, orderedAt = moment } = spec;
    this.spec = { accessor, name, fence, remedy };
    this.#waits = waits;
    this.#after = after;
    this.moment = moment;
    this.orderedAt = orderedAt;
    this.task = submitter.task;
    this.site = submitter.site;
  }

  /** @internal Whether rule 1 lets it begin. */
  get mayBegin(): boolean {
    if (this.#after?.state === 'waiting') return false;
    const waits = this.#waits;
    while (waits[this.#signaled]?.signaled === true) this.#signaled++;
    return this.#signaled === waits.length;
  }

  /** @internal It waits no more. */
  beAtWork(): void {
    this.state = 'at work';
    this.#waits = NOTHING;
    this.#after = null;
  }

  /** @internal Forgets all but what reports tell of it: works that overlap would hold each other for ever. */
  beOver(): void {
    this.beAtWork();
    this.state = 'over';
    for (const touches of [this.own, this.others]) {
      touches.read = null;
      touches.write = null;
    }
  }

  /** @internal @returns whether `key` is new. */
  noteReported(key: string): boolean {
    this.#reported ??= new Set();
    const isNew = !this.#reported.has(key);
    this.#reported.add(key);
    return isNew;
  }
}

/** Bytes that somebody wants to hear of, for as long as {@link Activity.watch} has it. */
export interface AccessWatch {
  readonly pieces: readonly { readonly phys: number; readonly sizeBytes: number }[];
  /** One access that has at least a byte of the pieces; asked once an access and piece of it. Can not wait. @returns a hazard, or `null`. */
  touched(access: WatchedAccess): HazardFacts | null;
}

/** An access that an {@link AccessWatch} hears of. */
export interface WatchedAccess {
  readonly kind: AccessKind;
  readonly accessor: Accessor;
  /** What it is part of, or `null`: a CPU, or a device without a work. */
  readonly work: Work | null;
}

/** The activity in one coherency domain: `domain.activity`. Plain throughout. */
export class Activity {
  /** Accesses that were looked at: those while {@link isActive}. */
  checks = 0;
  readonly #sim: Simulator;
  /** Waiting or at work. */
  readonly #works: Work[] = [];
  readonly #watches: AccessWatch[] = [];
  readonly #current = new Map<Accessor, Work>();
  readonly #past = new PastWorks();
  readonly #hints: CauseHints;
  #found: HazardFacts[] = [];
  #moment = 0;
  /** The last access that was kept, and its bytes (rule 7). */
  #last: Touch | null = null;
  #lastStart = 0;
  #lastEnd = 0;

  constructor(sim: Simulator) {
    this.#sim = sim;
    this.#hints = sim.part(CauseHints);
    this.#hints.works.push(this);
  }

  /** Whether anything waits, is at work or is watched. */
  get isActive(): boolean {
    return this.#works.length > 0 || this.#watches.length > 0;
  }

  /** Works that are not over. */
  get workCount(): number {
    return this.#works.length;
  }

  /** A number that grows: what comes later has a larger one. */
  get moment(): number {
    return ++this.#moment;
  }

  /** A device takes a work on. Keeps nothing but a reference to what it waits for. */
  submit(spec: WorkSpec): Work {
    const { currentTask: task } = this.#sim;
    const work = new Work(spec, this.moment, { task, site: this.#sim.site() });
    this.#works.push(work);
    return work;
  }

  /** The accesses of its device are from now on those of `work`, until another begins or it ends. */
  begin(work: Work | null): void {
    if (work === null || work.state === 'over') return;
    work.beAtWork();
    this.#current.set(work.spec.accessor, work);
  }

  /** It is over: to be called before its fence signals. Does nothing the second time. */
  end(work: Work | null): void {
    if (work === null || work.state === 'over') return;
    this.#past.note(work.spec, work.own.write);
    work.beOver();
    this.#works.splice(this.#works.indexOf(work), 1);
    if (this.#current.get(work.spec.accessor) === work) this.#current.delete(work.spec.accessor);
    this.#last = null;
  }

  /** From now on `watch` hears of accesses. @returns what ends that. */
  watch(watch: AccessWatch): () => void {
    this.#watches.push(watch);
    return () => {
      const at = this.#watches.indexOf(watch);
      if (at >= 0) this.#watches.splice(at, 1);
    };
  }

  /** @internal The gate: `accessor` reads or writes [phys, phys + length). */
  access(action: AccessKind, phys: PhysAddr, length: number, accessor: Accessor): void {
    if (length === 0) return;
    const isDue = this.#past.count > 0 && this.#past.touch(phys, phys + length, accessor);
    if (!this.isActive) return;
    this.checks++;
    for (const work of this.#works) if (work.state === 'waiting' && work.mayBegin) work.beAtWork();
    const end = phys + length;
    const own = this.#current.get(accessor) ?? null;
    if (this.#watches.length > 0) this.#tellWatches(action, phys, end, accessor, own);
    let touch: Touch | null = null;
    for (const work of this.#works) {
      if (work.state !== 'at work' || work.spec.accessor === accessor) continue;
      touch ??= this.#touch(action, accessor, own, phys, end, isDue);
      this.#compare(work, work.own, touch, phys, end);
      keep(work.others, touch, phys, end);
    }
    if (own === null) return;
    touch ??= this.#touch(action, accessor, own, phys, end, isDue);
    this.#compare(own, own.others, touch, phys, end);
    keep(own.own, touch, phys, end);
  }

  /** @internal */
  writerOf(accessor: Accessor, phys: number): WorkTold | undefined {
    const work = this.#works.find(({ spec, own }) => spec.accessor === accessor && own.write?.find(phys, phys + 1));
    return work?.spec ?? this.#past.writerOf(accessor, phys);
  }

  /** @internal */
  isFenceOfWork(fence: string): boolean {
    return this.#works.some(({ spec }) => spec.fence === fence);
  }

  /** @internal An access is done: reports what was found in it. @throws {HazardError} under policy `'throw'`. */
  finish(): void {
    if (this.#found.length === 0) return;
    const found = this.#found;
    this.#found = [];
    for (const facts of found) this.#sim.report(facts);
  }

  /** @internal Forgets what was found in an access that failed. */
  abandon(): void {
    this.#found = [];
  }

  #touch(action: AccessKind, accessor: Accessor, work: Work | null, start: number, end: number, isDue: boolean): Touch {
    const { now: timeNs, currentTask: task } = this.#sim;
    const last = this.#last;
    const isLike = last?.accessor === accessor && last.action === action && last.work === work;
    if (isLike && last.timeNs === timeNs) {
      if (work !== null) return last;
      const isSame = last.task === task && last.isDue === isDue;
      if (isSame && start >= this.#lastStart && start <= this.#lastEnd) {
        this.#lastEnd = Math.max(this.#lastEnd, end);
        return last;
      }
    }
    const site = work === null ? this.#sim.site() : work.site;
    this.#last = { accessor, action, timeNs, site, work, task, isDue };
    this.#lastStart = start;
    this.#lastEnd = end;
    return this.#last;
  }

  #tellWatches(kind: AccessKind, start: number, end: number, accessor: Accessor, work: Work | null): void {
    for (const watch of this.#watches) {
      const meets = watch.pieces.some(({ phys, sizeBytes }) => phys < end && start < phys + sizeBytes);
      const facts = meets ? watch.touched({ kind, accessor, work }) : null;
      if (facts !== null) this.#found.push(facts);
    }
  }

  /** Looks whether `touch` meets one of `earlier`, which are of `work` or of those who came while it was at work. */
  #compare(work: Work, { read, write }: Touches, touch: Touch, start: number, end: number): void {
    const isWritten = write?.find(start, end) !== undefined;
    const touches = isWritten ? write : touch.action === 'write' ? read : null;
    let found = touches?.find(start, end);
    while (touches != null && found !== undefined) {
      this.#note(work, found.note, touch, { start: Math.max(start, found.start), end: Math.min(end, found.end) });
      found = found.end < end ? touches.find(found.end, end) : undefined;
    }
  }

  #note(work: Work, first: Touch, touch: Touch, bytes: { readonly start: number; readonly end: number }): void {
    // Of two works, the one that was submitted last is the one that had to wait.
    const other = work === touch.work ? first.work : touch.work;
    const blamed = other !== null && other.moment < work.moment ? other : work;
    const pair = [first, touch].map(({ accessor }) => accessor.name);
    const facts = raceFacts(blamed, first, touch, bytes, this.#hints);
    const key = `${facts.hazard} ${pair.sort().join(' ')}`;
    if (blamed.noteReported(key)) this.#found.push(facts);
  }
}

/** @param work - the one whose end was not waited for; it made one of the two accesses. */
function raceFacts(
  work: Work,
  first: Touch,
  second: Touch,
  bytes: { readonly start: number; readonly end: number },
  hints: CauseHints,
): RaceFacts {
  const [mine, other] = first.work === work ? [first, second] : [second, first];
  const { name, fence } = work.spec;
  return {
    hazard: hazardOf(mine.action, other.action),
    phys: bytes.start,
    sizeBytes: bytes.end - bytes.start,
    first: sideOf(first),
    second: sideOf(second),
    fence,
    work: name,
    ...waysOut(work, mine, other, hints),
  };
}

/**
 * Who has to wait for whom: the other one for the work, or the work for him. The work came too early if the other one reads for the first
 * time what an earlier work wrote, or has promised by a fence in the buffer's reservation to write. The task that ordered the work knows of
 * it, so there its own accesses have to wait.
 */
function waysOut(work: Work, mine: Touch, other: Touch, hints: CauseHints): Pick<RaceFacts, 'remedy' | 'or'> {
  const { name, remedy, accessor } = work.spec;
  const waits = `${other.accessor.name}: ${remedy} before ${other.action === 'read' ? 'reading' : 'writing'}`;
  if (other.work !== null || other.task === work.task) return { remedy: waits };
  const promise = other.action === 'write' ? hints.promiseOn(other.accessor.object ?? '') : '';
  const until = promise === '' ? '' : `, which is fence ${promise}`;
  const done = other.action === 'read' ? 'read' : 'written';
  const delays = `${accessor.name}: let ${name} wait until ${other.accessor.name} has ${done}${until}`;
  const isEarly = other.action === 'read' ? other.isDue && mine.action === 'write' : promise !== '';
  return isEarly ? { remedy: delays, or: waits } : { remedy: waits, or: delays };
}

function hazardOf(working: AccessKind, other: AccessKind): RaceFacts['hazard'] {
  if (other === 'read') return 'access.read-while-writing';
  return working === 'read' ? 'access.write-while-reading' : 'access.write-while-writing';
}

function sideOf({ accessor, action, timeNs, site }: Touch): HazardSide {
  const text = site?.text ?? '';
  return { who: accessor.name, via: accessor.via, action, timeNs, ...(text === '' ? {} : { site: text }) };
}

function keep(touches: Touches, touch: Touch, start: number, end: number): void {
  const ranges = touches[touch.action] ?? new ByteRanges<Touch>(isOneOrigin);
  touches[touch.action] = ranges;
  ranges.add(start, end, touch);
}

function isOneOrigin(older: Touch, newer: Touch): boolean {
  return older.accessor === newer.accessor && older.work === newer.work;
}
