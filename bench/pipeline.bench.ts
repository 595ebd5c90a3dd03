/**
 * Data paths through the public interface.
 *
 *     node pipeline.bench.js map1gib             prints { "value": pages a second }
 *     node pipeline.bench.js film tags|bytes stream|frame [watched|shadow|silent]
 *                                                prints { "value": seconds of 1080p60 film a second }
 *
 * `stream`: the camera maps its buffers once; `frame`: for each frame. `watched`: stale bytes, races, leaks and stray addresses
 * are watched for, as in every machine; `shadow` (default): stale bytes and races only; `silent`: nothing is.
 *
 * Camera and GPU are behind the IOMMU, the display is not and gets contiguous memory, as in the film example. A frame moves as
 * one batch.
 */
import process from 'node:process';
import {
  armSoc,
  Camera,
  Display,
  dmaMapSgtable,
  dmaUnmapSgtable,
  Event,
  frameLayout,
  GIB,
  Gpu,
  hdmi1080p60,
  type Machine,
  type Op,
  PAGE_SIZE,
  physAddr,
  SgTable,
  videoCore6,
} from '../src/index.ts';
import { cpuSeconds } from './limits/cpu-seconds.mjs';

/** Maps 1 GiB of scattered pages for a device, lets it read all of it, and unmaps it. */
function map1gib(): number {
  const soc = armSoc({ ramBytes: 4 * GIB, bytes: false, shadow: false });
  const dev = soc.addDevice({ name: 'dev0', coherent: true, iommu: true });
  const count = GIB / PAGE_SIZE;
  const extents = Array.from({ length: count }, (_, i) => ({
    phys: physAddr(0x4000_0000 + i * 2 * PAGE_SIZE),
    length: PAGE_SIZE,
  }));
  const sgt = new SgTable(extents);
  const round = (): void => {
    dmaMapSgtable(dev, sgt, 'to-device');
    const done = dev.port.read(sgt.dmaAddress(0), null, 0, GIB);
    if (done !== GIB) throw new Error(`the device read ${done} bytes`);
    dmaUnmapSgtable(dev, sgt, 'to-device');
  };
  round();
  const start = cpuSeconds();
  for (let i = 0; i < 4; i++) round();
  return (4 * count) / (cpuSeconds() - start);
}

const WIDTH = 1920;
const HEIGHT = 1080;
const FRAMES = 60;
const CAPTURED = 4;
const CONVERTED = 3;
const NV12 = frameLayout('NV12', { width: WIDTH, height: HEIGHT });
const XRGB = frameLayout('XR24', { width: WIDTH, height: HEIGHT });

interface Rig {
  readonly camera: Camera;
  readonly gpu: Gpu;
  readonly display: Display;
}

/** A film of 1920x1080 at 60 frames a second from the camera through the GPU to the display. */
function film(mode: string, mapping: 'stream' | 'frame', watch: string): number {
  const soc = armSoc({ bytes: mode === 'bytes', shadow: watch !== 'silent', watch: watch === 'watched' });
  const device = (name: string, iommu = true) => soc.addDevice({ name, coherent: false, iommu });
  const picture = mode === 'bytes' ? Uint8Array.from({ length: NV12.sizeBytes }, (_, i) => (i * 7) & 255) : null;
  const params = { width: WIDTH, height: HEIGHT, format: 'NV12', lineTimeNs: 14_000, startupNs: 0 } as const;
  const camera = new Camera(
    device('camera0'),
    { ...params, frameRate: { numerator: 60, denominator: 1 } },
    { source: () => picture, mapping },
  );
  const rig = {
    camera,
    gpu: new Gpu(device('gpu0'), videoCore6),
    display: new Display(device('display0', false), hdmi1080p60),
  };
  let shown = 0;
  let goal = new Event(soc.sim, 'frames shown');
  const show = (frames: number): void => {
    goal = new Event(soc.sim, 'frames shown');
    const end = shown + frames;
    onShown = () => {
      if (++shown === end) goal.fire();
    };
    soc.sim.run(() => goal);
  };
  let onShown = (): void => undefined;
  soc.sim.spawn('film', () => run(rig, soc, () => onShown()), { daemon: true });
  const rounds = mode === 'bytes' ? 1 : 40;
  show(rounds * FRAMES); // warms up
  const start = cpuSeconds();
  show(rounds * FRAMES);
  return rounds / (cpuSeconds() - start);
}

/** Sets everything up, then converts and shows what the camera captures, without end. */
function* run({ camera, gpu, display }: Rig, { systemHeap, cmaHeap }: Machine, tick: () => void): Op<void> {
  const sources = [];
  for (let i = 0; i < CAPTURED; i++) {
    const buf = systemHeap.alloc(NV12.sizeBytes, `captured${i}`);
    const buffer = yield* camera.importBuffer(buf);
    sources.push(yield* gpu.importBuffer(buf, { access: 'read' }));
    yield* camera.qbuf(buffer);
  }
  const targets = [];
  const format = { width: WIDTH, height: HEIGHT, strideBytes: WIDTH * 4, format: 'XR24' } as const;
  for (let i = 0; i < CONVERTED; i++) {
    const buf = cmaHeap.alloc(XRGB.sizeBytes, `converted${i}`);
    targets.push({
      gpu: yield* gpu.importBuffer(buf, { access: 'write' }),
      framebuffer: yield* display.importFramebuffer(buf, format),
    });
  }
  display.enable();
  yield* camera.streamOn();
  for (let frame = 0; ; frame++) {
    const { buffer } = yield* camera.dqbuf();
    const source = sources[buffer.index];
    const target = targets[frame % CONVERTED];
    if (source === undefined || target === undefined) throw new Error(`no buffer for frame ${frame}`);
    const fence = yield* gpu.submitConvert(source, target.gpu, { source: NV12, target: XRGB });
    yield* fence;
    yield* camera.qbuf(buffer);
    yield* display.pageFlip(target.framebuffer);
    tick();
  }
}

const [name, mode = '', mapping = 'stream', watch = 'shadow'] = process.argv.slice(2);
const cases: Record<string, (() => number) | undefined> = {
  map1gib,
  film: () => film(mode, mapping === 'frame' ? 'frame' : 'stream', watch),
};
const chosen = cases[name ?? ''];
if (chosen === undefined) throw new Error(`no case ${name}: ${Object.keys(cases).join(', ')}`);
console.log(JSON.stringify({ value: chosen() }));
