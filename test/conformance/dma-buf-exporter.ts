/** The exporter of family `dma-buf-kernel`: its callbacks can be left out, fail at their n-th call, and note each call. */
import { PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import { ERRNO, type ErrnoCode } from '../../src/base/errno.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufAttachment } from '../../src/dmabuf/dma-buf-attachment.ts';
import type { CpuMapping, DmaBufOps } from '../../src/dmabuf/dma-buf-ops.ts';
import { isObject, type Json, type JsonObject, numberIn, parseAddress, stringIn } from './vector-case.ts';

/** How the recordings name directions. */
const DIRECTIONS = {
  DMA_BIDIRECTIONAL: 'bidirectional',
  DMA_TO_DEVICE: 'to-device',
  DMA_FROM_DEVICE: 'from-device',
} as const satisfies Readonly<Record<string, DmaDirection>>;

/** Where its pages are, with a hole after each. */
const FIRST_PAGE = 0x100_0000;

/** A failure to inject: `nth_call` counts from 1; `ret` null stands for no table. */
interface Fault {
  readonly callback: string;
  readonly nthCall: number;
  readonly ret: ErrnoCode | null;
}

/** One exporter with its notes. */
export class RecordingExporter {
  /** Calls since it was last emptied. */
  trace: JsonObject[] = [];
  readonly #callbacks: readonly string[];
  readonly #cached: boolean;
  readonly #fault: Fault | null;
  readonly #counts = new Map<string, number>();
  readonly #attachments: DmaBufAttachment[] = [];
  readonly #tables: SgTable[] = [];
  readonly #pages: number;

  constructor(callbacks: readonly string[], cached: boolean, sizeBytes: number, fault: Json | undefined) {
    this.#callbacks = callbacks;
    this.#cached = cached;
    this.#pages = Math.max(1, Math.ceil(sizeBytes / PAGE_SIZE));
    this.#fault = isObject(fault)
      ? { callback: stringIn(fault, 'cb'), nthCall: numberIn(fault, 'nth_call'), ret: errnoIn(fault, 'ret') }
      : null;
  }

  /** The number that the next attach uses up, given to the attachment when a callback or the caller shows it first. */
  nextAttachment = 0;

  /** Binds a number to an attachment. */
  bind(att: DmaBufAttachment, id: number): void {
    this.#attachments[id] = att;
  }

  /** Number of a table, in order of creation. */
  numberOfTable(sgt: SgTable): number {
    return this.#tables.indexOf(sgt);
  }

  /** Notes the callback of an importer. */
  noteMove(att: DmaBufAttachment): undefined {
    this.#note('move_notify', att.buf, { attach: this.#numberOf(att) });
    return undefined;
  }

  /** The callbacks that are not left out. */
  ops(): DmaBufOps<this> {
    const all: Required<Omit<DmaBufOps<this>, 'beginCpuAccessPartial' | 'endCpuAccessPartial' | 'mayAlias'>> = {
      cacheSgtMapping: this.#cached,
      attach: (buf, att) => this.#failing('attach', buf, { attach: this.#numberOf(att) }),
      detach: (buf, att) => this.#note('detach', buf, { attach: this.#numberOf(att) }),
      pin: (att) => this.#failing('pin', att.buf, { attach: this.#numberOf(att) }),
      unpin: (att) => this.#note('unpin', att.buf, { attach: this.#numberOf(att) }),
      mapDmaBuf: (att, dir) => this.#map(att, dir),
      unmapDmaBuf: (att, sgt, dir) => {
        this.#note('unmap_dma_buf', att.buf, { ...this.#where(att, dir), sgt: this.numberOfTable(sgt) });
        dmaUnmapSgtable(att.dev, sgt, dir);
      },
      release: () => {
        this.trace.push({ cb: 'release' });
      },
      beginCpuAccess: (buf, dir) => this.#failing('begin_cpu_access', buf, { dir: nameOf(dir) }),
      endCpuAccess: (buf, dir) => this.#failing('end_cpu_access', buf, { dir: nameOf(dir) }),
      mmap: (buf, vma) => {
        this.#failing('mmap', buf, { pgoff: vma.pgoff, pages: vma.pageCount });
        return this.#cpuMapping();
      },
      vmap: (buf) => {
        this.#failing('vmap', buf, {});
        return this.#cpuMapping();
      },
      vunmap: (buf) => this.#note('vunmap', buf, {}),
    };
    const left: Partial<DmaBufOps<this>> = { ...all };
    for (const [name, key] of CALLBACKS) if (!this.#callbacks.includes(name)) delete left[key];
    return left as DmaBufOps<this>;
  }

  #map(att: DmaBufAttachment, dir: DmaDirection): SgTable | null {
    const where = { ...this.#where(att, dir), resv_locked: isLocked(att.buf) };
    const fault = this.#faultOf('map_dma_buf');
    if (fault !== null) {
      this.trace.push({ cb: 'map_dma_buf', ...where, ret: fault.ret === null ? null : `-${fault.ret}` });
      if (fault.ret === null) return null;
      throw new ErrnoError(fault.ret, 'exporter');
    }
    const sgt = new SgTable(this.#extents());
    dmaMapSgtable(att.dev, sgt, dir);
    this.#tables.push(sgt);
    this.trace.push({ cb: 'map_dma_buf', ...where, sgt: this.numberOfTable(sgt) });
    return sgt;
  }

  #extents(): { phys: ReturnType<typeof physAddr>; length: number }[] {
    return Array.from({ length: this.#pages }, (_, i) => ({
      phys: physAddr(FIRST_PAGE + 2 * i * PAGE_SIZE),
      length: PAGE_SIZE,
    }));
  }

  #cpuMapping(): CpuMapping {
    return { extents: this.#extents(), attribute: 'cached' };
  }

  #where(att: DmaBufAttachment, dir: DmaDirection): { attach: number; dir: string } {
    return { attach: this.#numberOf(att), dir: nameOf(dir) };
  }

  #numberOf(att: DmaBufAttachment): number {
    const known = this.#attachments.indexOf(att);
    if (known >= 0) return known;
    this.#attachments[this.nextAttachment] = att;
    return this.nextAttachment;
  }

  #note(cb: string, buf: DmaBuf, facts: JsonObject): void {
    this.trace.push({ cb, ...facts, resv_locked: isLocked(buf) });
  }

  #failing(cb: string, buf: DmaBuf, facts: JsonObject): void {
    const fault = this.#faultOf(cb);
    const ret = fault === null || fault.ret === null ? 0 : `-${fault.ret}`;
    this.#note(cb, buf, { ...facts, ret });
    if (fault !== null && fault.ret !== null) throw new ErrnoError(fault.ret, 'exporter');
  }

  #faultOf(cb: string): Fault | null {
    const count = (this.#counts.get(cb) ?? 0) + 1;
    this.#counts.set(cb, count);
    return this.#fault?.callback === cb && this.#fault.nthCall === count ? this.#fault : null;
  }
}

