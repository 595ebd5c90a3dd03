/**
 * Requests as DRM and the heaps take them: only the number in the subsystem chooses what is done, the struct may be shorter or
 * longer than the kernel's, and what is copied in and out follows the bits of the caller's request.
 *
 * @see Linux 6.1 `drivers/gpu/drm/drm_ioctl.c` drm_ioctl; `drivers/dma-buf/dma-heap.c` dma_heap_ioctl
 */
import { type Fields, type IoctlCall, type IoctlRequest, ioctlParts, type KernelStruct } from './ioctl.ts';

const READS = 1;
const WRITES = 2;

/** @internal One request with its struct copied in. */
export class SizedCall<F extends Fields> {
  readonly call: IoctlCall;
  /** Fields that the caller's struct lacks are 0. */
  readonly args: KernelStruct<F>;
  readonly #request: IoctlRequest<F>;
  readonly #given: Uint8Array;

  /** @throws {ErrnoError} `EFAULT` the process cannot read the struct (never retry). */
  constructor(call: IoctlCall, request: IoctlRequest<F>) {
    const { dir, sizeBytes } = ioctlParts(call.code);
    const reads = (dir & ioctlParts(request.code).dir & READS) !== 0;
    this.call = call;
    this.#request = request;
    this.#given = reads ? call.memory.copyFrom(call.argument, sizeBytes) : new Uint8Array();
    this.args = request.layout.decode(this.#given);
  }

  /**
   * Copies the struct back with the fields of `answer` changed, as far as the caller's reaches.
   *
   * @throws {ErrnoError} `EFAULT` the process cannot write there (never retry).
   */
  answer(answer: Partial<KernelStruct<F>>): void {
    const { dir, sizeBytes } = ioctlParts(this.call.code);
    if ((dir & ioctlParts(this.#request.code).dir & WRITES) === 0) return;
    const out = new Uint8Array(sizeBytes);
    out.set(this.#given);
    const known = this.#request.layout.encode({ ...this.args, ...answer } as never);
    out.set(known.subarray(0, sizeBytes));
    this.call.memory.copyTo(this.call.argument, out);
  }
}

/** @internal The call of a request: `SizedFor<typeof DRM_IOCTL_GEM_OPEN>`. */
export type SizedFor<R> = R extends IoctlRequest<infer F extends Fields> ? SizedCall<F> : never;
