/**
 * Provoked incoherency between a process and a device that does not snoop: which bytes are wrong is worked out by hand, and both the bytes and
 * the reports have to agree with it.
 */
import { describe, expect, it } from 'vitest';
import { physAddr } from '../../src/base/addr.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import { BYTES, causes, LINE, listed, type Range, readLines, share, wrongRanges } from './pmc-scene.ts';

const { read, write, rw, start, end } = DMA_BUF_SYNC;
const START_READ = 'missing-begin-cpu-access: ioctl(DMA_BUF_IOCTL_SYNC, START | READ)';
const END_WRITE = 'missing-end-cpu-access: ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE)';

describe('PMC-01 read', () => {
  it('PMC-01: gives no stale word when the second read is in a bracket', () => {
    const { value, hazards } = share(function* (scene) {
      scene.puts(0);
      yield* scene.sync(start | read);
      scene.view.read(0, BYTES);
      yield* scene.sync(end | read);
      scene.puts(0xc5);
      yield* scene.sync(start | read);
      const seen = scene.view.read(0, BYTES);
      yield* scene.sync(end | read);
      return wrongRanges(seen, 0xc5);
    });
    expect([value, hazards]).toEqual([[], []]);
  });

  it.each<[string, Range[]]>([
    ['all lines, if all were read', [[0, BYTES]]],
    ['one line, if one byte was read', [[640, 704]]],
    [
      'the lines that were read, and not those between',
      [
        [0, 128],
        [1024, 1536],
        [4032, 4096],
      ],
    ],
  ])('PMC-01, D-02: without START it is stale in %s, and the reports list just these', (_title, cached) => {
    const { value, hazards } = share(function* (scene) {
      scene.puts(0);
      yield* scene.sync(start | read);
      for (const [from, to] of cached) scene.view.read(from, to - from === LINE ? 1 : to - from);
      yield* scene.sync(end | read);
      scene.puts(0xc5);
      return { seen: wrongRanges(readLines(scene.view), 0xc5), phys: scene.phys };
    });
    expect(value.seen).toEqual(cached);
    expect(listed(hazards, value.phys)).toEqual(cached);
    expect(causes(hazards)).toEqual([START_READ]);
  });

  it('PMC-01, D-02: is stale only in the bytes that the device has written since, of lines that it wrote in part', () => {
    const { value, hazards } = share(function* (scene) {
      yield* scene.sync(start | read);
      scene.view.read(0, BYTES);
      yield* scene.sync(end | read);
      scene.puts(0xc5, [100, 200]);
      const seen = scene.view.read(0, BYTES);
      return { seen: wrongRanges(seen, 0), line: scene.phys + 64 };
    });
    expect(value.seen).toEqual([]); // all old
    expect(hazards).toMatchObject([
      {
        ...{ hazard: 'cpu-read.stale', phys: value.line, staleLines: 3, staleBytes: 100, newestIn: 'memory' },
        values: { phys: value.line + 36, found: Array(8).fill(0), newest: Array(8).fill(0xc5) },
      },
    ]);
  });
});

describe('PMC-02 write', () => {
  /** The CPU writes 0x11 over zeros, the device copies. @param drained - lines that have left the cache by then. */
  function copied(drained: Range[], isEnded: boolean) {
    return share(function* (scene) {
      scene.puts(0);
      yield* scene.sync(start | write);
      scene.view.write(0, new Uint8Array(BYTES).fill(0x11));
      for (const [from, to] of drained) scene.b.machine.coherency.evict(physAddr(scene.phys + from), to - from);
      if (isEnded) yield* scene.sync(end | write);
      const copy = scene.gets();
      if (!isEnded) yield* scene.sync(end | write);
      return { wrong: wrongRanges(copy, 0x11), zeros: copy.filter((byte) => byte === 0).length };
    });
  }

  it('PMC-02: gives no stale word with the bracket', () => {
    const { value, hazards } = copied([], true);
    expect([value.wrong, hazards]).toEqual([[], []]);
  });

  it.each<[string, Range[], Range[]]>([
    ['everything, when no line has left the cache', [], [[0, BYTES]]],
    [
      'what lies between the lines that had to leave',
      [
        [0, 64],
        [512, 1024],
      ],
      [
        [64, 512],
        [1024, BYTES],
      ],
    ],
  ])('PMC-02, D-02: without END some words are still 0: %s', (_title, drained, expected) => {
    const { value, hazards } = copied(drained, false);
    const bytes = expected.reduce((sum, [from, to]) => sum + to - from, 0);
    expect([value.wrong, value.zeros]).toEqual([expected, bytes]);
    expect(hazards).toMatchObject([
      { hazard: 'device-read.stale', staleLines: bytes / LINE, staleBytes: bytes, newestIn: 'cpu cache' },
    ]);
    expect(causes(hazards)).toEqual([END_WRITE]);
  });

  it('D-02: and a dirty line that leaves late takes the device’s bytes with it, all 64 of them', () => {
    const { value, hazards } = share(function* (scene) {
      scene.view.write(130, Uint8Array.of(0x11)); // no bracket: line 2 is dirty
      scene.puts(0xc5);
      scene.b.machine.coherency.evict(physAddr(scene.phys), BYTES);
      yield* scene.sync(start | read);
      const seen = wrongRanges(scene.view.read(0, BYTES), 0xc5);
      yield* scene.sync(end | read);
      return { seen, line: scene.phys + 128 };
    });
    expect(value.seen).toEqual([[128, 192]]);
    expect(hazards[0]).toMatchObject({
      ...{ hazard: 'device-write.lost', phys: value.line, lostLines: 1 },
      ...{ writer: { who: 'camera0' }, destroyer: { who: 'app' } },
    });
  });
});

describe('D-03: begin and end in the right direction', () => {
  it.each<[string, number | null, 'right' | 'old', string[]]>([
    ['READ', read, 'right', []],
    ['RW', rw, 'right', []],
    ['WRITE', write, 'old', ['wrong-direction: ioctl(DMA_BUF_IOCTL_SYNC, START | READ)']],
    ['none', null, 'old', [START_READ]],
  ])('from the device to the CPU, START for %s', (_title, access, outcome, expected) => {
    const { value, hazards } = share(function* (scene) {
      yield* scene.sync(start | read);
      scene.view.read(0, BYTES);
      yield* scene.sync(end | read);
      scene.puts(0xc5);
      if (access !== null) yield* scene.sync(start | access);
      const seen = wrongRanges(scene.view.read(0, BYTES), 0xc5);
      if (access !== null) yield* scene.sync(end | access);
      return seen;
    });
    expect([value, causes(hazards)]).toEqual([outcome === 'right' ? [] : [[0, BYTES]], expected]);
  });

  it.each<[string, number | null, 'right' | 'old', string[]]>([
    ['WRITE', write, 'right', []],
    ['RW', rw, 'right', []],
    // Handing a buffer to a device cleans on arm64, whatever the direction: right by luck.
    ['READ', read, 'right', []],
    // And the unmap at the end drops what nobody has written back.
    ['none', null, 'old', [END_WRITE, 'write-outside-bracket: ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE)']],
  ])('from the CPU to the device, END for %s', (_title, access, outcome, expected) => {
    const { value, hazards } = share(function* (scene) {
      if (access !== null) yield* scene.sync(start | access);
      scene.view.write(0, new Uint8Array(BYTES).fill(0x11));
      if (access !== null) yield* scene.sync(end | access);
      return wrongRanges(scene.gets(), 0x11);
    });
    expect([value, causes(hazards)]).toEqual([outcome === 'right' ? [] : [[0, BYTES]], expected]);
  });
});
