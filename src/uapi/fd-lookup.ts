/** Descriptors that a call looks up with an errno of its own for those that are not open. */
import { ErrnoError } from '../base/errors.ts';
import type { FdTable } from './fd-table.ts';
import type { OpenFile } from './file.ts';

/** @internal The file behind `fd` without a reference; `null`: it is not open. */
export function openFileOrNull(fds: FdTable, fd: number): OpenFile | null {
  try {
    return fds.file(fd);
  } catch (error) {
    if (error instanceof ErrnoError && error.code === 'EBADF') return null;
    throw error;
  }
}
