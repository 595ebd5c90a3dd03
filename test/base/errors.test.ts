import { describe, expect, it } from 'vitest';
import { physAddr } from '../../src/base/addr.ts';
import { ERRNO } from '../../src/base/errno.ts';
import { DeadlockError, ErrnoError, HazardError } from '../../src/base/errors.ts';
import { describeHazard, type HazardFacts, type HazardSide } from '../../src/base/hazards.ts';

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

const HAZARDS: readonly (readonly [HazardFacts, string])[] = [
  [
    {
      hazard: 'cpu-read.stale',
      phys,
      staleLines: 1,
      staleBytes: 64,
      newestIn: 'memory',
      reader: cpu,
      writer: camera,
      remedy,
    },
    [
      'cpu-read.stale: app reads 1 stale line (64 wrong bytes) from 0x80001000; the newest copy is in: memory',
      '  [read: app, mmap of fd 4, 12300 ns] [written: camera0, dma, 9100 ns]',
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
      reader: camera,
      writer: cpu,
      remedy,
    },
    [
      'device-read.stale: camera0 reads 2 stale lines (1 wrong byte) from 0x80001000; the newest copy is in: cpu cache',
      '  [read: camera0, dma, 9100 ns] [written: app, mmap of fd 4, 12300 ns]',
      "  remedy: buf.beginCpuAccess('from-device')",
    ].join('\n'),
  ],
  [
    { hazard: 'cpu-write.lost', phys, lostLines: 3, destroyer: camera, writer: cpu, remedy },
    [
      'cpu-write.lost: 3 lines that app wrote from 0x80001000 are lost',
      '  [destroyed: camera0, dma, 9100 ns] [written: app, mmap of fd 4, 12300 ns]',
      "  remedy: buf.beginCpuAccess('from-device')",
    ].join('\n'),
  ],
  [
    { hazard: 'device-write.lost', phys, lostLines: 2, destroyer: cpu, writer: camera, remedy },
    [
      'device-write.lost: 2 lines that camera0 wrote from 0x80001000 are lost',
      '  [destroyed: app, mmap of fd 4, 12300 ns] [written: camera0, dma, 9100 ns]',
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
    'tells what happened, both sides and the remedy: %s',
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
