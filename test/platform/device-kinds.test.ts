import { describe, expect, it } from 'vitest';
import { type DmaAddr, PAGE_SIZE, type PhysAddr, physAddr } from '../../src/base/addr.ts';
import type { HazardFacts } from '../../src/base/hazards.ts';
import { videoCore6 } from '../../src/devices/gpu/gpu-params.ts';
import { Gpu } from '../../src/devices/gpu.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import type { DeviceSpec } from '../../src/platform/machine.ts';
import { ReplayChooser } from '../../src/sim/chooser.ts';
import type { Op } from '../../src/sim/op.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import type { UserMapping } from '../../src/uapi/user-mapping.ts';
import { type BenchOptions, bench, invariant } from '../bench.ts';

const { start, end, read, write } = DMA_BUF_SYNC;
const SYSTEM = { sets: 64, ways: 8 } as const;
/** One device of each kind; all share one page. */
const KINDS: Readonly<Record<string, Omit<DeviceSpec, 'name'>>> = {
  snoops: { coherent: true, iommu: true },
  beside: { coherent: false, seesSystemCache: true, iommu: true },
  past: { coherent: false },
};

/** A page, mapped for every device in both directions. */
interface Scene {
  readonly view: UserMapping;
  readonly phys: PhysAddr;
  readonly dev: (name: string) => Device;
  readonly sync: (flags: number) => Op<void>;
  /** What the devices read: the first byte of the page, by kind. */
  readonly seen: () => Record<string, number>;
  /** The device writes the whole page. */
  readonly puts: (name: string, value: number) => void;
  readonly peeks: (name: string) => number;
}

function share<T>(options: BenchOptions, body: (scene: Scene) => Op<T>, kinds = KINDS) {
  const b = bench({ hazards: 'record', ...options });
  const app = b.machine.addProcess({ name: 'app' });
  const value = b.sim.run(function* () {
    const buf = b.machine.systemHeap.alloc(PAGE_SIZE, 'frame');
    const fd = app.fds.install(buf);
    const mapped = new Map<string, { readonly dev: Device; readonly address: DmaAddr }>();
    const ends: (() => Op<unknown>)[] = [];
    for (const [name, spec] of Object.entries(kinds)) {
      const dev = b.machine.addDevice({ name, ...spec });
      const att = yield* buf.attach(dev);
      const sgt = yield* att.mapUnlocked('bidirectional');
      mapped.set(name, { dev, address: sgt.dmaAddress(0) });
      ends.push(
        () => att.unmapUnlocked(sgt, 'bidirectional'),
        () => buf.detach(att),
      );
    }
    const of = (name: string) => mapped.get(name) ?? expect.fail(`no device ${name}`);
    const byte = (act: (out: Uint8Array) => void): number => {
      const out = new Uint8Array(1);
      act(out);
      return out[0] ?? -1;
    };
    const view = yield* app.mmap(fd);
    const result = yield* body({
      view,
      phys: physAddr(buf.priv.memory.physAddress(0)),
      dev: (name) => of(name).dev,
      *sync(flags) {
        yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags });
      },
      seen: () =>
        Object.fromEntries(
          [...mapped].map(([name, { dev, address }]) => [name, byte((out) => dev.port.read(address, out, 0, 1))]),
        ),
      puts: (name, value) => {
        const { dev, address } = of(name);
        dev.port.write(address, new Uint8Array(PAGE_SIZE).fill(value), 0, PAGE_SIZE);
      },
      peeks: (name) => byte((out) => of(name).dev.port.peek(of(name).address, out, 0, 1)),
    });
    for (const done of ends) yield* done();
    view.munmap();
    app.exit();
    return result;
  });
  return { value, hazards: b.sim.hazards, sim: b.sim, coherency: b.machine.coherency };
}

const names = (hazards: readonly HazardFacts[]): string[] =>
  hazards.map((facts) =>
    'reader' in facts && 'cause' in facts ? `${facts.reader.who}: ${facts.cause.code}` : facts.hazard,
  );

