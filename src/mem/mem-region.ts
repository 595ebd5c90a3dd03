/**
 * A region: a stretch of physical address space with one kind of thing behind it.
 *
 * | kind | behind it | struct page |
 * |---|---|---|
 * | `ram` | memory the kernel manages by page frames | yes |
 * | `carve-out` | memory kept away from the kernel's allocator, for one device or firmware | only if said |
 * | `bar` | a device's own memory, reached over its bus | no |
 * | `window` | nothing: every access goes on to a page elsewhere (TILER-like remappers) | no |
 */
import { hex, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { formatBytes } from '../base/units.ts';
import { SparseBytes } from './sparse-bytes.ts';

/** What lies behind a region's addresses; see the table at the head of this file. */
export type RegionKind = 'ram' | 'carve-out' | 'bar' | 'window';

/**
 * Where a page of a remap window really lies: `offset` is the page's offset from the window's base in bytes, a multiple
 * of {@link PAGE_SIZE}; the answer is the page-aligned address of memory outside any window, or `undefined` where
 * nothing is mapped. Must be pure: one access may ask several times.
 */
export type WindowResolver = (offset: number) => PhysAddr | undefined;

/** Where a region lies. */
export interface RegionPlace {
  /** Names the region in errors and reports; unique within one memory. */
  readonly name: string;
  /** First byte; a multiple of {@link PAGE_SIZE}. */
  readonly base: PhysAddr;
  /** Size in bytes; a positive multiple of {@link PAGE_SIZE}. */
  readonly bytes: number;
}

/** What `PhysMemory.addRegion` takes. Only a window has `resolve`, and must have it. */
export type RegionSpec =
  | (RegionPlace & { readonly kind: 'ram' | 'bar' })
  | (RegionPlace & {
      readonly kind: 'carve-out';
      /** Whether it has pages in the linear map all the same (reserved memory without `no-map`). Default false. */
      readonly hasPages?: boolean;
    })
  | (RegionPlace & { readonly kind: 'window'; readonly resolve: WindowResolver });

/** One region of a `PhysMemory`. Made by `PhysMemory.addRegion` only. */
export class MemRegion {
  readonly name: string;
  readonly kind: RegionKind;
  readonly base: PhysAddr;
  readonly bytes: number;
  /** First byte after the region. */
  readonly end: number;
  /** Whether the kernel has a struct page for each frame in it. */
  readonly hasPages: boolean;
  /** @internal absent for a window, and where memory holds no bytes */
  readonly storage: SparseBytes | undefined;
  /** @internal windows only */
  readonly resolve: WindowResolver | undefined;

  /** @internal @throws {InvariantError} base or size no multiple of a page, size 0, or end beyond 2^52. */
  constructor(spec: RegionSpec, storesBytes: boolean) {
    const { name, base, bytes } = spec;
    assert(name !== '', 'region: name is empty');
    assert(base % PAGE_SIZE === 0, 'region %s: base %s is not page aligned', name, hex(base));
    assert(
      Number.isInteger(bytes) && bytes > 0 && bytes % PAGE_SIZE === 0,
      'region %s: bytes %s is no positive multiple of a page',
      name,
      bytes,
    );
    assert(base + bytes <= 2 ** 52, 'region %s: ends beyond 2^52', name);
    this.name = name;
    this.kind = spec.kind;
    this.base = base;
    this.bytes = bytes;
    this.end = base + bytes;
    this.hasPages = spec.kind === 'ram' || (spec.kind === 'carve-out' && spec.hasPages === true);
    this.storage = storesBytes && spec.kind !== 'window' ? new SparseBytes(base, bytes) : undefined;
    this.resolve = spec.kind === 'window' ? spec.resolve : undefined;
  }

  /** `'dram [ram, 0x80000000 + 2 GiB]'` */
  toString(): string {
    return `${this.name} [${this.kind}, ${hex(this.base)} + ${formatBytes(this.bytes)}]`;
  }
}
