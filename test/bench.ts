/** A small machine to try drivers on. When its test ends, everything it did must be undone: the bench is at rest. */
import { expect, onTestFinished } from 'vitest';
import { PAGE_SIZE, type PhysAddr, pfnToPhys, physAddr } from '../src/base/addr.ts';
import type { ErrnoCode } from '../src/base/errno.ts';
import { KIB, MIB } from '../src/base/units.ts';
import type { Device } from '../src/dma-api/device.ts';
import type { DmaDirection } from '../src/dma-api/direction.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../src/dma-api/dma-map.ts';
import { SgTable } from '../src/dma-api/sg-table.ts';
import { type DmaBuf, exportDmaBuf } from '../src/dmabuf/dma-buf.ts';
import type { DmaBufOps } from '../src/dmabuf/dma-buf-ops.ts';
import { DmaFence } from '../src/dmabuf/dma-fence.ts';
import type { DmaResv, DmaResvUsageValue } from '../src/dmabuf/dma-resv.ts';
import { type ArmSocOptions, armSoc } from '../src/platform/arm-soc.ts';
import type { DeviceSpec, Machine } from '../src/platform/machine.ts';
import type { Op } from '../src/sim/op.ts';
import type { Simulator } from '../src/sim/simulator.ts';
import type { TraceKind } from '../src/trace/trace-events.ts';
import { rangesInUse } from './iova-use.ts';

/** How to make a {@link Bench}: 64 MiB of RAM, 8 MiB of CMA and 64 KiB of cache unless told otherwise. */
export interface BenchOptions extends ArmSocOptions {
  /** False: the test leaves things on purpose. Default true. */
  readonly atRest?: boolean;
}

/** The exporter's own data of a {@link Bench.fakeBuffer}. */
export interface FakePriv {
  readonly memory: SgTable;
  /** Its callbacks in the order they were called: `'map camera0 from-device'`. */
  readonly calls: string[];
}

/** What begins and what ends it; in a bench at rest each has happened equally often. */
const PAIRS: readonly (readonly [begins: TraceKind, ends: TraceKind])[] = [
  ['dmabuf.export', 'dmabuf.release'],
  ['dmabuf.attach', 'dmabuf.detach'],
  ['dmabuf.map', 'dmabuf.unmap'],
  ['dma.map', 'dma.unmap'],
  ['lock.acquire', 'lock.release'],
  ['task.spawn', 'task.end'],
];

/** Owner of page tables, which stay with their domain. */
const TABLES = 'iommu tables';

/** Memory of the test's own, below RAM. */
const OWN_BASE = 0x1000_0000;
const OWN_BYTES = 64 * MIB;

/** A machine with its bookkeeping. */
export class Bench {
  readonly machine: Machine;
  readonly sim: Simulator;
  #nextOwn = OWN_BASE;
  readonly #events = new Map<TraceKind, number>();
  #fences = 0;

  constructor(options: BenchOptions) {
    this.machine = armSoc({ ramBytes: 64 * MIB, cmaBytes: 8 * MIB, cacheBytes: 64 * KIB, ...options });
    this.sim = this.machine.sim;
    const own = { name: 'own', base: physAddr(OWN_BASE), bytes: OWN_BYTES };
    this.machine.memory.addRegion({ kind: 'carve-out', hasPages: true, ...own });
    this.sim.trace.onAny(({ kind }) => {
      this.#events.set(kind, this.count(kind) + 1);
      return undefined;
    });
  }

  /** Events of `kind` so far. */
  count(kind: TraceKind): number {
    return this.#events.get(kind) ?? 0;
  }

  /** Adds a device that does not snoop unless told otherwise. */
  device(name: string, spec: Partial<DeviceSpec> = {}): Device {
    return this.machine.addDevice({ name, coherent: false, ...spec });
  }

