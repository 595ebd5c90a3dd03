/** Why bytes were old or gone. */
import type { CauseCode } from '../../src/index.ts';
import { program as cacheNeighbourDestroyed } from './cache-neighbour-destroyed.ts';
import type { CatalogueEntry } from './catalogue-entry.ts';
import { program as causeBounceWithoutSync } from './cause-bounce-without-sync.ts';
import { program as causeExporterDoesNotSync } from './cause-exporter-does-not-sync.ts';
import { program as causeMissingBarrier } from './cause-missing-barrier.ts';
import { program as causeMissingDeviceFlush } from './cause-missing-device-flush.ts';
import { program as causeMissingDeviceInvalidate } from './cause-missing-device-invalidate.ts';
import { program as causeMissingMap } from './cause-missing-map.ts';
import { program as causeMissingSyncForCpu } from './cause-missing-sync-for-cpu.ts';
import { program as causeMissingSyncForDevice } from './cause-missing-sync-for-device.ts';
import { program as causeMixedAttributes } from './cause-mixed-attributes.ts';
import { program as causeRangeTooSmall } from './cause-range-too-small.ts';
import { program as causeSkippedSync } from './cause-skipped-sync.ts';
import { program as causeUnknown } from './cause-unknown.ts';
import { program as causeWrongDirection } from './cause-wrong-direction.ts';
import { program as cpuReadStale } from './cpu-read-stale.ts';
import { program as cpuWriteLost } from './cpu-write-lost.ts';
import { program as deviceReadStale } from './device-read-stale.ts';
import { program as deviceWriteLost } from './device-write-lost.ts';

