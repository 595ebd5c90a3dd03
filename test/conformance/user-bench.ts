/** The process of `fence-user` and `dma-buf-user`: its calls with the kernel's answers in the words of the vectors. */
import { ErrnoError } from '../../src/base/errors.ts';
import type { Machine } from '../../src/platform/machine.ts';
import { pc } from '../../src/platform/pc.ts';
import { lift, type MaybeOp } from '../../src/sim/op.ts';
import { SYNC_FENCE_INFO, SYNC_IOC_FILE_INFO, SYNC_IOC_MERGE } from '../../src/uapi/fence-file.ts';
import type { Process } from '../../src/uapi/process.ts';
import { SW_SYNC_IOC_CREATE_FENCE, SW_SYNC_IOC_INC, SW_SYNC_PATH } from '../../src/uapi/sw-sync.ts';
import { type Json, type JsonObject, numberIn, parseAddress, stringIn } from './vector-case.ts';

/** A descriptor that was never opened, as the recorder used it for what is closed or failed. */
export const CLOSED = -1;

/** A descriptor of a file that is neither a dma-buf nor a sync file. */
export const ANOTHER_FILE = 0;

/** One process on one machine. */
export class UserBench {
  readonly machine: Machine = pc({ vtd: false, hazards: 'record', shadow: false, swiotlbBytes: 0 });
  readonly app: Process = this.machine.addProcess({ name: 'user' });
  /** Descriptors of sync files and timelines, by the numbers of the case. */
  readonly #fences = new Map<number, number>();
  readonly #timelines = new Map<number, number>();

  /** Runs `body` as the process does. */
  call<T>(body: () => MaybeOp<T>): T {
    return this.machine.sim.run(() => lift(body()));
  }

  /** 0, or the errno that `body` ends with: `'-EINVAL'`. */
  ret(body: () => MaybeOp<unknown>): Json {
    return errnoOr(() => {
      this.call(body);
      return 0;
    });
  }

  fence(number: number): number {
    return this.#fences.get(number) ?? CLOSED;
  }

  setFence(number: number, fd: number): void {
    this.#fences.set(number, fd);
  }

  timeline(number: number): number {
    return this.#timelines.get(number) ?? CLOSED;
  }

  openTimeline(number: number): void {
    this.#timelines.set(
      number,
      this.call(() => this.app.open(SW_SYNC_PATH)),
    );
  }

  /** The answer to an operation that both families have; `null` for any other. */
  step(op: string, args: JsonObject): JsonObject | null {
    switch (op) {
      case 'open_sw_sync':
        this.openTimeline(numberIn(args, 'timeline'));
        return { ret: 0 };
      case 'SW_SYNC_IOC_CREATE_FENCE':
        return { ret: this.#createFence(args) };
      case 'SW_SYNC_IOC_INC': {
        const [fd, value] = [this.timeline(numberIn(args, 'timeline')), numberIn(args, 'value')];
        return { ret: this.ret(() => this.app.ioctl(fd, SW_SYNC_IOC_INC, { value })) };
      }
      case 'SYNC_IOC_MERGE':
        return { ret: this.#merge(args) };
      case 'close_timeline':
        return { ret: this.#close(this.#timelines, numberIn(args, 'timeline')) };
      case 'close_fence':
        return { ret: this.#close(this.#fences, numberIn(args, 'fence')) };
      case 'dup': {
        const ret = errnoOr(() => {
          this.setFence(numberIn(args, 'new'), this.app.fds.dup(this.fence(numberIn(args, 'fence'))));
          return 0;
        });
        return { ret };
      }
      default:
        return null;
    }
  }

  /** A fence's number, or what kind of descriptor to take. */
  fileOf(what: Json | undefined): number {
    if (typeof what === 'number') return this.fence(what);
    return what === 'bad fd' ? CLOSED : ANOTHER_FILE;
  }

  /** SYNC_IOC_FILE_INFO. */
  info(fd: number, asked: { num_fences: number; flags?: number; pad?: number }): JsonObject {
    const room = new Uint8Array(asked.num_fences * SYNC_FENCE_INFO.sizeBytes);
    const info = { ...asked, sync_fence_info: asked.num_fences === 0 ? null : room };
    const ret = this.ret(() => this.app.ioctl(fd, SYNC_IOC_FILE_INFO, info));
    if (ret !== 0) return { ret };
    return { ret, ...told(info), fences: fencesIn(room, asked.num_fences === 0 ? 0 : info.num_fences) };
  }

  /** poll() of one descriptor with timeout 0. */
  poll(fd: number, events: number): JsonObject {
    const request = { fd, events, revents: 0 };
    const ret = this.call(() => this.app.poll([request], 0));
    return { ret, revents: `0x${request.revents.toString(16)}` };
  }

  #createFence(args: JsonObject): Json {
    const asked = { value: numberIn(args, 'value'), name: 'fence', fence: CLOSED };
    const fd = this.timeline(numberIn(args, 'timeline'));
    const ret = this.ret(() => this.app.ioctl(fd, SW_SYNC_IOC_CREATE_FENCE, asked));
    if (ret === 0) this.setFence(numberIn(args, 'fence'), asked.fence);
    return ret;
  }

  #merge(args: JsonObject): Json {
    const [flags, pad] = [args['flags'] ?? 0, args['pad'] ?? 0].map(Number);
    const fd2 = this.fileOf(args['fd2']);
    const asked = { name: stringIn(args, 'name'), fd2, fence: CLOSED, flags: flags ?? 0, pad: pad ?? 0 };
    const ret = this.ret(() => this.app.ioctl(this.fence(numberIn(args, 'fence')), SYNC_IOC_MERGE, asked));
    if (ret === 0) this.setFence(numberIn(args, 'new'), asked.fence);
    return ret;
  }

  #close(table: Map<number, number>, number: number): Json {
    const ret = this.ret(() => this.app.close(table.get(number) ?? CLOSED));
    table.delete(number);
    return ret;
  }
}

/** What `body` gives, or the errno it ends with. */
export function errnoOr(body: () => Json): Json {
  try {
    return body();
  } catch (error) {
    if (error instanceof ErrnoError) return `-${error.code}`;
    throw error;
  }
}

/** Flags in hexadecimal. */
export function hexIn(args: JsonObject, key: string): number {
  return parseAddress(stringIn(args, key));
}

function told(info: { name?: string; status?: number; num_fences: number }): JsonObject {
  return { name: withoutContext(info.name ?? ''), status: info.status ?? 0, num_fences: info.num_fences };
}

function fencesIn(room: Uint8Array, count: number): JsonObject[] {
  return Array.from({ length: count }, (_, at) => {
    const bytes = room.subarray(at * SYNC_FENCE_INFO.sizeBytes, (at + 1) * SYNC_FENCE_INFO.sizeBytes);
    const { obj_name, driver_name, status, flags, timestamp_ns } = SYNC_FENCE_INFO.decode(bytes);
    return { obj_name, driver_name, status, flags, timestamp_set: timestamp_ns !== 0 };
  });
}

/** The number of a context in a name that the kernel made is as good as any. */
function withoutContext(name: string): string {
  return name.replace(/^(sw_sync-user|stub-stub|dma_fence_array-unbound)\d+-/, '$1<ctx>-');
}
