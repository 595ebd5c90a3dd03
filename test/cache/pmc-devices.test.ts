/** Coherent and non-coherent devices in one machine, lines with two owners, and hardware that is free: which bytes are wrong, worked out by hand. */
import { describe, expect, it } from 'vitest';
import { physAddr } from '../../src/base/addr.ts';
import { CpuView } from '../../src/cache/cpu-view.ts';
import { dmaMappingError, dmaMapSingle, dmaUnmapSingle } from '../../src/dma-api/dma-single.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { AdversarialChooser } from '../../src/sim/adversarial-chooser.ts';
import { Prng } from '../../src/sim/prng.ts';
import { bench } from '../bench.ts';
import { BYTES, causes, LINE, LINES, share, wrongRanges } from './pmc-scene.ts';

const { read, write, start, end } = DMA_BUF_SYNC;

describe('D-04: coherent and non-coherent devices together', () => {
  const devices = { camera0: false, nic0: true };

  it('lets the process read at once what the one that snoops wrote, and needs a bracket for the other only', () => {
    const { value, hazards } = share(
      function* (scene) {
        yield* scene.sync(start | read);
        scene.view.read(0, BYTES);
        yield* scene.sync(end | read);
        scene.puts(0x22, [0, 2048], 'nic0');
        scene.puts(0x33, [2048, 4096], 'camera0');
        const bare = scene.view.read(0, BYTES);
        yield* scene.sync(start | read);
        const bracketed = scene.view.read(0, BYTES);
        yield* scene.sync(end | read);
        return [bare, bracketed].map((bytes) => [
          wrongRanges(bytes.subarray(0, 2048), 0x22),
          wrongRanges(bytes.subarray(2048), 0x33),
        ]);
      },
      { devices },
    );
    expect(value).toEqual([
      [[], [[0, 2048]]],
      [[], []],
    ]);
    expect(hazards).toMatchObject([{ hazard: 'cpu-read.stale', writer: { who: 'camera0' }, staleLines: LINES / 2 }]);
  });

  it('gives the one that snoops what the process has just written, and the other the old bytes', () => {
    const { value, hazards } = share(
      function* (scene) {
        yield* scene.sync(start | write);
        scene.view.write(0, new Uint8Array(BYTES).fill(0x44));
        const early = [wrongRanges(scene.gets('nic0'), 0x44), wrongRanges(scene.gets('camera0'), 0x44)];
        yield* scene.sync(end | write);
        return [...early, wrongRanges(scene.gets('camera0'), 0x44)];
      },
      { devices },
    );
    expect(value).toEqual([[], [[0, BYTES]], []]);
    expect(hazards).toMatchObject([{ hazard: 'device-read.stale', reader: { who: 'camera0' } }]);
  });
});

