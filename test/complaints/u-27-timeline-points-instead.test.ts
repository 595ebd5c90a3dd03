/** The fix of U-26 without implicit fences: an acquire point on a timeline that both share. */
import { describe, expect, it } from 'vitest';
import {
  addDrmNode,
  type DmaFence,
  DRM_IOCTL_SYNCOBJ_CREATE,
  DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE,
  DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD,
  DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT,
  DRM_IOCTL_SYNCOBJ_TRANSFER,
  DRM_SYNCOBJ,
  DrmDevice,
  type Op,
  vgemDriver,
} from '../../src/index.ts';
import { freeHardware, reports } from './scene.ts';
import { drawAndSample, type Handover, type Stage, syncFileOf } from './tearing.ts';

const CARD = '/dev/dri/card0';
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: number): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);

/** The client's drawing of frame n is point n; the compositor waits for it, or does not. */
class AcquirePoints implements Handover {
  readonly implicit = false;
  readonly honoursImplicit = false;
  readonly #waits: boolean;
  #mine = { card: -1, timeline: 0, box: 0 };
  #theirs = { card: -1, timeline: 0 };

  constructor(waits: boolean) {
    this.#waits = waits;
  }

  *send(stage: Stage, frame: number, drawn: DmaFence): Op<void> {
    if (this.#mine.card < 0) yield* this.#share(stage);
    const { client } = stage;
    const { card, timeline, box } = this.#mine;
    const fd = syncFileOf(client, drawn);
    yield* client.ioctl(card, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { handle: box, fd, flags: DRM_SYNCOBJ.syncFile });
    yield* client.close(fd);
    yield* client.ioctl(card, DRM_IOCTL_SYNCOBJ_TRANSFER, { src_handle: box, dst_handle: timeline, dst_point: frame });
  }

  *receive({ compositor }: Stage, frame: number): Op<void> {
    if (!this.#waits) return;
    const { card, timeline } = this.#theirs;
    yield* compositor.ioctl(card, DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, {
      ...{ handles: u32(timeline), points: u64(frame), count_handles: 1, timeout_nsec: 1e9 },
      flags: DRM_SYNCOBJ.waitForSubmit,
    });
  }

  /** Makes the timeline, and gives it to the compositor. */
  *#share({ machine, client, compositor }: Stage): Op<void> {
    const { sim, pages, coherency } = machine;
    const device = machine.addDevice({ name: 'card0', coherent: true });
    const driver = { ...vgemDriver, syncobj: 'timeline' } as const;
    addDrmNode(new DrmDevice(sim, { driver, device, pages, coherency }), CARD);
    const card = yield* client.open(CARD);
    const timeline = (yield* client.ioctl(card, DRM_IOCTL_SYNCOBJ_CREATE, {})).handle;
    const box = (yield* client.ioctl(card, DRM_IOCTL_SYNCOBJ_CREATE, {})).handle;
    this.#mine = { card, timeline, box };
    const { fd } = yield* client.ioctl(card, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle: timeline });
    const [near, far] = client.socketpair();
    client.sendmsg(near, { bytes: Uint8Array.of(0), fds: [fd] });
    const other = compositor.fds.install(client.fds.file(far, 'test').get());
    const [shared = -1] = (yield* compositor.recvmsg(other)).fds;
    const theirs = yield* compositor.open(CARD);
    const { handle } = yield* compositor.ioctl(theirs, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { fd: shared });
    this.#theirs = { card: theirs, timeline: handle };
  }
}

describe('U-27: "explicit sync: the client says at which point of a timeline its picture is drawn"', () => {
  it('shows no torn frame, though nobody looks at implicit fences', () => {
    const { torn, machine } = drawAndSample(new AcquirePoints(true));
    expect([torn, reports(machine.sim)]).toEqual([0, []]);
    for (const options of freeHardware()) {
      const run = drawAndSample(new AcquirePoints(true), options);
      expect([run.torn, reports(run.machine.sim)]).toEqual([0, []]);
    }
  });

  it('tears each frame, and is reported, when the compositor does not wait for the point', () => {
    const { torn, machine } = drawAndSample(new AcquirePoints(false));
    expect(torn).toBe(5);
    expect(machine.sim.hazards[0]).toMatchObject({ hazard: 'access.read-while-writing', second: { who: 'gpu1' } });
  });
});
