/** What is printed: a table to read, or one JSON object. */
import type { Measurement, Standing } from './measure.ts';

const HEADINGS = ['benchmark', 'unit', 'value', 'against', 'its value', 'ratio', 'target', 'reached'] as const;

/** One object with a member for each benchmark; `ratio` is how much better than `limit` we are. */
export function formatJson(measurements: readonly Measurement[]): string {
  const benchmarks = measurements.map(({ benchmark: { name, unit }, value, limit }) => ({
    ...{ name, unit, value: rounded(value) },
    ...(limit === null ? {} : { limit: rounded(limit.value), ratio: rounded(limit.ratio) }),
  }));
  return JSON.stringify({ benchmarks }, null, 2);
}

/** A line for each benchmark with its limit, then one for each peer. */
export function formatTable(measurements: readonly Measurement[]): string {
  const rows = [HEADINGS, ...measurements.flatMap(rowsOf)];
  const widths = HEADINGS.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const isText = (column: number): boolean => column < 2 || column === 3 || column > 5;
  const line = (row: readonly string[]): string =>
    row
      .map((text, column) => (isText(column) ? text.padEnd(widths[column] ?? 0) : text.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd();
  return rows.map(line).join('\n');
}

function rowsOf({ benchmark, value, limit, peers }: Measurement): string[][] {
  const { name, unit, better, target } = benchmark;
  const head = [name, unit, short(value)];
  const reached = target === undefined ? [] : [better === 'higher' ? value >= target : value <= target];
  const sign = better === 'higher' ? '>=' : '<=';
  const own = target === undefined ? '' : `${sign} ${short(target)} ${unit}`;
  const first = limit === null ? ['', '', ''] : against(limit);
  const atLeast = limit?.rival.atLeast;
  if (limit !== null && atLeast !== undefined) reached.push(limit.ratio >= atLeast);
  const targets = [own, atLeast === undefined ? '' : `ratio >= ${short(atLeast)}`].filter((text) => text !== '');
  return [
    [...head, ...first, targets.join(', '), yesOrNo(reached)],
    ...peers.map((peer) => {
      const wanted = peer.rival.atLeast ?? 0;
      return ['', '', '', ...against(peer), `ratio >= ${short(wanted)}`, yesOrNo([peer.ratio >= wanted])];
    }),
  ];
}

function against({ rival, value, ratio }: Standing): string[] {
  return [rival.label, short(value), short(ratio)];
}

function yesOrNo(reached: readonly boolean[]): string {
  if (reached.length === 0) return '';
  return reached.every((yes) => yes) ? 'yes' : 'NO';
}

/** Three significant digits, millions as `12.3 M`. */
function short(value: number): string {
  if (Math.abs(value) >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (Math.abs(value) >= 1000) return value.toFixed(0);
  return String(Number(value.toPrecision(3)));
}

function rounded(value: number): number {
  return Number(value.toPrecision(6));
}
