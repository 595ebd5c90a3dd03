/**
 * A unit for tests of IO address spaces: its pages are half a CPU page, and its aperture is the 2 GiB less 16 MiB that begin at 16 MiB,
 * so that every rule about alignment and range shows. Each page is one entry of a `Map`: slow and obvious.
 *
 * @see Linux 6.2 `drivers/iommu/iommufd/selftest.c`, the mock domain of `tools/testing/selftests/iommu`
 */
import { hex, type Iova, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { DirtyRequest, IoasClient, IoasDomain, IoasDomainRequest } from '../iommu/ioas-domain.ts';
import type { IoasRange } from '../iommu/ioas-ranges.ts';

/** Bytes of the smallest page of a {@link MockIommuDomain}. */
export const MOCK_PAGE_SIZE = PAGE_SIZE / 2;
/** First address of its aperture. */
export const MOCK_APERTURE_START = 2 ** 24;
/** Last address of its aperture. */
export const MOCK_APERTURE_LAST = 2 ** 31 - 1;
/** Bytes of its large page. */
const MOCK_HUGE_PAGE_SIZE = 512 * MOCK_PAGE_SIZE;

/** How to make a {@link MockIoasClient}. */
export interface MockIoasClientOptions {
  readonly name?: string;
  /** Default true. */
  readonly canTrackDirty?: boolean;
  readonly reservedRanges?: readonly IoasRange[];
  /** The unit; devices of one share tables. Default: the same for all clients. */
  readonly unit?: string;
  /** Tables also have pages of 512 times {@link MOCK_PAGE_SIZE}. */
  readonly hugePages?: boolean;
  /** Asked before each map of a table; true makes it fail with `ENOMEM`. */
  readonly failNext?: (what: 'map' | 'domain') => boolean;
}

interface Entry {
  readonly phys: number;
  readonly prot: number;
  /** Bytes of the page that the entry is part of. */
  readonly pageBytes: number;
  isDirty: boolean;
}

/** A device whose unit is the mock one. */
export class MockIoasClient implements IoasClient {
  readonly name: string;
  readonly canTrackDirty: boolean;
  readonly reservedRanges: readonly IoasRange[];
  readonly unit: string;
  /** Tables that are alive. */
  readonly domains = new Set<MockIommuDomain>();
  readonly options: MockIoasClientOptions;

  constructor(options: MockIoasClientOptions = {}) {
    this.options = options;
    this.name = options.name ?? 'mock0';
    this.canTrackDirty = options.canTrackDirty ?? true;
    this.reservedRanges = options.reservedRanges ?? [];
    this.unit = options.unit ?? 'mock';
  }

  allocDomain(request: IoasDomainRequest): MockIommuDomain {
    if (this.options.failNext?.('domain')) throw new ErrnoError('ENOMEM', 'mock_domain_alloc', 'failure injected');
    const domain = new MockIommuDomain(this, request.dirtyTracking);
    this.domains.add(domain);
    return domain;
  }
}

/** A page table of the mock unit. Plain throughout. */
export class MockIommuDomain implements IoasDomain {
  readonly pgsizeBitmap: number;
  readonly aperture: IoasRange = { start: MOCK_APERTURE_START, last: MOCK_APERTURE_LAST };
  readonly attached = new Set<IoasClient>();
  readonly #owner: MockIoasClient;
  readonly #entries = new Map<number, Entry>();
  readonly #tracksDirty: boolean;
  #isTracking = false;

  constructor(owner: MockIoasClient, tracksDirty: boolean) {
    this.#owner = owner;
    this.#tracksDirty = tracksDirty;
    this.pgsizeBitmap = MOCK_PAGE_SIZE + (owner.options.hugePages ? MOCK_HUGE_PAGE_SIZE : 0);
  }

  /** Bytes mapped. */
  get mappedBytes(): number {
    return this.#entries.size * MOCK_PAGE_SIZE;
  }

  /** Where `iova` leads, or null. */
  iovaToPhys(iova: number): PhysAddr | null {
    const offset = iova % MOCK_PAGE_SIZE;
    const entry = this.#entries.get(iova - offset);
    return entry === undefined ? null : ((entry.phys + offset) as PhysAddr);
  }

  /** Bytes of the page that maps `iova`, or 0. */
  pageBytesAt(iova: number): number {
    return this.#entries.get(iova - (iova % MOCK_PAGE_SIZE))?.pageBytes ?? 0;
  }

  /** A device writes to `iova`. @throws {InvariantError} nothing is mapped there. */
  deviceWrites(iova: number): void {
    const entry = this.#entries.get(iova - (iova % MOCK_PAGE_SIZE));
    assert(entry !== undefined, 'mock device: nothing is mapped at %s', hex(iova));
    if (this.#isTracking) entry.isDirty = true;
  }

  map(iova: Iova, phys: PhysAddr, sizeBytes: number, prot: number): void {
    if (this.#owner.options.failNext?.('map')) throw new ErrnoError('ENOMEM', 'mock_domain_map', 'failure injected');
    const aligned = [iova, phys, sizeBytes].every((bytes) => bytes % MOCK_PAGE_SIZE === 0);
    assert(aligned, 'mock domain: %s, %s or %s is not aligned', hex(iova), hex(phys), sizeBytes);
    assert(
      iova >= MOCK_APERTURE_START && iova + sizeBytes - 1 <= MOCK_APERTURE_LAST,
      'mock domain: %s is outside the aperture',
      hex(iova),
    );
    for (let done = 0; done < sizeBytes; done += MOCK_PAGE_SIZE) {
      const at = iova + done;
      assert(!this.#entries.has(at), 'mock domain: %s is mapped already', hex(at));
      const pageBytes = this.#pageBytes(iova, phys, sizeBytes, done);
      this.#entries.set(at, { phys: phys + done, prot, pageBytes, isDirty: false });
    }
  }

  unmap(iova: Iova, sizeBytes: number): number {
    let done = 0;
    for (; done < sizeBytes && this.#entries.delete(iova + done); done += MOCK_PAGE_SIZE);
    return done;
  }

  attach(device: IoasClient): void {
    const why = this.#misfit(device);
    if (why !== null) throw new ErrnoError('EINVAL', 'mock_domain_attach', `${device.name} ${why}`);
    this.attached.add(device);
  }

  detach(device: IoasClient): void {
    assert(this.attached.delete(device), 'mock domain: %s is not attached', device.name);
  }

  setDirtyTracking(on: boolean): void {
    this.#isTracking = on;
  }

  readAndClearDirty(request: DirtyRequest): void {
    const { iova, sizeBytes, pageBytes, bitmap, firstBit } = request;
    if (!this.#isTracking) throw new ErrnoError('EINVAL', 'mock_domain_read_and_clear_dirty', 'tracking is off');
    for (let at = iova; at < iova + sizeBytes; at += MOCK_PAGE_SIZE) {
      const entry = this.#entries.get(at);
      if (!entry?.isDirty) continue;
      const bit = Math.floor(firstBit + (at - iova) / pageBytes);
      const byte = Math.floor(bit / 8);
      assert(byte < bitmap.length, 'mock domain: bit %s is outside the bitmap of %s bytes', bit, bitmap.length);
      bitmap[byte] = (bitmap[byte] as number) | (1 << (bit % 8));
      if (!request.noClear) entry.isDirty = false;
    }
  }

  free(): void {
    assert(this.attached.size === 0 && this.#entries.size === 0, 'mock domain: freed while in use');
    this.#owner.domains.delete(this);
  }

  #misfit(device: IoasClient): string | null {
    if (!(device instanceof MockIoasClient) || device.unit !== this.#owner.unit) return 'is behind another unit';
    return this.#tracksDirty && !device.canTrackDirty ? 'cannot track written pages, which the table does' : null;
  }

  #pageBytes(iova: number, phys: number, sizeBytes: number, done: number): number {
    if (!this.#owner.options.hugePages) return MOCK_PAGE_SIZE;
    const inPage = (iova + done) % MOCK_HUGE_PAGE_SIZE;
    const start = done - inPage;
    const fits = start >= 0 && start + MOCK_HUGE_PAGE_SIZE <= sizeBytes && (phys + start) % MOCK_HUGE_PAGE_SIZE === 0;
    return fits ? MOCK_HUGE_PAGE_SIZE : MOCK_PAGE_SIZE;
  }
}
