/**
 * The commands of {@link Iommufd}, in the layout of the real interface: little-endian structures that begin with their own size.
 *
 * A structure may be longer than this version knows, if the rest is zero; and shorter, down to what the first version had. What a command
 * answers is written back into the structure; memory that cannot take it fails the command before anything is done.
 *
 * @see Linux 6.2 `include/uapi/linux/iommufd.h`; `drivers/iommu/iommufd/main.c` iommufd_ioctl_ops
 */
import { type Iova, iova as iovaOf, PAGE_SIZE } from '../base/addr.ts';
import type { ErrnoCode } from '../base/errno.ts';
import { ErrnoError } from '../base/errors.ts';
import type { IoasMapOptions } from './ioas.ts';
import { IOAS_LAST, type IoasRange } from './ioas-ranges.ts';
import type { Iommufd } from './iommufd.ts';
import { CommandArgument } from './iommufd-argument.ts';

/** Command numbers. @see Linux 6.2 `include/uapi/linux/iommufd.h` IOMMU_DESTROY and its neighbours */
export const IOMMUFD = {
  destroy: 0x3b80,
  ioasAlloc: 0x3b81,
  ioasAllowIovas: 0x3b82,
  ioasCopy: 0x3b83,
  ioasIovaRanges: 0x3b84,
  ioasMap: 0x3b85,
  ioasUnmap: 0x3b86,
  option: 0x3b87,
  hwptAlloc: 0x3b89,
  getHwInfo: 0x3b8a,
  hwptSetDirtyTracking: 0x3b8b,
  hwptGetDirtyBitmap: 0x3b8c,
  ioasMapFile: 0x3b8f,
} as const;

/** Flags of map and copy. @see Linux 6.2 enum iommufd_ioas_map_flags */
export const IOAS_MAP = { fixedIova: 1, writeable: 2, readable: 4 } as const;

/** Options of {@link IOMMUFD}.option, and its two operations. @see Linux 6.2 enum iommufd_option */
export const IOMMUFD_OPTION = { rlimitMode: 0, hugePages: 1, set: 0, get: 1 } as const;

/** Flags of {@link IOMMUFD}.hwptAlloc. @see Linux 6.7 enum iommufd_hwpt_alloc_flags */
export const HWPT_ALLOC = { nestParent: 1, dirtyTracking: 2 } as const;

/** Bit of out_capabilities. @see Linux 6.7 enum iommufd_hw_capabilities */
export const HW_CAP_DIRTY_TRACKING = 1;

interface Command {
  readonly name: string;
  /** Bytes of the structure that are known, and bytes that it must have. */
  readonly size: number;
  readonly minSize: number;
  readonly answers: boolean;
  run(fd: Iommufd, arg: CommandArgument): void;
}

const U64_ALL_ONES = 2 ** 64;
const RANGE_BYTES = 16;
const SET_TRACKING_ENABLE = 1;
const GET_BITMAP_NO_CLEAR = 1;

const COMMANDS: ReadonlyMap<number, Command> = new Map([
  [IOMMUFD.destroy, command('destroy', 8, 8, false, (fd, arg) => fd.destroy(arg.u32(4)))],
  [IOMMUFD.ioasAlloc, command('ioas_alloc', 12, 12, true, ioasAlloc)],
  [IOMMUFD.ioasAllowIovas, command('ioas_allow_iovas', 24, 24, false, ioasAllowIovas)],
  [IOMMUFD.ioasCopy, command('ioas_copy', 40, 40, true, ioasCopy)],
  [IOMMUFD.ioasIovaRanges, command('ioas_iova_ranges', 32, 32, true, ioasIovaRanges)],
  [IOMMUFD.ioasMap, command('ioas_map', 40, 40, true, ioasMap)],
  [IOMMUFD.ioasUnmap, command('ioas_unmap', 24, 24, true, ioasUnmap)],
  [IOMMUFD.option, command('option', 24, 24, true, option)],
  [IOMMUFD.hwptAlloc, command('hwpt_alloc', 48, 24, true, hwptAlloc)],
  [IOMMUFD.getHwInfo, command('get_hw_info', 40, 32, true, getHwInfo)],
  [IOMMUFD.hwptSetDirtyTracking, command('hwpt_set_dirty_tracking', 16, 16, false, hwptSetDirtyTracking)],
  [IOMMUFD.hwptGetDirtyBitmap, command('hwpt_get_dirty_bitmap', 48, 48, false, hwptGetDirtyBitmap)],
  [IOMMUFD.ioasMapFile, command('ioas_map_file', 40, 40, true, ioasMapFile)],
]);

