/**
 * The broken protocols the simulator can name, each with a stable code, the facts of both sides and a remedy.
 * A new hazard is a new member of {@link HazardFacts} and a line in {@link describeHazard}; nothing else lists them.
 */
import { hex, type Iova, type PhysAddr } from './addr.ts';
import { type Cause, causeText } from './cause.ts';
import { type DmaHazardFacts, dmaHazardSentences } from './dma-hazards.ts';
import { type HazardSide, isWatchHazard, type WatchHazardFacts, watchHazardSentences } from './watch-hazards.ts';

/**
 * Someone who touches memory, as a report names him: a CPU mapping of a process, or a device's DMA port.
 * The two remedies are the calls that this accessor has to make; a report that blames him quotes them.
 */
export interface Accessor {
  /** `'app'`, `'camera0'` */
  readonly name: string;
  readonly kind: 'cpu' | 'device';
  /** Through which view: `'mmap of fd 4 (frame1)'`, `'dma'`. */
  readonly via: string;
  /** The call that makes what others wrote visible to this accessor's reads, or '' if it needs none. */
  readonly beforeRead: string;
  /** The call that makes this accessor's writes visible to others, or '' if it needs none. */
  readonly afterWrite: string;
  /** The shared buffer that it shows, if it shows one: `'frame1'`. */
  readonly object?: string;
  /** How its owner brackets CPU access to a shared buffer. Default: `'call'`, as the kernel does. */
  readonly brackets?: 'ioctl' | 'call';
  /** Whether its owner was killed: what it wrote and did not hand over is nobody's, and no loss. Default: never. */
  readonly isKilled?: () => boolean;
}

/** Some bytes in a row whose values differ from what was written last. */
export interface WrongBytes {
  /** The first of them. */
  readonly phys: PhysAddr;
  /** What is there: at most 8 bytes. */
  readonly found: readonly number[];
  /** What should be there, as many. */
  readonly newest: readonly number[];
}

/** A read returned an old copy although a newer one existed elsewhere. */
export interface StaleReadFacts {
  readonly hazard: 'cpu-read.stale' | 'device-read.stale';
  /** First stale byte's cache line, physical. */
  readonly phys: PhysAddr;
  /** Cache lines of the access that were old. */
  readonly staleLines: number;
  /** Bytes in them whose value differs from the newest; 0 when memory holds no bytes (tag mode) or by luck. */
  readonly staleBytes: number;
  /** Where the newest copy of the first stale line was. */
  readonly newestIn: 'memory' | 'cpu cache' | 'write buffer' | 'system cache' | 'device cache' | 'bounce slot' | 'lost';
  /** The first wrong bytes as they were read and as they should have been read; absent when memory holds no bytes. */
  readonly values?: WrongBytes;
  readonly reader: HazardSide;
  readonly writer: HazardSide;
  /** The one call whose absence explains it. */
  readonly cause: Cause;
  readonly remedy: string;
}

/** Bytes that were written vanished, because a copy that held them was dropped or overwritten by an older one. */
export interface LostWriteFacts {
  /** `cache.neighbour-destroyed`: the bytes lay beside the range that was invalidated, in the same line. */
  readonly hazard: 'cpu-write.lost' | 'device-write.lost' | 'cache.neighbour-destroyed';
  readonly phys: PhysAddr;
  readonly lostLines: number;
  /** The first bytes that were lost, and what is there now; absent when memory holds no bytes. */
  readonly values?: WrongBytes;
  readonly destroyer: HazardSide;
  readonly writer: HazardSide;
  /** The one call whose absence explains it. */
  readonly cause: Cause;
  readonly remedy: string;
}

/** A task ended, or a run came to its end, while it still held something. */
export interface HeldFacts {
  readonly hazard: 'lock.held-at-exit';
  readonly task: string;
  /** Names of the locks, in the order taken. */
  readonly held: readonly string[];
  readonly timeNs: number;
  readonly remedy: string;
}

/** A system call returned to user space with something that is the kernel's. */
export interface SyscallFacts {
  readonly hazard: 'syscall.held-at-return';
  /** The call: `'ioctl'`. */
  readonly call: string;
  readonly task: string;
  /** Locks in the order taken, and reserved descriptors. */
  readonly held: readonly string[];
  readonly timeNs: number;
  readonly remedy: string;
}

