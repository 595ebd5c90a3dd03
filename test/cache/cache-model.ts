/** The obvious slow model of a coherency domain: lines in arrays, one after the other. Knows nothing of src. */
import type { PhysAddr } from '../../src/base/addr.ts';
import { BASE, LINE } from './machine.ts';
import type { Step } from './programs.ts';

interface ModelLine {
  readonly line: number;
  readonly way: number;
  bytes: number[];
  dirty: boolean;
  usedAt: number;
  fetchedAt: number;
}

interface ModelBuffer {
  readonly line: number;
  /** `undefined`: not waiting. */
  readonly bytes: (number | undefined)[];
}

export interface ModelShape {
  readonly sets: number;
  readonly ways: number;
  readonly writes?: 'back' | 'through';
  readonly writeAllocate?: boolean;
  readonly replacement?: 'lru' | 'fifo' | 'random' | 'tree-plru';
  /** For `'random'`. */
  readonly pick?: (ways: number) => number;
}

export interface MachineShape extends ModelShape {
  /** Of the write-combining buffer of each CPU. */
  readonly entries: number;
  readonly system?: ModelShape & { readonly beyond: boolean };
  readonly gpu?: ModelShape & Looks;
}

interface Looks {
  readonly snoops: boolean;
  readonly sees: boolean;
}

/** What a cache is over. */
interface Below {
  fetch(line: number): number[];
  store(line: number, bytes: readonly number[]): void;
  write(line: number, from: number, bytes: readonly number[]): void;
}

/** One cache. */
class ModelCache {
  readonly lines: ModelLine[] = [];
  readonly #shape: ModelShape;
  readonly #below: Below;
  /** Half of a range of ways that was used last, by set and range. */
  readonly #lastHalf = new Map<string, 'low' | 'high'>();
  #clock = 0;

  constructor(shape: ModelShape, below: Below) {
    this.#shape = shape;
    this.#below = below;
  }

  find(line: number): ModelLine | undefined {
    return this.lines.find((held) => held.line === line);
  }

  /** Counts as a use. */
  use(line: number): ModelLine | undefined {
    const held = this.find(line);
    if (held !== undefined) {
      held.usedAt = ++this.#clock;
      this.#noteHalves(this.#setOf(line), held.way);
    }
    return held;
  }

