/**
 * What mmap(2) does before and after it asks the file.
 *
 * @see Linux 6.1 `mm/mmap.c` do_mmap, mmap_region
 */
import { PAGE_SIZE } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import { alignUp } from '../base/units.ts';
import { lift, type Op } from '../sim/op.ts';
import type { AddressSpace } from './address-space.ts';
import { type OpenFile, PROT, type VmaRequest } from './file.ts';
import type { UserMapping } from './user-mapping.ts';

/** What to map of a file and how. */
export interface MmapRange {
  /** Bytes from the file's start, a multiple of a page. Default 0. */
  readonly offset?: number;
  /** Bytes; rounded up to whole pages. Default: all whole pages from `offset` on, at least one. */
  readonly length?: number;
  /** {@link PROT} bits. Default: reading, and writing if the file was opened for it. */
  readonly prot?: number;
  /** `MAP_SHARED`, the default; else `MAP_PRIVATE`: writes stay with the process. */
  readonly shared?: boolean;
}

/** Size of the part of the address space that is the process's, with 4-level tables. */
const TASK_BYTES = 2 ** 47;
/** Who maps, and what. */
interface Mapper {
  readonly name: string;
  readonly fd: number;
  readonly file: OpenFile;
}

/** @internal See `Process.mmap`. */
export function* mapFile(space: AddressSpace, { name, fd, file }: Mapper, range: MmapRange): Op<UserMapping> {
  const vma = checkedVma(file, range);
  const backing = yield* lift(file.mmap(vma));
  const kept = backing.file ?? file.get();
  const maxProt = file.isWritable || !vma.shared ? PROT.read | PROT.write | PROT.exec : PROT.read | PROT.exec;
  const { beforeRead = '', afterWrite = '' } = backing.remedy?.(fd) ?? {};
  const via = `mmap of fd ${fd} (${backing.name})`;
  let complete = false;
  try {
    const shown = backing.remedy === undefined ? {} : { object: backing.name };
    const accessor = { name, kind: 'cpu', via, beforeRead, afterWrite, brackets: 'ioctl', ...shown } as const;
    const mapping = space.enter({ vma, maxProt, backing, file: kept, accessor });
    complete = true;
    return mapping;
  } finally {
    if (!complete) {
      backing.closed?.();
      kept.put();
    }
  }
}

/** The request in whole pages, as far as it can be checked before the file is asked. */
function checkedVma(file: OpenFile, range: MmapRange): VmaRequest {
  const { offset = 0, shared = true } = range;
  const size = range.length === undefined ? file.fstat().size : 0;
  const wanted = range.length ?? Math.max(PAGE_SIZE, Math.floor(size / PAGE_SIZE) * PAGE_SIZE - offset);
  const isRange = Number.isInteger(offset) && offset >= 0 && offset % PAGE_SIZE === 0 && Number.isInteger(wanted);
  if (!isRange || wanted <= 0) throw new ErrnoError('EINVAL', 'mmap', `offset ${offset}, length ${wanted}`);
  if (wanted > TASK_BYTES) throw new ErrnoError('ENOMEM', 'mmap', `length ${wanted}: no address space is as large`);
  const prot = range.prot ?? (file.isWritable ? PROT.read | PROT.write : PROT.read);
  const refused = !file.isReadable || (shared && (prot & PROT.write) !== 0 && !file.isWritable);
  if (refused) throw new ErrnoError('EACCES', 'mmap', `prot ${prot} of a file with flags ${file.flags}`);
  return { offset, length: alignUp(wanted, PAGE_SIZE), prot, shared };
}
