/**
 * A non-coherent machine as far as bytes go: memories cut into lines, mappings, bounce buffers, and what each call of the DMA API does
 * to lines. Knows nothing of the simulator: it restates the rules of Linux on arm64.
 *
 * - For the device: dirty lines are cleaned. For the CPU: lines are invalidated, unless the device only reads; a line that is covered in
 *   part is written back before it is dropped. Nothing for a device that snoops.
 * - A device that does not reach memory gets a copy. Mapping copies there; a sync copies in the direction of the sync, if the device reads
 *   (to it) or writes (from it).
 */
import type { Atoms, LineGet, LineOp, LinePut, LineSet } from './may-lines.ts';
import { LineSets } from './may-lines.ts';
import { type DeviceDecl, type Dir, LINE_BYTES, type MemoryDecl, POISON, type Program, type Range } from './program.ts';

/** A mapping that lives. */
export interface LiveMap {
  readonly name: string;
  readonly memory: string;
  readonly dev: DeviceDecl;
  readonly at: number;
  readonly bytes: number;
  readonly dir: Dir;
  /** The memory that the device really reaches: the copy's, or the same. */
  readonly reached: string;
  /** It is of a shared buffer, so that a CPU bracket cares for it. */
  readonly isShared: boolean;
}

/** A line of a memory that some access touches. */
interface LinePlace {
  readonly memory: string;
  /** First byte in its memory. */
  readonly at: number;
  /** Boundaries of its atoms, from `at` to `at + 64`. */
  readonly bounds: readonly number[];
}

/** The lines of a program: which there are, and their states in a vector that belongs to whoever explores. */
export class MayMachine {
  readonly sets = new LineSets();
  readonly #places: LinePlace[] = [];
  readonly #byMemory = new Map<string, number[]>();
  readonly #decls: ReadonlyMap<string, MemoryDecl>;
  readonly #devices: ReadonlyMap<string, DeviceDecl>;
  readonly #isHigh: boolean;

  constructor(program: Program) {
    this.#decls = new Map(program.memory.map((decl) => [decl.name, decl]));
    this.#devices = new Map(program.devices.map((decl) => [decl.name, decl]));
    this.#isHigh = program.high === true;
  }

  device(name: string): DeviceDecl {
    const found = this.#devices.get(name);
    if (found === undefined) throw new Error(`model: no device ${name}`);
    return found;
  }

  memory(name: string): MemoryDecl {
    const found = this.#decls.get(name);
    if (found === undefined) throw new Error(`model: no memory ${name}`);
    return found;
  }

  /** Whether `dev` gets a copy. */
  bounces(dev: DeviceDecl): boolean {
    return this.#isHigh && dev.reach32 === true && dev.iommu !== true;
  }

