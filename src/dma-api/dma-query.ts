/**
 * What a driver may ask about its device's DMA before and while it uses it. None of it waits, charges or changes anything.
 *
 * Masks are numbers of bits: 32 stands for `0xffffffff`.
 *
 * @see Linux 6.1 `kernel/dma/mapping.c`; `Documentation/core-api/dma-api.rst`
 */
import type { DmaAddr } from '../base/addr.ts';
import type { Device } from './device.ts';
import { isAddressingLimited } from './dma-reach.ts';

/** What happens to a device's streaming mappings; for what-if questions, not for drivers to branch on. */
export interface DmaDescription {
  /** An IOMMU translates its addresses. */
  readonly remapped: boolean;
  /** It snoops the CPU caches, so syncs do no cache maintenance. */
  readonly coherent: boolean;
  /** Some mapping of it, or each, may go through a bounce buffer. */
  readonly bounces: boolean;
  /** What is unmapped may stay within its reach for a while. */
  readonly lazy: boolean;
}

/** Bits of the streaming mask in force. @see Linux 6.1 `include/linux/dma-mapping.h` dma_get_mask */
export function dmaGetMask(dev: Device): number {
  return dev.dmaMaskBits;
}

/**
 * Bits of a mask with which the platform gives the device its best: all memory without an IOMMU, 32 behind one. A device that can do
 * more need not be told to. @see Linux 6.1 `kernel/dma/mapping.c` dma_get_required_mask
 */
export function dmaGetRequiredMask(dev: Device): number {
  return dev.backEnd.requiredMaskBits();
}

/**
 * Whether the device does not reach all that {@link dmaGetRequiredMask} does, by its mask or its bus.
 *
 * @see Linux 6.1 `kernel/dma/mapping.c` dma_addressing_limited
 */
export function dmaAddressingLimited(dev: Device): boolean {
  return isAddressingLimited(dev.dmaMaskBits, dev.busDmaLimit, dmaGetRequiredMask(dev));
}

/** The longest mapping in bytes that works wherever its memory lies; `Infinity`: no limit. A longer one fails, always, if it has to bounce. @see Linux 6.1 `kernel/dma/mapping.c` dma_max_mapping_size */
export function dmaMaxMappingSize(dev: Device): number {
  return dev.backEnd.maxMappingBytes();
}

/** Up to this many bytes a mapping is cheap; at most {@link dmaMaxMappingSize}. @see Linux 6.1 `kernel/dma/mapping.c` dma_opt_mapping_size */
export function dmaOptMappingSize(dev: Device): number {
  return Math.min(dmaMaxMappingSize(dev), dev.backEnd.optMappingBytes());
}

/** Whether syncing what is mapped at `address` does anything; if not, a driver may leave it out. @see Linux 6.1 `kernel/dma/mapping.c` dma_need_sync */
export function dmaNeedSync(dev: Device, address: DmaAddr): boolean {
  return dev.backEnd.needSync(address);
}

/** Whether a process may map what was allocated coherently for `dev`. @see Linux 6.1 `kernel/dma/mapping.c` dma_can_mmap */
export function dmaCanMmap(dev: Device): boolean {
  return dev.backEnd.canMmap();
}

/** One below the granule at which an IOMMU can join extents, or 0: they are not joined. @see Linux 6.1 `kernel/dma/mapping.c` dma_get_merge_boundary */
export function dmaGetMergeBoundary(dev: Device): number {
  return dev.backEnd.mergeBoundary();
}

/**
 * Alignment in bytes that keeps a buffer from sharing a cache line with anything else while a device owns it: a line, or 1 if it snoops.
 *
 * Inaccuracy: in Linux a constant of the architecture: 1 on x86, 128 on arm64.
 *
 * @see Linux 6.1 `include/linux/dma-mapping.h` dma_get_cache_alignment
 */
export function dmaGetCacheAlignment(dev: Device): number {
  return dev.coherent ? 1 : dev.coherency.cache.lineBytes;
}

/** What the platform does with the mappings of `dev`. */
export function describeDma(dev: Device): DmaDescription {
  const { coherent, isTranslated: remapped, swiotlb } = dev;
  const mustBounce = remapped ? dev.untrusted : swiotlb?.forcesBounce === true || dmaAddressingLimited(dev);
  const bounces = swiotlb?.isActive === true && !dev.refuseBounce && mustBounce;
  return { remapped, coherent, bounces, lazy: dev.iommuGroup?.defaultDomain?.type === 'dma-fq' };
}
