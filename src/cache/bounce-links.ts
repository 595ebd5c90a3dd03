/**
 * Which bytes are copies of which: a bounce buffer and the original it stands for are two places for one content, and each can be newer
 * than the other. Says when somebody reads the older one, and when a copy goes over the newer one; only to explain, nothing in the data path
 * asks it.
 *
 * Rules:
 * 1. For each byte of a mapping the youngest write call is remembered at which both places agreed: that of the last copy.
 * 2. A device reads an old byte of the bounce buffer if the original was written since, later than the bounce buffer; the CPU (or a device
 *    without a bounce buffer) reads an old byte of the original if the device wrote the bounce buffer since, later than the original was
 *    written. The values must differ, where memory holds bytes.
 * 3. A copy loses what was written since in the place it goes to, by the device or to the original.
 * 4. A mapping that ends without a copy leaves what the device wrote lost: the original is old until it is written again. The youngest
 *    {@link LOST_KEPT} such mappings are remembered.
 *
 * **Inaccuracies.** A copy from an original that is old itself, because of another mapping, is not noticed.
 */

import { hex, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Accessor, StaleReadFacts } from '../base/hazards.ts';
import { ByteRanges } from './byte-ranges.ts';
import type { Findings } from './findings.ts';

/** The newest copy of a byte. */
export interface NewestByte {
  /** The write call; 0: nobody's. */
  readonly version: number;
  /** -1: memory holds no bytes. */
  readonly value: number;
  readonly newestIn: StaleReadFacts['newestIn'];
}

/** What is known of bytes; a shadow knows it. */
export interface ByteHistory {
  readonly lineBytes: number;
  readonly findings: Findings;
  /** The youngest write call of all. */
  readonly newestVersion: number;
  /** The youngest write call of the line of `phys`, if it is one for all of its bytes; else infinity. */
  lineVersion(phys: number): number;
  newestOf(phys: number): NewestByte;
  isDevices(version: number): boolean;
}

interface Link {
  readonly original: number;
  readonly slot: number;
  readonly sizeBytes: number;
  /** By offset in the mapping (rule 1). */
  readonly agreed: ByteRanges<number>;
}

/** What a device wrote and nobody copied back (rule 4). */
interface LostLink {
  readonly original: number;
  readonly versions: Float64Array;
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
  readonly #links: Link[] = [];
  readonly #lost: LostLink[] = [];

  /** @internal */
  constructor(history: ByteHistory) {
    this.#history = history;
    history.findings.originalOf = (phys) => this.#originalOf(phys);
  }

  /** Mappings that bounce now. */
  get live(): number {
    return this.#links.length;
  }

