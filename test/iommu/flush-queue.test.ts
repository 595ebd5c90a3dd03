import { describe, expect, it } from 'vitest';
import { iova } from '../../src/base/addr.ts';
import { ms } from '../../src/base/units.ts';
import { IommuDmaCookie } from '../../src/iommu/dma-cookie.ts';
import { Simulator } from '../../src/sim/simulator.ts';

const LOW_END = 2 ** 20 - 1;
const PAGE = 4096;

/** A lazy domain's cookie, the instants of its flushes, and ways to take and give back single pages. */
function bench() {
  const sim = new Simulator();
  const flushes: number[] = [];
  const target = {
    flushIotlbAll(): undefined {
      flushes.push(sim.now);
    },
  };
  const cookie = new IommuDmaCookie(sim, target, { lazy: true });
  const map = () => cookie.iovas.allocFast(1, LOW_END, true);
  const mapMany = (count: number) => Array.from({ length: count }, map);
  const unmap = (first: number) => cookie.freeRange(iova(first * PAGE), PAGE, true);
  return { sim, flushes, cookie, map, mapMany, unmap };
}

describe('FlushQueue', () => {
  it('keeps an unmapped range from being handed out until the timer has flushed, 10 ms after the first', () => {
    const { sim, flushes, cookie, map, unmap } = bench();
    const first = map();
    unmap(first);
    expect(map()).toBe(first - 1);
    sim.runUntil(ms(10) - 1);
    expect([flushes, cookie.flushQueue?.length]).toEqual([[], 1]);
    sim.runUntil(ms(10));
    expect([flushes, cookie.flushQueue?.length]).toEqual([[ms(10)], 0]);
    expect(map()).toBe(first);
  });

  it('flushes once for all ranges of those 10 ms, and hands the last one out first', () => {
    const { sim, flushes, mapMany, unmap } = bench();
    const [a = 0, b = 0, c = 0] = mapMany(3);
    unmap(b);
    sim.runUntil(ms(9));
    unmap(c);
    unmap(a);
    sim.runUntil(ms(100));
    expect(flushes).toEqual([ms(10)]);
    expect(mapMany(3)).toEqual([a, c, b]);
  });

  it('flushes at the 256th range, then queues that one', () => {
    const { flushes, cookie, mapMany, unmap } = bench();
    const live = mapMany(256);
    for (const first of live.slice(0, 255)) unmap(first);
    expect([flushes.length, cookie.flushQueue?.length]).toEqual([0, 255]);
    unmap(live[255] ?? 0);
    expect([flushes.length, cookie.flushQueue?.length]).toEqual([1, 1]);
    expect(mapMany(1)).toEqual([live[254]]);
  });

  it('does not restart the timer for a flush in between, and starts it again for the next range after it', () => {
    const { sim, flushes, cookie, mapMany, unmap } = bench();
    for (const first of mapMany(256)) unmap(first);
    sim.runUntil(ms(10));
    expect(flushes).toEqual([0, ms(10)]);
    expect(cookie.flushQueue?.isTimerRunning).toBe(false);
    sim.runUntil(ms(13));
    for (const first of mapMany(1)) unmap(first);
    sim.runUntil(ms(50));
    expect(flushes).toEqual([0, ms(10), ms(23)]);
  });

  it('does not flush for a request that finds no room', () => {
    const { flushes, cookie, mapMany, unmap } = bench();
    cookie.reserveRange(0, (LOW_END - 4) * PAGE - 1);
    const live = mapMany(5);
    for (const first of live) unmap(first);
    expect(mapMany(1)).toEqual([-1]);
    expect(flushes).toEqual([]);
  });

  it('has a queue for each CPU: a full one flushes for all, and frees its own ranges only', () => {
    const { sim, flushes, cookie, mapMany, unmap } = bench();
    const live = mapMany(300);
    for (const first of live.slice(0, 200)) unmap(first);
    sim.runOnCpu(1);
    for (const first of live.slice(200)) unmap(first);
    expect([flushes.length, cookie.flushQueue?.length]).toEqual([0, 300]);
    for (const first of mapMany(156)) unmap(first);
    expect([flushes.length, cookie.flushQueue?.length]).toEqual([1, 201]);
    sim.runOnCpu(0);
    unmap(mapMany(1)[0] ?? 0);
    expect([flushes.length, cookie.flushQueue?.length]).toEqual([1, 2]);
  });

  it('frees in the timer what waits on any CPU, on the CPU that queued the first range', () => {
    const { sim, mapMany, unmap } = bench();
    const [a = 0, b = 0] = mapMany(2);
    sim.runOnCpu(1);
    unmap(a);
    sim.runOnCpu(0);
    unmap(b);
    sim.runUntil(ms(10));
    expect(mapMany(1)).toEqual([b - 1]);
    sim.runOnCpu(1);
    expect(mapMany(2)).toEqual([a, b]);
  });

  it('keeps the tables of an unmapped range until the flush, and releases them when it ends', () => {
    const { sim, cookie, mapMany } = bench();
    const released: string[] = [];
    const tables = (name: string) => ({
      release(): undefined {
        released.push(name);
      },
    });
    const [a = 0, b = 0, c = 0] = mapMany(3);
    cookie.freeRange(iova(a * PAGE), PAGE, true, tables('a'));
    sim.runUntil(ms(5));
    expect(released).toEqual([]);
    sim.runUntil(ms(10));
    expect(released).toEqual(['a']);
    cookie.freeRange(iova(b * PAGE), PAGE, true, tables('b'));
    cookie.freeRange(iova(c * PAGE), PAGE, false, tables('c'));
    expect(released).toEqual(['a', 'c']);
    cookie.dispose();
    expect(released).toEqual(['a', 'c', 'b']);
  });

  it('stops its timer when the domain ends', () => {
    const { sim, flushes, cookie, map, unmap } = bench();
    unmap(map());
    cookie.dispose();
    sim.run();
    expect([flushes, sim.now]).toEqual([[], 0]);
  });
});

