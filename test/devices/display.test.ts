import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { ErrnoError, HazardError } from '../../src/base/errors.ts';
import { type DisplayParams, hdmi1080p60 } from '../../src/devices/display/display-params.ts';
import type { FramebufferFormat } from '../../src/devices/display/framebuffer.ts';
import { Display, type DisplayOptions, type ScanoutFrame } from '../../src/devices/display.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import { Bench, errnoMessage, expectBytes, failing, pattern } from './bench.ts';

/** 16x8 pixels; a line takes 100 ns, a frame 1000 ns, of which the first 200 are blanking. */
const PARAMS: DisplayParams = {
  mode: { pixelClockKhz: 200_000, hdisplay: 16, htotal: 20, vdisplay: 8, vtotal: 10 },
  strideAlignBytes: 32,
};
const FORMAT: FramebufferFormat = { width: 16, height: 8, strideBytes: 64, format: 'XR24' };
const FRAME_BYTES = 512;

function setUp(params: Partial<DisplayParams> = {}, device: Parameters<Bench['device']>[1] = {}, tag = false) {
  const bench = new Bench({ bytes: !tag });
  const shown: string[] = [];
  const bytes: (Uint8Array | null)[] = [];
  const options: DisplayOptions = {
    onScanout: (frame: ScanoutFrame) => {
      const mark = frame.underrun ? ' underrun' : '';
      shown.push(`${frame.framebuffer.buf.name} ${frame.sequence} (${frame.timestampNs}) @${bench.sim.now}${mark}`);
      bytes.push(frame.bytes?.slice() ?? null);
      return undefined;
    },
  };
  const dev = bench.device('display0', device);
  const display = new Display(dev, { ...PARAMS, ...params }, options);
  const frame = (name: string, seed: number) => {
    const buf = bench.buffer(name, 4096);
    if (!tag) bench.fill(buf, pattern(FRAME_BYTES, seed));
    return buf;
  };
  return { bench, sim: bench.sim, dev, display, shown, bytes, frame };
}

describe('Display.importFramebuffer', () => {
  it('refuses what the mode can not show, naming both numbers, before it attaches', () => {
    const { bench, sim, display } = setUp();
    const buf = bench.buffer('fb', FRAME_BYTES);
    const refused = (format: Partial<FramebufferFormat>) =>
      errnoMessage('EINVAL', () => sim.run(() => display.importFramebuffer(buf, { ...FORMAT, ...format })));
    expect(refused({ width: 8 })).toContain('fb: 8x8; its mode is 16x8');
    expect(refused({ strideBytes: 32 })).toContain('strideBytes 32 is less than the 64 bytes of a row');
    expect(refused({ strideBytes: 72 })).toContain('strideBytes 72 is no multiple of 32');
    expect(refused({ strideBytes: 96 })).toContain('it has 512 bytes, the picture needs 768');
    expect(refused({ format: 'NV12' as 'XR24' })).toContain('format NV12; it shows XR24');
    expect(display.framebuffers).toEqual([]);
    bench.expectNothingLeft();
  });

  it('refuses scattered memory without an IOMMU and leaves nothing; behind one it shows it', () => {
    const mode = { pixelClockKhz: 200_000, hdisplay: 64, htotal: 80, vdisplay: 64, vtotal: 80 };
    const format: FramebufferFormat = { width: 64, height: 64, strideBytes: 256, format: 'XR24' };
    const direct = setUp({ mode });
    const scattered = direct.bench.buffer('fb', 16_384, { scattered: true });
    const message = errnoMessage('EINVAL', () =>
      direct.sim.run(() => direct.display.importFramebuffer(scattered, format)),
    );
    expect(message).toContain('fb: 4 separate segments, the first of 4096 bytes; scanout needs 16384 in one');
    expect(message).toContain('contiguous memory or put the display behind an IOMMU');
    direct.bench.expectNothingLeft();

    const behind = setUp({ mode }, { behindIommu: true });
    const same = behind.bench.buffer('fb', 16_384, { scattered: true });
    const picture = pattern(16_384, 9);
    behind.bench.fill(same, picture);
    behind.sim.run(function* () {
      const fb = yield* behind.display.importFramebuffer(same, format);
      behind.display.enable();
      yield* behind.display.pageFlip(fb);
      yield* behind.display.waitVblank();
      yield* behind.display.release();
    });
    expect(behind.bytes).toHaveLength(1);
    expectBytes(behind.bytes[0], picture);
    behind.bench.expectNothingLeft();
  });

  it('leaves nothing when mapping fails or the import is killed', () => {
    const { bench, sim, display } = setUp();
    const buf = bench.buffer('fb', 4096, {
      ops: {
        *mapDmaBuf() {
          yield* sim.delay(100);
          throw new ErrnoError('ENOMEM', 'map');
        },
      },
    });
    expect(errnoMessage('ENOMEM', () => sim.run(() => display.importFramebuffer(buf, FORMAT)))).toBe('map: ENOMEM');
    sim.run(function* () {
      const task = sim.spawn('importer', () => display.importFramebuffer(buf, FORMAT));
      yield* sim.delay(50);
      expect(buf.attachments).toHaveLength(1);
      task.kill();
      yield* task.exit;
    });
    bench.expectNothingLeft();
  });
});

