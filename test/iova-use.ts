/** What is in use of a device's IO address space, as its group's default domain knows it. */
import type { Device } from '../src/dma-api/device.ts';

/** Ranges handed out and not given back; those that only wait in a per-CPU cache do not count. 0 without an IOMMU. */
export function rangesInUse(device: Device): number {
  const { iovas } = device.iommuGroup?.defaultDomain?.cookie ?? {};
  if (iovas === undefined) return 0;
  return [...iovas.tree.ranges()].filter((range) => !range.reserved).length - iovas.cachedRanges;
}
