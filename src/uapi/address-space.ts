/**
 * Where a process has mapped what. Each mapping holds a reference of its file; a part that is cut off is a mapping of its own.
 *
 * **Inaccuracies.** Addresses rise, and none is given out twice.
 *
 * @see Linux 6.1 `mm/mmap.c`
 */
import { PAGE_SIZE, type VirtAddr } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import type { Accessor } from '../base/hazards.ts';
import { alignUp } from '../base/units.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import { CpuView } from '../cache/cpu-view.ts';
import type { OpenFile, VmaBacking, VmaRequest } from './file.ts';
import { doAll } from './syscall.ts';
import { UserMapping, type Vma } from './user-mapping.ts';

/** First address that mmap gives out. */
const MMAP_BASE = 0x7f00_0000_0000;

/** What is mapped and how. */
interface NewMapping {
  readonly vma: VmaRequest;
  readonly maxProt: number;
  readonly backing: VmaBacking;
  /** Whose reference the mapping takes over. */
  readonly file: OpenFile;
  readonly accessor: Accessor;
}

/** @internal The mappings of one process. Plain throughout. */
export class AddressSpace {
  /** Is told of each mapping that a call has ended, after that. */
  onUnmap: ((file: OpenFile, call: string) => void) | null = null;
  /** Its process was killed. */
  isKilled = false;
  readonly #coherency: CoherencyDomain;
  readonly #mappings = new Set<UserMapping>();
  #nextAddress = MMAP_BASE;

  constructor(coherency: CoherencyDomain) {
    this.#coherency = coherency;
  }

  /** Oldest first. */
  get mappings(): readonly UserMapping[] {
    return [...this.#mappings];
  }

  /** Maps `backing` behind all others. The mapping takes over one reference of `file`. */
  enter({ vma, maxProt, backing, file, accessor }: NewMapping): UserMapping {
    const extents = backing.memory.extents.map(({ phys, length }) => ({ phys, sizeBytes: length }));
    const { attribute } = backing.memory;
    const view = new CpuView(this.#coherency, { extents, attribute, accessor: this.#ownedBy(accessor) });
    const address = this.#nextAddress as VirtAddr;
    const { prot, shared, length: sizeBytes } = vma;
    const all = { address, sizeBytes, viewOffset: 0, view, backing, file, shared, prot, maxProt, ownPages: new Map() };
    this.#nextAddress += sizeBytes;
    return this.#add(all);
  }

  /**
   * Unmaps what lies in a range; mappings that reach out of it keep their ends, as new mappings.
   *
   * @returns those ends.
   * @throws {ErrnoError} `EINVAL` `address` is off a page, or `length` is 0 or no number of bytes (never retry).
   * @throws {InvariantError} as {@link UserMapping.munmap}; what came before it is unmapped.
   */
  unmap(address: number, length: number): UserMapping[] {
    const isRange =
      Number.isSafeInteger(address) && address % PAGE_SIZE === 0 && Number.isSafeInteger(length) && length > 0;
    if (!isRange) throw new ErrnoError('EINVAL', 'munmap', `address ${address}, length ${length}`);
    const end = address + alignUp(length, PAGE_SIZE);
    const left: UserMapping[] = [];
    const gone: OpenFile[] = [];
    for (const mapping of this.mappings) {
      const last = mapping.address + mapping.sizeBytes;
      if (mapping.address >= end || last <= address) continue;
      if (mapping.address < address) left.push(this.#copy(mapping.part(0, address - mapping.address)));
      if (last > end) left.push(this.#copy(mapping.part(end - mapping.address, last - end)));
      mapping.remove();
      gone.push(mapping.vma.file);
    }
    doAll(gone.map((file) => () => this.onUnmap?.(file, 'munmap')));
    return left;
  }

  /** The same mappings at the same addresses for a child whose accesses are `name`'s. */
  fork(name: string): AddressSpace {
    const child = new AddressSpace(this.#coherency);
    child.#nextAddress = this.#nextAddress;
    for (const mapping of this.#mappings) {
      const vma = mapping.part(0, mapping.sizeBytes);
      const { accessor, attribute } = vma.view;
      const extents = vma.backing.memory.extents.map(({ phys, length }) => ({ phys, sizeBytes: length }));
      const view = new CpuView(this.#coherency, {
        extents,
        attribute,
        accessor: child.#ownedBy({ ...accessor, name }),
      });
      child.#copy({ ...vma, view });
    }
    return child;
  }

  #ownedBy(accessor: Accessor): Accessor {
    return { ...accessor, isKilled: () => this.isKilled };
  }

  /** One more mapping of something that is mapped. */
  #copy(vma: Vma): UserMapping {
    vma.file.get();
    vma.backing.opened?.();
    return this.#add(vma);
  }

  #add(vma: Vma): UserMapping {
    const unmapped = (): void => this.onUnmap?.(vma.file, 'munmap');
    const mapping = new UserMapping(vma, (gone) => this.#remove(gone), unmapped);
    this.#mappings.add(mapping);
    return mapping;
  }

  #remove(mapping: UserMapping): void {
    const { file, backing } = mapping.vma;
    file.put();
    backing.closed?.();
    this.#mappings.delete(mapping);
  }
}
