/** Buffers that a display shows: of its own, and of another card. */
import { expect, it } from 'vitest';
import type { DisplayParams } from '../../src/devices/display/display-params.ts';
import { Display } from '../../src/devices/display.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import type { Op } from '../../src/sim/op.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { DRM_IOCTL_MODE_MAP_DUMB } from '../../src/uapi/drm-ioctl.ts';
import type { Process } from '../../src/uapi/process.ts';
import { word } from './render.ts';
import { allocBuffer, CARDS, createDumb, handleToFd, System } from './system.ts';

const MODE = { pixelClockKhz: 200_000, hdisplay: 64, htotal: 80, vdisplay: 64, vtotal: 80 };
const PARAMS: DisplayParams = { mode: MODE, strideAlignBytes: 64 };
/** Four pages. */
const FORMAT = { width: 64, height: 64, strideBytes: 256, format: 'XR24' } as const;
const FRAME_BYTES = 16_384;
const COLOURS = { black: 0xff00_0000, white: 0xffff_ffff, red: 0xffff_0000 };

/** A checksum of what went to the panel. */
function crc(bytes: Uint8Array | null): string {
  let sum = 0xffff_ffff;
  for (const byte of bytes ?? []) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ ((sum & 1) === 0 ? 0 : 0xedb8_8320);
  }
  return (~sum >>> 0).toString(16);
}

function setUp(names: readonly string[] = ['display0']) {
  const system = new System();
  const app = system.machine.addProcess({ name: 'app' });
  const crcs: string[] = [];
  const displays = names.map((name) => {
    const device = system.device(name, { iommu: true });
    const onScanout = ({ bytes }: { bytes: Uint8Array | null }): undefined => {
      crcs.push(`${name} ${crc(bytes)}`);
    };
    return new Display(device, PARAMS, { onScanout });
  });
  return { system, app, crcs, displays };
}

/** Fills a buffer by its descriptor. */
function* fill(app: Process, fd: number, colour: number): Op<void> {
  const picture = new Uint8Array(FRAME_BYTES);
  for (let at = 0; at < FRAME_BYTES; at += 4) picture.set(word(colour), at);
  const map = yield* app.mmap(fd);
  yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: DMA_BUF_SYNC.start | DMA_BUF_SYNC.write });
  map.write(0, picture);
  yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: DMA_BUF_SYNC.end | DMA_BUF_SYNC.write });
  map.munmap();
}

/** A buffer of the software card, filled by its own mapping, which is write-combined. */
function* vgemBuffer(app: Process, colour: number): Op<number> {
  const card = yield* app.open(CARDS[0]);
  const handle = yield* createDumb(app, card, FRAME_BYTES / 4096);
  const { offset } = yield* app.ioctl(card, DRM_IOCTL_MODE_MAP_DUMB, { handle });
  const map = yield* app.mmap(card, { offset, length: FRAME_BYTES });
  for (let at = 0; at < FRAME_BYTES; at += 4) map.write(at, word(colour));
  map.munmap();
  const fd = yield* handleToFd(app, card, handle);
  yield* app.close(card);
  return fd;
}

function* nativeBuffer(app: Process, colour: number): Op<number> {
  const fd = yield* allocBuffer(app, FRAME_BYTES);
  yield* fill(app, fd, colour);
  return fd;
}

/** Shows a buffer for one frame. */
function* show(app: Process, display: Display, fd: number): Op<void> {
  const buf = app.fds.get(fd);
  const framebuffer = yield* display.importFramebuffer(buf, FORMAT);
  buf.put();
  display.enable();
  yield* display.pageFlip(framebuffer);
  yield* display.waitVblank();
  yield* display.release();
}

it('KMP-01: a picture of another card looks as the same picture of its own; different pictures look different', () => {
  const { system, app, crcs, displays } = setUp();
  const [display] = displays;
  if (display === undefined) throw new Error('no display');
  system.sim.run(function* () {
    for (const make of [vgemBuffer, nativeBuffer]) {
      for (const colour of Object.values(COLOURS)) {
        const fd = yield* make(app, colour);
        yield* show(app, display, fd);
        yield* app.close(fd);
      }
    }
  });
  expect(crcs).toHaveLength(6);
  const [prime, native] = [crcs.slice(0, 3), crcs.slice(3)];
  for (const [i, one] of prime.entries()) {
    for (const [j, other] of native.entries()) expect([i, j, one === other]).toEqual([i, j, i === j]);
  }
  app.exit();
  system.sim.run();
  system.expectNothingLeft();
});

it('KMP-03: one display is set up with a shared picture while another shows its own', () => {
  const { system, app, crcs, displays } = setUp(['display0', 'display1']);
  const [first, second] = displays;
  if (first === undefined || second === undefined) throw new Error('no displays');
  system.sim.run(function* () {
    const fds = [yield* nativeBuffer(app, COLOURS.white), yield* vgemBuffer(app, COLOURS.white)];
    const own = app.fds.get(fds[0] ?? -1);
    const framebuffer = yield* first.importFramebuffer(own, FORMAT);
    own.put();
    first.enable();
    yield* first.pageFlip(framebuffer);
    yield* show(app, second, fds[1] ?? -1);
    expect([first.enabled, first.current, first.underruns]).toEqual([true, framebuffer, 0]);
    yield* first.release();
  });
  const white = crcs[0]?.split(' ')[1];
  expect(crcs).toEqual([`display0 ${white}`, `display1 ${white}`]);
  app.exit();
  system.sim.run();
  system.expectNothingLeft();
});
