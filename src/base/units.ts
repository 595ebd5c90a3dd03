/** Conversions of size and time. Sizes are bytes, times whole nanoseconds; nothing else converts by hand. */
import { type Nanos, nanos, PAGE_SIZE } from './addr.ts';

/** 1 KiB in bytes. */
export const KIB = 1024;
/** 1 MiB in bytes. */
export const MIB = 1024 * KIB;
/** 1 GiB in bytes. */
export const GIB = 1024 * MIB;

/** Microseconds as nanoseconds, rounded to a whole one. @throws {InvariantError} negative. */
export function us(value: number): Nanos {
  return nanos(Math.round(value * 1e3));
}

/** Milliseconds as nanoseconds, rounded to a whole one. @throws {InvariantError} negative. */
export function ms(value: number): Nanos {
  return nanos(Math.round(value * 1e6));
}

/** Seconds as nanoseconds, rounded to a whole one. @throws {InvariantError} negative. */
export function seconds(value: number): Nanos {
  return nanos(Math.round(value * 1e9));
}

/** `value` rounded up to a multiple of `step` (> 0, need not be a power of two). */
export function alignUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}

/** `value` rounded down to a multiple of `step` (> 0, need not be a power of two). */
export function alignDown(value: number, step: number): number {
  return Math.floor(value / step) * step;
}

/** Pages needed to hold `sizeBytes`. */
export function pagesFor(sizeBytes: number): number {
  return Math.ceil(sizeBytes / PAGE_SIZE);
}

/** Bytes with the largest binary unit that divides them evenly or to one decimal: `'1.5 MiB'`. */
export function formatBytes(bytes: number): string {
  for (const [unit, size] of [
    ['GiB', GIB],
    ['MiB', MIB],
    ['KiB', KIB],
  ] as const) {
    if (bytes >= size) return `${trimZero(bytes / size)} ${unit}`;
  }
  return `${bytes} B`;
}

function trimZero(value: number): string {
  return value.toFixed(1).replace(/\.0$/, '');
}
