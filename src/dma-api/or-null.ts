/** Allocations that may fail. */
import { ErrnoError } from '../base/errors.ts';

/** @internal What `allocate` gives; `null` instead of `ENOMEM`: the caller tries elsewhere, or fails in its own way. */
export function orNull<T>(allocate: () => T): T | null {
  try {
    return allocate();
  } catch (error) {
    if (error instanceof ErrnoError && error.code === 'ENOMEM') return null;
    throw error;
  }
}
