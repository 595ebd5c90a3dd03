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
const watched = (name: string, ...film: readonly string[]): Benchmark => ({
  ...{ name: `watched-${name}`, group: 'watched', unit: 'x real time', better: 'higher' },
  ours: pipeline('film', ...film, 'watched'),
  limit: { ...pipeline('film', ...film, 'silent'), label: 'nobody watches', atLeast: 0.5 },
});
const iovaPairs = (variant: string, sizes: string, live: number, pairs: number, limit: string): Benchmark => ({
  ...{ name: `iova-${variant}-${sizes}-${live}`, group: 'iova', unit: 'pairs/s', better: 'higher' },
  ours: node('ours', `${OUTPUT}/iova.bench.js`, variant, sizes, live, pairs),
  limit: node(`bare ${limit}`, 'bench/limits/iova.mjs', limit, sizes, live, pairs),
});
const dmaMap = (backEnd: string, layout: string, pages: number): Benchmark => {
  const loop = backEnd === 'strict' || backEnd === 'lazy' ? 'translated' : backEnd;
  return {
    ...{ name: `dma-${backEnd}-${layout}-${pages}`, group: 'dma', unit: 'pages/s', better: 'higher' },
    ours: node('ours', `${OUTPUT}/dma.bench.js`, backEnd, layout, pages),
    limit: node(`bare ${loop}`, 'bench/limits/dma.mjs', loop, layout, pages),
  };
};
const dmabuf = (name: string, unit: string, ...args: readonly (string | number)[]): Benchmark => ({
  ...{ name: `dmabuf-${name}`, group: 'dmabuf', unit, better: 'higher' },
  ours: node('ours', `${OUTPUT}/dmabuf.bench.js`, ...args),
  limit: node('bare objects', 'bench/limits/dmabuf.mjs', ...args),
});
const dmabufBytes = (kind: string, count: number): Benchmark => ({
  ...{ name: `dmabuf-${kind}-memory`, group: 'dmabuf', unit: `bytes/${kind}`, better: 'lower' },
  ours: node('ours', '--expose-gc', `${OUTPUT}/dmabuf.bench.js`, 'bytes', kind, count),
  limit: node('bare objects', '--expose-gc', 'bench/limits/dmabuf.mjs', 'bytes', kind, count),
});
/** A list of 1 MiB and one of 1 GiB. */
const dmaMaps = ['direct', 'strict', 'lazy'].flatMap((backEnd) =>
  ['scattered', 'contiguous'].flatMap((layout) => [256, 262_144].map((pages) => dmaMap(backEnd, layout, pages))),
);
const uapi = (name: string, unit: string, ...args: readonly (string | number)[]): Benchmark => ({
  ...{ name, group: 'uapi', unit, better: 'higher', ours: node('ours', `${OUTPUT}/uapi.bench.js`, ...args) },
  limit: node('bare tables', 'bench/limits/uapi.mjs', ...args),
});
/** Formats by their short names, each with the input bits of the bare table that it is held against. */
const TABLES = { arm64s1: ['ARM_64_LPAE_S1', 48], arm32s1: ['ARM_32_LPAE_S1', 32], vtd: ['INTEL_VTD_S2', 48] } as const;
const pageTable = (table: keyof typeof TABLES, operation: string, unit: string, atLeast?: number): Benchmark => {
  const [format, bits] = TABLES[table];
  return iommu(
    `pt-${table}-${operation}`,
    'pagetable',
    unit,
    ['table', format, operation],
    ['table', bits, operation],
    atLeast,
  );
};
const ofPages = (table: keyof typeof TABLES, targets: readonly [map: number, unmap: number, walk: number] | null) => [
  pageTable(table, 'map4k', 'pages/s', targets?.[0]),
  pageTable(table, 'unmap4k', 'pages/s', targets?.[1]),
  pageTable(table, 'walk4k', 'pages/s', targets?.[2]),
  pageTable(table, 'map2m', 'blocks/s'),
  pageTable(table, 'unmap2m', 'blocks/s'),
  pageTable(table, 'walk2m', 'blocks/s'),
];
const iommu = (
  name: string,
  group: string,
  unit: string,
  ours: readonly string[],
  limit: readonly (string | number)[],
  atLeast?: number,
): Benchmark => ({
  ...{ name, group, unit, better: 'higher', ours: node('ours', `${OUTPUT}/iommu.bench.js`, ...ours) },
  limit: {
    ...node('bare page table', 'bench/limits/page-table-ops.mjs', ...limit),
    ...(atLeast === undefined ? {} : { atLeast }),
  },
});
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
  // A page: at most 1.5 times the bare loop. The other targets are the kernel's C by a factor, through the bare loop's own distance from it.
  ...ofPages('arm64s1', [1 / 1.5, 1 / 1.5, 0.78]),
  pageTable('arm64s1', 'walkrandom4k', 'pages/s', 0.78),
  pageTable('arm64s1', 'maprun', 'pages/s', 0.83),
  pageTable('arm64s1', 'unmaprun', 'pages/s', 0.6),
  ...ofPages('arm32s1', null),
  ...ofPages('vtd', null),
  iommu('iotlb-hit', 'iotlb', 'translations/s', ['tlb', 'hit'], ['tlb', 'hit'], 0.5),
  iommu('iotlb-miss', 'iotlb', 'translations/s', ['tlb', 'miss'], ['tlb', 'miss']),
  iommu('domain-single', 'domain', 'pages/s', ['domain', 'single'], ['domain', 'single']),
  iommu('domain-run64', 'domain', 'pages/s', ['domain', 'run64'], ['domain', 'run64']),
  iommu('domain-scattered', 'domain', 'pages/s', ['domain', 'scattered'], ['domain', 'scattered']),
  iommu('domain-1gib', 'domain', 'pages/s', ['domain', 'gib'], ['domain', 'gib']),
  {
    ...{ name: 'pt-memory', group: 'pagetable', unit: 'bytes/GiB', better: 'lower' },
    ours: node('ours', '--expose-gc', `${OUTPUT}/iommu.bench.js`, 'memory'),
    limit: node('bare page table', '--expose-gc', 'bench/limits/page-table-ops.mjs', 'memory'),
  },
  iovaPairs('magazines', 'small', 256, 1e6, 'magazines'),
  iovaPairs('tree', 'small', 256, 2e5, 'blocks'),
  iovaPairs('tree', 'small', 4096, 1e5, 'blocks'),
  { ...iovaPairs('tree', 'large', 2048, 2e4, 'tree'), name: 'iova-tree-large-2048-walk' },
  iovaPairs('tree', 'large', 100, 1e5, 'blocks'),
  iovaPairs('tree', 'large', 10_000, 5e4, 'blocks'),
  iovaPairs('tree', 'large', 1_000_000, 2e4, 'blocks'),
  ...dmaMaps,
  dmaMap('swiotlb', 'scattered', 256),
  dmaMap('swiotlb', 'contiguous', 256),
  uapi('share', 'buffers/s', 'share'),
  ...[1, 32, 1000].map((fds) => uapi(`poll${fds}`, 'descriptors/s', 'poll', fds)),
  ...[3, 4, 5].map((digits) => uapi(`timeline1e${digits}`, 'points/s', 'timeline', 10 ** digits)),
  ...[1, 256, 16_384].map((pages) => dmabuf(`cycle-${pages}`, 'cycles/s', 'cycle', pages)),
  ...[0, 1, 8].map((callbacks) => dmabuf(`fence-${callbacks}`, 'fences/s', 'fence', callbacks)),
  ...[1, 32, 1000].map((fences) => dmabuf(`resv-${fences}`, 'fences/s', 'resv', fences)),
  dmabuf('ww', 'locks/s', 'ww'),
  dmabufBytes('buffer', 20_000),
  dmabufBytes('attachment', 20_000),
  // A million live fences in 1 GiB.
  { ...dmabufBytes('fence', 1_000_000), target: 1073 },
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
  watched('tags', 'tags', 'stream'),
  watched('remap', 'tags', 'frame'),
  watched('bytes', 'bytes', 'stream'),
  {
    ...{ name: 'tutorial', unit: 's', better: 'lower', target: 0.35 },
    ours: node('ours', 'bench/limits/process-time.mjs', `${OUTPUT}/tutorial.js`),
    limit: node('empty process', 'bench/limits/process-time.mjs', 'bench/limits/empty.mjs'),
  },
];
