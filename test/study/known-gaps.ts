/**
 * Planted bugs that the simulator does not find, or does not name as it should; each with why. The study fails when one is missing here, and
 * when one is here that is no gap any more.
 */
import type { Gap } from './summary.ts';

/** Gaps by mutant, in the order of programs and steps. */
export const knownGaps: ReadonlyMap<string, Gap['gap']> = new Map<string, Gap['gap']>([
  // Memory of `dmaAllocCoherent` is modelled without gathering of writes, so a forgotten barrier before the doorbell never shows. On arm64 it
  // is Normal non-cacheable memory, and the DMA API asks for the barrier.
  ['coherent-allocation / driver1:barrier / delete', 'not found'],
  ['coherent-allocation / driver1:barrier / after the access', 'not found'],
  ['coherent-allocation / driver6:barrier / delete', 'not found'],
  ['coherent-allocation / driver6:barrier / after the access', 'not found'],
  // Brackets of drivers are not counted, only those of processes.
  ['kernel-vmap / work1:begin / delete', 'not reported'],
  ['kernel-vmap / work1:begin / read instead', 'not reported'],
  ['kernel-vmap / work3:end / read instead', 'not reported'],
  ['kernel-vmap / work8:end / delete', 'not reported'],
  ['kernel-vmap / work8:end / write instead', 'not reported'],
  ['own-exporter-partial / work1:begin / read instead', 'not reported'],
  ['own-exporter-partial / work4:end / read instead', 'not reported'],
  ['own-exporter-partial / work4:end / write instead', 'not reported'],
  ['own-exporter-partial / work8:end / delete', 'not reported'],
  ['own-exporter-partial / work8:end / write instead', 'not reported'],
  // Of two accesses without order, the report asks the reader to wait for the writer; here the writer forgot to wait for the reader.
  ['double-buffer-explicit / render2:submit / not waiting for shown0', 'wrong side waits'],
  ['double-buffer-explicit / render3:submit / not waiting for shown1', 'wrong side waits'],
  ['double-buffer-explicit / render3:submit / waiting for shown0 instead', 'wrong side waits'],
  ['double-buffer-timeline / render4:wait-point / delete', 'wrong side waits'],
  ['double-buffer-timeline / render4:wait-point / after the access', 'wrong side waits'],
  // The job does not wait for the fence in the reservation and reads inside an open bracket: the report asks for the END, which comes later.
  ['cpu-producer-fence / consumer0:submit / without reservations', 'wrong call'],
]);
