import { describe, expect, it } from 'vitest';
import { app, at, BASE, bytesOf, camera, gpuDma, LINE, Machine, nic } from './machine.ts';

const FRAME = 4 * LINE;

describe('a cache in a device', () => {
  it('reads old lines that it holds, until it invalidates: the report names that call', () => {
    const machine = new Machine();
    machine.deviceGets(BASE, FRAME, machine.gpu);
    machine.view('cached').write(0, bytesOf(FRAME, 5));
    machine.domain.clean(BASE, FRAME, app);
    expect(machine.deviceGets(BASE, FRAME, machine.gpu)).toEqual(bytesOf(FRAME, 0));
    expect(machine.takeStale()).toMatchObject({
      hazard: 'device-read.stale',
      newestIn: 'memory',
      staleLines: 4,
      reader: { who: 'gpu0' },
      writer: { who: 'app' },
      remedy: 'gpu.invalidateCaches()',
    });
    expect(machine.gpuCache.invalidate()).toEqual({ cleaned: 0, invalidated: 4 });
    expect(machine.deviceGets(BASE, FRAME, machine.gpu)).toEqual(bytesOf(FRAME, 5));
    expect(machine.takeHazards()).toEqual([]);
  });

  it('keeps what the device wrote from everybody else until it flushes: the report names that call', () => {
    const machine = new Machine();
    machine.devicePuts(BASE, FRAME, 7, machine.gpu);
    const out = new Uint8Array(FRAME);
    machine.view('cached').read(0, out);
    expect(out).toEqual(bytesOf(FRAME, 0));
    expect(machine.takeStale()).toMatchObject({
      hazard: 'cpu-read.stale',
      newestIn: 'device cache',
      writer: { who: 'gpu0' },
      remedy: 'gpu.flushCaches()',
    });
    for (const port of [camera, nic]) {
      expect(machine.deviceGets(BASE, 1, port)[0]).toBe(0);
      expect(machine.takeStale()).toMatchObject({ hazard: 'device-read.stale', newestIn: 'device cache' });
    }
    expect(machine.gpuCache.flush()).toEqual({ cleaned: 4, invalidated: 0 });
    expect(machine.deviceGets(BASE, FRAME)).toEqual(bytesOf(FRAME, 7));
    machine.domain.invalidate(BASE, FRAME, app);
    machine.view('cached').read(0, out);
    expect(out).toEqual(bytesOf(FRAME, 7));
    expect(machine.gpuCache.counters).toMatchObject({ cleaned: 4, writtenBackBytes: FRAME });
    expect(machine.takeHazards()).toEqual([]);
  });

  it('destroys newer bytes by a late write-back, and whoever wrote them last is named', () => {
    const machine = new Machine();
    machine.devicePuts(BASE, LINE, 7, machine.gpu);
    machine.view('uncached').write(0, bytesOf(LINE, 5));
    machine.gpuCache.flushInvalidate();
    expect(machine.takeLost()).toMatchObject({
      hazard: 'cpu-write.lost',
      destroyer: { who: 'gpu0', action: 'write-back' },
      writer: { who: 'app' },
      remedy: gpuDma.afterWrite,
    });
    machine.devicePuts(BASE, LINE, 8, machine.gpu);
    machine.devicePuts(BASE, LINE, 9, camera);
    machine.gpuCache.flush();
    expect(machine.takeLost()).toMatchObject({ hazard: 'device-write.lost', writer: { who: 'camera0' } });
  });

  it('loses what was never flushed when it is invalidated', () => {
    const machine = new Machine();
    machine.devicePuts(BASE, LINE, 7, machine.gpu);
    machine.gpuCache.invalidate();
    expect(machine.takeLost()).toMatchObject({
      hazard: 'device-write.lost',
      destroyer: { who: 'gpu0', action: 'invalidate' },
      remedy: gpuDma.afterWrite,
    });
    expect(machine.deviceGets(BASE, 1)[0]).toBe(0);
  });

  it('does not save bytes that a late write-back of the CPU destroys in memory, though it holds a clean copy', () => {
    const machine = new Machine();
    machine.view('cached').write(0, bytesOf(LINE, 1));
    machine.devicePuts(BASE, LINE, 7, machine.gpu);
    machine.gpuCache.flush();
    machine.domain.evict(BASE, LINE);
    expect(machine.takeLost()).toMatchObject({
      hazard: 'device-write.lost',
      destroyer: { who: 'app', action: 'write-back' },
      writer: { who: 'gpu0' },
    });
    machine.gpuCache.invalidate();
    expect(machine.takeHazards()).toEqual([]);
  });

  it('is silent about a program that flushes and invalidates where it has to', () => {
    const machine = new Machine();
    const view = machine.view('cached');
    for (let round = 1; round <= 3; round++) {
      view.write(0, bytesOf(FRAME, round));
      machine.domain.clean(BASE, FRAME, app);
      machine.gpuCache.invalidate();
      expect(machine.deviceGets(BASE, FRAME, machine.gpu)).toEqual(bytesOf(FRAME, round));
      machine.devicePuts(at(FRAME), FRAME, 100 + round, machine.gpu);
      machine.gpuCache.flush();
      machine.domain.invalidate(at(FRAME), FRAME, app);
      const out = new Uint8Array(FRAME);
      view.read(FRAME, out);
      expect(out).toEqual(bytesOf(FRAME, 100 + round));
    }
    expect(machine.takeHazards()).toEqual([]);
  });

  it('fetches dirty lines of the CPUs if its port snoops, and drops them when it writes back', () => {
    const machine = new Machine({ gpu: { snoops: true } });
    const view = machine.view('cached');
    view.write(0, bytesOf(LINE, 5));
    expect(machine.deviceGets(BASE, LINE, machine.gpu)).toEqual(bytesOf(LINE, 5));
    machine.devicePuts(BASE, LINE, 6, machine.gpu);
    machine.gpuCache.flush();
    const out = new Uint8Array(LINE);
    view.read(0, out);
    expect(out).toEqual(bytesOf(LINE, 6));
    expect(machine.domain.cache.counters.invalidated).toBe(1);
    expect(machine.takeHazards()).toEqual([]);
  });

  it('still reads old lines though its port snoops: I/O coherence goes one way', () => {
    const machine = new Machine({ gpu: { snoops: true } });
    machine.deviceGets(BASE, LINE, machine.gpu);
    machine.view('cached').write(0, bytesOf(LINE, 5));
    expect(machine.deviceGets(BASE, 1, machine.gpu)[0]).toBe(0);
    expect(machine.takeStale()).toMatchObject({ newestIn: 'cpu cache', remedy: app.afterWrite });
  });

  it('pushes lines out when it is full', () => {
    const machine = new Machine({ gpu: { geometry: { sets: 1, ways: 2 } } });
    machine.devicePuts(BASE, FRAME, 7, machine.gpu);
    expect(machine.deviceGets(BASE, 1)[0]).toBe(7);
    expect(machine.gpuCache.dirtyLines).toBe(2);
    expect(machine.gpuCache.validLines).toBe(2);
    expect(machine.gpuCache.counters.evictions).toBe(2);
  });
});
