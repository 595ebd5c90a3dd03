/** What fcntl(2) does with a descriptor and its file. @see Linux 6.1 `fs/fcntl.c` do_fcntl */
import { ErrnoError } from '../base/errors.ts';
import type { FdTable } from './fd-table.ts';
import { O } from './file.ts';

/** Commands. @see Linux 6.1 `include/uapi/asm-generic/fcntl.h`, `include/uapi/linux/fcntl.h` */
export const F = {
  dupfd: 0,
  getfd: 1,
  setfd: 2,
  getfl: 3,
  setfl: 4,
  dupfdCloexec: 1030,
  addSeals: 1033,
  getSeals: 1034,
} as const;

/** The only flag of a descriptor. */
const FD_CLOEXEC = 1;
/** What F_SETFL can change here. */
const SETTABLE = O.nonblock;

/** @internal @throws {ErrnoError} `EBADF` not open; `EINVAL` another command, or seals of what has none; else as the table's calls. */
export function fcntl(fds: FdTable, fd: number, command: number, argument: number): number {
  const file = fds.file(fd, 'fcntl');
  switch (command) {
    case F.dupfd:
      return fds.dup(fd, { from: argument });
    case F.dupfdCloexec:
      return fds.dup(fd, { from: argument, cloexec: true });
    case F.getfd:
      return fds.isCloexec(fd) ? FD_CLOEXEC : 0;
    case F.setfd:
      fds.setCloexec(fd, (argument & FD_CLOEXEC) !== 0);
      return 0;
    case F.getfl:
      return file.flags;
    case F.setfl:
      file.flags = (file.flags & ~SETTABLE) | (argument & SETTABLE);
      return 0;
    case F.addSeals:
      file.addSeals(argument);
      return 0;
    case F.getSeals:
      return file.getSeals();
    default:
      throw new ErrnoError('EINVAL', 'fcntl', `command ${command} is unknown`);
  }
}
