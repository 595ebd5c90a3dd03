/**
 * Random programs of system calls from eight processes. After each call every reference count is compared with a mark and sweep
 * over everything that can hold something. `DMABUF_SIM_RUNS` multiplies the number of calls: 100 makes it 100 000.
 */
import { expect, it } from 'vitest';
import { ErrnoError } from '../../src/base/errors.ts';
import { lift, type Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import { DrmFile } from '../../src/uapi/drm-file.ts';
import type { Process } from '../../src/uapi/process.ts';
import { SW_SYNC_PATH } from '../../src/uapi/sw-sync.ts';
import { type InFlight, Marks } from './mark-and-sweep.ts';
import { type Call, MAX_FDS, RandomCalls } from './random-calls.ts';
import { CARDS, HEAP, System } from './system.ts';

const CALLS = 1000 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1);
const CALLS_A_PROGRAM = 500;
const PROCESSES = 8;
/** Longer than any call takes that does not wait for another process. */
const SETTLE_NS = 100_000;

class Program {
  readonly #system = new System();
  readonly #marks = new Marks(this.#system);
  readonly #calls: RandomCalls;
  readonly #processes: Process[] = [];
  /** Outcomes of calls, to see that the programs do things. */
  readonly outcomes = new Map<string, number>();
  #made = 0;

  constructor(seed: number) {
    this.#calls = new RandomCalls(this.#marks, new Prng(seed));
  }

  run(calls: number): void {
    const { sim } = this.#system;
    sim.run(() => this.#steps(calls));
    sim.run();
    this.#marks.check([]);
    this.#system.expectNothingLeft();
  }

  *#steps(calls: number): Op<void> {
    for (let i = 0; i < calls; i++) {
      yield* this.#passDeadlines();
      const { memory } = this.#system.machine;
      if (this.#calls.chance(0.1)) memory.failNext = () => true;
      yield* this.#step();
      memory.failNext = undefined;
      this.#marks.check(this.#processes);
    }
    for (const process of [...this.#processes]) yield* this.#end(process);
    yield* this.#system.sim.delay(SETTLE_NS);
    this.#marks.check([]);
  }

  /** So that no time is up in the middle of a step. */
  *#passDeadlines(): Op<void> {
    const { sim } = this.#system;
    for (;;) {
      const next = Math.min(...[...this.#marks.inFlight].map(({ deadlineNs }) => deadlineNs), Infinity);
      if (next > sim.now + 2 * SETTLE_NS) return;
      yield* sim.delay(Math.max(0, next - sim.now) + SETTLE_NS);
    }
  }

  *#step(): Op<void> {
    const { sim } = this.#system;
    if (this.#processes.length < PROCESSES && this.#calls.chance(0.2)) {
      this.#start();
      yield* sim.delay(SETTLE_NS);
    }
    const process = this.#calls.pick(this.#processes) ?? this.#start();
    const what = this.#calls.below(60);
    if (what === 0 && this.#calls.chance(0.4)) yield* this.#end(process);
    else if (what === 1 && this.#calls.chance(0.5)) process.exec();
    else if (what === 2) this.#fork(process);
    else if (what === 3) process.fds.limit = 3 + this.#calls.below(MAX_FDS);
    else if (what === 4) process.interrupt();
    else if (what === 5) yield* sim.delay(this.#calls.below(2_000_000));
    else if (what === 6) yield* this.#killDuring(process);
    else this.#call(process, this.#calls.anything(process, what));
    yield* sim.delay(SETTLE_NS);
  }

  /** Starts a call as a thread of the process. */
  #call(process: Process, { name, fds, body, events = 0, timeoutNs = 0 }: Call): void {
    const { sim } = this.#system;
    const marks = this.#marks;
    process.spawn(name, () =>
      this.#noting(name, function* () {
        const holds = fds.filter((fd) => process.fds.open.includes(fd)).map((fd) => process.fds.file(fd));
        const polls = events === 0 ? [] : holds.map((file) => ({ file, events }));
        // An ioctl on what is not open does nothing.
        const deadlineNs = timeoutNs === 0 ? Infinity : sim.now + timeoutNs;
        const call: InFlight = { process, holds, polls, deadlineNs };
        marks.inFlight.add(call);
        try {
          yield* lift(body(fds[0] ?? -1));
        } finally {
          marks.inFlight.delete(call);
          marks.watch(polls);
        }
      }),
    );
  }

  *#noting(name: string, body: () => Op<void>): Op<void> {
    let how = 'killed';
    try {
      yield* body();
      how = 'ok';
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      how = error.code;
    } finally {
      const key = `${name} ${how}`;
      this.outcomes.set(key, (this.outcomes.get(key) ?? 0) + 1);
    }
  }

  /** A process is killed in the middle of a call. */
  *#killDuring(process: Process): Op<void> {
    const card = this.#calls.fdOf(process, DrmFile);
    const calls = [
      () => this.#calls.open(process),
      () => this.#calls.import(process, card),
      () => this.#calls.mmap(process, card),
      () => this.#calls.bracket(process),
      () => this.#calls.syncFile(process),
    ];
    const call = this.#calls.pick(calls)?.() ?? this.#calls.open(process);
    const before = this.#handles();
    this.#call(process, call);
    yield* this.#system.sim.delay(this.#calls.below(1000));
    yield* this.#end(process, true);
    yield* this.#system.sim.delay(SETTLE_NS);
    // A client that somebody else holds as well may have a handle now that nobody was told of.
    for (const [client, handles] of this.#handles()) {
      const known = before.get(client) ?? [];
      if (call.name === 'import')
        for (const handle of handles) if (!known.includes(handle)) this.#marks.notePrime(client, handle);
    }
  }

  *#end(process: Process, byKill = false): Op<void> {
    if (byKill || this.#calls.chance(0.5)) yield* process.kill();
    else process.exit();
    this.#processes.splice(this.#processes.indexOf(process), 1);
  }

  #start(): Process {
    const process = this.#system.machine.addProcess({ name: `p${this.#made++}`, maxFds: MAX_FDS, watch: false });
    this.#processes.push(process);
    for (const path of [HEAP, CARDS[this.#calls.below(2)] ?? '', SW_SYNC_PATH]) {
      this.#call(process, { name: 'open', fds: [], body: () => process.open(path) });
    }
    return process;
  }

  #fork(process: Process): void {
    if (this.#processes.length < PROCESSES) this.#processes.push(process.fork(`p${this.#made++}`));
  }

  #handles(): Map<DrmFile, number[]> {
    const files = this.#processes.flatMap(({ fds }) => fds.open.map((fd) => fds.file(fd)));
    return new Map(files.flatMap((file) => (file instanceof DrmFile ? [[file, file.handles]] : [])));
  }
}

it('whatever eight processes do, every count is what can be counted, and nothing is left when they are gone', {
  timeout: 20_000 + 20 * CALLS,
}, () => {
  const outcomes = new Set<string>();
  for (let done = 0; done < CALLS; done += CALLS_A_PROGRAM) {
    const seed = 1 + done / CALLS_A_PROGRAM;
    const program = new Program(seed);
    try {
      program.run(CALLS_A_PROGRAM);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
    for (const how of program.outcomes.keys()) outcomes.add(how);
  }
  const done = [...outcomes].filter((how) => how.endsWith(' ok')).map((how) => how.slice(0, -3));
  expect(done).toEqual(
    expect.arrayContaining(['open', 'alloc', 'mmap', 'send', 'receive', 'export', 'import', 'poll']),
  );
  expect(done).toEqual(
    expect.arrayContaining(['gem close', 'merge', 'import sync file', 'export sync file', 'bracket']),
  );
});
