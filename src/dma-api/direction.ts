/** Which way data goes between a device and memory. */

/**
 * Direction of a mapping, seen from memory's content: `'to-device'` the device only reads, `'from-device'` it only writes.
 *
 * @see Linux 6.1 `include/linux/dma-direction.h` enum dma_data_direction
 */
export type DmaDirection = 'bidirectional' | 'to-device' | 'from-device';

/** Whether the device may read memory under `dir`. */
export function deviceReads(dir: DmaDirection): boolean {
  return dir !== 'from-device';
}

/** Whether the device may write memory under `dir`. */
export function deviceWrites(dir: DmaDirection): boolean {
  return dir !== 'to-device';
}
