/** A simulated machine for one run of a program of the study: its devices, memory, and what its steps have made so far. */
import { PAGE_SIZE, type Pfn, type PhysAddr, pfnToPhys } from '../../src/base/addr.ts';
import type { Accessor } from '../../src/base/hazards.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { CpuView } from '../../src/cache/cpu-view.ts';
import type { CameraBuffer } from '../../src/devices/camera/camera-buffer.ts';
import { Camera } from '../../src/devices/camera.ts';
import type { Framebuffer } from '../../src/devices/display/framebuffer.ts';
import { Display } from '../../src/devices/display.ts';
import type { GpuBuffer } from '../../src/devices/gpu/gpu-job.ts';
import { Gpu } from '../../src/devices/gpu.ts';
import type { Device } from '../../src/dma-api/device.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import { dmaAllocAttrs, dmaAllocCoherent } from '../../src/dma-api/dma-alloc.ts';
import type { DmaAllocation } from '../../src/dma-api/dma-allocation.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufAttachment } from '../../src/dmabuf/dma-buf-attachment.ts';
import type { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { SystemHeap } from '../../src/dmabuf/dma-heap.ts';
import { freeIommuCosts } from '../../src/iommu/iommu-costs.ts';
import { Machine, type MachineOptions } from '../../src/platform/machine.ts';
import type { MaybeOp, Op } from '../../src/sim/op.ts';
import { F } from '../../src/uapi/fcntl.ts';
import { F_SEAL, MFD } from '../../src/uapi/memfd.ts';
import { addUdmabuf, memfdCreate } from '../../src/uapi/node-setup.ts';
import type { Process } from '../../src/uapi/process.ts';
import type { Syncobj } from '../../src/uapi/syncobj.ts';
import { UDMABUF_CREATE } from '../../src/uapi/udmabuf.ts';
import { exportOwn } from './own-exporter.ts';
import { type DeviceDecl, FIRST_FRAME, FRAME_BYTES, type MemoryDecl, POISON, type Program } from './program.ts';

/** What a task reads and writes through. */
export interface View {
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
}

/** What a device reaches. */
export interface Mapping {
  readonly dev: Device;
  /** The table, or the address and size of a single mapping. */
  readonly sgt: SgTable | null;
  readonly address: number;
  readonly sizeBytes: number;
  readonly dir: DmaDirection;
  readonly single: boolean;
}

const LOW_BASE = 0x4000_0000;
const RAM_BYTES = MIB;
const CMA_BYTES = 256 * KIB;
/** More than any program takes. */
const FORMER_PAGES = 8;

/** Everything of one run. */
export class World {
  readonly machine: Machine;
  readonly program: Program;
  readonly app: Process;
  readonly devices = new Map<string, Device>();
  readonly gpus = new Map<string, Gpu>();
  readonly cameras = new Map<string, Camera>();
  readonly displays = new Map<string, Display>();
  readonly framebuffers = new Map<string, Framebuffer>();
  /** The step that asked for the last flip to each framebuffer. */
  readonly flips = new Map<Framebuffer, string>();
  readonly bufs = new Map<string, DmaBuf>();
  readonly fds = new Map<string, number>();
  readonly extents = new Map<string, readonly { readonly phys: PhysAddr; readonly sizeBytes: number }[]>();
  readonly allocations = new Map<string, DmaAllocation>();
  readonly views = new Map<string, View & { readonly end?: () => MaybeOp<void> }>();
  readonly attachments = new Map<string, DmaBufAttachment>();
  readonly maps = new Map<string, Mapping>();
  readonly gpuBuffers = new Map<string, GpuBuffer>();
  readonly cameraBuffers = new Map<string, CameraBuffer>();
  readonly fences = new Map<string, DmaFence>();
  readonly timelines = new Map<string, Syncobj>();
  readonly freePages = new Map<string, () => void>();
  readonly #extraFds: number[] = [];
  readonly #observe: (label: string, bytes: Uint8Array) => void;

  /** @param observe - is told what displays fetch, by the step that flipped. */
  constructor(program: Program, options: MachineOptions, observe: (label: string, bytes: Uint8Array) => void) {
    this.program = program;
    this.#observe = observe;
    const ram = [{ base: LOW_BASE, bytes: RAM_BYTES }];
    if (program.high === true) ram.push({ base: 4 * GIB, bytes: RAM_BYTES });
    this.machine = new Machine(
      {
        ram,
        cmaBytes: CMA_BYTES,
        cache: { lineBytes: 64, sets: 64, ways: 8 },
        cacheCosts: freeCacheCosts,
        iommu: { name: 'iommu0', costs: freeIommuCosts },
        swiotlbSlots: 128,
        syscallNs: 0,
      },
      { ...options, ...(program.lazyIommu === true ? { lazyIommu: true } : {}) },
    );
    this.#poison();
    this.app = this.machine.addProcess({ name: 'app' });
    for (const decl of program.devices) this.#addDevice(decl);
  }

  /** Makes the program's memory. */
  *allocate(): Op<void> {
    for (const decl of this.program.memory) yield* this.#allocate(decl);
  }

  /** What is neither the program's nor to be judged. */
  *tidy(): Op<void> {
    for (const fd of this.#extraFds.splice(0)) yield* this.app.close(fd);
  }

  /** The run of physical memory behind mapping `map`, for the adversary: bounce slots, too. */
  physOf(map: Mapping): readonly number[] {
    if (map.dev.iommuGroup !== null) return [];
    if (map.sgt === null) return [map.address];
    return map.sgt.segments().map(({ address }) => address);
  }

  /** The pages that the program will get have had an owner before, who left something in them. */
  #poison(): void {
    const { pages, cma, memory } = this.machine;
    const bytes = new Uint8Array(PAGE_SIZE).fill(POISON);
    const fill = (frame: Pfn) => memory.write(pfnToPhys(frame), bytes, 0, bytes.length);
    const frames = Array.from({ length: FORMER_PAGES }, () => pages.allocPages({ order: 0, owner: 'former owner' }));
    for (const frame of frames) {
      fill(frame);
      pages.freePages(frame, 1);
    }
    if (!this.program.memory.some(({ kind }) => kind === 'cma')) return;
    const first = cma.alloc(FORMER_PAGES, { owner: 'former owner' });
    for (let i = 0; i < FORMER_PAGES; i++) fill((first + i) as Pfn);
    cma.free(first, FORMER_PAGES);
  }

  #addDevice({ name, coherent, kind = 'port', iommu = false, reach32 = false, mapsEachFrame }: DeviceDecl): void {
    const dmaMaskBits = reach32 ? 32 : 40;
    const dev = this.machine.addDevice({ name, coherent, iommu, dmaMaskBits, coherentDmaMaskBits: dmaMaskBits });
    this.devices.set(name, dev);
    if (kind === 'gpu') this.gpus.set(name, new Gpu(dev, { launchNs: 16, pixelNs: 1, bytesPerNs: 64 }));
    if (kind === 'display') this.#addDisplay(name, dev);
    if (kind !== 'camera') return;
    let frames = 0;
    const params = { width: 16, height: 16, format: 'NV12', startupNs: 0, lineTimeNs: 16, linesPerBatch: 8 } as const;
    const frameRate = { numerator: 1_562_500, denominator: 1 };
    const source = () => new Uint8Array(FRAME_BYTES).fill(FIRST_FRAME + frames++);
    const mapping = mapsEachFrame === true ? 'frame' : 'stream';
    this.cameras.set(name, new Camera(dev, { ...params, frameRate }, { source, mapping }));
  }

  #addDisplay(name: string, dev: Device): void {
    const mode = { pixelClockKhz: 100_000, hdisplay: 16, htotal: 20, vdisplay: 8, vtotal: 10 };
    const display = new Display(
      dev,
      { mode, strideAlignBytes: 64, linesPerBatch: 4 },
      {
        onScanout: ({ framebuffer, bytes }) => {
          if (bytes !== null) this.#observe(this.flips.get(framebuffer) ?? name, bytes.slice());
          return undefined;
        },
      },
    );
    this.displays.set(name, display);
  }

  *#allocate({ name, kind, sizeBytes = PAGE_SIZE, dev = '', view = 'cached' }: MemoryDecl): Op<void> {
    const { machine } = this;
    const { sim, pages, coherency, cma } = machine;
    switch (kind) {
      case 'heap':
        this.#addBuf(name, machine.systemHeap.alloc(sizeBytes, name));
        return;
      case 'cma':
        this.#addBuf(name, machine.cmaHeap.alloc(sizeBytes, name));
        return;
      case 'uncached-heap': {
        const heap = new SystemHeap(sim, pages, coherency, { name: 'system-uncached', type: 'uncached' });
        this.#addBuf(name, heap.alloc(sizeBytes, name));
        return;
      }
      case 'own':
        this.#addBuf(name, exportOwn(machine, name, sizeBytes));
        return;
      case 'udmabuf':
        yield* this.#allocUdmabuf(name, sizeBytes);
        return;
      case 'pages': {
        const pageCount = sizeBytes / PAGE_SIZE;
        const frame = pages.allocPages({ pageCount, owner: name });
        this.freePages.set(name, () => pages.freePages(frame, pageCount));
        this.#addView(name, [{ phys: pfnToPhys(frame), sizeBytes }], view);
        return;
      }
      default: {
        const device = found(this.devices, dev);
        const wc = kind === 'write-combine';
        const made = wc
          ? dmaAllocAttrs(device, sizeBytes, { writeCombine: true })
          : dmaAllocCoherent(device, sizeBytes);
        if (made === null) throw new Error(`no memory for ${name} (cma ${cma.name})`);
        this.allocations.set(name, made);
        this.views.set(name, made);
        const extents = made.extents.map(({ phys, length }) => ({ phys, sizeBytes: length }));
        this.extents.set(name, extents);
        const mapping = { dev: device, sgt: null, address: made.address, sizeBytes, single: true };
        this.maps.set(name, { ...mapping, dir: 'bidirectional' });
      }
    }
  }

  *#allocUdmabuf(name: string, sizeBytes: number): Op<void> {
    const { sim, pages, coherency } = this.machine;
    const memfd = memfdCreate(this.app, { name, flags: MFD.allowSealing, pages, coherency });
    this.app.ftruncate(memfd, sizeBytes);
    this.app.fcntl(memfd, F.addSeals, F_SEAL.shrink);
    addUdmabuf(sim, { coherency });
    const node = yield* this.app.open('/dev/udmabuf');
    const bytes = UDMABUF_CREATE.layout.encode({ memfd, size: sizeBytes });
    const fd = yield* this.app.ioctl(node, UDMABUF_CREATE.code, bytes);
    this.#extraFds.push(memfd, node);
    this.fds.set(name, fd);
    const buf = this.app.fds.get(fd);
    this.#addBuf(name, buf);
    buf.put();
  }

  #addBuf(name: string, buf: DmaBuf): void {
    this.bufs.set(name, buf);
    const { priv } = buf;
    if (typeof priv !== 'object' || priv === null || !('memory' in priv) || !(priv.memory instanceof SgTable)) return;
    const extents = priv.memory.extents().map(({ phys, length }) => ({ phys, sizeBytes: length }));
    this.extents.set(name, extents);
  }

  #addView(
    name: string,
    extents: readonly { readonly phys: PhysAddr; readonly sizeBytes: number }[],
    attribute: 'cached' | 'write-combined' | 'uncached',
  ): void {
    this.extents.set(name, extents);
    const accessor: Accessor = {
      name: 'driver',
      kind: 'cpu',
      via: `linear map of ${name}`,
      beforeRead: `dmaSyncSingleForCpu or the unmap of ${name}`,
      afterWrite: `dmaSyncSingleForDevice or the map of ${name}`,
    };
    this.views.set(name, viewOf(new CpuView(this.machine.coherency, { extents, attribute, accessor })));
  }
}

/** A {@link CpuView} as steps use it. */
export function viewOf(view: CpuView): View {
  return {
    read(offset, length) {
      const out = new Uint8Array(length);
      view.read(offset, out);
      return out;
    },
    write: (offset, bytes) => view.write(offset, bytes),
  };
}

/** What `map` holds under `name`. @throws a step names what no step made. */
export function found<T>(map: ReadonlyMap<string, T>, name: string): T {
  const value = map.get(name);
  if (value === undefined)
    throw new Error(`the program has nothing called ${name} now (${[...map.keys()].join(', ')})`);
  return value;
}
