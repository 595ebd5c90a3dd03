/**
 * What tests of exporters and importers use, name by name: every name a user may import from `dmabuf-sim/testing`.
 */
export { DeadlockError, ErrnoError, HazardError } from '../base/errors.ts';
export {
  MOCK_APERTURE_LAST,
  MOCK_APERTURE_START,
  MOCK_PAGE_SIZE,
  MockIoasClient,
  type MockIoasClientOptions,
  MockIommuDomain,
} from './mock-iommu-domain.ts';
