/** Each cause of a shared buffer: planted once, and the right form beside it. */
import { describe, expect, it } from 'vitest';
import { CpuView } from '../../src/cache/cpu-view.ts';
import type { Device } from '../../src/dma-api/device.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import {
  dmaMapSgtable,
  dmaSyncSgtableForCpu,
  dmaSyncSgtableForDevice,
  dmaUnmapSgtable,
} from '../../src/dma-api/dma-map.ts';
import { SgTable } from '../../src/dma-api/sg-table.ts';
import { type DmaBuf, exportDmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufOps } from '../../src/dmabuf/dma-buf-ops.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import type { Op } from '../../src/sim/op.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import type { UserMapping } from '../../src/uapi/user-mapping.ts';
import { bytes, CauseBench, isBetween, planted } from '../cache/cause-bench.ts';

const { start, end, read, write, rw } = DMA_BUF_SYNC;

describe('a process that reads a buffer', () => {
  it('is told the START | READ that it left out, after the write of the device and before its own read', () => {
    const program = (begins: boolean) => {
      const scene = new Scene();
      const line = scene.run(function* ({ pixels, sgt, nic, sync }) {
        pixels.read(0, 64);
        nic.port.write(sgt.dmaAddress(0), bytes(64, 7), 0, 64);
        const place = planted();
        if (begins) yield* sync(start | read);
        pixels.read(0, 64);
        if (begins) yield* sync(end | read);
        return place;
      });
      return { bench: scene.bench, line };
    };
    expect(program(true).bench.reports).toEqual([]);
    const { bench, line } = program(false);
    expect(bench.cause).toMatchObject({
      code: 'missing-begin-cpu-access',
      call: 'ioctl(DMA_BUF_IOCTL_SYNC, START | READ)',
      object: 'frame',
      by: 'app',
      after: { who: 'nic0', action: 'write' },
      before: { who: 'app', action: 'read' },
      instead: '',
    });
    expect(isBetween(bench.cause, line)).toBe(true);
    expect(bench.reports[0]?.remedy).toMatch(
      /^ioctl\(3, DMA_BUF_IOCTL_SYNC, DMA_BUF_SYNC_START \| DMA_BUF_SYNC_READ\) on frame$/,
    );
  });

  it('is told that it began for writing only', () => {
    const program = (access: number) =>
      new Scene().report(function* ({ pixels, sgt, nic, sync }) {
        pixels.read(0, 64);
        nic.port.write(sgt.dmaAddress(0), bytes(64, 7), 0, 64);
        yield* sync(start | access);
        pixels.read(0, 64);
        yield* sync(end | access);
      });
    expect(program(rw).reports).toEqual([]);
    expect(program(write).cause).toMatchObject({
      code: 'wrong-direction',
      call: 'ioctl(DMA_BUF_IOCTL_SYNC, START | READ)',
      instead: expect.stringMatching(/^ioctl\(DMA_BUF_IOCTL_SYNC, START \| WRITE\) at causes\.test\.ts:\d+:\d+$/),
    });
  });

  it('is told to wait for the device, if it began before the device wrote', () => {
    const program = (waits: boolean) =>
      new Scene().report(function* ({ pixels, sgt, nic, sync }) {
        pixels.read(0, 64);
        if (waits) nic.port.write(sgt.dmaAddress(0), bytes(64, 7), 0, 64);
        yield* sync(start | read);
        pixels.read(0, 64);
        if (!waits) nic.port.write(sgt.dmaAddress(0), bytes(64, 7), 0, 64);
        pixels.read(0, 64);
        yield* sync(end | read);
      });
    expect(program(true).reports).toEqual([]);
    expect(program(false).cause).toMatchObject({
      code: 'missing-fence',
      call: 'wait for the fence of nic0',
      by: 'app',
      instead: expect.stringContaining('START | READ'),
    });
  });

  it('is not to blame for an exporter that does nothing', () => {
    const program = (ops: Partial<DmaBufOps<SgTable>>) =>
      new Scene({ ops }).report(function* ({ pixels, sgt, nic, sync }) {
        pixels.read(0, 64);
        nic.port.write(sgt.dmaAddress(0), bytes(64, 7), 0, 64);
        yield* sync(start | read);
        pixels.read(0, 64);
        yield* sync(end | read);
      });
    expect(program({}).reports).toEqual([]);
    expect(program({ beginCpuAccess: () => undefined }).cause).toMatchObject({
      code: 'exporter-does-not-sync',
      call: 'dmaSyncSgtableForCpu(nic0, bidirectional)',
      by: 'exporter of frame',
      instead: expect.stringContaining('START | READ'),
    });
  });
});

