/** Real problem reports and provoked incoherency as scenarios: what a missing call does, and that the report names it. */
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/base/addr.ts';
import type { HazardFacts } from '../../src/base/hazards.ts';
import type { Device } from '../../src/dma-api/device.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import type { SgTable } from '../../src/dma-api/sg-table.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import type { Op } from '../../src/sim/op.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import type { Process } from '../../src/uapi/process.ts';
import type { UserMapping } from '../../src/uapi/user-mapping.ts';
import { type Bench, bench } from '../bench.ts';

const SIZE = 4 * PAGE_SIZE;
const { read, write, start, end } = DMA_BUF_SYNC;

/** A frame that a device has mapped and an application has in its address space. */
interface Scene {
  readonly b: Bench;
  readonly app: Process;
  readonly device: Device;
  readonly frame: DmaBuf;
  readonly fd: number;
  readonly view: UserMapping;
  /** As the device has it mapped. */
  readonly sgt: SgTable;
}

/** Plays `body` on a machine whose device is `coherent` or not. @returns what `body` gives, and the hazards. */
function play<T>(
  coherent: boolean,
  dir: DmaDirection,
  body: (scene: Scene) => Op<T>,
): { value: T; hazards: HazardFacts[] } {
  const b = bench({ hazards: 'record' });
  const device = b.device('camera0', { coherent, iommu: true });
  const app = b.machine.addProcess({ name: 'app' });
  const value = b.sim.run(function* () {
    const frame = b.machine.systemHeap.alloc(SIZE, 'frame1');
    const fd = app.fds.install(frame);
    const att = yield* frame.attach(device);
    const sgt = yield* att.mapUnlocked(dir);
    const view = yield* app.mmap(fd);
    const result = yield* body({ b, app, device, frame, fd, view, sgt });
    yield* att.unmapUnlocked(sgt, dir);
    yield* frame.detach(att);
    app.exit();
    return result;
  });
  return { value, hazards: b.sim.hazards };
}

/** The device writes a whole frame of `value`. */
function capture({ device, sgt }: Scene, value: number): void {
  expect(device.port.write(sgt.dmaAddress(0), new Uint8Array(SIZE).fill(value), 0, SIZE)).toBe(SIZE);
}

/** Bytes of `value` that the device reads. */
function scanOut({ device, sgt }: Scene, value: number): number {
  const out = new Uint8Array(SIZE);
  expect(device.port.read(sgt.dmaAddress(0), out, 0, SIZE)).toBe(SIZE);
  return out.filter((byte) => byte === value).length;
}

const sync = ({ app, fd }: Scene, flags: number): Op<unknown> => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags });

describe('U-01: a captured frame is read through its mapping without a sync', () => {
  function* program(scene: Scene, bracket: boolean): Op<number> {
    scene.view.read(0, SIZE);
    capture(scene, 0xc5);
    if (bracket) yield* sync(scene, start | read);
    const seen = scene.view.read(0, SIZE);
    if (bracket) yield* sync(scene, end | read);
    return seen.filter((byte) => byte !== 0xc5).length;
  }

  it('is fine on the platform whose devices snoop', () => {
    const { value, hazards } = play(true, 'from-device', (scene) => program(scene, false));
    expect([value, hazards]).toEqual([0, []]);
  });

  it('is stale on the platform whose devices do not, and the report names the ioctl with its descriptor', () => {
    const { value, hazards } = play(false, 'from-device', (scene) => program(scene, false));
    expect(value).toBe(SIZE);
    expect(hazards).toHaveLength(1);
    expect(hazards[0]).toMatchObject({
      hazard: 'cpu-read.stale',
      staleLines: SIZE / 64,
      staleBytes: SIZE,
      newestIn: 'memory',
      reader: { who: 'app', via: 'mmap of fd 3 (frame1)' },
      writer: { who: 'camera0', via: 'dma' },
      remedy: 'ioctl(3, DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ) on frame1',
    });
  });

  it.each([true, false])('is right everywhere with the bracket (device snoops: %s)', (coherent) => {
    const { value, hazards } = play(coherent, 'from-device', (scene) => program(scene, true));
    expect([value, hazards]).toEqual([0, []]);
  });
});

