/** Files in memory, their seals, and the buffers that are made from them. */
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE } from '../../src/base/addr.ts';
import { MIB } from '../../src/base/units.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { F } from '../../src/uapi/fcntl.ts';
import { PROT } from '../../src/uapi/file.ts';
import { F_SEAL, MFD } from '../../src/uapi/memfd.ts';
import { addUdmabuf, memfdCreate } from '../../src/uapi/node-setup.ts';
import { UDMABUF_CREATE, UDMABUF_CREATE_ITEM, UDMABUF_CREATE_LIST } from '../../src/uapi/udmabuf.ts';
import { pattern } from '../bench.ts';
import { DrmBench } from './drm-bench.ts';

function setUp(sizeBytes = 4 * PAGE_SIZE, seals: number = F_SEAL.shrink, flags: number = MFD.allowSealing) {
  const d = new DrmBench();
  const { sim, machine } = d.b;
  const { pages, coherency } = machine;
  const memfd = memfdCreate(d.app, { name: 'guest', flags, pages, coherency });
  d.app.ftruncate(memfd, sizeBytes);
  if (seals !== 0) d.app.fcntl(memfd, F.addSeals, seals);
  addUdmabuf(sim, { coherency });
  const device = d.run(() => d.app.open('/dev/udmabuf'));
  const create = (item: { memfd?: number; offset?: number; size?: number; flags?: number } = {}) => {
    const bytes = UDMABUF_CREATE.layout.encode({ memfd, size: sizeBytes, ...item });
    return d.app.ioctl(device, UDMABUF_CREATE.code, bytes);
  };
  return { d, memfd, device, create };
}

describe('udmabuf', () => {
  it.each([
    ['offset 100', { offset: 100, size: PAGE_SIZE }],
    ['size 100', { size: 100 }],
    ['size 0', { size: 0 }],
    ['one page beyond the end', { offset: PAGE_SIZE }],
  ])('UDM-01: %s is EINVAL', (_what, item) => {
    const { d, create } = setUp();
    expect(d.codeOf(() => create(item))).toBe('EINVAL');
    d.exit();
  });

  it.each([0, 99, 'udmabuf'])('UDM-02: fd %s, which is no file in memory, is EBADFD', (fd) => {
    const { d, device, create } = setUp();
    expect(d.codeOf(() => create({ memfd: fd === 'udmabuf' ? device : Number(fd) }))).toBe('EBADFD');
    d.exit();
  });

  it('UDM-03: 4 pages of a file sealed against shrinking become a buffer', () => {
    const { d, create } = setUp();
    const fd = d.run(() => create());
    expect(d.app.lseek(fd, 0, 2)).toBe(4 * PAGE_SIZE);
    d.exit();
  });

  it.each([
    [0, MFD.allowSealing],
    [F_SEAL.grow, MFD.allowSealing],
    [F_SEAL.shrink | F_SEAL.write, MFD.allowSealing],
    [F_SEAL.shrink | F_SEAL.futureWrite, MFD.allowSealing],
    [0, 0],
  ])('seals 0x%x of a file made with flags %s are EINVAL', (seals, flags) => {
    const { d, create } = setUp(PAGE_SIZE, seals, flags);
    expect(d.codeOf(() => create())).toBe('EINVAL');
    d.exit();
  });

  it('an offset that no file can have is EFBIG, and more than 64 MiB is EINVAL', () => {
    const { d, create } = setUp(65 * MIB);
    expect(d.codeOf(() => create({ offset: -PAGE_SIZE, size: PAGE_SIZE }))).toBe('EFBIG');
    expect(d.codeOf(() => create({ size: 64 * MIB + PAGE_SIZE }))).toBe('EINVAL');
    d.exit();
  });

  it('file and buffer are the same memory both ways', () => {
    const { d, memfd, create } = setUp();
    const fd = d.run(() => create({ offset: PAGE_SIZE, size: 2 * PAGE_SIZE }));
    const [file, buffer] = [d.run(() => d.app.mmap(memfd)), d.run(() => d.app.mmap(fd))];
    file.write(PAGE_SIZE, pattern(16, 1));
    buffer.write(PAGE_SIZE, pattern(16, 2));
    expect([buffer.read(0, 16), file.read(2 * PAGE_SIZE, 16)]).toEqual([pattern(16, 1), pattern(16, 2)]);
    d.exit();
  });

  it('keeps its pages when the file is closed, and gives them back at its end', () => {
    const { d, memfd, create } = setUp();
    const free = d.b.machine.pages.freePageCount();
    const fd = d.run(() => create());
    const buffer = d.run(() => d.app.mmap(fd));
    buffer.write(0, pattern(16));
    d.close(memfd);
    expect(buffer.read(0, 16)).toEqual(pattern(16));
    buffer.munmap();
    d.close(fd);
    expect(d.b.machine.pages.freePageCount()).toBe(free);
    d.exit();
  });

  it('holds off a seal against writing, and the seal it needs holds off shrinking', () => {
    const { d, memfd, create } = setUp();
    const fd = d.run(() => create());
    expect(d.codeOf(() => d.app.fcntl(memfd, F.addSeals, F_SEAL.write))).toBe('EBUSY');
    expect(d.codeOf(() => d.app.ftruncate(memfd, PAGE_SIZE))).toBe('EPERM');
    d.close(fd);
    expect(d.codeOf(() => d.app.fcntl(memfd, F.addSeals, F_SEAL.write))).toBe('');
    d.exit();
  });

  it('a list joins ranges in its order; at most 1024 of them', () => {
    const { d, memfd, device } = setUp();
    const list = (count: number, items: readonly { offset: number; size: number }[]) => {
      const head = UDMABUF_CREATE_LIST.layout.encode({ count });
      const bytes = items.flatMap((item) => [...UDMABUF_CREATE_ITEM.encode({ memfd, ...item })]);
      return d.app.ioctl(device, UDMABUF_CREATE_LIST.code, Uint8Array.from([...head, ...bytes]));
    };
    const page = (offset: number) => ({ offset: offset * PAGE_SIZE, size: PAGE_SIZE });
    const fd = d.run(() => list(2, [page(3), page(0)]));
    d.run(() => d.app.mmap(memfd)).write(3 * PAGE_SIZE, pattern(4));
    expect([d.app.lseek(fd, 0, 2), d.run(() => d.app.mmap(fd)).read(0, 4)]).toEqual([2 * PAGE_SIZE, pattern(4)]);
    expect(d.codeOf(() => list(0, []))).toBe('EINVAL');
    expect(d.codeOf(() => list(1025, []))).toBe('EINVAL');
    expect(d.codeOf(() => list(2, [page(0)]))).toBe('EFAULT');
    expect(d.codeOf(() => list(2, [page(0), page(9)]))).toBe('EINVAL');
    d.exit();
  });

  it('closing a bracket that was never opened is EINVAL', () => {
    const { d, create } = setUp();
    const fd = d.run(() => create());
    const sync = (flags: number) => d.codeOf(() => d.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags }));
    const { read, start, end } = DMA_BUF_SYNC;
    expect([sync(end | read), sync(start | read), sync(end | read)]).toEqual(['EINVAL', '', '']);
    d.exit();
  });

  it('a device that does not snoop sees what was written in a bracket', () => {
    const { d, create } = setUp();
    const fd = d.run(() => create());
    const camera = d.b.device('cam');
    const buf = d.app.fds.get(fd);
    const mapping = d.run(() => d.app.mmap(fd));
    const sync = (flags: number) => d.run(() => d.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags }));
    sync(DMA_BUF_SYNC.start | DMA_BUF_SYNC.write);
    mapping.write(0, pattern(64));
    sync(DMA_BUF_SYNC.end | DMA_BUF_SYNC.write);
    const out = new Uint8Array(64);
    d.run(function* () {
      const attachment = yield* buf.attach(camera);
      const table = yield* attachment.mapUnlocked('to-device');
      camera.port.read(table.dmaAddress(0), out, 0, out.length);
      yield* attachment.unmapUnlocked(table, 'to-device');
      yield* buf.detach(attachment);
    });
    buf.put();
    expect(out).toEqual(pattern(64));
    d.exit();
  });
});

