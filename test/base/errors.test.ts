import { describe, expect, it } from 'vitest';
import { physAddr } from '../../src/base/addr.ts';
import type { Cause } from '../../src/base/cause.ts';
import { ERRNO } from '../../src/base/errno.ts';
import { DeadlockError, ErrnoError, HazardError } from '../../src/base/errors.ts';
import { describeHazard, type HazardFacts } from '../../src/base/hazards.ts';
import type { HazardSide } from '../../src/base/watch-hazards.ts';

describe('ERRNO', () => {
  it('has the numbers of Linux', () => {
    expect(ERRNO).toMatchObject({
      EPERM: 1,
      EINTR: 4,
      EAGAIN: 11,
      ENOMEM: 12,
      EBUSY: 16,
      EINVAL: 22,
      ENOTTY: 25,
      EDEADLK: 35,
      ENOSYS: 38,
      ETIME: 62,
      EOVERFLOW: 75,
      EOPNOTSUPP: 95,
      ETIMEDOUT: 110,
      EALREADY: 114,
      ECANCELED: 125,
    });
    const numbers = Object.values(ERRNO);
    expect(new Set(numbers).size).toBe(numbers.length);
  });
});

describe('ErrnoError', () => {
  it('carries the symbol, the positive number and the operation', () => {
    const error = new ErrnoError('EBUSY', 'attach', 'gpu0 can not reach the memory');
    expect(error).toBeInstanceOf(Error);
    expect([error.name, error.code, error.errno, error.op]).toEqual(['ErrnoError', 'EBUSY', 16, 'attach']);
    expect(error.message).toBe('attach: EBUSY: gpu0 can not reach the memory');
    expect(new ErrnoError('EINVAL', 'map').message).toBe('map: EINVAL');
  });
});

describe('DeadlockError', () => {
  it('carries every waiter and lists one a line', () => {
    const waiters = [
      { task: 'a', waitsFor: 'event x', sinceNs: 5 },
      { task: 'b', waitsFor: 'mutex m, held by a', sinceNs: 7 },
    ];
    const error = new DeadlockError(9, waiters);
    expect([error.name, error.waiters]).toEqual(['DeadlockError', waiters]);
    expect(error.message.split('\n')).toEqual([
      'no event is left at 9 ns and 2 task(s) still wait:',
      '  task a waits for event x since 5 ns',
      '  task b waits for mutex m, held by a since 7 ns',
    ]);
  });
});

const cpu: HazardSide = { who: 'app', via: 'mmap of fd 4', action: 'read', timeNs: 12_300 };
const camera: HazardSide = { who: 'camera0', via: 'dma', action: 'write', timeNs: 9100 };
const phys = physAddr(0x8000_1000);
const remedy = "buf.beginCpuAccess('from-device')";

const cause: Cause = {
  code: 'missing-begin-cpu-access',
  call: 'ioctl(DMA_BUF_IOCTL_SYNC, START | READ)',
  object: 'frame1',
  by: 'app',
  after: camera,
  before: cpu,
  instead: '',
};
const values = { phys: physAddr(0x8000_1004), found: [0, 0x0a], newest: [0xc5, 0xff] };

