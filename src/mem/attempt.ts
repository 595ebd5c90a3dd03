/**
 * What every allocator does around an attempt: checks the owner, asks the fault injection hook, and words its `ENOMEM`.
 */
import { PAGE_SIZE } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { formatBytes } from '../base/units.ts';
import type { AllocationKind, AllocationOwner } from './ledger.ts';

/** An allocation about to be tried, as the fault injection hook of a `PhysMemory` sees it. */
export interface AllocationAttempt {
  readonly kind: AllocationKind;
  /** The allocator: `'pages'`, or the name of the CMA area, carve-out or BAR. */
  readonly allocator: string;
  readonly owner: string;
  readonly pageCount: number;
  /** The allocating call, if the allocator was told. */
  readonly site?: string;
}

/** Decides whether an allocation is made to fail; see `PhysMemory.failNext`. */
export type FailHook = (attempt: AllocationAttempt) => boolean;

/**
 * To be called before anything is taken.
 *
 * @throws {InvariantError} the owner has no name, or `pageCount` is no whole number > 0.
 * @throws {ErrnoError} `ENOMEM` the hook wants a failure (retry later).
 * @internal
 */
export function admit(
  hook: FailHook | undefined,
  op: string,
  kind: AllocationKind,
  allocator: string,
  pageCount: number,
  who: AllocationOwner,
): void {
  assert(who.owner !== '', '%s: owner is empty', op);
  assert(
    Number.isSafeInteger(pageCount) && pageCount > 0,
    '%s: pageCount %s is no whole number of pages > 0',
    op,
    pageCount,
  );
  if (hook === undefined) return;
  const { owner, site } = who;
  if (!hook({ kind, allocator, owner, pageCount, ...(site === undefined ? {} : { site }) })) return;
  throw new ErrnoError('ENOMEM', op, `${owner} wants ${pages(pageCount)} from ${allocator}: failure injected`);
}

/** The `ENOMEM` of an allocator: what is wanted, what is free, and the most that one allocation could get. @internal */
export function outOfMemory(
  op: string,
  allocator: string,
  who: AllocationOwner,
  wantedPages: number,
  freePages: number,
  largestRun: number,
): ErrnoError {
  const state = `${pages(freePages)} free, largest free run ${pages(largestRun)}`;
  return new ErrnoError('ENOMEM', op, `${who.owner} wants ${pages(wantedPages)} from ${allocator}: ${state}`);
}

function pages(count: number): string {
  return `${count} page${count === 1 ? '' : 's'} (${formatBytes(count * PAGE_SIZE)})`;
}
