/** What an exporter hands in, and what is checked of it. */
import { ErrnoError } from '../base/errors.ts';
import type { DmaBufCore } from './dma-buf-core.ts';
import type { DmaBufOps } from './dma-buf-ops.ts';
import type { DmaBufProfile } from './dma-buf-profile.ts';
import type { DmaResv } from './dma-resv.ts';
import type { KernelModule } from './kernel-module.ts';

/** What `exportDmaBuf` needs. @see Linux 6.1 `include/linux/dma-buf.h` struct dma_buf_export_info */
export interface DmaBufExportInfo<Priv> {
  /** Who exports: `'system'`, `'camera0'`. */
  readonly exporterName: string;
  /** As reports call it: `'frame1'`. */
  readonly name: string;
  /** Need not be whole pages; may be 0. */
  readonly sizeBytes: number;
  readonly ops: DmaBufOps<Priv>;
  /** The exporter's own data; not `null`. */
  readonly priv: Priv;
  /** Shared with other buffers; by default the buffer has one of its own. */
  readonly resv?: DmaResv;
  /** As for open(2); of these the access mode and `O_NONBLOCK` stay. Default `O_RDWR`. */
  readonly flags?: number;
  /** The module that exports it and must stay while the buffer lives. Default: built in. */
  readonly owner?: KernelModule;
  /** The rules for this buffer. Default: the core's. */
  readonly profile?: DmaBufProfile;
}

/** Largest size of an object, which is one below. */
const SIZE_LIMIT = 2 ** 64;

/**
 * @internal Checks `info` as the kernel does, warnings included, and takes the reference of the owner.
 *
 * @throws {ErrnoError} as `exportDmaBuf`.
 */
export function admitExport<Priv>(core: DmaBufCore, info: DmaBufExportInfo<Priv>): void {
  const wrong = whatIsWrong(info);
  if (wrong !== '') {
    core.warn('exportDmaBuf', wrong);
    throw new ErrnoError('EINVAL', 'exportDmaBuf', wrong);
  }
  const { sizeBytes, owner } = info;
  if (!(Number.isInteger(sizeBytes) && sizeBytes >= 0 && sizeBytes <= SIZE_LIMIT)) {
    throw new ErrnoError('EINVAL', 'exportDmaBuf', `sizeBytes: ${sizeBytes} is no whole number in [0, 2^64]`);
  }
  if (owner !== undefined && !owner.tryGet()) {
    throw new ErrnoError('ENOENT', 'exportDmaBuf', `owner: module ${owner.name} is unloaded`);
  }
}

function whatIsWrong<Priv>({ ops, priv }: DmaBufExportInfo<Priv>): string {
  if (priv === undefined || priv === null) return 'priv is missing';
  for (const name of ['mapDmaBuf', 'unmapDmaBuf', 'release'] as const) {
    if (typeof ops?.[name] !== 'function') return `ops.${name} is missing`;
  }
  if (ops.cacheSgtMapping === true && (ops.pin !== undefined || ops.unpin !== undefined)) {
    return 'ops.cacheSgtMapping keeps a table while the buffer may move: leave it out, or leave out ops.pin and ops.unpin';
  }
  if ((ops.pin === undefined) !== (ops.unpin === undefined)) return 'ops.pin and ops.unpin: give both or none';
  return '';
}
