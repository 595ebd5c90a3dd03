/**
 * The entry points as a module of the kernel binds and calls them: a module that may not use them is refused by name, and
 * arguments that are null are answered as the kernel does, with a warning and an errno, after which everything goes on.
 * Whoever has no such arguments calls the methods of `DmaBuf` and `DmaBufAttachment`, which these stand for.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c`
 */
import { ErrnoError } from '../base/errors.ts';
import type { Device } from '../dma-api/device.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import type { SgTable } from '../dma-api/sg-table.ts';
import type { Op } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import { type DmaBuf, exportDmaBuf } from './dma-buf.ts';
import type { DmaBufAttachment } from './dma-buf-attachment.ts';
import { dmaBufCore } from './dma-buf-core.ts';
import type { DmaBufExportInfo } from './dma-buf-export.ts';
import type { CpuMapping, DmaBufAttachOps, DmaBufVma } from './dma-buf-ops.ts';
import type { KernelModule } from './kernel-module.ts';

/** Something that turns buffers into descriptors: a process's table of them. */
export interface DescriptorTable {
  install(buf: DmaBuf): number;
}

/** All of these are GPL-only, in namespace `DMA_BUF`. */
const SYMBOLS = [
  'dma_buf_export',
  'dma_buf_fd',
  'dma_buf_get',
  'dma_buf_put',
  'dma_buf_attach',
  'dma_buf_dynamic_attach',
  'dma_buf_detach',
  'dma_buf_pin',
  'dma_buf_unpin',
  'dma_buf_map_attachment',
  'dma_buf_map_attachment_unlocked',
  'dma_buf_unmap_attachment',
  'dma_buf_unmap_attachment_unlocked',
  'dma_buf_move_notify',
  'dma_buf_begin_cpu_access',
  'dma_buf_end_cpu_access',
  'dma_buf_mmap',
  'dma_buf_vmap',
  'dma_buf_vunmap',
] as const;

/** The name of an entry point: `'dma_buf_attach'`. */
export type DmaBufSymbol = (typeof SYMBOLS)[number];

/**
 * Lets `module` call the entry points, as loading it does. Plain.
 *
 * @param symbols - those it uses. Default: all.
 * @throws {ErrnoError} `ENOENT` its licence is not compatible with the GPL; `EINVAL` it does not import namespace `DMA_BUF`
 *   (never retry). The text names the first symbol that is refused.
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` EXPORT_SYMBOL_NS_GPL
 */
export function bindDmaBuf(
  sim: Simulator,
  module: KernelModule,
  symbols: readonly DmaBufSymbol[] = SYMBOLS,
): DmaBufApi {
  for (const name of symbols) module.resolve({ name, namespace: 'DMA_BUF', gplOnly: true });
  return new DmaBufApi(sim, module);
}

/**
 * The entry points; {@link bindDmaBuf} gives them. Each method is the method of the same name of `DmaBuf` or
 * `DmaBufAttachment`, with its waits and errors. What is told here is what happens to `null`: `EINVAL` (never retry) for calls
 * that give something, nothing for the others, and a warning for either.
 */
export class DmaBufApi {
  readonly #sim: Simulator;
  readonly #module: KernelModule;

  /** @internal */
  constructor(sim: Simulator, module: KernelModule) {
    this.#sim = sim;
    this.#module = module;
  }