/** Runs one command. @throws {ErrnoError} as `Iommufd.ioctl`. @internal */
export function runCommand(fd: Iommufd, cmd: number, address: number): void {
  const known = COMMANDS.get(cmd);
  if (known === undefined) throw new ErrnoError('ENOTTY', 'iommufd', `there is no command 0x${cmd.toString(16)}`);
  const arg = CommandArgument.read(fd.user, address, known);
  if (known.answers) arg.writeBack();
  known.run(fd, arg);
  if (known.answers) arg.writeBack();
}

function command(name: string, size: number, minSize: number, answers: boolean, run: Command['run']): Command {
  return { name, size, minSize, answers, run };
}

function ioasAlloc(fd: Iommufd, arg: CommandArgument): void {
  checkZero(arg, 'flags', arg.u32(4));
  arg.setU32(8, fd.allocIoas());
}

function ioasAllowIovas(fd: Iommufd, arg: CommandArgument): void {
  checkZero(arg, 'reserved field', arg.u32(12));
  const ioas = fd.ioas(arg.u32(4));
  const count = arg.u32(8);
  const bytes = fd.user.read(arg.u64(16), count * RANGE_BYTES);
  const list = new DataView(bytes.buffer, bytes.byteOffset);
  const ranges: IoasRange[] = Array.from({ length: count }, (_, i) => ({
    start: u64At(list, i * RANGE_BYTES),
    last: Math.min(IOAS_LAST, u64At(list, i * RANGE_BYTES + 8)),
  }));
  ioas.allow(ranges);
}

function ioasIovaRanges(fd: Iommufd, arg: CommandArgument): void {
  checkZero(arg, 'reserved field', arg.u32(12));
  const ioas = fd.ioas(arg.u32(4));
  const room = arg.u32(8);
  const ranges = ioas.usableRanges();
  const listed = ranges.slice(0, room);
  const list = new DataView(new ArrayBuffer(listed.length * RANGE_BYTES));
  listed.forEach(({ start, last }, i) => {
    setU64At(list, i * RANGE_BYTES, start);
    setU64At(list, i * RANGE_BYTES + 8, last === IOAS_LAST ? U64_ALL_ONES : last);
  });
  fd.user.write(arg.u64(16), new Uint8Array(list.buffer));
  arg.setU32(8, ranges.length);
  arg.setU64(24, ioas.alignmentBytes);
  if (ranges.length <= room) return;
  arg.writeBack();
  throw new ErrnoError('EMSGSIZE', arg.name, `there are ${ranges.length} ranges, and room for ${room}`);
}

function ioasMap(fd: Iommufd, arg: CommandArgument): void {
  checkZero(arg, 'reserved field', arg.u32(12));
  const ioas = fd.ioas(arg.u32(8));
  arg.setU64(32, ioas.mapUser(fd.user, arg.u64(16), arg.u64(24), mapOptions(arg, arg.u64(32))));
}

function ioasMapFile(fd: Iommufd, arg: CommandArgument): void {
  const ioas = fd.ioas(arg.u32(8));
  const options = mapOptions(arg, arg.u64(32));
  arg.setU64(32, ioas.mapRevocable(fd.file(arg.u32(12) | 0), arg.u64(16), arg.u64(24), options));
}

function ioasCopy(fd: Iommufd, arg: CommandArgument): void {
  const to = fd.ioas(arg.u32(8));
  const from = fd.ioas(arg.u32(12));
  const source = arg.u64(32);
  checkAddress(arg, source);
  arg.setU64(24, to.copy(from, iovaOf(source), arg.u64(16), mapOptions(arg, arg.u64(24))));
}

function ioasUnmap(fd: Iommufd, arg: CommandArgument): void {
  const ioas = fd.ioas(arg.u32(4));
  const iova = arg.u64(8);
  const length = arg.u64(16);
  if (iova === 0 && length === U64_ALL_ONES) return arg.setU64(16, ioas.unmapAll());
  checkAddress(arg, iova);
  arg.setU64(16, ioas.unmap(iovaOf(iova), length));
}

function option(fd: Iommufd, arg: CommandArgument): void {
  const [id, op, objectId] = [arg.u32(4), arg.u16(8), arg.u32(12)];
  checkZero(arg, 'reserved field', arg.u16(10));
  if (id !== IOMMUFD_OPTION.rlimitMode && id !== IOMMUFD_OPTION.hugePages) refuse(arg, 'EOPNOTSUPP', `no option ${id}`);
  const ioas = id === IOMMUFD_OPTION.hugePages ? fd.ioas(objectId) : null;
  if (ioas === null) checkZero(arg, 'object of a global option', objectId);
  if (op === IOMMUFD_OPTION.get) arg.setU64(16, Number(ioas === null ? fd.rlimitMode : ioas.hugePages));
  else if (op !== IOMMUFD_OPTION.set) refuse(arg, 'EOPNOTSUPP', `no operation ${op}`);
  else if (ioas === null) fd.setRlimitMode(arg.u64(16));
  else ioas.setHugePages(arg.u64(16));
}