  take(line: number, fetches: boolean): ModelLine {
    const used = this.use(line);
    if (used !== undefined) return used;
    const set = this.#setOf(line);
    const taken = this.lines.filter((held) => this.#setOf(held.line) === set);
    if (taken.length === this.#shape.ways) this.drop(this.#victim(set, taken).line, true);
    const free = new Set(Array.from({ length: this.#shape.ways }, (_, way) => way));
    for (const held of this.lines) if (this.#setOf(held.line) === set) free.delete(held.way);
    const way = Math.min(...free);
    const now = ++this.#clock;
    const bytes = fetches ? this.#below.fetch(line) : new Array<number>(LINE).fill(0);
    const fresh = { line, way, bytes, dirty: false, usedAt: now, fetchedAt: now };
    this.lines.push(fresh);
    this.#noteHalves(set, way);
    return fresh;
  }

  /** A program's write of bytes of one line. */
  write(line: number, from: number, bytes: readonly number[]): void {
    const { writes = 'back', writeAllocate = true } = this.#shape;
    if (this.find(line) !== undefined || writeAllocate) {
      const held = this.take(line, bytes.length < LINE);
      held.bytes.splice(from, bytes.length, ...bytes);
      if (writes === 'back') held.dirty = true;
      if (writes === 'back') return;
    }
    this.#below.write(line, from, bytes);
  }

  /** Bytes from another cache or a buffer into a line that is here. */
  store(held: ModelLine, from: number, bytes: readonly number[]): void {
    held.bytes.splice(from, bytes.length, ...bytes);
    held.dirty = true;
    if (this.#shape.writes === 'through') this.clean(held.line);
  }

  clean(line: number): void {
    const held = this.find(line);
    if (!held?.dirty) return;
    held.dirty = false;
    this.#below.store(line, [...held.bytes]);
  }

  drop(line: number, writeBack: boolean): void {
    if (writeBack) this.clean(line);
    const index = this.lines.findIndex((held) => held.line === line);
    if (index >= 0) this.lines.splice(index, 1);
  }

  #setOf(line: number): number {
    return (BASE / LINE + line) % this.#shape.sets;
  }

  #victim(set: number, taken: ModelLine[]): ModelLine {
    const { replacement = 'lru', ways, pick } = this.#shape;
    const byWay = (way: number) => taken.find((held) => held.way === way) as ModelLine;
    if (replacement === 'random' && pick !== undefined) return byWay(pick(ways));
    if (replacement === 'tree-plru') return byWay(this.#follow(set, 0, ways));
    const age = (held: ModelLine) => (replacement === 'fifo' ? held.fetchedAt : held.usedAt);
    return taken.reduce((oldest, held) => (age(held) < age(oldest) ? held : oldest));
  }

  #noteHalves(set: number, way: number): void {
    for (let low = 0, high = this.#shape.ways; high - low > 1; ) {
      const middle = (low + high) / 2;
      this.#lastHalf.set(`${set} ${low} ${high}`, way < middle ? 'low' : 'high');
      if (way < middle) high = middle;
      else low = middle;
    }
  }

  /** Always to the half that was not used last; the lower one if neither was. */
  #follow(set: number, low: number, high: number): number {
    if (high - low === 1) return low;
    const middle = (low + high) / 2;
    const last = this.#lastHalf.get(`${set} ${low} ${high}`);
    return last === 'low' ? this.#follow(set, middle, high) : this.#follow(set, low, middle);
  }
}

export class CacheModel {
  readonly memory: number[];
  readonly cpu: ModelCache;
  readonly system: ModelCache | undefined;
  readonly gpu: ModelCache | undefined;
  /** Of each CPU, oldest first. */
  readonly #buffers: ModelBuffer[][] = [[], []];
  readonly #entries: number;
  readonly #isBeyond: boolean;

  constructor(lines: number, shape: MachineShape) {
    this.memory = new Array<number>(lines * LINE).fill(0);
    const memory: Below = {
      fetch: (line) => this.memory.slice(line * LINE, (line + 1) * LINE),
      store: (line, bytes) => this.#toMemory(line, 0, bytes),
      write: (line, from, bytes) => this.#toMemory(line, from, bytes),
    };
    const { system } = shape;
    this.system = system && new ModelCache(system, memory);
    this.cpu = new ModelCache(shape, this.system === undefined ? memory : below(this.system));
    this.gpu = shape.gpu && new ModelCache(shape.gpu, this.#port(shape.gpu));
    this.#entries = shape.entries;
    this.#isBeyond = system?.beyond ?? false;
  }

  /** Those of all CPUs. */
  get buffers(): ModelBuffer[] {
    return this.#buffers.flat();
  }

  /** Does `step`. @returns what a read or a peek gets. */
  run(step: Step): number[] {
    const bytes = Array.from({ length: step.length }, (_, i) => step.offset + i);
    const lines = [...new Set(bytes.map((b) => Math.floor(b / LINE)))];
    const cpu = step.cpu ?? 0;
    const past: Looks = { snoops: false, sees: this.#isBeyond };
    switch (step.op) {
      case 'cached-read':
        return this.#through(this.cpu, lines, bytes);
      case 'cached-write':
        this.#inPieces(step, (line, from, values) => this.cpu.write(line, from, values));
        return [];
      case 'uncached-read':
        this.#drain(cpu, () => true);
        return this.#read(bytes, past);
      case 'uncached-write':
        this.#drain(cpu, () => true);
        this.#write(step, past);
        return [];
      case 'register-read':
        return this.#read(bytes, past);
      case 'register-write':
        this.#write(step, past);
        return [];
      case 'wc-read':
        this.#drain(cpu, (line) => lines.includes(line));
        return this.#read(bytes, past);
      case 'wc-write':
        for (const b of bytes) this.#buffer(cpu, Math.floor(b / LINE)).bytes[b % LINE] = step.value;
        return [];
      case 'device-read':
        return this.#read(bytes, { snoops: false, sees: false });
      case 'device-write':
        this.#write(step, { snoops: false, sees: false });
        return [];
      case 'seeing-read':
        return this.#read(bytes, { snoops: false, sees: true });
      case 'seeing-write':
        this.#write(step, { snoops: false, sees: true });
        return [];
      case 'snooping-read':
        return this.#read(bytes, { snoops: true, sees: true });
      case 'snooping-write':
        this.#write(step, { snoops: true, sees: true });
        return [];
      case 'gpu-read':
        return this.gpu === undefined ? [] : this.#through(this.gpu, lines, bytes);
      default:
        this.#other(step, lines);
        return [];
    }
  }

  #other(step: Step, lines: readonly number[]): void {
    const cpu = step.cpu ?? 0;
    const { op } = step;
    if (op === 'barrier') this.#drain(cpu, () => true);
    else if (op === 'drain') for (const each of [0, 1]) this.#drain(each, () => true);
    else if (op === 'evict') for (const line of lines) this.cpu.drop(line, true);
    else if (op === 'prefetch') for (const line of lines) this.cpu.take(line, true);
    else if (op === 'gpu-write') this.#inPieces(step, (line, from, values) => this.gpu?.write(line, from, values));
    else if (op.startsWith('gpu')) this.#maintainGpu(op);
    else this.#maintain(op, lines, cpu);
  }

  #maintain(op: string, lines: readonly number[], cpu: number): void {
    this.#drain(cpu, () => true);
    const own = op.startsWith('system') ? [] : [this.cpu];
    const outer = this.system !== undefined && (own.length === 0 || !this.#isBeyond) ? [this.system] : [];
    for (const cache of [...own, ...outer]) {
      for (const line of lines) {
        if (op.endsWith('clean')) cache.clean(line);
        else cache.drop(line, op.endsWith('clean-invalidate'));
      }
    }
  }

  #maintainGpu(op: string): void {
    for (const { line } of [...(this.gpu?.lines ?? [])]) {
      if (op === 'gpu-flush') this.gpu?.clean(line);
      else this.gpu?.drop(line, op === 'gpu-flush-invalidate');
    }
  }

  /** What a read through a view with this attribute would get on CPU 0. */
  peek(offset: number, cached: boolean): number {
    const line = Math.floor(offset / LINE);
    const outer = this.system?.find(line)?.bytes[offset % LINE] ?? (this.memory[offset] as number);
    if (cached) return this.cpu.find(line)?.bytes[offset % LINE] ?? outer;
    const waiting = this.#buffers[0]?.find((buffer) => buffer.line === line)?.bytes[offset % LINE];
    return waiting ?? (this.#isBeyond ? outer : (this.memory[offset] as number));
  }

  /** Where a copy with this value is, as a report names it: a dirty line before a clean one. */
  placeOf(offset: number, value: number): string {
    const line = Math.floor(offset / LINE);
    if (this.memory[offset] === value) return 'memory';
    const places = { 'cpu cache': this.cpu, 'system cache': this.system, 'device cache': this.gpu };
    for (const isDirty of [true, false]) {
      for (const [name, cache] of Object.entries(places)) {
        const held = cache?.find(line);
        if (held?.dirty === isDirty && held.bytes[offset % LINE] === value) return name;
      }
    }
    const waits = this.buffers.some((b) => b.line === line && b.bytes[offset % LINE] === value);
    return waits ? 'write buffer' : 'lost';
  }

  /** Every copy of a byte that somebody may still get: not a clean line of the device's cache. */
  copies(offset: number): number[] {
    const line = Math.floor(offset / LINE);
    const all = [this.memory[offset] as number];
    for (const cache of [this.cpu, this.system, this.gpu]) {
      const held = cache?.find(line);
      if (held !== undefined && (cache !== this.gpu || held.dirty)) all.push(held.bytes[offset % LINE] as number);
    }
    for (const buffers of this.#buffers) {
      for (const buffer of buffers) {
        const waiting = buffer.line === line ? buffer.bytes[offset % LINE] : undefined;
        if (waiting !== undefined) all.push(waiting);
      }
    }
    return all;
  }

  #through(cache: ModelCache, lines: readonly number[], bytes: readonly number[]): number[] {
    const got = lines.map((line) => [...cache.take(line, true).bytes]);
    return bytes.map((b) => got[lines.indexOf(Math.floor(b / LINE))]?.[b % LINE] as number);
  }

  #read(bytes: readonly number[], { snoops, sees }: Looks): number[] {
    return bytes.map((b) => {
      const line = Math.floor(b / LINE);
      const inner = this.cpu.find(line);
      if (snoops && inner?.dirty) return inner.bytes[b % LINE] as number;
      const outer = sees ? this.system?.find(line) : undefined;
      return (outer?.bytes ?? this.memory.slice(line * LINE, (line + 1) * LINE))[b % LINE] as number;
    });
  }

  #write(step: Step, { snoops, sees }: Looks): void {
    this.#inPieces(step, (line, _from, values) => {
      if (snoops) this.cpu.drop(line, values.length < LINE);
    });
    this.#inPieces(step, (line, from, values) => {
      const outer = sees ? this.system?.use(line) : undefined;
      if (outer !== undefined) this.system?.store(outer, from, values);
      else this.#toMemory(line, from, values);
    });
  }

  /** What is below a device's cache. */
  #port({ snoops, sees }: Looks): Below {
    const store = (line: number, from: number, values: readonly number[]) => {
      const outer = sees || snoops ? this.system?.find(line) : undefined;
      if (outer !== undefined) this.system?.store(outer, from, values);
      else this.#toMemory(line, from, values);
      if (snoops) this.cpu.drop(line, false);
    };
    return {
      fetch: (line) => {
        const bytes = Array.from({ length: LINE }, (_, i) => line * LINE + i);
        return this.#read(bytes, { snoops, sees: sees || snoops });
      },
      store: (line, bytes) => store(line, 0, bytes),
      write: (line, from, bytes) => {
        const step = { op: 'device-write', offset: line * LINE + from, length: bytes.length } as const;
        this.#write({ ...step, value: bytes[0] ?? 0 }, { snoops, sees: sees || snoops });
      },
    };
  }

  #inPieces(step: Step, act: (line: number, from: number, values: number[]) => void): void {
    for (let b = step.offset; b < step.offset + step.length; ) {
      const line = Math.floor(b / LINE);
      const to = Math.min(step.offset + step.length, (line + 1) * LINE);
      act(line, b - line * LINE, new Array<number>(to - b).fill(step.value));
      b = to;
    }
  }

  #toMemory(line: number, from: number, bytes: readonly number[]): void {
    for (const [i, value] of bytes.entries()) this.memory[line * LINE + from + i] = value;
  }

  #buffer(cpu: number, line: number): ModelBuffer {
    const mine = this.#buffers[cpu] as ModelBuffer[];
    const held = mine.find((buffer) => buffer.line === line);
    if (held !== undefined) return held;
    if (mine.length === this.#entries) {
      const oldest = mine[0] as ModelBuffer;
      this.#drain(cpu, (other) => other === oldest.line);
    }
    const fresh: ModelBuffer = { line, bytes: new Array<number | undefined>(LINE).fill(undefined) };
    this.#buffers[cpu]?.push(fresh);
    return fresh;
  }

  #drain(cpu: number, which: (line: number) => boolean): void {
    const mine = this.#buffers[cpu] as ModelBuffer[];
    for (const buffer of mine.filter((b) => which(b.line))) {
      const outer = this.#isBeyond ? this.system?.find(buffer.line) : undefined;
      for (const [i, value] of buffer.bytes.entries()) {
        if (value === undefined) continue;
        if (outer !== undefined) this.system?.store(outer, i, [value]);
        else this.memory[buffer.line * LINE + i] = value;
      }
    }
    this.#buffers[cpu] = mine.filter((b) => !which(b.line));
  }
}

/** An outer cache as what an inner one is over. */
function below(outer: ModelCache): Below {
  return {
    fetch: (line) => [...outer.take(line, true).bytes],
    store: (line, bytes) => outer.store(outer.take(line, false), 0, bytes),
    write: (line, from, bytes) => outer.write(line, from, bytes),
  };
}

/** Line addresses for reports. */
export function physOfLine(line: number): PhysAddr {
  return (BASE + line * LINE) as PhysAddr;
}
