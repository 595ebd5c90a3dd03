/** A driver writes a command through a write-combined mapping, and the bytes are still in the CPU when the device reads. */
import { armSoc, dmaAllocAttrs, type Simulator } from '../../src/index.ts';

/** @param nearMiss - the right form, which stays silent. */
export function program(nearMiss: boolean): Simulator {
  const soc = armSoc({ hazards: 'record' });
  const gpu = soc.addDevice({ name: 'gpu0', coherent: false });
  const ring = dmaAllocAttrs(gpu, 4096, { writeCombine: true });
  if (ring === null) throw new Error('no memory');
  ring.write(0, Uint8Array.of(0x11));
  if (nearMiss) soc.coherency.barrier();
  gpu.port.read(ring.address, new Uint8Array(1), 0, 1);
  return soc.sim;
}