describe('U-34: a frame that the CPU wrote reaches the encoder incomplete', () => {
  function* program(scene: Scene, bracket: boolean): Op<number> {
    if (bracket) yield* sync(scene, start | write);
    scene.view.write(0, new Uint8Array(SIZE).fill(0x11));
    if (bracket) yield* sync(scene, end | write);
    return SIZE - scanOut(scene, 0x11);
  }

  it('without the end of the bracket, and the report names that call', () => {
    const { value, hazards } = play(false, 'to-device', (scene) => program(scene, false));
    expect(value).toBeGreaterThan(0);
    expect(hazards).toMatchObject([
      {
        hazard: 'device-read.stale',
        staleBytes: value,
        newestIn: 'cpu cache',
        reader: { who: 'camera0' },
        writer: { who: 'app', via: 'mmap of fd 3 (frame1)' },
        remedy: 'ioctl(3, DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE) on frame1',
      },
    ]);
  });

  it('but complete with the bracket, and on a device that snoops without it', () => {
    expect(play(false, 'to-device', (scene) => program(scene, true))).toEqual({ value: 0, hazards: [] });
    expect(play(true, 'to-device', (scene) => program(scene, false))).toEqual({ value: 0, hazards: [] });
  });
});

describe('U-48: a reader waits for the fence but not for the caches', () => {
  function* program(scene: Scene, how: 'fence' | 'bracket'): Op<{ atNs: number; wrong: number }> {
    const { b, frame, view } = scene;
    view.read(0, SIZE);
    const fence = yield* b.fenceOn(frame.resv, DmaResvUsage.write);
    b.sim.after(50_000, () => {
      capture(scene, 0x77);
      fence.signal();
      return undefined;
    });
    if (how === 'fence') yield* fence;
    else yield* sync(scene, start | read);
    const atNs = b.sim.now;
    const wrong = view.read(0, SIZE).filter((byte) => byte !== 0x77).length;
    if (how === 'bracket') yield* sync(scene, end | read);
    return { atNs, wrong };
  }

  it('and reads old bytes at the right time', () => {
    const { value, hazards } = play(false, 'from-device', (scene) => program(scene, 'fence'));
    expect(value.wrong).toBe(SIZE);
    expect(hazards.map(({ hazard, remedy }) => `${hazard}: ${remedy}`)).toEqual([
      'cpu-read.stale: ioctl(3, DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ) on frame1',
    ]);
  });

  it('while the bracket does both, at the same time', () => {
    const fenced = play(false, 'from-device', (scene) => program(scene, 'fence'));
    const bracketed = play(false, 'from-device', (scene) => program(scene, 'bracket'));
    expect([bracketed.value, bracketed.hazards]).toEqual([{ atNs: fenced.value.atNs, wrong: 0 }, []]);
  });
});

describe('PMC: provoked incoherency', () => {
  it('PMC-01 read: no stale word with brackets; without START the second read is stale and its lines are listed', () => {
    for (const bracket of [true, false]) {
      const { value, hazards } = play(false, 'bidirectional', function* (scene) {
        capture(scene, 0);
        yield* sync(scene, start | read);
        scene.view.read(0, SIZE);
        yield* sync(scene, end | read);
        capture(scene, 0xc5);
        if (bracket) yield* sync(scene, start | read);
        const seen = scene.view.read(0, SIZE);
        if (bracket) yield* sync(scene, end | read);
        return seen.filter((byte) => byte !== 0xc5).length;
      });
      expect(value).toBe(bracket ? 0 : SIZE);
      expect(hazards.map((facts) => ('staleLines' in facts ? [facts.hazard, facts.staleLines] : facts))).toEqual(
        bracket ? [] : [['cpu-read.stale', SIZE / 64]],
      );
    }
  });

  it('PMC-02 write: no stale word with brackets; without END some words of the copy are still 0', () => {
    for (const bracket of [true, false]) {
      const { value, hazards } = play(false, 'bidirectional', function* (scene) {
        const { b, device, view } = scene;
        const copy = b.machine.systemHeap.alloc(SIZE, 'copy');
        const att = yield* copy.attach(device);
        const sgt = yield* att.mapUnlocked('from-device');
        capture(scene, 0);
        yield* sync(scene, start | write);
        view.write(0, new Uint8Array(SIZE).fill(0x11));
        if (bracket) yield* sync(scene, end | write);
        const bytes = new Uint8Array(SIZE);
        device.port.read(scene.sgt.dmaAddress(0), bytes, 0, SIZE);
        device.port.write(sgt.dmaAddress(0), bytes, 0, SIZE);
        yield* att.unmapUnlocked(sgt, 'from-device');
        yield* copy.detach(att);
        const second = scene.app.fds.install(copy);
        const wrong = (yield* scene.app.mmap(second)).read(0, SIZE).filter((byte) => byte !== 0x11).length;
        if (!bracket) yield* sync(scene, end | write);
        return wrong;
      });
      if (bracket) expect([value, hazards]).toEqual([0, []]);
      else {
        expect(value).toBeGreaterThan(0);
        expect(hazards.map(({ hazard }) => hazard)).toEqual(['device-read.stale']);
        expect(hazards[0]?.remedy).toContain('DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE) on frame1');
      }
    }
  });
});