/** Every callback by the name that the recordings give it. */
const CALLBACKS = [
  ['attach', 'attach'],
  ['detach', 'detach'],
  ['pin', 'pin'],
  ['unpin', 'unpin'],
  ['map_dma_buf', 'mapDmaBuf'],
  ['unmap_dma_buf', 'unmapDmaBuf'],
  ['release', 'release'],
  ['begin_cpu_access', 'beginCpuAccess'],
  ['end_cpu_access', 'endCpuAccess'],
  ['mmap', 'mmap'],
  ['vmap', 'vmap'],
  ['vunmap', 'vunmap'],
] as const;

/** Names of all callbacks. */
const ALL_CALLBACKS: readonly string[] = CALLBACKS.map(([name]) => name);

function isLocked(buf: DmaBuf): boolean {
  return buf.resv.isLocked;
}

function nameOf(dir: DmaDirection): string {
  const found = Object.entries(DIRECTIONS).find(([, here]) => here === dir);
  if (found === undefined) throw new Error(`direction ${dir} has no name`);
  return found[0];
}

function errnoIn(from: JsonObject, key: string): ErrnoCode | null {
  if (from[key] === null) return null;
  const text = stringIn(from, key).slice(1);
  const found = Object.keys(ERRNO).find((code): code is ErrnoCode => code === text);
  if (found === undefined) throw new Error(`unknown errno ${text}`);
  return found;
}

/** The callbacks that the recorder's exporter had in an argument check. */
export function callbacksFor(args: JsonObject, title: Json | undefined): readonly string[] {
  const isBare = typeof title === 'string' && title.startsWith('cached mapping');
  const all = isBare ? ['map_dma_buf', 'unmap_dma_buf', 'release'] : ALL_CALLBACKS;
  const pins = args['pin_unpin'] === true ? all : all.filter((name) => name !== 'pin' && name !== 'unpin');
  return pins.filter((name) => name !== args['missing']);
}

/** The direction in `args`; where a case names none, it does not matter. @throws {Error} an unknown name. */
export function directionIn(args: JsonObject): DmaDirection {
  const found = Object.entries(DIRECTIONS).find(([name]) => name === (args['dir'] ?? 'DMA_BIDIRECTIONAL'));
  if (found === undefined) throw new Error(`unknown direction ${JSON.stringify(args['dir'])}`);
  return found[1];
}

/** What a caller in C can leave out although its type says otherwise. */
export function absent(): never {
  return undefined as never;
}

/** What a case refers to must be there. @throws {Error} always. */
export function missing(what: string): never {
  throw new Error(`there is no ${what}`);
}

/** The size as its inode has it: a signed number of 64 bits. */
export function inodeSize(size: number | string): number | string {
  const isNegative = typeof size === 'string' && parseAddress(size) < 0;
  return isNegative ? parseAddress(size) : size;
}
