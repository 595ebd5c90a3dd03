/**
 * Walks that are more than reading one page table: through two stages, or marking written pages on the way.
 *
 * @internal
 */
import type { Iova } from '../base/addr.ts';
import type { DmaAccess, DmaFault, DmaFaultReason } from './fault.ts';
import { IommuProt, IoPgtableLeaf } from './io-pgtable.ts';

/**
 * In the rights of a cached translation: writing is allowed, but the page is not marked as written yet, so that the first write walks.
 *
 * @internal
 */
export const MARK_ON_WRITE = 0x80;

/** What a {@link ContextWalker} found: the leaf, or why the access is refused. @internal */
export class ContextLeaf extends IoPgtableLeaf {
  reason: DmaFaultReason = 'unmapped';
  /** Stage that refused. */
  stage: 1 | 2 = 1;
  /** What stage 2 was asked for, when it refused within a nested walk; else -1. */
  ipa = -1;
  /** That address was of a descriptor of stage 1. */
  isTableWalk = false;

  /** Notes a refusal. @returns false, as {@link ContextWalker.walk} does. */
  refuse(reason: DmaFaultReason, stage: 1 | 2): false {
    this.reason = reason;
    this.stage = stage;
    this.ipa = -1;
    return false;
  }

  /** What a fault says of a refusal by stage 2 of a nested walk. */
  stage2Facts(): Pick<DmaFault, 'ipa' | 'during'> {
    if (this.ipa < 0) return {};
    return { ipa: this.ipa, during: this.isTableWalk ? 'stage-1-walk' : 'stage-1-output' };
  }
}

/** Walks in place of a context's page table alone. Its results are cached as those of a plain walk. @internal */
export interface ContextWalker {
  /**
   * Walks for one access. Fills `leaf`: `reads` in any case; after success `phys`, `sizeBytes` and the rights to be cached; after a refusal
   * `level`, `reason`, `stage`, and `ipa` and `isTableWalk` if stage 2 refused.
   */
  walk(iova: Iova, access: DmaAccess, leaf: ContextLeaf): boolean;
}

/** The right that an access needs. @internal */
export function neededRight(access: DmaAccess): number {
  return access === 'write' ? IommuProt.write : IommuProt.read;
}
