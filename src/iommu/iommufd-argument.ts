/** The argument structure of an iommufd command: read from user memory, and written back. */
import { ErrnoError } from '../base/errors.ts';
import type { UserSpace } from './ioas-backing.ts';

/** What is known of a command's structure. @internal */
export interface ArgumentShape {
  readonly name: string;
  readonly size: number;
  readonly minSize: number;
}

/** One structure. Offsets in bytes; numbers are little-endian. @internal */
export class CommandArgument {
  readonly name: string;
  readonly #user: UserSpace;
  readonly #address: number;
  readonly #userSize: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  private constructor(user: UserSpace, address: number, userSize: number, shape: ArgumentShape) {
    this.name = shape.name;
    this.#user = user;
    this.#address = address;
    this.#userSize = userSize;
    this.#bytes = new Uint8Array(shape.size);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /**
   * Reads the structure at `address`; fields that the user's version does not have are 0.
   *
   * @throws {ErrnoError} `EFAULT` it is not there; `EINVAL` it is too short; `E2BIG` it has something behind what is known (never retry).
   * @see Linux 6.2 `include/linux/uaccess.h` copy_struct_from_user
   */
  static read(user: UserSpace, address: number, shape: ArgumentShape): CommandArgument {
    const head = user.read(address, 4);
    const userSize = new DataView(head.buffer, head.byteOffset).getUint32(0, true);
    if (userSize < shape.minSize) {
      const why = `the structure has ${userSize} bytes, and must have ${shape.minSize}`;
      throw new ErrnoError('EINVAL', shape.name, why);
    }
    const arg = new CommandArgument(user, address, userSize, shape);
    if (userSize > shape.size) checkTail(user, address + shape.size, userSize - shape.size, shape.name);
    arg.#bytes.set(user.read(address, Math.min(userSize, shape.size)));
    return arg;
  }

  /** Copies the fields back, as far as the user's version has them. @throws {ErrnoError} `EFAULT` they cannot be written. */
  writeBack(): void {
    this.#user.write(this.#address, this.#bytes.subarray(0, Math.min(this.#userSize, this.#bytes.length)));
  }

  u16(at: number): number {
    return this.#view.getUint16(at, true);
  }

  u32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  /** Exact up to 2^53; above, it is only known to be larger. */
  u64(at: number): number {
    return this.u32(at + 4) * 2 ** 32 + this.u32(at);
  }

  setU32(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }

  setU64(at: number, value: number): void {
    this.setU32(at, value % 2 ** 32);
    this.setU32(at + 4, Math.floor(value / 2 ** 32));
  }
}

/** In pieces, so that a wrong size costs no host memory. */
function checkTail(user: UserSpace, address: number, length: number, name: string): void {
  const PIECE = 4096;
  for (let done = 0; done < length; done += PIECE) {
    const bytes = user.read(address + done, Math.min(PIECE, length - done));
    if (bytes.some((byte) => byte !== 0))
      throw new ErrnoError('E2BIG', name, 'the structure has fields that are not known here; clear them');
  }
}
