/** Random programs of accesses and maintenance over a few lines, and how to run one on a machine. */
import fc from 'fast-check';
import type { PhysAddr } from '../../src/base/addr.ts';
import { HazardError } from '../../src/base/errors.ts';
import type { CacheGeometry } from '../../src/cache/cpu-cache.ts';
import { Prng } from '../../src/sim/prng.ts';
import { CacheModel } from './cache-model.ts';
import { app, at, bytesOf, camera, isp, LINE, type Machine, nic } from './machine.ts';

/** Lines a program works on: more than its cache holds. */
export const LINES = 10;
/** A cache so small that lines leave all the time. */
export const TINY = { cache: { sets: 2, ways: 2 }, writeBuffers: 2 };

export const READS = ['cached-read', 'uncached-read', 'wc-read', 'device-read', 'snooping-read'] as const;
export const WRITES = ['cached-write', 'uncached-write', 'wc-write', 'device-write', 'snooping-write'] as const;
const OTHERS = ['clean', 'invalidate', 'clean-invalidate', 'evict', 'prefetch', 'barrier'] as const;
/** What takes a larger machine: see {@link bigPrograms}. */
export const MORE_READS = ['register-read', 'seeing-read', 'gpu-read'] as const;
export const MORE_WRITES = ['register-write', 'seeing-write', 'gpu-write'] as const;
const MORE_OTHERS = [
  'system-clean',
  'system-invalidate',
  'system-clean-invalidate',
  'gpu-flush',
  'gpu-invalidate',
  'gpu-flush-invalidate',
  'drain',
] as const;

export type StepKind =
  | (typeof READS)[number]
  | (typeof WRITES)[number]
  | (typeof OTHERS)[number]
  | (typeof MORE_READS)[number]
  | (typeof MORE_WRITES)[number]
  | (typeof MORE_OTHERS)[number];

export interface Step {
  readonly op: StepKind;
  /** From the start of RAM. */
  readonly offset: number;
  readonly length: number;
  /** Of all bytes of a write. */
  readonly value: number;
  /** That does it, if a CPU does. Default 0. */
  readonly cpu?: number;
}

const SMALL_OPS: readonly StepKind[] = [...READS, ...WRITES, ...WRITES, ...OTHERS];
const BIG_OPS: readonly StepKind[] = [
  ...[...READS, ...MORE_READS, ...WRITES, ...WRITES, ...MORE_WRITES, ...MORE_WRITES],
  ...[...OTHERS, ...MORE_OTHERS],
];

/** Programs whose `n`th step writes `valueAt(n)`. */
function programs(valueAt: (n: number) => number, ops = SMALL_OPS): fc.Arbitrary<Step[]> {
  const edge = fc.oneof(
    fc.nat(LINES * LINE - 1),
    fc.nat(LINES - 1).map((line) => line * LINE),
    fc.nat(2 * LINES - 1).map((half) => (half * LINE) / 2),
  );
  const size = fc.oneof(fc.integer({ min: 1, max: 200 }), fc.constantFrom(LINE / 2, LINE, 2 * LINE));
  const step = fc.record({
    op: fc.constantFrom(...ops),
    offset: edge,
    length: size,
    cpu: ops === SMALL_OPS ? fc.constant(0) : fc.nat(1),
  });
  return fc
    .array(step, { maxLength: 60, size: 'max' })
    .map((steps) =>
      steps.map((s, n) => aligned({ ...s, length: Math.min(s.length, LINES * LINE - s.offset), value: valueAt(n) })),
    );
}

/** Accesses to registers are whole words. */
function aligned(step: Step): Step {
  if (!step.op.startsWith('register')) return step;
  const offset = step.offset - (step.offset % 8);
  return { ...step, offset, length: step.length - (step.length % 8) || 8 };
}

/** Each step writes a value of its own, so that equal bytes mean the same write. */
export const distinctPrograms = programs((n) => n + 1);
/** Values repeat, so that old bytes are often right by luck. */
export const luckyPrograms = programs((n) => (n * 7) % 2);

/** The same two with all that a domain can have. */
export const bigPrograms = programs((n) => n + 1, BIG_OPS);
export const bigLuckyPrograms = programs((n) => (n * 7) % 2, BIG_OPS);

/** Machines of every kind, for a {@link Machine} and as the model wants them. */
export const bigMachines: fc.Arbitrary<BigMachine> = fc
  .record({
    cache: cacheShapes(),
    writeBuffers: fc.integer({ min: 1, max: 3 }),
    system: fc.option(fc.tuple(cacheShapes(), fc.boolean()), { nil: undefined }),
    gpu: fc.tuple(cacheShapes(), fc.boolean(), fc.boolean()),
  })
  .map(({ cache, writeBuffers, system, gpu }) => {
    const [geometry, snoops, sees] = gpu;
    const [outer, beyond] = system ?? [undefined, false];
    const systemCache = outer && { ...outer, beyondPointOfCoherency: beyond };
    const options = { cache, writeBuffers, gpu: { geometry, snoops, seesSystemCache: sees } };
    return { ...options, ...(systemCache === undefined ? {} : { systemCache }) };
  });

function cacheShapes(): fc.Arbitrary<CacheShape> {
  return fc.record({
    sets: fc.integer({ min: 1, max: 3 }),
    ways: fc.constantFrom(1, 2, 4),
    writes: fc.constantFrom('back', 'back', 'through'),
    writeAllocate: fc.constantFrom(true, true, false),
    replacement: fc.constantFrom('lru', 'fifo', 'random', 'tree-plru'),
  });
}

