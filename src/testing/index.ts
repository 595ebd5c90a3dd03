/**
 * What tests of exporters and importers use, name by name: every name a user may import from `dmabuf-sim/testing`.
 */
export { DeadlockError, ErrnoError, HazardError } from '../base/errors.ts';
