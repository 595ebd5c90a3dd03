/** Family `iopgtable`: page tables of the io-pgtable library, compared descriptor by descriptor. */
import { hex, iova as iovaOf, physAddr } from '../../../src/base/addr.ts';
import { ERRNO } from '../../../src/base/errno.ts';
import { ErrnoError } from '../../../src/base/errors.ts';
import {
  allocIoPgtable,
  type IoPgtableFormat,
  type IoPgtables,
  isIoPgtableFormat,
} from '../../../src/iommu/alloc-io-pgtable.ts';
import {
  IommuProt,
  type IoPgtableConfig,
  type IoPgtableDumpLeaf,
  type IoPgtableQuirk,
  type IoPgtableTlb,
} from '../../../src/iommu/io-pgtable.ts';
import { IotlbGather } from '../../../src/iommu/iotlb-gather.ts';
import { ShortTable } from '../../../src/iommu/short-table.ts';
import { FrameCounter } from '../../iommu/frame-counter.ts';
import { type Family, firstDifference, type Mismatch } from '../family.ts';
import {
  addressIn,
  arrayIn,
  booleanIn,
  type Json,
  type JsonObject,
  numberIn,
  parseAddress,
  stringIn,
  type VectorCase,
  type VectorOp,
} from '../vector-case.ts';

type Table = IoPgtables[IoPgtableFormat];

const MAX_RUNS = 60;
const ERRNO_NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [-number, `-${name}`]));
const PROT_BITS: ReadonlyMap<Json, number> = new Map([
  ['IOMMU_READ', IommuProt.read],
  ['IOMMU_WRITE', IommuProt.write],
  ['IOMMU_CACHE', IommuProt.cache],
  ['IOMMU_NOEXEC', IommuProt.noexec],
  ['IOMMU_MMIO', IommuProt.mmio],
  ['IOMMU_PRIV', IommuProt.priv],
]);
const QUIRKS: readonly IoPgtableQuirk[] = [
  'ARM_NS',
  'NO_PERMS',
  'ARM_MTK_EXT',
  'ARM_MTK_TTBR_EXT',
  'ARM_TTBR1',
  'ARM_OUTER_WBWA',
];

/** Writes invalidation callbacks down as the vectors do: successive single-page calls merged into one. */
class TlbLog implements IoPgtableTlb {
  #entries: [name: string, iova?: string, size?: number, last?: number][] = [];
  #nextIova = 0;

  tlbFlushAll(): undefined {
    this.#entries.push(['tlb_flush_all']);
  }

  tlbFlushWalk(iova: number, sizeBytes: number, granuleBytes: number): undefined {
    this.#entries.push(['tlb_flush_walk', hex(iova), sizeBytes, granuleBytes]);
  }

  tlbAddPage(_gather: IotlbGather, iova: number, granuleBytes: number, count: number): undefined {
    const last = this.#entries.at(-1);
    if (last?.[0] === 'tlb_add_page' && last[2] === granuleBytes && this.#nextIova === iova) {
      last[3] = (last[3] ?? 0) + count;
    } else {
      this.#entries.push(['tlb_add_page', hex(iova), granuleBytes, count]);
    }
    this.#nextIova = iova + granuleBytes * count;
  }

  take(): Json {
    const entries = this.#entries.map((entry): Json => entry.filter((field) => field !== undefined));
    this.#entries = [];
    return entries;
  }
}

const family: Family = {
  family: 'iopgtable',
  run(vector: VectorCase): Mismatch | null {
    const format = stringIn(vector.setup, 'fmt');
    if (!isIoPgtableFormat(format)) return { op: null, field: '', reason: `format ${format} is not built` };
    const replay = new Replay(format, vector.setup);
    for (const [index, op] of vector.ops.entries()) {
      const difference = firstDifference(`${op.op}.result`, op.result, replay.step(op));
      if (difference !== null) return { op: index, ...difference };
    }
    if (replay.pages.outstanding === 0) return null;
    return { op: null, field: '', reason: `${replay.pages.outstanding} table pages are left after the case` };
  },
};
export default family;

class Replay {
  readonly pages = new FrameCounter();
  readonly #tlb = new TlbLog();
  readonly #format: IoPgtableFormat;
  readonly #config: IoPgtableConfig;
  #table: Table | null = null;