const HAZARDS: readonly (readonly [HazardFacts, string])[] = [
  [
    {
      hazard: 'cpu-read.stale',
      phys,
      staleLines: 1,
      staleBytes: 64,
      newestIn: 'memory',
      values,
      reader: { ...cpu, site: 'app.ts:31:7' },
      writer: { ...camera, site: 'camera.ts:9:1' },
      cause: { ...cause, before: { ...cpu, site: 'app.ts:31:7' } },
      remedy,
    },
    [
      'cpu-read.stale: app reads 1 stale line (64 wrong bytes) from 0x80001000',
      '  read: 00 0a at 0x80001004, by app through mmap of fd 4, at 12300 ns, app.ts:31:7',
      '  should be: c5 ff',
      '  written by: camera0 through dma, at 9100 ns, camera.ts:9:1',
      '  the newest copy is in: memory',
      '  prevented by: ioctl(DMA_BUF_IOCTL_SYNC, START | READ) of frame1, made by app, after the write by camera0 (9100 ns), before the read by app at app.ts:31:7 (12300 ns) [missing-begin-cpu-access]',
      "  remedy: buf.beginCpuAccess('from-device')",
    ].join('\n'),
  ],
  [
    {
      hazard: 'device-read.stale',
      phys,
      staleLines: 2,
      staleBytes: 1,
      newestIn: 'cpu cache',
      reader: { ...camera, action: 'read' },
      writer: { ...cpu, action: 'write' },
      cause: {
        ...cause,
        code: 'wrong-direction',
        call: 'dmaUnmapSingle(camera0, from-device)',
        or: 'dmaSyncSingleForCpu(camera0, from-device)',
        after: null,
        before: null,
        instead: 'dmaUnmapSingle(camera0, to-device) at camera.ts:12:3',
      },
      remedy,
    },
    [
      'device-read.stale: camera0 reads 2 stale lines (1 wrong byte) from 0x80001000',
      '  read: by camera0 through dma, at 9100 ns',
      '  should be: what was written last',
      '  written by: app through mmap of fd 4, at 12300 ns',
      '  the newest copy is in: cpu cache',
      '  prevented by: dmaUnmapSingle(camera0, from-device) (or dmaSyncSingleForCpu(camera0, from-device)) of frame1, made by app; made instead: dmaUnmapSingle(camera0, to-device) at camera.ts:12:3 [wrong-direction]',
      "  remedy: buf.beginCpuAccess('from-device')",
    ].join('\n'),
  ],
  [
    {
      hazard: 'cpu-write.lost',
      phys,
      lostLines: 3,
      values,
      destroyer: { ...camera, action: 'invalidate' },
      writer: { ...cpu, action: 'write' },
      cause: { code: 'unknown', call: '', by: 'the owner', after: null, before: null, instead: '' },
      remedy,
    },
    [
      'cpu-write.lost: 3 lines that app wrote from 0x80001000 are lost',
      '  there is now: 00 0a at 0x80001004, by invalidate of camera0 through dma, at 9100 ns',
      '  should be: c5 ff',
      '  written by: app through mmap of fd 4, at 12300 ns',
      '  the newest copy is in: no place any more',
      '  prevented by: nothing that is known here [unknown]',
      "  remedy: buf.beginCpuAccess('from-device')",
    ].join('\n'),
  ],
  [
    {
      hazard: 'device-write.lost',
      phys,
      lostLines: 1,
      destroyer: { ...cpu, action: 'write-back' },
      writer: camera,
      cause: { code: 'mixed-attributes', call: '', by: 'app', after: null, before: null, instead: '' },
      remedy,
    },
    [
      'device-write.lost: 1 line that camera0 wrote from 0x80001000 is lost',
      '  there is now: something older, by write-back of app through mmap of fd 4, at 12300 ns',
      '  should be: what was written last',
      '  written by: camera0 through dma, at 9100 ns',
      '  the newest copy is in: no place any more',
      '  prevented by: one memory is seen through views that do not share a copy: give both the same attribute [mixed-attributes]',
      "  remedy: buf.beginCpuAccess('from-device')",
    ].join('\n'),
  ],
  [
    {
      hazard: 'cache.neighbour-destroyed',
      phys,
      lostLines: 1,
      destroyer: { ...cpu, action: 'invalidate' },
      writer: { ...cpu, who: 'counter', action: 'write' },
      cause: {
        code: 'shared-line',
        call: '',
        object: 'stats',
        by: 'nic0 driver',
        after: null,
        before: null,
        instead: 'dmaUnmapSingle(nic0, from-device) at nic.ts:4:3',
      },
      remedy,
    },
    [
      'cache.neighbour-destroyed: 1 line that counter wrote from 0x80001000 is lost',
      '  there is now: something older, by invalidate of app through mmap of fd 4, at 12300 ns',
      '  should be: what was written last',
      '  written by: counter through mmap of fd 4, at 12300 ns',
      '  the newest copy is in: no place any more',
      '  prevented by: two owners share a cache line: align the buffer and its size to whole lines (bytes of stats); made instead: dmaUnmapSingle(nic0, from-device) at nic.ts:4:3 [shared-line]',
      "  remedy: buf.beginCpuAccess('from-device')",
    ].join('\n'),
  ],
  [
    { hazard: 'lock.held-at-exit', task: 'gpu0', held: ['a', 'b'], timeNs: 7, remedy: 'unlock in a finally block' },
    [
      'lock.held-at-exit: task gpu0 ended with a, b held',
      '  [ended: 7 ns]',
      '  remedy: unlock in a finally block',
    ].join('\n'),
  ],
];

describe('describeHazard', () => {
  it.each(HAZARDS.map(([facts, text]) => [facts.hazard, facts, text] as const))(
    'tells what happened, both sides and the remedy; of wrong bytes it answers five questions: %s',
    (_code, facts, text) => {
      expect(describeHazard(facts)).toBe(text);
    },
  );
});

describe('HazardError', () => {
  it.each(HAZARDS.map(([facts, text]) => [facts.hazard, facts, text] as const))(
    'carries the facts and their text: %s',
    (code, facts, text) => {
      const error = new HazardError(facts);
      expect([error.name, error.hazard, error.facts, error.message]).toEqual(['HazardError', code, facts, text]);
    },
  );
});
