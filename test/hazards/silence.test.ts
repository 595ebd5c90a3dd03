/** What looks like a hazard and is none: further near misses. A tool that cries wolf is switched off. */
import { describe, expect, it } from 'vitest';
import {
  Camera,
  CpuView,
  DMA_BUF_SYNC,
  type DmaBuf,
  type DmaBufOps,
  type DmaFence,
  DmaResvUsage,
  dmaAddr,
  dmaMappingError,
  dmaMapSgtable,
  dmaMapSingle,
  dmaUnmapSgtable,
  dmaUnmapSingle,
  exportDmaBuf,
  Gpu,
  linux71,
  type Machine,
  type Op,
  type Process,
  pfnToPhys,
  physAddr,
  SgTable,
  us,
  videoCore6,
} from '../../src/index.ts';
import { checkLeaks } from '../../src/inspect/leaks.ts';
import { GrowthDetector } from '../../src/inspect/ledger-growth.ts';
import {
  bracketed,
  bytesOf,
  deviceOf,
  FRAME_BYTES,
  machineOf,
  mappedFor,
  open,
  reports,
  smallCamera,
  sync,
} from '../complaints/scene.ts';

const BYTES = 4096;
const { start, end, read, rw, write } = DMA_BUF_SYNC;

/** A frame that `camera0`, which does not snoop, has mapped, and that an app has in its cache. */
function shared(
  body: (scene: { machine: Machine; app: Process; fd: number; puts: Puts; pixels: Pixels }) => Op<void>,
): string[] {
  const machine = machineOf('arm');
  const camera = deviceOf(machine, 'arm', 'camera0');
  const app = machine.addProcess({ name: 'app' });
  machine.sim.run(function* () {
    const buf = machine.systemHeap.alloc(BYTES, 'frame');
    const { fd, pixels } = yield* open(app, buf);
    yield* mappedFor(camera, buf, 'bidirectional', function* (sgt) {
      yield* bracketed(app, fd, 'read', () => pixels.read(0, BYTES));
      const puts: Puts = (at, length) => {
        camera.port.write(dmaAddr(sgt.dmaAddress(0) + at), bytesOf(0xc5, length), 0, length);
      };
      yield* body({ machine, app, fd, puts, pixels });
    });
  });
  return reports(machine.sim);
}
type Puts = (at: number, length: number) => void;
type Pixels = { read(at: number, length: number): Uint8Array; write(at: number, bytes: Uint8Array): void };

describe('bytes that are not old', () => {
  it('are those of an old line that the device has not touched', () => {
    const found = shared(function* ({ machine, pixels, puts }) {
      puts(0, 32);
      pixels.read(32, 32);
      yield* machine.sim.delay(0);
    });
    expect(found).toEqual([]);
  });

  it('are those that the device has written again with a bracket in between, although the first bracket was for the wrong direction', () => {
    const found = shared(function* ({ app, fd, pixels, puts }) {
      puts(0, BYTES);
      yield* sync(app, fd, start | write);
      yield* sync(app, fd, end | write);
      yield* sync(app, fd, start | read);
      pixels.read(0, BYTES);
      yield* sync(app, fd, end | read);
    });
    expect(found).toEqual([]);
  });

  it('are those that nobody reads before they are written anew', () => {
    const found = shared(function* ({ app, fd, pixels, puts }) {
      puts(0, BYTES);
      yield* sync(app, fd, start | write);
      pixels.write(0, bytesOf(0x11, BYTES));
      yield* sync(app, fd, end | write);
      pixels.read(0, BYTES);
    });
    expect(found).toEqual([]);
  });
});

