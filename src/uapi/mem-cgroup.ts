/**
 * Control groups that pay for the shared buffers their processes allocate from heaps and for the pages of files in memory, with limits:
 * in all, and per region, which is a heap by its name, or `shmem` for files in memory.
 *
 * 1. A process is in one group; without a word of anybody in the root, which has no limit. A child begins in its parent's.
 * 2. A heap charges the group of the process that allocates, whole pages, before it takes memory. Every group above is charged as
 *    well. When one of them would be over a limit, nothing is charged or taken, and the call fails with `ENOMEM`.
 * 3. The charge stays until the exporter's `release`: whoever got the buffer over a socket or a fork pays nothing, and neither
 *    closing nor exit of the process that allocated ends it while somebody else holds the buffer.
 * 4. A process that moves takes no charge along. {@link MemCgroups.transfer} moves the charge of one buffer.
 * 5. A group that is removed leaves its charges to the one above.
 * 6. A page of a file in memory is charged to the group of the process in whose system call it is first touched (`write`, `mmap`, the
 *    making of a udmabuf) until it is freed; a touch outside of one (`fallocate`) to that of the process that made the file.
 *
 * **Inaccuracies.** Linux 6.1 charges buffers of heaps to nobody; 7.x does as an option, per page, and a memory group over its limit
 * first reclaims and then gets its OOM killer, where here the call fails at once. Limits per region are those of dmem (6.14), whose
 * regions are memories of devices. Objects of DRM devices are not charged.
 *
 * @see `Documentation/admin-guide/cgroup-v2.rst` memory, dmem
 */
import { PAGE_SIZE, type Pfn } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import type { HeapCharge } from '../dmabuf/dma-heap.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { Process } from './process.ts';
import { callingProcess } from './signals.ts';

/** How to make a {@link MemCgroup}. */
export interface MemCgroupOptions {
  readonly name: string;
  /** Default: the root. */
  readonly parent?: MemCgroup;
  /** `memory.max`, in bytes. Default: no limit. */
  readonly limitBytes?: number;
  /** `dmem.max`: bytes per region. Default: no limit. */
  readonly regionLimits?: Readonly<Record<string, number>>;
}

/** One group; {@link MemCgroups.create} makes them. Plain throughout. */
export class MemCgroup {
  readonly name: string;
  /** `null`: it is the root. */
  readonly parent: MemCgroup | null;
  readonly #limits: Map<string, number>;
  readonly #regions = new Map<string, number>();
  readonly #charges = new Set<BufferCharge>();
  #limitBytes: number;
  #usageBytes = 0;
  #peakBytes = 0;
  #refusals = 0;
  #removed = false;