  /** `exportDmaBuf`, owned by this module unless `info` says otherwise. */
  export<Priv>(info: DmaBufExportInfo<Priv>): DmaBuf<Priv> {
    return exportDmaBuf(this.#sim, { owner: this.#module, ...info });
  }

  /** Makes a descriptor and hands it the caller's reference. Without a buffer: `EINVAL`, no warning. */
  fd(table: DescriptorTable, buf: DmaBuf | null): number {
    if (buf === null) throw new ErrnoError('EINVAL', 'dma_buf_fd', 'buf is null');
    return table.install(buf);
  }

  put(buf: DmaBuf | null): void {
    if (buf === null) this.#warn('dma_buf_put', 'buf is null');
    else buf.put();
  }

  *attach<Priv>(buf: DmaBuf<Priv> | null, dev: Device | null): Op<DmaBufAttachment<Priv>> {
    if (buf === null || dev === null) throw this.#invalid('dma_buf_attach', 'buf or dev is null');
    return yield* buf.attach(dev);
  }

  /** Without `importerOps` it is a static attachment. */
  *dynamicAttach<Priv>(
    buf: DmaBuf<Priv> | null,
    dev: Device | null,
    importerOps: DmaBufAttachOps | null,
  ): Op<DmaBufAttachment<Priv>> {
    if (buf === null || dev === null) throw this.#invalid('dma_buf_dynamic_attach', 'buf or dev is null');
    return yield* importerOps === null ? buf.attach(dev) : buf.dynamicAttach(dev, importerOps);
  }

  *detach<Priv>(buf: DmaBuf<Priv> | null, att: DmaBufAttachment<Priv> | null): Op<void> {
    if (buf === null || att === null) this.#warn('dma_buf_detach', 'buf or att is null');
    else yield* buf.detach(att);
  }

  *map<Priv>(att: DmaBufAttachment<Priv> | null, dir: DmaDirection): Op<SgTable> {
    if (att === null) throw this.#invalid('dma_buf_map_attachment', 'att is null');
    return yield* att.map(dir);
  }

  *mapUnlocked<Priv>(att: DmaBufAttachment<Priv> | null, dir: DmaDirection): Op<SgTable> {
    if (att === null) throw this.#invalid('dma_buf_map_attachment_unlocked', 'att is null');
    return yield* att.mapUnlocked(dir);
  }

  *unmap<Priv>(att: DmaBufAttachment<Priv> | null, sgt: SgTable | null, dir: DmaDirection): Op<void> {
    if (att === null || sgt === null) this.#warn('dma_buf_unmap_attachment', 'att or sgt is null');
    else yield* att.unmap(sgt, dir);
  }

  *unmapUnlocked<Priv>(att: DmaBufAttachment<Priv> | null, sgt: SgTable | null, dir: DmaDirection): Op<void> {
    if (att === null || sgt === null) this.#warn('dma_buf_unmap_attachment_unlocked', 'att or sgt is null');
    else yield* att.unmapUnlocked(sgt, dir);
  }

  *beginCpuAccess(buf: DmaBuf | null, dir: DmaDirection): Op<void> {
    if (buf === null) throw this.#invalid('dma_buf_begin_cpu_access', 'buf is null');
    yield* buf.beginCpuAccess(dir);
  }

  *endCpuAccess(buf: DmaBuf | null, dir: DmaDirection): Op<void> {
    if (buf === null) this.#warn('dma_buf_end_cpu_access', 'buf is null');
    else yield* buf.endCpuAccess(dir);
  }

  *mmap(buf: DmaBuf | null, vma: DmaBufVma | null): Op<CpuMapping> {
    if (buf === null || vma === null) throw this.#invalid('dma_buf_mmap', 'buf or vma is null');
    return yield* buf.mmap(vma);
  }

  *vmap(buf: DmaBuf | null): Op<CpuMapping> {
    if (buf === null) throw this.#invalid('dma_buf_vmap', 'buf is null');
    return yield* buf.vmap();
  }

  *vunmap(buf: DmaBuf | null, map: CpuMapping | null): Op<void> {
    if (buf === null || map === null) this.#warn('dma_buf_vunmap', 'buf or map is null');
    else yield* buf.vunmap(map);
  }

  #invalid(symbol: DmaBufSymbol, text: string): ErrnoError {
    this.#warn(symbol, text);
    return new ErrnoError('EINVAL', symbol, text);
  }

  #warn(symbol: DmaBufSymbol, text: string): void {
    dmaBufCore(this.#sim).warn(symbol, text);
  }
}
