/** What an IOMMU reports when it refuses a device's access. A fault is data, never an exception. */
import type { Iova, Nanos } from '../base/addr.ts';
import { assert } from '../base/assert.ts';

/** What a device wants to do. */
export type DmaAccess = 'read' | 'write';

/**
 * Why an access was refused: `'unmapped'` no leaf there; `'permission'` the leaf (or the IOTLB's copy of it) forbids it;
 * `'address-size'` the address is outside the input range of the domain's page table.
 */
export type DmaFaultReason = 'unmapped' | 'permission' | 'address-size';

/** One refused access. @see Arm SMMUv3 architecture IHI 0070, 7.3 "Event records" (F_TRANSLATION, F_PERMISSION, F_ADDR_SIZE) */
export interface DmaFault {
  readonly device: string;
  readonly domain: string;
  /** The very address that was refused. */
  readonly iova: Iova;
  readonly access: DmaAccess;
  readonly reason: DmaFaultReason;
  /** Translation stage that refused. */
  readonly stage: 1 | 2;
  /** Level of the last descriptor looked at; -1 when no walk took place. */
  readonly level: number;
  readonly timeNs: Nanos;
}

/** Called for each fault of a domain, at the instant of the access; must not wait. */
export type DmaFaultHandler = (fault: DmaFault) => undefined;

/** Faults in the order they happened, up to a limit: the hardware's event queue. When it is full, newer ones are lost and counted. */
export class FaultQueue {
  /** Faults that found the queue full. */
  lost = 0;
  readonly capacity: number;
  private readonly faults: DmaFault[] = [];

  /** @param capacity - default 128. @throws {InvariantError} no whole number above 0. */
  constructor(capacity = 128) {
    assert(Number.isInteger(capacity) && capacity > 0, 'FaultQueue: capacity %s is no whole number above 0', capacity);
    this.capacity = capacity;
  }

  /** Faults waiting to be taken, oldest first. Looks only. */
  get pending(): readonly DmaFault[] {
    return this.faults;
  }

  /** Appends `fault`, or loses it. */
  push(fault: DmaFault): void {
    if (this.faults.length < this.capacity) this.faults.push(fault);
    else this.lost++;
  }

  /** Removes and returns the oldest fault, or null. */
  take(): DmaFault | null {
    return this.faults.shift() ?? null;
  }
}
