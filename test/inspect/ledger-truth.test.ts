/**
 * Random programs of system calls. After each call the ledger is compared with the things themselves: a mark and sweep over everything that
 * can hold something.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ErrnoError } from '../../src/base/errors.ts';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { leakReport } from '../../src/inspect/leaks.ts';
import { ledgerGraph } from '../../src/inspect/ledger-graph.ts';
import { lift, type Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import type { ObjectKind } from '../../src/trace/object-ledger.ts';
import { OpenFile } from '../../src/uapi/file.ts';
import type { Process } from '../../src/uapi/process.ts';
import { SW_SYNC_PATH } from '../../src/uapi/sw-sync.ts';
import { Marks } from '../uapi/mark-and-sweep.ts';
import { type Call, MAX_FDS, RandomCalls } from '../uapi/random-calls.ts';
import { CARDS, HEAP, System } from '../uapi/system.ts';

const PROCESSES = 4;
/** Longer than any call takes that does not wait for another process. */
const SETTLE_NS = 100_000;

class Program {
  readonly system = new System();
  readonly #processes: Process[] = [];
  readonly #calls: RandomCalls;
  #inFlight = 0;
  #made = 0;
  /** Calls that were under way when the ledger was compared, and comparisons. */
  compared = 0;

  constructor(seed: number) {
    this.#calls = new RandomCalls(new Marks(this.system), new Prng(seed));
  }

  run(calls: number): void {
    const { sim } = this.system;
    sim.run(() => this.#steps(calls));
    sim.run();
    expect([...sim.objects.live].map(({ name }) => name)).toEqual([]);
    expect(leakReport(sim).leaks).toEqual([]);
  }

  *#steps(calls: number): Op<void> {
    const { sim } = this.system;
    for (let i = 0; i < calls; i++) {
      yield* this.#step();
      yield* sim.delay(SETTLE_NS);
      this.#compare();
    }
    for (const process of [...this.#processes]) yield* this.#end(process);
  }

  *#step(): Op<void> {
    const process = this.#processes.length < PROCESSES ? this.#start() : this.#calls.pick(this.#processes);
    if (process === undefined) return;
    const what = this.#calls.below(60);
    const call = this.#calls.anything(process, what);
    if (what === 0) yield* this.#end(process);
    else if (what === 1) process.exec();
    else if (what === 2) this.#processes.push(process.fork(`p${this.#made++}`));
    else if (what < 6) {
      this.#call(process, call);
      yield* this.system.sim.delay(this.#calls.below(1000));
      yield* this.#end(process);
    } else this.#call(process, call);
  }

  #start(): Process {
    const process = this.system.machine.addProcess({ name: `p${this.#made++}`, maxFds: MAX_FDS, watch: false });
    this.#processes.push(process);
    for (const path of [HEAP, CARDS[this.#calls.below(2)] ?? '', SW_SYNC_PATH]) {
      this.#call(process, { name: 'open', fds: [], body: () => process.open(path) });
    }
    return process;
  }

  #call(process: Process, { name, fds, body }: Call): void {
    const program = this;
    process.spawn(name, function* () {
      program.#inFlight++;
      try {
        yield* lift(body(fds[0] ?? -1));
      } catch (error) {
        if (!(error instanceof ErrnoError)) throw error;
      } finally {
        program.#inFlight--;
      }
    });
  }

  *#end(process: Process): Op<void> {
    yield* process.kill();
    this.#processes.splice(this.#processes.indexOf(process), 1);
  }

  #compare(): void {
    const { sim, cards } = this.system;
    const { objects } = sim;
    const live = [...objects.live];
    const names = (kind: ObjectKind) => live.flatMap((object) => (object.kind === kind ? [object.name] : [])).sort();
    const buffers = dmaBufCore(sim).buffers;
    const gems = cards.flatMap((card) => card.objects);

    const fds = this.#processes.flatMap(({ name, fds }) => fds.open.map((fd) => `fd ${fd} of ${name}`));
    expect(names('fd')).toEqual(fds.sort());
    const mappings = this.#processes.flatMap(({ name, mappings }) =>
      mappings.map(({ vma }) => `mmap of ${vma.backing.name} in ${name}`),
    );
    expect(names('mmap')).toEqual(mappings.sort());
    expect(names('dma-buf')).toEqual(buffers.map(({ name }) => name).sort());
    expect(names('gem-object')).toEqual(gems.map(({ name }) => name).sort());
    expect(names('attachment').length).toBe(buffers.reduce((sum, buf) => sum + buf.attachments.length, 0));
    expect(names('handle').length).toBe(gems.reduce((sum, gem) => sum + gem.handleCount, 0));
    for (const counted of [...buffers, ...gems]) {
      expect([counted.name, objects.references(counted)]).toEqual([counted.name, counted.references]);
    }
    for (const { id, kind, name } of live) {
      const thing = objects.subject(id);
      if (kind === 'reference') continue;
      if (thing instanceof OpenFile) expect([name, objects.references(thing)]).toEqual([name, thing.references]);
      if (thing instanceof DmaFence) expect([name, objects.references(thing)]).toEqual([name, thing.refs]);
    }
    if (this.#inFlight > 0) return;
    this.compared++;
    // At rest everybody who holds something has a name, and everything hangs on a descriptor, a mapping or a pending fence.
    const loose = live.filter(({ kind, of }) => kind === 'reference' && of !== 'fence');
    expect(loose.map(({ name }) => name)).toEqual([]);
    for (const { id, kind, name } of live) {
      const thing = objects.subject(id);
      if (kind !== 'dma-buf' && kind !== 'gem-object' && kind !== 'file') continue;
      const named = live.filter(({ holds, kind: by }) => holds === id && ['fd', 'mmap', 'handle'].includes(by)).length;
      const others = objects.holders(id).reduce((sum, { count }) => sum + count, 0);
      expect([name, named + others]).toEqual([name, thing === undefined ? 0 : objects.references(thing)]);
    }
    const { roots, loops } = ledgerGraph(sim);
    for (const { kind, of, name } of roots)
      expect(['fd', 'mmap', 'fence'], name).toContain(kind === 'reference' ? of : kind);
    expect(loops.filter((loop) => loop.some(({ kind }) => kind !== 'fence'))).toEqual([]);
  }
}

describe('the ledger of objects', () => {
  it('knows what is alive and how often it is held, whatever processes do and wherever they are killed', () => {
    let compared = 0;
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000_000 }), (seed) => {
        const program = new Program(seed);
        program.run(120);
        compared += program.compared;
      }),
      { numRuns: 2, seed: 7 },
    );
    expect(compared).toBeGreaterThan(10);
  });
});