describe('a process that writes a buffer', () => {
  it('is told the END | WRITE that it left out, with the access of the START that is open', () => {
    const program = (ends: boolean, access: number) => {
      const scene = new Scene();
      const line = scene.run(function* ({ pixels, sgt, nic, sync }) {
        yield* sync(start | access);
        pixels.write(0, bytes(64, 1));
        const place = planted();
        if (ends) yield* sync(end | access);
        nic.port.read(sgt.dmaAddress(0), bytes(64, 0), 0, 64);
        return place;
      });
      return { bench: scene.bench, line };
    };
    expect(program(true, write).bench.reports).toEqual([]);
    const { bench, line } = program(false, write);
    const call = 'ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE)';
    expect(bench.cause).toMatchObject({ code: 'missing-end-cpu-access', call, object: 'frame', by: 'app' });
    expect(isBetween(bench.cause, line)).toBe(true);
    expect(program(false, rw).bench.cause.call).toBe('ioctl(DMA_BUF_IOCTL_SYNC, END | RW)');
  });

  it('is told that it wrote outside of its brackets', () => {
    const program = (inside: boolean) =>
      new Scene().report(function* ({ pixels, sgt, nic, sync }) {
        yield* sync(start | write);
        pixels.write(0, bytes(64, 1));
        yield* sync(end | write);
        if (inside) yield* sync(start | write);
        pixels.write(64, bytes(64, 2));
        if (inside) yield* sync(end | write);
        nic.port.read(sgt.dmaAddress(0), bytes(128, 0), 0, 128);
      });
    expect(program(true).reports).toEqual([]);
    expect(program(false).cause).toMatchObject({
      code: 'write-outside-bracket',
      call: 'ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE)',
    });
  });

  it('is told to begin earlier, if its own START dropped what it had written', () => {
    const program = (early: boolean) =>
      new Scene().report(function* ({ pixels, sync }) {
        if (early) yield* sync(start | rw);
        pixels.write(0, bytes(64, 1));
        if (!early) yield* sync(start | rw);
        yield* sync(end | rw);
      });
    expect(program(true).reports).toEqual([]);
    const { cause, reports } = program(false);
    expect(reports).toMatchObject([{ hazard: 'cpu-write.lost' }]);
    expect(cause).toMatchObject({
      code: 'write-outside-bracket',
      call: 'ioctl(DMA_BUF_IOCTL_SYNC, START | RW)',
      after: null,
      before: { who: 'app', action: 'write' },
    });
  });

  it('is told of the missing START when an old line goes over what the device wrote', () => {
    const program = (begins: boolean) =>
      new Scene().report(function* ({ pixels, sgt, nic, sync }) {
        pixels.read(0, 64);
        nic.port.write(sgt.dmaAddress(0), bytes(64, 7), 0, 64);
        if (begins) yield* sync(start | rw);
        pixels.write(0, bytes(8, 1));
        yield* sync(end | rw);
      });
    expect(program(true).reports).toEqual([]);
    const { reports, cause } = program(false);
    expect(reports).toMatchObject([{ hazard: 'device-write.lost', writer: { who: 'nic0' } }]);
    expect(cause).toMatchObject({
      code: 'missing-begin-cpu-access',
      call: 'ioctl(DMA_BUF_IOCTL_SYNC, START | RW)',
      after: { who: 'nic0', action: 'write' },
      before: { who: 'app', action: 'write' },
    });
  });

  it('is told of a device that wrote while the bracket was open', () => {
    const { cause } = new Scene().report(function* ({ pixels, sgt, nic, sync }) {
      yield* sync(start | write);
      pixels.write(0, bytes(8, 1));
      nic.port.write(sgt.dmaAddress(0), bytes(64, 7), 0, 64);
      yield* sync(end | write);
    });
    expect(cause).toMatchObject({ code: 'missing-fence', by: 'app', instead: expect.stringContaining('END | WRITE') });
  });
});

