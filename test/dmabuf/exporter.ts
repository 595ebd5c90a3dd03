/** An exporter whose callbacks can be chosen, made to fail or wait at their n-th call, and that notes each call with the state of the lock. */
import { pfnToPhys } from '../../src/base/addr.ts';
import type { ErrnoCode } from '../../src/base/errno.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { type DmaBuf, exportDmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufExportInfo } from '../../src/dmabuf/dma-buf-export.ts';
import type { DmaBufOps } from '../../src/dmabuf/dma-buf-ops.ts';
import type { Op } from '../../src/sim/op.ts';
import type { Simulator } from '../../src/sim/simulator.ts';
import type { Bench } from '../bench.ts';

/** Names of callbacks that can fail. */
export type FailingCallback = 'attach' | 'pin' | 'mapDmaBuf' | 'beginCpuAccess' | 'endCpuAccess' | 'mmap' | 'vmap';

/** What to inject. */
export interface Fault {
  readonly callback: FailingCallback;
  /** From 1 on. */
  readonly nth: number;
  readonly code: ErrnoCode;
}

/** How to make a {@link TestExporter}. */
export interface TestExporterOptions {
  /** Whether it has pin and unpin. Default false. */
  readonly dynamic?: boolean;
  readonly cached?: boolean;
  /** Each callback waits so long. Default: they are plain. */
  readonly waitNs?: number | null;
  /** Callbacks to leave out. */
  readonly without?: readonly (keyof DmaBufOps<TestExporter>)[];
}

/** The exporter's own data. */
export class TestExporter {
  /** `'mapDmaBuf cam bidirectional locked'` */
  calls: string[] = [];
  fault: Fault | null = null;
  readonly sim: Simulator;
  readonly memory: SgTable;
  readonly #free: () => void;
  readonly #counts = new Map<string, number>();
  readonly #waitNs: number | null;

  constructor(b: Bench, pageCount: number, waitNs: number | null) {
    const { pages } = b.machine;
    const frame = pages.allocPages({ pageCount, owner: 'test' });
    this.sim = b.sim;
    this.#waitNs = waitNs;
    this.memory = new SgTable([{ phys: pfnToPhys(frame), length: pageCount * 4096 }]);
    this.#free = () => pages.freePages(frame, pageCount);
  }

  /** Notes the call, then lets the running task wait and fail as told, then does `body`. */
  call<T>(name: string, buf: DmaBuf, words: readonly string[], body: () => T): T | Op<T> {
    const locked = buf.resv.isLocked ? ['locked'] : [];
    this.calls.push([name, ...words, ...locked].join(' '));
    const count = (this.#counts.get(name) ?? 0) + 1;
    this.#counts.set(name, count);
    const { fault } = this;
    const fails = fault?.callback === name && fault.nth === count ? fault : null;
    if (this.#waitNs !== null) return this.#waiting(this.#waitNs, fails, body);
    if (fails !== null) throw new ErrnoError(fails.code, 'exporter');
    return body();
  }

  /** How often a callback was called. */
  count(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  free(): void {
    this.#free();
  }

  *#waiting<T>(waitNs: number, fails: Fault | null, body: () => T): Op<T> {
    yield* this.sim.delay(waitNs);
    if (fails !== null) throw new ErrnoError(fails.code, 'exporter');
    return body();
  }
}

/** A buffer of a {@link TestExporter}. */
export function testBuffer(
  b: Bench,
  options: TestExporterOptions = {},
  info: Partial<DmaBufExportInfo<TestExporter>> = {},
): DmaBuf<TestExporter> {
  const sizeBytes = info.sizeBytes ?? 8192;
  const priv = new TestExporter(b, Math.max(1, Math.ceil(sizeBytes / 4096)), options.waitNs ?? null);
  const ops = { ...testOps(options) };
  for (const name of options.without ?? []) delete (ops as Partial<typeof ops>)[name];
  return exportDmaBuf(b.sim, { exporterName: 'test', name: 'buf', sizeBytes, ops, priv, ...info });
}

/** What an importer can look at of a buffer's state; equal before and after a call that failed. */
export function stateOf(buf: DmaBuf<TestExporter>): unknown {
  return {
    references: buf.references,
    locked: buf.resv.isLocked,
    vmaps: buf.vmapCount,
    attachments: buf.attachments.map((att) => [
      att.dev.name,
      att.keptTable !== null,
      att.pinCount,
      [...att.tables.values()],
      [...att.mappings.values()],
    ]),
  };
}

function testOps({ dynamic = false, cached = false }: TestExporterOptions): DmaBufOps<TestExporter> {
  const pins: Partial<DmaBufOps<TestExporter>> = {
    pin: (att) => att.buf.priv.call('pin', att.buf, [att.dev.name], () => undefined),
    unpin: (att) => att.buf.priv.call('unpin', att.buf, [att.dev.name], () => undefined),
  };
  return {
    cacheSgtMapping: cached,
    attach: (buf, att) => buf.priv.call('attach', buf, [att.dev.name], () => undefined),
    detach: (buf, att) => buf.priv.call('detach', buf, [att.dev.name], () => undefined),
    ...(dynamic ? pins : {}),
    mapDmaBuf: (att, dir) =>
      att.buf.priv.call('mapDmaBuf', att.buf, [att.dev.name, dir], () => {
        const sgt = att.buf.priv.memory.clone();
        dmaMapSgtable(att.dev, sgt, dir);
        return sgt;
      }),
    unmapDmaBuf: (att, sgt, dir) =>
      att.buf.priv.call('unmapDmaBuf', att.buf, [att.dev.name, dir], () => dmaUnmapSgtable(att.dev, sgt, dir)),
    release: (buf) => buf.priv.call('release', buf, [], () => buf.priv.free()),
    beginCpuAccess: (buf, dir) => buf.priv.call('beginCpuAccess', buf, [dir], () => undefined),
    endCpuAccess: (buf, dir) => buf.priv.call('endCpuAccess', buf, [dir], () => undefined),
    mmap: (buf, vma) =>
      buf.priv.call('mmap', buf, [`${vma.pgoff}+${vma.pageCount}`], () => ({
        extents: buf.priv.memory.extents(),
        attribute: 'cached' as const,
      })),
    vmap: (buf) =>
      buf.priv.call('vmap', buf, [], () => ({ extents: buf.priv.memory.extents(), attribute: 'cached' as const })),
    vunmap: (buf) => buf.priv.call('vunmap', buf, [], () => undefined),
  };
}

/** What `op` throws, or `undefined`. */
export function* thrown(op: Op<unknown>): Op<unknown> {
  try {
    yield* op;
    return undefined;
  } catch (error) {
    return error;
  }
}
