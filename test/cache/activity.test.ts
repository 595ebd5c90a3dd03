/** Works, and who accesses their bytes: what is a conflict, and above all what is none. */
import { describe, expect, it } from 'vitest';
import { type PhysAddr, physAddr } from '../../src/base/addr.ts';
import { HazardError } from '../../src/base/errors.ts';
import type { Accessor } from '../../src/base/hazards.ts';
import { type AccessKind, Activity, type Work, type WorkSpec } from '../../src/cache/activity.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import { app, BASE, camera, Machine, type MachineOptions, nic } from './machine.ts';

interface Flag {
  signaled: boolean;
}

/** A machine whose camera and NIC take works on; accesses are 64 bytes at `line`. */
function setUp(options: MachineOptions = {}) {
  const machine = new Machine(options);
  const { activity, memory } = machine.domain;
  if (activity === null) throw new Error('no activity');
  const at = (line: number): PhysAddr => physAddr(BASE + 64 * line);
  const cpu = (kind: AccessKind, line: number, accessor: Accessor = app): void => {
    const bytes = memory.storesBytes ? new Uint8Array(64) : null;
    if (kind === 'read') machine.domain.cpuRead(at(line), bytes, 0, 64, 'uncached', accessor);
    else machine.domain.cpuWrite(at(line), bytes, 0, 64, 'uncached', accessor);
  };
  const device = (kind: AccessKind, line: number, port = camera): void => {
    const bytes = memory.storesBytes ? new Uint8Array(64) : null;
    if (kind === 'read') machine.domain.deviceRead(at(line), bytes, 0, 64, port);
    else machine.domain.deviceWrite(at(line), bytes, 0, 64, port);
  };
  const take = (spec: Partial<WorkSpec> = {}): Work =>
    activity.submit({
      accessor: camera.accessor,
      name: "job 'blit'",
      fence: 'camera0:3',
      remedy: "wait for fence camera0:3 (job 'blit')",
      ...spec,
    });
  const codes = (): string[] => machine.sim.hazards.map(({ hazard }) => hazard);
  return { machine, activity, at, cpu, device, take, codes };
}

/** The work of the camera begins and makes one access. */
function working(world: ReturnType<typeof setUp>, kind: AccessKind, line: number): Work {
  const work = world.take();
  world.activity.begin(work);
  world.device(kind, line);
  return work;
}

describe('an access while a work is at work', () => {
  it.each([
    ['write', 'read', 'access.read-while-writing'],
    ['read', 'write', 'access.write-while-reading'],
    ['write', 'write', 'access.write-while-writing'],
  ] as const)('that %ss bytes: a CPU that %ss them is %s, whoever came first', (mine, other, code) => {
    const after = setUp();
    working(after, mine, 1);
    after.cpu(other, 1);
    expect(after.codes()).toEqual([code]);

    const before = setUp();
    before.activity.begin(before.take());
    before.cpu(other, 1);
    expect(before.codes()).toEqual([]);
    before.device(mine, 1);
    expect(before.codes()).toEqual([code]);
  });

  it('is told with both sides, the bytes they share, the fence and the call', () => {
    const world = setUp();
    working(world, 'write', 1);
    world.cpu('read', 1);
    expect(world.machine.sim.hazards).toEqual([
      {
        hazard: 'access.read-while-writing',
        phys: world.at(1),
        sizeBytes: 64,
        first: { who: 'camera0', via: 'dma', action: 'write', timeNs: 0 },
        second: { who: 'app', via: 'mmap of fd 4', action: 'read', timeNs: 0 },
        fence: 'camera0:3',
        work: "job 'blit'",
        remedy: "app: wait for fence camera0:3 (job 'blit') before reading",
      },
    ]);
  });

  it('is told when it is done, once for each who and kind', () => {
    const world = setUp({ policy: 'throw' });
    working(world, 'write', 1);
    expect(() => world.cpu('write', 1)).toThrow(HazardError);
    world.cpu('write', 1);
    expect(() => world.cpu('read', 1)).toThrow(/access\.read-while-writing/);
    expect(() => world.device('write', 1, nic)).toThrow(/nic0 writes 64 bytes/);
    expect(world.codes()).toHaveLength(3);
  });

  it('is found when memory stores no bytes, too', () => {
    const world = setUp({ bytes: false });
    working(world, 'write', 1);
    world.cpu('read', 1);
    expect(world.codes()).toEqual(['access.read-while-writing']);
  });

  it('is a conflict of two works of two devices also when the first is over before the second accesses', () => {
    const world = setUp();
    const late = world.take({ accessor: nic.accessor, name: "job 'late'", fence: 'nic0:1', remedy: 'wait for nic0:1' });
    world.activity.begin(late);
    const early = working(world, 'write', 1);
    world.activity.end(early);
    expect(world.codes()).toEqual([]);
    world.device('read', 1, nic);
    // The camera's work was submitted last, so it is the one that had to wait.
    expect(world.machine.sim.hazards).toMatchObject([
      { hazard: 'access.write-while-reading', fence: 'nic0:1', remedy: 'camera0: wait for nic0:1 before writing' },
    ]);
  });
});

