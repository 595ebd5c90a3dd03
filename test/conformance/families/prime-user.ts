/** Family `prime-user`: clients of two software drivers that make, export, import and close buffers. */
import { PAGE_SIZE } from '../../../src/base/addr.ts';
import type { Machine } from '../../../src/platform/machine.ts';
import { pc } from '../../../src/platform/pc.ts';
import { lift, type MaybeOp } from '../../../src/sim/op.ts';
import { DMA_HEAP_IOCTL_ALLOC, DmaHeapFile } from '../../../src/uapi/dma-heap-file.ts';
import { DrmDevice, vgemDriver, vkmsDriver } from '../../../src/uapi/drm-device.ts';
import { DrmFile } from '../../../src/uapi/drm-file.ts';
import {
  DRM_IOCTL_GEM_CLOSE,
  DRM_IOCTL_GET_CAP,
  DRM_IOCTL_MODE_CREATE_DUMB,
  DRM_IOCTL_MODE_DESTROY_DUMB,
  DRM_IOCTL_MODE_MAP_DUMB,
  DRM_IOCTL_PRIME_FD_TO_HANDLE,
  DRM_IOCTL_PRIME_HANDLE_TO_FD,
} from '../../../src/uapi/drm-ioctl.ts';
import { F } from '../../../src/uapi/fcntl.ts';
import type { Fields, IoctlRequest, UserStruct } from '../../../src/uapi/ioctl.ts';
import { F_SEAL, Memfd, MFD } from '../../../src/uapi/memfd.ts';
import type { Process } from '../../../src/uapi/process.ts';
import { UDMABUF_CREATE, UDMABUF_FLAGS_CLOEXEC, UdmabufFile } from '../../../src/uapi/udmabuf.ts';
import { replayedFamily } from '../family.ts';
import { ANOTHER_FILE, CLOSED, errnoOr, hexIn } from '../user-bench.ts';
import {
  arrayIn,
  type Json,
  type JsonObject,
  numberIn,
  stringIn,
  type VectorCase,
  type VectorOp,
} from '../vector-case.ts';

const DRIVERS = { vgem: vgemDriver, vkms: vkmsDriver } as const;
const O_RDWR_CLOEXEC = 0x80002;

export default replayedFamily('prime-user', (vector) => new Replay(vector));

class Replay {
  readonly #machine: Machine = pc({ vtd: false, hazards: 'record', shadow: false, swiotlbBytes: 0 });
  readonly #app: Process = this.#machine.addProcess({ name: 'user' });
  /** Descriptors of the DRM files, by number. */
  readonly #files: number[];
  readonly #clients: DrmFile[];
  /** Descriptors of dma-bufs, by the numbers of the case. */
  readonly #fds = new Map<number, number>();
  /** Inodes of dma-bufs in the order they were seen. */
  readonly #inodes: number[] = [];
  /** In `prime-caps`: what is imported, and its handle. */
  #source = CLOSED;
  #handle = 0;

