/** What every request answers to arguments that make no sense. Whatever it answers, nothing has changed. */
import { describe, expect, it } from 'vitest';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import { dmaFenceGetStub } from '../../src/dmabuf/dma-fence-stub.ts';
import { countLiveDmaFences } from '../../src/dmabuf/dma-fence-world.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import type { Op } from '../../src/sim/op.ts';
import {
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
  DMA_BUF_SET_NAME_A,
  DMA_BUF_SET_NAME_B,
  DmaBufFile,
} from '../../src/uapi/dma-buf-file.ts';
import { DMA_HEAP_IOCTL_ALLOC } from '../../src/uapi/dma-heap-file.ts';
import { DrmFile } from '../../src/uapi/drm-file.ts';
import * as drm from '../../src/uapi/drm-ioctl.ts';
import * as so from '../../src/uapi/drm-syncobj-requests.ts';
import { EventFd } from '../../src/uapi/eventfd.ts';
import { FenceFile, SYNC_IOC_MERGE } from '../../src/uapi/fence-file.ts';
import { type Fields, type IoctlRequest, ioctlCode } from '../../src/uapi/ioctl.ts';
import { Memfd, MFD } from '../../src/uapi/memfd.ts';
import type { Process } from '../../src/uapi/process.ts';
import { SW_SYNC_IOC_CREATE_FENCE, SW_SYNC_PATH, SwSyncFile } from '../../src/uapi/sw-sync.ts';
import { UdmabufFile } from '../../src/uapi/udmabuf.ts';
import { type Case, type Fds, FIRST, KINDS, type Kind, NONE, REQUESTS, SENSELESS } from './bad-arguments.ts';
import { allocBuffer, CARDS, createDumb, fenceAt, HEAP, outcome, SMALL, System } from './system.ts';

function* setUp(system: System, app: Process): Op<Fds> {
  const { sim, machine } = system;
  const { pages, coherency } = machine;
  // Stands for all fences that have signalled; made once and for all.
  dmaFenceGetStub(sim).put();
  const [heap, vgem, card] = [yield* app.open(HEAP), yield* app.open(CARDS[0]), yield* app.open(CARDS[1])];
  const timeline = yield* app.open(SW_SYNC_PATH);
  for (const each of [vgem, card]) expect(yield* createDumb(app, each)).toBe(FIRST);
  expect(yield* app.ioctl(card, so.DRM_IOCTL_SYNCOBJ_CREATE, {})).toMatchObject({ handle: FIRST });
  const memfd = new Memfd(sim, { name: 'memory', flags: MFD.allowSealing, pages, coherency });
  memfd.ftruncate(8192);
  return {
    heap,
    vgem,
    card,
    timeline,
    fence: yield* fenceAt(app, timeline, 5),
    buffer: yield* allocBuffer(app),
    eventfd: app.fds.install(new EventFd(sim)),
    memfd: app.fds.install(memfd),
    udmabuf: app.fds.install(new UdmabufFile(sim, { coherency })),
  };
}

/** All that a call could change. */
function stateOf({ sim, machine, cards }: System, app: Process): unknown {
  const files = app.fds.open.map((fd) => {
    const file = app.fds.file(fd);
    const own = [fd, file.path, file.references, app.fds.isCloexec(fd)];
    if (file instanceof DrmFile) return [...own, file.handles, file.syncobjs.get(FIRST)?.fence, file.syncobjs.get(2)];
    if (file instanceof SwSyncFile) return [...own, file.timeline.value];
    if (file instanceof FenceFile) return [...own, file.syncFile.info(1)];
    return file instanceof DmaBufFile ? [...own, file.buf.resv.fences(DmaResvUsage.bookkeep).length] : own;
  });
  return {
    files,
    reserved: app.fds.reserved,
    buffers: dmaBufCore(sim).buffers.map(({ name, references }) => [name, references]),
    objects: cards.flatMap(({ objects }) =>
      objects.map((one) => [one.name, one.references, one.handleCount, one.flinkName]),
    ),
    fences: countLiveDmaFences(sim),
    bytes: machine.memory.ledger.liveBytes,
  };
}

/** Makes a call on a machine of its own. @returns its errno. */
function answer(call: (app: Process, fds: Fds) => Op<unknown>): string {
  const system = new System(SMALL);
  const app = system.machine.addProcess({ name: 'app' });
  const code = system.sim.run(function* () {
    const fds = yield* setUp(system, app);
    const before = stateOf(system, app);
    const got = yield* outcome(() => call(app, fds));
    if (got !== 'ok') expect(stateOf(system, app)).toEqual(before);
    return got;
  });
  app.exit();
  system.sim.run();
  system.expectNothingLeft();
  return code;
}

/** Arguments may name a descriptor by its kind. */
function call(app: Process, fds: Fds, [, on, request, args]: Case, readOnly = false): Op<unknown> {
  const kinds: readonly unknown[] = KINDS;
  const fdOf = (value: unknown) => (kinds.includes(value) ? fds[value as Kind] : value);
  const given = Object.fromEntries(Object.entries(args).map(([field, value]) => [field, fdOf(value)]));
  return app.ioctl(fds[on], request, given as never, { readOnly });
}

describe('arguments that make no sense', () => {
  it.each(SENSELESS)('%s, on a %s', (...row) => {
    expect(answer((app, fds) => call(app, fds, row))).toBe(row[4]);
  });
});