  /** `pageCount` pages of memory of the test's own, each with a hole of a page after it. */
  scatteredPages(pageCount: number): PhysAddr[] {
    const pages = Array.from({ length: pageCount }, (_, i) => this.#nextOwn + 2 * i * PAGE_SIZE);
    this.#nextOwn += 2 * pageCount * PAGE_SIZE;
    return pages.map((page) => physAddr(page));
  }

  /** A table of `pageCount` scattered whole pages. */
  scattered(pageCount: number): SgTable {
    return new SgTable(this.scatteredPages(pageCount).map((phys) => ({ phys, length: PAGE_SIZE })));
  }

  /** A buffer of an exporter that notes every call; `behaviour` takes the place of single callbacks. */
  fakeBuffer(behaviour: Partial<DmaBufOps<FakePriv>> = {}, sizeBytes = 2 * PAGE_SIZE, name = 'fake'): DmaBuf<FakePriv> {
    const { pages } = this.machine;
    const pageCount = Math.max(1, Math.ceil(sizeBytes / PAGE_SIZE));
    const frame = pages.allocPages({ pageCount, owner: name });
    const memory = new SgTable([{ phys: pfnToPhys(frame), length: pageCount * PAGE_SIZE }]);
    const priv: FakePriv = { memory, calls: [] };
    const usual = fakeOps(() => pages.freePages(frame, pageCount));
    const ops = noted({ ...usual, ...behaviour }, priv.calls);
    return exportDmaBuf(this.sim, { exporterName: 'fake', name, sizeBytes, ops, priv });
  }

  /** A fence of a context of its own. */
  fence(): DmaFence {
    const id = ++this.#fences;
    return new DmaFence(this.sim, { name: `f${id}`, id }, 1);
  }

  /** Adds a pending fence to `resv`. */
  *fenceOn(resv: DmaResv, usage: DmaResvUsageValue): Op<DmaFence> {
    const fence = this.fence();
    yield* resv.withLock(() => {
      resv.reserveFences(1);
      resv.addFence(fence, usage);
    });
    return fence;
  }

  /** What is left, in words; empty at rest. */
  leftovers(): string[] {
    const left = PAIRS.filter(([begins, ends]) => this.count(begins) !== this.count(ends)).map(
      ([begins, ends]) => `${this.count(begins)} ${begins}, ${this.count(ends)} ${ends}`,
    );
    for (const { owner, bytes, kind } of this.machine.memory.ledger.liveAllocations()) {
      if (owner !== TABLES) left.push(`${owner} holds ${bytes} bytes of ${kind}`);
    }
    for (const device of this.machine.devices) {
      const used = rangesInUse(device);
      const leaves = [...(device.iommuGroup?.domain?.pgtable.leaves() ?? [])].length;
      if (used + leaves > 0) left.push(`${device.name}: ${used} IOVA ranges, ${leaves} leaves`);
    }
    for (const { name, fds, mappings } of this.machine.processes) {
      const open = fds.open.length + fds.reserved.length;
      if (open + mappings.length > 0) left.push(`${name}: ${open} descriptors, ${mappings.length} mappings`);
    }
    return left;
  }
}

/** A bench that is checked for rest when the running test ends. */
export function bench(options: BenchOptions = {}): Bench {
  const made = new Bench(options);
  if (options.atRest !== false) {
    onTestFinished(() => {
      made.sim.run();
      expect(made.leftovers()).toEqual([]);
    });
  }
  return made;
}

/** Matches an `ErrnoError` of `code`, for `toThrow`. */
export function errno(code: ErrnoCode): Error {
  return expect.objectContaining({ name: 'ErrnoError', code });
}

/** Matches an `InvariantError` whose message contains `text`, for `toThrow`. */
export function invariant(text: string): Error {
  return expect.objectContaining({ name: 'InvariantError', message: expect.stringContaining(text) });
}

/** Bytes that differ from place to place and from seed to seed. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 7 + seed * 101) & 0xff);
}

function fakeOps(free: () => void): DmaBufOps<FakePriv> {
  return {
    attach() {},
    detach() {},
    mapDmaBuf(att, dir) {
      const table = att.buf.priv.memory.clone();
      dmaMapSgtable(att.dev, table, dir);
      return table;
    },
    unmapDmaBuf: (att, table, dir) => dmaUnmapSgtable(att.dev, table, dir),
    release: free,
    beginCpuAccess() {},
    endCpuAccess() {},
    mmap: (buf) => ({ extents: buf.priv.memory.extents(), attribute: 'cached' }),
  };
}

/** `ops`, each call of which is noted in `calls`. */
function noted(ops: DmaBufOps<FakePriv>, calls: string[]): DmaBufOps<FakePriv> {
  const note = (call: string, who?: { readonly dev: Device }, dir?: DmaDirection): void => {
    calls.push([call, who?.dev.name, dir].filter((word) => word !== undefined).join(' '));
  };
  return {
    attach(buf, att) {
      note('attach', att);
      return ops.attach?.(buf, att);
    },
    detach(buf, att) {
      note('detach', att);
      return ops.detach?.(buf, att);
    },
    mapDmaBuf(att, dir) {
      note('map', att, dir);
      return ops.mapDmaBuf(att, dir);
    },
    unmapDmaBuf(att, table, dir) {
      note('unmap', att, dir);
      return ops.unmapDmaBuf(att, table, dir);
    },
    release(buf) {
      note('release');
      return ops.release(buf);
    },
    beginCpuAccess(buf, dir) {
      note('begin', undefined, dir);
      return ops.beginCpuAccess?.(buf, dir);
    },
    endCpuAccess(buf, dir) {
      note('end', undefined, dir);
      return ops.endCpuAccess?.(buf, dir);
    },
    ...(ops.mmap === undefined ? {} : { mmap: ops.mmap }),
    ...(ops.vmap === undefined ? {} : { vmap: ops.vmap }),
  };
}