  constructor(format: IoPgtableFormat, setup: JsonObject) {
    this.#format = format;
    this.#config = {
      pgsizeBitmap: addressIn(setup, 'pgsize_bitmap'),
      ias: numberIn(setup, 'ias'),
      oas: numberIn(setup, 'oas'),
      coherentWalk: booleanIn(setup, 'coherent_walk'),
      quirks: arrayIn(setup, 'quirks').map(quirkOf),
    };
  }

  step(op: VectorOp): JsonObject {
    if (op.op === 'alloc_io_pgtable_ops') return this.#alloc();
    const table = this.#table;
    if (table === null) throw new Error(`${op.op} without a table`);
    switch (op.op) {
      case 'map_pages':
        return this.#mapPages(table, op);
      case 'unmap_pages':
        return this.#unmapPages(table, op);
      case 'iova_to_phys':
        return { phys: hex(table.iovaToPhys(iovaOf(addressIn(op.args, 'iova')))) };
      case 'dump_leaves':
        table.check();
        // Short descriptors were not dumped.
        return table instanceof ShortTable ? {} : dumpLeaves(table, table.firstIova);
      case 'free_io_pgtable_ops':
        table.free();
        this.#table = null;
        return { tlb: this.#tlb.take() };
      default:
        throw new Error(`unknown operation ${op.op}`);
    }
  }

  #alloc(): JsonObject {
    try {
      this.#table = allocIoPgtable(this.#format, this.#config, this.pages, this.#tlb);
    } catch (error) {
      if (error instanceof ErrnoError && error.code === 'EINVAL') return { ret: null, warns: 0 };
      throw error;
    }
    return { ret: 'ops', ...configOf(this.#table), warns: this.#table.warnings };
  }

  #mapPages(table: Table, op: VectorOp): JsonObject {
    const before = table.warnings;
    const ret = table.mapPages(
      iovaOf(addressIn(op.args, 'iova')),
      physAddr(addressIn(op.args, 'paddr')),
      numberIn(op.args, 'pgsize'),
      numberIn(op.args, 'pgcount'),
      arrayIn(op.args, 'prot').reduce<number>((bits, name) => bits | protOf(name), 0),
    );
    return {
      ret: ret === 0 ? 0 : (ERRNO_NAMES.get(ret) ?? ret),
      mapped: table.mapped,
      ...this.#after(table, before, op),
    };
  }

  #unmapPages(table: Table, op: VectorOp): JsonObject {
    const before = table.warnings;
    const unmapped = table.unmapPages(
      iovaOf(addressIn(op.args, 'iova')),
      numberIn(op.args, 'pgsize'),
      numberIn(op.args, 'pgcount'),
      new IotlbGather(booleanIn(op.args, 'gather_queued')),
    );
    return { unmapped, ...this.#after(table, before, op) };
  }

  #after(table: Table, warningsBefore: number, op: VectorOp): JsonObject {
    return {
      tlb: this.#tlb.take(),
      warns: table.warnings - warningsBefore,
      ...(table instanceof ShortTable ? {} : { table_pages: table.tablePages, leaves: [...table.leaves()].length }),
      probe: arrayIn(op.result ?? {}, 'probe').map((pair) => {
        const address = Array.isArray(pair) ? pair[0] : undefined;
        if (typeof address !== 'string') throw new Error('a probe is no [iova, phys] pair');
        return [address, hex(table.iovaToPhys(iovaOf(parseAddress(address))))];
      }),
    };
  }
}

/** What the format made of the configuration, and what it tells the driver to program. */
function configOf(table: Table): JsonObject {
  const sizes = { pgsize_bitmap: hex(table.pgsizeBitmap), ias: table.ias, oas: table.oas };
  if (table instanceof ShortTable) {
    const { tcr, nmrr, prrr, ttbrFlags } = table.registers;
    return { ...sizes, tcr: hex(tcr), nmrr: hex(nmrr), prrr: hex(prrr), ttbr_low: hex(ttbrFlags) };
  }
  const { geometry, registers } = table;
  const shape = {
    ...sizes,
    pgd_bits: geometry.pgdBits,
    start_level: geometry.startLevel,
    bits_per_level: geometry.bitsPerLevel,
  };
  switch (registers.kind) {
    case 'arm-lpae-s1':
      return { ...shape, tcr: { ...registers.tcr }, mair: hex64(...registers.mair) };
    case 'arm-lpae-s2':
      return { ...shape, vtcr: { ...registers.vtcr } };
    case 'arm-mali-lpae':
      return { ...shape, memattr: hex(registers.memattr), transtab_low: hex(registers.transtabFlags) };
    case 'intel-vtd-s2':
      return shape;
  }
}

/** Leaves as `[iova, level, first descriptor, count]`, where both address and descriptor go on evenly; and a hash over all. */
function dumpLeaves(table: Table, firstIova: number): JsonObject {
  const runs: [iova: string, level: number, descriptor: string, count: number][] = [];
  const hash = new Fnv64();
  let leaves = 0;
  let last: { readonly leaf: IoPgtableDumpLeaf; readonly raw: bigint } | null = null;
  for (const leaf of table.leaves()) {
    const index = leaf.iova - firstIova;
    const raw = (BigInt(leaf.high) << 32n) | BigInt(leaf.low);
    hash.add(BigInt(index), 8);
    hash.add(BigInt(leaf.level), 4);
    hash.add(raw, 8);
    leaves++;
    const run = runs.at(-1);
    const goesOn =
      last !== null &&
      last.leaf.level === leaf.level &&
      last.leaf.iova + last.leaf.sizeBytes === leaf.iova &&
      last.raw + BigInt(leaf.sizeBytes) === raw;
    if (goesOn && run !== undefined) run[3]++;
    else runs.push([hex(index), leaf.level, hex64(leaf.low, leaf.high), 1]);
    last = { leaf, raw };
  }
  return { runs: runs.slice(0, MAX_RUNS), leaves, table_pages: table.tablePages, fnv: hash.text() };
}

/** FNV-1a, 64 bits. */
class Fnv64 {
  #hash = 0xcbf29ce484222325n;

  add(value: bigint, bytes: number): void {
    for (let i = 0; i < bytes; i++) {
      this.#hash ^= (value >> BigInt(8 * i)) & 0xffn;
      this.#hash = (this.#hash * 0x100000001b3n) & 0xffff_ffff_ffff_ffffn;
    }
  }

  text(): string {
    return this.#hash.toString(16).padStart(16, '0');
  }
}

function hex64(low: number, high: number): string {
  return `0x${((BigInt(high) << 32n) | BigInt(low)).toString(16)}`;
}

function protOf(name: Json): number {
  const bit = PROT_BITS.get(name);
  if (bit === undefined) throw new Error(`unknown protection ${JSON.stringify(name)}`);
  return bit;
}

function quirkOf(name: Json): IoPgtableQuirk {
  const quirk = QUIRKS.find((known) => known === name);
  if (quirk === undefined) throw new Error(`unknown quirk ${JSON.stringify(name)}`);
  return quirk;
}
