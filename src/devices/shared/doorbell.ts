/** How a driver starts its device: the write to a register behind which all earlier writes of the CPU are in memory. */
import type { Device } from '../../dma-api/device.ts';

/**
 * Rings the doorbell of `dev`: what the CPU has written leaves its write-combining buffer first, as the barrier in a register write
 * does. Charges that barrier to the running task; outside a task nobody pays. Plain.
 *
 * @internal
 * @throws {HazardError} `*-write.lost` old bytes went over newer ones; all is drained.
 * @see Linux 6.1 `Documentation/memory-barriers.txt` "Kernel I/O barrier effects", writel
 */
export function ringDoorbell({ name, coherency }: Device): void {
  coherency.barrier({ name: `${name} driver`, kind: 'cpu', via: 'doorbell', beforeRead: '', afterWrite: '' });
}