  /** @internal A mapping bounces from now on: its original was copied just now, or counts as copied. */
  begin(original: PhysAddr, slot: PhysAddr, sizeBytes: number): void {
    const agreed = new ByteRanges<number>((older, newer) => older === newer);
    agreed.add(0, sizeBytes, this.#history.newestVersion);
    this.#links.push({ original, slot, sizeBytes, agreed });
  }

  /** @internal `sizeBytes` at `at` in a bounce buffer are about to be copied to or from the original by `by` (rule 3). */
  copying(at: PhysAddr, sizeBytes: number, toSlot: boolean, by: Accessor): void {
    const link = this.#at(at);
    const offset = at - link.slot;
    const [from, over] = toSlot ? [link.original, link.slot] : [link.slot, link.original];
    const lost = new Gathered(this.#history.lineBytes);
    this.#eachNewer(link, over, offset, Math.min(link.sizeBytes, offset + sizeBytes), (b, newest, agreed) => {
      const isTheirs = toSlot ? this.#history.isDevices(newest.version) : true;
      const source = this.#history.newestOf(from + b);
      if (!isTheirs || (source.version > agreed && source.version > newest.version)) return;
      if (newest.value >= 0 && newest.value === source.value) return;
      const older = { found: source.value, newest, phys: over + b, original: link.original + b };
      lost.add(older);
    });
    for (const { line, first, values } of lost.lines()) {
      const { original, newest } = first;
      this.#history.findings.noteLost({
        phys: line as PhysAddr,
        version: newest.version,
        destroyer: by,
        destroyerVersion: this.#history.newestOf(from + (original - link.original)).version,
        action: 'write-back',
        original: original as PhysAddr,
        ...values,
      });
    }
  }

  /** @internal That copy was made. */
  copied(at: PhysAddr, sizeBytes: number): void {
    const link = this.#at(at);
    const offset = at - link.slot;
    link.agreed.add(offset, Math.min(link.sizeBytes, offset + sizeBytes), this.#history.newestVersion);
  }

  /** @internal The mapping whose bounce buffer begins at `slot` ends; nothing is copied any more (rule 4). */
  end(slot: PhysAddr): void {
    const index = this.#links.findIndex((link) => link.slot === slot);
    if (index < 0) return;
    const [link] = this.#links.splice(index, 1);
    if (link !== undefined) this.#keepLost(link);
  }

  /** @internal `reader` has read [phys, phys + length) (rule 2). */
  wasRead(phys: number, length: number, reader: Accessor): void {
    if (this.#links.length === 0 && this.#lost.length === 0) return;
    const old = new Gathered(this.#history.lineBytes);
    for (const link of this.#links) {
      this.#compare(link, link.slot, link.original, phys, length, old);
      this.#compare(link, link.original, link.slot, phys, length, old);
    }
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

  /** Of what was read in place `here`, the bytes that are newer in place `there`. */
  #compare(link: Link, here: number, there: number, phys: number, length: number, old: Gathered): void {
    const from = Math.max(0, phys - here);
    const to = Math.min(link.sizeBytes, phys + length - here);
    const isOriginal = here === link.original;
    this.#eachNewer(link, there, from, to, (b, newest, agreed) => {
      const mine = this.#history.newestOf(here + b);
      if (isOriginal && !this.#history.isDevices(newest.version)) return;
      if (mine.version > agreed && mine.version > newest.version) return;
      if (newest.value >= 0 && newest.value === mine.value) return;
      const shown = isOriginal ? { ...newest, newestIn: 'bounce slot' as const } : newest;
      old.add({ phys: here + b, original: link.original + b, found: mine.value, newest: shown });
    });
  }

  #compareLost({ original, versions, values }: LostLink, phys: number, length: number, old: Gathered): void {
    const to = Math.min(versions.length, phys + length - original);
    for (let b = Math.max(0, phys - original); b < to; b++) {
      const version = versions[b] as number;
      if (version === 0) continue;
      const mine = this.#history.newestOf(original + b);
      const value = values[b] as number;
      if (mine.version > version || (value >= 0 && value === mine.value)) continue;
      const newest = { version, value, newestIn: 'lost' as const };
      old.add({ phys: original + b, original: original + b, found: mine.value, newest });
    }
  }

  /** Calls `act` for bytes [from, to) of `link` that were written in `place` since both places agreed. */
  #eachNewer(
    link: Link,
    place: number,
    from: number,
    to: number,
    act: (offset: number, newest: NewestByte, agreed: number) => void,
  ): void {
    const { lineBytes } = this.#history;
    for (let b = from; b < to; ) {
      const line = place + b - ((place + b) % lineBytes);
      const stop = Math.min(to, line + lineBytes - place);
      const version = this.#history.lineVersion(line);
      for (; b < stop; b++) {
        const agreed = link.agreed.find(b, b + 1)?.note ?? 0;
        if (version <= agreed) continue;
        const newest = this.#history.newestOf(place + b);
        if (newest.version > agreed) act(b, newest, agreed);
      }
    }
  }

  #keepLost(link: Link): void {
    const { original, slot, sizeBytes } = link;
    let versions: Float64Array | null = null;
    const values = new Int16Array(sizeBytes).fill(-1);
    this.#eachNewer(link, slot, 0, sizeBytes, (b, newest) => {
      const mine = this.#history.newestOf(original + b);
      if (!this.#history.isDevices(newest.version) || mine.version > newest.version) return;
      if (newest.value >= 0 && newest.value === mine.value) return;
      versions ??= new Float64Array(sizeBytes);
      versions[b] = newest.version;
      values[b] = newest.value;
    });
    if (versions === null) return;
    this.#lost.push({ original, versions, values });
    if (this.#lost.length > LOST_KEPT) this.#lost.shift();
  }

  #originalOf(phys: PhysAddr): PhysAddr {
    const link = this.#find(phys);
    return link === undefined ? phys : ((link.original + phys - link.slot) as PhysAddr);
  }

  #find(slot: PhysAddr): Link | undefined {
    return this.#links.find((one) => slot >= one.slot && slot < one.slot + one.sizeBytes);
  }

  #at(slot: PhysAddr): Link {
    const link = this.#find(slot);
    assert(link !== undefined, 'bounce: nothing bounces at %s', hex(slot));
    return link;
  }
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
