/** Random programs of accesses and maintenance over a few lines, and how to run one on a machine. */
import fc from 'fast-check';
import { HazardError } from '../../src/base/errors.ts';
import { app, at, bytesOf, camera, LINE, type Machine, nic } from './machine.ts';

/** Lines a program works on: more than its cache holds. */
export const LINES = 10;
/** A cache so small that lines leave all the time. */
export const TINY = { cache: { sets: 2, ways: 2 }, writeBuffers: 2 };

export const READS = ['cached-read', 'uncached-read', 'wc-read', 'device-read', 'snooping-read'] as const;
export const WRITES = ['cached-write', 'uncached-write', 'wc-write', 'device-write', 'snooping-write'] as const;
const OTHERS = ['clean', 'invalidate', 'clean-invalidate', 'evict', 'prefetch', 'barrier'] as const;

export type StepKind = (typeof READS)[number] | (typeof WRITES)[number] | (typeof OTHERS)[number];

export interface Step {
  readonly op: StepKind;
  /** From the start of RAM. */
  readonly offset: number;
  readonly length: number;
  /** Of all bytes of a write. */
  readonly value: number;
}

/** Programs whose `n`th step writes `valueAt(n)`. */
function programs(valueAt: (n: number) => number): fc.Arbitrary<Step[]> {
  const edge = fc.oneof(
    fc.nat(LINES * LINE - 1),
    fc.nat(LINES - 1).map((line) => line * LINE),
    fc.nat(2 * LINES - 1).map((half) => (half * LINE) / 2),
  );
  const size = fc.oneof(fc.integer({ min: 1, max: 200 }), fc.constantFrom(LINE / 2, LINE, 2 * LINE));
  const step = fc.record({
    op: fc.constantFrom(...READS, ...WRITES, ...WRITES, ...OTHERS),
    offset: edge,
    length: size,
  });
  return fc
    .array(step, { maxLength: 60, size: 'max' })
    .map((steps) =>
      steps.map((s, n) => ({ ...s, length: Math.min(s.length, LINES * LINE - s.offset), value: valueAt(n) })),
    );
}

/** Each step writes a value of its own, so that equal bytes mean the same write. */
export const distinctPrograms = programs((n) => n + 1);
/** Values repeat, so that old bytes are often right by luck. */
export const luckyPrograms = programs((n) => (n * 7) % 2);

export function isRead(step: Step): boolean {
  return READS.some((op) => op === step.op);
}

export function isWrite(step: Step): boolean {
  return WRITES.some((op) => op === step.op);
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

function act({ domain, memory }: Machine, step: Step, out: Uint8Array): void {
  const { op, length } = step;
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
  }
}
