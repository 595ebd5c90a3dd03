/** What is measured, against what, and what is aimed at. One entry a line of the report; `README.md` tells how to add one. */

/** A program that measures something and prints one line of JSON with the value: how to start it. */
export interface Program {
  /** As the report calls it. */
  readonly label: string;
  /** Anything that `peers.ts` can find; `node` is always there. */
  readonly runner: 'node' | 'systemc' | 'simpy' | 'queue' | 'simjs';
  readonly args: readonly string[];
}

/** Another program, and how much better than it we want to be; 1 is as good. */
export interface Rival extends Program {
  readonly atLeast?: number;
}

/** One thing that is measured. */
export interface Benchmark {
  readonly name: string;
  /** Benchmarks of one group can be asked for by it. */
  readonly group?: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  /** What the value itself has to reach. */
  readonly target?: number;
  readonly ours: Program;
  /** A bare loop that does the same without any interface: what can at most be reached. */
  readonly limit?: Rival;
  readonly peers?: readonly Rival[];
}

const node = (label: string, ...args: readonly (string | number)[]): Program => ({
  label,
  runner: 'node',
  args: args.map(String),
});

/** Built by `build.ts` into this folder, which is ignored by git. */
export const OUTPUT = 'out/bench';

const kernel = (...args: readonly (string | number)[]): Program => node('ours', `${OUTPUT}/kernel.bench.js`, ...args);
const pipeline = (...args: readonly string[]): Program => node('ours', `${OUTPUT}/pipeline.bench.js`, ...args);
const bare = (label: string, ...args: readonly (string | number)[]): Program =>
  node(label, 'bench/limits/kernel.mjs', ...args);

const peer = (
  runner: Program['runner'],
  label: string,
  args: readonly (string | number)[],
  atLeast: number,
): Rival => ({
  ...{ label, runner, args: args.map(String), atLeast },
});
const systemc = (atLeast: number, ...args: readonly (string | number)[]): Rival =>
  peer('systemc', 'SystemC', args, atLeast);
const simpy = (atLeast: number, ...args: readonly (string | number)[]): Rival => peer('simpy', 'SimPy', args, atLeast);

const events = { unit: 'events/s', better: 'higher' } as const;
const switches = { unit: 'switches/s', better: 'higher' } as const;

/**
 * Bytes a frame for each of the three devices of the bare scene, so that both move as many: NV12 written and read (760 pages
 * each), XRGB written and read (2,025 pages each).
 */
const FILM_BYTES = ((2 * 760 + 2 * 2025) / 3) * 4096;

/** Everything that can be measured, in the order of the report. */
export const BENCHMARKS: readonly Benchmark[] = [
  {
    ...{ name: 'hold100', ...events, ours: kernel('hold', 100, 3e6) },
    limit: { ...bare('bare ladder', 'hold', 100, 3e6), atLeast: 0.5 },
    peers: [systemc(1.4, 'hold', 100, 3e6), simpy(10, 'hold', 100, 3e5)],
  },
  {
    ...{ name: 'hold1e4', ...events, ours: kernel('hold', 1e4, 3e6) },
    limit: bare('bare ladder', 'hold', 1e4, 3e6),
    peers: [
      systemc(2.5, 'hold', 1e4, 2e6),
      simpy(10, 'hold', 1e4, 3e5),
      peer('queue', 'C++ priority_queue', ['hold', 1e4, 3e6], 0.6),
      peer('simjs', 'simjs', ['hold', 1e4, 1e6], 5),
    ],
  },
  {
    ...{ name: 'hold1e6', ...events, ours: kernel('hold', 1e6, 2e6) },
    limit: bare('bare ladder', 'hold', 1e6, 2e6),
    peers: [systemc(2, 'hold', 1e6, 1e6), simpy(6, 'hold', 1e6, 2e5)],
  },
  {
    ...{ name: 'hold1e6-memory', group: 'hold1e6', unit: 'bytes/event', better: 'lower', target: 100 },
    ours: node('ours', '--expose-gc', `${OUTPUT}/kernel.bench.js`, 'hold-bytes', 1e6, 1),
  },
  {
    ...{ name: 'pingpong', ...switches, ours: kernel('pingpong', 2, 4e6) },
    limit: { ...bare('bare generators', 'pingpong', 2, 4e6), atLeast: 0.5 },
    peers: [systemc(1.5, 'pingpong', 2, 3e6), simpy(15, 'pingpong', 2, 3e5)],
  },
  {
    ...{ name: 'pingtime', ...switches, ours: kernel('pingtime', 2, 4e6) },
    limit: bare('bare generators', 'pingtime', 2, 4e6),
    peers: [systemc(1.5, 'pingtime', 2, 3e6), simpy(20, 'pingtime', 2, 3e5)],
  },
  {
    ...{ name: 'procs1e4', ...switches, ours: kernel('procs', 1e4, 3e6) },
    limit: { ...bare('bare generators', 'procs', 1e4, 3e6), atLeast: 0.45 },
    peers: [systemc(2.5, 'procs', 1e4, 1e6), simpy(8, 'procs', 1e4, 2e5)],
  },
  {
    ...{ name: 'wake1e3', unit: 'wake-ups/s', better: 'higher', ours: kernel('wake', 1e3, 4e6) },
    limit: bare('bare generators', 'wake', 1e3, 4e6),
    peers: [systemc(1, 'wake', 1e3, 4e6), simpy(8, 'wake', 1e3, 5e5)],
  },
  {
    ...{ name: 'trace-ring', group: 'trace', ...events, ours: kernel('hold-ring', 1e4, 3e6) },
    limit: { ...kernel('hold', 1e4, 3e6), label: 'without trace', atLeast: 1 / 1.15 },
  },
  {
    ...{ name: 'trace-columns', group: 'trace', ...events, ours: kernel('hold-columns', 1e4, 3e6) },
    limit: { ...kernel('hold', 1e4, 3e6), label: 'without trace', atLeast: 1 / 1.35 },
  },
  {
    ...{ name: 'map1gib', unit: 'pages/s', better: 'higher', ours: pipeline('map1gib') },
    limit: node('bare page table', 'bench/limits/pipeline.mjs', 'map1gib'),
  },
  {
    ...{ name: 'film1080p-tags', group: 'film1080p', unit: 'x real time', better: 'higher', target: 30 },
    ours: pipeline('film', 'tags', 'stream'),
    limit: { ...node('bare scene', 'bench/limits/scene.mjs', FILM_BYTES), atLeast: 0.5 },
  },
  {
    ...{ name: 'film1080p-remap', group: 'film1080p', unit: 'x real time', better: 'higher' },
    ours: pipeline('film', 'tags', 'frame'),
    limit: node('bare pipeline', 'bench/limits/pipeline.mjs', 'film', 'tags'),
  },
  {
    ...{ name: 'film1080p-bytes', group: 'film1080p', unit: 'x real time', better: 'higher' },
    ours: pipeline('film', 'bytes', 'stream'),
    limit: node('bare pipeline', 'bench/limits/pipeline.mjs', 'film', 'bytes'),
  },
  {
    ...{ name: 'tutorial', unit: 's', better: 'lower', target: 0.35 },
    ours: node('ours', 'bench/limits/process-time.mjs', `${OUTPUT}/tutorial.js`),
    limit: node('empty process', 'bench/limits/process-time.mjs', 'bench/limits/empty.mjs'),
  },
];
