/**
 * Which bytes are copies of which: a bounce buffer and the original it stands for are two places for one content, and each can be newer
 * than the other. Says when somebody reads the older one, and when a copy goes over the newer one; only to explain, nothing in the data path
 * asks it.
 *
 * Rules:
 * 1. Each mapping remembers, for the bytes of both places, the last write call since the two agreed, that is since the last copy of these bytes.
 *    The versions of lines would not do: there a byte may be as young as its neighbour.
 * 2. A device reads an old byte of the bounce buffer if the original was written since, later than the bounce buffer; the CPU (or a device
 *    without a bounce buffer) reads an old byte of the original if the device wrote the bounce buffer since, later than the original was
 *    written. The values must differ, where memory holds bytes.
 * 3. A copy loses what was written since in the place it goes to, by the device or to the original.
 * 4. A mapping that ends without a copy leaves what the device wrote lost: the original is old until it is written again. The youngest
 *    {@link LOST_KEPT} such mappings are remembered.
 *
 * **Inaccuracies.** A copy from an original that is old itself, because of another mapping, is not noticed.
 */

import { hex, PAGE_SIZE, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Accessor, StaleReadFacts } from '../base/hazards.ts';
import { ByteRanges } from './byte-ranges.ts';
import type { Findings } from './findings.ts';

/** The newest copy of a byte. */
export interface NewestByte {
  /** The write call, or a younger one beside the byte in its line; 0: nobody's. */
  readonly version: number;
  /** -1: memory holds no bytes. */
  readonly value: number;
  readonly newestIn: StaleReadFacts['newestIn'];
}

/** What is known of bytes; a shadow knows it. */
export interface ByteHistory {
  readonly lineBytes: number;
  readonly findings: Findings;
  newestOf(phys: number): NewestByte;
  isDevices(version: number): boolean;
}

/** One of the two places of a mapping. */
interface Place {
  readonly phys: number;
  /** By offset in the mapping, the last write call since both places agreed (rule 1); 0: none. */
  readonly written: ByteRanges<number>;
}

interface Link {
  readonly original: Place;
  readonly slot: Place;
  readonly sizeBytes: number;
}

/** What a device wrote and nobody copied back (rule 4). */
interface LostLink {
  readonly original: number;
  /** By byte; 0: not lost, or written again. */
  readonly versions: Uint32Array;
  readonly values: Int16Array;
}

/** Where an old byte was found. */
interface OldByte {
  /** Where it was read. */
  readonly phys: number;
  readonly original: number;
  readonly found: number;
  readonly newest: NewestByte;
}

const LOST_KEPT = 16;

/** The bounce buffers of one coherency domain. Plain throughout. */
export class BounceLinks {
  readonly #history: ByteHistory;
  /** The live mappings, by where their bounce buffers begin. */
  readonly #links = new Map<number, Link>();
  /** The same by number of each page that has a byte of either place. */
  readonly #byPage = new Map<number, Link[]>();
  readonly #lost: LostLink[] = [];

  /** @internal */
  constructor(history: ByteHistory) {
    this.#history = history;
    history.findings.originalOf = (phys) => this.#originalOf(phys);
  }

  /** Mappings that bounce now. */
  get live(): number {
    return this.#links.size;
  }

  /** @internal Whether reads and writes have anything to do with bounce buffers, of now or the past. */
  get isIdle(): boolean {
    return this.#links.size === 0 && this.#lost.length === 0;
  }

  /** @internal A mapping bounces from now on: its original was copied just now, or counts as copied. */
  begin(original: PhysAddr, slot: PhysAddr, sizeBytes: number): void {
    const link = { original: placeAt(original), slot: placeAt(slot), sizeBytes };
    this.#links.set(slot, link);
    for (const { phys } of [link.original, link.slot]) {
      for (const page of pagesOf(phys, sizeBytes)) {
        const links = this.#byPage.get(page);
        if (links === undefined) this.#byPage.set(page, [link]);
        else if (!links.includes(link)) links.push(link);
      }
    }
  }

