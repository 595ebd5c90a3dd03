/**
 * What two calls that belong together must agree in.
 *
 * @see Linux 6.1 `kernel/dma/debug.c` check_unmap, check_sync
 */

import { hex } from '../base/addr.ts';
import type { DmaDebugCode } from '../base/dma-hazards.ts';
import type { DmaDebugEntry, DmaDebugRef } from './dma-debug-entry.ts';

type Complaint = readonly [hazard: DmaDebugCode, what: string];

/** @internal What is wrong with ending `entry` by `ref`, in the kernel's order. */
export function unmapComplaints(entry: DmaDebugEntry, ref: DmaDebugRef): readonly Complaint[] {
  const isSame = entry.sizeBytes === ref.sizeBytes && entry.kind === ref.kind && entry.dir === ref.dir;
  if (isSame && entry.sgCallEnts === ref.sgCallEnts && entry.errorCheck !== 'unchecked' && !hasOtherPhys(entry, ref)) {
    return NONE;
  }
  const found: Complaint[] = [];
  if (ref.sizeBytes !== entry.sizeBytes) {
    found.push(['dma-debug.size-mismatch', `mapped with ${entry.sizeBytes} bytes, unmapped with ${ref.sizeBytes}`]);
  }
  if (ref.kind !== entry.kind) {
    found.push(['dma-debug.wrong-function', `made by ${entry.call}, ended by ${ref.call}`]);
  } else if (hasOtherPhys(entry, ref)) {
    const what = `allocated at physical ${hex(entry.phys)}, freed with ${hex(ref.phys)}`;
    found.push(['dma-debug.cpu-address-mismatch', what]);
  }
  if (hasOtherCount(entry, ref)) found.push(countComplaint(entry, ref, 'unmapped'));
  if (ref.dir !== entry.dir) {
    found.push(['dma-debug.unmap-direction-mismatch', `mapped ${entry.dir}, unmapped ${ref.dir}`]);
  }
  if (entry.errorCheck === 'unchecked') {
    found.push(['dma-debug.map-error-unchecked', `nobody asked whether mapping ${hex(entry.address)} had failed`]);
  }
  return found;
}

/** @internal What is wrong with syncing `ref`, a part of `entry`, in the kernel's order. */
export function syncComplaints(entry: DmaDebugEntry, ref: DmaDebugRef, toCpu: boolean): readonly Complaint[] {
  if (entry.dir === 'bidirectional') return NONE;
  const found: Complaint[] = [];
  if (ref.dir !== entry.dir) {
    found.push(['dma-debug.sync-direction-mismatch', `mapped ${entry.dir}, synced ${ref.dir}`]);
  }
  if (toCpu && entry.dir === 'to-device' && ref.dir !== 'to-device') {
    const what = 'a mapping that the device only reads is synced for the CPU as if it had been written';
    found.push(['dma-debug.sync-read-only-for-cpu', what]);
  }
  if (!toCpu && entry.dir === 'from-device' && ref.dir !== 'from-device') {
    const what = 'a mapping that the device only writes is synced for the device as if it would read it';
    found.push(['dma-debug.sync-write-only-for-device', what]);
  }
  if (hasOtherCount(entry, ref)) found.push(countComplaint(entry, ref, 'synced'));
  return found;
}

const NONE: readonly Complaint[] = [];

function hasOtherPhys(entry: DmaDebugRef, ref: DmaDebugRef): boolean {
  return entry.kind === 'coherent' && ref.phys !== entry.phys;
}

/** Only where the call is one for lists: others say no count. */
function hasOtherCount(entry: DmaDebugRef, ref: DmaDebugRef): boolean {
  return ref.kind === 'sg' && ref.sgCallEnts !== 0 && ref.sgCallEnts !== entry.sgCallEnts;
}

function countComplaint(entry: DmaDebugRef, ref: DmaDebugRef, verb: string): Complaint {
  return ['dma-debug.sg-count-mismatch', `mapped with ${entry.sgCallEnts} entries, ${verb} with ${ref.sgCallEnts}`];
}
