/** What an IOMMU reports when it refuses a device's access. A fault is data, never an exception. */
import type { Iova, Nanos } from '../base/addr.ts';
import { assert } from '../base/assert.ts';

/** What a device wants to do. */
export type DmaAccess = 'read' | 'write';

/**
 * Why an access was refused: `'unmapped'` no leaf there; `'permission'` the leaf (or the IOTLB's copy of it) forbids it;
 * `'address-size'` the address is outside the input range of the domain's page table, or of the unit (VT-d: beyond MGAW; SMMUv3 records it as
 * F_TRANSLATION where a table's range ends, as F_ADDR_SIZE without translation); `'no-context'` the unit knows no
 * address space for the device.
 */
export type DmaFaultReason = 'unmapped' | 'permission' | 'address-size' | 'no-context';

/** One refused access. @see Arm SMMUv3 architecture IHI 0070, 7.3 "Event records" (F_TRANSLATION, F_PERMISSION, F_ADDR_SIZE) */
export interface DmaFault {
  readonly device: string;
  /** Requester id of the access, or null when the device has none. */
  readonly sourceId: number | null;
  readonly domain: string;
  /** The very address that was refused. */
  readonly iova: Iova;
  readonly access: DmaAccess;
  readonly reason: DmaFaultReason;
  /** Translation stage that refused. */
  readonly stage: 1 | 2;
  /** Level of the last descriptor looked at; -1 when no walk took place. */
  readonly level: number;
  /** Present when stage 2 of a nested translation refused: the intermediate physical address it was asked for. */
  readonly ipa?: number;
  /** Present with `ipa`: that was where a descriptor of stage 1 is, or what stage 1 translates to. @see IHI 0070, 7.3, CLASS: TTD and IN */
  readonly during?: 'stage-1-walk' | 'stage-1-output';
  /** False: the unit dropped the access without a word; such a fault reaches neither the event queue nor a handler. */
  readonly isReported: boolean;
  readonly timeNs: Nanos;
}

/** Called for each fault of a domain, at the instant of the access; must not wait. */
export type DmaFaultHandler = (fault: DmaFault) => undefined;

/** Faults in the order they happened, up to a limit: the hardware's event queue. When it is full, newer ones are lost and counted. */
export class FaultQueue {
  /** Faults that found the queue full. */
  lost = 0;
  /** Faults that were not recorded because an earlier one of the same requester was still waiting. */
  collapsed = 0;
  readonly capacity: number;
  /** One fault of a requester at a time: see `IommuOptions.collapseFaults`. */
  readonly collapses: boolean;
  readonly #faults: DmaFault[] = [];

  /** @param capacity - default 128. @throws {InvariantError} no whole number above 0. */
  constructor(capacity = 128, collapses = false) {
    assert(Number.isInteger(capacity) && capacity > 0, 'FaultQueue: capacity %s is no whole number above 0', capacity);
    this.capacity = capacity;
    this.collapses = collapses;
  }

  /** Faults waiting to be taken, oldest first. Looks only. */
  get pending(): readonly DmaFault[] {
    return this.#faults;
  }

  /** Appends `fault`, or loses it. @returns false when it collapsed into an earlier one. */
  push(fault: DmaFault): boolean {
    if (this.collapses && this.#faults.some((earlier) => isSameRequester(earlier, fault))) {
      this.collapsed++;
      return false;
    }
    if (this.#faults.length < this.capacity) this.#faults.push(fault);
    else this.lost++;
    return true;
  }

  /** Removes and returns the oldest fault, or null. */
  take(): DmaFault | null {
    return this.#faults.shift() ?? null;
  }
}

function isSameRequester(a: DmaFault, b: DmaFault): boolean {
  return a.sourceId === b.sourceId && (a.sourceId !== null || a.device === b.device);
}
