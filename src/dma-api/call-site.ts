/** Where in a driver a call of the DMA API stands. */

/** @internal A call of the DMA API, as the function that the driver called. */
export type DmaCaller = (...args: never[]) => unknown;

/**
 * @internal The place that called `caller`: `'camera.ts:31:7'`; '' when the engine does not tell. Costs microseconds.
 *
 * @param caller - it and what it called are left out of the stack.
 */
export function callSite(caller: DmaCaller): string {
  const holder: { stack?: string } = {};
  Error.captureStackTrace(holder, caller);
  const [, frame = ''] = (holder.stack ?? '').split('\n');
  return /([^/\\(]+:\d+:\d+)\)?$/.exec(frame)?.[1] ?? '';
}