  /** @internal Use {@link MemCgroups.create}. */
  constructor(options: MemCgroupOptions, parent: MemCgroup | null) {
    this.name = options.name;
    this.parent = parent;
    this.#limitBytes = checkedLimit(options.limitBytes ?? Number.POSITIVE_INFINITY);
    this.#limits = new Map(Object.entries(options.regionLimits ?? {}));
    for (const limit of this.#limits.values()) checkedLimit(limit);
  }

  /** Bytes charged to it and to the groups below it. */
  get usageBytes(): number {
    return this.#usageBytes;
  }

  /** The most that {@link usageBytes} ever was. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Charges that its own limits refused. @see `memory.events` max */
  get refusals(): number {
    return this.#refusals;
  }

  /** {@link usageBytes} per region that has any, in order of their first charge. */
  get regions(): ReadonlyMap<string, number> {
    return new Map([...this.#regions].filter(([, bytes]) => bytes > 0));
  }

  /** Whether it was removed. */
  get removed(): boolean {
    return this.#removed;
  }

  /** Most bytes it may hold. One below the usage takes nothing away: it refuses new charges. */
  get limitBytes(): number {
    return this.#limitBytes;
  }

  /** @throws {InvariantError} negative, or no number. */
  set limitBytes(bytes: number) {
    this.#limitBytes = checkedLimit(bytes);
  }

  /** Limits one region; `Infinity`: no limit. @throws {InvariantError} negative, or no number. */
  setRegionLimit(region: string, bytes: number): void {
    this.#limits.set(region, checkedLimit(bytes));
  }

  /** @internal Whether it and all above have room. @throws {ErrnoError} `ENOMEM` one has not. */
  admit(region: string, bytes: number): void {
    for (const group of this.#upwards()) group.#admitHere(region, bytes);
  }

  /** @internal Charges it and all above, whatever the limits. */
  charge(charge: BufferCharge): void {
    for (const group of this.#upwards()) group.#add(charge.region, charge.bytes);
    this.#charges.add(charge);
  }

  /** @internal Takes a charge back. */
  uncharge(charge: BufferCharge): void {
    for (const group of this.#upwards()) group.#add(charge.region, -charge.bytes);
    this.#charges.delete(charge);
  }

  /** @internal Its own charges go to the group above, which has counted them all along. */
  remove(): void {
    const { parent } = this;
    assert(parent !== null, 'MemCgroup: the root cannot be removed');
    for (const charge of this.#charges) {
      charge.group = parent;
      parent.#charges.add(charge);
      this.#add(charge.region, -charge.bytes);
    }
    this.#charges.clear();
    this.#removed = true;
  }

  *#upwards(): Generator<MemCgroup> {
    for (let group: MemCgroup | null = this; group !== null; group = group.parent) yield group;
  }

  #admitHere(region: string, bytes: number): void {
    const held = this.#regions.get(region) ?? 0;
    const regionLimit = this.#limits.get(region) ?? Number.POSITIVE_INFINITY;
    const why =
      this.#usageBytes + bytes > this.#limitBytes
        ? `holds ${this.#usageBytes} of ${this.#limitBytes}`
        : held + bytes > regionLimit
          ? `holds ${held} of ${regionLimit} of region ${region}`
          : '';
    if (why === '') return;
    this.#refusals++;
    throw new ErrnoError('ENOMEM', 'charge', `${bytes} bytes for group ${this.name}, which ${why}; free some first`);
  }

  #add(region: string, bytes: number): void {
    this.#usageBytes += bytes;
    this.#regions.set(region, (this.#regions.get(region) ?? 0) + bytes);
    this.#peakBytes = Math.max(this.#peakBytes, this.#usageBytes);
  }
}

/** What one allocation is charged to. */
class BufferCharge implements HeapCharge {
  group: MemCgroup;
  readonly region: string;
  bytes = 0;

  constructor(group: MemCgroup, region: string) {
    this.group = group;
    this.region = region;
  }

  admit(bytes: number): void {
    this.group.admit(this.region, bytes);
  }

  charge(bytes: number): void {
    this.bytes = bytes;
    this.group.charge(this);
  }

  uncharge(): void {
    this.group.uncharge(this);
    this.bytes = 0;
  }
}

/** The region of pages of files in memory. */
const SHMEM = 'shmem';

/** @internal What the pages of one file in memory are charged to, each to a group of its own: rule 6. Plain throughout. */
export class PageCharges {
  readonly #sim: Simulator;
  readonly #creator: Process | null;
  readonly #charges = new Map<Pfn, BufferCharge>();

  /** @param creator - who made the file; `null`: touches outside of system calls are the root's. */
  constructor(sim: Simulator, creator: Process | null) {
    this.#sim = sim;
    this.#creator = creator;
  }

  /** Gets a page and charges it. @throws {ErrnoError} `ENOMEM` over a limit; what `alloc` throws. Nothing is charged then. */
  alloc(alloc: () => Pfn): Pfn {
    const groups = memCgroups(this.#sim);
    const payer = callingProcess(this.#sim) ?? this.#creator;
    const charge = new BufferCharge(payer === null ? groups.root : groups.groupOf(payer), SHMEM);
    charge.admit(PAGE_SIZE);
    const frame = alloc();
    charge.charge(PAGE_SIZE);
    this.#charges.set(frame, charge);
    return frame;
  }

  /** A page was freed. */
  free(frame: Pfn): void {
    this.#charges.get(frame)?.uncharge();
    this.#charges.delete(frame);
  }
}

/** The groups of one machine; {@link memCgroups} gives them. Plain throughout. */
export class MemCgroups {
  /** Where everything is that is in no other. */
  readonly root: MemCgroup = new MemCgroup({ name: '/' }, null);
  readonly #groups = new Set<MemCgroup>();
  readonly #processes = new Map<Process, MemCgroup>();
  readonly #charges = new WeakMap<DmaBuf, BufferCharge>();

  /** Groups besides the root, oldest first. */
  get groups(): readonly MemCgroup[] {
    return [...this.#groups];
  }

  /** Makes a group. @throws {InvariantError} a limit that is negative or no number; the parent was removed. */
  create(options: MemCgroupOptions): MemCgroup {
    const parent = options.parent ?? this.root;
    assert(!parent.removed, 'MemCgroups.create: parent %s was removed', parent.name);
    const group = new MemCgroup(options, parent);
    this.#groups.add(group);
    return group;
  }

  /**
   * Removes a group: rule 5. Processes in it that hold nothing any more count as ended.
   *
   * @throws {ErrnoError} `EBUSY` it has processes or groups below it (retry when they are gone).
   * @throws {InvariantError} it is the root, or was removed.
   */
  remove(group: MemCgroup): void {
    assert(this.#groups.has(group), 'MemCgroups.remove: %s is the root or was removed', group.name);
    const below = this.groups.find((other) => other.parent === group)?.name;
    const process = this.processesOf(group).find(({ fds, mappings }) => fds.open.length + mappings.length > 0)?.name;
    const inTheWay = below ?? process;
    if (inTheWay !== undefined) throw new ErrnoError('EBUSY', 'rmdir', `${inTheWay} is in group ${group.name}`);
    for (const process of this.processesOf(group)) this.#processes.set(process, group.parent ?? this.root);
    group.remove();
    this.#groups.delete(group);
  }

  /** The group of `process`. */
  groupOf(process: Process): MemCgroup {
    const known = this.#processes.get(process);
    if (known !== undefined) return known;
    for (const [parent] of [...this.#processes]) this.#settleChildren(parent);
    return this.#processes.get(process) ?? this.root;
  }

  /** Processes that were moved to `group`, and their children. The root's are not all known. */
  processesOf(group: MemCgroup): readonly Process[] {
    for (const [parent] of [...this.#processes]) this.#settleChildren(parent);
    return [...this.#processes].filter(([, of]) => of === group).map(([process]) => process);
  }

  /**
   * Moves `process` to `group`: what it allocates from now on is charged there. Children that it has stay where they are.
   *
   * @throws {InvariantError} the group was removed.
   */
  move(process: Process, group: MemCgroup): void {
    assert(!group.removed, 'MemCgroups.move: %s was removed', group.name);
    const before = this.groupOf(process);
    this.#processes.set(process, before);
    this.#settleChildren(process);
    this.#processes.set(process, group);
  }

  /** Who pays for `buf`, or `null`: nobody does. */
  payerOf(buf: DmaBuf): MemCgroup | null {
    const charge = this.#charges.get(buf);
    return charge === undefined || charge.bytes === 0 ? null : charge.group;
  }

  /**
   * Lets `group` pay for `buf` from now on: for a service that allocates on behalf of others.
   *
   * @throws {ErrnoError} `ENOMEM` over a limit of the group or of one above: who paid still pays (retry later); `EINVAL` nobody pays
   *   for it (never retry).
   * @throws {InvariantError} the group was removed.
   */
  transfer(buf: DmaBuf, group: MemCgroup): void {
    assert(!group.removed, 'MemCgroups.transfer: %s was removed', group.name);
    const charge = this.#charges.get(buf);
    if (charge === undefined || charge.bytes === 0) {
      throw new ErrnoError('EINVAL', 'transfer', `${buf.name} is charged to nobody`);
    }
    const from = charge.group;
    from.uncharge(charge);
    try {
      group.admit(charge.region, charge.bytes);
      charge.group = group;
    } finally {
      charge.group.charge(charge);
    }
  }

  /** @internal Calls `alloc` with who pays for what `process` gets from a heap. @throws what `alloc` throws. */
  alloc<B extends DmaBuf>(process: Process, region: string, alloc: (charge: HeapCharge) => B): B {
    const charge = new BufferCharge(this.groupOf(process), region);
    const buf = alloc(charge);
    this.#charges.set(buf, charge);
    return buf;
  }

  /** Children that nobody has moved are where their parent is now. */
  #settleChildren(parent: Process): void {
    const group = this.#processes.get(parent) ?? this.root;
    for (const child of parent.children) {
      if (!this.#processes.has(child)) this.#processes.set(child, group);
      this.#settleChildren(child);
    }
  }
}

/** The groups of `sim`. Plain. */
export function memCgroups(sim: Simulator): MemCgroups {
  return sim.part(MemCgroups);
}

function checkedLimit(bytes: number): number {
  assert(bytes >= 0, 'MemCgroup: limit of %s bytes is no number >= 0', bytes);
  return bytes;
}
