/** Memory of DRM objects: how large, how mapped, who keeps it, and the fences that a process attaches to it. */
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, type PhysAddr } from '../../src/base/addr.ts';
import type { ErrnoCode } from '../../src/base/errno.ts';
import { MIB, seconds } from '../../src/base/units.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { vgemDriver, vkmsDriver } from '../../src/uapi/drm-device.ts';
import {
  DRM_IOCTL_MODE_CREATE_DUMB,
  DRM_IOCTL_PRIME_HANDLE_TO_FD,
  DRM_IOCTL_VGEM_FENCE_ATTACH,
  DRM_IOCTL_VGEM_FENCE_SIGNAL,
} from '../../src/uapi/drm-ioctl.ts';
import { POLL, PROT } from '../../src/uapi/file.ts';
import { pattern } from '../bench.ts';
import { DrmBench, O_RDWR_CLOEXEC } from './drm-bench.ts';

const PAGES = 4;
const BYTES = PAGES * PAGE_SIZE;
const PATTERN = pattern(16);

/** A 16 KiB object with a pattern in it, and the fd of it. */
function shared() {
  const d = new DrmBench();
  const client = d.open(d.device());
  const handle = d.create(client, PAGES);
  const own = d.map(client, handle, PAGES);
  for (let at = 0; at < BYTES; at += PATTERN.length) own.write(at, PATTERN);
  const fd = d.toFd(client, handle);
  return { d, client, handle, own, fd };
}

describe('PMM: a CPU mapping of the fd', () => {
  it('PMM-01 test_correct: shows what the mapping of the device file shows', () => {
    const { d, own, fd } = shared();
    const mapping = d.run(() => d.app.mmap(fd));
    expect(mapping.read(0, BYTES)).toEqual(own.read(0, BYTES));
    expect(mapping.read(BYTES - 16, 16)).toEqual(PATTERN);
    d.exit();
  });

  it('PMM-02 test_map_unmap: shows the same after it was unmapped and mapped again', () => {
    const { d, fd } = shared();
    d.run(() => d.app.mmap(fd)).munmap();
    expect(d.run(() => d.app.mmap(fd)).read(16, 16)).toEqual(PATTERN);
    d.exit();
  });

  it('PMM-04 test_forked: works in a child that inherited the fd', () => {
    const { d, fd } = shared();
    const child = d.app.fork('child');
    expect(d.run(() => child.mmap(fd)).read(32, 16)).toEqual(PATTERN);
    child.exit();
    d.exit();
  });

  it('PMM-05 test_correct_cpu_write: can be written when the export was read-write', () => {
    const { d, own, client, handle, fd } = shared();
    const bytes = pattern(BYTES, 5);
    d.run(() => d.app.mmap(fd, { prot: PROT.read | PROT.write })).write(0, bytes);
    expect(own.read(0, BYTES)).toEqual(bytes);
    d.closeHandle(client, handle);
    d.exit();
  });

  it('PMM-05: cannot be written when the export was read-only', () => {
    const d = new DrmBench();
    const client = d.open(d.device());
    const fd = d.toFd(client, d.create(client), 0);
    expect(d.codeOf(() => d.app.mmap(fd, { prot: PROT.read | PROT.write }))).toBe('EACCES');
    d.exit();
  });

  it('PMM-06 test_forked_cpu_write: shows what a child wrote', () => {
    const { d, own, fd } = shared();
    const child = d.app.fork('child');
    d.run(() => child.mmap(fd)).write(100, PATTERN);
    expect(own.read(100, 16)).toEqual(PATTERN);
    child.exit();
    d.exit();
  });

  it('PMM-07 test_refcounting: keeps the content when the handle is closed before it is made', () => {
    const { d, own, client, handle, fd } = shared();
    own.munmap();
    d.closeHandle(client, handle);
    expect(d.run(() => d.app.mmap(fd)).read(0, 16)).toEqual(PATTERN);
    d.exit();
  });

  it('PMM-08 test_dup: works through a duplicate of the fd', () => {
    const { d, fd } = shared();
    const copy = d.app.fds.dup(fd);
    d.close(fd);
    expect(d.run(() => d.app.mmap(copy)).read(0, 16)).toEqual(PATTERN);
    d.exit();
  });

  it.each([0x80000 - 1, 0x80000 + 1, 2 - 1, 2 + 1])('PMM-10 test_errors: export flags 0x%x are EINVAL', (flags) => {
    const { d, client, handle } = shared();
    expect(d.codeOf(() => d.app.ioctl(client, DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle, flags }))).toBe('EINVAL');
    d.exit();
  });

  it('PMM-10 test_errors: closed handle, closed fd, twice the size, full size at half offset', () => {
    const { d, client, handle, own, fd } = shared();
    expect(d.codeOf(() => d.app.mmap(fd, { length: 2 * BYTES }))).toBe('EINVAL');
    expect(d.codeOf(() => d.app.mmap(fd, { offset: BYTES / 2, length: BYTES }))).toBe('EINVAL');
    d.close(fd);
    expect(d.codeOf(() => d.app.mmap(fd))).toBe('EBADF');
    own.munmap();
    d.closeHandle(client, handle);
    const flags = O_RDWR_CLOEXEC;
    expect(d.codeOf(() => d.app.ioctl(client, DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle, flags }))).toBe('ENOENT');
    d.exit();
  });
});

