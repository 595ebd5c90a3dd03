/**
 * The broken protocols the simulator can name, each with a stable code, the facts of both sides and a remedy.
 * A new hazard is a new member of {@link HazardFacts} and a line in {@link describeHazard}; nothing else lists them.
 */
import { hex, type PhysAddr } from './addr.ts';

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
}

/** One side of a hazard: who did what, when. */
export interface HazardSide {
  readonly who: string;
  readonly via: string;
  readonly action: 'read' | 'write' | 'invalidate' | 'write-back' | 'hold';
  /** When, in ns of simulated time. */
  readonly timeNs: number;
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
  readonly newestIn: 'memory' | 'cpu cache' | 'write buffer' | 'lost';
  readonly reader: HazardSide;
  readonly writer: HazardSide;
  readonly remedy: string;
}

/** Bytes that were written vanished, because a copy that held them was dropped or overwritten by an older one. */
export interface LostWriteFacts {
  readonly hazard: 'cpu-write.lost' | 'device-write.lost';
  readonly phys: PhysAddr;
  readonly lostLines: number;
  readonly destroyer: HazardSide;
  readonly writer: HazardSide;
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

/** The facts of every hazard, discriminated by `hazard`. */
export type HazardFacts = StaleReadFacts | LostWriteFacts | HeldFacts;

/** Stable code of a hazard: `'cpu-read.stale'`. */
export type HazardCode = HazardFacts['hazard'];

/** What to do when a hazard is caught: `'throw'` ends the access with a HazardError, `'record'` notes it and goes on. */
export type HazardPolicy = 'throw' | 'record';

/** The three-line text of a hazard: what happened, both sides, the remedy. */
export function describeHazard(facts: HazardFacts): string {
  const [what, sides] = sentences(facts);
  return `${facts.hazard}: ${what}\n  ${sides}\n  remedy: ${facts.remedy}`;
}

function sentences(facts: HazardFacts): readonly [what: string, sides: string] {
  switch (facts.hazard) {
    case 'cpu-read.stale':
    case 'device-read.stale':
      return [
        `${facts.reader.who} reads ${count(facts.staleLines, 'stale line')} (${count(facts.staleBytes, 'wrong byte')}) from ${hex(facts.phys)}; the newest copy is in: ${facts.newestIn}`,
        `${side('read', facts.reader)} ${side('written', facts.writer)}`,
      ];
    case 'cpu-write.lost':
    case 'device-write.lost':
      return [
        `${count(facts.lostLines, 'line')} that ${facts.writer.who} wrote from ${hex(facts.phys)} are lost`,
        `${side('destroyed', facts.destroyer)} ${side('written', facts.writer)}`,
      ];
    case 'lock.held-at-exit':
      return [`task ${facts.task} ended with ${facts.held.join(', ')} held`, `[ended: ${facts.timeNs} ns]`];
  }
}

function side(verb: string, s: HazardSide): string {
  return `[${verb}: ${s.who}, ${s.via}, ${s.timeNs} ns]`;
}

function count(n: number, noun: string): string {
  return n === 1 ? `1 ${noun}` : `${n} ${noun}s`;
}
