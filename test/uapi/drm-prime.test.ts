/** One identity of a buffer across clients, devices and descriptors. */
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/base/addr.ts';
import type { ErrnoCode } from '../../src/base/errno.ts';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import { type DrmDriver, vgemDriver, vkmsDriver } from '../../src/uapi/drm-device.ts';
import {
  DRM_IOCTL_GEM_CLOSE,
  DRM_IOCTL_GEM_FLINK,
  DRM_IOCTL_GEM_OPEN,
  DRM_IOCTL_MODE_CREATE_DUMB,
  DRM_IOCTL_MODE_DESTROY_DUMB,
  DRM_IOCTL_MODE_MAP_DUMB,
  DRM_IOCTL_PRIME_FD_TO_HANDLE,
  DRM_IOCTL_PRIME_HANDLE_TO_FD,
} from '../../src/uapi/drm-ioctl.ts';
import { DrmBench } from './drm-bench.ts';

const SEEK = { set: 0, cur: 1, end: 2 } as const;

/** Both views are equal to `byte`, then the first one is filled with the next. */
function checkViews(d: DrmBench, views: readonly (readonly [client: number, handle: number])[], byte: number): void {
  const maps = views.map(([client, handle]) => d.map(client, handle));
  for (const map of maps) expect(map.read(0, PAGE_SIZE).every((one) => one === byte)).toBe(true);
  maps[0]?.write(0, new Uint8Array(PAGE_SIZE).fill(byte + 1));
  for (const map of maps) expect(map.read(0, PAGE_SIZE).every((one) => one === byte + 1)).toBe(true);
  for (const map of maps) map.munmap();
}

describe('two clients of one device', () => {
  it('PSI-01 basic-with_one_bo: share one object however it is passed, and it survives every close', () => {
    const d = new DrmBench();
    const device = d.device();
    const [one, two] = [d.open(device), d.open(device)];
    const bo = d.create(one);
    const fd = d.toFd(one, bo);
    const imported = d.toHandle(two, fd);
    checkViews(
      d,
      [
        [one, bo],
        [two, imported],
      ],
      0,
    );
    expect(d.toHandle(two, fd)).toBe(imported);
    expect(d.toHandle(one, fd)).toBe(bo);
    d.close(fd);
    checkViews(
      d,
      [
        [one, bo],
        [two, imported],
      ],
      1,
    );
    d.closeHandle(one, bo);
    checkViews(
      d,
      [
        [two, imported],
        [two, imported],
      ],
      2,
    );
    const again = d.toFd(two, imported);
    d.closeHandle(two, imported);
    const [first, second] = [d.toHandle(one, again), d.toHandle(two, again)];
    d.close(again);
    checkViews(
      d,
      [
        [one, first],
        [two, second],
      ],
      3,
    );
    d.close(one);
    checkViews(
      d,
      [
        [two, second],
        [two, second],
      ],
      4,
    );
    expect(device.objects).toHaveLength(1);
    d.exit();
    expect(device.objects).toEqual([]);
  });

  it('PSI-02 basic-with_one_bo_two_files: what was opened by name comes back from its own fd with that handle', () => {
    const d = new DrmBench();
    const device = d.device();
    const [one, two] = [d.open(device), d.open(device)];
    const bo = d.create(one);
    const fd = d.toFd(one, bo);
    const opened = d.openName(two, d.flink(one, bo));
    expect(d.toHandle(two, d.toFd(two, opened))).toBe(opened);
    expect(d.toHandle(two, fd)).toBe(opened);
    expect(d.app.fstat(fd).ino).toBe(d.app.fstat(d.toFd(two, opened)).ino);
    d.exit();
  });

  it('PSI-04 basic-with_fd_dup: a duplicate of the fd is as good as the fd, also when handle and fd are closed', () => {
    const d = new DrmBench();
    const device = d.device();
    const [one, two] = [d.open(device), d.open(device)];
    const bo = d.create(one);
    const fd = d.toFd(one, bo);
    d.closeHandle(one, bo);
    const copy = d.app.fds.dup(fd);
    d.close(fd);
    const imported = d.toHandle(two, copy);
    checkViews(d, [[two, imported]], 0);
    d.close(copy);
    checkViews(d, [[two, imported]], 1);
    d.exit();
  });

  it('PSI-06 reimport-vs-gem_close-race: tasks that import and close all the time leave nothing', () => {
    const d = new DrmBench();
    const device = d.device();
    const [exporter, importer] = [d.open(device), d.open(d.device(vkmsDriver))];
    const fd = d.toFd(exporter, d.create(exporter));
    const closes: string[] = [];
    for (let t = 0; t < 4; t++) {
      d.b.sim.spawn(`racer${t}`, function* () {
        for (let i = 0; i < 25; i++) {
          const { handle } = yield* d.app.ioctl(importer, DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd });
          yield* d.b.sim.delay((7 * t + i) % 3);
          try {
            yield* d.app.ioctl(importer, DRM_IOCTL_GEM_CLOSE, { handle });
            closes.push('closed');
          } catch {
            // Another racer had the same handle and was faster.
            closes.push('lost');
          }
        }
      });
    }
    d.b.sim.run();
    expect(closes).toHaveLength(100);
    expect(closes).toContain('closed');
    // The fd, the exporter's handle and its object: nothing of the importer's is left.
    expect(d.app.fdinfo(fd)).toContain('count:\t3');
    d.exit();
  });

  it.each(Array.from({ length: 10 }, (_, i) => 2 ** i))(
    'PSI-07 basic-llseek-size: the end is the exact size of %s pages',
    (pages) => {
      const d = new DrmBench();
      const client = d.open(d.device());
      const fd = d.toFd(client, d.create(client, pages));
      expect(d.app.lseek(fd, 0, SEEK.end)).toBe(pages * PAGE_SIZE);
      d.exit();
    },
  );

  it.each([
    ['END', -1, SEEK.end],
    ['SET', 1, SEEK.set],
    ['SET', PAGE_SIZE, SEEK.set],
    ['SET', PAGE_SIZE + 1, SEEK.set],
    ['SET', PAGE_SIZE - 1, SEEK.set],
    ['CUR', 0, SEEK.cur],
  ])('PSI-08 basic-llseek-bad: (%s, %s) is EINVAL', (_name, offset, whence) => {
    const d = new DrmBench();
    const client = d.open(d.device());
    const fd = d.toFd(client, d.create(client));
    expect(d.codeOf(() => d.app.lseek(fd, offset, whence))).toBe('EINVAL');
    expect([d.app.lseek(fd, 0, SEEK.set), d.app.lseek(fd, 0, SEEK.end)]).toEqual([0, PAGE_SIZE]);
    d.exit();
  });
});