describe('a file in memory', () => {
  it('seals take rights away: shrinking, growing, writing, sealing', () => {
    const { d, memfd } = setUp(2 * PAGE_SIZE, 0);
    const add = (seals: number) => d.codeOf(() => d.app.fcntl(memfd, F.addSeals, seals));
    const resize = (pages: number) => d.codeOf(() => d.app.ftruncate(memfd, pages * PAGE_SIZE));
    const write = () => d.codeOf(() => d.app.write(memfd, pattern(4)));
    expect([resize(1), resize(2), write(), add(0x20)]).toEqual(['', '', '', 'EINVAL']);
    expect([add(F_SEAL.shrink), resize(1), resize(3)]).toEqual(['', 'EPERM', '']);
    expect([add(F_SEAL.grow), resize(4)]).toEqual(['', 'EPERM']);
    expect([add(F_SEAL.write), write()]).toEqual(['', 'EPERM']);
    expect(d.codeOf(() => d.app.mmap(memfd))).toBe('EPERM');
    expect([add(F_SEAL.seal), add(F_SEAL.shrink)]).toEqual(['', 'EPERM']);
    expect(d.app.fcntl(memfd, F.getSeals)).toBe(0xf);
    d.exit();
  });

  it('cannot be sealed against writing while it is mapped for it', () => {
    const { d, memfd } = setUp(PAGE_SIZE, 0);
    const mapping = d.run(() => d.app.mmap(memfd));
    const add = (seals: number) => d.codeOf(() => d.app.fcntl(memfd, F.addSeals, seals));
    expect([add(F_SEAL.write), add(F_SEAL.futureWrite)]).toEqual(['EBUSY', '']);
    mapping.write(0, pattern(4));
    expect(d.codeOf(() => d.app.mmap(memfd, { prot: PROT.read | PROT.write }))).toBe('EPERM');
    mapping.munmap();
    expect(add(F_SEAL.write)).toBe('');
    d.exit();
  });

  it('reads as zeros where nothing was written, also behind a cut', () => {
    const { d, memfd } = setUp(3 * PAGE_SIZE, 0);
    d.app.lseek(memfd, PAGE_SIZE - 2, 0);
    d.run(() => d.app.write(memfd, Uint8Array.of(1, 2, 3, 4)));
    d.app.ftruncate(memfd, PAGE_SIZE + 1);
    d.app.ftruncate(memfd, 3 * PAGE_SIZE);
    expect([...d.run(() => d.app.pread(memfd, 6, PAGE_SIZE - 3))]).toEqual([0, 1, 2, 3, 0, 0]);
    expect([d.app.fstat(memfd).size, d.app.lseek(memfd, 0, 2)]).toEqual([3 * PAGE_SIZE, 3 * PAGE_SIZE]);
    d.exit();
  });
});
