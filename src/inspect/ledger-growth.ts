/**
 * Finds what grows: a program that does the same thing again and again must not have more after each time.
 *
 * 1. A *cycle* is one frame, one recreation, one connection; {@link GrowthDetector.cycle} ends it.
 * 2. What one place has made for one owner grows when there is more of it at the end of a cycle than there ever was at the end of one.
 *    In a row of cycles ({@link GrowthOptions.cycles}) that is a finding. What goes up and down is none.
 * 3. The first cycles set up what stays ({@link GrowthOptions.warmUpCycles}): their growth does not count. A pool that fills later, or
 *    more slowly, is told with its size ({@link GrowthOptions.expect}): beyond it the pool grows like anything else.
 * 4. Consequences do not count: neither what goes with something of the same cycle, nor the buffer that a forgotten fd keeps.
 * 5. Peaks: how many of a kind one owner has at once within a cycle. They may climb for a while until a pipeline is full, so that it
 *    takes more cycles ({@link GrowthOptions.peakCycles}) until that is a finding.
 */
import type { LeakFacts } from '../base/watch-hazards.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { LedgerPeak } from '../trace/ledger-entry.ts';
import type { LedgerObject, ObjectKind } from '../trace/object-ledger.ts';
import type { TraceEventOf, TraceKind } from '../trace/trace-events.ts';
import { countOf, groupByPlace, leakFacts, leakOf, type Simulated } from './leaks.ts';
import { isExpected, type LedgerExpectation, unexpected } from './ledger-expectation.ts';
import { type LedgerNode, ledgerGraph } from './ledger-graph.ts';

/** How to look. */
export interface GrowthOptions {
  /** Cycles in a row that make a finding. Default 3. */
  readonly cycles?: number;
  /** Cycles at the beginning that set up what stays. Default 1. */
  readonly warmUpCycles?: number;
  /** Cycles in a row with a higher peak that make a finding. Default 8; `Infinity`: peaks are not looked at. */
  readonly peakCycles?: number;
  /** What may be alive: pools, with their sizes. Default: nothing. */
  readonly expect?: readonly LedgerExpectation[];
}

/** A number that must not grow for ever. */
interface Trend {
  /** The most so far. */
  most: number;
  /** How many cycles in a row there were more than ever. */
  row: number;
  /** The youngest object when that began. */
  since: number;
  isFound: boolean;
}

/** Kinds that live for as long as somebody has a reference: whoever has it counts, not they. */
const COUNTED: ReadonlySet<ObjectKind> = new Set(['dma-buf', 'file', 'gem-object', 'syncobj', 'fence']);

/** See the header. Plain throughout. */
export class GrowthDetector {
  /** What was found so far, oldest first. */
  readonly findings: LeakFacts[] = [];
  readonly #sim: Simulator;
  readonly #limits: Required<GrowthOptions>;
  readonly #places = new Map<string, Trend>();
  readonly #peaks = new Map<string, Trend>();
  /** The youngest object at the end of each cycle. */
  readonly #bounds: number[] = [];

  /** What is alive now does not count as growth of the first cycle. */
  constructor(of: Simulated, options: GrowthOptions = {}) {
    this.#sim = 'sim' in of ? of.sim : of;
    this.#limits = { cycles: 3, warmUpCycles: 1, peakCycles: 8, expect: [], ...options };
    this.#look();
  }

  /** Cycles that have ended. */
  get cycles(): number {
    return this.#bounds.length - 1;
  }

  /**
   * A cycle ends.
   *
   * @returns what is found now; each place is found once. It is reported as `ledger.growth`, too.
   * @throws {HazardError} `ledger.growth` with policy `'throw'`: the first finding.
   */
  cycle(): readonly LeakFacts[] {
    const found = this.#look();
    this.findings.push(...found);
    for (const facts of found) this.#sim.report(facts);
    return found;
  }

