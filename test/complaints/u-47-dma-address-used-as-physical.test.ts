/** A coherent buffer is exported again by handing its DMA address to dma_map_resource, as if it were a physical one. */
import { describe, expect, it } from 'vitest';
import {
  type Device,
  dmaAllocCoherent,
  dmaFreeCoherent,
  dmaGetSgtable,
  dmaMappingError,
  dmaMapResource,
  dmaMapSgtable,
  dmaUnmapResource,
  dmaUnmapSgtable,
  type PhysAddr,
  physAddr,
} from '../../src/index.ts';
import { deviceOf, machineOf, reports } from './scene.ts';

/** The accelerator's ring, shared with the display. @returns what the display reads, and what it should. */
function reExport(how: 'dma address' | 'table', npuIommu = true) {
  const machine = machineOf('arm', { lints: true });
  const npu = deviceOf(machine, 'arm', 'npu0', { iommu: npuIommu });
  const display = deviceOf(machine, 'arm', 'display0');
  const ring = dmaAllocCoherent(npu, 4096);
  if (ring === null) throw new Error('no memory');
  ring.write(0, Uint8Array.of(0x77));
  const seen = new Uint8Array(1);
  const done =
    how === 'table' ? byTable(display, seen, dmaGetSgtable(npu, ring)) : byAddress(display, seen, ring.address);
  dmaFreeCoherent(npu, ring);
  return { done, seen: seen[0], found: reports(machine.sim), faults: display.port.faults.map(({ reason }) => reason) };
}

function byTable(display: Device, out: Uint8Array, sgt: ReturnType<typeof dmaGetSgtable>): number {
  dmaMapSgtable(display, sgt, 'to-device', { skipCpuSync: true });
  const done = display.port.read(sgt.dmaAddress(0), out, 0, 1);
  dmaUnmapSgtable(display, sgt, 'to-device', { skipCpuSync: true });
  return done;
}

function byAddress(display: Device, out: Uint8Array, address: number): number {
  const mapped = dmaMapResource(display, physAddr(address), 4096, 'to-device');
  if (dmaMappingError(display, mapped)) return -1;
  const done = display.port.read(mapped, out, 0, 1);
  dmaUnmapResource(display, mapped, 4096, 'to-device');
  return done;
}

describe('U-47: "the second device reads zeros from the coherent buffer, or faults"', () => {
  it('does not even compile with typed addresses: a DMA address is no physical one', () => {
    const machine = machineOf('arm');
    const ring = dmaAllocCoherent(deviceOf(machine, 'arm', 'npu0'), 4096);
    // @ts-expect-error a DmaAddr is no PhysAddr
    const wrong: PhysAddr | undefined = ring?.address;
    expect(wrong).toBeDefined();
  });

  it('leads nowhere when the number is forced through and is an IO address', () => {
    expect(reExport('dma address')).toEqual({ done: 0, seen: 0, found: [], faults: ['no-memory'] });
  });

  it('is named when it happens to be a physical address, as without an IOMMU: that is RAM, and no resource', () => {
    expect(reExport('dma address', false)).toEqual({
      ...{ done: -1, seen: 0, faults: [] },
      found: ['dma-map.resource-is-ram'],
    });
  });

  it.each([true, false])(
    'reads the ring through the table of the allocation, and nothing is reported (IOMMU: %s)',
    (iommu) => {
      expect(reExport('table', iommu)).toEqual({ done: 1, seen: 0x77, found: [], faults: [] });
    },
  );
});
