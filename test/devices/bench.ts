/** A small machine to try devices on: RAM and a carve-out, free caches and IOMMUs, and an exporter. */
import { expect } from 'vitest';
import { PAGE_SIZE, type PhysAddr, pfn, physAddr } from '../../src/base/addr.ts';
import type { ErrnoCode } from '../../src/base/errno.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import { MIB, pagesFor } from '../../src/base/units.ts';
import { freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { CoherencyDomain } from '../../src/cache/coherency.ts';
import { Device, type DeviceOptions } from '../../src/dma-api/device.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { type Extent, SgTable } from '../../src/dma-api/sg-table.ts';
import { type DmaBuf, exportDmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufOps } from '../../src/dmabuf/dma-buf-ops.ts';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { DmaResvUsage, type DmaResvUsageValue } from '../../src/dmabuf/dma-resv.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import { freeIommuCosts, type IommuCosts } from '../../src/iommu/iommu-costs.ts';
import { IommuGroup } from '../../src/iommu/iommu-group.ts';
import { PhysMemory } from '../../src/mem/phys-memory.ts';
import type { Op } from '../../src/sim/op.ts';
import { Simulator, type SimulatorOptions } from '../../src/sim/simulator.ts';
import { rangesInUse } from '../iova-use.ts';

const RAM_BASE = 0x8000_0000;
const CARVE_OUT_BASE = 0x9000_0000;

export interface BufferOptions {
  /** Every page on its own, with a gap after it. */
  readonly scattered?: boolean;
  /** Takes the place of the exporter's callbacks. */
  readonly ops?: Partial<DmaBufOps<readonly Extent[]>>;
}

export class Bench {
  readonly sim: Simulator;
  readonly memory: PhysMemory;
  readonly coherency: CoherencyDomain;
  readonly iommu: Iommu;
  readonly buffers: DmaBuf<readonly Extent[]>[] = [];
  readonly devices: Device[] = [];
  /** `device stage frame @time` of each frame. */
  readonly frames: string[] = [];
  #nextRam = RAM_BASE;
  #nextTable = CARVE_OUT_BASE / PAGE_SIZE;
  #fences = 0;

  constructor(options: SimulatorOptions & { readonly bytes?: boolean; readonly iommuCosts?: IommuCosts } = {}) {
    this.sim = new Simulator(options);
    const { trace } = this.sim;
    this.memory = new PhysMemory({ trace, now: () => this.sim.now, bytes: options.bytes ?? true });
    this.memory.addRegion({ kind: 'ram', name: 'ram', base: physAddr(RAM_BASE), bytes: 64 * MIB });
    this.memory.addRegion({ kind: 'carve-out', name: 'carve-out', base: physAddr(CARVE_OUT_BASE), bytes: 16 * MIB });
    this.coherency = new CoherencyDomain(this.sim, this.memory, {
      costs: freeCacheCosts,
      cache: { lineBytes: 64, sets: 16, ways: 4 },
      logEntries: 1024,
    });
    const pages = { alloc: () => pfn(this.#nextTable++), free: () => undefined };
    this.iommu = new Iommu(this.sim, { name: 'iommu0', pages, costs: options.iommuCosts ?? freeIommuCosts });
    trace.on('device.frame', ({ device, stage, frame, timeNs }) => {
      this.frames.push(`${device} ${stage} ${frame} @${timeNs}`);
      return undefined;
    });
  }

  device(name: string, options: Partial<DeviceOptions> & { readonly behindIommu?: boolean } = {}): Device {
    const { behindIommu = false, ...rest } = options;
    const all = { name, coherency: this.coherency, coherent: false, ...rest };
    const group = behindIommu ? { iommuGroup: new IommuGroup(this.iommu, { name }) } : {};
    const device = new Device(this.sim, { ...all, ...group });
    this.devices.push(device);
    return device;
  }

  buffer(name: string, sizeBytes: number, options: BufferOptions = {}): DmaBuf<readonly Extent[]> {
    const priv = this.#extents(sizeBytes, options.scattered ?? false);
    const ops: DmaBufOps<readonly Extent[]> = {
      mapDmaBuf(att, dir) {
        const sgt = new SgTable(att.buf.priv);
        dmaMapSgtable(att.dev, sgt, dir);
        return sgt;
      },
      unmapDmaBuf(att, sgt, dir) {
        dmaUnmapSgtable(att.dev, sgt, dir);
      },
      release() {},
      ...options.ops,
    };
    const buf = exportDmaBuf(this.sim, { exporterName: 'bench', name, sizeBytes, ops, priv });
    this.buffers.push(buf);
    return buf;
  }

  /** Leaves an unsignalled fence of somebody else on `buf`. */
  fenceOn(buf: DmaBuf<readonly Extent[]>, usage: DmaResvUsageValue = DmaResvUsage.write): DmaFence {
    const fence = this.fence();
    this.sim.run(() =>
      buf.resv.withLock(() => {
        buf.resv.reserveFences(1);
        buf.resv.addFence(fence, usage);
      }),
    );
    return fence;
  }

  fence(): DmaFence {
    this.#fences++;
    return new DmaFence(this.sim, { name: `test${this.#fences}`, id: 100 + this.#fences }, 1);
  }

  /** What memory holds. @param buf - one of {@link buffers}. */
  bytesOf(buf: { readonly name: string; readonly sizeBytes: number }): Uint8Array {
    const out = new Uint8Array(buf.sizeBytes);
    let at = 0;
    for (const { phys, length } of this.buffers.find(({ name }) => name === buf.name)?.priv ?? []) {
      const step = Math.min(length, out.length - at);
      this.memory.read(phys, out, at, step);
      at += step;
    }
    return out;
  }

  /** Puts `bytes` into the buffer, as nobody's write. */
  fill(buf: DmaBuf<readonly Extent[]>, bytes: Uint8Array): void {
    let at = 0;
    for (const { phys, length } of buf.priv) {
      this.coherency.poke(phys, bytes.subarray(at, at + length));
      at += length;
    }
  }

  /** No attachment, no reference but the test's, no mapping, no lock, no fence is left. */
  expectNothingLeft(): void {
    for (const buf of this.buffers) {
      expect([buf.name, buf.attachments.length, buf.references]).toEqual([buf.name, 0, 1]);
      expect(buf.resv.isLocked).toBe(false);
      expect(buf.resv.testSignaled(DmaResvUsage.bookkeep)).toBe(true);
    }
    for (const device of this.devices) expect([device.name, rangesInUse(device)]).toEqual([device.name, 0]);
  }

  #extents(sizeBytes: number, scattered: boolean): readonly Extent[] {
    const pageCount = pagesFor(sizeBytes);
    const take = (pages: number): PhysAddr => {
      const phys = physAddr(this.#nextRam);
      this.#nextRam += pages * PAGE_SIZE;
      return phys;
    };
    if (!scattered) return [{ phys: take(pageCount), length: pageCount * PAGE_SIZE }];
    return Array.from({ length: pageCount }, () => ({ phys: take(2), length: PAGE_SIZE }));
  }
}

/** As `toEqual`, for many bytes. */
export function expectBytes(actual: Uint8Array | null | undefined, expected: Uint8Array): void {
  const first = expected.findIndex((byte, i) => actual?.[i] !== byte);
  const length = actual?.length;
  expect({ length, first, value: actual?.[first] }).toEqual({ length: expected.length, first: -1, value: undefined });
}

/** The message of the ErrnoError of `code` that `body` throws. */
export function errnoMessage(code: ErrnoCode, body: () => unknown): string {
  try {
    body();
  } catch (error) {
    if (error instanceof ErrnoError && error.code === code) return error.message;
    throw error;
  }
  throw new Error(`nothing was thrown instead of ${code}`);
}

/** The message of the ErrnoError that `op` throws, or ''. */
export function* failing(op: () => Op<unknown>): Op<string> {
  try {
    yield* op();
    return '';
  } catch (error) {
    if (error instanceof ErrnoError) return error.message;
    throw error;
  }
}

/** Bytes that depend on place and `seed`. */
export function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 7) * 17 + seed * 101) & 0xff);
}