describe('two devices with two clients each', () => {
  const setUp = (driver: DrmDriver = vkmsDriver) => {
    const d = new DrmBench();
    const [a, b] = [d.device(), d.device(driver)];
    return { d, b, a1: d.open(a), b1: d.open(b), b2: d.open(b) };
  };

  it('NVA-01 import_twice: both clients of the other device import, and all goes with them', () => {
    const { d, b, a1, b1, b2 } = setUp();
    const fd = d.toFd(a1, d.create(a1));
    expect([d.toHandle(b1, fd), d.toHandle(b2, fd)]).toEqual([1, 1]);
    d.close(fd);
    expect(b.objects).toHaveLength(2);
    d.close(b1);
    d.close(b2);
    expect(b.objects).toEqual([]);
    expect(dmaBufCore(d.b.sim).buffers.map((buf) => buf.attachments.length)).toEqual([0]);
    d.exit();
    expect(dmaBufCore(d.b.sim).buffers).toEqual([]);
  });

  it('NVA-03 reimport_twice_check_flink_name: a driver that shares imports gives one name, though the fd was a new one', () => {
    const { d, a1, b1, b2 } = setUp({ ...vkmsDriver, sharesImports: true });
    const bo = d.create(a1);
    const fd = d.toFd(a1, bo);
    const first = d.toHandle(b1, fd);
    d.close(fd);
    const second = d.toHandle(b2, d.toFd(a1, bo));
    expect(d.flink(b2, second)).toBe(d.flink(b1, first));
    d.exit();
  });

  it("a driver with DRM's own helpers has an object for each client that imports, as the kernel's counts show", () => {
    const { d, a1, b1, b2 } = setUp();
    const fd = d.toFd(a1, d.create(a1));
    const [first, second] = [d.toHandle(b1, fd), d.toHandle(b2, fd)];
    expect(d.flink(b2, second)).not.toBe(d.flink(b1, first));
    expect(d.app.fdinfo(fd)).toContain('count:\t9');
    d.exit();
  });

  it('NVA-05 import_vs_close: an fd number that was closed imports nothing, and the first import stays', () => {
    const { d, a1, b1, b2 } = setUp();
    const fd = d.toFd(a1, d.create(a1));
    const handle = d.toHandle(b1, fd);
    d.close(fd);
    expect(d.codeOf(() => d.app.ioctl(b2, DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd }))).toBe('EBADF');
    expect(d.app.lseek(d.toFd(b1, handle), 0, SEEK.end)).toBe(PAGE_SIZE);
    d.exit();
  });

  it('NVA-06 double_import: one client that imports twice has one handle', () => {
    const { d, b, a1, b1 } = setUp();
    const fd = d.toFd(a1, d.create(a1));
    expect(d.toHandle(b1, fd)).toBe(d.toHandle(b1, fd));
    expect(b.objects).toHaveLength(1);
    d.exit();
  });

  it.each(['in the same client', 'in another client of the device'])(
    'NVA-08 self_import: the exporter gets its own object back %s',
    (where) => {
      const d = new DrmBench();
      const device = d.device();
      const one = d.open(device);
      const other = where === 'in the same client' ? one : d.open(device);
      const bo = d.create(one);
      const handle = d.toHandle(other, d.toFd(one, bo));
      expect(d.flink(other, handle)).toBe(d.flink(one, bo));
      expect(device.objects).toHaveLength(1);
      d.exit();
    },
  );
});

