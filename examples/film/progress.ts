/**
 * A line of progress on a terminal: `frame 120 of 300  [########------------]`. Written over itself, and gone at the
 * end; nothing at all is written where the output is not a terminal, so logs and stored outputs stay clean.
 *
 * Plain code: `cli-progress`, the usual package, brings timers and bars we would have to switch off.
 */

/** The part of `process.stderr` that is needed. */
export interface Terminal {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** A line of progress. Call {@link Progress.end} in a `finally`, or an error's message follows on the same line. */
export interface Progress {
  /** `done` of the total are done. Draws at most every {@link REDRAW_MS} of wall time. */
  update(done: number): void;
  /** Removes the line. Again: no effect. */
  end(): void;
}

/** Least wall time between two drawings, in ms. */
export const REDRAW_MS = 100;
const BAR_CELLS = 20;
/** Carriage return and "erase to the end of the line" (ECMA-48 EL). */
const CLEAR = '\r\x1b[K';

/**
 * Begins a line of progress: `what` counted up to `total`.
 *
 * @param nowMs - wall time in ms; tests give their own.
 */
export function startProgress(
  what: string,
  total: number,
  terminal: Terminal = process.stderr,
  nowMs: () => number = () => performance.now(),
): Progress {
  if (terminal.isTTY !== true) return { update() {}, end() {} };
  let drawnAt = Number.NEGATIVE_INFINITY;
  let shown = false;
  return {
    update(done) {
      const now = nowMs();
      if (now - drawnAt < REDRAW_MS) return;
      drawnAt = now;
      shown = true;
      const filled = total > 0 ? Math.min(BAR_CELLS, Math.floor((done / total) * BAR_CELLS)) : 0;
      const bar = '#'.repeat(filled) + '-'.repeat(BAR_CELLS - filled);
      // A line that fills the terminal would wrap, and the next one would not cover it.
      terminal.write(CLEAR + `${what} ${done} of ${total}  [${bar}]`.slice(0, (terminal.columns ?? 80) - 1));
    },
    end() {
      if (shown) terminal.write(CLEAR);
      shown = false;
    },
  };
}
