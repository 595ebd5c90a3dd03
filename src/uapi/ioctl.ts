/**
 * Requests of ioctl(2): their numbers, the C structs they pass, and the memory of the process that holds them.
 *
 * A struct is described once, field by field, and laid out by C's rules. The process hands over an object; it becomes bytes in
 * the process's memory, the kernel copies what it wants from there and back, and the object then shows what the bytes say.
 * Whoever wants to pass something else than the layout says passes the bytes themselves.
 *
 * Numbers of 64 bits are exact below 2^53; from 2^63 on they are negative, as addresses are. Between, the low bits are lost.
 *
 * @see Linux 6.1 `include/uapi/asm-generic/ioctl.h`; ioctl(2)
 */
import { assert } from '../base/assert.ts';
import type { Process } from './process.ts';
import type { CallMemory } from './user-memory.ts';

/** Who reads and writes the argument: `none` takes no struct. As the process sees it: `w` passes something in, `r` gets it back. */
export type IoctlDirection = 'none' | 'r' | 'w' | 'rw';

/** The type of one field. `ptr` is an address of 64 bits; `char[n]` a string of at most n bytes with its final zero. */
export type FieldType = 'u8' | 'u16' | 'u32' | 's32' | 'u64' | 's64' | 'ptr' | `char[${number}]`;

/** The fields of a struct, in order. */
export type Fields = Readonly<Record<string, FieldType>>;

/** A struct as the kernel sees it once it is copied in: a pointer is an address. */
export type KernelStruct<F extends Fields> = { [K in keyof F]: F[K] extends `char[${number}]` ? string : number };

/** What a process may put where a struct has a pointer: memory of its own, an address, or no memory. */
export type UserAddress = Uint8Array | number | null;

/** A struct as a process has it. */
export type UserStruct<F extends Fields> = { [K in keyof F]: UserValue<F[K]> };

type UserValue<T extends FieldType> = T extends 'ptr' ? UserAddress : T extends `char[${number}]` ? string : number;

interface Slot {
  readonly name: string;
  readonly type: FieldType;
  readonly offset: number;
  readonly sizeBytes: number;
}

const SIZES: Readonly<Record<string, number>> = { u8: 1, u16: 2, u32: 4, s32: 4, u64: 8, s64: 8, ptr: 8 };
const TWO_32 = 2 ** 32;

/** How a struct lies in memory: natural alignment, little endian. Made by {@link struct}. */
export class StructLayout<F extends Fields> {
  readonly sizeBytes: number;
  readonly #slots: readonly Slot[];

  /** @internal Use {@link struct}. */
  constructor(fields: F) {
    const slots: Slot[] = [];
    let end = 0;
    let widest = 1;
    for (const [name, type] of Object.entries(fields)) {
      const sizeBytes = SIZES[type] ?? Number.parseInt(type.slice('char['.length), 10);
      const align = SIZES[type] ?? 1;
      const offset = Math.ceil(end / align) * align;
      slots.push({ name, type, offset, sizeBytes });
      end = offset + sizeBytes;
      widest = Math.max(widest, align);
    }
    this.#slots = slots;
    this.sizeBytes = Math.ceil(end / widest) * widest;
  }

