/**
 * Address spaces and units as branded numbers: the compiler refuses a number of the wrong space.
 *
 * A brand costs nothing at run time. Brands are made only by the constructors below; a conversion between
 * two spaces happens only in the module that owns the translation. Every address is a whole number of at most
 * 52 bits; an {@link Iova} of the upper half of a 64-bit space (TTBR1) is sign-extended, hence negative.
 */
import { assert } from './assert.ts';

declare const brand: unique symbol;
/** `T` that can be told apart from other `T`s by its name. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** Bytes, as memory sees itself (`phys_addr_t`). */
export type PhysAddr = Brand<number, 'PhysAddr'>;
/** Bytes, as one device sees memory (`dma_addr_t`). Means nothing to another device. */
export type DmaAddr = Brand<number, 'DmaAddr'>;
/** Bytes, input address of an IOMMU page table. Used in `iommu` only; a device's {@link DmaAddr} behind an IOMMU. */
export type Iova = Brand<number, 'Iova'>;
/** Bytes, as one process sees memory. */
export type VirtAddr = Brand<number, 'VirtAddr'>;
/** Page frame number: physical address divided by {@link PAGE_SIZE}; fits 32 bits unsigned up to 16 TiB. */
export type Pfn = Brand<number, 'Pfn'>;
/** Simulated time in whole nanoseconds (`ktime_t`). */
export type Nanos = Brand<number, 'Nanos'>;

/** Addresses have at most this many bits: so they stay exact in a double (docs/decisions/0002). */
export const ADDRESS_BITS = 52;
const ADDRESS_LIMIT = 2 ** ADDRESS_BITS;

/** Bytes in a page of the modelled machine. */
export const PAGE_SIZE = 4096;
/** log2 of {@link PAGE_SIZE}. */
export const PAGE_SHIFT = 12;

function isAddress(bytes: number): boolean {
  return Number.isInteger(bytes) && bytes >= 0 && bytes < ADDRESS_LIMIT;
}

/** Brands a physical address. @throws {InvariantError} not a whole number in [0, 2^52). */
export function physAddr(bytes: number): PhysAddr {
  assert(isAddress(bytes), 'physAddr: %s is no whole number of bytes in [0, 2^52)', bytes);
  return bytes as PhysAddr;
}

/** Brands a device address. @throws {InvariantError} not a whole number in [0, 2^52). */
export function dmaAddr(bytes: number): DmaAddr {
  assert(isAddress(bytes), 'dmaAddr: %s is no whole number of bytes in [0, 2^52)', bytes);
  return bytes as DmaAddr;
}

/** Brands an IOVA; negative for the sign-extended upper half. @throws {InvariantError} magnitude of 2^52 or more, or a fraction. */
export function iova(bytes: number): Iova {
  assert(
    Number.isInteger(bytes) && bytes >= -ADDRESS_LIMIT && bytes < ADDRESS_LIMIT,
    'iova: %s is no whole number of bytes of at most 52 bits',
    bytes,
  );
  return bytes as Iova;
}

/** Brands a process's address. @throws {InvariantError} not a whole number in [0, 2^52). */
export function virtAddr(bytes: number): VirtAddr {
  assert(isAddress(bytes), 'virtAddr: %s is no whole number of bytes in [0, 2^52)', bytes);
  return bytes as VirtAddr;
}

/** Brands a page frame number. @throws {InvariantError} not a whole number in [0, 2^40). */
export function pfn(index: number): Pfn {
  assert(
    Number.isInteger(index) && index >= 0 && index < ADDRESS_LIMIT / PAGE_SIZE,
    'pfn: %s is no page frame number',
    index,
  );
  return index as Pfn;
}

/** The frame that `addr` lies in. */
export function physToPfn(addr: PhysAddr): Pfn {
  return Math.floor(addr / PAGE_SIZE) as Pfn;
}

/** The first byte of frame `frame`. */
export function pfnToPhys(frame: Pfn): PhysAddr {
  return (frame * PAGE_SIZE) as PhysAddr;
}

/** Brands a point or span of simulated time. @throws {InvariantError} negative, a fraction, or above 2^53. */
export function nanos(ns: number): Nanos {
  assert(Number.isSafeInteger(ns) && ns >= 0, 'nanos: %s is no whole number of nanoseconds >= 0', ns);
  return ns as Nanos;
}

/** `0x`-prefixed lower-case hexadecimal, negative numbers as 64-bit two's complement would print them. */
export function hex(value: number): string {
  if (value >= 0) return `0x${value.toString(16)}`;
  const high = Math.floor(value / 2 ** 32) >>> 0;
  const low = value - Math.floor(value / 2 ** 32) * 2 ** 32;
  return `0x${high.toString(16)}${low.toString(16).padStart(8, '0')}`;
}
