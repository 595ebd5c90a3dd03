/** What the tests' programs do with fences and buffers, each in one call: a small libsync. */
import type { Op } from '../../src/sim/op.ts';
import { DMA_BUF_IOCTL_EXPORT_SYNC_FILE, DMA_BUF_IOCTL_IMPORT_SYNC_FILE } from '../../src/uapi/dma-buf-file.ts';
import { SYNC_FENCE_INFO, SYNC_IOC_FILE_INFO, SYNC_IOC_MERGE } from '../../src/uapi/fence-file.ts';
import { POLL } from '../../src/uapi/file.ts';
import type { Process } from '../../src/uapi/process.ts';
import { SW_SYNC_IOC_CREATE_FENCE, SW_SYNC_IOC_INC, SW_SYNC_PATH } from '../../src/uapi/sw-sync.ts';

export const MS = 1_000_000;

/** A timeline of the process's own. */
export class Timeline {
  readonly app: Process;
  readonly fd: number;

  constructor(app: Process, fd: number) {
    this.app = app;
    this.fd = fd;
  }

  *fence(value: number): Op<number> {
    return (yield* this.app.ioctl(this.fd, SW_SYNC_IOC_CREATE_FENCE, { value, name: 'fence' })).fence;
  }

  *inc(value: number): Op<void> {
    yield* this.app.ioctl(this.fd, SW_SYNC_IOC_INC, { value });
  }

  close(): Op<void> {
    return this.app.close(this.fd);
  }
}

export function* openTimeline(app: Process): Op<Timeline> {
  return new Timeline(app, yield* app.open(SW_SYNC_PATH));
}

export function* merge(app: Process, fd: number, fd2: number): Op<number> {
  return (yield* app.ioctl(fd, SYNC_IOC_MERGE, { name: 'merged', fd2 })).fence;
}

/** Waits for a sync file. @returns whether it has signalled; false when the time was up. */
export function* wait(app: Process, fd: number, timeoutNs = -1): Op<boolean> {
  return (yield* app.poll([{ fd, events: POLL.in }], timeoutNs)) === 1;
}

/** How many fences of a sync file are pending, signalled, failed. */
export function* counts(app: Process, fd: number): Op<{ active: number; signaled: number; failed: number }> {
  const { num_fences } = yield* app.ioctl(fd, SYNC_IOC_FILE_INFO, {});
  const room = new Uint8Array(num_fences * SYNC_FENCE_INFO.sizeBytes);
  yield* app.ioctl(fd, SYNC_IOC_FILE_INFO, { num_fences, sync_fence_info: room });
  const found = { active: 0, signaled: 0, failed: 0 };
  for (let i = 0; i < num_fences; i++) {
    const { status } = SYNC_FENCE_INFO.decode(room.subarray(i * SYNC_FENCE_INFO.sizeBytes));
    if (status === 0) found.active++;
    else if (status === 1) found.signaled++;
    else found.failed++;
  }
  return found;
}

export function* exportSyncFile(app: Process, fd: number, flags: number): Op<number> {
  return (yield* app.ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, { flags })).fd;
}

export function* importSyncFile(app: Process, buffer: number, flags: number, fd: number): Op<void> {
  yield* app.ioctl(buffer, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, { flags, fd });
}

/** Whether poll finds nothing ready of `events`. */
export function* isBusy(app: Process, fd: number, events: number): Op<boolean> {
  const request = { fd, events, revents: 0 };
  yield* app.poll([request], 0);
  return request.revents !== events;
}
