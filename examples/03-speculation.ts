/**
 * What it shows: a capture driver drops its buffer from the CPU cache before the camera writes, so that nothing old is left in it. But a CPU may
 * fetch lines of its own accord at any time, also while the camera writes. The same driver runs on hardware that never does, and on twenty
 * that do now and then, each after the choices of its seed.
 * What to expect: silent by luck on the first, wrong bytes on others; the report names the call that is missing, and the schedule replays the
 * run. With the call made behind the DMA all hardware is silent.
 */
import {
  armSoc,
  CpuView,
  describeHazard,
  dmaAddr,
  dmaMappingError,
  dmaMapSingle,
  dmaSyncSingleForCpu,
  dmaSyncSingleForDevice,
  dmaUnmapSingle,
  type MachineOptions,
  pfnToPhys,
  ReplayChooser,
} from '../src/index.ts';

const SEEDS = Array.from({ length: 20 }, (_, i) => i + 1);
const FRAMES = 2;
const FRAME_BYTES = 2048;
/** What the camera writes at once. */
const BURST = new Uint8Array(512);
const BURST_NS = 1000;
const FROM = 'from-device';

/** Runs the driver. @returns what it found wrong by comparing pixels, what the simulator reported, and the choices of the hardware. */
function capture(syncs: 'before' | 'behind', hardware: MachineOptions) {
  const soc = armSoc({ hazards: 'record', ...hardware });
  const camera = soc.addDevice({ name: 'camera0', coherent: false, iommu: true });
  const page = pfnToPhys(soc.pages.allocPages({ order: 0, owner: 'camera0 driver' }));
  const accessor = { name: 'camera0 driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
  const cpu = new CpuView(soc.coherency, { extents: [{ phys: page, sizeBytes: 4096 }], attribute: 'cached', accessor });
  let wrongFrames = 0;

  soc.sim.run(function* () {
    const address = dmaMapSingle(camera, page, FRAME_BYTES, FROM);
    if (dmaMappingError(camera, address)) throw new Error('no address for the frame');
    for (let frame = 1; frame <= FRAMES; frame++) {
      if (syncs === 'before') dmaSyncSingleForCpu(camera, address, FRAME_BYTES, FROM); // "the cache is clean now"
      dmaSyncSingleForDevice(camera, address, FRAME_BYTES, FROM);
      for (let at = 0; at < FRAME_BYTES; at += BURST.length) {
        camera.port.write(dmaAddr(address + at), BURST.fill(frame), 0, BURST.length);
        yield* soc.sim.delay(BURST_NS);
      }
      if (syncs === 'behind') dmaSyncSingleForCpu(camera, address, FRAME_BYTES, FROM);
      const pixels = new Uint8Array(FRAME_BYTES);
      cpu.read(0, pixels);
      if (pixels.some((pixel) => pixel !== frame)) wrongFrames++;
    }
    dmaUnmapSingle(camera, address, FRAME_BYTES, FROM);
  });
  return { wrongFrames, hazards: soc.sim.hazards, schedule: soc.sim.choices };
}

console.log('the driver syncs     on the default hardware     on 20 adversarial ones');
for (const syncs of ['before', 'behind'] as const) {
  const told = ({ wrongFrames, hazards }: ReturnType<typeof capture>) =>
    `${wrongFrames} wrong, ${hazards.length} reported`;
  const runs = SEEDS.map((adversary) => ({ adversary, ...capture(syncs, { adversary }) }));
  const wrong = runs.filter(({ wrongFrames }) => wrongFrames > 0);
  const reported = runs.filter(({ hazards }) => hazards.length > 0);
  const row = [`${syncs} the DMA`.padEnd(21), told(capture(syncs, {})).padEnd(28)].join('');
  console.log(`${row}${wrong.length} of them wrong, ${reported.length} with a report`);
  const found = reported[0];
  if (found?.hazards[0] === undefined) continue;
  console.log(`\nseed ${found.adversary}: ${told(found)}; the hardware chose ${found.schedule}`);
  console.log(`replayed from that text: ${told(capture(syncs, { chooser: new ReplayChooser(found.schedule) }))}`);
  console.log(`${describeHazard(found.hazards[0])}\n`);
}