  /** @internal `sizeBytes` at `at` in a bounce buffer are about to be copied to or from the original by `by` (rule 3). */
  copying(at: PhysAddr, sizeBytes: number, toSlot: boolean, by: Accessor): void {
    const link = this.#at(at);
    const offset = at - link.slot.phys;
    const [from, over] = toSlot ? [link.original, link.slot] : [link.slot, link.original];
    const lost = new Gathered(this.#history.lineBytes);
    this.#eachWritten(over, offset, Math.min(link.sizeBytes, offset + sizeBytes), (b, version) => {
      const isTheirs = toSlot ? this.#history.isDevices(version) : true;
      if (!isTheirs || writtenAt(from, b) > version) return;
      const newest = this.#newestOf(over, b, version);
      const found = this.#history.newestOf(from.phys + b).value;
      if (newest.value >= 0 && newest.value === found) return;
      lost.add({ found, newest, phys: over.phys + b, original: link.original.phys + b });
    });
    for (const { line, first, values } of lost.lines()) {
      const { original, newest } = first;
      const b = original - link.original.phys;
      this.#history.findings.noteLost({
        phys: line as PhysAddr,
        version: newest.version,
        destroyer: by,
        destroyerVersion: writtenAt(from, b) || this.#history.newestOf(from.phys + b).version,
        action: 'write-back',
        original: original as PhysAddr,
        ...values,
      });
    }
  }

  /** @internal That copy was made. */
  copied(at: PhysAddr, sizeBytes: number): void {
    const { original, slot, sizeBytes: most } = this.#at(at);
    const offset = at - slot.phys;
    const end = Math.min(most, offset + sizeBytes);
    if (end <= offset) return;
    original.written.add(offset, end, 0);
    slot.written.add(offset, end, 0);
  }

  /** @internal The mapping whose bounce buffer begins at `slot` ends; nothing is copied any more (rule 4). */
  end(slot: PhysAddr): void {
    const link = this.#links.get(slot);
    if (link === undefined) return;
    this.#links.delete(slot);
    for (const { phys } of [link.original, link.slot]) {
      for (const page of pagesOf(phys, link.sizeBytes)) {
        const links = this.#byPage.get(page) ?? [];
        const index = links.indexOf(link);
        if (index >= 0) links.splice(index, 1);
        if (links.length === 0) this.#byPage.delete(page);
      }
    }
    this.#keepLost(link);
  }

  /** @internal Write call `version` writes [phys, phys + length). */
  wasWritten(phys: number, length: number, version: number): void {
    this.#eachNear(phys, phys + length, ({ original, slot, sizeBytes }, from, to) => {
      for (const place of [original, slot]) {
        const start = Math.max(0, from - place.phys);
        const end = Math.min(sizeBytes, to - place.phys);
        if (start < end) place.written.add(start, end, version);
      }
    });
    for (const { original, versions } of this.#lost) {
      const end = phys + length - original;
      if (end > 0) versions.fill(0, Math.max(0, phys - original), end);
    }
  }

  /** @internal `reader` has read [phys, phys + length) (rule 2). */
  wasRead(phys: number, length: number, reader: Accessor): void {
    if (this.isIdle) return;
    const old = new Gathered(this.#history.lineBytes);
    this.#eachNear(phys, phys + length, (link, from, to) => {
      this.#compare(link, link.slot, link.original, from, to, old);
      this.#compare(link, link.original, link.slot, from, to, old);
    });
    for (const lost of this.#lost) this.#compareLost(lost, phys, length, old);
    for (const { line, first, count, values } of old.lines()) {
      const { newest, original } = first;
      this.#history.findings.noteStale({
        phys: line as PhysAddr,
        wrongBytes: newest.value < 0 ? 0 : count,
        newestIn: newest.newestIn,
        version: newest.version,
        reader,
        holder: undefined,
        original: original as PhysAddr,
        ...values,
      });
    }
  }

  /** Of what was read in place `here`, bytes [start, end) of memory, the bytes that are newer in place `there`. */
  #compare(link: Link, here: Place, there: Place, start: number, end: number, old: Gathered): void {
    const from = Math.max(0, start - here.phys);
    const to = Math.min(link.sizeBytes, end - here.phys);
    const isOriginal = here === link.original;
    this.#eachWritten(there, from, to, (b, version) => {
      if (isOriginal && !this.#history.isDevices(version)) return;
      if (writtenAt(here, b) > version) return;
      const newest = this.#newestOf(there, b, version);
      const found = this.#history.newestOf(here.phys + b).value;
      if (newest.value >= 0 && newest.value === found) return;
      const shown = isOriginal ? { ...newest, newestIn: 'bounce slot' as const } : newest;
      old.add({ phys: here.phys + b, original: link.original.phys + b, found, newest: shown });
    });
  }

  #compareLost({ original, versions, values }: LostLink, phys: number, length: number, old: Gathered): void {
    const to = Math.min(versions.length, phys + length - original);
    for (let b = Math.max(0, phys - original); b < to; b++) {
      const version = versions[b] as number;
      if (version === 0) continue;
      const found = this.#history.newestOf(original + b).value;
      const value = values[b] as number;
      if (value >= 0 && value === found) continue;
      const newest = { version, value, newestIn: 'lost' as const };
      old.add({ phys: original + b, original: original + b, found, newest });
    }
  }

  /** Calls `act` for bytes [from, to) of a mapping that were written in `place` since both places agreed, with the write call. */
  #eachWritten(place: Place, from: number, to: number, act: (offset: number, version: number) => void): void {
    for (let b = from; b < to; ) {
      const range = place.written.find(b, to);
      if (range === undefined) return;
      const stop = Math.min(to, range.end);
      if (range.note > 0) for (b = Math.max(b, range.start); b < stop; b++) act(b, range.note);
      b = stop;
    }
  }

  /** Calls `act` for live mappings that may have a byte of [phys, end) and the part of it to look at; each byte once. */
  #eachNear(phys: number, end: number, act: (link: Link, from: number, to: number) => void): void {
    if (end - phys > this.#links.size * PAGE_SIZE) {
      for (const link of this.#links.values()) act(link, phys, end);
      return;
    }
    for (let start = phys - (phys % PAGE_SIZE); start < end; start += PAGE_SIZE) {
      const links = this.#byPage.get(start / PAGE_SIZE);
      if (links === undefined) continue;
      for (const link of links) act(link, Math.max(phys, start), Math.min(end, start + PAGE_SIZE));
    }
  }

  /** The newest copy of byte `b` of `place`, which was written last by `version`. */
  #newestOf(place: Place, b: number, version: number): NewestByte {
    return { ...this.#history.newestOf(place.phys + b), version };
  }

  #keepLost({ original, slot, sizeBytes }: Link): void {
    let lost: LostLink | null = null;
    this.#eachWritten(slot, 0, sizeBytes, (b, version) => {
      if (!this.#history.isDevices(version) || writtenAt(original, b) > version) return;
      const { value } = this.#history.newestOf(slot.phys + b);
      if (value >= 0 && value === this.#history.newestOf(original.phys + b).value) return;
      lost ??= {
        original: original.phys,
        versions: new Uint32Array(sizeBytes),
        values: new Int16Array(sizeBytes).fill(-1),
      };
      lost.versions[b] = version;
      lost.values[b] = value;
    });
    if (lost === null) return;
    this.#lost.push(lost);
    if (this.#lost.length > LOST_KEPT) this.#lost.shift();
  }

  #originalOf(phys: PhysAddr): PhysAddr {
    const link = this.#find(phys);
    return link === undefined ? phys : ((link.original.phys + phys - link.slot.phys) as PhysAddr);
  }

  #find(at: PhysAddr): Link | undefined {
    const links = this.#byPage.get(Math.floor(at / PAGE_SIZE));
    return links?.find(({ slot, sizeBytes }) => at >= slot.phys && at < slot.phys + sizeBytes);
  }

  #at(slot: PhysAddr): Link {
    const link = this.#find(slot);
    assert(link !== undefined, 'bounce: nothing bounces at %s', hex(slot));
    return link;
  }
}