describe('D-05: two owners of one cache line', () => {
  it('destroys the neighbour’s bytes when half a line is invalidated, and names both owners', () => {
    const { value, hazards } = share(function* (scene) {
      const { coherency } = scene.b.machine;
      const driver = { name: 'nic driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
      yield* scene.sync(start | write);
      scene.view.write(0, new Uint8Array(BYTES).fill(0x11));
      coherency.invalidate(physAddr(scene.phys + 256), 32, driver); // a receive buffer: bytes 256 to 287
      const seen = wrongRanges(scene.view.read(0, BYTES), 0x11);
      yield* scene.sync(end | write);
      return { seen, line: scene.phys + 256 };
    });
    expect(value.seen).toEqual([[256, 320]]);
    const neighbour = hazards.find(({ hazard }) => hazard === 'cache.neighbour-destroyed');
    expect(neighbour).toMatchObject({
      ...{ lostLines: 1, values: { phys: value.line + 32 } },
      ...{ destroyer: { who: 'nic driver', action: 'invalidate' }, writer: { who: 'app' } },
      cause: { code: 'shared-line' },
    });
  });

  it('destroys what a device received into half a line when the CPU writes the other half meanwhile, and names that', () => {
    const b = bench({ hazards: 'record' });
    const nic = b.device('nic0', { iommu: true });
    const [page] = b.scatteredPages(1);
    if (page === undefined) return expect.fail('no page');
    const accessor = { name: 'nic0 driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
    const extents = [{ phys: page, sizeBytes: BYTES }];
    const cpu = new CpuView(b.machine.coherency, { extents, attribute: 'cached', accessor });
    const address = dmaMapSingle(nic, page, 32, 'from-device');
    expect(dmaMappingError(nic, address)).toBe(false);
    cpu.write(32, Uint8Array.of(1)); // a counter beside the buffer
    nic.port.write(address, new Uint8Array(32).fill(0xaa), 0, 32);
    dmaUnmapSingle(nic, address, 32, 'from-device'); // cleans the line, for the neighbour's sake
    const seen = new Uint8Array(LINE);
    cpu.read(0, seen);
    expect([wrongRanges(seen.subarray(0, 32), 0xaa), seen[32]]).toEqual([[[0, 32]], 1]);
    expect(b.sim.hazards[0]).toMatchObject({
      ...{ hazard: 'device-write.lost', phys: page, writer: { who: 'nic0' }, destroyer: { who: 'nic0 driver' } },
      cause: { code: 'shared-line' },
    });
  });

  it('spares the neighbour when the range is whole lines', () => {
    const { value, hazards } = share(function* (scene) {
      yield* scene.sync(start | write);
      scene.view.write(256, new Uint8Array(LINE).fill(0x11));
      scene.b.machine.coherency.invalidate(physAddr(scene.phys + 320), LINE);
      const seen = wrongRanges(scene.view.read(256, LINE), 0x11);
      yield* scene.sync(end | write);
      return seen;
    });
    expect([value, hazards]).toEqual([[], []]);
  });
});

describe('D-06: hardware that fetches and writes back when it likes', () => {
  const seeds = Array.from({ length: 10 }, (_, i) => i + 1);

  /** The device fills the page in pieces while the process looks at what is beside it; the process invalidates before, or after. */
  function capture(seed: number, when: 'before' | 'after') {
    return share(
      function* (scene) {
        scene.puts(0);
        if (when === 'before') yield* scene.sync(start | read);
        for (let at = 0; at < BYTES / 2; at += 256) {
          scene.view.read(BYTES / 2 + at, LINE); // hardware may fetch more than that
          scene.puts(0xc5, [at, at + 256]);
        }
        if (when === 'after') yield* scene.sync(start | read);
        const seen = wrongRanges(scene.view.read(0, BYTES / 2), 0xc5);
        yield* scene.sync(end | read);
        return seen.length;
      },
      { chooser: new AdversarialChooser(new Prng(seed)) },
    );
  }

  it('D-06, U-35: makes an invalidate before the DMA useless in some runs', () => {
    const bad = seeds.map((seed) => capture(seed, 'before')).filter(({ value }) => value > 0);
    expect(bad.length).toBeGreaterThan(0);
    for (const { hazards } of bad) {
      expect(hazards[0]?.hazard).toBe('cpu-read.stale');
      expect(causes(hazards)).toEqual(['missing-fence: wait for the fence of camera0']);
    }
  });

  it('D-06, U-35: cannot harm an invalidate behind the DMA, in any run', () => {
    for (const seed of seeds) expect(capture(seed, 'after')).toEqual({ value: 0, hazards: [] });
  });

  it('D-06: writes a line back late, over what the device has written, in some runs, and never in a right program', () => {
    const lose = (seed: number, isRight: boolean) =>
      share(
        function* (scene) {
          if (isRight) yield* scene.sync(start | write);
          scene.view.write(0, new Uint8Array(LINE).fill(0x11));
          if (isRight) yield* scene.sync(end | write);
          scene.puts(0xc5, [0, LINE]);
          scene.view.read(BYTES / 2, LINE);
          return wrongRanges(scene.gets().subarray(0, LINE), 0xc5).length;
        },
        { chooser: new AdversarialChooser(new Prng(seed)) },
      );
    expect(seeds.filter((seed) => lose(seed, false).value > 0).length).toBeGreaterThan(0);
    for (const seed of seeds) expect(lose(seed, true)).toEqual({ value: 0, hazards: [] });
  });
});

describe('D-07: a device with a cache of its own', () => {
  const calls = { beforeRead: 'camera.invalidateCaches()', afterWrite: 'camera.flushCaches()' };
  const accessor = { name: 'camera0', kind: 'device', via: 'dma', ...calls } as const;

  it.each<[flushes: boolean, brackets: boolean, outcome: 'right' | 'old', cause: string[]]>([
    [true, true, 'right', []],
    [true, false, 'old', ['missing-begin-cpu-access: ioctl(DMA_BUF_IOCTL_SYNC, START | READ)']],
    [false, true, 'old', ['missing-device-flush: camera.flushCaches()']],
    [false, false, 'old', ['missing-device-flush: camera.flushCaches()']],
  ])('needs its flush besides the bracket of the CPU: flush %s, bracket %s', (flushes, brackets, outcome, expected) => {
    const { value, hazards } = share(function* (scene) {
      const { coherency } = scene.b.machine;
      const cache = coherency.addDeviceCache({ accessor });
      yield* scene.sync(start | read);
      scene.view.read(0, BYTES);
      yield* scene.sync(end | read);
      const bytes = new Uint8Array(BYTES).fill(0x5a);
      coherency.deviceWrite(physAddr(scene.phys), bytes, 0, BYTES, { snoops: false, accessor, cache });
      if (flushes) cache.flush();
      if (brackets) yield* scene.sync(start | read);
      const seen = wrongRanges(scene.view.read(0, BYTES), 0x5a);
      if (brackets) yield* scene.sync(end | read);
      cache.flush();
      return seen;
    });
    expect([value, causes(hazards)]).toEqual([outcome === 'right' ? [] : [[0, BYTES]], expected]);
  });

  it('needs its invalidate besides the end of the bracket, or it works on what it had', () => {
    const { value, hazards } = share(function* (scene) {
      const { coherency } = scene.b.machine;
      const cache = coherency.addDeviceCache({ accessor });
      const seen: unknown[] = [];
      for (const invalidates of [false, false, true]) {
        yield* scene.sync(start | write);
        scene.view.write(0, new Uint8Array(BYTES).fill(0x10 + seen.length));
        yield* scene.sync(end | write);
        if (invalidates) cache.invalidate();
        const out = new Uint8Array(BYTES);
        coherency.deviceRead(physAddr(scene.phys), out, 0, BYTES, { snoops: false, accessor, cache });
        seen.push(out[0]);
      }
      return seen;
    });
    expect(value).toEqual([0x10, 0x10, 0x12]);
    expect(causes(hazards)).toEqual(['missing-device-invalidate: camera.invalidateCaches()']);
  });
});