describe('brackets that pair', () => {
  it('are one START for both directions and an END for each', () => {
    const found = shared(function* ({ app, fd }) {
      yield* sync(app, fd, start | rw);
      yield* sync(app, fd, end | read);
      yield* sync(app, fd, end | write);
    });
    expect(found).toEqual([]);
  });

  it('are two, one inside the other', () => {
    const found = shared(function* ({ app, fd }) {
      for (const flags of [start, start, end, end]) yield* sync(app, fd, flags | read);
    });
    expect(found).toEqual([]);
  });

  it('are those of a process that was killed in the middle', () => {
    const machine = machineOf('arm');
    const app = machine.addProcess({ name: 'app' });
    machine.sim.run(function* () {
      const fd = app.fds.install(machine.systemHeap.alloc(BYTES, 'frame'));
      yield* sync(app, fd, start | read);
      yield* app.kill();
    });
    expect(reports(machine.sim)).toEqual([]);
  });
});

describe('accesses that do not race', () => {
  /** A job that takes 50 us and reads or writes the first half of a buffer, which leaves no fence; an app that comes in the middle. */
  function during(access: 'read' | 'write', act: (pixels: Pixels) => void): string[] {
    const machine = machineOf('pc');
    const { sim } = machine;
    const gpu = new Gpu(deviceOf(machine, 'pc', 'gpu0'), { ...videoCore6, launchNs: 0 });
    const app = machine.addProcess({ name: 'app' });
    sim.run(function* () {
      const buf = machine.systemHeap.alloc(BYTES, 'frame');
      const frame = yield* gpu.importBuffer(buf);
      const { pixels } = yield* open(app, buf);
      const done = gpu.submit({
        name: 'job',
        [access === 'read' ? 'reads' : 'writes']: [frame],
        *run(memory) {
          if (access === 'read') memory.read(frame.gpuVa, new Uint8Array(BYTES / 2), 0, BYTES / 2);
          else memory.write(frame.gpuVa, bytesOf(1, BYTES / 2), 0, BYTES / 2);
          yield* sim.delay(us(50));
        },
      });
      yield* sim.delay(us(20));
      act(pixels);
      yield* done;
      yield* gpu.release();
      app.exit();
    });
    return reports(sim);
  }

  it('are those to other bytes of the buffer', () => {
    expect(during('write', (pixels) => pixels.read(BYTES / 2, BYTES / 2))).toEqual([]);
    expect(during('write', (pixels) => pixels.write(BYTES / 2, bytesOf(2, 64)))).toEqual([]);
  });

  it('are two reads', () => {
    expect(during('read', (pixels) => pixels.read(0, BYTES))).toEqual([]);
  });

  it('but a race they are with one byte in common', () => {
    expect(during('write', (pixels) => pixels.read(BYTES / 2 - 1, 2))).toEqual(['access.read-while-writing']);
  });

  it('are those to a camera’s frame that has been dequeued, while the next one is captured into another buffer', () => {
    const machine = machineOf('pc');
    const camera = new Camera(deviceOf(machine, 'pc', 'camera0'), smallCamera, {
      source: () => bytesOf(1, FRAME_BYTES),
    });
    const app = machine.addProcess({ name: 'app' });
    machine.sim.run(function* () {
      const opened = new Map<unknown, Pixels>();
      for (const name of ['one', 'two']) {
        const buf = machine.systemHeap.alloc(FRAME_BYTES, name);
        const buffer = yield* camera.importBuffer(buf);
        opened.set(buffer, (yield* open(app, buf)).pixels);
        yield* camera.qbuf(buffer);
      }
      yield* camera.streamOn();
      const { buffer } = yield* camera.dqbuf();
      yield* machine.sim.delay(12_000_000);
      opened.get(buffer)?.read(0, FRAME_BYTES);
      yield* camera.release();
      app.exit();
    });
    expect(reports(machine.sim)).toEqual([]);
  });
});