describe('no conflict', () => {
  it('is an access to other bytes, of the same line or not', () => {
    const world = setUp();
    const { domain } = world.machine;
    working(world, 'write', 1);
    world.cpu('write', 0);
    world.cpu('write', 2);
    domain.deviceWrite(world.at(5), new Uint8Array(32), 0, 32, camera);
    domain.cpuWrite(physAddr(world.at(5) + 32), new Uint8Array(32), 0, 32, 'uncached', app);
    expect(world.codes()).toEqual([]);
  });

  it('is a read of what is only read', () => {
    const world = setUp();
    working(world, 'read', 1);
    world.cpu('read', 1);
    world.device('read', 1, nic);
    expect(world.codes()).toEqual([]);
  });

  it('is an access before the work could begin, or after its end', () => {
    const world = setUp();
    const fence: Flag = { signaled: false };
    world.cpu('write', 1);
    const work = world.take({ waits: [fence] });
    world.cpu('write', 1);
    fence.signaled = true;
    world.activity.begin(work);
    world.device('write', 1);
    world.activity.end(work);
    world.cpu('write', 1);
    expect(world.codes()).toEqual([]);
  });

  it('is an access of a work that waits for the end of the other', () => {
    const world = setUp();
    const fence: Flag = { signaled: false };
    const second = world.take({ accessor: nic.accessor, waits: [fence] });
    const first = working(world, 'write', 1);
    world.activity.end(first);
    fence.signaled = true;
    world.activity.begin(second);
    world.device('write', 1, nic);
    expect(world.codes()).toEqual([]);
  });

  it('are two works of one ring, at work at the same time', () => {
    const world = setUp();
    const first = world.take();
    const second = world.take({ after: first });
    world.activity.begin(first);
    world.device('write', 1);
    world.activity.end(first);
    world.activity.begin(second);
    world.device('read', 1);
    expect(world.codes()).toEqual([]);
  });

  it("is what the kernel does to caches, and what the hardware does by itself, amid a device's work", () => {
    const world = setUp();
    const { domain } = world.machine;
    domain.cpuWrite(world.at(1), new Uint8Array(64), 0, 64, 'cached', app);
    domain.clean(world.at(1), 64);
    working(world, 'write', 1);
    domain.invalidate(world.at(1), 64);
    domain.prefetch(world.at(1), 64);
    domain.evict(world.at(1), 64);
    domain.peek(world.at(1), new Uint8Array(64), 0, 64, 'cached');
    domain.poke(world.at(1), new Uint8Array(64));
    expect(world.codes()).toEqual([]);
  });
});

describe('a work', () => {
  it('is at work when its waits have signalled, long before its device begins', () => {
    const world = setUp();
    const fence: Flag = { signaled: false };
    const work = world.take({ waits: [fence] });
    world.cpu('write', 1);
    fence.signaled = true;
    world.cpu('write', 2);
    world.activity.begin(work);
    world.device('read', 1);
    expect(world.codes()).toEqual([]);
    world.device('read', 2);
    expect(world.codes()).toEqual(['access.write-while-reading']);
  });

  it('is not at work as long as the one before it in its ring waits', () => {
    const world = setUp();
    const fence: Flag = { signaled: false };
    const first = world.take({ waits: [fence] });
    const second = world.take({ after: first });
    world.cpu('write', 1);
    fence.signaled = true;
    world.activity.begin(first);
    world.activity.end(first);
    world.activity.begin(second);
    world.device('read', 1);
    expect(world.codes()).toEqual([]);
  });
});

describe('while nothing is at work', () => {
  it('nothing is looked at, and without a shadow there is nothing at all', () => {
    const world = setUp();
    for (let i = 0; i < 100; i++) {
      world.cpu('write', i);
      world.device('read', i);
    }
    expect([world.activity.checks, world.activity.isActive]).toEqual([0, false]);
    world.activity.end(working(world, 'write', 1));
    world.cpu('read', 1);
    expect([world.activity.checks, world.activity.workCount]).toEqual([1, 0]);
    expect(new Machine({ shadow: false }).domain.activity).toBeNull();
  });

  it('a watch hears of accesses to its bytes until it is ended, and may answer with a hazard', () => {
    const world = setUp();
    const heard: string[] = [];
    const end = (world.activity as Activity).watch({
      pieces: [{ phys: world.at(2), sizeBytes: 64 }],
      touched: ({ kind, accessor }) => {
        heard.push(`${accessor.name} ${kind}`);
        return null;
      },
    });
    world.cpu('read', 1);
    world.cpu('read', 2);
    world.device('write', 2);
    world.device('write', 3);
    end();
    world.cpu('read', 2);
    expect([heard, world.activity.isActive]).toEqual([['app read', 'camera0 write'], false]);
  });
});

describe('what is kept', () => {
  it('of a work that is over is what reports tell of it: not its accesses, nor what it waited for', () => {
    const world = setUp();
    const first = working(world, 'write', 1);
    const second = world.take({ accessor: nic.accessor, waits: [{ signaled: true }], after: first });
    world.activity.begin(second);
    world.device('read', 2, nic);
    world.activity.end(first);
    world.activity.end(second);
    const nothing = { read: null, write: null };
    for (const work of [first, second]) expect([work.own, work.others]).toEqual([nothing, nothing]);
    expect(Object.keys(second.spec)).toEqual(['accessor', 'name', 'fence', 'remedy']);
  });

  it('of accesses by the CPU that go on where the last one ended is one place in the program', () => {
    const sim = new Simulator({ hazards: 'record', callSites: 4 });
    const activity = new Activity(sim);
    const spec = { accessor: camera.accessor, name: "job 'blit'", fence: 'camera0:3', remedy: 'wait for it' };
    activity.begin(activity.submit(spec));
    for (let i = 0; i < 100; i++) activity.access('read', physAddr(BASE + 4 * i), 4, app);
    activity.access('read', BASE, 4, app);
    expect(sim.site()).not.toBeNull();
    activity.access('read', physAddr(BASE + 4096), 4, app);
    expect(sim.site()).toBeNull();
    activity.access('write', physAddr(BASE + 396), 4, camera.accessor);
    activity.finish();
    expect(sim.hazards).toMatchObject([{ first: { who: 'app', site: expect.stringContaining('activity.test.ts') } }]);
  });
});
