/**
 * The event kernel through the public interface.
 *
 *     node kernel.bench.js CASE N OPERATIONS     prints { "value": … }
 *
 * Every case warms up, then times the same tasks or events as they go on.
 */
import process from 'node:process';
import { Event, Signal, Simulator, TraceColumns } from '../src/index.ts';
import { cpuSeconds } from './limits/cpu-seconds.mjs';
import { exponentialTable } from './limits/exponential.mjs';

const table = exponentialTable();
let drawn = 0;
const increment = (): number => table[drawn++ & 65535] as number;

/** What a case does: `tick` is called for each operation, `run` ends after so many. */
interface Phases {
  readonly tick: () => void;
  readonly run: (operations: number) => void;
}

function phasesOf(sim: Simulator): Phases {
  let left = 0;
  let over = new Event(sim, 'phase');
  return {
    tick: () => {
      if (--left === 0) over.fire();
    },
    run: (operations) => {
      over = new Event(sim, 'phase');
      left = operations;
      sim.run(() => over);
    },
  };
}

/** Operations a second after a warm-up. */
function rate({ run }: Phases, warmUp: number, operations: number): number {
  run(warmUp);
  const start = cpuSeconds();
  run(operations);
  return operations / (cpuSeconds() - start);
}

/** Each event schedules the next: the hold model with `n` pending. */
function startHold(n: number, recorder: TraceColumns | null): Phases {
  const sim = new Simulator();
  sim.trace.recorder = recorder;
  const phases = phasesOf(sim);
  const { tick } = phases;
  const kind = sim.eventKind((arg) => {
    tick();
    sim.schedule(increment(), kind, arg);
    return undefined;
  });
  for (let i = 0; i < n; i++) sim.schedule(increment(), kind, i);
  return phases;
}

const hold = (n: number, operations: number, recorder: TraceColumns | null = null): number =>
  rate(startHold(n, recorder), Math.min(operations, Math.max(200_000, n)), operations);

/** Bytes of the host that one of `n` pending events takes; needs `--expose-gc`. */
function holdBytes(n: number): number {
  const used = (): number => {
    globalThis.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = used();
  const phases = startHold(n, null);
  phases.run(n);
  return (used() - before) / n;
}

/** Two tasks wake each other at one instant. */
function pingpong(_n: number, operations: number): number {
  const sim = new Simulator();
  const phases = phasesOf(sim);
  const { tick } = phases;
  const player = (mine: Signal, other: Signal) =>
    function* () {
      for (;;) {
        yield* mine;
        tick();
        other.notify();
      }
    };
  const ping = new Signal(sim, 'ping');
  const pong = new Signal(sim, 'pong');
  sim.spawn('a', player(ping, pong), { daemon: true });
  sim.spawn('b', player(pong, ping), { daemon: true });
  sim.spawn('serve', () => {
    ping.notify();
  });
  return rate(phases, 300_000, operations);
}

/** Two tasks wake each other, one tick later each time. */
function pingtime(_n: number, operations: number): number {
  const sim = new Simulator();
  const phases = phasesOf(sim);
  const { tick } = phases;
  const ping = new Signal(sim, 'ping');
  const pong = new Signal(sim, 'pong');
  const later = (signal: Signal) =>
    sim.eventKind(() => {
      signal.notify();
      return undefined;
    });
  const player = (mine: Signal, wakeOther: number) =>
    function* () {
      for (;;) {
        yield* mine;
        tick();
        sim.schedule(1, wakeOther, 0);
      }
    };
  const wakePing = later(ping);
  sim.spawn('a', player(ping, later(pong)), { daemon: true });
  sim.spawn('b', player(pong, wakePing), { daemon: true });
  sim.schedule(1, wakePing, 0);
  return rate(phases, 300_000, operations);
}

/** `n` tasks, each of which sleeps again and again. */
function procs(n: number, operations: number): number {
  const sim = new Simulator();
  const phases = phasesOf(sim);
  const { tick } = phases;
  const body = function* () {
    for (;;) {
      yield* sim.delay(increment());
      tick();
    }
  };
  for (let i = 0; i < n; i++) sim.spawn('sleeper', body);
  return rate(phases, 200_000, operations);
}

/** One signal wakes `n` tasks, again and again. */
function wake(n: number, operations: number): number {
  const sim = new Simulator();
  const signal = new Signal(sim, 'all');
  let woken = 0;
  const body = function* () {
    for (;;) {
      yield* signal;
      woken++;
    }
  };
  for (let i = 0; i < n; i++) sim.spawn('waiter', body, { daemon: true });
  const run = (count: number): void => {
    woken = 0;
    sim.run(function* () {
      yield* sim.delay(1);
      while (woken < count) {
        signal.notify();
        yield* sim.delay(1);
      }
    });
  };
  run(200_000);
  const start = cpuSeconds();
  run(operations);
  return woken / (cpuSeconds() - start);
}

const cases = new Map<string, (n: number, operations: number) => number>([
  ['hold', hold],
  ['hold-ring', (n, operations) => hold(n, operations, new TraceColumns(65_536))],
  ['hold-columns', (n, operations) => hold(n, operations, new TraceColumns())],
  ['hold-bytes', holdBytes],
  ['pingpong', pingpong],
  ['pingtime', pingtime],
  ['procs', procs],
  ['wake', wake],
]);
const [name = '', n, operations] = process.argv.slice(2);
const run = cases.get(name);
if (run === undefined) throw new Error(`no case ${name}: one of ${[...cases.keys()].join(', ')}`);
console.log(JSON.stringify({ value: run(Number(n), Number(operations)) }));