describe('addresses that are in order', () => {
  it('are those of a trusted device that comes late with lazy invalidation: that is counted, and is no hazard', () => {
    const machine = machineOf('arm', { lazyIommu: true });
    const nic = deviceOf(machine, 'arm', 'nic0', { coherent: true });
    const page = pfnToPhys(machine.pages.allocPages({ order: 0, owner: 'driver' }));
    const address = dmaMapSingle(nic, page, BYTES, 'from-device');
    expect(dmaMappingError(nic, address)).toBe(false);
    nic.port.write(address, Uint8Array.of(1), 0, 1); // now in the IOTLB
    dmaUnmapSingle(nic, address, BYTES, 'from-device');
    expect(nic.port.write(address, Uint8Array.of(1), 0, 1)).toBe(1);
    expect(reports(machine.sim)).toEqual([]);
  });

  it('are bytes beside a mapping in the same page, which no IOMMU tells apart', () => {
    const machine = machineOf('arm');
    const nic = deviceOf(machine, 'arm', 'nic0', { coherent: true });
    const page = pfnToPhys(machine.pages.allocPages({ order: 0, owner: 'driver' }));
    const address = dmaMapSingle(nic, page, 64, 'from-device');
    expect(dmaMappingError(nic, address)).toBe(false);
    nic.port.write(dmaAddr(address + 64), Uint8Array.of(1), 0, 1);
    expect(reports(machine.sim)).toEqual([]);
  });

  it('are the old ones of a moved buffer, as long as the work that uses them is not over', () => {
    const machine = machineOf('pc');
    const { sim } = machine;
    const dev = deviceOf(machine, 'pc', 'gpu0');
    const buf = movable(machine);
    sim.run(function* () {
      const att = yield* buf.dynamicAttach(dev, { moveNotify() {} });
      const sgt = yield* buf.resv.withLock(() => att.map('to-device'));
      const work = yield* pendingWork(machine, buf);
      yield* buf.resv.withLock(() => buf.moveNotify());
      dev.port.read(sgt.dmaAddress(0), new Uint8Array(64), 0, 64);
      expect(reports(sim)).toEqual([]);
      work.signal();
      dev.port.read(sgt.dmaAddress(0), new Uint8Array(64), 0, 64);
      expect(reports(sim)).toEqual(['dma.after-move']);
      yield* buf.resv.withLock(() => att.unmap(sgt, 'to-device'));
      yield* buf.detach(att);
    });
  });
});

function* pendingWork(machine: Machine, buf: DmaBuf): Op<DmaFence> {
  const gpu = new Gpu(machine.addDevice({ name: 'other', coherent: true }), videoCore6);
  const work = gpu.submit({ name: 'work', run: () => machine.sim.delay(us(500)) });
  yield* buf.resv.withLock(() => {
    buf.resv.reserveFences(1);
    buf.resv.addFence(work, DmaResvUsage.bookkeep);
  });
  return work;
}

/** A dynamic exporter's buffer of one page. */
function movable(
  machine: Machine,
  ops: Partial<DmaBufOps<object>> = {},
  name = 'tile',
  page = machine.pages.allocPages({ order: 0, owner: name }),
): DmaBuf {
  const memory = SgTable.fromPages([page], { sizeBytes: BYTES });
  return exportDmaBuf<object>(machine.sim, {
    ...{ exporterName: 'vram', name, sizeBytes: BYTES, priv: {}, profile: linux71 },
    ops: {
      pin() {},
      unpin() {},
      mapDmaBuf({ dev }, dir) {
        const sgt = memory.clone();
        dmaMapSgtable(dev, sgt, dir);
        return sgt;
      },
      unmapDmaBuf: ({ dev }, sgt, dir) => dmaUnmapSgtable(dev, sgt, dir),
      release() {},
      ...ops,
    },
  });
}