describe('VGB: the virtual exporter', () => {
  it.each<[number, number, number, number | ErrnoCode]>([
    [0, 0, 0, 'EINVAL'],
    [1, 1, 1, PAGE_SIZE],
    [1024, 1024, 8, MIB],
    [32768, 32768, 16, 2048 * MIB],
    [0xffffffff, 1, 8, 'EINVAL'],
    [65536, 65536, 1, 'EINVAL'],
  ])('VGB-01 create: %s x %s x %s', (width, height, bpp, size) => {
    const d = new DrmBench();
    const client = d.open(d.device());
    const args = { width, height, bpp, size: 0 };
    const code = d.codeOf(() => d.app.ioctl(client, DRM_IOCTL_MODE_CREATE_DUMB, args));
    expect(code === '' ? args.size : code).toBe(size);
    d.exit();
  });

  it('VGB-02 mmap: a mapping stays valid when the handle is closed', () => {
    const d = new DrmBench();
    const device = d.device();
    const client = d.open(device);
    const handle = d.create(client, PAGES);
    const mapping = d.map(client, handle, PAGES);
    d.closeHandle(client, handle);
    for (let page = 0; page < PAGES; page++) mapping.write(page * PAGE_SIZE, Uint8Array.of(page, 0, 0, 1));
    expect([mapping.read(3 * PAGE_SIZE, 4)[0], device.objects.length]).toEqual([3, 1]);
    mapping.munmap();
    expect(device.objects).toEqual([]);
    d.exit();
  });

  it.each([
    ['VGB-03 bad-flag', { flags: 2 }],
    ['VGB-03 bad-pad', { pad: 1 }],
  ])('%s: EINVAL', (_id, extra) => {
    const d = new DrmBench();
    const client = d.open(d.device());
    const args = { handle: d.create(client), ...extra };
    expect(d.codeOf(() => d.app.ioctl(client, DRM_IOCTL_VGEM_FENCE_ATTACH, args))).toBe('EINVAL');
    d.exit();
  });

  it('VGB-06 dmabuf-export: closed here and imported elsewhere, it goes with the importer', () => {
    const d = new DrmBench();
    const device = d.device();
    const [client, other] = [d.open(device), d.open(d.device(vkmsDriver))];
    const handle = d.create(client);
    const fd = d.toFd(client, handle);
    d.closeHandle(client, handle);
    const imported = d.toHandle(other, fd);
    d.close(fd);
    expect(device.objects).toHaveLength(1);
    d.closeHandle(other, imported);
    expect(device.objects).toEqual([]);
    d.exit();
  });

  it('VGB-07 dmabuf-mmap: what was written through the fd is read through the own mapping', () => {
    const { d, own, fd } = shared();
    const mapping = d.run(() => d.app.mmap(fd));
    for (let page = 0; page < PAGES; page++) mapping.write(page * PAGE_SIZE, Uint8Array.of(page + 100));
    mapping.munmap();
    d.close(fd);
    for (let page = 0; page < PAGES; page++) expect(own.read(page * PAGE_SIZE, 1)[0]).toBe(page + 100);
    d.exit();
  });

  const busy = (d: DrmBench, fd: number): string => {
    const request = { fd, events: POLL.in | POLL.out, revents: 0 };
    d.run(() => d.app.poll([request], 0));
    return `${(request.revents & POLL.in) === 0 ? 'R' : ''}${(request.revents & POLL.out) === 0 ? 'W' : ''}`;
  };

  it.each([
    ['VGB-08 dmabuf-fence', false],
    ['VGB-09 dmabuf-fence-before', true],
  ])('%s: a read fence keeps writers off, a write fence everybody, a signalled one nobody', (_id, isBefore) => {
    for (const [flags, expected] of [
      [0, 'W'],
      [1, 'RW'],
    ] as const) {
      const d = new DrmBench();
      const client = d.open(d.device());
      const handle = d.create(client);
      let fd = isBefore ? -1 : d.toFd(client, handle);
      const { out_fence: fence } = d.ioctl(client, DRM_IOCTL_VGEM_FENCE_ATTACH, { handle, flags });
      if (isBefore) fd = d.toFd(client, handle);
      expect(busy(d, fd)).toBe(expected);
      d.ioctl(client, DRM_IOCTL_VGEM_FENCE_SIGNAL, { fence });
      expect(busy(d, fd)).toBe('');
      d.exit();
    }
  });

  it('a second fence that conflicts with a pending one is EBUSY; two readers get along', () => {
    const d = new DrmBench();
    const client = d.open(d.device());
    const handle = d.create(client);
    const attach = (flags: number) =>
      d.codeOf(() => d.app.ioctl(client, DRM_IOCTL_VGEM_FENCE_ATTACH, { handle, flags }));
    expect([attach(0), attach(0), attach(1)]).toEqual(['', '', 'EBUSY']);
    expect(d.codeOf(() => d.app.ioctl(client, DRM_IOCTL_VGEM_FENCE_SIGNAL, { fence: 9 }))).toBe('ENOENT');
    d.exit();
  });

  it('a fence that nobody signals ends after 10 s with an error, and signalling it then is ETIMEDOUT', () => {
    const d = new DrmBench();
    const client = d.open(d.device());
    const handle = d.create(client);
    const fd = d.toFd(client, handle);
    const start = d.b.sim.now;
    const { out_fence: fence } = d.ioctl(client, DRM_IOCTL_VGEM_FENCE_ATTACH, { handle, flags: 1 });
    d.run(() => d.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: DMA_BUF_SYNC.start | DMA_BUF_SYNC.read }));
    expect(d.b.sim.now - start).toBeGreaterThanOrEqual(seconds(10));
    expect(d.b.sim.now - start).toBeLessThan(seconds(10.1));
    d.run(() => d.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: DMA_BUF_SYNC.end | DMA_BUF_SYNC.read }));
    expect(d.codeOf(() => d.app.ioctl(client, DRM_IOCTL_VGEM_FENCE_SIGNAL, { fence }))).toBe('ETIMEDOUT');
    expect(d.codeOf(() => d.app.ioctl(client, DRM_IOCTL_VGEM_FENCE_SIGNAL, { fence }))).toBe('ENOENT');
    d.exit();
  });

  it('a client that goes signals its fences', () => {
    const d = new DrmBench();
    const client = d.open(d.device());
    const handle = d.create(client);
    const fd = d.toFd(client, handle);
    d.ioctl(client, DRM_IOCTL_VGEM_FENCE_ATTACH, { handle, flags: 1 });
    d.close(client);
    expect(busy(d, fd)).toBe('');
    d.exit();
  });
});

