/**
 * Devices behind a VT-d unit that write and read memory for themselves, as the cases of `iommu-fault` describe them.
 *
 * A device moves one page after the other and goes on behind a page that is refused. The recorder kept a page of its own mapped for each
 * device; what it left there is modelled as far as a device could read it.
 */
import { dmaAddr, hex, iova as iovaOf, PAGE_SIZE, type PhysAddr, physAddr } from '../../src/base/addr.ts';
import { GIB, ms } from '../../src/base/units.ts';
import { freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { CoherencyDomain } from '../../src/cache/coherency.ts';
import { Device } from '../../src/dma-api/device.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { dmaMapPage, dmaMappingError, dmaUnmapPage } from '../../src/dma-api/dma-single.ts';
import { type Extent, SgTable } from '../../src/dma-api/sg-table.ts';
import { Iommu } from '../../src/iommu/iommu.ts';
import type { IommuDomain } from '../../src/iommu/iommu-domain.ts';
import { IommuGroup } from '../../src/iommu/iommu-group.ts';
import { vtdFaultRecord } from '../../src/iommu/vtd-fault.ts';
import { PageAllocator } from '../../src/mem/page-allocator.ts';
import { PhysMemory } from '../../src/mem/phys-memory.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { FrameCounter } from '../iommu/frame-counter.ts';
import { attrsIn, directionIn, maskBits, objectIn, returned } from './dma-bench.ts';
import { bytesText, type KnownPage, note, pagesOf, UntouchedPages } from './fault-memory.ts';
import { protIn } from './iommu-prot.ts';
import {
  addressIn,
  arrayIn,
  booleanIn,
  isObject,
  type Json,
  type JsonObject,
  numberIn,
  parseAddress,
  stringIn,
  type VectorOp,
} from './vector-case.ts';

/** RAM of the recorded machine. */
const RAM = [
  { base: 0, bytes: 2 * GIB },
  { base: 4 * GIB, bytes: GIB },
];
/** What `repeat_map_unmap` maps. */
const SAMPLE_PAGE = physAddr(0x2000_0000);
/** What a device's buffer holds before it reads. */
const UNREAD = 0xee;
interface Master {
  readonly device: Device;
  readonly group: IommuGroup;
  /** The recorder's own page. */
  readonly staging: PhysAddr;
  /** Memory page by page of IO addresses: the latest mapping, live or not. */
  readonly known: Map<number, KnownPage>;
  readonly live: Map<number, () => void>;
}

/** Replays one case. */
export class FaultBench {
  readonly #sim = new Simulator();
  readonly #memory = new PhysMemory({ trace: this.#sim.trace, now: () => this.#sim.now });
  readonly #iommu: Iommu;
  readonly #isStrict: boolean;
  readonly #masters = new Map<string, Master>();
  readonly #domains = new Map<string, IommuDomain>();
  readonly #owner = {};
  readonly #untouched = new UntouchedPages(this.#memory);

  constructor(setup: JsonObject) {
    const spec = objectIn(setup, 'device');
    for (const { base, bytes } of RAM) {
      this.#memory.addRegion({ kind: 'ram', name: `ram${base}`, base: physAddr(base), bytes });
    }
    this.#isStrict = booleanIn(setup, 'strict');
    this.#iommu = new Iommu(this.#sim, {
      name: 'dmar0',
      pages: new FrameCounter(),
      format: 'INTEL_VTD_S2',
      pgsizeBitmap: addressIn(spec, 'pgsize_bitmap'),
      ias: Math.log2(addressIn(spec, 'aperture_end') + 1),
      cachedDenial: 'drop',
      collapseFaults: true,
    });
    const coherency = new CoherencyDomain(this.#sim, this.#memory, { costs: freeCacheCosts, shadow: false });
    const pages = new PageAllocator(this.#memory);
    for (const entry of arrayIn(setup, 'devices')) {
      if (!isObject(entry)) throw new Error('a device is no object');
      this.#addMaster(entry, spec, coherency, pages);
    }
  }

  /** Runs one operation. @returns its result as the vectors write it; `undefined`: it has none. */
  step({ op, args, result = {} }: VectorOp): JsonObject | undefined {
    switch (op) {
      case 'device_write':
        return this.#deviceWrite(
          this.#master(args),
          addressIn(args, 'iova'),
          numberIn(args, 'len'),
          numberIn(args, 'x'),
        );
      case 'device_read':
        return this.#deviceRead(this.#master(args), addressIn(args, 'iova'), numberIn(args, 'len'));
      case 'dma_map_page':
        return this.#mapPage(this.#master(args), args);
      case 'dma_map_sg':
        return this.#mapSg(this.#master(args), args);
      case 'dma_alloc_coherent':
        return this.#alloc(this.#master(args), args, result);
      case 'dma_unmap_page':
      case 'dma_unmap_sg':
      case 'dma_free_coherent':
        this.#end(this.#master(args), numberIn(args, 'id'));
        return undefined;
      case 'repeat_map_unmap':
        this.#repeat(this.#master(args).device, numberIn(args, 'count'), numberIn(args, 'size'));
        return {};
      case 'msleep':
        this.#sim.runUntil(this.#sim.now + ms(numberIn(args, 'ms')));
        return undefined;
      case 'pci_clear_master':
      case 'pci_set_master':
        this.#master(args).device.busMaster = op === 'pci_set_master';
        return { ret: 0 };
      default:
        return this.#control(op, args);
    }
  }

  #control(op: string, args: JsonObject): JsonObject {
    switch (op) {
      case 'iommu_group_claim_dma_owner':
        return { ret: returned(() => this.#group(args).claimDmaOwner(this.#owner)) };
      case 'iommu_group_release_dma_owner':
        return { ret: returned(() => this.#group(args).releaseDmaOwner()) };
      case 'iommu_attach_device':
        return { ret: returned(() => this.#domain(args).attachDevice(this.#master(args).device)) };
      case 'iommu_detach_device':
        return { ret: returned(() => this.#domain(args).detachDevice(this.#master(args).device)) };
      case 'iommu_map':
        return this.#iommuMap(args);
      case 'iommu_unmap':
        return { ret: this.#domain(args).unmap(iovaOf(addressIn(args, 'iova')), numberIn(args, 'size')) };
      default:
        throw new Error(`unknown operation ${op}`);
    }
  }

  #addMaster(entry: JsonObject, spec: JsonObject, coherency: CoherencyDomain, pages: PageAllocator): void {
    const name = stringIn(entry, 'name');
    const isLazy = stringIn(spec, 'domain_type') === 'IOMMU_DOMAIN_DMA_FQ';
    const group = new IommuGroup(this.#iommu, { name, defaultType: isLazy ? 'dma-fq' : 'dma' });
    const device = new Device(this.#sim, {
      name,
      sourceId: parseSource(stringIn(entry, 'source')),
      coherency,
      pages,
      coherent: true,
      iommuGroup: group,
      pci: booleanIn(spec, 'pci'),
      dmaMaskBits: maskBits(stringIn(entry, 'dma_mask')),
      coherentDmaMaskBits: maskBits(stringIn(spec, 'coherent_dma_mask')),
      maxSegmentSizeBytes: numberIn(spec, 'max_seg_size'),
      segBoundaryBytes: 2 ** maskBits(stringIn(spec, 'seg_boundary')),
      reservedIova: reservedOf(spec),
    });
    const staging = objectIn(entry, 'staging');
    const phys = physAddr(addressIn(staging, 'phys'));
    this.#masters.set(name, { device, group, staging: phys, known: new Map(), live: new Map() });
    const address = dmaMapPage(device, phys, numberIn(staging, 'size'), 'bidirectional');
    if (address !== addressIn(staging, 'dma_addr')) throw new Error(`the recorder's page is mapped at ${hex(address)}`);
  }

  #mapPage(master: Master, args: JsonObject): JsonObject {
    const phys = physAddr(addressIn(args, 'page') + numberIn(args, 'offset'));
    const sizeBytes = numberIn(args, 'size');
    const dir = directionIn(args);
    const { device, live } = master;
    this.#untouched.prepare(phys, sizeBytes);
    const address = dmaMapPage(device, phys, sizeBytes, dir, attrsIn(args));
    if (dmaMappingError(device, address)) return { ret: 'DMA_MAPPING_ERROR' };
    live.set(numberIn(args, 'id'), () => dmaUnmapPage(device, address, sizeBytes, dir));
    note(master.known, address, phys, sizeBytes);
    return { dma_addr: hex(address) };
  }

  #mapSg(master: Master, args: JsonObject): JsonObject {
    const extents = arrayIn(args, 'sg').map(extentOf);
    for (const { phys, length } of extents) this.#untouched.prepare(phys, length);
    const { device, live } = master;
    const sgt = new SgTable(extents);
    const dir = directionIn(args);
    const ret = returned(() => dmaMapSgtable(device, sgt, dir, attrsIn(args)));
    if (ret !== 0) return { ret: 0 };
    live.set(numberIn(args, 'id'), () => dmaUnmapSgtable(device, sgt, dir));
    const segs = sgt.segments();
    // Of each extent the recorder looked at its first and its last page.
    let segment = 0;
    let offset = 0;
    for (const { phys, length } of extents) {
      const at = Number(segs[segment]?.address) + offset;
      note(master.known, at, phys, 1);
      note(master.known, at + length - 1, phys + length - 1, 1);
      offset += length;
      if (offset < Number(segs[segment]?.length)) continue;
      segment++;
      offset = 0;
    }
    return { ret: sgt.nents, segs: segs.map(({ address, length }): Json => [hex(address), length]) };
  }

  #alloc(master: Master, args: JsonObject, recorded: JsonObject): JsonObject {
    const sizeBytes = numberIn(args, 'size');
    const { device, live } = master;
    const { dmaOps } = device;
    const backing = dmaOps.alloc(sizeBytes, {});
    if (backing === null) return { ret: null };
    live.set(numberIn(args, 'id'), () => dmaOps.free(backing, sizeBytes, {}));
    let at = Number(backing.address);
    let isZeroed = true;
    const isNamed = typeof recorded['phys'] === 'string';
    for (const { phys, length } of backing.extents) {
      const bytes = new Uint8Array(length);
      this.#memory.read(phys, bytes, 0, length);
      isZeroed &&= bytes.every((byte) => byte === 0);
      const named = isNamed ? addressIn(recorded, 'phys') + (at - backing.address) : phys;
      note(master.known, at, phys, length, named);
      at += length;
    }
    return {
      dma_addr: hex(backing.address),
      ...(isNamed ? { phys: recorded['phys'] ?? null } : {}),
      ...(Object.hasOwn(recorded, 'zeroed') ? { zeroed: isZeroed } : {}),
    };
  }

  #end({ live }: Master, id: number): void {
    const end = live.get(id);
    if (end === undefined) throw new Error(`id ${id} is not mapped`);
    live.delete(id);
    end();
  }

  #repeat(device: Device, count: number, sizeBytes: number): void {
    for (let i = 0; i < count; i++) {
      const address = dmaMapPage(device, SAMPLE_PAGE, sizeBytes, 'bidirectional');
      dmaUnmapPage(device, address, sizeBytes, 'bidirectional');
    }
  }

  #iommuMap(args: JsonObject): JsonObject {
    const at = iovaOf(addressIn(args, 'iova'));
    const phys = physAddr(addressIn(args, 'paddr'));
    const sizeBytes = numberIn(args, 'size');
    const prot = protIn(args);
    this.#untouched.prepare(phys, sizeBytes);
    const ret = returned(() => this.#domain(args).map(at, phys, sizeBytes, prot));
    if (ret !== 0) return { ret };
    for (const master of this.#masters.values()) {
      if (phys !== master.staging) note(master.known, at, phys, sizeBytes);
    }
    return { ret };
  }

  #deviceWrite(master: Master, at: number, length: number, x: number): JsonObject {
    const bytes = Uint8Array.from({ length }, (_, j) => 0x80 | ((x + j) & 0x7f));
    this.#memory.write(master.staging, bytes, 0, Math.min(length, PAGE_SIZE));
    this.#begin();
    for (const { from, to } of pagesOf(at, length)) {
      master.device.port.write(dmaAddr(from), bytes, from - at, to - from);
    }
    const faults = this.#takeFaults();
    const memory: Json[] = [];
    let isComplete = true;
    for (const { from, to } of pagesOf(at, length)) {
      const page = master.known.get(Math.floor(from / PAGE_SIZE));
      if (page === undefined) continue;
      const inPage = from % PAGE_SIZE;
      const found = new Uint8Array(to - from);
      this.#memory.read(physAddr(page.phys + inPage), found, 0, found.length);
      memory.push([hex(page.named + inPage), bytesText(found)]);
      isComplete &&= found.every((byte, i) => byte === bytes[from - at + i]);
    }
    const isDropped = faults.length === 0 && !isComplete;
    return { faults, memory, ...(isDropped ? { dropped_without_report: true } : {}) };
  }

  #deviceRead(master: Master, at: number, length: number): JsonObject {
    const buffer = new Uint8Array(length).fill(UNREAD);
    this.#memory.write(master.staging, buffer, 0, Math.min(length, PAGE_SIZE));
    this.#begin();
    for (const { from, to } of pagesOf(at, length)) {
      const { port, busMaster } = master.device;
      const done = port.read(dmaAddr(from), buffer, from - at, to - from);
      if (busMaster) buffer.fill(0, from - at + done, to - at);
    }
    const faults = this.#takeFaults();
    this.#memory.write(master.staging, buffer, 0, Math.min(length, PAGE_SIZE));
    return { faults, device_buffer: bytesText(buffer) };
  }

  /** Strict cases empty the translation cache before each transfer. */
  #begin(): void {
    if (this.#isStrict) this.#iommu.iotlb.invalidateAll();
  }

  #takeFaults(): Json[] {
    const taken: Json[] = [];
    for (let fault = this.#iommu.faults.take(); fault !== null; fault = this.#iommu.faults.take()) {
      const { type, source, page, reason, log } = vtdFaultRecord(fault);
      const code = `0x${reason.toString(16).padStart(2, '0')}`;
      taken.push({ type, source, addr: hex(page), reason: code, dmesg: log });
    }
    return taken;
  }

  #master(args: JsonObject): Master {
    const master = this.#masters.get(stringIn(args, 'dev'));
    if (master === undefined) throw new Error('unknown device');
    return master;
  }

  #group(args: JsonObject): IommuGroup {
    const master = this.#masters.get(stringIn(args, 'group').replace(/^of /, ''));
    if (master === undefined) throw new Error('unknown group');
    return master.group;
  }

  #domain(args: JsonObject): IommuDomain {
    const name = stringIn(args, 'domain');
    const domain = this.#domains.get(name) ?? this.#iommu.allocDomain({ name });
    this.#domains.set(name, domain);
    return domain;
  }
}

