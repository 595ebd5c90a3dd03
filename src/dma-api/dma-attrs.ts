/** Departures from the default of a mapping or an allocation. */

/**
 * Each is off unless said.
 *
 * @see `Documentation/core-api/dma-attributes.rst`; Linux 6.1 `include/linux/dma-mapping.h` DMA_ATTR_*
 */
export interface DmaAttrs {
  /** The caller does the cache maintenance itself, or knows that none is needed. `DMA_ATTR_SKIP_CPU_SYNC` */
  readonly skipCpuSync?: boolean;
  /** The CPU does not need to see the allocation: it gets no kernel mapping. `DMA_ATTR_NO_KERNEL_MAPPING` */
  readonly noKernelMapping?: boolean;
  /** The CPU's mappings of the allocation are write-combined. `DMA_ATTR_WRITE_COMBINE` */
  readonly writeCombine?: boolean;
  /** Reads and writes may pass each other. Only a few platforms do anything with it; none of ours. `DMA_ATTR_WEAK_ORDERING` */
  readonly weakOrdering?: boolean;
  /** One physically contiguous run, also behind an IOMMU. `DMA_ATTR_FORCE_CONTIGUOUS` */
  readonly forceContiguous?: boolean;
  /** Single pages are good enough: do not try for large ones. `DMA_ATTR_ALLOC_SINGLE_PAGES` */
  readonly allocSinglePages?: boolean;
  /** A failure is expected and not worth a report. `DMA_ATTR_NO_WARN` */
  readonly noWarn?: boolean;
  /** Only privileged accesses of the device. `DMA_ATTR_PRIVILEGED` */
  readonly privileged?: boolean;
  /** The caller can not wait: memory comes from what is kept for such callers. In Linux no attribute, but `GFP_ATOMIC`. */
  readonly atomic?: boolean;
}
