import { describe, expect, it } from 'vitest';
import { iova, nanos } from '../../src/base/addr.ts';
import type { DmaFault } from '../../src/iommu/fault.ts';
import { formatSourceId, vtdFaultRecord } from '../../src/iommu/vtd-fault.ts';

const fault: DmaFault = {
  device: 'edu0',
  sourceId: 0x80,
  domain: 'dmar0.1',
  iova: iova(0xfffe123),
  access: 'write',
  reason: 'unmapped',
  stage: 2,
  level: 3,
  isReported: true,
  timeNs: nanos(0),
};

describe('vtdFaultRecord', () => {
  it('names the page and the requester, as the kernel logs them', () => {
    expect(vtdFaultRecord(fault)).toEqual({
      type: 'Write',
      source: '00:10.0',
      page: 0xfffe000,
      reason: 5,
      log: 'DMAR: [DMA Write NO_PASID] Request device [00:10.0] fault addr 0xfffe000 [fault reason 0x05] PTE Write access is not set',
    });
  });

  it('does not tell a missing page from a missing right, but a write from a read', () => {
    const reasons = (['unmapped', 'permission'] as const).flatMap((reason) =>
      (['write', 'read'] as const).map((access) => vtdFaultRecord({ ...fault, reason, access }).reason),
    );
    expect(reasons).toEqual([5, 6, 5, 6]);
  });

  it('tells a device without context and an address beyond the unit', () => {
    const reasons = (['no-context', 'address-size'] as const).map(
      (reason) => vtdFaultRecord({ ...fault, reason, access: 'read' }).reason,
    );
    expect(reasons).toEqual([2, 4]);
  });
});

describe('formatSourceId', () => {
  it.each([
    [0, '00:00.0'],
    [0x80, '00:10.0'],
    [0x3ff, '03:1f.7'],
  ])('writes %s as lspci does', (id, text) => {
    expect(formatSourceId(id)).toBe(text);
  });
});
