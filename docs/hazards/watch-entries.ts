/** What the watchers of a machine find: between devices, processes and drivers. */
import type { HazardCode } from '../../src/index.ts';
import { program as accessReadWhileWriting } from './access-read-while-writing.ts';
import { program as accessWriteWhileReading } from './access-write-while-reading.ts';
import { program as accessWriteWhileWriting } from './access-write-while-writing.ts';
import type { CatalogueEntry } from './catalogue-entry.ts';
import { program as dmaAfterDetach } from './dma-after-detach.ts';
import { program as dmaAfterMove } from './dma-after-move.ts';
import { program as dmaAfterRevoke } from './dma-after-revoke.ts';
import { program as dmaAfterUnmap } from './dma-after-unmap.ts';
import { program as dmaApiBypass } from './dma-api-bypass.ts';
import { program as dmaBackendPeek } from './dma-backend-peek.ts';
import { program as dmaMapAsFlush } from './dma-map-as-flush.ts';
import { program as dmaMapResourceInSg } from './dma-map-resource-in-sg.ts';
import { program as dmaWrongAddressSpace } from './dma-wrong-address-space.ts';
import { program as dmabufAlias } from './dmabuf-alias.ts';
import { program as dmabufUnbalancedSync } from './dmabuf-unbalanced-sync.ts';
import { program as fenceUnsubmittedBatch } from './fence-unsubmitted-batch.ts';
import { program as ledgerGrowth } from './ledger-growth.ts';
import { program as ledgerLeak } from './ledger-leak.ts';