  constructor({ setup }: VectorCase) {
    const names = typeof setup['driver'] === 'string' ? [setup['driver']] : arrayIn(setup, 'files').map(String);
    const devices = new Map<string, DrmDevice>();
    for (const name of names) if (!devices.has(name)) devices.set(name, this.#makeDevice(name));
    this.#clients = names.map((name) => new DrmFile(devices.get(name) as DrmDevice));
    this.#files = this.#clients.map((client) => this.#app.fds.install(client));
  }

  step({ op, args }: VectorOp): JsonObject {
    const fd = this.#fds.get(Number(args['fd'])) ?? CLOSED;
    switch (op) {
      case 'DRM_IOCTL_GET_CAP':
        return this.#capability(args);
      case 'DRM_IOCTL_MODE_CREATE_DUMB':
        return this.#createDumb(args);
      case 'DRM_IOCTL_MODE_MAP_DUMB':
        return this.#mapDumb(args);
      case 'DRM_IOCTL_MODE_DESTROY_DUMB':
        return this.#drm(args, DRM_IOCTL_MODE_DESTROY_DUMB, { handle: numberIn(args, 'handle') });
      case 'DRM_IOCTL_GEM_CLOSE':
        return this.#drm(args, DRM_IOCTL_GEM_CLOSE, {
          handle: numberIn(args, 'handle'),
          pad: Number(args['pad'] ?? 0),
        });
      case 'DRM_IOCTL_PRIME_HANDLE_TO_FD':
        return typeof args['handle'] === 'string' ? this.#exportImported() : this.#exportHandle(args);
      case 'DRM_IOCTL_PRIME_FD_TO_HANDLE':
        return 'source' in args ? this.#importSource(args) : this.#importFd(args);
      case 'fdinfo':
        return 'fd' in args
          ? { dmabuf: this.#numberOf(fd), fdinfo: this.#fdinfo(fd) }
          : { fdinfo: this.#fdinfo(this.#source) };
      case 'lseek_end': {
        const answer = { dmabuf: this.#numberOf(fd), ret: this.#app.lseek(fd, 0, 2), fdinfo: this.#fdinfo(fd) };
        this.#ret(() => this.#app.close(fd));
        return answer;
      }
      case 'close':
        this.#fds.delete(numberIn(args, 'fd'));
        return this.#ret(() => this.#app.close(fd));
      case 'close_drm_file':
        return this.#ret(() => this.#app.close(this.#file(args)));
      default:
        throw new Error(`unknown operation ${op}`);
    }
  }

  #makeDevice(name: string): DrmDevice {
    const driver = DRIVERS[name as keyof typeof DRIVERS];
    if (driver === undefined) throw new Error(`unknown driver ${name}`);
    const { sim, pages, coherency } = this.#machine;
    return new DrmDevice(sim, {
      driver,
      device: this.#machine.addDevice({ name, coherent: true, dmaMaskBits: 64 }),
      pages,
      coherency,
    });
  }

  #capability(args: JsonObject): JsonObject {
    const asked = { capability: hexIn(args, 'capability'), value: 0 };
    const answer = this.#drm(args, DRM_IOCTL_GET_CAP, asked);
    return answer['ret'] === 0 ? { ...answer, value: asked.value } : answer;
  }