describe('Display.pageFlip', () => {
  it('latches at the next vblank and scans the frame out after the blanking', () => {
    const { bench, sim, display, shown, bytes, frame } = setUp();
    sim.run(function* () {
      const [a, b] = [
        yield* display.importFramebuffer(frame('a', 1), FORMAT),
        yield* display.importFramebuffer(frame('b', 2), FORMAT),
      ];
      yield* sim.delay(50);
      display.enable();
      expect(yield* display.pageFlip(a)).toEqual({ vblankSequence: 1, timestampNs: 1050 });
      expect([sim.now, display.current, shown.length]).toEqual([1050, a, 0]);
      yield* sim.delay(2500);
      expect(yield* display.pageFlip(b, { frame: 7 })).toEqual({ vblankSequence: 4, timestampNs: 4050 });
      expect(yield* display.pageFlip(a)).toEqual({ vblankSequence: 5, timestampNs: 5050 });
      yield* display.waitVblank();
      yield* display.release();
    });
    expect(shown).toEqual(['a 1 (1050) @1250', 'b 4 (4050) @4250', 'a 5 (5050) @5250']);
    expect(bytes).toEqual([pattern(FRAME_BYTES, 1), pattern(FRAME_BYTES, 2), pattern(FRAME_BYTES, 1)]);
    expect(bench.frames.slice(0, 4)).toEqual([
      'display0 latched 1 @1050',
      'display0 scanned out 1 @1250',
      'display0 latched 7 @4050',
      'display0 scanned out 7 @4250',
    ]);
    expect(display.underruns).toBe(0);
    bench.expectNothingLeft();
  });

  it('is too late for a vblank at this very instant', () => {
    const { sim, display, frame } = setUp();
    const done = sim.run(function* () {
      const fb = yield* display.importFramebuffer(frame('a', 1), FORMAT);
      display.enable();
      yield* sim.delay(3000);
      return yield* display.pageFlip(fb);
    });
    expect(done).toEqual({ vblankSequence: 4, timestampNs: 4000 });
  });

  it('waits for writers and not for readers, and shows the old frame meanwhile', () => {
    const { bench, sim, display, frame } = setUp();
    const [old, next] = [frame('old', 1), frame('next', 2)];
    const writer = bench.fenceOn(next);
    const reader = bench.fenceOn(next, DmaResvUsage.read);
    sim.run(function* () {
      const [a, b] = [yield* display.importFramebuffer(old, FORMAT), yield* display.importFramebuffer(next, FORMAT)];
      display.enable();
      yield* display.pageFlip(a);
      const flip = sim.spawn('flip', () => display.pageFlip(b));
      yield* sim.delay(4500);
      expect([flip.outcome, display.flipPending, display.current]).toEqual([null, true, a]);
      expect(yield* failing(() => display.releaseFramebuffer(a))).toContain('EBUSY: old is shown or about to be');
      expect(yield* failing(() => display.releaseFramebuffer(b))).toContain('EBUSY: next is shown or about to be');
      writer.signal();
      expect(yield* flip.done).toEqual({ vblankSequence: 6, timestampNs: 6000 });
      yield* display.releaseFramebuffer(a);
      expect(reader.signaled).toBe(false);
      reader.signal();
      yield* display.release();
    });
    bench.expectNothingLeft();
  });

  it('waits for the explicit fence instead, and shows the frame whatever its error', () => {
    const { bench, sim, display, frame } = setUp();
    const buf = frame('a', 1);
    const ignored = bench.fenceOn(buf);
    const inFence = bench.fence();
    sim.after(2500, () => {
      inFence.setError('EIO');
      inFence.signal();
      return undefined;
    });
    const done = sim.run(function* () {
      const fb = yield* display.importFramebuffer(buf, FORMAT);
      display.enable();
      return yield* display.pageFlip(fb, { inFence });
    });
    expect([done.vblankSequence, ignored.signaled]).toEqual([3, false]);
  });

  it('waits for the fences of its own time, not for those added later', () => {
    const { bench, sim, display, frame } = setUp();
    const buf = frame('a', 1);
    const fb = sim.run(() => display.importFramebuffer(buf, FORMAT));
    display.enable();
    const flip = display.queueFlip(fb);
    const later = bench.fenceOn(buf);
    sim.run();
    expect([flip.fired, later.signaled, sim.now]).toEqual([true, false, 1200]);
  });

  it('is refused while one is pending, when disabled, and for a foreign framebuffer', () => {
    const { bench, sim, display, frame } = setUp();
    const other = new Display(bench.device('display1'), PARAMS);
    sim.run(function* () {
      const a = yield* display.importFramebuffer(frame('a', 1), FORMAT);
      const b = yield* display.importFramebuffer(frame('b', 1), FORMAT);
      const foreign = yield* other.importFramebuffer(frame('c', 1), FORMAT);
      expect(yield* failing(() => display.pageFlip(a))).toContain('EINVAL: display0 is disabled');
      expect(yield* failing(() => display.waitVblank())).toContain('EINVAL: display0 is disabled');
      display.enable();
      expect(yield* failing(() => display.pageFlip(foreign))).toContain('EINVAL: c is no framebuffer of display0');
      const flip = display.queueFlip(a);
      expect(yield* failing(() => display.pageFlip(b))).toContain('EBUSY: the flip to a is pending');
      yield* flip;
      yield* display.pageFlip(b);
      yield* display.release();
      yield* other.release();
    });
    bench.expectNothingLeft();
  });

  it('goes on when the task that asked for it is killed', () => {
    const { bench, sim, display, shown, frame } = setUp();
    const buf = frame('a', 1);
    const writer = bench.fenceOn(buf);
    sim.run(function* () {
      const fb = yield* display.importFramebuffer(buf, FORMAT);
      display.enable();
      const task = sim.spawn('app', () => display.pageFlip(fb));
      yield* sim.delay(10);
      task.kill();
      yield* sim.delay(2000);
      writer.signal();
      yield* sim.delay(2000);
      expect(display.current).toBe(fb);
      yield* display.release();
    });
    expect(shown).toEqual(['a 3 (3000) @3200']);
    bench.expectNothingLeft();
  });

  it('is dropped with ECANCELED when the display is disabled, and the display can start again', () => {
    const { bench, sim, display, shown, frame } = setUp({ linesPerBatch: 1 });
    const [one, two] = [frame('a', 1), frame('b', 2)];
    const writer = bench.fenceOn(two);
    sim.run(function* () {
      const a = yield* display.importFramebuffer(one, FORMAT);
      const b = yield* display.importFramebuffer(two, FORMAT);
      display.enable();
      yield* display.pageFlip(a);
      const task = sim.spawn('app', () => failing(() => display.pageFlip(b)));
      yield* sim.delay(500); // in the middle of scanout
      yield* display.disable();
      expect(yield* task.done).toBe('pageFlip: ECANCELED: display0 was disabled');
      expect([display.enabled, display.current, display.flipPending, sim.now]).toEqual([false, null, false, 1500]);
      display.enable();
      expect(yield* display.pageFlip(a)).toEqual({ vblankSequence: 1, timestampNs: 2500 });
      yield* sim.delay(950);
      writer.signal();
      yield* display.release();
    });
    expect(shown).toEqual(['a 1 (2500) @3400']);
    bench.expectNothingLeft();
  });
});