/** By code. */
export const causeEntries = {
  'missing-begin-cpu-access': {
    meaning: 'The CPU reads what a device wrote, and no bracket was begun for reading in between.',
    right: 'Begin a bracket for reading first.',
    file: 'cpu-read-stale',
    program: cpuReadStale,
    finds: { cause: { by: 'app', call: 'ioctl(DMA_BUF_IOCTL_SYNC, START | READ)', instead: '' } },
  },
  'missing-end-cpu-access': {
    meaning: 'The CPU wrote, and no bracket for writing was ended before the device read.',
    right: 'End the bracket for writing first.',
    file: 'device-read-stale',
    program: deviceReadStale,
    finds: { cause: { by: 'app', call: 'ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE)', instead: '' } },
  },
  'wrong-direction': {
    meaning: 'The call was made, and for the other direction: a bracket for writing drops no old lines.',
    right: 'Say what the CPU does: `READ` before it reads, `WRITE` for what it writes.',
    file: 'cause-wrong-direction',
    program: causeWrongDirection,
    finds: { cause: { by: 'app', call: 'ioctl(DMA_BUF_IOCTL_SYNC, START | READ)' } },
    says: 'made instead: ioctl(DMA_BUF_IOCTL_SYNC, START | WRITE)',
  },
  'range-too-small': {
    meaning: 'The call was made, and for other bytes.',
    right: 'Sync all bytes that are looked at.',
    file: 'cause-range-too-small',
    program: causeRangeTooSmall,
    finds: { staleLines: 23, cause: { by: 'nic0 driver', call: 'dmaSyncSingleForCpu(nic0, from-device)' } },
    says: 'made instead: dmaSyncSingleForCpu',
  },
  'exporter-does-not-sync': {
    meaning: 'The app made its calls, and the exporter does nothing there.',
    right: 'Write `beginCpuAccess` and `endCpuAccess`: sync each table of each attachment.',
    file: 'cause-exporter-does-not-sync',
    program: causeExporterDoesNotSync,
    finds: { cause: { by: 'exporter of frame', call: 'dmaSyncSgtableForCpu(camera0, from-device)' } },
    says: 'made instead: ioctl(DMA_BUF_IOCTL_SYNC, START | READ)',
  },
  'missing-sync-for-cpu': {
    meaning: 'A driver looks at a mapping of its own that is still the device’s.',
    right: 'Sync it for the CPU, or end the mapping, before the look.',
    file: 'cause-missing-sync-for-cpu',
    program: causeMissingSyncForCpu,
    finds: { cause: { by: 'nic0 driver', call: 'dmaSyncSingleForCpu(nic0, from-device)', instead: '' } },
  },
  'missing-sync-for-device': {
    meaning: 'A driver writes into a mapping of its own that is the device’s.',
    right: 'Sync it for the device after the write.',
    file: 'cause-missing-sync-for-device',
    program: causeMissingSyncForDevice,
    finds: { cause: { by: 'nic0 driver', call: 'dmaSyncSingleForDevice(nic0, to-device)', instead: '' } },
  },
  'skipped-sync': {
    meaning: 'The mapping, or its end, was told to leave the caches alone (`skipCpuSync`).',
    right: 'Leave `skipCpuSync` out, or sync by hand.',
    file: 'cause-skipped-sync',
    program: causeSkippedSync,
    finds: { cause: { by: 'nic0 driver', call: 'dmaMapSingle(nic0, to-device)' } },
    says: 'skipCpuSync',
  },
  'missing-map': {
    meaning: 'The device has no mapping of these bytes, so nobody cared for its view of them.',
    right: 'Map the buffer for the device.',
    file: 'cause-missing-map',
    program: causeMissingMap,
    finds: { cause: { by: 'nic0 driver', call: 'dmaMapSgtable(nic0, to-device)' } },
  },
  'bounce-without-sync': {
    meaning: 'The device works on a copy below its limit, and nothing has copied the bytes since.',
    right: 'Sync the mapping, also on a platform whose devices snoop.',
    file: 'cause-bounce-without-sync',
    program: causeBounceWithoutSync,
    finds: {
      reader: { who: 'sound0' },
      cause: { by: 'sound0 driver', call: 'dmaSyncSingleForDevice(sound0, to-device)' },
    },
  },
  'missing-barrier': {
    meaning:
      'The bytes wait in the write-combining buffer of the CPU; where hardware is free (`AdversarialChooser`), what was written to uncached memory may wait there as well, as on Arm.',
    right: 'A barrier before the device is told to start.',
    file: 'cause-missing-barrier',
    program: causeMissingBarrier,
    finds: { cause: { by: 'gpu0 driver', call: 'barrier()' } },
  },
  'mixed-attributes': {
    meaning: 'The memory is mapped in two ways, and each way sees its own copy.',
    right: 'Map one memory in one way.',
    file: 'cause-mixed-attributes',
    program: causeMixedAttributes,
    finds: { reader: { who: 'driver' }, writer: { who: 'driver' } },
  },
  'shared-line': {
    meaning: 'Two owners share a cache line: what is done for one destroys bytes of the other.',
    right: 'Give each owner lines of its own.',
    file: 'cache-neighbour-destroyed',
    program: cacheNeighbourDestroyed,
    finds: { writer: { who: 'nic driver' } },
  },
  'write-outside-bracket': {
    meaning: 'The CPU wrote while the device had the buffer.',
    right: 'Write inside a bracket for writing.',
    file: 'cpu-write-lost',
    program: cpuWriteLost,
    finds: { cause: { by: 'app', call: 'ioctl(DMA_BUF_IOCTL_SYNC, END | WRITE)' } },
  },
  'missing-fence': {
    meaning:
      'The device wrote while the CPU had its bracket open, or the other way round: one of them did not wait for the other. A begin waits for fences itself, but only after the exporter has dropped old lines, as Linux does: hardware that fetches in between brings them back.',
    right:
      'Wait for the fence that is named before the access; if it is a fence in the buffer’s reservation, honour that.',
    file: 'device-write-lost',
    program: deviceWriteLost,
    finds: { cause: { by: 'app', call: 'wait for the fence of camera0' } },
  },
  'missing-device-flush': {
    meaning: 'The newest bytes are in a cache of the device.',
    right: 'Flush the caches of the device at the end of its work.',
    file: 'cause-missing-device-flush',
    program: causeMissingDeviceFlush,
    finds: { newestIn: 'device cache', cause: { by: 'npu0 driver', call: 'npu.flushCaches()' } },
  },
  'missing-device-invalidate': {
    meaning: 'A cache of the device holds old bytes.',
    right: 'Invalidate the caches of the device at the beginning of its work.',
    file: 'cause-missing-device-invalidate',
    program: causeMissingDeviceInvalidate,
    finds: { reader: { who: 'npu0' }, cause: { by: 'npu0 driver', call: 'npu.invalidateCaches()' } },
  },
  unknown: {
    meaning:
      'Nothing that is kept tells why: the calls are not kept (`watch: false`), or were too long ago. The remedies of both sides are still there.',
    right: 'Run with `watch: true`, which is what a machine does unless told otherwise.',
    file: 'cause-unknown',
    program: causeUnknown,
    finds: { reader: { who: 'app' }, writer: { who: 'camera0' } },
  },
} as const satisfies Partial<Record<CauseCode, CatalogueEntry>>;
