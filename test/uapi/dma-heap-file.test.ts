/** `/dev/dma_heap/*`: which requests a heap takes, and what each kind of heap gives. */
import { describe, expect, it } from 'vitest';
import { PAGE_SIZE, physAddr } from '../../src/base/addr.ts';
import { MIB } from '../../src/base/units.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { CarveoutHeap, type DmaHeap, SystemHeap } from '../../src/dmabuf/dma-heap.ts';
import type { HeapBuffer } from '../../src/dmabuf/heap-buffer.ts';
import { CarveoutAllocator } from '../../src/mem/carveout.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { DMA_HEAP_IOCTL_ALLOC } from '../../src/uapi/dma-heap-file.ts';
import { F } from '../../src/uapi/fcntl.ts';
import { ioctlCode } from '../../src/uapi/ioctl.ts';
import { addDmaHeap } from '../../src/uapi/node-setup.ts';
import { DrmBench, O_RDWR_CLOEXEC } from './drm-bench.ts';

const { layout } = DMA_HEAP_IOCTL_ALLOC;

function heapBench(make: (d: DrmBench) => DmaHeap = (d) => d.b.machine.systemHeap) {
  const d = new DrmBench();
  const heap = make(d);
  addDmaHeap(d.b.sim, heap);
  const fd = d.run(() => d.app.open(`/dev/dma_heap/${heap.name}`));
  const alloc = (len: number) => d.ioctl(fd, DMA_HEAP_IOCTL_ALLOC, { len, fd_flags: O_RDWR_CLOEXEC }).fd;
  return { d, heap, fd, alloc };
}

describe('the heap request', () => {
  it('DHP-01 alloc_and_import: a buffer is written by the process and shared with another device', () => {
    const { d, alloc } = heapBench();
    const device = d.device();
    const buffer = alloc(MIB);
    const mapping = d.run(() => d.app.mmap(buffer));
    const sync = (flags: number) => d.run(() => d.app.ioctl(buffer, DMA_BUF_IOCTL_SYNC, { flags }));
    sync(DMA_BUF_SYNC.start | DMA_BUF_SYNC.read | DMA_BUF_SYNC.write);
    mapping.write(0, new Uint8Array(MIB / 2).fill(1));
    expect([mapping.read(MIB / 2 - 1, 2)[0], mapping.read(MIB / 2 - 1, 2)[1]]).toEqual([1, 0]);
    sync(DMA_BUF_SYNC.end | DMA_BUF_SYNC.read | DMA_BUF_SYNC.write);
    expect(d.toHandle(d.open(device), buffer)).toBe(1);
    sync(DMA_BUF_SYNC.start | DMA_BUF_SYNC.write);
    mapping.write(0, new Uint8Array(MIB).fill(0xff));
    sync(DMA_BUF_SYNC.end | DMA_BUF_SYNC.write);
    expect(mapping.read(MIB - 1, 1)[0]).toBe(0xff);
    d.exit();
  });

  it('DHP-02 alloc_zeroed: 32 buffers after 32 others that were filled hold only zeros', () => {
    const { d, alloc } = heapBench();
    const filled = Array.from({ length: 32 }, () => alloc(PAGE_SIZE));
    for (const buffer of filled) d.run(() => d.app.mmap(buffer)).write(0, new Uint8Array(PAGE_SIZE).fill(0xff));
    for (const { address, sizeBytes } of d.app.mappings) d.app.munmap(address, sizeBytes);
    for (const buffer of filled) d.close(buffer);
    for (let i = 0; i < 32; i++) {
      const fresh = alloc(PAGE_SIZE);
      const bytes = d.run(() => d.app.mmap(fresh)).read(0, PAGE_SIZE);
      expect(bytes.every((byte) => byte === 0)).toBe(true);
    }
    d.exit();
  });

  it('DHP-04 alloc_compat older: fields that a shorter struct lacks are 0', () => {
    const { d, fd } = heapBench();
    const short = layout.encode({ len: PAGE_SIZE, fd_flags: 2 }).subarray(0, 16);
    expect(d.run(() => d.app.ioctl(fd, ioctlCode('rw', 'H', 0, 16), short))).toBe(0);
    const buffer = layout.decode(short).fd;
    expect(d.app.lseek(buffer, 0, 2)).toBe(PAGE_SIZE);
    d.exit();
  });

  it('a longer struct is taken, whatever is behind the known fields, which comes back as it was', () => {
    const { d, fd } = heapBench();
    const long = new Uint8Array(40).fill(7);
    long.set(layout.encode({ len: 1, fd_flags: 2 }));
    d.run(() => d.app.ioctl(fd, ioctlCode('rw', 'Z', 0, 40), long));
    expect([d.app.lseek(layout.decode(long).fd, 0, 2), long[39]]).toEqual([PAGE_SIZE, 7]);
    d.exit();
  });

  it.each([
    ['a descriptor that is no heap', {}, 'ENOTTY'],
    ['an unknown heap flag', { heap_flags: 1 }, 'EINVAL'],
    ['a heap flag above 32 bits', { heap_flags: 2 ** 40 }, 'EINVAL'],
    ['O_NONBLOCK for the descriptor', { fd_flags: 0x802 }, 'EINVAL'],
    ['a descriptor already filled in', { fd: 3 }, 'EINVAL'],
    ['length 0', { len: 0 }, 'EINVAL'],
    ['a length that wraps', { len: -1 }, 'EINVAL'],
    ['the least length that wraps', { len: -PAGE_SIZE + 1 }, 'EINVAL'],
    ['the largest that does not', { len: -PAGE_SIZE }, 'ENOMEM'],
  ])('DHP-06 alloc_errors: %s gives no descriptor', (what, change, code) => {
    const { d, fd } = heapBench();
    const open = d.app.fds.open;
    const asked = { len: PAGE_SIZE, fd_flags: O_RDWR_CLOEXEC, ...change };
    const target = what.includes('no heap') ? 0 : fd;
    expect(d.codeOf(() => d.app.ioctl(target, DMA_HEAP_IOCTL_ALLOC, asked))).toBe(code);
    expect([d.app.fds.open, d.app.fds.reserved]).toEqual([open, []]);
    d.exit();
  });

  it('another request number is EINVAL, and a null pointer EFAULT', () => {
    const { d, fd } = heapBench();
    expect(d.codeOf(() => d.app.ioctl(fd, ioctlCode('none', 'H', 1, 0), null))).toBe('EINVAL');
    expect(d.codeOf(() => d.app.ioctl(fd, DMA_HEAP_IOCTL_ALLOC.code, null))).toBe('EFAULT');
    d.exit();
  });

  it('a descriptor that the process could not be told of is not open, and its memory is free', () => {
    const { d, fd } = heapBench();
    const free = d.b.machine.pages.freePageCount();
    const asked = { len: MIB, fd_flags: 2 };
    expect(d.codeOf(() => d.app.ioctl(fd, DMA_HEAP_IOCTL_ALLOC, asked, { readOnly: true }))).toBe('EFAULT');
    expect([d.app.fds.open, d.b.machine.pages.freePageCount()]).toEqual([[fd], free]);
    d.exit();
  });

  it('access mode and close-on-exec are what was asked for', () => {
    const { d, fd } = heapBench();
    const { fd: buffer } = d.ioctl(fd, DMA_HEAP_IOCTL_ALLOC, { len: 1, fd_flags: 0 });
    expect([d.app.fcntl(buffer, F.getfl), d.app.fcntl(buffer, F.getfd)]).toEqual([0, 0]);
    expect(d.codeOf(() => d.app.mmap(buffer, { prot: 3 }))).toBe('EACCES');
    d.exit();
  });
});