describe('every request', () => {
  it.each(REQUESTS.map((row) => [row[1].name, ...row] as const))(
    '%s: a pointer to nowhere is EFAULT',
    (_name, on, request) => {
      expect(answer((app, fds) => app.ioctl(fds[on], request, null))).toBe('EFAULT');
      expect(answer((app, fds) => app.ioctl(fds[on], request.code, new Uint8Array(1)))).toBe('EFAULT');
    },
  );

  /** Requests whose answer the process has to be told: it must not keep what it does not know of. */
  const told: readonly IoctlRequest<Fields>[] = [
    DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
    DMA_HEAP_IOCTL_ALLOC,
    SW_SYNC_IOC_CREATE_FENCE,
    SYNC_IOC_MERGE,
    drm.DRM_IOCTL_MODE_CREATE_DUMB,
    so.DRM_IOCTL_SYNCOBJ_CREATE,
    so.DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD,
  ];
  it.each(REQUESTS.filter(([, request]) => told.includes(request)).map((row) => [row[1].name, ...row] as const))(
    '%s: makes nothing when the process cannot be told',
    (name, on, request, args) => {
      expect(answer((app, fds) => call(app, fds, [name, on, request, args, 'EFAULT'], true))).toBe('EFAULT');
    },
  );

  it.each(KINDS)('that a %s does not know changes nothing', (kind) => {
    const unknown = { heap: 'EINVAL', vgem: 'EINVAL', card: 'EINVAL' } as const;
    const expected = kind === 'heap' || kind === 'vgem' || kind === 'card' ? unknown[kind] : 'ENOTTY';
    for (const code of [ioctlCode('rw', 'x', 0x7f, 8), ioctlCode('none', 'b', 0x7e, 0)]) {
      expect(answer((app, fds) => app.ioctl(fds[kind], code, 0))).toBe(expected);
    }
  });

  it.each(REQUESTS.map((row) => [row[1].name, ...row] as const))(
    '%s: on what is not open is EBADF',
    (_name, _on, request) => {
      for (const fd of [-1, NONE]) expect(answer((app) => app.ioctl(fd, request, {}))).toBe('EBADF');
    },
  );
});

describe('a name of a buffer', () => {
  it.each([
    ['too long', 'a'.repeat(32), 'EINVAL'],
    ['nowhere', null, 'EFAULT'],
    ['as long as can be', 'a'.repeat(31), 'ok'],
    ['empty', '', 'ok'],
  ])('%s', (_what, name, expected) => {
    for (const code of [DMA_BUF_SET_NAME_A, DMA_BUF_SET_NAME_B]) {
      expect(answer((app, fds) => app.ioctl(fds.buffer, code, name))).toBe(expected);
    }
  });
});

describe('what a card has made and could not tell', () => {
  /** Makes a request whose answer gets lost, then `again`; leaves nothing. */
  function lost(row: Case, again: (app: Process, fds: Fds, system: System) => Op<void>): void {
    const system = new System(SMALL);
    const app = system.machine.addProcess({ name: 'app' });
    system.sim.run(function* () {
      const fds = yield* setUp(system, app);
      const open = app.fds.open.length;
      expect(yield* outcome(() => call(app, fds, row, true))).toBe('EFAULT');
      expect([app.fds.open.length, app.fds.reserved]).toEqual([open, []]);
      yield* again(app, fds, system);
    });
    app.exit();
    system.sim.run();
    system.expectNothingLeft();
  }

  it('is found again by asking again: the handle of an import', () => {
    lost(
      ['import', 'card', drm.DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd: 'buffer' }, 'EFAULT'],
      function* (app, { card, buffer }) {
        const { handle } = yield* app.ioctl(card, drm.DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd: buffer });
        const client = app.fds.file(card);
        expect(client instanceof DrmFile ? client.handles : []).toEqual([FIRST, handle]);
      },
    );
  });

  it('is found again by asking again: the buffer of an export, and a name', () => {
    lost(
      ['export', 'card', drm.DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle: FIRST }, 'EFAULT'],
      function* (app, { card }, { sim }) {
        const before = dmaBufCore(sim).buffers.length;
        yield* app.ioctl(card, drm.DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle: FIRST });
        expect(dmaBufCore(sim).buffers.length).toBe(before);
      },
    );
    lost(['name', 'card', drm.DRM_IOCTL_GEM_FLINK, { handle: FIRST }, 'EFAULT'], function* (app, { card }) {
      expect(yield* app.ioctl(card, drm.DRM_IOCTL_GEM_FLINK, { handle: FIRST })).toMatchObject({ name: 1 });
    });
  });

  it('ends by itself: a fence whose number nobody knows is over after 10 s', () => {
    lost(
      ['fence', 'vgem', drm.DRM_IOCTL_VGEM_FENCE_ATTACH, { handle: FIRST, flags: 1 }, 'EFAULT'],
      function* (app, { vgem }, { sim }) {
        const attach = () => app.ioctl(vgem, drm.DRM_IOCTL_VGEM_FENCE_ATTACH, { handle: FIRST, flags: 1 });
        expect(yield* outcome(attach)).toBe('EBUSY');
        yield* sim.delay(10_000_000_000);
        expect(yield* outcome(attach)).toBe('ok');
      },
    );
  });
});