  #createDumb(args: JsonObject): JsonObject {
    const [width, height, bpp] = [numberIn(args, 'width'), numberIn(args, 'height'), numberIn(args, 'bpp')];
    const asked = { width, height, bpp, handle: 0, pitch: 0, size: 0 };
    const answer = this.#drm(args, DRM_IOCTL_MODE_CREATE_DUMB, asked);
    const { handle, pitch, size } = asked;
    return answer['ret'] === 0 ? { ...answer, handle, pitch, size } : answer;
  }

  #mapDumb(args: JsonObject): JsonObject {
    const asked = { handle: numberIn(args, 'handle'), offset: 0 };
    const answer = this.#drm(args, DRM_IOCTL_MODE_MAP_DUMB, asked);
    if (answer['ret'] !== 0) return answer;
    const range = { offset: asked.offset, length: PAGE_SIZE };
    const file = this.#file(args);
    const app = this.#app;
    const { ret } = this.#ret(function* () {
      const { address, sizeBytes } = yield* app.mmap(file, range);
      app.munmap(address, sizeBytes);
    });
    return { ...answer, mmap_first_page: ret ?? null };
  }

  #exportHandle(args: JsonObject): JsonObject {
    const asked = { handle: numberIn(args, 'handle'), flags: hexIn(args, 'flags'), fd: CLOSED };
    const answer = this.#drm(args, DRM_IOCTL_PRIME_HANDLE_TO_FD, asked);
    if (answer['ret'] !== 0) return answer;
    this.#fds.set(numberIn(args, 'fd'), asked.fd);
    return {
      ...answer,
      dmabuf: this.#numberOf(asked.fd),
      getfl: `0x${this.#app.fcntl(asked.fd, F.getfl).toString(16)}`,
      getfd: this.#app.fcntl(asked.fd, F.getfd),
      size: this.#app.lseek(asked.fd, 0, 2),
    };
  }

  #importFd(args: JsonObject): JsonObject {
    const what = args['fd'];
    const fd = typeof what === 'number' ? (this.#fds.get(what) ?? CLOSED) : what === 'bad fd' ? CLOSED : ANOTHER_FILE;
    const held = this.#client(args).handles;
    const asked = { fd, handle: 0 };
    const answer = this.#drm(args, DRM_IOCTL_PRIME_FD_TO_HANDLE, asked);
    if (answer['ret'] !== 0) return answer;
    return { ...answer, handle: asked.handle, handle_already_held: held.includes(asked.handle) };
  }

  /** Imports a buffer of another kind, or the same again. */
  #importSource(args: JsonObject): JsonObject {
    const source = stringIn(args, 'source');
    const isAgain = source === 'same fd again';
    if (!isAgain) this.#source = this.#makeSource(source, numberIn(args, 'size'));
    const asked = { fd: this.#source, handle: 0 };
    const answer = this.#drm(args, DRM_IOCTL_PRIME_FD_TO_HANDLE, asked);
    if (isAgain) return { same_handle: asked.handle === this.#handle };
    this.#handle = asked.handle;
    return answer['ret'] === 0 ? { ...answer, handle: asked.handle } : answer;
  }

  #exportImported(): JsonObject {
    const asked = { handle: this.#handle, flags: O_RDWR_CLOEXEC, fd: CLOSED };
    const answer = this.#drm({}, DRM_IOCTL_PRIME_HANDLE_TO_FD, asked);
    if (answer['ret'] !== 0) return answer;
    const same = this.#app.fstat(asked.fd).ino === this.#app.fstat(this.#source).ino;
    this.#ret(() => this.#app.close(asked.fd));
    return { ...answer, same_dmabuf: same };
  }

  #makeSource(source: string, size: number): number {
    const { sim, pages, coherency, systemHeap } = this.#machine;
    const { fds } = this.#app;
    if (source === 'dma-heap system') {
      const asked = { len: size, fd_flags: O_RDWR_CLOEXEC, fd: 0 };
      this.#call(() => this.#app.ioctl(fds.install(new DmaHeapFile(systemHeap)), DMA_HEAP_IOCTL_ALLOC, asked));
      return asked.fd;
    }
    const memfd = fds.install(new Memfd(sim, { name: 'memory', flags: MFD.allowSealing, pages, coherency }));
    this.#app.ftruncate(memfd, size);
    this.#app.fcntl(memfd, F.addSeals, F_SEAL.shrink);
    const item = UDMABUF_CREATE.layout.encode({ memfd, flags: UDMABUF_FLAGS_CLOEXEC, offset: 0, size });
    return this.#call(() =>
      this.#app.ioctl(fds.install(new UdmabufFile(sim, { coherency })), UDMABUF_CREATE.code, item),
    );
  }

  #fdinfo(fd: number): Json {
    return this.#app
      .fdinfo(fd)
      .map((line) => line.replace(/^(ino|mnt)(_id)?:\t.*/, (_, what, id = '') => `${what}${id}:\t<${what}>`));
  }

  /** Which dma-buf it is; a new one gets the next number. */
  #numberOf(fd: number): number {
    const { ino } = this.#app.fstat(fd);
    if (!this.#inodes.includes(ino)) this.#inodes.push(ino);
    return this.#inodes.indexOf(ino);
  }

  #client(args: JsonObject): DrmFile {
    return this.#clients[Number(args['file'] ?? 0)] as DrmFile;
  }

  #file(args: JsonObject): number {
    return this.#files[Number(args['file'] ?? 0)] ?? CLOSED;
  }

  #drm<L extends Fields>(args: JsonObject, request: IoctlRequest<L>, asked: Partial<UserStruct<L>>): JsonObject {
    return this.#ret(() => this.#app.ioctl(this.#file(args), request, asked));
  }

  #call<T>(body: () => MaybeOp<T>): T {
    return this.#machine.sim.run(() => lift(body()));
  }

  #ret(body: () => MaybeOp<unknown>): JsonObject {
    const ret = errnoOr(() => {
      this.#call(body);
      return 0;
    });
    return { ret };
  }
}