describe('a driver in the kernel', () => {
  it('is told the calls as it writes them', () => {
    const program = (begins: boolean) =>
      new Scene().report(function* ({ buf, sgt, nic, view }) {
        view.read(0, bytes(64, 0));
        nic.port.write(sgt.dmaAddress(0), bytes(64, 7), 0, 64);
        if (begins) yield* buf.beginCpuAccess('from-device');
        view.read(0, bytes(64, 0));
        if (begins) yield* buf.endCpuAccess('from-device');
      });
    expect(program(true).reports).toEqual([]);
    expect(program(false).cause).toMatchObject({
      code: 'missing-begin-cpu-access',
      call: 'beginCpuAccess(from-device)',
      object: 'frame',
      by: 'gpu driver',
    });
  });

  it('is told of a part that is too small', () => {
    const half = { offset: 0, length: 2048 };
    const onPart =
      (sync: typeof dmaSyncSgtableForCpu) => (buf: DmaBuf<SgTable>, dir: DmaDirection, part: typeof half) => {
        for (const { dev, tables } of buf.attachments) {
          for (const table of tables.keys()) if (part.length === buf.sizeBytes) sync(dev, table, dir);
        }
      };
    const program = (length: number) =>
      new Scene({ ops: { beginCpuAccessPartial: onPart(dmaSyncSgtableForCpu) } }).report(function* (world) {
        const { buf, sgt, nic, view } = world;
        view.read(0, bytes(4096, 0));
        nic.port.write(sgt.dmaAddress(0), bytes(4096, 7), 0, 4096);
        yield* buf.beginCpuAccessPartial('from-device', { offset: 0, length });
        view.read(4000, bytes(64, 0));
        yield* buf.endCpuAccess('from-device');
      });
    expect(program(4096).reports).toEqual([]);
    expect(program(2048).cause).toMatchObject({
      code: 'range-too-small',
      call: 'beginCpuAccess(from-device)',
      instead: expect.stringMatching(/^beginCpuAccessPartial\(from-device, 0 \+ 2048\) at /),
    });
  });
});

interface World {
  readonly buf: DmaBuf<SgTable>;
  readonly nic: Device;
  readonly sgt: SgTable;
  readonly pixels: UserMapping;
  /** The kernel's own view. */
  readonly view: CpuView;
  readonly sync: (flags: number) => Op<unknown>;
}

/** A buffer of one page that a device has mapped both ways and a process has mapped. */
class Scene {
  readonly bench = new CauseBench();
  readonly #ops: Partial<DmaBufOps<SgTable>>;

  constructor({ ops = {} }: { readonly ops?: Partial<DmaBufOps<SgTable>> } = {}) {
    this.#ops = ops;
  }

  run<T>(body: (world: World) => Op<T>): T {
    const { soc, nic, page } = this.bench;
    const memory = new SgTable([{ phys: page, length: 4096 }]);
    const buf = exportDmaBuf(soc.sim, {
      ...{ exporterName: 'test', name: 'frame', sizeBytes: 4096, priv: memory },
      ops: { ...exporter, ...this.#ops },
    });
    const app = soc.addProcess({ name: 'app' });
    const accessor = { name: 'gpu driver', kind: 'cpu', via: 'vmap', beforeRead: '', afterWrite: '' } as const;
    const view = new CpuView(soc.coherency, {
      ...{ extents: [{ phys: page, sizeBytes: 4096 }], attribute: 'cached' },
      accessor,
    });
    return soc.sim.run(function* () {
      const fd = app.fds.install(buf);
      const pixels = yield* app.mmap(fd);
      const sgt = yield* (yield* buf.attach(nic)).mapUnlocked('bidirectional');
      return yield* body({
        buf,
        nic,
        sgt,
        pixels,
        view,
        sync: (flags) => app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags }),
      });
    });
  }

  report(body: (world: World) => Op<void>): CauseBench {
    this.run(body);
    return this.bench;
  }
}

const exporter: DmaBufOps<SgTable> = {
  mapDmaBuf({ dev, buf }, dir) {
    const table = buf.priv.clone();
    dmaMapSgtable(dev, table, dir);
    return table;
  },
  unmapDmaBuf: ({ dev }, table, dir) => dmaUnmapSgtable(dev, table, dir),
  release: () => undefined,
  mmap: (buf) => ({ extents: buf.priv.extents(), attribute: 'cached' }),
  beginCpuAccess: (buf, dir) => onEach(buf, (dev, table) => dmaSyncSgtableForCpu(dev, table, dir)),
  endCpuAccess: (buf, dir) => onEach(buf, (dev, table) => dmaSyncSgtableForDevice(dev, table, dir)),
};

function onEach(buf: DmaBuf<SgTable>, act: (dev: Device, table: SgTable) => void): void {
  for (const { dev, tables } of buf.attachments) for (const table of tables.keys()) act(dev, table);
}
