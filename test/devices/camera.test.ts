import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { DeadlockError, ErrnoError } from '../../src/base/errors.ts';
import type { CapturedFrame } from '../../src/devices/camera/camera-buffer.ts';
import { type CameraParams, imx219 } from '../../src/devices/camera/camera-params.ts';
import { Camera, type CameraOptions } from '../../src/devices/camera.ts';
import type { Device } from '../../src/dma-api/device.ts';
import type { Op } from '../../src/sim/op.ts';
import { Bench, errnoMessage, expectBytes, failing, pattern } from './bench.ts';

/** A frame of 192 bytes each ms; its 8 lines arrive in 0.8 ms. */
const PARAMS: CameraParams = {
  width: 16,
  height: 8,
  format: 'NV12',
  frameRate: { numerator: 1000, denominator: 1 },
  lineTimeNs: 100_000,
  startupNs: 500,
};
const FRAME_BYTES = 192;
const MS = 1_000_000;

function setUp(
  options: CameraOptions & { params?: Partial<CameraParams>; device?: Parameters<Bench['device']>[1] } = {},
) {
  const bench = new Bench();
  const { params, device, ...rest } = options;
  const dev: Device = bench.device('camera0', device);
  const camera = new Camera(dev, { ...PARAMS, ...params }, { source: (n) => pattern(FRAME_BYTES, n), ...rest });
  return { bench, sim: bench.sim, dev, camera };
}

/** Imports and queues `count` buffers. */
function* feed(bench: Bench, camera: Camera, count: number): Op<void> {
  for (let i = 0; i < count; i++) {
    const buffer = yield* camera.importBuffer(bench.buffer(`frame${i}`, 4096));
    yield* camera.qbuf(buffer);
  }
}

const seen = ({ buffer, sequence, timestampNs }: CapturedFrame) => `${buffer.buf.name} #${sequence} @${timestampNs}`;

describe('Camera timing', () => {
  it('fills queued buffers in order, one a frame, and dates them by their last line', () => {
    const { bench, sim, camera } = setUp();
    const frames = sim.run(function* () {
      yield* feed(bench, camera, 2);
      yield* camera.streamOn();
      expect(sim.now).toBe(500);
      const list: string[] = [];
      for (let i = 0; i < 5; i++) {
        const frame = yield* camera.dqbuf();
        expect(sim.now).toBe(frame.timestampNs);
        expect([frame.error, frame.bytesUsed]).toEqual([false, FRAME_BYTES]);
        const bytes = bench.bytesOf(frame.buffer.buf);
        expect(bytes.subarray(0, FRAME_BYTES)).toEqual(pattern(FRAME_BYTES, frame.sequence));
        list.push(seen(frame));
        yield* camera.qbuf(frame.buffer);
      }
      yield* camera.release();
      return list;
    });
    expect(frames).toEqual([
      'frame0 #0 @800500',
      'frame1 #1 @1800500',
      'frame0 #2 @2800500',
      'frame1 #3 @3800500',
      'frame0 #4 @4800500',
    ]);
    expect(bench.frames[1]).toBe('camera0 captured 1 @1800500');
    expect(camera.droppedFrames).toBe(0);
    bench.expectNothingLeft();
  });

  it('keeps an NTSC rate exactly', () => {
    const { bench, sim, camera } = setUp({ params: { frameRate: { numerator: 30_000, denominator: 1001 } } });
    const starts = sim.run(function* () {
      yield* feed(bench, camera, 1);
      yield* camera.streamOn();
      const list: number[] = [];
      for (let i = 0; i < 4; i++) {
        const frame = yield* camera.dqbuf();
        list.push(frame.timestampNs - 800_000 - 500);
        yield* camera.qbuf(frame.buffer);
      }
      return list;
    });
    expect(starts).toEqual([0, 33_366_666, 66_733_333, 100_100_000]);
  });

  it('drops and counts frames that start without a buffer, and goes on with the next', () => {
    const { bench, sim, camera } = setUp();
    sim.run(function* () {
      yield* feed(bench, camera, 1);
      yield* camera.streamOn();
      const frame = yield* camera.dqbuf();
      yield* sim.delay(500 + 4 * MS - sim.now);
      expect(camera.droppedFrames).toBe(3);
      yield* camera.qbuf(frame.buffer);
      expect(seen(yield* camera.dqbuf())).toBe('frame0 #4 @4800500');
      expect(camera.droppedFrames).toBe(3);
      yield* sim.delay(MS);
      yield* camera.release();
      yield* sim.delay(10 * MS);
    });
    expect(camera.droppedFrames).toBe(4);
    bench.expectNothingLeft();
  });

  it('writes lines when they have arrived, luma and chroma together, if told so', () => {
    const { bench, sim, camera } = setUp({ params: { linesPerBatch: 2 } });
    const written = sim.run(function* () {
      yield* feed(bench, camera, 1);
      yield* camera.streamOn();
      const { buf } = camera.buffers[0] ?? expect.fail('no buffer');
      yield* sim.delay(399_999);
      const before = bench.bytesOf(buf);
      yield* sim.delay(1);
      yield* sim.delay(0);
      const after = bench.bytesOf(buf);
      yield* camera.dqbuf();
      return { before, after, all: bench.bytesOf(buf) };
    });
    const picture = pattern(FRAME_BYTES, 0);
    const rows = (bytes: Uint8Array) =>
      Array.from({ length: 12 }, (_, row) => row).filter((row) => bytes[row * 16 + 1] === picture[row * 16 + 1]);
    expect(rows(written.before)).toEqual([0, 1, 8]);
    expect(rows(written.after)).toEqual([0, 1, 2, 3, 8, 9]);
    expect(written.all.subarray(0, FRAME_BYTES)).toEqual(picture);
  });

  it('puts rows at the distance of bytesPerLine', () => {
    const { bench, sim, camera } = setUp({ params: { bytesPerLine: 20, format: 'I420' } });
    const frame = sim.run(function* () {
      yield* feed(bench, camera, 1);
      yield* camera.streamOn();
      return yield* camera.dqbuf();
    });
    const bytes = bench.bytesOf(frame.buffer.buf);
    const picture = pattern(FRAME_BYTES, 0);
    expect(camera.layout.sizeBytes).toBe(240);
    expect(bytes.subarray(20, 40)).toEqual(Uint8Array.of(...picture.subarray(16, 32), 0, 0, 0, 0));
    expect(bytes.subarray(160 + 40 + 10, 160 + 40 + 18)).toEqual(picture.subarray(128 + 32 + 8, 128 + 32 + 16));
  });

  it('has a preset whose lines fit into its frames', () => {
    const { bench } = setUp();
    const camera = new Camera(bench.device('imx219'), imx219);
    expect(camera.layout.sizeBytes).toBe(1920 * 1080 * 1.5);
  });
});