describe('Display scanout', () => {
  it('fetches lines when they are due, so a write in the middle tears the frame', () => {
    const { bench, sim, display, shown, bytes } = setUp({ linesPerBatch: 2 });
    const buf = bench.buffer('fb', 4096);
    sim.run(function* () {
      const fb = yield* display.importFramebuffer(buf, FORMAT);
      display.enable();
      yield* display.pageFlip(fb);
      yield* sim.delay(200 + 350); // lines 0 to 3 are fetched, at 1200 and 1400
      bench.fill(buf, new Uint8Array(FRAME_BYTES).fill(0xff));
      yield* display.waitVblank();
    });
    const rows = Array.from({ length: 8 }, (_, row) => bytes[0]?.[row * 64]);
    expect(rows).toEqual([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    expect(shown).toEqual(['fb 1 (1000) @1800']);
  });

  it('fetches at every refresh when the panel has no memory, as long as it is enabled', () => {
    const { bench, sim, display, shown, bytes, frame } = setUp({ selfRefresh: false });
    const buf = frame('a', 1);
    sim.run(function* () {
      const fb = yield* display.importFramebuffer(buf, FORMAT);
      display.enable();
      yield* display.pageFlip(fb);
      yield* sim.delay(1000);
      bench.fill(buf, pattern(FRAME_BYTES, 5));
      yield* sim.delay(2100);
      yield* display.release();
      yield* sim.delay(5000);
    });
    expect(shown).toEqual(['a 1 (1000) @1200', 'a 2 (2000) @2200', 'a 3 (3000) @3200']);
    expect([bytes[0]?.[0], bytes[1]?.[0]]).toEqual([pattern(1, 1)[0], pattern(1, 5)[0]]);
    bench.expectNothingLeft();
  });

  it('makes no events while a still picture is shown', () => {
    const { sim, display, frame } = setUp();
    sim.run(function* () {
      const fb = yield* display.importFramebuffer(frame('a', 1), FORMAT);
      display.enable();
      yield* display.pageFlip(fb);
    });
    sim.run();
    expect([sim.now, display.enabled]).toEqual([1200, true]);
  });

  it('counts an underrun when its read faults', () => {
    const { sim, dev, display, shown, frame } = setUp({}, { behindIommu: true });
    sim.run(function* () {
      const fb = yield* display.importFramebuffer(frame('a', 1), FORMAT);
      display.enable();
      yield* display.pageFlip(fb);
      dev.iommuGroup?.domain?.unmap(iova(fb.import.sgt?.dmaAddress(0) ?? 0), 4096);
      yield* display.waitVblank();
    });
    expect([display.underruns, shown]).toEqual([1, ['a 1 (1000) @1200 underrun']]);
    expect(dev.port.faults).toMatchObject([{ access: 'read', length: FRAME_BYTES }]);
  });

  it('counts an underrun when translation is too slow, and a flip cuts the frame off', () => {
    const iommuCosts = { mapFixedNs: 0, mapPerPageNs: 0, unmapFixedNs: 0, unmapPerPageNs: 0 };
    const slow = { ...iommuCosts, invalidateFixedNs: 0, invalidatePerPageNs: 0, iotlbHitNs: 150, walkPerLevelNs: 0 };
    const bench = new Bench({ iommuCosts: slow });
    const { sim } = bench;
    const shown: boolean[] = [];
    const onScanout = ({ underrun }: ScanoutFrame): undefined => {
      shown.push(underrun);
    };
    const dev = bench.device('display0', { behindIommu: true });
    const display = new Display(dev, { ...PARAMS, linesPerBatch: 1 }, { onScanout });
    sim.run(function* () {
      const [a, b] = [
        yield* display.importFramebuffer(bench.buffer('a', 4096), FORMAT),
        yield* display.importFramebuffer(bench.buffer('b', 4096), FORMAT),
      ];
      display.enable();
      yield* display.pageFlip(a);
      yield* display.pageFlip(b);
      expect([display.underruns, shown]).toEqual([1, []]);
      yield* sim.delay(3000);
      expect([display.underruns, shown]).toEqual([2, [true]]);
      yield* display.release();
    });
    bench.expectNothingLeft();
  });

  it('ends the run with the hazard when it would show stale bytes', () => {
    const { bench, sim, display, frame } = setUp();
    const buf = frame('a', 1);
    sim.run(function* () {
      const fb = yield* display.importFramebuffer(buf, FORMAT);
      const app = { name: 'app', kind: 'cpu', via: 'mmap', beforeRead: '', afterWrite: 'end' } as const;
      bench.coherency.cpuWrite(buf.priv[0]?.phys ?? physAddr(0), Uint8Array.of(1), 0, 1, 'cached', app);
      display.enable();
      yield* display.pageFlip(fb);
    });
    expect(() => sim.run()).toThrow(HazardError);
    expect(sim.hazards[0]).toMatchObject({ hazard: 'device-read.stale', reader: { who: 'display0' } });
    sim.run(() => display.release());
    bench.expectNothingLeft();
  });

  it('shows a line to who peeks, without time or a trace in memory', () => {
    const { sim, display, frame } = setUp();
    expect(display.peekLine(0)).toBeNull();
    sim.run(function* () {
      const fb = yield* display.importFramebuffer(frame('a', 1), FORMAT);
      display.enable();
      yield* display.pageFlip(fb);
      const before = sim.now;
      expect(display.peekLine(3)).toEqual(pattern(FRAME_BYTES, 1).subarray(192, 256));
      expect(sim.now).toBe(before);
      expect(() => display.peekLine(8)).toThrow('peekLine: 8 is no row of 8');
    });
  });

  it('has no bytes in tag mode', () => {
    const { sim, display, shown, bytes, frame } = setUp({}, {}, true);
    sim.run(function* () {
      const fb = yield* display.importFramebuffer(frame('a', 1), FORMAT);
      display.enable();
      yield* display.pageFlip(fb);
      expect(display.peekLine(0)).toBeNull();
    });
    sim.run();
    expect([shown, bytes]).toEqual([['a 1 (1000) @1200'], [null]]);
  });

  it('refuses parameters out of range, by name', () => {
    const { dev } = setUp();
    expect(() => new Display(dev, { ...hdmi1080p60, strideAlignBytes: 0 })).toThrow('strideAlignBytes: 0');
    expect(() => new Display(dev, { ...hdmi1080p60, linesPerBatch: 1.5 })).toThrow('linesPerBatch: 1.5');
    expect(new Display(dev, hdmi1080p60).enabled).toBe(false);
  });
});