/** `'00:10.0'` as bus, device and function in 8, 5 and 3 bits. */
function parseSource(text: string): number {
  const [bus, device, fn] = text.split(/[:.]/).map((part) => Number.parseInt(part, 16));
  return ((bus ?? 0) << 8) | ((device ?? 0) << 3) | (fn ?? 0);
}

function reservedOf(spec: JsonObject): { first: number; last: number }[] {
  const windows = spec['pci_windows'] === undefined ? [] : arrayIn(spec, 'pci_windows');
  return [
    ...windows.map((window) => ({ first: addressAt(window, 0), last: addressAt(window, 1) })),
    ...arrayIn(spec, 'resv_regions').map((region) => {
      const first = addressAt(region, 0);
      return { first, last: first + addressAt(region, 1) - 1 };
    }),
  ];
}

function addressAt(entry: Json, index: number): number {
  const text = Array.isArray(entry) ? entry[index] : undefined;
  if (typeof text !== 'string') throw new Error(`no address: ${JSON.stringify(entry)}`);
  return parseAddress(text);
}

function extentOf(entry: Json): Extent {
  const [page, offset, length] = Array.isArray(entry) ? entry : [];
  if (typeof page !== 'string' || typeof offset !== 'number' || typeof length !== 'number') {
    throw new Error(`no scatterlist entry: ${JSON.stringify(entry)}`);
  }
  return { phys: physAddr(parseAddress(page) + offset), length };
}