describe('kinds of heaps', () => {
  const carveout = (type: 'protected' | 'cached') => (d: DrmBench) => {
    const { memory, coherency } = d.b.machine;
    const place = { base: physAddr(0x2000_0000), bytes: MIB, hasPages: true };
    const region = memory.addRegion({ kind: 'carve-out', name: 'set-aside', ...place });
    const pool = new CarveoutAllocator(memory, region);
    return new CarveoutHeap(d.b.sim, pool, coherency, { name: 'set-aside', type });
  };

  it('a carve-out gives contiguous memory, until it is full', () => {
    const { d, fd, alloc } = heapBench(carveout('cached'));
    const buffer = alloc(MIB);
    expect(d.codeOf(() => d.app.ioctl(fd, DMA_HEAP_IOCTL_ALLOC, { len: 1, fd_flags: 2 }))).toBe('ENOMEM');
    d.close(buffer);
    expect(d.app.lseek(alloc(MIB), 0, 2)).toBe(MIB);
    d.exit();
  });

  it('protected memory is refused to the CPU in every way, and a device reaches it', () => {
    const { d, alloc } = heapBench(carveout('protected'));
    const buffer = alloc(PAGE_SIZE);
    const flags = DMA_BUF_SYNC.start | DMA_BUF_SYNC.read;
    const buf = d.app.fds.get(buffer);
    expect(d.codeOf(() => d.app.mmap(buffer))).toBe('EPERM');
    expect(d.codeOf(() => d.app.ioctl(buffer, DMA_BUF_IOCTL_SYNC, { flags }))).toBe('EPERM');
    expect(d.codeOf(() => buf.vmap())).toBe('EPERM');
    buf.put();
    expect(d.toHandle(d.open(d.device()), buffer)).toBe(1);
    d.exit();
  });

  it('uncached memory needs no brackets: a device that does not snoop reads what was just written', () => {
    const { d, alloc } = heapBench(
      (bench) =>
        new SystemHeap(bench.b.sim, bench.b.machine.pages, bench.b.machine.coherency, {
          name: 'system-uncached',
          type: 'uncached',
        }),
    );
    const fd = alloc(PAGE_SIZE);
    const buf = d.app.fds.get(fd);
    d.run(() => d.app.mmap(fd)).write(0, Uint8Array.of(1, 2, 3));
    const out = new Uint8Array(4);
    d.b.machine.memory.read((buf as DmaBuf<HeapBuffer>).priv.memory.physAddress(0), out, 0, 4);
    expect([...out]).toEqual([1, 2, 3, 0]);
    buf.put();
    d.exit();
  });
});