/** The machine's model. Caches that replace at random draw from streams of the same names. */
export function modelOf({ cache, writeBuffers, systemCache, gpu }: BigMachine): CacheModel {
  const prng = new Prng(1);
  let made = 0;
  const shaped = (shape: CacheShape) => {
    if (shape.replacement !== 'random') return shape;
    const random = prng.fork(`cache ${made++}`);
    return { ...shape, pick: (ways: number) => random.int(ways) };
  };
  const own = shaped(cache);
  const system = systemCache && { ...shaped(systemCache), beyond: systemCache.beyondPointOfCoherency };
  const device = { ...shaped(gpu.geometry), snoops: gpu.snoops, sees: gpu.seesSystemCache };
  return new CacheModel(LINES, { ...own, entries: writeBuffers, gpu: device, ...(system && { system }) });
}

type CacheShape = Required<Omit<CacheGeometry, 'lineBytes'>>;

export interface BigMachine {
  readonly cache: CacheShape;
  readonly writeBuffers: number;
  readonly systemCache?: CacheShape & { readonly beyondPointOfCoherency: boolean };
  readonly gpu: { readonly geometry: CacheShape; readonly snoops: boolean; readonly seesSystemCache: boolean };
}

export function isRead(step: Step): boolean {
  return [...READS, ...MORE_READS].some((op) => op === step.op);
}

export function isWrite(step: Step): boolean {
  return [...WRITES, ...MORE_WRITES].some((op) => op === step.op);
}

/** Who reads and writes so, as reports name him. */
export function actorOf({ op }: Step): string {
  if (op.startsWith('device')) return 'camera0';
  if (op.startsWith('snooping')) return 'nic0';
  if (op.startsWith('seeing')) return 'isp0';
  return op.startsWith('gpu') ? 'gpu0' : 'app';
}

/** Does `step`. @returns the bytes a read gets, none otherwise; what a hazard throws is swallowed. */
export function runStep(machine: Machine, step: Step): number[] {
  const out = new Uint8Array(isRead(step) ? step.length : 0);
  try {
    act(machine, step, out);
  } catch (error) {
    if (!(error instanceof HazardError)) throw error;
  }
  return [...out];
}

function act(machine: Machine, step: Step, out: Uint8Array): void {
  const { domain, memory } = machine;
  const { op, length } = step;
  machine.sim.runOnCpu(step.cpu ?? 0);
  const phys = at(step.offset);
  const src = memory.storesBytes ? bytesOf(length, step.value) : null;
  switch (op) {
    case 'cached-read':
      domain.cpuRead(phys, out, 0, length, 'cached', app);
      break;
    case 'uncached-read':
      domain.cpuRead(phys, out, 0, length, 'uncached', app);
      break;
    case 'wc-read':
      domain.cpuRead(phys, out, 0, length, 'write-combined', app);
      break;
    case 'device-read':
      domain.deviceRead(phys, out, 0, length, camera);
      break;
    case 'snooping-read':
      domain.deviceRead(phys, out, 0, length, nic);
      break;
    case 'cached-write':
      domain.cpuWrite(phys, src, 0, length, 'cached', app);
      break;
    case 'uncached-write':
      domain.cpuWrite(phys, src, 0, length, 'uncached', app);
      break;
    case 'wc-write':
      domain.cpuWrite(phys, src, 0, length, 'write-combined', app);
      break;
    case 'device-write':
      domain.deviceWrite(phys, src, 0, length, camera);
      break;
    case 'snooping-write':
      domain.deviceWrite(phys, src, 0, length, nic);
      break;
    case 'clean':
      domain.clean(phys, length);
      break;
    case 'invalidate':
      domain.invalidate(phys, length);
      break;
    case 'clean-invalidate':
      domain.cleanInvalidate(phys, length);
      break;
    case 'evict':
      domain.evict(phys, length);
      break;
    case 'prefetch':
      domain.prefetch(phys, length);
      break;
    case 'barrier':
      domain.barrier();
      break;
    default:
      actBig(machine, op, phys, src, length, out);
  }
}

function actBig(
  { domain, gpu }: Machine,
  op: StepKind,
  phys: PhysAddr,
  src: Uint8Array | null,
  length: number,
  out: Uint8Array,
): void {
  if (op === 'register-read') domain.cpuRead(phys, out, 0, length, 'device', app);
  else if (op === 'register-write') domain.cpuWrite(phys, src, 0, length, 'device', app);
  else if (op === 'seeing-read') domain.deviceRead(phys, out, 0, length, isp);
  else if (op === 'seeing-write') domain.deviceWrite(phys, src, 0, length, isp);
  else if (op === 'gpu-read') domain.deviceRead(phys, out, 0, length, gpu);
  else if (op === 'gpu-write') domain.deviceWrite(phys, src, 0, length, gpu);
  else if (op === 'gpu-flush') gpu.cache?.flush();
  else if (op === 'gpu-invalidate') gpu.cache?.invalidate();
  else if (op === 'gpu-flush-invalidate') gpu.cache?.flushInvalidate();
  else if (op === 'system-clean') domain.maintainSystemCache('clean', phys, length);
  else if (op === 'system-invalidate') domain.maintainSystemCache('invalidate', phys, length);
  else if (op === 'system-clean-invalidate') domain.maintainSystemCache('clean-invalidate', phys, length);
  else domain.drainWriteBuffer();
}
