import { describe, expect, it } from 'vitest';
import { bindDmaBuf } from '../../src/dmabuf/dma-buf-api.ts';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import { KernelModule } from '../../src/dmabuf/kernel-module.ts';
import type { Op } from '../../src/sim/op.ts';
import { FdTable } from '../../src/uapi/fd-table.ts';
import { bench, errno } from '../bench.ts';
import { testBuffer, thrown } from './exporter.ts';

const good = { name: 'driver', license: 'Dual MIT/GPL', namespaces: ['DMA_BUF'] };

describe('bindDmaBuf', () => {
  it('A-10: refuses a module that is not GPL-compatible, naming the first symbol it uses', () => {
    const b = bench();
    for (const license of ['Proprietary', 'MIT', 'gpl', '']) {
      const module = new KernelModule({ ...good, license });
      expect(() => bindDmaBuf(b.sim, module, ['dma_buf_attach'])).toThrow(errno('ENOENT'));
      expect(() => bindDmaBuf(b.sim, module)).toThrow('Unknown symbol dma_buf_export');
    }
  });

  it('A-10: refuses a module that forgot the namespace, naming symbol and namespace', () => {
    const b = bench();
    const module = new KernelModule({ ...good, namespaces: ['CRYPTO_INTERNAL'] });
    expect(() => bindDmaBuf(b.sim, module, ['dma_buf_get'])).toThrow(errno('EINVAL'));
    expect(() => bindDmaBuf(b.sim, module, ['dma_buf_get'])).toThrow('symbol dma_buf_get from namespace DMA_BUF');
  });

  it('lets a module with a compatible licence and the namespace call', () => {
    const b = bench();
    for (const license of ['GPL', 'GPL v2', 'GPL and additional rights', 'Dual BSD/GPL', 'Dual MPL/GPL']) {
      expect(() => bindDmaBuf(b.sim, new KernelModule({ ...good, license }))).not.toThrow();
    }
  });
});

describe('a module that has exported a buffer', () => {
  it('can not be unloaded before the buffer is released', () => {
    const b = bench();
    const module = new KernelModule(good);
    const template = testBuffer(b);
    const buf = bindDmaBuf(b.sim, module).export({
      exporterName: 'driver',
      name: 'owned',
      sizeBytes: 1,
      ops: { ...template.ops, release() {} },
      priv: template.priv,
    });
    expect(module.references).toBe(1);
    expect(() => module.unload()).toThrow(errno('EAGAIN'));
    buf.put();
    expect(() => module.unload()).toThrow(errno('EAGAIN'));
    b.sim.run();
    module.unload();
    expect(module.loaded).toBe(false);
    expect(() => module.unload()).toThrow(errno('ENOENT'));
    template.put();
  });

  it('can not export once it is unloaded', () => {
    const b = bench();
    const owner = new KernelModule(good);
    owner.unload();
    const template = testBuffer(b);
    const before = dmaBufCore(b.sim).buffers.length;
    expect(() => testBuffer(bench({ atRest: false }), {}, { owner })).toThrow(errno('ENOENT'));
    expect(dmaBufCore(b.sim).buffers.length).toBe(before);
    template.put();
  });
});

describe('the entry points', () => {
  it('D13: answer null arguments with EINVAL or nothing, and a warning, and go on', () => {
    const b = bench();
    const api = bindDmaBuf(b.sim, new KernelModule(good));
    const buf = testBuffer(b);
    const device = b.device('cam');
    b.sim.run(function* () {
      const att = yield* buf.attach(device);
      const failing: readonly (() => Op<unknown>)[] = [
        () => api.attach(null, device),
        () => api.attach(buf, null),
        () => api.dynamicAttach(buf, null, null),
        () => api.map(null, 'to-device'),
        () => api.mapUnlocked(null, 'to-device'),
        () => api.beginCpuAccess(null, 'to-device'),
        () => api.vmap(null),
        () => api.mmap(buf, null),
      ];
      for (const call of failing) expect(yield* thrown(call())).toEqual(errno('EINVAL'));
      expect(dmaBufCore(b.sim).warnings).toHaveLength(failing.length);
      yield* api.detach(buf, null);
      yield* api.detach(null, att);
      yield* api.unmap(att, null, 'to-device');
      yield* api.unmapUnlocked(null, null, 'to-device');
      yield* api.endCpuAccess(null, 'to-device');
      yield* api.vunmap(buf, null);
      api.put(null);
      expect(dmaBufCore(b.sim).warnings).toHaveLength(failing.length + 7);
      expect([att.attached, buf.references]).toEqual([true, 1]);
      yield* api.detach(buf, att);
    });
    api.put(buf);
  });

  it('turn a buffer into a descriptor and back: EINVAL without a warning for no buffer', () => {
    const b = bench();
    const api = bindDmaBuf(b.sim, new KernelModule(good));
    const fds = new FdTable();
    expect(() => api.fd(fds, null)).toThrow(errno('EINVAL'));
    expect([dmaBufCore(b.sim).warnings, fds.open]).toEqual([[], []]);
    const buf = testBuffer(b);
    const fd = api.fd(fds, buf.get());
    expect([fds.get(fd) === buf, buf.references]).toEqual([true, 3]);
    buf.put();
    fds.close(fd);
    api.put(buf);
  });

  it('do what the methods do when nothing is null', () => {
    const b = bench();
    const api = bindDmaBuf(b.sim, new KernelModule(good));
    const buf = testBuffer(b, { dynamic: true });
    b.sim.run(function* () {
      const att = yield* api.dynamicAttach(buf, b.device('gpu'), { moveNotify: () => undefined });
      const sgt = yield* api.mapUnlocked(att, 'to-device');
      yield* api.unmapUnlocked(att, sgt, 'to-device');
      yield* buf.resv.withLock(function* () {
        yield* api.unmap(att, yield* api.map(att, 'to-device'), 'to-device');
      });
      yield* api.detach(buf, att);
      const fixed = yield* api.dynamicAttach(buf, b.device('cam'), null);
      expect(fixed.isDynamic).toBe(false);
      yield* api.detach(buf, fixed);
      yield* api.beginCpuAccess(buf, 'to-device');
      yield* api.endCpuAccess(buf, 'to-device');
      yield* api.vunmap(buf, yield* api.vmap(buf));
      yield* api.mmap(buf, { pgoff: 0, pageCount: 1 });
      api.put(buf);
    });
    expect(dmaBufCore(b.sim).warnings).toEqual([]);
    api.put(buf);
  });
});
