/** The obvious slow model of a coherency domain: lines in arrays, least recently used first. Knows nothing of src. */
import type { PhysAddr } from '../../src/base/addr.ts';
import { BASE, LINE } from './machine.ts';
import type { Step } from './programs.ts';

interface ModelLine {
  readonly line: number;
  readonly bytes: number[];
  dirty: boolean;
}

interface ModelBuffer {
  readonly line: number;
  /** `undefined`: not waiting. */
  readonly bytes: (number | undefined)[];
}

export class CacheModel {
  readonly memory: number[];
  /** Lines of each set, least recently used first. */
  readonly sets: ModelLine[][];
  /** Oldest first. */
  buffers: ModelBuffer[] = [];
  readonly #ways: number;
  readonly #entries: number;

  constructor(lines: number, shape: { sets: number; ways: number; entries: number }) {
    this.memory = new Array<number>(lines * LINE).fill(0);
    this.sets = Array.from({ length: shape.sets }, () => []);
    this.#ways = shape.ways;
    this.#entries = shape.entries;
  }

  /** Does `step`. @returns what a read or a peek gets. */
  run(step: Step): number[] {
    const bytes = Array.from({ length: step.length }, (_, i) => step.offset + i);
    const lines = [...new Set(bytes.map((b) => Math.floor(b / LINE)))];
    switch (step.op) {
      case 'cached-read':
        return bytes.map((b) => this.#touch(Math.floor(b / LINE)).bytes[b % LINE] as number);
      case 'cached-write':
        for (const b of bytes) {
          const held = this.#touch(Math.floor(b / LINE));
          held.bytes[b % LINE] = step.value;
          held.dirty = true;
        }
        return [];
      case 'uncached-read':
        this.#drain(() => true);
        return bytes.map((b) => this.memory[b] as number);
      case 'uncached-write':
        this.#drain(() => true);
        for (const b of bytes) this.memory[b] = step.value;
        return [];
      case 'wc-read':
        this.#drain((line) => lines.includes(line));
        return bytes.map((b) => this.memory[b] as number);
      case 'wc-write':
        for (const b of bytes) this.#buffer(Math.floor(b / LINE)).bytes[b % LINE] = step.value;
        return [];
      case 'device-read':
        return bytes.map((b) => this.memory[b] as number);
      case 'device-write':
        for (const b of bytes) this.memory[b] = step.value;
        return [];
      case 'snooping-read':
        return bytes.map((b) => this.#dirtyByte(b) ?? (this.memory[b] as number));
      case 'snooping-write':
        for (const line of lines) {
          const whole = bytes.includes(line * LINE) && bytes.includes(line * LINE + LINE - 1);
          this.#leave(line, !whole);
        }
        for (const b of bytes) this.memory[b] = step.value;
        return [];
      case 'clean':
        this.#drain(() => true);
        for (const line of lines) this.#writeBack(line);
        return [];
      case 'invalidate':
      case 'clean-invalidate':
        this.#drain(() => true);
        for (const line of lines) this.#leave(line, step.op === 'clean-invalidate');
        return [];
      case 'evict':
        for (const line of lines) this.#leave(line, true);
        return [];
      case 'prefetch':
        for (const line of lines) this.#touch(line);
        return [];
      case 'barrier':
        this.#drain(() => true);
        return [];
    }
  }

  /** What a read through a view with this attribute would get. */
  peek(offset: number, cached: boolean): number {
    const line = Math.floor(offset / LINE);
    if (cached) return this.#find(line)?.bytes[offset % LINE] ?? (this.memory[offset] as number);
    const waiting = this.buffers.find((buffer) => buffer.line === line)?.bytes[offset % LINE];
    return waiting ?? (this.memory[offset] as number);
  }

  /** Where a copy with this value is, as a report names it. */
  placeOf(offset: number, value: number): string {
    const line = Math.floor(offset / LINE);
    if (this.memory[offset] === value) return 'memory';
    if (this.#find(line)?.bytes[offset % LINE] === value) return 'cpu cache';
    const buffer = this.buffers.find((b) => b.line === line);
    return buffer?.bytes[offset % LINE] === value ? 'write buffer' : 'lost';
  }

  /** Every copy of a byte that exists. */
  copies(offset: number): number[] {
    const line = Math.floor(offset / LINE);
    const cached = this.#find(line)?.bytes[offset % LINE];
    const waiting = this.buffers.find((buffer) => buffer.line === line)?.bytes[offset % LINE];
    return [this.memory[offset], cached, waiting].filter((value) => value !== undefined);
  }

  #setOf(line: number): ModelLine[] {
    return this.sets[(BASE / LINE + line) % this.sets.length] as ModelLine[];
  }

  #find(line: number): ModelLine | undefined {
    return this.#setOf(line).find((held) => held.line === line);
  }

  #dirtyByte(offset: number): number | undefined {
    const held = this.#find(Math.floor(offset / LINE));
    return held?.dirty ? held.bytes[offset % LINE] : undefined;
  }

  #touch(line: number): ModelLine {
    const set = this.#setOf(line);
    let held = this.#find(line);
    if (held === undefined) {
      if (set.length === this.#ways) this.#leave((set[0] as ModelLine).line, true);
      held = { line, bytes: this.memory.slice(line * LINE, (line + 1) * LINE), dirty: false };
    } else {
      set.splice(set.indexOf(held), 1);
    }
    set.push(held);
    return held;
  }

  #writeBack(line: number): void {
    const held = this.#find(line);
    if (!held?.dirty) return;
    for (const [i, value] of held.bytes.entries()) this.memory[line * LINE + i] = value;
    held.dirty = false;
  }

  #leave(line: number, writeBack: boolean): void {
    if (writeBack) this.#writeBack(line);
    const set = this.#setOf(line);
    const index = set.findIndex((held) => held.line === line);
    if (index >= 0) set.splice(index, 1);
  }

  #buffer(line: number): ModelBuffer {
    const held = this.buffers.find((buffer) => buffer.line === line);
    if (held !== undefined) return held;
    if (this.buffers.length === this.#entries) {
      const oldest = this.buffers[0] as ModelBuffer;
      this.#drain((other) => other === oldest.line);
    }
    const fresh: ModelBuffer = { line, bytes: new Array<number | undefined>(LINE).fill(undefined) };
    this.buffers.push(fresh);
    return fresh;
  }

  #drain(which: (line: number) => boolean): void {
    for (const buffer of this.buffers.filter((b) => which(b.line))) {
      for (const [i, value] of buffer.bytes.entries()) {
        if (value !== undefined) this.memory[buffer.line * LINE + i] = value;
      }
    }
    this.buffers = this.buffers.filter((b) => !which(b.line));
  }
}

/** Line addresses for reports. */
export function physOfLine(line: number): PhysAddr {
  return (BASE + line * LINE) as PhysAddr;
}
