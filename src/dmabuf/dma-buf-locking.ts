/**
 * Who holds the reservation lock of a buffer when; the core checks it at each call and after each callback.
 *
 * | call | caller | callbacks run | from 6.2 on |
 * |---|---|---|---|
 * | attach, detach | must not hold it | `attach`, `detach`: free | |
 * | … early mapping, when one side alone is dynamic | | dynamic exporter: held; static one: free | always held |
 * | map, unmap | dynamic side: must hold it; else either | as the caller left it | must hold it |
 * | mapUnlocked, unmapUnlocked | must not hold it | held | |
 * | pin, unpin, moveNotify | must hold it | held | |
 * | beginCpuAccess, endCpuAccess and partial ones | must not hold it | free | |
 * | vmap, vunmap | either | as the caller left it | must hold it |
 * | mmap | either | as the caller left it | |
 *
 * @see Linux 6.2 `Documentation/driver-api/dma-buf.rst` "DMA-BUF locking convention"
 */
import type { ResvLockFacts } from '../base/hazards.ts';
import { lift, type MaybeOp, type Op } from '../sim/op.ts';
import type { DmaBuf } from './dma-buf.ts';

const REMEDY: Readonly<Record<ResvLockFacts['hazard'], (call: string) => string>> = {
  'resv.not-held': (call) => `take the lock: buf.resv.withLock(() => …${call}…), or use the form that takes it itself`,
  'resv.held': (call) => `give the lock back before ${call}, which takes it or waits for those who need it`,
  'resv.changed': (call) => `leave the lock as it was when ${call} was called`,
};

/** Whether the running task holds the reservation lock of `buf`. */
function holdsResv(buf: DmaBuf): boolean {
  const { currentTask } = buf.sim;
  return currentTask !== null && buf.resv.mutex.owner === currentTask;
}

/** @internal @throws {HazardError} `resv.not-held` under policy `'throw'`. */
export function requireHeld(buf: DmaBuf, call: string): void {
  if (!holdsResv(buf)) report(buf, call, 'resv.not-held');
}

/** @internal @throws {HazardError} `resv.held` under policy `'throw'`. */
export function requireFree(buf: DmaBuf, call: string): void {
  if (holdsResv(buf)) report(buf, call, 'resv.held');
}

/**
 * @internal Runs a callback of the exporter. Waits for it.
 *
 * @throws what the callback throws; {HazardError} `resv.changed` under policy `'throw'`.
 */
export function* callExporter<T>(buf: DmaBuf, call: string, body: () => MaybeOp<T>): Op<T> {
  const held = holdsResv(buf);
  const result = yield* lift(body());
  if (holdsResv(buf) !== held) report(buf, call, 'resv.changed');
  return result;
}

function report(buf: DmaBuf, call: string, hazard: ResvLockFacts['hazard']): void {
  const { sim } = buf;
  sim.report({
    hazard,
    buf: buf.name,
    call,
    task: sim.currentTask?.name ?? 'no task',
    holder: buf.resv.mutex.owner?.name ?? 'nobody',
    rules: buf.profile.name,
    timeNs: sim.now,
    remedy: REMEDY[hazard](call),
  });
}
