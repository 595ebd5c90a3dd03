/**
 * A fault as a VT-d unit records it and Linux's driver logs it.
 *
 * @see VT-d specification 4.1, 7.1.3 "Non-Recoverable Address Translation Faults"; Linux 6.1 `drivers/iommu/intel/dmar.c` dmar_fault_do_one
 */
import { hex, type Iova, iova as iovaOf, PAGE_SIZE } from '../base/addr.ts';
import type { DmaFault } from './fault.ts';

/** See the head of this file. */
export interface VtdFaultRecord {
  readonly type: 'Read' | 'Write';
  /** Bus, device and function: `'00:10.0'`. */
  readonly source: string;
  /** The page that was refused. */
  readonly page: Iova;
  readonly reason: number;
  /** The line in the kernel's log. */
  readonly log: string;
}

/** Reason codes with the driver's words. */
const NO_CONTEXT = [0x02, 'Present bit in context entry is clear'] as const;
const BEYOND_WIDTH = [0x04, 'Access beyond MGAW'] as const;
const WRITE_REFUSED = [0x05, 'PTE Write access is not set'] as const;
const READ_REFUSED = [0x06, 'PTE Read access is not set'] as const;

/** What the unit records of `fault`: an address that is not mapped and one that forbids the access look alike. */
export function vtdFaultRecord(fault: DmaFault): VtdFaultRecord {
  const type = fault.access === 'write' ? 'Write' : 'Read';
  const source = formatSourceId(fault.sourceId ?? 0);
  const page = iovaOf(Math.floor(fault.iova / PAGE_SIZE) * PAGE_SIZE);
  const [reason, words] = reasonOf(fault);
  const code = `0x${reason.toString(16).padStart(2, '0')}`;
  const log = `DMAR: [DMA ${type} NO_PASID] Request device [${source}] fault addr ${hex(page)} [fault reason ${code}] ${words}`;
  return { type, source, page, reason, log };
}

/** A requester id as `lspci` writes it: `0x80` is `'00:10.0'`. */
export function formatSourceId(sourceId: number): string {
  const digits = (value: number) => value.toString(16).padStart(2, '0');
  return `${digits(sourceId >>> 8)}:${digits((sourceId >>> 3) & 0x1f)}.${sourceId & 7}`;
}

function reasonOf({ reason, access }: DmaFault): readonly [code: number, words: string] {
  switch (reason) {
    case 'no-context':
      return NO_CONTEXT;
    case 'address-size':
      return BEYOND_WIDTH;
    case 'unmapped':
    case 'permission':
      return access === 'write' ? WRITE_REFUSED : READ_REFUSED;
  }
}