describe('a machine with devices of each kind', () => {
  it('D-04: shows what the CPU wrote to the device that snoops, and to the others only behind the bracket', () => {
    const { value, hazards } = share({}, function* ({ view, sync, seen }) {
      yield* sync(start | write);
      view.write(0, new Uint8Array(PAGE_SIZE).fill(0x11));
      const inside = seen();
      yield* sync(end | write);
      return [inside, seen()];
    });
    expect(value).toEqual([
      { snoops: 0x11, beside: 0, past: 0 },
      { snoops: 0x11, beside: 0x11, past: 0x11 },
    ]);
    expect(names(hazards).filter((name) => name.startsWith('snoops'))).toEqual([]);
    expect(names(hazards)).toEqual(
      expect.arrayContaining(['beside: missing-end-cpu-access', 'past: missing-end-cpu-access']),
    );
  });

  it('D-04: needs no bracket to see what the device wrote that snoops, but for the one that does not', () => {
    const { value, hazards } = share({}, function* ({ view, puts, sync }) {
      yield* sync(start | read);
      const seen = [view.read(0, 1)[0]];
      yield* sync(end | read);
      puts('snoops', 0x21);
      seen.push(view.read(0, 1)[0]);
      puts('past', 0x22);
      seen.push(view.read(0, 1)[0]);
      yield* sync(start | read);
      seen.push(view.read(0, 1)[0]);
      yield* sync(end | read);
      return seen;
    });
    expect(value).toEqual([0, 0x21, 0x21, 0x22]);
    expect(names(hazards)).toEqual(['app: missing-begin-cpu-access']);
  });

  it.each([
    [false, { snoops: 0x11, beside: 0x11, past: 0x11 }],
    [true, { snoops: 0x11, beside: 0x11, past: 0 }],
  ])(
    'D-04: beside a system cache, beyond the point of coherency: %s, brackets serve who sees it',
    (isBeyond, behind) => {
      const systemCache = { ...SYSTEM, beyondPointOfCoherency: isBeyond };
      const b = share({ systemCache }, function* ({ view, sync, seen, dev, phys }) {
        yield* sync(start | write);
        view.write(0, new Uint8Array(PAGE_SIZE).fill(0x11));
        yield* sync(end | write);
        const bracketed = seen();
        dev('past').coherency.maintainSystemCache('clean', phys, PAGE_SIZE);
        return [bracketed, seen()];
      });
      expect(b.value).toEqual([behind, { snoops: 0x11, beside: 0x11, past: 0x11 }]);
      expect(b.hazards.map(({ hazard }) => hazard)).toEqual(isBeyond ? ['device-read.stale'] : []);
    },
  );

  it('keeps the writes of a device that sees the system cache in its lines, where the CPUs find them behind a bracket', () => {
    const systemCache = { ...SYSTEM, beyondPointOfCoherency: true };
    const { value, hazards } = share({ systemCache }, function* ({ view, sync, puts, peeks }) {
      yield* sync(start | read);
      view.read(0, PAGE_SIZE);
      yield* sync(end | read);
      puts('beside', 0x33);
      const peeked = [peeks('snoops'), peeks('beside'), peeks('past')];
      yield* sync(start | read);
      const seen = view.read(0, 1)[0];
      yield* sync(end | read);
      return [peeked, seen];
    });
    expect(value).toEqual([[0x33, 0x33, 0], 0x33]);
    expect(hazards).toEqual([]);
  });
});