  /**
   * Each event of `kind` that fits ends a cycle: `detector.cycleOn('device.frame', ({ device }) => device === 'display0')`.
   *
   * @returns a function that ends that.
   */
  cycleOn<K extends TraceKind>(kind: K, fits: (event: TraceEventOf<K>) => boolean = () => true): () => void {
    return this.#sim.trace.on(kind, (event) => {
      if (fits(event)) this.cycle();
      return undefined;
    });
  }

  #look(): LeakFacts[] {
    const { objects } = this.#sim;
    const all = [...objects.live];
    const counted = all.filter((object) => !COUNTED.has(object.kind) && !this.#isConsequence(object));
    const places = groupByPlace(unexpected(counted, this.#limits.expect));
    const youngest = all.at(-1)?.id ?? 0;
    const grown: string[] = [];
    const found: LeakFacts[] = [];
    for (const [place, trend] of this.#places) if (!places.has(place)) trend.row = 0;
    for (const [place, group] of places) {
      const trend = trendOf(this.#places, place);
      const isFound = this.#advance(trend, countOf(group), this.#limits.cycles);
      if (trend.row > 0) grown.push(...group.map(holderOf));
      if (isFound) found.push(this.#foundGrowth(group, trend));
    }
    found.push(...this.#lookAtPeaks(new Set(grown)));
    objects.peaks.restart();
    this.#bounds.push(Math.max(youngest, this.#bounds.at(-1) ?? 0));
    return found;
  }

  /** Rule 2. @returns whether it is a finding now. */
  #advance(trend: Trend, count: number, cycles: number): boolean {
    const isMore = count > trend.most;
    trend.most = Math.max(trend.most, count);
    const isWarm = this.#bounds.length > this.#limits.warmUpCycles;
    if (!isMore || !isWarm) {
      trend.row = 0;
      return false;
    }
    if (trend.row === 0) trend.since = this.#bounds.at(-1) ?? 0;
    trend.row++;
    if (trend.row < cycles || trend.isFound) return false;
    trend.isFound = true;
    return true;
  }

  #foundGrowth(group: readonly LedgerObject[], { since, row }: Trend): LeakFacts {
    const ids = new Set(group.flatMap(({ id }) => (id > since ? [id] : [])));
    const { nodes } = ledgerGraph(this.#sim);
    const [first, ...others] = nodes.filter(({ id }) => ids.has(id));
    const leak = leakOf([first ?? nodeOf(group), ...others]);
    const what = `${leak.what}, and more in each of ${row} cycles`;
    return leakFacts('ledger.growth', { ...leak, what, count: countOf(group) });
  }

  /** Rule 5. @param grown - kinds and owners whose ends of cycles grow, which is another matter. */
  #lookAtPeaks(grown: ReadonlySet<string>): LeakFacts[] {
    const found: LeakFacts[] = [];
    for (const peak of this.#sim.objects.peaks.all) {
      if (COUNTED.has(peak.kind)) continue;
      const trend = trendOf(this.#peaks, holderOf(peak));
      const count = grown.has(holderOf(peak)) || this.#isBounded(peak) ? 0 : peak.peak;
      if (this.#advance(trend, count, this.#limits.peakCycles)) found.push(this.#foundPeak(peak, trend));
    }
    return found;
  }

  #foundPeak({ kind, of, owner, peak, site }: LedgerPeak, { row }: Trend): LeakFacts {
    return {
      hazard: 'ledger.growth',
      object: `${kind} (${of})`,
      count: peak,
      what: `so many of ${owner} at once, and more in each of ${row} cycles`,
      chain: [],
      site: site?.text ?? '',
      timeNs: this.#sim.now,
      remedy: 'give each back before the next is taken, or bound how many are under way',
    };
  }

  #isBounded({ kind, of, owner, peak, site }: LedgerPeak): boolean {
    const about = { id: 0, kind, of, name: '', owner, timeNs: 0, site, rival: null };
    return this.#limits.expect.some(({ atMost = Infinity, ...rest }) => isExpected(about, rest) && peak <= atMost);
  }

  /** Rule 4: it goes with something that was made in the same cycle. */
  #isConsequence({ id, within }: LedgerObject): boolean {
    return (
      within !== 0 && this.#bounds.findLast((bound) => bound < id) === this.#bounds.findLast((bound) => bound < within)
    );
  }
}

function trendOf(trends: Map<string, Trend>, key: string): Trend {
  const trend = trends.get(key) ?? { most: 0, row: 0, since: 0, isFound: false };
  trends.set(key, trend);
  return trend;
}

function holderOf({ kind, of, owner }: Pick<LedgerObject, 'kind' | 'of' | 'owner'>): string {
  return `${kind}|${of}|${owner}`;
}

/** For a group of which nothing is in the graph any more. */
function nodeOf([first]: readonly LedgerObject[]): LedgerNode {
  const none = { id: 0, kind: 'reference' as const, of: '', name: '', owner: '', timeNs: 0, site: null, rival: null };
  return { ...(first ?? none), keeps: [] };
}
