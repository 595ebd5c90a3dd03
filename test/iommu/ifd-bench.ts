/** A process with memory, an open iommufd, and as many mock devices as a test wants. */
import { PAGE_SIZE } from '../../src/base/addr.ts';
import { MIB } from '../../src/base/units.ts';
import type { RevocablePages } from '../../src/iommu/ioas-backing.ts';
import { MemlockAccount } from '../../src/iommu/ioas-pages.ts';
import type { IoasOptions } from '../../src/iommu/ioas-table.ts';
import { UserMemory } from '../../src/iommu/ioas-user-memory.ts';
import { Iommufd } from '../../src/iommu/iommufd.ts';
import { PageAllocator } from '../../src/mem/page-allocator.ts';
import { MockIoasClient, type MockIoasClientOptions, MockIommuDomain } from '../../src/testing/mock-iommu-domain.ts';
import { machine } from '../mem/machine.ts';

/** A field of an argument structure: its width in bytes, and its value. */
export type Field = readonly [bytes: 2 | 4 | 8, value: number];

/** 2^64 - 1, as a field. */
export const U64_MAX = 2 ** 64;

export interface BenchOptions {
  readonly limitPages?: number;
  readonly failNext?: IoasOptions['failNext'];
  readonly file?: (fd: number) => RevocablePages;
}

/** Everything for one test. */
export function ifdBench(options: BenchOptions = {}) {
  const { memory } = machine([[0x8000_0000, 64 * MIB]]);
  const pages = new PageAllocator(memory);
  const user = new UserMemory({ name: 'app', memory, pages });
  const account = new MemlockAccount(options.limitPages);
  const { failNext, file } = options;
  const fd = new Iommufd({
    ...{ user, account },
    ...(failNext === undefined ? {} : { failNext }),
    ...(file === undefined ? {} : { file }),
  });
  const args = user.mmap(PAGE_SIZE);
  return {
    memory,
    pages,
    user,
    account,
    fd,
    args,
    /** Does a command whose structure has `fields` behind its size; `size` and more bytes if they shall be wrong. */
    command(cmd: number, fields: readonly Field[], wrong: { size?: number; tail?: readonly number[] } = {}): DataView {
      const bytes = encode(fields, wrong.tail ?? []);
      new DataView(bytes.buffer).setUint32(0, wrong.size ?? bytes.length, true);
      user.write(args, bytes);
      fd.ioctl(cmd, args);
      return new DataView(user.read(args, bytes.length).buffer);
    },
    /** The structure that the last command left. */
    answer(length: number): DataView {
      return new DataView(user.read(args, length).buffer);
    },
    /** A device of the mock unit, bound to `fd`. */
    device(client: MockIoasClientOptions = {}) {
      const mock = new MockIoasClient(client);
      return { mock, id: fd.bindDevice(mock) };
    },
  };
}

/** The bench with one address space and `domains` devices attached to it. */
export function ioasBench(domains: number, options: BenchOptions = {}) {
  const b = ifdBench(options);
  const ioasId = b.fd.allocIoas();
  // Each device has a unit of its own, so that each has a table.
  const devices = Array.from({ length: domains }, (_, i) => b.device({ name: `mock${i}`, unit: `unit${i}` }));
  const hwptIds = devices.map(({ id }) => b.fd.attachDevice(id, ioasId));
  return { ...b, ioasId, ioas: b.fd.ioas(ioasId), devices, hwptIds, tables: hwptIds.map((id) => tableOf(b.fd, id)) };
}

/** The mock table behind a page table's number. */
export function tableOf(fd: Iommufd, hwptId: number): MockIommuDomain {
  const { domain } = fd.hwpt(hwptId);
  if (!(domain instanceof MockIommuDomain)) throw new Error('no mock table');
  return domain;
}

/** `u64` at `at` of an answer. */
export function u64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}

function encode(fields: readonly Field[], tail: readonly number[]): Uint8Array<ArrayBuffer> {
  const size = 4 + fields.reduce((sum, [bytes]) => sum + bytes, 0);
  const out = new Uint8Array(size + tail.length);
  const view = new DataView(out.buffer);
  let at = 4;
  for (const [bytes, value] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value === U64_MAX ? 0xffff_ffff : value % 2 ** 32, true);
    if (bytes === 8) view.setUint32(at + 4, value === U64_MAX ? 0xffff_ffff : Math.floor(value / 2 ** 32), true);
    at += bytes;
  }
  out.set(tail, size);
  return out;
}
