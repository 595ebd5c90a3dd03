/**
 * What an IO address space maps: pages of a user process, or a buffer whose exporter may take it back.
 *
 * Pages are named by *handles*, numbers that a backing gives out when pages are pinned: what lies at an address of a process may
 * change, what was pinned does not.
 */
import type { Pfn, PhysAddr } from '../base/addr.ts';
import type { PhysMemory } from '../mem/phys-memory.ts';

/** What both kinds of backing offer. Plain: nothing waits, nothing is charged. */
export interface PageSource {
  /** As messages name it: `'memory of app'`. */
  readonly name: string;
  /**
   * Pins pages `[firstPage, firstPage + pageCount)` and writes their handles to `handles` from index `at` on. All or nothing.
   *
   * @param forWrite - somebody will write to them.
   * @throws {ErrnoError} `EFAULT` a page is not there or may not be written (retry after it was mapped); `ENODEV` the buffer is revoked
   * (retry after it was given back); `ENOMEM` (retry later).
   */
  pin(firstPage: number, pageCount: number, forWrite: boolean, handles: Uint32Array, at: number): void;
  /** The frame behind a handle, for as long as it is pinned. */
  frameOf(handle: number): Pfn;
  /** Ends one {@link pin} of each of `handles[at … at + pageCount - 1]`. */
  unpin(handles: Uint32Array, at: number, pageCount: number): void;
}

/** Memory of a user process, seen from page 0 on. It may have holes, and get new ones at any time. */
export interface UserPages extends PageSource {
  readonly kind: 'user';
  /** The process's address of page 0, in bytes. */
  readonly address: number;
  /** Where the bytes of pinned frames are. */
  readonly memory: PhysMemory;
}

/**
 * A buffer that its exporter may revoke: after `revoke` no device reaches it. A dma-buf can be one.
 *
 * @see `Documentation/userspace-api/iommufd.rst`; Linux 7.0 `drivers/iommu/iommufd/pages.c` iopt_revoke_notify
 */
export interface RevocablePages extends PageSource {
  readonly kind: 'revocable';
  readonly sizeBytes: number;
  readonly isRevoked: boolean;
  /**
   * Has `listener` called when the buffer is revoked, before the exporter's revoke returns: then every translation must be gone.
   *
   * @returns what ends this.
   */
  onRevoke(listener: () => undefined): () => undefined;
}

/** What can stand behind an area of an IO address space. */
export type IoasBacking = UserPages | RevocablePages;

/** A process as iommufd sees it: bytes at addresses. */
export interface UserSpace {
  /** Copies `length` bytes from `address`. @throws {ErrnoError} `EFAULT` a byte is not there. */
  read(address: number, length: number): Uint8Array;
  /** Copies `bytes` to `address`. @throws {ErrnoError} `EFAULT` a byte is not there or may not be written; nothing is changed. */
  write(address: number, bytes: Uint8Array): void;
  /** The pages from the one around `address` on. Looks at nothing yet: a hole shows when it is pinned. */
  pagesAt(address: number): UserPages;
}

/** A run of memory: where it begins, in bytes. */
export interface PhysRun {
  phys: PhysAddr;
  sizeBytes: number;
}
