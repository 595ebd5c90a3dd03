/** What a driver tells the DMA API of its engine when it probes. */
import type { Device } from '../../dma-api/device.ts';

/** The longest segment that the API can express. */
const ANY_LENGTH = 2 ** 32 - 1;

/**
 * Says that the engine of `dev` takes segments of any length, as drivers of cameras, GPUs and displays do; unless somebody gave it
 * a limit of its own before. Without, 64 KiB are assumed, and whatever is longer is a misuse.
 *
 * @internal
 */
export function takesAnySegment(dev: Device): void {
  if (!dev.hasSegmentLimit) dev.setMaxSegmentSize(ANY_LENGTH);
}