describe('IommuDmaCookie', () => {
  it('never hands out page 0, addresses outside the aperture or reserved ranges', () => {
    const target = { flushIotlbAll: () => undefined };
    const cookie = new IommuDmaCookie(new Simulator(), target, { apertureEnd: 8 * PAGE - 1 });
    cookie.reserveRange(5 * PAGE + 1, 6 * PAGE);
    const limit = Math.floor(cookie.apertureEnd / PAGE);
    const firsts = Array.from({ length: 6 }, () => cookie.iovas.allocFast(1, limit, true));
    expect(firsts).toEqual([7, 4, 3, 2, 1, -1]);
  });

  it('begins at the start of the aperture and counts in its own granule', () => {
    const target = { flushIotlbAll: () => undefined };
    const options = { granuleBytes: 65536, apertureStart: 2 * 65536, apertureEnd: 4 * 65536 - 1 };
    const cookie = new IommuDmaCookie(new Simulator(), target, options);
    expect([3, 3, 3].map((limit) => cookie.iovas.allocFast(1, limit, true))).toEqual([3, 2, -1]);
    cookie.freeRange(iova(3 * 65536), 65536, false);
    expect(cookie.iovas.allocFast(1, 3, true)).toBe(3);
  });

  it('becomes lazy with its addresses as they are', () => {
    const sim = new Simulator();
    const cookie = new IommuDmaCookie(sim, { flushIotlbAll: () => undefined });
    const first = cookie.iovas.allocFast(1, LOW_END, true);
    expect(() => cookie.freeRange(iova(first * PAGE), PAGE, true)).toThrow(/no flush queue/);
    expect(cookie.isLazy).toBe(false);
    cookie.enableFlushQueue();
    expect(cookie.isLazy).toBe(true);
    cookie.freeRange(iova(first * PAGE), PAGE, true);
    expect(cookie.iovas.allocFast(1, LOW_END, true)).toBe(first - 1);
  });

  it('refuses an aperture or a range that is none', () => {
    const make = (options: object) => () =>
      new IommuDmaCookie(new Simulator(), { flushIotlbAll: () => undefined }, options);
    expect(make({ granuleBytes: 5000 })).toThrow(/granuleBytes: 5000/);
    expect(make({ apertureEnd: PAGE - 1 })).toThrow(/aperture/);
    expect(() => make({})().reserveRange(10, 9)).toThrow(/reserveRange.*10 to 9/);
  });
});