function hwptAlloc(fd: Iommufd, arg: CommandArgument): void {
  const flags = checkFlags(arg, arg.u32(4), HWPT_ALLOC.nestParent | HWPT_ALLOC.dirtyTracking);
  checkZero(arg, 'reserved field', arg.u32(20));
  checkZero(arg, 'data of a nested table', arg.u32(24) + arg.u32(28));
  const options = {
    nestParent: (flags & HWPT_ALLOC.nestParent) !== 0,
    dirtyTracking: (flags & HWPT_ALLOC.dirtyTracking) !== 0,
  };
  arg.setU32(16, fd.allocHwpt(arg.u32(8), arg.u32(12), options));
}

function getHwInfo(fd: Iommufd, arg: CommandArgument): void {
  checkZero(arg, 'flags', arg.u32(4));
  const device = fd.device(arg.u32(8));
  // No unit here has data of its own: the user's buffer is zeroed.
  const zeros = new Uint8Array(PAGE_SIZE);
  for (let done = 0, length = arg.u32(12); done < length; done += PAGE_SIZE)
    fd.user.write(arg.u64(16) + done, zeros.subarray(0, Math.min(PAGE_SIZE, length - done)));
  arg.setU32(12, 0);
  arg.setU32(24, 0);
  arg.setU64(32, device.canTrackDirty ? HW_CAP_DIRTY_TRACKING : 0);
}

function hwptSetDirtyTracking(fd: Iommufd, arg: CommandArgument): void {
  const flags = checkFlags(arg, arg.u32(4), SET_TRACKING_ENABLE);
  checkZero(arg, 'reserved field', arg.u32(12));
  fd.hwpt(arg.u32(8)).setDirtyTracking(flags === SET_TRACKING_ENABLE);
}

function hwptGetDirtyBitmap(fd: Iommufd, arg: CommandArgument): void {
  const hwpt = fd.hwpt(arg.u32(4));
  const flags = checkFlags(arg, arg.u32(8), GET_BITMAP_NO_CLEAR);
  checkZero(arg, 'reserved field', arg.u32(12));
  const [iova, sizeBytes, pageBytes, data] = [arg.u64(16), arg.u64(24), arg.u64(32), arg.u64(40)];
  checkAddress(arg, iova);
  checkAddress(arg, sizeBytes);
  if (pageBytes === 0) refuse(arg, 'EINVAL', 'the page size is 0');
  const bitmap = fd.user.read(data, Math.ceil(sizeBytes / pageBytes / 8));
  fd.user.write(data, bitmap); // Fails before any mark is cleared.
  hwpt.readAndClearDirty({ iova, sizeBytes, pageBytes, bitmap, firstBit: 0, noClear: flags === GET_BITMAP_NO_CLEAR });
  fd.user.write(data, bitmap);
}

function mapOptions(arg: CommandArgument, iova: number): IoasMapOptions {
  const flags = checkFlags(arg, arg.u32(4), IOAS_MAP.fixedIova | IOAS_MAP.writeable | IOAS_MAP.readable);
  const rights = { read: (flags & IOAS_MAP.readable) !== 0, write: (flags & IOAS_MAP.writeable) !== 0 };
  if ((flags & IOAS_MAP.fixedIova) === 0) return rights;
  checkAddress(arg, iova);
  return { ...rights, iova: iova as Iova };
}

function checkFlags(arg: CommandArgument, flags: number, known: number): number {
  if ((flags & ~known) !== 0) refuse(arg, 'EOPNOTSUPP', `unknown flags 0x${(flags & ~known).toString(16)}`);
  return flags;
}

function checkZero(arg: CommandArgument, what: string, value: number): void {
  if (value !== 0) refuse(arg, 'EOPNOTSUPP', `${what} must be 0, not ${value}`);
}

function checkAddress(arg: CommandArgument, value: number): void {
  if (value > IOAS_LAST) refuse(arg, 'EOVERFLOW', `${value} is above the last address`);
}

function refuse(arg: CommandArgument, code: ErrnoCode, why: string): never {
  throw new ErrnoError(code, arg.name, why);
}

function u64At(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}

function setU64At(view: DataView, at: number, value: number): void {
  const isAllOnes = value === U64_ALL_ONES;
  view.setUint32(at, isAllOnes ? 0xffff_ffff : value % 2 ** 32, true);
  view.setUint32(at + 4, isAllOnes ? 0xffff_ffff : Math.floor(value / 2 ** 32), true);
}
