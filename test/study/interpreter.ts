/**
 * Runs a program of the study on a fresh simulator and notes what every observing step got, what was reported, and what was left.
 *
 * Tasks take turns at random: each step comes after a random pause, and no two tasks act at the same instant, so a time in a report
 * tells the step. The adversary is hardware's freedom: lines are fetched and evicted and write-combining buffers drained at random, all of
 * which real hardware may do at any time. With an even seed the simulator's adversarial chooser does it, at every access; with an odd
 * seed a task of hardware of the study's own, in between and while others wait.
 */

import type { PhysAddr } from '../../src/base/addr.ts';
import type { HazardFacts } from '../../src/base/hazards.ts';
import { type Leak, leakReport } from '../../src/inspect/leaks.ts';
import { AdversarialChooser } from '../../src/sim/adversarial-chooser.ts';
import { RandomChooser } from '../../src/sim/chooser.ts';
import type { Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import type { Simulator } from '../../src/sim/simulator.ts';
import type { TraceKind } from '../../src/trace/trace-events.ts';
import { LINE_BYTES, type Program, type TaskDecl } from './program.ts';
import { perform } from './steps.ts';
import { World } from './world.ts';

/** When a step was done. */
export interface StepTime {
  readonly label: string;
  readonly startNs: number;
  endNs: number;
}

/** What a run showed. */
export interface Outcome {
  /** Bytes by the label of the step that observed them. */
  readonly observed: ReadonlyMap<string, Uint8Array>;
  readonly hazards: readonly HazardFacts[];
  /** What the ledger calls a leak at the end. */
  readonly leaks: readonly Leak[];
  /** Names of fences as reports write them, by the program's. */
  readonly fences: ReadonlyMap<string, string>;
  /** Names of buffers, likewise. */
  readonly bufs: ReadonlyMap<string, string>;
  /** What was left at the end, in words. */
  readonly left: readonly string[];
  /** Errors of calls, and how the run ended if not well: the label and the message. */
  readonly errors: readonly { readonly label: string; readonly message: string }[];
  readonly times: readonly StepTime[];
}

/** How to run. */
export interface RunOptions {
  readonly seed: number;
  /** Whether hardware takes its freedom. Default true. */
  readonly adversary?: boolean;
}

/** How one run goes: each seed has its mood, since what one bug needs (an old copy that stays) hides another (one that leaves). */
interface Mood {
  /** From one act of hardware to the next, in ns. */
  readonly periodNs: number;
  /** Chance that a line that is touched leaves the cache instead of coming in. */
  readonly evictions: number;
  /** Chance that write-combining buffers drain at an act. */
  readonly drains: number;
  /** Which task or device is slow: tasks are numbered from 0, devices from -1 down in the order of the program. */
  readonly slow: number;
  /** Times the usual pause of that one. */
  readonly slowness: number;
}

/** From one step of a task to its next one at least; each task has a residue of its own. */
const TURN_NS = 32;
/** By then every program is over. */
const LIMIT_NS = 2_000_000;
const PAIRS: readonly (readonly [begins: TraceKind, ends: TraceKind])[] = [
  ['dmabuf.attach', 'dmabuf.detach'],
  ['dmabuf.map', 'dmabuf.unmap'],
  ['dma.map', 'dma.unmap'],
  ['dmabuf.vmap', 'dmabuf.vunmap'],
];

/** One run while it lasts. */
export class Run {
  readonly world: World;
  readonly observed = new Map<string, Uint8Array>();
  readonly errors: { readonly label: string; readonly message: string }[] = [];
  readonly times: StepTime[] = [];
  readonly #random: Prng;
  readonly #hasAdversary: boolean;
  readonly #mood: Mood;
  readonly #sim: Simulator;
  readonly #events = new Map<TraceKind, number>();

  constructor(program: Program, { seed, adversary = true }: RunOptions) {
    const prng = new Prng(seed);
    const usesChooser = adversary && seed % 2 === 0;
    const schedule = prng.fork('schedule');
    const chooser = usesChooser ? new AdversarialChooser(schedule) : new RandomChooser(schedule);
    const options = { seed, chooser, hazards: 'record', callSites: false } as const;
    this.world = new World(program, options, (label, bytes) => this.observe(label, bytes));
    this.#sim = this.world.machine.sim;
    this.#random = prng.fork('adversary');
    this.#hasAdversary = adversary && !usesChooser;
    this.#mood = moodOf(this.#random);
    this.#sim.trace.onAny(({ kind }) => {
      this.#events.set(kind, (this.#events.get(kind) ?? 0) + 1);
      return undefined;
    });
  }

  /** Notes what the step `label` got. */
  observe(label: string, bytes: Uint8Array): void {
    this.observed.set(label, bytes);
  }

  /** Some time, so that others may act; of a device, if one is named. */
  pause(device = ''): Op<void> {
    const { slow, slowness } = this.#mood;
    const isSlow = slow < 0 && this.world.program.devices[-1 - slow]?.name === device;
    return this.#sim.delay(TURN_NS * (1 + this.#random.int(4)) * (isSlow ? slowness : 1));
  }

  /** Runs everything. */
  go(): Outcome {
    const { program } = this.world;
    try {
      this.#sim.run(() => this.#main(program), { limitNs: LIMIT_NS });
    } catch (error) {
      this.#fail('the run', error);
    }
    const { observed, errors, times, world } = this;
    for (const fence of world.fences.values()) fence.put();
    for (const timeline of world.timelines.values()) timeline.put();
    const { leaks } = leakReport(this.#sim);
    const bufs = new Map([...world.bufs].map(([as, buf]) => [as, buf.name]));
    const fences = new Map([...world.fences].map(([as, fence]) => [as, fence.name]));
    return { observed, hazards: this.#sim.hazards, leaks, fences, bufs, left: this.#leftovers(), errors, times };
  }

  *#main(program: Program): Op<void> {
    yield* this.world.allocate();
    if (this.#hasAdversary) this.#sim.spawn('hardware', () => this.#hardware(), { daemon: true });
    yield* this.#task(program.setup, 0);
    const tasks = program.tasks.map((task, i) => this.#sim.spawn(task.name, () => this.#task(task, i + 1)));
    for (const task of tasks) yield* task.done;
    yield* this.#task(program.finish, 0);
    yield* this.world.tidy();
    yield* this.pause();
  }

  *#task({ steps }: TaskDecl, residue: number): Op<void> {
    for (const { label, action } of steps) {
      yield* this.#turn(residue);
      const time = { label, startNs: this.#sim.now, endNs: Number.POSITIVE_INFINITY };
      this.times.push(time);
      try {
        yield* perform(this, label, action);
      } catch (error) {
        this.#fail(label, error);
      }
      time.endNs = this.#sim.now;
    }
  }

  /** Goes on at an instant that belongs to this task alone. */
  #turn(residue: number): Op<void> {
    const { now } = this.#sim;
    const { slow, slowness } = this.#mood;
    const turns = this.#random.int(this.#random.int(8) === 0 ? 20 : 3) * (slow === residue ? slowness : 1);
    return this.#sim.delay(TURN_NS - (now % TURN_NS) + residue + TURN_NS * turns);
  }

  *#hardware(): Op<void> {
    for (;;) {
      const { periodNs, drains } = this.#mood;
      yield* this.#sim.delay(1 + this.#random.int(2 * periodNs));
      for (const phys of this.#places()) this.#meddle(phys);
      if (this.#random.float() < drains) this.world.machine.coherency.drainWriteBuffer();
    }
  }

  /** Where the program's bytes lie: memory and bounce slots. */
  #places(): number[] {
    const { extents, maps } = this.world;
    const own = [...extents.values()].flatMap((runs) => runs.map(({ phys }) => Number(phys)));
    return [...own, ...[...maps.values()].flatMap((map) => this.world.physOf(map))];
  }

  #meddle(phys: number): void {
    const { coherency } = this.world.machine;
    for (let i = 0; i < 6; i++) {
      const line = (phys - (phys % LINE_BYTES) + this.#random.int(16) * LINE_BYTES) as PhysAddr;
      if (this.#random.float() < this.#mood.evictions) coherency.evict(line, LINE_BYTES);
      else coherency.prefetch(line, LINE_BYTES);
    }
  }

  #fail(label: string, error: unknown): void {
    this.errors.push({ label, message: error instanceof Error ? error.message : String(error) });
  }

  #leftovers(): string[] {
    const { machine } = this.world;
    const count = (kind: TraceKind) => this.#events.get(kind) ?? 0;
    const left = PAIRS.filter(([begins, ends]) => count(begins) !== count(ends)).map(
      ([begins, ends]) => `${count(begins)} ${begins}, ${count(ends)} ${ends}`,
    );
    for (const { owner, bytes } of machine.memory.ledger.liveAllocations()) {
      if (owner !== 'iommu tables') left.push(`${owner} holds ${bytes} bytes`);
    }
    for (const { name, fds, mappings } of machine.processes) {
      if (fds.open.length + mappings.length > 0)
        left.push(`${name}: ${fds.open.length} fds, ${mappings.length} mappings`);
    }
    return left;
  }
}

function moodOf(random: Prng): Mood {
  const pick = (values: readonly number[]): number => values[random.int(values.length)] ?? 0;
  return {
    periodNs: pick([16, 64, 256, 1024]),
    evictions: pick([0, 0.1, 0.5, 0.9]),
    drains: pick([0, 0.1, 0.5]),
    slow: pick([-2, -1, 1, 2]),
    slowness: pick([1, 4, 12, 40]),
  };
}

/** Runs `program` once. */
export function runProgram(program: Program, options: RunOptions): Outcome {
  return new Run(program, options).go();
}
