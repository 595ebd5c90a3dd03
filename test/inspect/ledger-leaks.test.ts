import { describe, expect, it } from 'vitest';
import type { LeakFacts } from '../../src/base/watch-hazards.ts';
import { videoCore6 } from '../../src/devices/gpu/gpu-params.ts';
import { Gpu } from '../../src/devices/gpu.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { dmaAllocCoherent, dmaFreeCoherent } from '../../src/dma-api/dma-alloc.ts';
import { dmaMapSgtable, dmaUnmapSgtable } from '../../src/dma-api/dma-map.ts';
import { type DmaBuf, exportDmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { CpuMapping } from '../../src/dmabuf/dma-buf-ops.ts';
import { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import { SyncFile } from '../../src/dmabuf/sync-file.ts';
import { checkLeaks, type LeakOptions, leakReport } from '../../src/inspect/leaks.ts';
import { lift, type MaybeOp, type Op } from '../../src/sim/op.ts';
import { Simulator } from '../../src/sim/simulator.ts';
import {
  DRM_IOCTL_SYNCOBJ_CREATE,
  DRM_IOCTL_SYNCOBJ_DESTROY,
  DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE,
  DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD,
} from '../../src/uapi/drm-syncobj-requests.ts';
import { FenceFile } from '../../src/uapi/fence-file.ts';
import type { Process } from '../../src/uapi/process.ts';
import type { Bench } from '../bench.ts';
import { errno } from '../bench.ts';
import { allocBuffer, createDumb, fdToHandle, handleToFd, System } from '../uapi/system.ts';
import { placeOf } from './place.ts';

/** A machine on which things are left on purpose. */
function system(): System {
  return new System({ atRest: false, hazards: 'record' });
}

function at(mark: string): string {
  return placeOf(import.meta.url, mark);
}

/** Kind, count, place and remedy of what is left. */
function left({ sim }: Bench, options: LeakOptions = {}): unknown[] {
  return leakReport(sim, options).leaks.map(({ object, of, count, site }) => [`${object} (${of})`, count, site]);
}

/** One thing that a driver can forget to give back, and how it does that right. */
interface Case {
  readonly what: string;
  readonly forgets: (bench: System, buf: DmaBuf, dev: Device) => MaybeOp<() => MaybeOp<void>>;
  readonly object: string;
}

const CASES: readonly Case[] = [
  {
    what: 'a reference',
    object: 'reference (dmabuf)',
    forgets(_bench, buf) {
      buf.get(); // a reference
      return () => {
        buf.put();
      };
    },
  },
  {
    what: 'an attachment',
    object: 'attachment (dmabuf)',
    *forgets(_bench, buf, dev) {
      const att = yield* buf.attach(dev); // an attachment
      return () => buf.detach(att);
    },
  },
  {
    what: 'a mapping in the kernel',
    object: 'vmap (dmabuf)',
    *forgets(_bench, buf) {
      const map: CpuMapping = yield* buf.vmap(); // a mapping in the kernel
      return () => buf.vunmap(map);
    },
  },
  {
    what: 'a mapping of a process',
    object: 'mmap (dmabuf)',
    *forgets({ machine }, buf) {
      const process = machine.addProcess({ name: 'app' });
      const fd = process.fds.install(buf.get());
      const mapping = yield* process.mmap(fd); // a mapping of a process
      yield* process.close(fd);
      return () => mapping.munmap();
    },
  },
  {
    what: 'a descriptor',
    object: 'fd (dmabuf)',
    forgets({ machine }, buf) {
      const process = machine.addProcess({ name: 'app' });
      const fd = process.fds.install(buf.get()); // a descriptor
      return () => process.close(fd);
    },
  },
  {
    what: 'a fence that nobody signals',
    object: 'reference (fence)',
    forgets(bench) {
      const fence = new DmaFence(bench.sim, { name: 'lost', id: 1 }, 1); // a fence that nobody signals
      return () => {
        fence.signal();
        fence.put();
      };
    },
  },
  {
    what: 'a DMA mapping',
    object: 'dma-mapping (dma)',
    forgets(bench, _buf, dev) {
      const table = bench.scattered(2);
      dmaMapSgtable(dev, table, 'to-device'); // a DMA mapping
      return () => {
        dmaUnmapSgtable(dev, table, 'to-device');
      };
    },
  },
  {
    what: 'an allocation of the DMA API',
    object: 'dma-allocation (dma)',
    forgets(_bench, _buf, dev) {
      const ring = dmaAllocCoherent(dev, 4096); // an allocation of the DMA API
      return () => {
        if (ring !== null) dmaFreeCoherent(dev, ring);
      };
    },
  },
];

describe('a driver or process that forgets to give back', () => {
  it.each(CASES)('$what is told what it left and where it took it, and nothing once it gave it back', (what) => {
    const bench = system();
    const dev = bench.device('gpu0');
    const buf = bench.machine.systemHeap.alloc(4096, 'frame1');
    const own = ['reference (dmabuf)', 1, expect.any(String)];
    expect(left(bench)).toEqual([own]);
    const giveBack = bench.sim.run(() => lift(what.forgets(bench, buf, dev)));
    expect(left(bench)).toEqual(expect.arrayContaining([own, [what.object, 1, at(what.what)]]));
    expect(left(bench)).toHaveLength(2);
    bench.sim.run(() => lift(giveBack()));
    expect(left(bench)).toEqual([own]);
    buf.put();
    bench.sim.run();
    expect(left(bench)).toEqual([]);
    expect(bench.sim.objects.size).toBe(0);
  });

  it('a mapping and a pin of an attachment are told of the attachment, of which they are consequences', () => {
    const bench = system();
    const dev = bench.device('gpu0');
    const { ops, priv, sizeBytes } = bench.fakeBuffer();
    const moving = { ...ops, pin() {}, unpin() {} };
    const buf = exportDmaBuf(bench.sim, { exporterName: 'vram', name: 'frame1', sizeBytes, ops: moving, priv });
    const kinds = () =>
      [...bench.sim.objects.live].flatMap(({ kind, of, name }) => (name.includes('gpu0') ? [kind, of] : []));
    const att = bench.sim.run(() => buf.attach(dev)); // the attachment
    const sgt = bench.sim.run(() => att.mapUnlocked('to-device'));
    expect(kinds()).toEqual(['attachment', 'dmabuf', 'pin', 'dmabuf', 'mapping', 'dmabuf']);
    const expected = { expect: [{ kind: 'reference' as const }] };
    expect(left(bench, expected)).toEqual([['attachment (dmabuf)', 1, at('the attachment')]]);
    bench.sim.run(() => att.unmapUnlocked(sgt, 'to-device'));
    expect(kinds()).toEqual(['attachment', 'dmabuf', 'pin', 'dmabuf']);
    bench.sim.run(() => att.mapUnlocked('to-device')); // the kept table goes with the detach
    bench.sim.run(() => buf.detach(att));
    expect(kinds()).toEqual([]);
    expect(left(bench, expected)).toEqual([]);
  });

  it('an import of a device is told once, with the reference that it keeps, though its maker has put his own later', () => {
    const bench = system();
    const gpu = new Gpu(bench.device('gpu0'), videoCore6);
    bench.sim.run(function* () {
      const buf = bench.machine.systemHeap.alloc(4096, 'frame1');
      yield* gpu.importBuffer(buf); // the import
      buf.put();
    });
    expect(left(bench)).toEqual([['attachment (dmabuf)', 1, at('the import')]]);
  });

  it('a handle is told of the descriptor of its client, and what hangs on it', () => {
    const bench = system();
    const app = bench.machine.addProcess({ name: 'app' });
    bench.sim.run(function* () {
      const card = yield* app.open('/dev/dri/card0'); // the client
      yield* createDumb(app, card);
    });
    const { leaks } = leakReport(bench.machine);
    expect(leaks).toMatchObject([{ object: 'fd', of: '/dev/dri/vgem', site: at('the client'), remedy: 'close(3)' }]);
    expect(leaks[0]?.what).toMatch(/^gem-object /);
    expect(leaks[0]?.chain).toEqual([
      expect.stringMatching(/^fd 3 of app \(made at .*ts:\d+:\d+\)$/),
      expect.stringMatching(/^file \/dev\/dri\/vgem /),
      expect.stringMatching(/^handle 1 of app in /),
    ]);
  });
});

describe('the chain of a leak', () => {
  it('leads from a descriptor over its sync file to the fence', () => {
    const bench = system();
    const player = bench.machine.addProcess({ name: 'player' });
    const fence = bench.fence();
    player.fds.install(new FenceFile(new SyncFile(bench.sim, fence))); // the sync file
    const [leak] = leakReport(bench.sim, { expect: [{ kind: 'reference', of: 'fence' }] }).leaks;
    expect(leak).toMatchObject({ object: 'fd', of: 'sync_file', owner: 'player', site: at('the sync file') });
    expect(leak?.what).toBe('fence f1:1');
    expect(leak?.chain.map((link) => link.replace(/ \(made.*/, ''))).toEqual([
      'fd 3 of player',
      'file anon_inode:sync_file',
    ]);
  });

  it('leads from a buffer to the fences of its reservation', () => {
    const bench = system();
    const fence = bench.fence();
    const buf = bench.machine.systemHeap.alloc(4096, 'frame1');
    bench.sim.run(function* () {
      yield* buf.resv.withLock(() => {
        buf.resv.reserveFences(1);
        buf.resv.addFence(fence, DmaResvUsage.write);
      });
      fence.put();
    });
    expect(left(bench)).toEqual([['reference (dmabuf)', 1, expect.any(String)]]);
    expect(bench.sim.objects.of(fence)?.name).toBe('f1:1');
  });

  it('leads from a descriptor of a sync object to its fence, and of a handle over the client', () => {
    const bench = system();
    const app = bench.machine.addProcess({ name: 'app' });
    bench.sim.run(function* () {
      const card = yield* app.open('/dev/dri/card1');
      const { handle } = yield* app.ioctl(card, DRM_IOCTL_SYNCOBJ_CREATE, {});
      const { fd } = yield* app.ioctl(card, DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle });
      const { handle: second } = yield* app.ioctl(card, DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { fd });
      const way = (kind: string) =>
        leakReport(bench.sim)
          .leaks.filter(({ of }) => of === kind)
          .map(({ chain, what }) => [...chain, what].map((link) => link.replace(/ \(made.*/, '')));
      expect(way('syncobj_file')).toEqual([['fd 4 of app', 'file anon_inode:syncobj_file', 'sync object']]);
      expect(way('/dev/dri/vkms')).toEqual([
        ['fd 3 of app', 'file /dev/dri/vkms', `sync object handle ${handle} of app`, 'sync object'],
      ]);
      for (const own of [handle, second]) yield* app.ioctl(card, DRM_IOCTL_SYNCOBJ_DESTROY, { handle: own });
      expect(way('/dev/dri/vkms')).toEqual([['fd 3 of app', 'file /dev/dri/vkms']]);
      yield* app.close(fd);
      expect(way('syncobj_file')).toEqual([]);
      expect([...bench.sim.objects.live].map(({ kind }) => kind)).not.toContain('syncobj');
    });
  });

  it('names files in messages of each other that nobody can receive any more as a loop', () => {
    const bench = system();
    const app = bench.machine.addProcess({ name: 'app' });
    const [one, two] = app.socketpair();
    app.sendmsg(one, { bytes: Uint8Array.of(1), fds: [two] });
    app.sendmsg(two, { bytes: Uint8Array.of(1), fds: [one] });
    expect(left(bench).map((leak) => (leak as unknown[])[0])).toEqual(['fd (socket)']);
    app.exit();
    bench.sim.run();
    const { leaks } = leakReport(bench.sim);
    expect(leaks).toMatchObject([
      { object: 'loop', of: 'socket' },
      { object: 'loop', of: 'socket' },
    ]);
  });

  it('blames the get of the task that did not put, whichever is younger', () => {
    const bench = system();
    const buf = bench.machine.systemHeap.alloc(4096, 'frame1');
    bench.sim.spawn('careless', function* () {
      buf.get(); // the careless get
      yield* bench.sim.delay(100);
    });
    bench.sim.spawn('careful', function* () {
      yield* bench.sim.delay(10);
      buf.get();
      yield* bench.sim.delay(10);
      buf.put();
    });
    bench.sim.spawn('first', function* () {
      buf.get();
      yield* bench.sim.delay(50);
      buf.put();
    });
    bench.sim.run();
    buf.put();
    expect(left(bench)).toEqual([['reference (dmabuf)', 1, at('the careless get')]]);
  });
});

describe('a reference', () => {
  it('that one task took and forgot is told with the other place, since a put does not say whose it is', () => {
    const bench = system();
    bench.sim.run(function* () {
      const buf = bench.machine.systemHeap.alloc(4096, 'frame1'); // the making
      yield* bench.sim.delay(10);
      buf.get(); // the forgotten get
      buf.put();
    });
    const [leak] = leakReport(bench.sim).leaks;
    expect(leak?.site).toEqual(at('the making'));
    expect(leak?.chain[0]).toMatch(
      /\(made at ledger-leaks\.test\.ts:\d+:\d+, or it is the one of ledger-leaks\.test\.ts:\d+:\d+\)$/,
    );
  });
});

describe('what is no leak', () => {
  function* twoFds(app: Process): Op<void> {
    for (let i = 0; i < 2; i++) yield* allocBuffer(app);
  }

  it('is what somebody has who goes on', () => {
    const bench = system();
    const app = bench.machine.addProcess({ name: 'app' });
    app.spawn('main', () => twoFds(app));
    bench.sim.run();
    expect(left(bench)).toHaveLength(1);
    expect(left(bench, { running: ['app'] })).toEqual([]);
    expect(left(bench, { running: ['ap'] })).toHaveLength(1);
  });

  it('is a pool up to the size that was told, and no further', () => {
    const bench = system();
    const app = bench.machine.addProcess({ name: 'app' });
    bench.sim.run(() => twoFds(app));
    const pool = { kind: 'fd', of: 'dmabuf', owner: 'app' } as const;
    expect(left(bench, { expect: [{ ...pool, atMost: 2 }] })).toEqual([]);
    expect(left(bench, { expect: [{ ...pool, atMost: 1 }] })).toEqual([['fd (dmabuf)', 1, expect.any(String)]]);
    expect(left(bench, { expect: [{ ...pool, of: 'sync_file' }] })).toHaveLength(1);
  });

  it('is a fence that has signalled and that only its maker has, and a file while a call uses it', () => {
    const bench = system();
    const fence = bench.fence();
    expect(left(bench)).toHaveLength(1);
    fence.signal();
    expect(left(bench)).toEqual([]);
  });

  it('is what a call had under way when its process was killed, wherever that was', () => {
    for (let killNs = 0; killNs < 12_000; killNs += 600) {
      const bench = new System({ atRest: false, hazards: 'record', shadow: false, watch: true, callSites: false });
      const app = bench.machine.addProcess({ name: 'app' });
      app.spawn('main', function* () {
        const [one, two] = app.socketpair();
        for (;;) {
          const fd = yield* allocBuffer(app);
          const card = yield* app.open('/dev/dri/card1');
          const handle = yield* fdToHandle(app, card, fd);
          const view = yield* app.mmap(fd);
          app.sendmsg(one, { bytes: Uint8Array.of(1), fds: [fd, yield* handleToFd(app, card, handle)] });
          yield* app.recvmsg(two, { maxFds: 1 });
          app.fork('child').exit();
          yield* app.poll([{ fd, events: 5 }], 0);
          view.munmap();
          for (const own of app.fds.open) if (own > two) yield* app.close(own);
        }
      });
      bench.sim.run(() => bench.sim.delay(killNs));
      bench.sim.run(() => app.kill());
      bench.sim.run();
      expect([killNs, ...[...bench.sim.objects.live].map(({ name }) => name)]).toEqual([killNs]);
    }
  });

  it('is anything that a process had when it was killed', () => {
    const bench = system();
    const app = bench.machine.addProcess({ name: 'app' });
    app.spawn('main', () => twoFds(app));
    bench.sim.run();
    bench.sim.run(() => app.kill());
    bench.sim.run();
    expect(left(bench)).toEqual([]);
  });
});

describe('checkLeaks', () => {
  it('reports one hazard for each place, not one for each thing that is left', () => {
    const bench = system();
    const app = bench.machine.addProcess({ name: 'app' });
    bench.sim.run(function* () {
      const heap = yield* allocBuffer(app);
      for (let i = 0; i < 3; i++) app.fds.dup(heap); // the copies
      yield* app.close(heap);
    });
    expect(checkLeaks(bench.machine)).toBe(1);
    const facts = bench.sim.hazards.at(-1) as LeakFacts;
    expect(facts).toMatchObject({ hazard: 'ledger.leak', object: 'fd (dmabuf)', count: 3, site: at('the copies') });
    expect(facts.remedy).toBe('close(3)');
  });

  it('throws with the policy that throws, and does nothing when nothing is left', () => {
    const bench = new System({ atRest: false });
    expect(checkLeaks(bench.sim)).toBe(0);
    bench.machine.systemHeap.alloc(4096, 'frame1');
    expect(() => checkLeaks(bench.sim)).toThrow(
      /^ledger\.leak: 1 x reference \(dmabuf\) left: dma-buf frame1; kept alive by/,
    );
  });

  it('has nothing to tell of a simulator that does not watch', () => {
    const bench = new System({ atRest: false, shadow: false });
    bench.machine.systemHeap.alloc(4096, 'frame1');
    expect(left(bench)).toEqual([]);
    expect(bench.sim.objects.size).toBe(0);
    expect(new Simulator().objects.enabled).toBe(false);
  });

  it('shows a table by kind, the largest number first, with the first of each', () => {
    const bench = system();
    const app = bench.machine.addProcess({ name: 'app' });
    bench.sim.run(() => allocBuffer(app));
    for (let i = 0; i < 2; i++) app.fds.install(new FenceFile(new SyncFile(bench.sim, bench.fence())));
    const lines = leakReport(bench.sim, { expect: [{ kind: 'reference' }] }).text.split('\n');
    expect(lines[0]).toMatch(/^left +of +count +owner +made at$/);
    expect(lines[1]).toMatch(/^fd +sync_file +2 +app +ledger-leaks\.test\.ts:\d+:\d+$/);
    expect(lines[2]).toMatch(
      /^ {2}first, at \d+ ns: fd 3 of app .* > fence f1:1$|^ {2}first, at \d+ ns: fd 4 of app .* > fence f1:1$/,
    );
    expect(lines[3]).toMatch(/^fd +dmabuf +1 +app +system\.ts:\d+:\d+$/);
    expect(leakReport(new Simulator()).text).toBe('no leaks; 0 objects are alive');
  });

  it('leaves a descriptor that could not be closed in the ledger', () => {
    const bench = system();
    const app = bench.machine.addProcess({ name: 'app' });
    const dev = bench.device('gpu0');
    bench.sim.run(function* () {
      const fd = yield* allocBuffer(app);
      const buf = app.fds.get(fd);
      const att = yield* buf.attach(dev);
      buf.put();
      expect(() => app.fds.close(fd)).toThrow(/last put while gpu0 is attached/);
      expect(left(bench).map((leak) => (leak as unknown[])[0])).toContain('fd (dmabuf)');
      yield* buf.detach(att);
      yield* app.close(fd);
      expect(() => app.fds.close(fd)).toThrow(errno('EBADF'));
    });
    bench.sim.run();
    expect(left(bench)).toEqual([]);
  });
});