describe('Camera queue', () => {
  it('moves a buffer through its states', () => {
    const { bench, sim, camera } = setUp();
    sim.run(function* () {
      const buffer = yield* camera.importBuffer(bench.buffer('frame', 4096));
      const states = [buffer.state];
      yield* camera.qbuf(buffer);
      states.push(buffer.state);
      yield* camera.streamOn();
      yield* sim.delay(1000);
      states.push(buffer.state);
      yield* sim.delay(800_000);
      states.push(buffer.state);
      yield* camera.dqbuf();
      states.push(buffer.state);
      expect(states).toEqual(['DEQUEUED', 'QUEUED', 'ACTIVE', 'DONE', 'DEQUEUED']);
    });
  });

  it('refuses what the state of a buffer does not allow', () => {
    const { bench, sim, camera } = setUp();
    const other = new Camera(bench.device('camera1'), PARAMS);
    sim.run(function* () {
      const buffer = yield* camera.importBuffer(bench.buffer('frame', 4096));
      yield* camera.qbuf(buffer);
      const again = yield* failing(() => camera.qbuf(buffer));
      expect(again).toBe('qbuf: EINVAL: frame is QUEUED, not DEQUEUED');
      expect(yield* failing(() => camera.releaseBuffer(buffer))).toContain('EBUSY: frame is QUEUED');
      expect(yield* failing(() => other.qbuf(buffer))).toContain('EINVAL: frame is no buffer of camera1');
      expect(yield* failing(() => camera.dqbuf())).toContain('EINVAL: camera0 is not streaming');
      expect(yield* failing(() => other.streamOn())).toContain('EINVAL: camera1 has no buffer');
      yield* camera.release();
    });
    bench.expectNothingLeft();
  });

  it('refuses a buffer that is smaller than a frame, naming both sizes, before it attaches', () => {
    const { bench, sim, camera } = setUp();
    const small = bench.buffer('small', FRAME_BYTES - 1);
    const message = errnoMessage('EINVAL', () => sim.run(() => camera.importBuffer(small)));
    expect(message).toContain('small has 191 bytes, a frame of camera0 needs 192');
    bench.expectNothingLeft();
  });

  it('keeps a buffer mapped from its first qbuf to streamOff with mapping stream', () => {
    const { bench, sim, camera } = setUp({ mapping: 'stream', device: { behindIommu: true } });
    const mapped = sim.run(() => mappedThrough(bench, camera));
    expect(mapped).toEqual([false, true, true, true, true, false]);
  });

  it('maps a buffer at each qbuf and unmaps it at dqbuf with mapping frame', () => {
    const { bench, sim, camera } = setUp({ mapping: 'frame', device: { behindIommu: true } });
    const mapped = sim.run(() => mappedThrough(bench, camera));
    expect(mapped).toEqual([false, true, true, false, true, false]);
  });

  it('gives all buffers back at streamOff and ends the wait for a frame with EINVAL', () => {
    const { bench, sim, camera } = setUp();
    sim.run(function* () {
      yield* feed(bench, camera, 3);
      yield* camera.streamOn();
      yield* sim.delay(1.5 * MS);
      const first = yield* camera.dqbuf();
      const waiter = sim.spawn('waiter', () => failing(() => camera.dqbuf()));
      yield* sim.delay(1);
      expect(camera.buffers.map(({ state }) => state)).toEqual(['DEQUEUED', 'ACTIVE', 'QUEUED']);
      yield* camera.streamOff();
      expect(yield* waiter.done).toContain('EINVAL: camera0 is not streaming');
      expect(camera.buffers.map(({ state, mapped }) => `${state} ${mapped}`)).toEqual(Array(3).fill('DEQUEUED false'));
      yield* camera.qbuf(first.buffer);
      yield* camera.streamOn();
      expect((yield* camera.dqbuf()).sequence).toBe(0);
      yield* camera.release();
    });
    bench.expectNothingLeft();
  });

  it('ends with EPIPE after the last frame of its source', () => {
    const { bench, sim, camera } = setUp({ source: (n) => (n === 2 ? 'end' : pattern(FRAME_BYTES, n)) });
    const sequences = sim.run(function* () {
      yield* feed(bench, camera, 4);
      yield* camera.streamOn();
      const list: number[] = [];
      const message = yield* failing(function* () {
        for (;;) list.push((yield* camera.dqbuf()).sequence);
      });
      expect(message).toBe('dqbuf: EPIPE: the source of camera0 has ended');
      yield* camera.release();
      return list;
    });
    expect([sequences, camera.ended, camera.droppedFrames]).toEqual([[0, 1], true, 0]);
    bench.expectNothingLeft();
  });

  it('does not hide a deadlock: a camera without a buffer to fill makes no events', () => {
    const { bench, sim, camera } = setUp();
    expect(() =>
      sim.run(function* () {
        yield* camera.importBuffer(bench.buffer('forgotten', 4096));
        yield* camera.streamOn();
        yield* camera.dqbuf();
      }),
    ).toThrow(DeadlockError);
  });
});