/** By code. */
export const watchEntries = {
  'access.read-while-writing': {
    meaning:
      'Somebody read bytes that a device was writing, and nothing orders the two: no fence was waited for, or none was left in the buffer. What is read may be half of the old and half of the new.',
    right:
      'Leave the job’s fence in the buffer (`submitSynced`, `DMA_BUF_IOCTL_IMPORT_SYNC_FILE`), or pass it on and wait for it. If the reader was there first (`remedy` says which is likelier, `or` names the other way out), let the job wait for him.',
    file: 'access-read-while-writing',
    program: accessReadWhileWriting,
    finds: {
      first: { who: 'gpu0', action: 'write' },
      second: { who: 'app', action: 'read' },
      fence: 'gpu0:1',
      work: "job 'draw'",
      remedy: "app: wait for fence gpu0:1 (job 'draw') before reading",
    },
  },
  'access.write-while-reading': {
    meaning: 'Somebody wrote bytes that a device was reading.',
    right: 'Wait for the reader’s fence before writing.',
    file: 'access-write-while-reading',
    program: accessWriteWhileReading,
    finds: {
      first: { who: 'gpu0', action: 'read' },
      second: { who: 'app', action: 'write' },
      fence: 'gpu0:1',
      remedy: "app: wait for fence gpu0:1 (job 'show') before writing",
    },
  },
  'access.write-while-writing': {
    meaning: 'Two wrote the same bytes at the same time.',
    right: 'Wait for the first writer’s fence before writing.',
    file: 'access-write-while-writing',
    program: accessWriteWhileWriting,
    finds: {
      first: { who: 'gpu0', action: 'write' },
      second: { who: 'app', action: 'write' },
      fence: 'gpu0:1',
      remedy: "app: wait for fence gpu0:1 (job 'draw') before writing",
    },
  },
  'fence.unsubmitted-batch': {
    meaning:
      'Somebody asked the kernel whether a buffer is idle and then used it; a user-level driver had recorded commands for it and not submitted them, so the kernel could not know.',
    right: 'Flush the batch, then ask.',
    file: 'fence-unsubmitted-batch',
    program: fenceUnsubmittedBatch,
    finds: {
      buf: 'frame',
      who: 'app',
      batch: "batch 'draw' of gpu0",
      remedy: "flush batch 'draw' of gpu0 before asking whether frame is idle",
    },
  },
  'dmabuf.unbalanced-sync': {
    meaning:
      'Begin and end of CPU access do not pair, of a process or of a driver: an END without a START, other directions, or a bracket that is open when the buffer is given up or released.',
    right: 'Pair each START with one END, and look at what START returns: after `EINTR` it has to be repeated.',
    file: 'dmabuf-unbalanced-sync',
    program: dmabufUnbalancedSync,
    finds: {
      buf: 'frame',
      who: 'app',
      call: 'ioctl(DMA_BUF_IOCTL_SYNC, END | READ)',
      open: '',
      remedy: 'begin with ioctl(DMA_BUF_IOCTL_SYNC, START | READ) before the access',
    },
  },
  'dma.after-unmap': {
    meaning:
      'A device went to an address whose mapping had ended. Without an IOMMU it overwrites whoever owns the memory now.',
    right: 'Stop the device, or wait for its work, before the unmap.',
    file: 'dma-after-unmap',
    program: dmaAfterUnmap,
    finds: { device: 'nic0', access: 'write' },
    says: 'unmapped by dmaUnmapSingle',
  },
  'dma.after-move': {
    meaning: 'A device used the addresses of a buffer that its exporter had moved.',
    right: 'Mark the mapping invalid in `moveNotify`, and map again before the next job.',
    file: 'dma-after-move',
    program: dmaAfterMove,
    finds: { device: 'gpu0', access: 'read' },
    says: 'taken away by moveNotify',
  },
  'dma.after-revoke': {
    meaning: 'A device used a buffer that its exporter had taken back.',
    right: 'Give the buffer up in `moveNotify`: start no more work on it, and unmap it.',
    file: 'dma-after-revoke',
    program: dmaAfterRevoke,
    finds: { device: 'gpu0', access: 'read' },
    says: 'revoked by revoke',
  },
  'dma.after-detach': {
    meaning: 'A device used a mapping that ended with its attachment: one that the core had kept.',
    right: 'Stop the device, or wait for its work, before the detach.',
    file: 'dma-after-detach',
    program: dmaAfterDetach,
    finds: { device: 'gpu0', access: 'read' },
    says: 'detached by detach',
  },
  'dma.wrong-address-space': {
    meaning:
      'A device was given a number that is no address of it but means something elsewhere: as physical address, as an address of another device, of a GPU’s or of a process’s address space.',
    right: 'Give the device `dmaAddress` of its own mapping.',
    file: 'dma-wrong-address-space',
    program: dmaWrongAddressSpace,
    finds: { device: 'nic0', access: 'write' },
    says: 'a physical address',
  },
  'dma.api-bypass': {
    meaning:
      'A device was given the address of memory that nobody mapped for it. It works where addresses are physical and everything snoops, and nowhere else.',
    right: 'Map the memory, and give the device the address that comes back.',
    file: 'dma-api-bypass',
    program: dmaApiBypass,
    finds: { device: 'nic0', access: 'write' },
    says: 'memory of driver',
  },
  'dma.map-as-flush': {
    meaning:
      'Lint: a buffer is mapped and unmapped again and again for a device that never looks. Somebody wants the caches cleaned, which that does on some platforms.',
    right: 'Map once for the device that uses the memory, and sync that mapping.',
    file: 'dma-map-as-flush',
    program: dmaMapAsFlush,
    finds: { who: 'gpu0 driver' },
    says: 'dmaMapSingle',
  },
  'dma.map-resource-in-sg': {
    meaning:
      'Lint: what `dmaMapResource` answered stands in a table, which others will sync and unmap as if it were memory.',
    right: 'Keep such addresses out of tables; end them with `dmaUnmapResource`.',
    file: 'dma-map-resource-in-sg',
    program: dmaMapResourceInSg,
    finds: { who: 'nic0 driver' },
    says: 'dmaMapResource',
  },
  'dma.backend-peek': {
    meaning:
      'Lint: a driver looks at which back end makes its addresses, and concludes what the next kernel does otherwise.',
    right: 'Ask the DMA API: `dmaNeedSync`, `dmaMaxMappingSize`, `dmaAddressingLimited`, `dmaGetMergeBoundary`.',
    file: 'dma-backend-peek',
    program: dmaBackendPeek,
    finds: { who: 'nic0 driver' },
  },
  'dmabuf.alias': {
    meaning: 'Lint: two buffers show the same memory. Fences and brackets of one buffer mean nothing for the other.',
    right: 'Export the memory once, and pass that buffer on. An exporter that does so on purpose says `mayAlias`.',
    file: 'dmabuf-alias',
    program: dmabufAlias,
    finds: { who: 'vram' },
    says: 'back and front',
  },
  'ledger.leak': {
    meaning: 'Something was taken and not given back, and nobody is left who could. Found by `checkLeaks`.',
    right: 'Give back what was taken, on every way out.',
    file: 'ledger-leak',
    program: ledgerLeak,
    finds: { object: 'fd (dmabuf)', count: 1, remedy: 'close(3)' },
  },
  'ledger.growth': {
    meaning:
      'A program that does the same thing again and again has more after each time. Found by a `GrowthDetector`, after three cycles.',
    right: 'Give back in each cycle what the cycle took; keep a pool of fixed size.',
    file: 'ledger-growth',
    program: ledgerGrowth,
    finds: { object: 'fd (dmabuf)' },
  },
} as const satisfies Partial<Record<HazardCode, CatalogueEntry>>;
