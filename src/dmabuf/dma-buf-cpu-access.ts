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
import { usageToWaitFor } from './dma-resv.ts';

/** @internal {@link DmaBuf.beginCpuAccess}; `range` is null for the whole buffer. */
export function* beginAccess<Priv>(buf: DmaBuf<Priv>, dir: DmaDirection, range: DmaBufRange | null): Op<void> {
  yield* callBracket(buf, 'beginCpuAccess', dir, range);
  yield* buf.resv.wait(usageToWaitFor(dir === 'from-device' ? 'read' : 'write'));
  const { trace, now } = buf.sim;
  if (trace.enabled) trace.emit({ kind: 'dmabuf.begin-cpu-access', timeNs: now, buf: buf.name, dir });
}

/** @internal {@link DmaBuf.endCpuAccess}; `range` is null for the whole buffer. */
export function* endAccess<Priv>(buf: DmaBuf<Priv>, dir: DmaDirection, range: DmaBufRange | null): Op<void> {
  yield* callBracket(buf, 'endCpuAccess', dir, range);
  const { trace, now } = buf.sim;
  if (trace.enabled) trace.emit({ kind: 'dmabuf.end-cpu-access', timeNs: now, buf: buf.name, dir });
}

function* callBracket<Priv>(
  buf: DmaBuf<Priv>,
  call: 'beginCpuAccess' | 'endCpuAccess',
  dir: DmaDirection,
  range: DmaBufRange | null,
): Op<void> {
  buf.checkReferenced(call);
  requireFree(buf, call);
  const { ops } = buf;
  const partial = ops[`${call}Partial`];
  if (range !== null) checkRange(buf, call, range);
  if (range === null || partial === undefined) yield* callExporter(buf, call, () => ops[call]?.(buf, dir));
  else yield* callExporter(buf, `${call}Partial`, () => partial.call(ops, buf, dir, range));
}

function checkRange(buf: DmaBuf, call: string, { offset, length }: DmaBufRange): void {
  const isWhole = Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length >= 0;
  if (isWhole && offset + length <= buf.sizeBytes) return;
  const bytes = `${length} bytes at offset ${offset} leave the ${buf.sizeBytes} bytes of ${buf.name}`;
  throw new ErrnoError('EINVAL', call, `range: ${bytes}`);
}
