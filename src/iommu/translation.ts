/** The answer to a device's question where an address leads; owned by the device's port and filled anew by each translation. */
import type { PhysAddr } from '../base/addr.ts';
import type { DmaFault } from './fault.ts';

/** Reused for all accesses of one port, so that translating allocates nothing. */
export class Translation {
  /** The port's device, as faults name it. */
  readonly device: string;
  /** Requester id of its accesses, or null. */
  readonly sourceId: number | null;
  /** Physical address of the first byte. Meaningless after a fault. */
  phys = 0 as PhysAddr;
  /** Bytes from there to the end of the IOTLB entry: what the same translation covers. 0 after a fault. */
  runBytes = 0;
  /** What the translation took, in ns: see `Iommu.translate` for who pays it. */
  costNs = 0;
  /** The refusal, or null after a success. */
  fault: DmaFault | null = null;

  constructor(device: string, sourceId: number | null = null) {
    this.device = device;
    this.sourceId = sourceId;
  }
}
