/** What the scenarios of complaints share: two platforms, small devices, the bracket of a process, and a look at what was reported. */
import {
  armSoc,
  type CameraParams,
  type Device,
  type DeviceSpec,
  DMA_BUF_IOCTL_SYNC,
  DMA_BUF_SYNC,
  type DmaBuf,
  type DmaDirection,
  type HazardFacts,
  KIB,
  type Machine,
  type MachineOptions,
  MIB,
  type Op,
  Prng,
  type Process,
  pc,
  type SgTable,
  type Simulator,
  type UserMapping,
} from '../../src/index.ts';
import { AdversarialChooser } from '../../src/sim/adversarial-chooser.ts';

/** A board whose devices do not look into the CPU cache, and one whose devices do. */
export type Platform = 'arm' | 'pc';

/** A small machine that notes hazards and goes on. */
export function machineOf(platform: Platform, options: MachineOptions = {}): Machine {
  const all: MachineOptions = { hazards: 'record', ...options };
  if (platform === 'arm') return armSoc({ ramBytes: 64 * MIB, cmaBytes: 8 * MIB, cacheBytes: 64 * KIB, ...all });
  return pc({ lowRamBytes: 64 * MIB, highRamBytes: 0, cmaBytes: 8 * MIB, swiotlbBytes: 0, ...all });
}

/** A device as the platform has them: behind the IOMMU, and snooping or not. */
export function deviceOf(machine: Machine, platform: Platform, name: string, spec: Partial<DeviceSpec> = {}): Device {
  return machine.addDevice({ name, coherent: platform === 'pc', iommu: true, ...spec });
}

/** NV12, 64x32, 100 frames a second. */
export const smallCamera: CameraParams = {
  width: 64,
  height: 32,
  format: 'NV12',
  frameRate: { numerator: 100, denominator: 1 },
  lineTimeNs: 1000,
  startupNs: 0,
};
/** Bytes of one of its frames. */
export const FRAME_BYTES = 3072;

/** What the process asks of a buffer before and after it touches it. */
export function sync(app: Process, fd: number, flags: number): Op<unknown> {
  return app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags });
}

/** Does `body` in a bracket for `access`, or bare. */
export function* bracketed<T>(
  app: Process,
  fd: number,
  access: 'read' | 'write' | 'rw',
  body: () => T,
  isBracketed = true,
): Op<T> {
  if (isBracketed) yield* sync(app, fd, DMA_BUF_SYNC.start | DMA_BUF_SYNC[access]);
  const result = body();
  if (isBracketed) yield* sync(app, fd, DMA_BUF_SYNC.end | DMA_BUF_SYNC[access]);
  return result;
}

/** A buffer in a process. */
export interface Opened {
  readonly fd: number;
  readonly pixels: UserMapping;
}

/** Gives `buf` to the process, which maps it. */
export function* open(app: Process, buf: DmaBuf): Op<Opened> {
  const fd = app.fds.install(buf);
  return { fd, pixels: yield* app.mmap(fd) };
}

/** Maps `buf` for `dev` while `body` runs. */
export function* mappedFor<T>(dev: Device, buf: DmaBuf, dir: DmaDirection, body: (sgt: SgTable) => Op<T>): Op<T> {
  const att = yield* buf.attach(dev);
  const sgt = yield* att.mapUnlocked(dir);
  const result = yield* body(sgt);
  yield* att.unmapUnlocked(sgt, dir);
  yield* buf.detach(att);
  return result;
}

/** `length` bytes of `value`. */
export function bytesOf(value: number, length: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** How many of `bytes` are not `value`. */
export function wrong(bytes: Uint8Array, value: number): number {
  return bytes.filter((byte) => byte !== value).length;
}

/** The reports so far: `code`, and for bytes that are old or gone `code <- cause: who must do what`. */
export function reports({ hazards }: Simulator): string[] {
  return hazards.map(reportOf);
}

function reportOf(facts: HazardFacts): string {
  if (!('cause' in facts)) return facts.hazard;
  const { code, by, call } = facts.cause;
  return `${facts.hazard} <- ${code}: ${by} must call ${call}`;
}

/** The code of the ErrnoError that `op` throws with its message; `'none'`: it succeeded. */
export function* failing(op: () => Op<unknown>): Op<string> {
  try {
    yield* op();
    return 'none';
  } catch (error) {
    if (error instanceof Error && error.name === 'ErrnoError') return error.message;
    throw error;
  }
}

/** Machines whose tasks run in any order and whose caches do what they may: so many seeds. */
export function freeHardware(seeds = 8): readonly MachineOptions[] {
  return Array.from({ length: seeds }, (_, seed) => ({ chooser: new AdversarialChooser(new Prng(seed + 1)) }));
}