describe('habits that are none', () => {
  /** Maps a page three times for a device that looks in round `looks` only. */
  function mapThrice(looks: number): string[] {
    const machine = machineOf('arm', { lints: true });
    const gpu = deviceOf(machine, 'arm', 'gpu0');
    const page = pfnToPhys(machine.pages.allocPages({ order: 0, owner: 'driver' }));
    for (let round = 0; round < 3; round++) {
      const address = dmaMapSingle(gpu, page, BYTES, 'to-device');
      if (dmaMappingError(gpu, address)) throw new Error('no address');
      if (round === looks) gpu.port.read(address, new Uint8Array(1), 0, 1);
      dmaUnmapSingle(gpu, address, BYTES, 'to-device');
    }
    return reports(machine.sim);
  }

  it('are mappings of which the device uses one now and then', () => {
    expect([mapThrice(0), mapThrice(1), mapThrice(2)]).toEqual([[], [], []]);
    expect(mapThrice(-1)).toEqual(['dma.map-as-flush']);
  });

  it('are two buffers over one memory one after the other, or by an exporter that means it', () => {
    const machine = machineOf('pc', { lints: true, dmaDebug: false });
    const gpu = deviceOf(machine, 'pc', 'gpu0');
    const page = machine.pages.allocPages({ order: 0, owner: 'vram' });
    machine.sim.run(function* () {
      for (const name of ['first', 'second']) {
        yield* mappedFor(gpu, movable(machine, {}, name, page), 'to-device', () => machine.sim.delay(1));
      }
      const [one, two] = ['third', 'fourth'].map((name) => movable(machine, { mayAlias: true }, name, page)) as [
        DmaBuf,
        DmaBuf,
      ];
      yield* mappedFor(gpu, one, 'to-device', () => mappedFor(gpu, two, 'to-device', () => machine.sim.delay(1)));
    });
    expect(reports(machine.sim)).toEqual([]);
  });

  it('are not looked for at all without lints', () => {
    const machine = machineOf('arm');
    const gpu = deviceOf(machine, 'arm', 'gpu0');
    expect([gpu.dmaOps !== null, reports(machine.sim)]).toEqual([true, []]);
  });
});

describe('what may be alive', () => {
  it('is a pool that fills up to its size, and what one cycle gives back in the next', () => {
    const machine = machineOf('arm');
    const app = machine.addProcess({ name: 'app' });
    const growth = new GrowthDetector(machine, { expect: [{ of: 'dmabuf', owner: 'app', atMost: 3 }] });
    const pool: number[] = [];
    machine.sim.run(function* () {
      for (let cycle = 0; cycle < 8; cycle++) {
        pool.push(app.fds.install(machine.systemHeap.alloc(BYTES, `frame${cycle}`)));
        const oldest = pool.length > 3 ? pool.shift() : undefined;
        if (oldest !== undefined) yield* app.close(oldest);
        growth.cycle();
      }
    });
    expect(reports(machine.sim)).toEqual([]);
  });

  it('is what a process has that goes on', () => {
    const machine = machineOf('arm');
    const app = machine.addProcess({ name: 'app' });
    app.fds.install(machine.systemHeap.alloc(BYTES, 'frame'));
    expect([checkLeaks(machine, { running: ['app'] }), reports(machine.sim)]).toEqual([0, []]);
    expect([checkLeaks(machine), reports(machine.sim)]).toEqual([1, ['ledger.leak']]);
  });
});

describe('a line that two share', () => {
  it('loses nothing when the range that is invalidated ends with it', () => {
    const machine = machineOf('arm');
    const page = pfnToPhys(machine.pages.allocPages({ order: 0, owner: 'driver' }));
    const accessor = { name: 'driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
    const cpu = new CpuView(machine.coherency, {
      extents: [{ phys: page, sizeBytes: BYTES }],
      attribute: 'cached',
      accessor,
    });
    cpu.write(64, Uint8Array.of(1));
    machine.coherency.clean(physAddr(page + 64), 64, accessor);
    machine.coherency.invalidate(page, 128, accessor);
    cpu.read(64, new Uint8Array(1));
    expect(reports(machine.sim)).toEqual([]);
  });
});
