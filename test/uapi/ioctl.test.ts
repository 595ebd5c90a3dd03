import { describe, expect, it } from 'vitest';
import {
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
  DMA_BUF_IOCTL_SYNC,
  DMA_BUF_SET_NAME_A,
  DMA_BUF_SET_NAME_B,
} from '../../src/uapi/dma-buf-file.ts';
import { SYNC_FENCE_INFO, SYNC_IOC_FILE_INFO, SYNC_IOC_MERGE } from '../../src/uapi/fence-file.ts';
import { ioctlParts, struct } from '../../src/uapi/ioctl.ts';
import { SW_SYNC_IOC_CREATE_FENCE, SW_SYNC_IOC_INC } from '../../src/uapi/sw-sync.ts';
import { CallMemory } from '../../src/uapi/user-memory.ts';
import { errno, invariant } from '../bench.ts';

describe('the numbers of requests', () => {
  it.each([
    ['DMA_BUF_IOCTL_SYNC', DMA_BUF_IOCTL_SYNC.code, 0x40086200],
    ['DMA_BUF_SET_NAME_A', DMA_BUF_SET_NAME_A, 0x40046201],
    ['DMA_BUF_SET_NAME_B', DMA_BUF_SET_NAME_B, 0x40086201],
    ['DMA_BUF_IOCTL_EXPORT_SYNC_FILE', DMA_BUF_IOCTL_EXPORT_SYNC_FILE.code, 0xc0086202],
    ['DMA_BUF_IOCTL_IMPORT_SYNC_FILE', DMA_BUF_IOCTL_IMPORT_SYNC_FILE.code, 0x40086203],
    ['SYNC_IOC_MERGE', SYNC_IOC_MERGE.code, 0xc0303e03],
    ['SYNC_IOC_FILE_INFO', SYNC_IOC_FILE_INFO.code, 0xc0383e04],
    ['SW_SYNC_IOC_CREATE_FENCE', SW_SYNC_IOC_CREATE_FENCE.code, 0xc0285700],
    ['SW_SYNC_IOC_INC', SW_SYNC_IOC_INC.code, 0x40045701],
  ])('%s has the number that the C headers give', (_name, code, expected) => {
    expect(code.toString(16)).toBe(expected.toString(16));
  });

  it('can be taken apart', () => {
    expect(ioctlParts(0xc0303e03)).toEqual({ dir: 3, sizeBytes: 48, type: '>', nr: 3 });
  });
});

describe('the layout of a struct', () => {
  const mixed = struct({ a: 'u8', b: 'u16', c: 's32', d: 'u8', e: 'u64', f: 'char[5]', g: 'ptr' });

  it('is that of C: fields at multiples of their size, the whole at a multiple of the largest', () => {
    expect([mixed.sizeBytes, SYNC_FENCE_INFO.sizeBytes]).toEqual([40, 80]);
    const bytes = mixed.encode({ a: 1, b: 0x0302, c: -2, d: 4, e: 2 ** 32 + 5, f: 'abcdefg', g: 0x1234 });
    const parts = [
      [1, 0, 2, 3],
      [254, 255, 255, 255],
      [4, 0, 0, 0, 0, 0, 0, 0],
      [5, 0, 0, 0, 1, 0, 0, 0],
    ];
    expect([...bytes]).toEqual([...parts.flat(), 97, 98, 99, 100, 101, 0, 0, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0]);
    expect(mixed.decode(bytes)).toEqual({ a: 1, b: 0x0302, c: -2, d: 4, e: 2 ** 32 + 5, f: 'abcde', g: 0x1234 });
  });

  it('wraps numbers to the width of their field; the upper half of 64 bits reads negative', () => {
    const numbers = struct({ a: 'u32', b: 's32', c: 'u64' });
    expect(numbers.decode(numbers.encode({ a: -1, b: 2 ** 31, c: -4096 }))).toEqual({
      a: 2 ** 32 - 1,
      b: -(2 ** 31),
      c: -4096,
    });
    expect(() => numbers.encode({ a: 0.5 })).toThrow(invariant('field a of type u32: 0.5'));
  });

  it('reads what is missing as 0 and ignores what is more', () => {
    const pair = struct({ a: 'u32', b: 'u32' });
    expect(pair.decode(Uint8Array.of(7))).toEqual({ a: 7, b: 0 });
    expect(pair.decode(Uint8Array.of(7, 0, 0, 0, 8, 0, 0, 0, 9))).toEqual({ a: 7, b: 8 });
    expect([...pair.encode({ b: 1 })]).toEqual([0, 0, 0, 0, 1, 0, 0, 0]);
  });
});

describe('memory of a process', () => {
  it('is EFAULT where nothing lies, beyond its end, and for writing what can only be read', () => {
    const memory = new CallMemory();
    const [one, two] = [memory.place(Uint8Array.of(1, 2, 3)), memory.place(Uint8Array.of(4), false)];
    expect(memory.copyFrom(one + 1, 2)).toEqual(Uint8Array.of(2, 3));
    const faults = [
      () => memory.copyFrom(0, 1),
      () => memory.copyFrom(one + 3, 1),
      () => memory.copyFrom(one, 4),
      () => memory.copyTo(two, Uint8Array.of(9)),
      () => memory.copyTo(two + 4096, Uint8Array.of(9)),
      () => memory.copyString(one, 32),
      () => memory.copyString(7, 32),
    ];
    for (const fault of faults) expect(fault).toThrow(errno('EFAULT'));
    expect(memory.copyFrom(two, 1)).toEqual(Uint8Array.of(4));
  });

  it('takes what fits before a copy out fails', () => {
    const memory = new CallMemory();
    const bytes = new Uint8Array(2);
    const address = memory.place(bytes);
    expect(() => memory.copyTo(address, Uint8Array.of(5, 6, 7))).toThrow(errno('EFAULT'));
    expect(bytes).toEqual(Uint8Array.of(5, 6));
  });

  it('copies nothing from anywhere without looking', () => {
    const memory = new CallMemory();
    expect(memory.copyFrom(0, 0)).toEqual(new Uint8Array());
    memory.copyTo(0, new Uint8Array());
  });

  it('reads strings up to their final zero, which has to be within the limit', () => {
    const memory = new CallMemory();
    const address = memory.place(Uint8Array.of(97, 98, 0, 99));
    expect(memory.copyString(address, 4)).toBe('ab');
    expect(() => memory.copyString(address, 2)).toThrow(errno('EINVAL'));
  });
});
