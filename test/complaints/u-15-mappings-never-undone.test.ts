/** A test suite maps buffers and never undoes it: at the end the mappings are counted, with the place of the first. */
import { describe, expect, it } from 'vitest';
import { dmaMappingError, dmaMapSingle, dmaUnmapSingle, pfnToPhys } from '../../src/index.ts';
import { deviceOf, machineOf } from './scene.ts';

function suite(isTidy: boolean) {
  const machine = machineOf('arm', { dmaDebug: { callSites: true } });
  const card = deviceOf(machine, 'arm', 'card0');
  machine.dmaDebug?.driverProbe(card, 'tt-kmd');
  for (let test = 0; test < 10; test++) {
    const page = pfnToPhys(machine.pages.allocPages({ order: 0, owner: `test ${test}` }));
    const address = dmaMapSingle(card, page, 4096, 'bidirectional');
    if (dmaMappingError(card, address)) throw new Error('no IO addresses');
    if (isTidy) dmaUnmapSingle(card, address, 4096, 'bidirectional');
  }
  machine.dmaDebug?.driverUnbind(card);
  return machine.sim.hazards;
}

describe('U-15: "after some hundred tests nothing can be mapped any more"', () => {
  it('is a leak that is reported when the driver lets go, with the count and the oldest mapping', () => {
    expect(suite(false)).toMatchObject([
      {
        hazard: 'dma-debug.pending-at-unbind',
        device: 'card0',
        leaked: 10,
        mapping: { call: 'dmaMapSingle', sizeBytes: 4096, site: expect.stringContaining('u-15') },
      },
    ]);
  });

  it('is silent when every test undoes its own', () => {
    expect(suite(true)).toEqual([]);
  });
});