describe('Camera faults', () => {
  it('marks a frame it could not write and goes on', () => {
    const { bench, sim, dev, camera } = setUp({ device: { behindIommu: true } });
    sim.run(function* () {
      yield* feed(bench, camera, 2);
      yield* camera.streamOn();
      const domain = dev.iommuGroup?.domain;
      const [victim] = [...(domain?.cookie?.iovas.tree.ranges() ?? [])].reverse().filter((range) => !range.reserved);
      domain?.unmap(iova((victim?.firstPfn ?? 0) * 4096), 4096);
      const bad = yield* camera.dqbuf();
      expect([bad.error, bad.bytesUsed]).toEqual([true, 0]);
      expect(dev.port.faults.map(({ access, length }) => [access, length])).toEqual([['write', FRAME_BYTES]]);
      const good = yield* camera.dqbuf();
      expect([good.error, good.sequence]).toEqual([false, 1]);
    });
  });

  it('takes scattered memory, unless its DMA engine needs one piece: then an IOMMU helps', () => {
    const big = { width: 64, height: 64 };
    const source = () => pattern(6144, 1);
    const run = (contiguousOnly: boolean, behindIommu: boolean): string => {
      const { bench, sim, camera } = setUp({
        params: { ...big, contiguousOnly, lineTimeNs: 1 },
        source,
        device: { behindIommu },
      });
      const buf = bench.buffer('frame', 8192, { scattered: true });
      return sim.run(function* () {
        const buffer = yield* camera.importBuffer(buf);
        const message = yield* failing(() => camera.qbuf(buffer));
        if (message !== '') {
          expect([buffer.state, buffer.mapped]).toEqual(['DEQUEUED', false]);
          yield* camera.release();
          bench.expectNothingLeft();
          return message;
        }
        yield* camera.streamOn();
        yield* camera.dqbuf();
        expectBytes(bench.bytesOf(buf).subarray(0, 6144), source());
        return 'captured';
      });
    };
    expect(run(false, false)).toBe('captured');
    expect(run(true, true)).toBe('captured');
    expect(run(true, false)).toContain('EFAULT: frame: contiguous chunk is too small 4096/6144 bytes');
  });

  it('unwinds a qbuf that is killed while the exporter maps', () => {
    const { bench, sim, camera } = setUp();
    const buf = bench.buffer('slow', 4096, {
      ops: {
        *mapDmaBuf() {
          yield* sim.delay(1000);
          throw new ErrnoError('ENOMEM', 'map');
        },
      },
    });
    sim.run(function* () {
      const buffer = yield* camera.importBuffer(buf);
      const task = sim.spawn('queuer', () => camera.qbuf(buffer));
      yield* sim.delay(10);
      task.kill();
      expect(yield* task.exit).toBe('killed');
      expect([buffer.state, buffer.mapped, buf.resv.isLocked]).toEqual(['DEQUEUED', false, false]);
      expect(yield* failing(() => camera.qbuf(buffer))).toBe('map: ENOMEM');
      expect(buffer.state).toBe('DEQUEUED');
      yield* camera.release();
    });
    bench.expectNothingLeft();
  });

  it('goes on when a task that waits for a frame is killed: the frame goes to the next', () => {
    const { bench, sim, camera } = setUp();
    sim.run(function* () {
      yield* feed(bench, camera, 2);
      yield* camera.streamOn();
      const waiter = sim.spawn('waiter', () => camera.dqbuf());
      yield* sim.delay(1000);
      waiter.kill();
      expect(seen(yield* camera.dqbuf())).toBe('frame0 #0 @800500');
      yield* camera.release();
    });
    bench.expectNothingLeft();
  });

  it('runs without bytes in tag mode', () => {
    const bench = new Bench({ bytes: false });
    const { sim } = bench;
    const camera = new Camera(bench.device('camera0'), PARAMS);
    const frame = sim.run(function* () {
      yield* feed(bench, camera, 1);
      yield* camera.streamOn();
      return yield* camera.dqbuf();
    });
    expect([frame.error, frame.timestampNs]).toEqual([false, 800_500]);
    expect(bench.coherency.memory.regionAt(physAddr(0x8000_0000))?.name).toBe('ram');
  });

  it('refuses parameters out of range, by name', () => {
    const dev = new Bench().device('camera0');
    const bad = (params: Partial<CameraParams>) => () => new Camera(dev, { ...PARAMS, ...params });
    expect(bad({ frameRate: { numerator: 0, denominator: 1 } })).toThrow('frameRate.numerator: 0');
    expect(bad({ lineTimeNs: 125_001 })).toThrow('8 lines of 125001 ns do not fit into a frame of 1000000 ns');
    expect(bad({ startupNs: -1 })).toThrow('startupNs: -1');
    expect(bad({ linesPerBatch: 3 })).toThrow('linesPerBatch: 3');
    expect(bad({ width: 15 })).toThrow('width 15 is odd');
    expect(bad({ bytesPerLine: 8 })).toThrow('strideBytes 8');
  });

  it('refuses a source whose pictures have another size', () => {
    const { bench, sim, camera } = setUp({ source: () => new Uint8Array(100) });
    expect(() =>
      sim.run(function* () {
        yield* feed(bench, camera, 1);
        yield* camera.streamOn();
        yield* camera.dqbuf();
      }),
    ).toThrow('its source gave 100 bytes for frame 0, not 192');
  });
});

/** Whether the buffer is mapped: imported, queued, done, dequeued, queued again, after streamOff. */
function* mappedThrough(bench: Bench, camera: Camera): Op<boolean[]> {
  const buffer = yield* camera.importBuffer(bench.buffer('frame', 4096));
  const states = [buffer.mapped];
  yield* camera.qbuf(buffer);
  states.push(buffer.mapped);
  yield* camera.streamOn();
  yield* bench.sim.delay(900_000);
  states.push(buffer.mapped);
  yield* camera.dqbuf();
  states.push(buffer.mapped);
  yield* camera.qbuf(buffer);
  states.push(buffer.mapped);
  yield* camera.streamOff();
  states.push(buffer.mapped);
  return states;
}
