/** An exporter answers addresses that are right for itself only; the importer sits behind an IOMMU. */
import { describe, expect, it } from 'vitest';
import {
  type Device,
  type DmaBuf,
  dmaMapSgtable,
  dmaUnmapSgtable,
  exportDmaBuf,
  hex,
  pfnToPhys,
  SgTable,
} from '../../src/index.ts';
import { deviceOf, machineOf, mappedFor } from './scene.ts';

/** The GPU maps its memory for itself, or for the device that asks. */
function share(mapsForImporter: boolean) {
  const machine = machineOf('pc');
  const gpu = deviceOf(machine, 'pc', 'gpu0', { iommu: false, dmaMaskBits: 40 });
  const nic = deviceOf(machine, 'pc', 'nic0');
  const frame = machine.pages.allocPages({ order: 0, owner: 'vram' });
  const whose = (importer: Device): Device => (mapsForImporter ? importer : gpu);
  const buf: DmaBuf = exportDmaBuf(machine.sim, {
    ...{ exporterName: 'gpu0', name: 'vram', sizeBytes: 4096, priv: {} },
    ops: {
      mapDmaBuf({ dev }, dir) {
        const sgt = SgTable.fromPages([frame], { sizeBytes: 4096 });
        dmaMapSgtable(whose(dev), sgt, dir);
        return sgt;
      },
      unmapDmaBuf: ({ dev }, sgt, dir) => dmaUnmapSgtable(whose(dev), sgt, dir),
      release: () => machine.pages.freePages(frame, 1),
    },
  });
  const done = machine.sim.run(() =>
    mappedFor(nic, buf, 'from-device', function* (sgt) {
      yield* machine.sim.delay(100);
      return nic.port.write(sgt.dmaAddress(0), Uint8Array.of(1), 0, 1);
    }),
  );
  buf.put();
  return { done, faults: nic.port.faults, phys: pfnToPhys(frame), hazards: machine.sim.hazards };
}

describe('U-17: "the NIC faults as soon as it touches the GPU’s memory"', () => {
  it('is an address of the wrong space: valid as physical, used as an IO address of nic0', () => {
    const { done, faults, phys, hazards } = share(false);
    expect([done, faults.map(({ reason }) => reason)]).toEqual([0, ['unmapped']]);
    expect(hazards).toMatchObject([
      { hazard: 'dma.wrong-address-space', device: 'nic0', address: Number(phys), access: 'write' },
    ]);
    expect(hazards[0]).toMatchObject({ what: expect.stringMatching(/phys/), remedy: expect.stringMatching(/dmaMap/) });
    expect(hex(phys)).toMatch(/^0x/);
  });

  it('is silent when the exporter maps for the importer', () => {
    const { done, faults, hazards } = share(true);
    expect([done, faults, hazards]).toEqual([1, [], []]);
  });
});
