/** A client draws with the GPU, a compositor samples what it drew: how the one learns when the other is done is the test's affair. */
import {
  type DmaFence,
  FenceFile,
  Gpu,
  type GpuBuffer,
  type GpuMemory,
  type Machine,
  type MachineOptions,
  type Op,
  type Process,
  SyncFile,
  us,
  videoCore6,
} from '../../src/index.ts';
import { bytesOf, deviceOf, machineOf, wrong } from './scene.ts';

/** Bytes of the picture. */
const BYTES = 4096;
/** The client draws so many pictures. */
const FRAMES = 5;

/** What the two have. */
export interface Stage {
  readonly machine: Machine;
  readonly client: Process;
  readonly compositor: Process;
  readonly gpu: Gpu;
}

/** How the client hands a picture over, and how the compositor waits for it. */
export interface Handover {
  /** The client's driver submits the job with implicit fences. */
  readonly implicit: boolean;
  /** The compositor's driver looks at implicit fences. */
  readonly honoursImplicit: boolean;
  /** The client has submitted frame `n`. */
  send?(stage: Stage, frame: number, drawn: DmaFence): Op<void>;
  /** The compositor is about to submit its sampling of frame `n`. */
  receive?(stage: Stage, frame: number): Op<void>;
}

/** A sync file of `fence` among the descriptors of `process`. */
export function syncFileOf(process: Process, fence: DmaFence): number {
  return process.fds.install(new FenceFile(new SyncFile(process.sim, fence)));
}

/** Draws `FRAMES` pictures and samples each. @returns how many were torn, and the machine. */
export function drawAndSample(how: Handover, options: MachineOptions = {}): { torn: number; machine: Machine } {
  const machine = machineOf('pc', options);
  const { sim } = machine;
  const engine = { ...videoCore6, launchNs: 0 };
  const gpu = new Gpu(deviceOf(machine, 'pc', 'gpu0'), engine);
  const screen = new Gpu(deviceOf(machine, 'pc', 'gpu1'), engine);
  const client = machine.addProcess({ name: 'client' });
  const stage: Stage = { machine, client, compositor: client.fork('compositor'), gpu };
  const torn = sim.run(function* () {
    const buf = machine.systemHeap.alloc(BYTES, 'surface');
    const [target, texture] = [yield* gpu.importBuffer(buf), yield* screen.importBuffer(buf)];
    let count = 0;
    for (let frame = 1; frame <= FRAMES; frame++) {
      const job = drawing(machine, target, frame);
      const drawn = how.implicit ? yield* gpu.submitSynced(job) : gpu.submit(job);
      yield* how.send?.(stage, frame, drawn) ?? sim.delay(0);
      yield* sim.delay(us(40)); // the compositor wakes up in the middle of the drawing
      yield* how.receive?.(stage, frame) ?? sim.delay(0);
      const seen = new Uint8Array(BYTES);
      const sampling = { name: 'sample', reads: [texture], run: sample(texture, seen) };
      const sampled = how.honoursImplicit ? yield* screen.submitSynced(sampling) : screen.submit(sampling);
      yield* sampled;
      yield* drawn;
      if (wrong(seen, frame) > 0) count++;
    }
    yield* gpu.release();
    yield* screen.release();
    buf.put();
    for (const process of [client, stage.compositor]) process.exit();
    return count;
  });
  return { torn, machine };
}

/** Draws the upper half, works on, and draws the lower half. */
function drawing({ sim }: Machine, target: GpuBuffer, value: number) {
  return {
    name: `frame ${value}`,
    writes: [target],
    *run(memory: GpuMemory): Op<void> {
      memory.write(target.gpuVa, bytesOf(value, BYTES / 2), 0, BYTES / 2);
      yield* sim.delay(us(100));
      memory.write(target.gpuVa, bytesOf(value, BYTES), 0, BYTES);
    },
  };
}

function sample(texture: GpuBuffer, out: Uint8Array) {
  return (memory: GpuMemory): undefined => {
    memory.read(texture.gpuVa, out, 0, BYTES);
  };
}
