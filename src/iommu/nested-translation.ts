/**
 * Two stages: a guest translates IO virtual addresses to what it takes for physical ones, and its host translates those.
 *
 *     iova --stage 1: the guest's table--> ipa --stage 2: the host's table--> phys
 *                 |                                  ^
 *                 '-- each descriptor is at an ipa --'
 *
 * Rules (Arm ARM DDI 0487, D8.2 "Two stages of translation"; SMMUv3 IHI 0070, 3.3.2):
 * 1. The guest's table lies in the guest's memory. The walker reads each of its descriptors through stage 2; four levels by four make 24 reads.
 * 2. A refusal names the stage. One of stage 2 also says for which intermediate address, and whether that was of a descriptor of stage 1.
 * 3. The IOTLB holds the combination: the smaller of both pages, with the rights that both give, tagged with the guest's address-space id.
 * 4. A change of stage 1 is invalidated by that id. A change of stage 2 takes all combined entries of its guests along, since they cannot be told by
 *    intermediate address.
 *
 * **Inaccuracies**: no cache of stage-2 translations for the walk itself; the walker never writes to stage-1 descriptors.
 *
 * @see Linux 6.7 `drivers/iommu/iommufd/hw_pagetable.c` iommufd_hwpt_nested_alloc; Linux 6.12 `drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c`
 */
import type { Iova } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { ContextLeaf, type ContextWalker, MARK_ON_WRITE, neededRight } from './context-walk.ts';
import type { DmaAccess } from './fault.ts';
import { IommuProt, IoPgtableLeaf, type TablePages } from './io-pgtable.ts';
import { IommuDomain, type IommuDomainOptions } from './iommu-domain.ts';
import { LeafCursor } from './leaf-cursor.ts';
import { LpaeWalker } from './lpae-walker.ts';

/** How to make a {@link NestedDomain}. */
export interface NestedDomainOptions extends Omit<IommuDomainOptions, 'type' | 'tablePages'> {
  /** Where the guest's tables live: its frames are intermediate ones, which stage 2 must map. */
  readonly guestPages: TablePages;
}

/** A first stage on a parent's second stage. `map` and `unmap` are the guest's: from IO virtual to intermediate addresses. */
export class NestedDomain extends IommuDomain {
  readonly parent: IommuDomain;
  override readonly walker: ContextWalker;

  /**
   * Makes an empty first stage on `parent`, which must outlive it.
   *
   * @throws {ErrnoError} `EINVAL` `parent` is no second stage, or the format no first one of 64-bit descriptors (never retry); others as
   * `new IommuDomain`.
   */
  constructor(parent: IommuDomain, options: NestedDomainOptions) {
    const { guestPages, format = 'ARM_64_LPAE_S1', ...rest } = options;
    const op = 'iommu_domain_alloc_nested';
    if (parent.stage !== 2 || parent.asid === 0 || parent instanceof NestedDomain)
      throw new ErrnoError('EINVAL', op, `${parent.name} is no second stage; make it with a stage-2 format`);
    super(parent.iommu, { ...rest, format, tablePages: guestPages });
    this.parent = parent;
    const stage1 = this.pgtable;
    if (this.stage !== 1 || !(stage1 instanceof LpaeWalker)) {
      super.free();
      throw new ErrnoError('EINVAL', op, `${format} is no first stage with 64-bit descriptors`);
    }
    this.walker = new NestedWalk(stage1, parent);
    this.iommu.nest(parent.asid, this.asid);
  }

  /** Ends the first stage; its table pages go back to the guest. @throws {ErrnoError} `EBUSY` as `IommuDomain.free`. */
  override free(): void {
    super.free();
    this.iommu.unnest(this.parent.asid, this.asid);
  }
}

class NestedWalk implements ContextWalker {
  readonly #stage1: LpaeWalker;
  readonly #parent: IommuDomain;
  readonly #cursor = new LeafCursor();
  readonly #first = new IoPgtableLeaf();
  readonly #second = new ContextLeaf();
  #reads = 0;

  constructor(stage1: LpaeWalker, parent: IommuDomain) {
    this.#stage1 = stage1;
    this.#parent = parent;
  }

  walk(iova: Iova, access: DmaAccess, leaf: ContextLeaf): boolean {
    const first = this.#first;
    const second = this.#second;
    this.#reads = 0;
    const isMapped = this.#fetchDescriptors(iova, leaf) && this.#readStage1(iova, access, leaf);
    const isAllowed = isMapped && this.#stage2(first.phys, access, false, leaf);
    leaf.reads = this.#reads;
    if (!isAllowed) return false;
    leaf.phys = second.phys;
    leaf.sizeBytes = Math.min(first.sizeBytes, second.sizeBytes);
    leaf.level = first.level;
    const mayMark = (first.prot & IommuProt.write) !== 0 ? MARK_ON_WRITE : 0;
    leaf.prot = second.prot & (first.prot | mayMark);
    return true;
  }

  /** Reads the descriptors of stage 1 on the way to `iova`, each through stage 2. */
  #fetchDescriptors(iova: Iova, leaf: ContextLeaf): boolean {
    const cursor = this.#cursor;
    cursor.top(this.#stage1, iova);
    do {
      if (!this.#stage2(cursor.descriptorAddress(this.#stage1), 'read', true, leaf)) return false;
      this.#reads++;
    } while (cursor.down(this.#stage1, iova));
    return true;
  }

  #readStage1(iova: Iova, access: DmaAccess, leaf: ContextLeaf): boolean {
    const first = this.#first;
    const isMapped = this.#stage1.walk(iova, first);
    leaf.level = first.level;
    if (!isMapped) return leaf.refuse('unmapped', 1);
    return (first.prot & neededRight(access)) !== 0 || leaf.refuse('permission', 1);
  }

  /** Translates `ipa` by the parent. @returns false after a refusal, with its facts in `leaf`. */
  #stage2(ipa: number, access: DmaAccess, isTableWalk: boolean, leaf: ContextLeaf): boolean {
    const second = this.#second;
    const { pgtable, walker } = this.#parent;
    const at = ipa as Iova; // The second stage's input.
    if (!pgtable.contains(at)) {
      second.level = -1;
      second.refuse('address-size', 2);
    } else {
      const isAllowed = walker === null ? plainWalk(this.#parent, at, access, second) : walker.walk(at, access, second);
      this.#reads += second.reads;
      if (isAllowed) return true;
    }
    leaf.level = second.level;
    leaf.refuse(second.reason, 2);
    leaf.ipa = ipa;
    leaf.isTableWalk = isTableWalk;
    return false;
  }
}

function plainWalk(domain: IommuDomain, ipa: Iova, access: DmaAccess, leaf: ContextLeaf): boolean {
  assert(domain.stage === 2, 'nested walk: %s is no second stage', domain.name);
  if (!domain.pgtable.walk(ipa, leaf)) return leaf.refuse('unmapped', 2);
  return (leaf.prot & neededRight(access)) !== 0 || leaf.refuse('permission', 2);
}
