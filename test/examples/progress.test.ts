import { describe, expect, it } from 'vitest';
import { REDRAW_MS, startProgress } from '../../examples/film/progress.ts';

/** A terminal that keeps what is written, and a clock that is set by hand. */
function bench(terminal: { isTTY?: boolean; columns?: number } = { isTTY: true }) {
  const written: string[] = [];
  const clock = { nowMs: 0 };
  const write = (text: string) => written.push(text);
  return { written, clock, progress: startProgress('frame', 8, { ...terminal, write }, () => clock.nowMs) };
}

describe('startProgress', () => {
  it('writes nothing at all where the output is not a terminal', () => {
    for (const terminal of [{}, { isTTY: false }]) {
      const { written, progress } = bench(terminal);
      progress.update(3);
      progress.end();
      expect(written).toEqual([]);
    }
  });

  it('draws one line over itself, at most once in a tenth of a second', () => {
    const { written, clock, progress } = bench();
    progress.update(0);
    clock.nowMs = REDRAW_MS - 1;
    progress.update(1);
    clock.nowMs = REDRAW_MS;
    progress.update(4);
    expect(written).toEqual([
      `\r\x1b[Kframe 0 of 8  [${'-'.repeat(20)}]`,
      `\r\x1b[Kframe 4 of 8  [${'#'.repeat(10)}${'-'.repeat(10)}]`,
    ]);
  });

  it('stays within the width of the terminal', () => {
    const { written, progress } = bench({ isTTY: true, columns: 10 });
    progress.update(2);
    expect(written).toEqual(['\r\x1b[Kframe 2 o']);
  });

  it('removes its line at the end, once, and only if it drew one', () => {
    const { written, progress } = bench();
    progress.end();
    expect(written).toEqual([]);
    progress.update(8);
    progress.end();
    progress.end();
    expect(written.slice(1)).toEqual(['\r\x1b[K']);
  });
});
