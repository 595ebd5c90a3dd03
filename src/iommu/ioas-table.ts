/**
 * The state of one IO address space and what holds it together: areas, page tables, ranges, alignment. What users call is `ioas.ts`.
 *
 * @internal
 */
import { hex, PAGE_SIZE } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import type { IoasAccess } from './ioas-access.ts';
import { type IoasArea, IoasAreas } from './ioas-areas.ts';
import type { IoasDomain } from './ioas-domain.ts';
import { fillArea, unfillArea } from './ioas-fill.ts';
import type { Hwpt } from './ioas-hwpt.ts';
import { type IoasPages, MemlockAccount } from './ioas-pages.ts';
import { IOAS_LAST, type IoasRange, IoasRanges } from './ioas-ranges.ts';

/** How to make an {@link Ioas}. */
export interface IoasOptions {
  /** Default `'ioas'`. */
  readonly name?: string;
  /** Whom pinned user memory is charged to; default: an account of its own without limit. */
  readonly account?: MemlockAccount;
  /** Asked before each piece of bookkeeping is allocated; true makes the call fail with `ENOMEM`. Fault injection. */
  readonly failNext?: (what: 'area' | 'pages' | 'table' | 'access') => boolean;
}

/** A stretch of pages that becomes one area. @internal */
export interface IoasPiece {
  readonly pages: IoasPages;
  readonly startByte: number;
  readonly sizeBytes: number;
}

/** The inner half of an {@link Ioas}. @internal */
export class IoasTable {
  readonly name: string;
  readonly account: MemlockAccount;
  /** Page tables that show this space. */
  readonly hwpts = new Set<Hwpt>();
  /** Access objects attached. */
  readonly accesses = new Set<IoasAccess>();
  readonly #failNext: IoasOptions['failNext'];
  protected readonly table = new IoasAreas();
  protected readonly reserved = new IoasRanges();
  protected allowed = new IoasRanges();
  readonly #domains: IoasDomain[] = [];
  #hugePages = true;
  #alignment = 1;

  constructor(options: IoasOptions = {}) {
    this.name = options.name ?? 'ioas';
    this.account = options.account ?? new MemlockAccount();
    this.#failNext = options.failNext;
  }

  /** Every address, length and offset must be a multiple of this many bytes. */
  get alignmentBytes(): number {
    return this.#alignment;
  }

  /** True: runs of memory are mapped with the largest pages that fit. @see Linux 6.2 IOMMU_OPTION_HUGE_PAGES */
  get hugePages(): boolean {
    return this.#hugePages;
  }

  /**
   * Replaces the ranges that automatic placement may use; none: everywhere.
   *
   * @throws {ErrnoError} `EINVAL` a range has less than two addresses, or two overlap (never retry); `EADDRINUSE` one is reserved. The ranges
   * before stay then.
   * @see Linux 6.2 `drivers/iommu/iommufd/io_pagetable.c` iopt_set_allow_iova
   */
  allow(ranges: readonly IoasRange[]): void {
    const op = 'ioas_allow_iovas';
    const ascending = [...ranges].sort((a, b) => a.start - b.start);
    const allowed = new IoasRanges();
    let end = -1;
    for (const { start, last } of ascending) {
      // The kernel refuses a range of a single address, too.
      if (start >= last || start <= end)
        throw new ErrnoError(
          'EINVAL',
          op,
          `from ${start} to ${last} there are less than two addresses, or another range`,
        );
      allowed.append(start, last);
      end = last;
    }
    const taken = ascending.find(({ start, last }) => this.reserved.overlaps(start, last));
    if (taken !== undefined)
      throw new ErrnoError('EADDRINUSE', op, `${hex(taken.start)} to ${hex(taken.last)} is partly reserved`);
    this.allowed = allowed;
  }

  /**
   * Keeps `start` to `last` free of mappings, until {@link unreserve}.
   *
   * @param owner - who gives it back.
   * @throws {ErrnoError} `EADDRINUSE` something is mapped or allowed there; nothing is reserved then.
   * @see Linux 6.2 `drivers/iommu/iommufd/io_pagetable.c` iopt_reserve_iova
   */
  reserve(start: number, last: number, owner: object): void {
    if (this.table.lastOverlap(start, last) >= 0 || this.allowed.overlaps(start, last)) {
      const what = `${hex(start)} to ${hex(last)} of ${this.name} is mapped or allowed in part`;
      throw new ErrnoError('EADDRINUSE', 'ioas_reserve', what);
    }
    this.reserved.add(start, last, owner);
  }

  /** Gives back all that `owner` reserved. */
  unreserve(owner: object): void {
    this.reserved.removeOf(owner);
  }

  /** Where something may be mapped at all, ascending: what no reserved range covers. */
  usableRanges(): IoasRange[] {
    return this.reserved.holes();
  }

