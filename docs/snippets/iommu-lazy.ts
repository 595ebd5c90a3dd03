/** A network card that was told too late writes into a buffer that is unmapped: with strict, then with lazy invalidation. */
import { armSoc, dmaMapPage, dmaMappingError, dmaUnmapPage, ms, pfnToPhys } from '../../src/index.ts';

for (const lazyIommu of [false, true]) {
  const soc = armSoc({ lazyIommu, hazards: 'record' });
  const nic = soc.addDevice({ name: 'nic0', coherent: true, iommu: true });
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));

  soc.sim.run(function* () {
    const address = dmaMapPage(nic, page, 4096, 'from-device');
    if (dmaMappingError(nic, address)) throw new Error('no IO addresses');
    const tryWrite = (when: string) => {
      const done = nic.port.write(address, Uint8Array.of(0xee), 0, 1);
      console.log(`${when.padEnd(13)} ${done === 1 ? 'memory is overwritten' : nic.port.faults.at(-1)?.reason}`);
    };
    console.log(lazyIommu ? 'lazy' : 'strict');
    tryWrite('mapped');
    yield* soc.sim.delay(0); // pays what was charged so far
    const start = soc.sim.now;
    dmaUnmapPage(nic, address, 4096, 'from-device');
    yield* soc.sim.delay(0);
    tryWrite(`+ ${soc.sim.now - start} ns`);
    yield* soc.sim.delay(ms(10));
    tryWrite('+ 10 ms');
  });
  console.log(`${nic.port.lateAccesses} late, reported: ${soc.sim.hazards.map(({ hazard }) => hazard).join(', ')}`);
}
