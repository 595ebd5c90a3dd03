/** The third argument of one ioctl: from what the program has to what the kernel gets, and back. */
import type { Fields, IoctlRequest, UserAddress, UserStruct } from './ioctl.ts';
import { CallMemory } from './user-memory.ts';

/** What a program can pass besides a struct: bytes, a number by value, a string, no memory. */
export type IoctlArgument = Uint8Array | number | string | null;

/** How the argument lies in the program's memory. */
export interface IoctlOptions {
  /** The argument's struct can only be read: the copy back to it fails with `EFAULT`. Default false. */
  readonly readOnly?: boolean;
}

/** @internal See the header. */
export class UserArgument<F extends Fields> {
  readonly code: number;
  /** What the kernel gets. */
  readonly address: number;
  readonly memory = new CallMemory();
  readonly #request: IoctlRequest<F> | null;
  /** The bytes of a struct. */
  readonly #bytes: Uint8Array | null;
  readonly #given: Partial<UserStruct<F>> | null;
  /** Memory that pointers of the struct refer to, by its address. */
  readonly #placed = new Map<number, Uint8Array>();

  constructor(
    request: IoctlRequest<F> | number,
    argument: Partial<UserStruct<F>> | IoctlArgument,
    options: IoctlOptions,
  ) {
    this.#request = typeof request === 'number' ? null : request;
    this.code = typeof request === 'number' ? request : request.code;
    const isWritable = options.readOnly !== true;
    this.#given = null;
    this.#bytes = null;
    if (argument === null) this.address = 0;
    else if (typeof argument === 'number') this.address = argument;
    else if (typeof argument === 'string') this.address = this.memory.place(new TextEncoder().encode(`${argument}\0`));
    else if (argument instanceof Uint8Array || this.#request === null) {
      this.#bytes = argument instanceof Uint8Array ? argument : new Uint8Array();
      this.address = this.memory.place(this.#bytes, isWritable);
    } else {
      this.#given = argument;
      this.#bytes = this.#request.layout.encode(argument, (bytes) => this.#place(bytes));
      this.address = this.memory.place(this.#bytes, isWritable);
    }
  }

  /** Shows in the program's object what its bytes say now. */
  copyBack(): void {
    const struct = this.#given === null ? null : this.struct();
    if (this.#given !== null && struct !== null) Object.assign(this.#given, struct);
  }

  /** The struct of a typed request as the program sees it; `null` for a number. */
  struct(): UserStruct<F> | null {
    if (this.#request === null) return null;
    const decoded = this.#request.layout.decode(this.#bytes ?? new Uint8Array());
    const seen = Object.entries(decoded).map(([name, value]): [string, UserAddress | string] => {
      const memory = typeof value === 'number' ? this.#placed.get(value) : undefined;
      return [name, memory ?? value];
    });
    return Object.fromEntries(seen) as UserStruct<F>;
  }

  #place(bytes: Uint8Array): number {
    const address = this.memory.place(bytes);
    this.#placed.set(address, bytes);
    return address;
  }
}