  /**
   * Switches huge pages; 0 also makes every address a multiple of a CPU page.
   *
   * @throws {ErrnoError} `EINVAL` neither 0 nor 1 (never retry), or switching off while a page table shows areas (unmap first); `EADDRINUSE` an area is
   * not aligned to pages (unmap first).
   * @see Linux 6.2 `drivers/iommu/iommufd/io_pagetable.c` iopt_disable_large_pages
   */
  setHugePages(value: number): void {
    const op = 'ioas_option';
    if (value !== 0 && value !== 1) throw new ErrnoError('EINVAL', op, `huge pages: ${value} is neither 0 nor 1`);
    if (value === 0 && this.#hugePages && this.#domains.length > 0 && this.table.count > 0)
      throw new ErrnoError('EINVAL', op, `${this.name} has areas in a page table; unmap them first`);
    const before = this.#hugePages;
    this.#hugePages = value === 1;
    try {
      this.#align(op);
    } catch (error) {
      this.#hugePages = before;
      throw error;
    }
  }

  /** Shows all areas in `domain` from now on, or throws and changes nothing: `EADDRINUSE` an area or allowed range is not for it. @internal */
  addDomain(domain: IoasDomain): void {
    const { start, last } = domain.aperture;
    const filled: IoasArea[] = [];
    this.#domains.push(domain);
    try {
      this.#align('ioas_attach');
      if (start > 0) this.reserve(0, start - 1, domain);
      if (last < IOAS_LAST) this.reserve(last + 1, IOAS_LAST, domain);
      for (const area of this.table.all()) {
        fillArea(area, domain, this.#hugePages);
        filled.push(area);
      }
    } catch (error) {
      for (const area of filled) unfillArea(area, domain);
      this.#forget(domain);
      throw error;
    }
  }

  /** Ends {@link addDomain}. @internal */
  removeDomain(domain: IoasDomain): void {
    for (const area of this.table.all()) unfillArea(area, domain);
    this.#forget(domain);
  }

  /** Takes `area` out of all page tables, because its buffer is revoked. @internal */
  unfillAll(area: IoasArea): void {
    for (const domain of this.#domains) unfillArea(area, domain);
  }

  /** Adds an access object, or throws `EADDRINUSE`: an area is not aligned as it wants. @internal */
  addAccess(access: IoasAccess): void {
    this.admit('access');
    this.accesses.add(access);
    try {
      this.#align('ioas_access_attach');
    } catch (error) {
      this.accesses.delete(access);
      throw error;
    }
  }

  /** Ends {@link addAccess}. @internal */
  removeAccess(access: IoasAccess): void {
    this.accesses.delete(access);
    this.#align('ioas_access_detach');
  }

  /** The areas that cover `start` to `last`. @throws {ErrnoError} `ENOENT` there is a hole. @internal */
  covering(op: string, start: number, last: number): IoasArea[] {
    const areas = this.table.covering(start, last);
    if (areas === null)
      throw new ErrnoError('ENOENT', op, `${this.name} does not map all of ${hex(start)} to ${hex(last)}`);
    return areas;
  }

  /** Fault injection before an allocation of bookkeeping. @throws {ErrnoError} `ENOMEM`. @internal */
  admit(what: 'area' | 'pages' | 'table' | 'access'): void {
    if (this.#failNext?.(what)) throw new ErrnoError('ENOMEM', 'ioas', `${this.name}: ${what}: failure injected`);
  }

  /** Makes an area and shows it in all page tables, or throws and changes nothing. */
  protected addArea(piece: IoasPiece, iova: number, prot: number): IoasArea {
    const { pages, startByte, sizeBytes } = piece;
    this.admit('area');
    const last = iova + sizeBytes - 1;
    const area: IoasArea = {
      ...{ ioas: this, iova, sizeBytes, last, pages, startByte, prot },
      ...{ accesses: 0, isGoing: false },
    };
    const filled: IoasDomain[] = [];
    try {
      for (const domain of this.#domains) {
        fillArea(area, domain, this.#hugePages);
        filled.push(domain);
      }
    } catch (error) {
      for (const domain of filled) unfillArea(area, domain);
      throw error;
    }
    this.table.insert(area);
    pages.get(area);
    return area;
  }

  /** Ends {@link addArea}. */
  protected removeArea(area: IoasArea): void {
    for (const domain of this.#domains) unfillArea(area, domain);
    this.table.remove(area);
    area.pages.put(area);
  }

  #forget(domain: IoasDomain): void {
    this.#domains.splice(this.#domains.indexOf(domain), 1);
    this.reserved.removeOf(domain);
    this.#align('ioas_detach');
  }

  /** Works the alignment out anew. @throws {ErrnoError} `EADDRINUSE` it grows and an area does not have it; it stays as it was then. */
  #align(op: string): void {
    let wanted = this.#hugePages ? 1 : PAGE_SIZE;
    for (const domain of this.#domains) wanted = Math.max(wanted, lowestBit(domain.pgsizeBitmap));
    for (const access of this.accesses) if (access.needsPages) wanted = Math.max(wanted, PAGE_SIZE);
    const misfit = (area: IoasArea) =>
      [area.iova, area.sizeBytes, area.startByte].some((bytes) => bytes % wanted !== 0);
    const area = wanted > this.#alignment ? this.table.all().find(misfit) : undefined;
    if (area !== undefined)
      throw new ErrnoError(
        'EADDRINUSE',
        op,
        `the area at ${hex(area.iova)} is not aligned to ${wanted} bytes; unmap it first`,
      );
    this.#alignment = wanted;
  }

  /** @throws {ErrnoError} `EINVAL` `bytes` is no multiple of the alignment. */
  protected checkAligned(op: string, what: string, bytes: number): void {
    if (bytes % this.#alignment !== 0)
      throw new ErrnoError('EINVAL', op, `${what} ${hex(bytes)} is no multiple of ${this.#alignment} bytes`);
  }
}

/** The lowest page size in a bitmap of 52 bits. */
function lowestBit(bitmap: number): number {
  let size = 1;
  while (bitmap % (2 * size) === 0) size *= 2;
  return size;
}
