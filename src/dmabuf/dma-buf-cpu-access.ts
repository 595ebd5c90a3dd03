/**
 * Brackets of CPU access, of a whole buffer or of a part.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_begin_cpu_access, dma_buf_end_cpu_access
 */
import { ErrnoError } from '../base/errors.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import type { Op } from '../sim/op.ts';
import type { DmaBuf } from './dma-buf.ts';
import { callExporter, requireFree } from './dma-buf-locking.ts';
import type { DmaBufRange } from './dma-buf-ops.ts';
import { DMA_BUF_SYNC, syncCallText, syncDirection } from './dma-buf-sync.ts';
import { type DmaResvUsageValue, usageToWaitFor } from './dma-resv.ts';
import { type BracketCall, KernelBrackets } from './kernel-brackets.ts';

/** @internal Who brackets, and as he writes it. */
export interface BracketCaller {
  /** A process, or the task of a driver. */
  readonly by: string;
  /** `'ioctl(DMA_BUF_IOCTL_SYNC, START | READ)'` */
  readonly call: string;
  /** Whether the caller pairs begins and ends himself, as a process does. */
  readonly counts: boolean;
}

type BracketStep = 'beginCpuAccess' | 'endCpuAccess';

/** A bracket call. */
interface Bracket {
  readonly step: BracketStep;
  readonly dir: DmaDirection;
  /** `null`: the whole buffer. */
  readonly range: DmaBufRange | null;
  readonly caller: BracketCaller | null;
}

/**
 * @internal {@link DmaBuf.beginCpuAccess}; `range` is null for the whole buffer.
 *
 * @param wait - for the fences; default: as `resv.wait`.
 * @param caller - default: the running task, in the kernel.
 */
export function* beginAccess<Priv>(
  buf: DmaBuf<Priv>,
  dir: DmaDirection,
  range: DmaBufRange | null,
  wait: (usage: DmaResvUsageValue) => Op<void> = (usage) => buf.resv.wait(usage),
  caller: BracketCaller | null = null,
): Op<void> {
  const call = yield* callBracket(buf, { step: 'beginCpuAccess', dir, range, caller });
  yield* wait(usageToWaitFor(dir === 'from-device' ? 'read' : 'write'));
  if (call !== null) buf.sim.part(KernelBrackets).begun(buf, call);
  const { trace, now } = buf.sim;
  if (trace.enabled) trace.emit({ kind: 'dmabuf.begin-cpu-access', timeNs: now, buf: buf.name, dir });
}

/**
 * @internal {@link DmaBuf.endCpuAccess}; `range` is null for the whole buffer.
 *
 * @param caller - default: the running task, in the kernel.
 * @throws {HazardError} `dmabuf.unbalanced-sync` under policy `'throw'`: no bracket of the kernel is open; the end is done.
 */
export function* endAccess<Priv>(
  buf: DmaBuf<Priv>,
  dir: DmaDirection,
  range: DmaBufRange | null,
  caller: BracketCaller | null = null,
): Op<void> {
  const call = yield* callBracket(buf, { step: 'endCpuAccess', dir, range, caller });
  const { trace, now } = buf.sim;
  if (trace.enabled) trace.emit({ kind: 'dmabuf.end-cpu-access', timeNs: now, buf: buf.name, dir });
  if (call !== null) buf.sim.part(KernelBrackets).ended(buf, call);
}

/** @internal {@link DmaBuf.ioctlSync}. @param by - the process; default: the running task. */
export function* syncByIoctl<Priv>(buf: DmaBuf<Priv>, flags: number, by?: string): Op<void> {
  const dir = syncDirection(flags);
  const name = by ?? buf.sim.currentTask?.name ?? 'kernel';
  const caller = { by: name, call: syncCallText(flags), counts: by !== undefined };
  if ((flags & DMA_BUF_SYNC.end) !== 0) yield* endAccess(buf, dir, null, caller);
  else yield* beginAccess(buf, dir, null, undefined, caller);
}

/** @internal `buf` is released: reports what drivers have left open. @throws {HazardError} `dmabuf.unbalanced-sync` under policy `'throw'`. */
export function bracketsReleased(buf: DmaBuf): void {
  if (buf.sim.syncs.enabled) buf.sim.part(KernelBrackets).released(buf);
}

/** @returns the call, if it is to be counted. */
function* callBracket<Priv>(buf: DmaBuf<Priv>, bracket: Bracket): Op<BracketCall | null> {
  const { step, dir, range } = bracket;
  buf.checkReferenced(step);
  requireFree(buf, step);
  const { ops, sim } = buf;
  const partial = ops[`${step}Partial`];
  if (range !== null) checkRange(buf, step, range);
  const brackets = sim.syncs.enabled ? sim.part(KernelBrackets) : null;
  const seq = brackets === null ? 0 : note(buf, bracket);
  const isNested = brackets?.enter() ?? true;
  sim.syncs.enter(seq);
  let complete = false;
  try {
    if (range === null || partial === undefined) yield* callExporter(buf, step, () => ops[step]?.(buf, dir));
    else yield* callExporter(buf, `${step}Partial`, () => partial.call(ops, buf, dir, range));
    complete = true;
  } finally {
    brackets?.leave();
    sim.syncs.leave(seq);
    if (!complete) sim.syncs.fail(seq);
  }
  return isNested || bracket.caller?.counts === true
    ? null
    : { dir, by: callerName(buf, bracket), call: textOf(bracket) };
}

function callerName({ sim }: DmaBuf, { caller }: Bracket): string {
  return caller?.by ?? sim.currentTask?.name ?? 'kernel';
}

function textOf({ step, dir, range, caller }: Bracket): string {
  if (caller !== null) return caller.call;
  return range === null ? `${step}(${dir})` : `${step}Partial(${dir}, ${range.offset} + ${range.length})`;
}

/** Notes the call, before the exporter is asked: what he syncs then belongs to it. */
function note(buf: DmaBuf, bracket: Bracket): number {
  const { sim } = buf;
  const { step, dir } = bracket;
  return sim.syncs.note({
    timeNs: sim.now,
    op: step === 'beginCpuAccess' ? 'begin-cpu-access' : 'end-cpu-access',
    call: textOf(bracket),
    by: callerName(buf, bracket),
    device: '',
    object: buf.name,
    dir,
    phys: null,
    skipped: false,
    site: sim.site(),
  });
}

function checkRange(buf: DmaBuf, call: string, { offset, length }: DmaBufRange): void {
  const isWhole = Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length >= 0;
  if (isWhole && offset + length <= buf.sizeBytes) return;
  const bytes = `${length} bytes at offset ${offset} leave the ${buf.sizeBytes} bytes of ${buf.name}`;
  throw new ErrnoError('EINVAL', call, `range: ${bytes}`);
}