describe('a device that is added with a cache of its own', () => {
  const NPU = { npu0: { coherent: false, iommu: true, cache: { flushLineNs: 4 } } } as const;

  it.each([
    [true, 0x44, []],
    [false, 0, ['app: missing-device-flush']],
  ])('D-07: needs its flush besides the bracket of the CPU: flushed %s', (flushes, expected, reports) => {
    const { value, hazards } = share(
      {},
      function* ({ view, sync, puts, peeks, dev }) {
        puts('npu0', 0x44);
        expect([peeks('npu0'), dev('npu0').cache?.dirtyLines]).toEqual([0x44, PAGE_SIZE / 64]);
        if (flushes) expect(dev('npu0').cache?.flush()).toBe(PAGE_SIZE / 64);
        yield* sync(start | read);
        const seen = view.read(0, 1)[0];
        yield* sync(end | read);
        dev('npu0').cache?.flush();
        return seen;
      },
      NPU,
    );
    expect([value, names(hazards)]).toEqual([expected, reports]);
    for (const facts of hazards) expect(facts).toMatchObject({ cause: { call: 'npu0.cache.flush()' } });
  });

  it('D-07: needs its invalidate besides the bracket, or it goes on with what it had; also if it snoops the CPUs', () => {
    const { value, hazards } = share(
      {},
      function* ({ view, sync, seen, dev }) {
        const values = [seen()];
        yield* sync(start | write);
        view.write(0, new Uint8Array(PAGE_SIZE).fill(0x55));
        yield* sync(end | write);
        values.push(seen());
        for (const name of ['npu0', 'npu1']) expect(dev(name).cache?.invalidate()).toBe(1);
        return [...values, seen()];
      },
      { ...NPU, npu1: { coherent: true, iommu: true, cache: {} } },
    );
    expect(value.map(Object.values)).toEqual([
      [0, 0],
      [0, 0],
      [0x55, 0x55],
    ]);
    expect(names(hazards)).toEqual(['npu0: missing-device-invalidate', 'npu1: missing-device-invalidate']);
    expect(hazards[0]).toMatchObject({ cause: { call: 'npu0.cache.invalidate()', by: 'npu0 driver' } });
  });

  it('charges the lines it writes back', () => {
    const { value } = share(
      {},
      function* ({ puts, dev }) {
        const { cache, sim } = dev('npu0');
        puts('npu0', 0x44);
        yield* sim.delay(0);
        const before = sim.now;
        cache?.flush();
        yield* sim.delay(0);
        return sim.now - before;
      },
      NPU,
    );
    expect(value).toBe((PAGE_SIZE / 64) * 4);
  });

  it('is refused a second one, and one that is out of range; nothing is added then', () => {
    const { machine } = bench();
    const npu = machine.addDevice({ name: 'npu0', coherent: false, iommu: true, cache: {} });
    expect(() => new Gpu(npu, { ...videoCore6, cache: {} })).toThrow(invariant('cache: npu0 has a cache of its own'));
    const bad = { name: 'bad', coherent: false, iommu: true, cache: { geometry: { ways: 0 } } };
    expect(() => machine.addDevice(bad)).toThrow(invariant('cache: ways 0'));
    expect(machine.devices).toEqual([npu]);
    machine.removeDevice(npu);
  });
});

describe('the caches of a machine', () => {
  it('are as the user says, and otherwise as the preset does', () => {
    const { machine } = bench({ cache: { writes: 'through', ways: 4 }, writeBuffers: 2 });
    const { coherency } = machine;
    expect([coherency.cache.sets, coherency.cache.ways, coherency.systemCache]).toEqual([64, 4, null]);
    const page = machine.pages.allocPages({ order: 0, owner: 'test' });
    const at = physAddr(page * PAGE_SIZE);
    const cpu = { name: 'app', kind: 'cpu', via: 'test', beforeRead: '', afterWrite: '' } as const;
    coherency.cpuWrite(at, Uint8Array.of(1), 0, 1, 'cached', cpu);
    expect(coherency.cache.dirtyLines).toBe(0);
    for (let line = 0; line < 3; line++) {
      coherency.cpuWrite(physAddr(at + line * 64), Uint8Array.of(1), 0, 1, 'write-combined', cpu);
    }
    expect(coherency.pendingLines).toBe(2);
    coherency.drainWriteBuffer();
    machine.pages.freePages(page, 1);
  });
});

describe('the adversary of a machine', () => {
  /** The CPU looks at what is beside the bytes that the device writes, and reads them without a bracket. */
  const play = (options: BenchOptions) =>
    share(options, function* ({ view, puts, dev }) {
      for (let value = 1; value <= 4; value++) {
        view.read(PAGE_SIZE - 1, 1);
        yield* dev('past').sim.delay(100);
        puts('past', value);
      }
      return view.read(0, 1)[0];
    });

  it('lets one hardware be lucky and another not, and each run replays from its schedule', () => {
    const runs = Array.from({ length: 20 }, (_, seed) => play({ adversary: seed }));
    expect(new Set(runs.map(({ value }) => value === 4))).toEqual(new Set([true, false]));
    for (const { value, hazards, sim } of runs) {
      const again = play({ chooser: new ReplayChooser(sim.choices) });
      expect([again.value, again.hazards.length]).toEqual([value, hazards.length]);
    }
  });

  it('D-08: leads to the same counts of lines and bytes on replay, others than those of kind hardware', () => {
    const counts = (options: BenchOptions) => {
      const { coherency, sim } = play(options);
      return {
        maintained: coherency.maintained,
        cache: coherency.cache.counters,
        endNs: sim.now,
        choices: sim.choices,
      };
    };
    const first = counts({ adversary: 3 });
    expect(counts({ adversary: 3 })).toEqual(first);
    expect(counts({ chooser: new ReplayChooser(first.choices) })).toEqual(first);
    expect(counts({}).cache).not.toEqual(first.cache);
  });

  it('is refused beside a chooser', () => {
    expect(() => bench({ adversary: 1, chooser: new ReplayChooser(''), atRest: false })).toThrow(
      invariant('adversary: 1'),
    );
  });
});