function placeAt(phys: number): Place {
  return { phys, written: new ByteRanges<number>((older, newer) => older === newer) };
}

/** The last write call of byte `b` of `place` since both places agreed; 0: none. */
function writtenAt({ written }: Place, b: number): number {
  return written.find(b, b + 1)?.note ?? 0;
}

/** Numbers of the pages that have a byte of [phys, phys + length). */
function* pagesOf(phys: number, length: number): Generator<number> {
  for (let page = Math.floor(phys / PAGE_SIZE); page * PAGE_SIZE < phys + length; page++) yield page;
}

/** Old bytes by line of where they were read. */
class Gathered {
  readonly #lineBytes: number;
  readonly #lines = new Map<number, { first: OldByte; count: number; bytes: OldByte[] }>();

  constructor(lineBytes: number) {
    this.#lineBytes = lineBytes;
  }

  add(byte: OldByte): void {
    const line = byte.phys - (byte.phys % this.#lineBytes);
    const found = this.#lines.get(line);
    if (found === undefined) {
      this.#lines.set(line, { first: byte, count: 1, bytes: [byte] });
      return;
    }
    found.count++;
    const { bytes } = found;
    if (bytes.length < 8 && byte.phys === found.first.phys + bytes.length) bytes.push(byte);
  }

  *lines(): Generator<{
    line: number;
    first: OldByte;
    count: number;
    values: { values?: { phys: PhysAddr; found: number[]; newest: number[] } };
  }> {
    for (const [line, { first, count, bytes }] of this.#lines) {
      const found = bytes.map((byte) => byte.found);
      const newest = bytes.map((byte) => byte.newest.value);
      const values = newest[0] === -1 ? {} : { values: { phys: first.phys as PhysAddr, found, newest } };
      yield { line, first, count, values };
    }
  }
}