/** The search for a bounce buffer can never end: Linux 6.1 hangs at this point, with the pool's lock held. */
export interface EndlessSearchFacts {
  readonly hazard: 'swiotlb.endless-search';
  readonly device: string;
  /** The buffer to bounce. */
  readonly phys: PhysAddr;
  readonly sizeBytes: number;
  readonly minAlignMask: number;
  readonly timeNs: number;
  readonly remedy: string;
}

/** A rule of fences was broken: where the kernel warns and goes on, or touches memory that was freed. */
export interface FenceFacts {
  readonly hazard:
    | 'fence.error-after-signal'
    | 'fence.compare-across-contexts'
    | 'fence.nested-container'
    | 'fence.released-pending'
    | 'fence.use-after-free'
    | 'resv.container-added';
  /** Its context's name and its sequence number: `'gpu0:3'`. */
  readonly fence: string;
  /** What was done to it, in words that follow its name. */
  readonly what: string;
  /** The task that did it, or `'a callback'`. */
  readonly who: string;
  readonly timeNs: number;
  readonly remedy: string;
}

/** A call that the kernel's IOMMU driver does not check, and that would make it write through a wrong pointer or unmap what others use. */
export interface IommuMisuseFacts {
  readonly hazard:
    | 'iommu.map-nothing'
    | 'iommu.map-over-superpage'
    | 'iommu.unmap-inside-superpage'
    | 'iommu.unmap-without-table';
  readonly domain: string;
  readonly iova: Iova;
  readonly sizeBytes: number;
  /** What the kernel would do. */
  readonly what: string;
  readonly timeNs: number;
  readonly remedy: string;
}

/** The reservation lock of a buffer was not in the state that a call of the dma-buf core demands, or a callback changed it. */
export interface ResvLockFacts {
  /** `resv.not-held` it must be held; `resv.held` it must be free; `resv.changed` a callback took it or gave it back. */
  readonly hazard: 'resv.not-held' | 'resv.held' | 'resv.changed';
  readonly buf: string;
  /** The call or the callback: `'mapDmaBuf'`. */
  readonly call: string;
  /** Who called: a task, or `'no task'`. */
  readonly task: string;
  /** Who holds the lock now: a task, or `'nobody'`. */
  readonly holder: string;
  /** The profile whose rule this is: `'linux-6.1'`. */
  readonly rules: string;
  readonly timeNs: number;
  readonly remedy: string;
}

/** An exporter gave one table of addresses to two mappings, so the unmap of one takes the other's addresses away. */
export interface SharedTableFacts {
  readonly hazard: 'dmabuf.shared-table';
  readonly buf: string;
  readonly exporter: string;
  /** The device that has the table, and the one that was given it as well. */
  readonly devices: readonly [first: string, second: string];
  readonly timeNs: number;
  readonly remedy: string;
}

/** The facts of every hazard, discriminated by `hazard`. */
export type HazardFacts =
  | StaleReadFacts
  | LostWriteFacts
  | HeldFacts
  | SyscallFacts
  | EndlessSearchFacts
  | FenceFacts
  | IommuMisuseFacts
  | ResvLockFacts
  | SharedTableFacts
  | WatchHazardFacts
  | DmaHazardFacts;

/** Stable code of a hazard: `'cpu-read.stale'`. */
export type HazardCode = HazardFacts['hazard'];

/** What to do when a hazard is caught: `'throw'` ends the access with a HazardError, `'record'` notes it and goes on. */
export type HazardPolicy = 'throw' | 'record';

/**
 * The text of a hazard, a few lines: what happened, both sides, the remedy. Of wrong bytes it answers five questions: what was read, what
 * should have been read, who wrote it and when, where the newest copy is, and which call would have prevented it.
 */
export function describeHazard(facts: HazardFacts): string {
  const [what, ...lines] = 'cause' in facts ? wrongBytesText(facts) : sentences(facts);
  const other = 'or' in facts && facts.or !== undefined ? [`or: ${facts.or}`] : [];
  return [`${facts.hazard}: ${what}`, ...lines, `remedy: ${facts.remedy}`, ...other].join('\n  ');
}