describe('arguments', () => {
  it.each<[string, (d: DrmBench, client: number) => () => unknown, ErrnoCode]>([
    ['closing an unknown handle', (d, c) => () => d.ioctl(c, DRM_IOCTL_GEM_CLOSE, { handle: 7 }), 'EINVAL'],
    ['destroying one', (d, c) => () => d.ioctl(c, DRM_IOCTL_MODE_DESTROY_DUMB, { handle: 7 }), 'EINVAL'],
    ['exporting one', (d, c) => () => d.ioctl(c, DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle: 7 }), 'ENOENT'],
    ['mapping one', (d, c) => () => d.ioctl(c, DRM_IOCTL_MODE_MAP_DUMB, { handle: 7 }), 'ENOENT'],
    ['naming one', (d, c) => () => d.ioctl(c, DRM_IOCTL_GEM_FLINK, { handle: 7 }), 'ENOENT'],
    ['opening an unknown name', (d, c) => () => d.ioctl(c, DRM_IOCTL_GEM_OPEN, { name: 7 }), 'ENOENT'],
    ['importing what is no dma-buf', (d, c) => () => d.ioctl(c, DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd: c }), 'EINVAL'],
    [
      'mapping an offset where nothing lies',
      (d, c) => () => d.run(() => d.app.mmap(c, { offset: 0, length: 4096 })),
      'EINVAL',
    ],
  ])('%s fails', (_what, use, code) => {
    const d = new DrmBench();
    const client = d.open(d.device());
    expect(use(d, client)).toThrow(expect.objectContaining({ code }));
    d.exit();
  });

  it('an object that was imported cannot be mapped through the importer', () => {
    const d = new DrmBench();
    const [a, b] = [d.open(d.device()), d.open(d.device(vkmsDriver))];
    const handle = d.toHandle(b, d.toFd(a, d.create(a)));
    expect(d.codeOf(() => d.app.ioctl(b, DRM_IOCTL_MODE_MAP_DUMB, { handle }))).toBe('EINVAL');
    d.exit();
  });

  it('a client without a handle cannot map an object of another at its offset', () => {
    const d = new DrmBench();
    const device = d.device();
    const [one, two] = [d.open(device), d.open(device)];
    const { offset } = d.ioctl(one, DRM_IOCTL_MODE_MAP_DUMB, { handle: d.create(one) });
    expect(d.codeOf(() => d.app.mmap(two, { offset, length: PAGE_SIZE }))).toBe('EACCES');
    expect(d.codeOf(() => d.app.mmap(one, { offset, length: 2 * PAGE_SIZE }))).toBe('EINVAL');
    d.exit();
  });

  it('a process that cannot be told of a new handle or descriptor does not have it', () => {
    const d = new DrmBench();
    const device = d.device();
    const client = d.open(device);
    const size = { width: 1, height: 1, bpp: 32 };
    const readOnly = { readOnly: true };
    expect(d.codeOf(() => d.app.ioctl(client, DRM_IOCTL_MODE_CREATE_DUMB, size, readOnly))).toBe('EFAULT');
    expect(device.objects).toEqual([]);
    const handle = d.create(client);
    const open = d.app.fds.open.length;
    expect(d.codeOf(() => d.app.ioctl(client, DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle }, readOnly))).toBe('EFAULT');
    expect([d.app.fds.open.length, d.app.fds.reserved]).toEqual([open, []]);
    d.exit();
  });

  it('an import that the exporter refuses leaves neither object nor reference', () => {
    const d = new DrmBench();
    const device = d.device(vgemDriver);
    const client = d.open(device);
    const refuse = () => {
      throw Object.assign(new Error('no'), { name: 'refused' });
    };
    const buf = d.b.fakeBuffer({ mapDmaBuf: refuse });
    const fd = d.app.fds.install(buf);
    expect(() => d.toHandle(client, fd)).toThrow('no');
    expect([device.objects.length, buf.references, buf.attachments.length]).toEqual([0, 1, 0]);
    d.exit();
  });
});
