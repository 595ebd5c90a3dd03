/** A machine with two cards and a heap that processes open by path, and what tests of processes share. */
import { expect } from 'vitest';
import { ErrnoError } from '../../src/base/errors.ts';
import { MIB } from '../../src/base/units.ts';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import { countLiveDmaFences } from '../../src/dmabuf/dma-fence-world.ts';
import { lift, type MaybeOp, type Op } from '../../src/sim/op.ts';
import { deviceNodes } from '../../src/uapi/device-nodes.ts';
import { DMA_HEAP_IOCTL_ALLOC, DmaHeapFile } from '../../src/uapi/dma-heap-file.ts';
import { DrmDevice, type DrmDriver, vgemDriver, vkmsDriver } from '../../src/uapi/drm-device.ts';
import { DrmFile } from '../../src/uapi/drm-file.ts';
import {
  DRM_IOCTL_MODE_CREATE_DUMB,
  DRM_IOCTL_PRIME_FD_TO_HANDLE,
  DRM_IOCTL_PRIME_HANDLE_TO_FD,
} from '../../src/uapi/drm-ioctl.ts';
import { O } from '../../src/uapi/file.ts';
import type { Process } from '../../src/uapi/process.ts';
import { SW_SYNC_IOC_CREATE_FENCE } from '../../src/uapi/sw-sync.ts';
import { Bench, type BenchOptions } from '../bench.ts';

export const HEAP = '/dev/dma_heap/system';
export const CARDS = ['/dev/dri/card0', '/dev/dri/card1'] as const;

/** Options for a test that makes many machines. */
export const SMALL: BenchOptions = { shadow: false, ramBytes: 16 * MIB, cmaBytes: 4 * MIB };

/** The stub that stands for every fence that has signalled stays for good. */
const STUBS = 1;

export class System extends Bench {
  /** `card0` makes fences, `card1` has sync objects. */
  readonly cards: readonly [DrmDevice, DrmDevice];

  constructor(options: BenchOptions = {}) {
    super(options);
    const drivers: [DrmDriver, DrmDriver] = [vgemDriver, { ...vkmsDriver, syncobj: 'timeline' }];
    const nodes = deviceNodes(this.sim);
    const card = (driver: DrmDriver, i: number): DrmDevice => {
      const { pages, coherency } = this.machine;
      const device = this.device(`card${i}`, { coherent: true });
      const drm = new DrmDevice(this.sim, { driver, device, pages, coherency });
      nodes.add(CARDS[i] ?? '', (_process, flags) => new DrmFile(drm, flags));
      return drm;
    };
    this.cards = [card(drivers[0], 0), card(drivers[1], 1)];
    nodes.add(HEAP, (_process, flags) => new DmaHeapFile(this.machine.systemHeap, flags));
  }

  /** Nothing is left: no memory, buffer, object or fence. Let everything that is due happen before. */
  expectNothingLeft(): void {
    expect(this.leftovers()).toEqual([]);
    expect(dmaBufCore(this.sim).buffers.map(({ name }) => name)).toEqual([]);
    expect(this.cards.flatMap((card) => card.objects.map(({ name }) => name))).toEqual([]);
    expect(countLiveDmaFences(this.sim)).toBeLessThanOrEqual(STUBS);
    expect(dmaBufCore(this.sim).warnings).toEqual([]);
  }
}

/** The code of the ErrnoError that `body` ends with; `'ok'` without one. */
export function* outcome(body: () => MaybeOp<unknown>): Op<string> {
  try {
    yield* lift(body());
    return 'ok';
  } catch (error) {
    if (error instanceof ErrnoError) return error.code;
    throw error;
  }
}

/** A new buffer of the heap. @returns its descriptor. */
export function* allocBuffer(process: Process, len = 4096): Op<number> {
  const heap = yield* process.open(HEAP);
  const { fd } = yield* process.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, { len, fd_flags: O.rdwr });
  yield* process.close(heap);
  return fd;
}

/** A new object of a card: `height` rows of 4 KiB. @returns its handle. */
export function* createDumb(process: Process, card: number, height = 1): Op<number> {
  return (yield* process.ioctl(card, DRM_IOCTL_MODE_CREATE_DUMB, { width: 1024, height, bpp: 32 })).handle;
}

export function* handleToFd(process: Process, card: number, handle: number, flags: number = O.rdwr): Op<number> {
  return (yield* process.ioctl(card, DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle, flags })).fd;
}

export function* fdToHandle(process: Process, card: number, fd: number): Op<number> {
  return (yield* process.ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd })).handle;
}

/** A sync file for `value` of a timeline. @returns its descriptor. */
export function* fenceAt(process: Process, timeline: number, value: number): Op<number> {
  return (yield* process.ioctl(timeline, SW_SYNC_IOC_CREATE_FENCE, { value, name: 'fence' })).fence;
}