/** The answers to the five questions, one a line, behind a line that says what happened. */
function wrongBytesText(facts: StaleReadFacts | LostWriteFacts): readonly string[] {
  const { values, writer, cause, phys } = facts;
  const [first, newest] = values === undefined ? ['', ''] : [` ${bytesText(values)}`, bytesOf(values.newest)];
  const written = `written by: ${actorText(writer)}`;
  if ('reader' in facts) {
    const { reader, staleLines, staleBytes, newestIn } = facts;
    return [
      `${reader.who} reads ${count(staleLines, 'stale line')} (${count(staleBytes, 'wrong byte')}) from ${hex(phys)}`,
      `read:${first === '' ? '' : `${first},`} by ${actorText(reader)}`,
      `should be: ${newest === '' ? 'what was written last' : newest}`,
      written,
      `the newest copy is in: ${newestIn}`,
      causeText(cause),
    ];
  }
  const { destroyer, lostLines } = facts;
  return [
    `${count(lostLines, 'line')} that ${writer.who} wrote from ${hex(phys)} ${lostLines === 1 ? 'is' : 'are'} lost`,
    `there is now:${first === '' ? ' something older' : first}, by ${destroyer.action} of ${actorText(destroyer)}`,
    `should be: ${newest === '' ? 'what was written last' : newest}`,
    written,
    'the newest copy is in: no place any more',
    causeText(cause),
  ];
}

/** `'app through mmap of fd 4, at 120 ns, app.ts:31:7'` */
function actorText({ who, via, timeNs, site }: HazardSide): string {
  return `${who} through ${via}, at ${timeNs} ns${site === undefined || site === '' ? '' : `, ${site}`}`;
}

function bytesText({ phys, found }: WrongBytes): string {
  return `${bytesOf(found)} at ${hex(phys)}`;
}

function bytesOf(bytes: readonly number[]): string {
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

function sentences(
  facts: Exclude<HazardFacts, StaleReadFacts | LostWriteFacts>,
): readonly [what: string, sides: string] {
  if (isWatchHazard(facts)) return watchHazardSentences(facts);
  if ('call' in facts && 'device' in facts) return dmaHazardSentences(facts);
  switch (facts.hazard) {
    case 'swiotlb.endless-search':
      return [
        `no slots fit ${facts.sizeBytes} bytes at ${hex(facts.phys)} with minAlignMask ${hex(facts.minAlignMask)}, and the search would go on for ever`,
        `[map: ${facts.device}, ${facts.timeNs} ns]`,
      ];
    case 'fence.error-after-signal':
    case 'fence.compare-across-contexts':
    case 'fence.nested-container':
    case 'fence.released-pending':
    case 'fence.use-after-free':
    case 'resv.container-added':
      return [`fence ${facts.fence} ${facts.what}`, `[by: ${facts.who}, ${facts.timeNs} ns]`];
    case 'iommu.map-nothing':
    case 'iommu.map-over-superpage':
    case 'iommu.unmap-inside-superpage':
    case 'iommu.unmap-without-table':
      return [
        `${facts.sizeBytes} bytes at iova ${hex(facts.iova)}: ${facts.what}`,
        `[call on: ${facts.domain}, ${facts.timeNs} ns]`,
      ];
    case 'resv.not-held':
    case 'resv.held':
    case 'resv.changed':
      return [
        `${facts.call} of ${facts.buf}: ${RESV_LOCK_TEXT[facts.hazard]} (${facts.rules})`,
        `[called: ${facts.task}, ${facts.timeNs} ns] [lock held by: ${facts.holder}]`,
      ];
    case 'dmabuf.shared-table':
      return [
        `${facts.exporter} gave one table of ${facts.buf} to two mappings`,
        `[has it: ${facts.devices[0]}] [given it: ${facts.devices[1]}, ${facts.timeNs} ns]`,
      ];
    case 'syscall.held-at-return':
      return [`${facts.call} returns with ${facts.held.join(', ')}`, `[task ${facts.task}, ${facts.timeNs} ns]`];
    case 'lock.held-at-exit':
      return [`task ${facts.task} ended with ${facts.held.join(', ')} held`, `[ended: ${facts.timeNs} ns]`];
  }
}

const RESV_LOCK_TEXT = {
  'resv.not-held': 'the reservation lock must be held',
  'resv.held': 'the reservation lock must not be held',
  'resv.changed': 'the callback returned with the reservation lock in another state',
} as const;

function count(n: number, noun: string): string {
  return n === 1 ? `1 ${noun}` : `${n} ${noun}s`;
}
