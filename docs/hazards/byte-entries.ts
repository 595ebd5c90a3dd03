/** Bytes that are old or gone. */
import type { HazardCode } from '../../src/index.ts';
import { program as cacheNeighbourDestroyed } from './cache-neighbour-destroyed.ts';
import type { CatalogueEntry } from './catalogue-entry.ts';
import { program as cpuReadStale } from './cpu-read-stale.ts';
import { program as cpuWriteLost } from './cpu-write-lost.ts';
import { program as deviceReadStale } from './device-read-stale.ts';
import { program as deviceWriteLost } from './device-write-lost.ts';

/** By code. */
export const byteEntries = {
  'cpu-read.stale': {
    meaning:
      'The CPU read an old copy of bytes that have been written since. On a platform whose devices snoop the caches the same program is right.',
    right:
      'Begin a bracket for reading before the access (`beginCpuAccess`, `DMA_BUF_IOCTL_SYNC`), or sync a mapping of your own for the CPU.',
    file: 'cpu-read-stale',
    program: cpuReadStale,
    finds: {
      reader: { who: 'app' },
      writer: { who: 'camera0' },
      newestIn: 'memory',
      cause: { code: 'missing-begin-cpu-access', by: 'app', call: 'ioctl(DMA_BUF_IOCTL_SYNC, START | READ)' },
    },
  },
  'device-read.stale': {
    meaning: 'A device read an old copy of bytes that have been written since; most often they are in a CPU’s cache.',
    right: 'End the bracket for writing before the device starts.',
    file: 'device-read-stale',
    program: deviceReadStale,
    finds: {
      reader: { who: 'display0' },
      writer: { who: 'app' },
      newestIn: 'cpu cache',
      cause: { code: 'missing-end-cpu-access', by: 'app', call: 'ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE)' },
    },
  },
  'cpu-write.lost': {
    meaning:
      'Bytes that the CPU wrote are gone: their line was dropped from the cache before it was written to memory, or older bytes went over it.',
    right: 'Write inside a bracket for writing, and end it.',
    file: 'cpu-write-lost',
    program: cpuWriteLost,
    finds: { writer: { who: 'app' }, cause: { by: 'app', call: 'ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE)' } },
  },
  'device-write.lost': {
    meaning: 'Bytes that a device wrote are gone: an old line of a CPU’s cache was written to memory over them.',
    right: 'Let no dirty line exist while a device writes: end the bracket first, and begin a new one afterwards.',
    file: 'device-write-lost',
    program: deviceWriteLost,
    finds: {
      writer: { who: 'camera0' },
      destroyer: { who: 'app' },
      cause: { by: 'app', call: 'wait for the fence of camera0' },
    },
  },
  'cache.neighbour-destroyed': {
    meaning: 'Bytes that lay beside the range that was invalidated are gone, because they were in the same cache line.',
    right: 'Give what devices write cache lines of its own, or clean before the invalidate.',
    file: 'cache-neighbour-destroyed',
    program: cacheNeighbourDestroyed,
    finds: { writer: { who: 'nic driver' }, cause: { code: 'shared-line' } },
  },
} as const satisfies Partial<Record<HazardCode, CatalogueEntry>>;
