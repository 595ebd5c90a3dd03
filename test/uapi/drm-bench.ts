/** Clients of software DRM devices on a small machine, with the calls that a test makes of them. */
import { ErrnoError } from '../../src/base/errors.ts';
import { lift, type MaybeOp } from '../../src/sim/op.ts';
import { DrmDevice, type DrmDriver, vgemDriver } from '../../src/uapi/drm-device.ts';
import { DrmFile } from '../../src/uapi/drm-file.ts';
import {
  DRM_IOCTL_GEM_CLOSE,
  DRM_IOCTL_GEM_FLINK,
  DRM_IOCTL_GEM_OPEN,
  DRM_IOCTL_MODE_CREATE_DUMB,
  DRM_IOCTL_MODE_MAP_DUMB,
  DRM_IOCTL_PRIME_FD_TO_HANDLE,
  DRM_IOCTL_PRIME_HANDLE_TO_FD,
} from '../../src/uapi/drm-ioctl.ts';
import type { Fields, IoctlRequest, UserStruct } from '../../src/uapi/ioctl.ts';
import type { Process } from '../../src/uapi/process.ts';
import type { UserMapping } from '../../src/uapi/user-mapping.ts';
import { type Bench, type BenchOptions, bench } from '../bench.ts';

export const O_RDWR_CLOEXEC = 0x80002;

/** One process and its DRM clients. */
export class DrmBench {
  readonly b: Bench;
  readonly app: Process;
  #devices = 0;

  constructor(options: BenchOptions = {}) {
    this.b = bench(options);
    this.app = this.b.machine.addProcess({ name: 'app' });
  }

  /** Runs `body` as the process does. */
  run<T>(body: () => MaybeOp<T>): T {
    return this.b.sim.run(() => lift(body()));
  }

  /** The errno that `body` ends with; `''` when with none. */
  codeOf(body: () => MaybeOp<unknown>): string {
    try {
      this.run(body);
      return '';
    } catch (error) {
      if (error instanceof ErrnoError) return error.code;
      throw error;
    }
  }

  device(driver: DrmDriver = vgemDriver): DrmDevice {
    const { sim, machine } = this.b;
    const name = `${driver.name}${this.#devices++}`;
    const { pages, coherency } = machine;
    return new DrmDevice(sim, {
      driver,
      device: this.b.device(name, { coherent: true, maxSegmentSizeBytes: 2 ** 31 }),
      pages,
      coherency,
    });
  }

  /** A descriptor of a new client. */
  open(device: DrmDevice, process: Process = this.app): number {
    return process.fds.install(new DrmFile(device));
  }

  ioctl<F extends Fields>(fd: number, request: IoctlRequest<F>, args: Partial<UserStruct<F>>): UserStruct<F> {
    return this.run(() => this.app.ioctl(fd, request, args));
  }

  /** A buffer of whole pages: its handle. */
  create(client: number, pages = 1): number {
    return this.ioctl(client, DRM_IOCTL_MODE_CREATE_DUMB, { width: 1024, height: pages, bpp: 32 }).handle;
  }

  map(client: number, handle: number, pages = 1): UserMapping {
    const { offset } = this.ioctl(client, DRM_IOCTL_MODE_MAP_DUMB, { handle });
    return this.run(() => this.app.mmap(client, { offset, length: pages * 4096 }));
  }

  toFd(client: number, handle: number, flags = O_RDWR_CLOEXEC): number {
    return this.ioctl(client, DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle, flags }).fd;
  }

  toHandle(client: number, fd: number): number {
    return this.ioctl(client, DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd }).handle;
  }

  flink(client: number, handle: number): number {
    return this.ioctl(client, DRM_IOCTL_GEM_FLINK, { handle }).name;
  }

  openName(client: number, name: number): number {
    return this.ioctl(client, DRM_IOCTL_GEM_OPEN, { name }).handle;
  }

  closeHandle(client: number, handle: number): void {
    this.ioctl(client, DRM_IOCTL_GEM_CLOSE, { handle });
  }

  close(fd: number): void {
    this.run(() => this.app.close(fd));
  }

  /** Ends the process and what it left to do. */
  exit(): void {
    this.app.exit();
    this.b.sim.run();
  }
}
