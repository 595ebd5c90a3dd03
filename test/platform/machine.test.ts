import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/base/addr.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { freeCacheCosts } from '../../src/cache/cache-costs.ts';
import { fragmentPages } from '../../src/mem/fragmenter.ts';
import { armSoc } from '../../src/platform/arm-soc.ts';
import { Machine, type MachineSpec } from '../../src/platform/machine.ts';
import { RandomChooser } from '../../src/sim/chooser.ts';
import { Prng } from '../../src/sim/prng.ts';
import { TraceHash } from '../../src/trace/trace-hash.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { bench, invariant } from '../bench.ts';

const SPEC: MachineSpec = {
  ram: [{ base: 0x8000_0000, bytes: 32 * MIB }],
  cmaBytes: 4 * MIB,
  cache: { lineBytes: 64, sets: 16, ways: 4 },
  cacheCosts: freeCacheCosts,
  iommu: null,
  syscallNs: 0,
};

describe('Machine', () => {
  it('adds devices and processes, each under its name', () => {
    const { machine } = bench();
    const [cam, gpu] = [
      machine.addDevice({ name: 'cam', coherent: false }),
      machine.addDevice({ name: 'gpu', coherent: true, iommu: true }),
    ];
    const app = machine.addProcess({ name: 'app' });
    expect(machine.devices).toEqual([cam, gpu]);
    expect(machine.processes).toEqual([app]);
    expect([cam.iommuGroup, gpu.iommuGroup?.defaultDomain?.name, gpu.coherent]).toEqual([null, 'gpu', true]);
  });

  it('refuses a second device of a name, and one behind an IOMMU that it has not; nothing is added', () => {
    const { machine } = bench();
    machine.addDevice({ name: 'cam', coherent: false, iommu: true });
    expect(() => machine.addDevice({ name: 'cam', coherent: true })).toThrow(invariant('addDevice: name cam is taken'));
    const simple = new Machine(SPEC);
    expect(simple.iommu).toBeNull();
    expect(() => simple.addDevice({ name: 'cam', coherent: true, iommu: true })).toThrow(
      invariant('addDevice cam: this machine has no IOMMU'),
    );
    expect([machine.devices.length, simple.devices.length]).toEqual([1, 0]);
  });

  it('gives the page table and the address-space id back when a device behind the IOMMU cannot be made', () => {
    const { machine } = bench();
    expect(() => machine.addDevice({ name: 'bad', coherent: true, iommu: true, dmaMaskBits: 65 })).toThrow(
      invariant('dmaMaskBits: 65'),
    );
    expect(machine.memory.ledger.liveCount).toBe(0);
    const good = machine.addDevice({ name: 'good', coherent: true, iommu: true });
    expect(good.iommuGroup?.domain?.asid).toBe(1);
  });

  it('is made without an IOMMU, its devices see physical addresses', () => {
    const machine = new Machine(SPEC);
    const device = machine.addDevice({ name: 'cam', coherent: false });
    const buf = machine.systemHeap.alloc(PAGE_SIZE, 'frame');
    const seen = machine.sim.run(function* () {
      const att = yield* buf.attach(device);
      const sgt = yield* att.mapUnlocked('to-device');
      const address = sgt.dmaAddress(0);
      yield* att.unmapUnlocked(sgt, 'to-device');
      yield* buf.detach(att);
      return address;
    });
    expect(seen).toBe(buf.priv.memory.physAddress(0));
    buf.put();
    machine.sim.run();
    expect(machine.memory.ledger.liveCount).toBe(0);
  });

  it('charges a system call what its preset says', () => {
    const b = bench();
    const [app, device] = [b.machine.addProcess({ name: 'app', watch: false }), b.device('cam')];
    const buf = b.machine.cmaHeap.alloc(PAGE_SIZE, 'frame');
    const fd = app.fds.install(buf);
    b.sim.run(function* () {
      const att = yield* buf.attach(device);
      const sgt = yield* att.mapUnlocked('to-device');
      yield* b.sim.delay(0);
      const start = b.sim.now;
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: 6 });
      yield* b.sim.delay(0);
      expect(b.sim.now - start).toBe(150 + 64 * 10 + 200);
      yield* att.unmapUnlocked(sgt, 'to-device');
      yield* buf.detach(att);
    });
    app.exit();
  });
});

/** A camera fills frames and an application reads them, on fragmented memory, in a random schedule. Stepwise. */
function scenario(seed: number): { step: () => boolean; digest: () => string } {
  const chooser = new RandomChooser(new Prng(seed).fork('schedule'));
  const machine = armSoc({
    ramBytes: 16 * MIB,
    cmaBytes: 4 * MIB,
    cacheBytes: 16 * KIB,
    seed,
    chooser,
    hazards: 'record',
  });
  const { sim } = machine;
  const hash = new TraceHash(sim.trace);
  const random = sim.prng.fork('frames');
  const held = fragmentPages(machine.pages, sim.prng.fork('memory'), { freeFraction: 0.4, maxFreeOrder: 1 });
  const devices = ['camera', 'display'].map((name) => machine.addDevice({ name, coherent: false, iommu: true }));
  const app = machine.addProcess({ name: 'app' });
  const tasks = devices.map((device) =>
    sim.spawn(device.name, function* () {
      for (let frame = 0; frame < 4; frame++) {
        const buf = machine.systemHeap.alloc((1 + random.int(4)) * PAGE_SIZE, `${device.name}${frame}`);
        const fd = app.fds.install(buf);
        const att = yield* buf.attach(device);
        const sgt = yield* att.mapUnlocked('bidirectional');
        const view = yield* app.mmap(fd);
        device.port.write(sgt.dmaAddress(0), new Uint8Array(PAGE_SIZE).fill(frame), 0, PAGE_SIZE);
        yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: 1 });
        view.read(0, 1 + random.int(PAGE_SIZE));
        yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: 5 });
        yield* sim.delay(random.int(3) * 1000);
        yield* att.unmapUnlocked(sgt, 'bidirectional');
        yield* buf.detach(att);
        view.munmap();
        app.fds.close(fd);
      }
    }),
  );
  let untilNs = 0;
  return {
    step() {
      untilNs += 700;
      sim.runUntil(untilNs);
      const isOver = tasks.every((task) => task.outcome !== null);
      if (isOver) held.release();
      return !isOver;
    },
    digest: () => `${hash.digest} ${hash.count}`,
  };
}

function runToEnd(seed: number): string {
  const { step, digest } = scenario(seed);
  while (step());
  return digest();
}

describe('a whole scenario', () => {
  it('leaves the same trace for the same seed, and another one for another', () => {
    const digests = [1, 2, 3].map(runToEnd);
    expect([1, 2, 3].map(runToEnd)).toEqual(digests);
    expect(new Set(digests).size).toBe(3);
  });

  it('is not influenced by another machine beside it', () => {
    const alone = [runToEnd(1), runToEnd(2)];
    const [first, second] = [scenario(1), scenario(2)];
    let running = true;
    while (running) {
      const [one, two] = [first.step(), second.step()];
      running = one || two;
    }
    expect([first.digest(), second.digest()]).toEqual(alone);
  });
});