  /** Enters the lines of `memory` that `ranges` touch. @returns their first states. */
  enter(memory: string, ranges: readonly Range[]): LineSet[] {
    const bounds = [...new Set(ranges.flatMap(({ at, bytes }) => [at, at + bytes]))].sort((a, b) => a - b);
    const lines = new Set<number>();
    for (const { at, bytes } of ranges) {
      for (let line = at - (at % LINE_BYTES); line < at + bytes; line += LINE_BYTES) lines.add(line);
    }
    const indices: number[] = [];
    const states = [...lines]
      .sort((a, b) => a - b)
      .map((at) => {
        const inside = bounds.filter((bound) => bound > at && bound < at + LINE_BYTES);
        const place = { memory, at, bounds: [at, ...inside, at + LINE_BYTES] };
        indices.push(this.#places.length);
        this.#places.push(place);
        return this.#first(memory, place.bounds.length - 1);
      });
    this.#byMemory.set(memory, indices);
    return states;
  }

  /** Maintenance by hand: waiting bytes of all lines leave first, as the barrier in it demands. */
  maintain(lines: LineSet[], memory: string, range: Range, op: LineOp): void {
    this.barrier(lines);
    for (const [index] of this.#covered(memory, range)) this.#do(lines, index, op);
  }

  /** All write-combining buffers drain. */
  barrier(lines: LineSet[]): void {
    for (const index of lines.keys()) this.#do(lines, index, 'drain');
  }

  /** An access writes `value`. */
  write(lines: LineSet[], memory: string, range: Range, how: LinePut, value: number): void {
    for (const [index, atoms] of this.#covered(memory, range)) {
      const set = lines[index] ?? 0;
      const isWhole = atoms.end - atoms.first === (this.#places[index]?.bounds.length ?? 0) - 1;
      const before = how === 'snooped' && isWhole ? this.sets.do(set, 'invalidate') : set;
      lines[index] = this.sets.put(before, how, atoms, value);
    }
  }

  /** An access reads. @returns for each atom its bytes, counted from the memory's start, and what they may be. */
  read(
    lines: LineSet[],
    memory: string,
    range: Range,
    how: LineGet,
  ): (Range & { readonly values: readonly number[] })[] {
    const found: (Range & { readonly values: readonly number[] })[] = [];
    for (const [index, atoms] of this.#covered(memory, range)) {
      const rows = this.sets.get(lines[index] ?? 0, how, atoms);
      for (let atom = atoms.first; atom < atoms.end; atom++) {
        const [at = 0, end = 0] = this.#places[index]?.bounds.slice(atom, atom + 2) ?? [];
        found.push({ at, bytes: end - at, values: [...new Set(rows.map((row) => row[atom - atoms.first] ?? -1))] });
      }
      if (how === 'cache') this.#do(lines, index, 'fill');
    }
    return found;
  }

  /** `map` was made. */
  mapped(lines: LineSet[], map: LiveMap, skipSync: boolean): void {
    if (map.reached !== map.memory) this.#copy(lines, map.reached, map.memory, map);
    if (!skipSync) this.#archForDevice(lines, map, map);
  }

  /** Part of `map` goes to the device. */
  forDevice(lines: LineSet[], map: LiveMap, range: Range, dir: Dir): void {
    if (map.reached !== map.memory && dir !== 'from-device') this.#copy(lines, map.reached, map.memory, range);
    this.#archForDevice(lines, map, range);
  }

  /** Part of `map` goes to the CPU. */
  forCpu(lines: LineSet[], map: LiveMap, range: Range, dir: Dir): void {
    if (dir === 'to-device') return;
    if (!map.dev.coherent) this.#archForCpu(lines, map.reached, range);
    if (map.reached !== map.memory) this.#copy(lines, map.memory, map.reached, range);
  }

  /** The name of the copy of `memory` for `dev`. */
  copyName(memory: string, dev: string): string {
    return `copy of ${memory} for ${dev}`;
  }

  #archForDevice(lines: LineSet[], map: LiveMap, range: Range): void {
    if (!map.dev.coherent) this.maintain(lines, map.reached, range, 'clean');
  }

  #archForCpu(lines: LineSet[], memory: string, { at, bytes }: Range): void {
    this.barrier(lines);
    for (const [index] of this.#covered(memory, { at, bytes })) {
      const first = this.#places[index]?.at ?? 0;
      const isWhole = first >= at && first + LINE_BYTES <= at + bytes;
      this.#do(lines, index, isWhole ? 'invalidate' : 'clean-invalidate');
    }
  }

  /** The CPU copies a range through its caches; both memories have the same atoms there. */
  #copy(lines: LineSet[], to: string, from: string, { at, bytes }: Range): void {
    const targets = this.#covered(to, { at, bytes });
    for (const [i, [index, atoms]] of this.#covered(from, { at, bytes }).entries()) {
      const rows = this.sets.get(lines[index] ?? 0, 'cache', atoms);
      this.#do(lines, index, 'fill');
      const target = targets[i]?.[0] ?? 0;
      lines[target] = this.sets.putRows(lines[target] ?? 0, atoms.first, rows);
    }
  }

  #do(lines: LineSet[], index: number, op: LineOp): void {
    lines[index] = this.sets.do(lines[index] ?? 0, op);
  }

  /** The lines that `range` touches, with the atoms of it. */
  #covered(memory: string, { at, bytes }: Range): [index: number, atoms: Atoms][] {
    const found: [number, Atoms][] = [];
    for (const index of this.#byMemory.get(memory) ?? []) {
      const bounds = this.#places[index]?.bounds ?? [];
      const first = bounds.findIndex((bound, i) => i < bounds.length - 1 && bound >= at && bound < at + bytes);
      if (first < 0) {
        const line = bounds[0] ?? 0;
        if (at < line + LINE_BYTES && at + bytes > line) found.push([index, { first: 0, end: 0 }]);
        continue;
      }
      let end = first;
      while (end < bounds.length - 1 && (bounds[end] ?? 0) < at + bytes) end++;
      found.push([index, { first, end }]);
    }
    return found;
  }

  /** What a new memory holds: poison from before, or the zeros of the kernel, which it wrote through its caches. */
  #first(name: string, atoms: number): LineSet {
    const decl = this.#decls.get(name);
    switch (decl?.kind) {
      case 'heap':
      case 'cma':
      case 'udmabuf':
        return this.sets.make(atoms, POISON, 0);
      case 'uncached-heap':
        return this.sets.make(atoms, 0, null);
      case 'coherent':
      case 'write-combine':
        return this.sets.make(
          atoms,
          this.device(decl.dev ?? '').coherent ? POISON : 0,
          this.device(decl.dev ?? '').coherent ? 0 : null,
        );
      default:
        return this.sets.make(atoms, POISON, null);
    }
  }
}
