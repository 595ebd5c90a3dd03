/** What maintenance did: of a range, of a rectangle, and what it takes from a neighbour in the same line. */
import { armSoc, CpuView, describeHazard, pfnToPhys, physAddr } from '../../src/index.ts';

const soc = armSoc({ hazards: 'record' });
const { coherency } = soc;
const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'driver' }));
const accessor = { name: 'nic driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
const cpu = new CpuView(coherency, { extents: [{ phys: page, sizeBytes: 4096 }], attribute: 'cached', accessor });

cpu.write(0, new Uint8Array(4096).fill(1));
console.log('range  ', coherency.maintainRect('clean', { phys: page, rowBytes: 100, strideBytes: 100, rows: 1 }));
const rect = { phys: physAddr(page + 1024), rowBytes: 64, strideBytes: 512, rows: 4 };
console.log('rect   ', coherency.maintainRect('clean-invalidate', rect));
console.log('all    ', coherency.maintained);
console.log('cached  hits %d, misses %d', coherency.cache.counters.hits, coherency.cache.counters.misses);

coherency.invalidate(page, 32, accessor); // a receive buffer of 32 bytes: clean, so nothing is lost
cpu.write(32, Uint8Array.of(9)); // a counter beside it
coherency.invalidate(page, 32, accessor); // the same again
for (const hazard of soc.sim.hazards) console.log(describeHazard(hazard));