describe('IGD: what a driver does with objects', () => {
  it('IGD-01 export: freed once when handle and fd are gone', () => {
    const { d, client, handle, own, fd } = shared();
    own.munmap();
    d.closeHandle(client, handle);
    const before = d.b.machine.pages.freePageCount();
    d.close(fd);
    expect(d.b.machine.pages.freePageCount() - before).toBe(PAGES);
    d.exit();
  });

  it('IGD-02 import_self: the same object, whose pages can be had', () => {
    const { d, client, handle, fd } = shared();
    expect(d.toHandle(client, fd)).toBe(handle);
    expect(d.map(client, handle).read(0, 16)).toEqual(PATTERN);
    d.exit();
  });

  it('IGD-04 import_same_driver_smem: a device of the same driver has its own object of the same pages', () => {
    const { d, client, fd, handle } = shared();
    const foreign = d.device(vgemDriver);
    const other = d.open(foreign);
    const imported = d.toHandle(other, fd);
    const [object] = foreign.objects;
    const buf = d.app.fds.get(fd);
    expect(object?.imported?.buf).toBe(buf);
    const second = d.b.device('second', { coherent: true });
    d.run(function* () {
      const attachment = yield* buf.attach(second);
      const table = yield* attachment.mapUnlocked('bidirectional');
      expect(table.sizeBytes).toBe(BYTES);
      yield* attachment.unmapUnlocked(table, 'bidirectional');
      yield* buf.detach(attachment);
    });
    buf.put();
    const { out_fence: fence } = d.ioctl(client, DRM_IOCTL_VGEM_FENCE_ATTACH, { handle, flags: 1 });
    const begun = d.b.sim.now;
    d.b.sim.spawn('signaller', function* () {
      yield* d.b.sim.delay(seconds(1));
      yield* d.app.ioctl(client, DRM_IOCTL_VGEM_FENCE_SIGNAL, { fence });
    });
    const waitFd = d.toFd(other, imported);
    const polled = d.run(() => d.app.poll([{ fd: waitFd, events: POLL.out }], seconds(5)));
    expect([polled, d.b.sim.now - begun >= seconds(1), d.b.sim.now - begun < seconds(5)]).toEqual([1, true, true]);
    d.exit();
  });

  /** A buffer of one page of another exporter, imported; and what the kernel sees through its vmap. */
  function foreign() {
    const d = new DrmBench();
    const device = d.device();
    const client = d.open(device);
    const { memory } = d.b.machine;
    const buf = d.b.fakeBuffer(
      { vmap: ({ priv }) => ({ extents: priv.memory.extents(), attribute: 'cached' }) },
      PAGE_SIZE,
    );
    const fd = d.app.fds.install(buf);
    const withVmap = (use: (phys: PhysAddr) => void): void => {
      const map = d.run(() => buf.vmap());
      for (const { phys } of map.extents) use(phys);
      d.run(() => buf.vunmap(map));
    };
    return { d, device, client, buf, fd, memory, withVmap };
  }

  it("IGD-06 import: an object of another exporter's buffer is the importer's, with the exact size; its vmap works", () => {
    const { d, device, client, buf, fd, memory, withVmap } = foreign();
    d.toHandle(client, fd);
    expect(device.objects.map(({ sizeBytes, device: owner }) => [sizeBytes, owner])).toEqual([[PAGE_SIZE, device]]);
    expect(buf.priv.calls.filter((call) => call.startsWith('map'))).toHaveLength(1);
    withVmap((phys) => memory.write(phys, PATTERN, 0, 16));
    expect(d.run(() => d.app.mmap(fd)).read(0, 16)).toEqual(PATTERN);
    d.exit();
  });

  it('IGD-07 import_ownership: an import keeps the buffer when its fd is closed, and its pages what was filled in', () => {
    const { d, device, client, buf, fd, memory, withVmap } = foreign();
    const filled = new Uint8Array(PAGE_SIZE).fill(0xc5);
    withVmap((phys) => memory.write(phys, filled, 0, PAGE_SIZE));
    const handle = d.toHandle(client, fd);
    d.close(fd);
    expect(buf.released).toBe(false);
    expect(device.objects[0]?.memory().segments()).toHaveLength(1);
    const again = d.toFd(client, handle);
    const mapping = d.run(() => d.app.mmap(again));
    expect(mapping.read(0, PAGE_SIZE)).toEqual(filled);
    mapping.munmap();
    d.close(again);
    d.closeHandle(client, handle);
    expect(buf.released).toBe(true);
    d.exit();
  });

  it('IGD-08 export_vmap: a new object reads as zeros and can be written by the kernel', () => {
    const d = new DrmBench();
    const client = d.open(d.device());
    const buf = d.app.fds.get(d.toFd(client, d.create(client)));
    const map = d.run(() => buf.vmap());
    const phys = map.extents[0]?.phys;
    if (phys === undefined) throw new Error('vmap gave nothing');
    const { memory } = d.b.machine;
    const out = new Uint8Array(PAGE_SIZE).fill(9);
    memory.read(phys, out, 0, PAGE_SIZE);
    expect(out.every((byte) => byte === 0)).toBe(true);
    memory.write(phys, PATTERN, 0, 16);
    memory.read(phys, out, 0, 16);
    expect(out.subarray(0, 16)).toEqual(PATTERN);
    d.run(() => buf.vunmap(map));
    buf.put();
    d.exit();
  });
});