  /**
   * The bytes of `value`; fields that are missing are 0. Numbers wrap to the width of their field, strings are cut to theirs.
   *
   * @param place - gives memory that a pointer refers to an address. Default: pointers must be numbers or `null`.
   * @throws {InvariantError} a number is not whole.
   */
  encode(value: Partial<UserStruct<F>>, place?: (bytes: Uint8Array) => number): Uint8Array {
    const bytes = new Uint8Array(this.sizeBytes);
    const view = new DataView(bytes.buffer);
    const given: Readonly<Record<string, UserAddress | string | undefined>> = value;
    for (const slot of this.#slots) writeSlot(view, slot, given[slot.name] ?? 0, place);
    return bytes;
  }

  /** What the bytes say. Bytes that are missing are 0, those behind the struct are ignored. */
  decode(bytes: Uint8Array): KernelStruct<F> {
    const whole = new Uint8Array(this.sizeBytes);
    whole.set(bytes.subarray(0, this.sizeBytes));
    const view = new DataView(whole.buffer);
    return Object.fromEntries(this.#slots.map((slot) => [slot.name, readSlot(view, slot)])) as KernelStruct<F>;
  }
}

/** Describes a struct: `struct({ flags: 'u32', fd: 's32' })`. */
export function struct<const F extends Fields>(fields: F): StructLayout<F> {
  return new StructLayout(fields);
}

/** A request with Linux's number and the struct it passes. Made by {@link ioctlRequest}. */
export interface IoctlRequest<F extends Fields> {
  readonly name: string;
  readonly code: number;
  readonly layout: StructLayout<F>;
}

/**
 * A request whose argument points to a struct.
 *
 * @param type - the subsystem's letter. @param nr - the number in it.
 */
export function ioctlRequest<const F extends Fields>(
  name: string,
  dir: IoctlDirection,
  type: string,
  nr: number,
  fields: F,
): IoctlRequest<F> {
  const layout = struct(fields);
  return { name, code: ioctlCode(dir, type, nr, layout.sizeBytes), layout };
}

/** The number of a request. @see Linux 6.1 `include/uapi/asm-generic/ioctl.h` _IO, _IOR, _IOW, _IOWR */
export function ioctlCode(dir: IoctlDirection, type: string, nr: number, sizeBytes: number): number {
  const bits = { none: 0, w: 1, r: 2, rw: 3 }[dir];
  return bits * 2 ** 30 + sizeBytes * 2 ** 16 + type.charCodeAt(0) * 2 ** 8 + nr;
}

/** The parts of a request's number. */
export function ioctlParts(code: number): { dir: number; sizeBytes: number; type: string; nr: number } {
  const type = String.fromCharCode((code >>> 8) & 0xff);
  return { dir: (code >>> 30) & 3, sizeBytes: (code >>> 16) & 0x3fff, type, nr: code & 0xff };
}

/** One ioctl as a file gets it. */
export class IoctlCall {
  /** Who calls: its descriptors are where new files go. */
  readonly process: Process;
  /** The request's number, 32 bits. */
  readonly code: number;
  /** The argument: an address in {@link memory}, or whatever else the request takes by value. */
  readonly argument: number;
  readonly memory: CallMemory;

  /** @internal */
  constructor(process: Process, code: number, argument: number, memory: CallMemory) {
    this.process = process;
    this.code = code;
    this.argument = argument;
    this.memory = memory;
  }

  /** Copies the argument's struct in. @throws {ErrnoError} `EFAULT` the process cannot read that memory (never retry). */
  copyIn<F extends Fields>(layout: StructLayout<F>): KernelStruct<F> {
    return layout.decode(this.memory.copyFrom(this.argument, layout.sizeBytes));
  }

  /**
   * Copies a struct back over the argument.
   *
   * @throws {ErrnoError} `EFAULT` the process cannot write that memory (never retry). Whatever the call has made it must take
   *   back then: the process was never told of it.
   */
  copyOut<F extends Fields>(layout: StructLayout<F>, value: Partial<KernelStruct<F>>): void {
    this.memory.copyTo(this.argument, layout.encode(value as Partial<UserStruct<F>>));
  }
}

function writeSlot(
  view: DataView,
  slot: Slot,
  value: UserAddress | string,
  place?: (bytes: Uint8Array) => number,
): void {
  const { offset, sizeBytes, type } = slot;
  if (typeof value === 'string') {
    const text = new TextEncoder().encode(value).subarray(0, sizeBytes);
    new Uint8Array(view.buffer).set(text, offset);
    return;
  }
  const number = typeof value === 'number' ? value : value === null ? 0 : (place?.(value) ?? Number.NaN);
  assert(Number.isInteger(number), 'field %s of type %s: %s is no whole number', slot.name, type, number);
  if (sizeBytes === 1) view.setUint8(offset, number);
  else if (sizeBytes === 2) view.setUint16(offset, number, true);
  else view.setUint32(offset, modulo(number, TWO_32), true);
  if (sizeBytes === 8) view.setUint32(offset + 4, modulo(Math.floor(number / TWO_32), TWO_32), true);
}

function readSlot(view: DataView, { offset, sizeBytes, type }: Slot): number | string {
  switch (type) {
    case 'u8':
      return view.getUint8(offset);
    case 'u16':
      return view.getUint16(offset, true);
    case 'u32':
      return view.getUint32(offset, true);
    case 's32':
      return view.getInt32(offset, true);
    case 'u64':
    case 's64':
    case 'ptr':
      return view.getInt32(offset + 4, true) * TWO_32 + view.getUint32(offset, true);
    default: {
      const bytes = new Uint8Array(view.buffer, offset, sizeBytes);
      const end = bytes.indexOf(0);
      return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
    }
  }
}

function modulo(value: number, size: number): number {
  return ((value % size) + size) % size;
}
