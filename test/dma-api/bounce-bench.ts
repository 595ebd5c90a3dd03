/** A sound card that bounces, and a driver of it, with what they report. */
import { type DmaAddr, type PhysAddr, pfnToPhys } from '../../src/base/addr.ts';
import type { Cause } from '../../src/base/cause.ts';
import { describeHazard, type HazardFacts, type LostWriteFacts, type StaleReadFacts } from '../../src/base/hazards.ts';
import { CpuView } from '../../src/cache/cpu-view.ts';
import type { Device } from '../../src/dma-api/device.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import { dmaMappingError, dmaMapSingle } from '../../src/dma-api/dma-single.ts';
import type { Machine, MachineOptions } from '../../src/platform/machine.ts';
import { pc } from '../../src/platform/pc.ts';

/** A sound card that reaches 4 GiB, and two pages above. */
export class Bench {
  readonly machine: Machine;
  readonly sound: Device;
  readonly page: PhysAddr;
  readonly cpu: CpuView;

  constructor(options: MachineOptions = {}, kind: { readonly iommu?: boolean; readonly untrusted?: boolean } = {}) {
    this.machine = pc({ hazards: 'record', ...options });
    this.sound = this.machine.addDevice({ name: 'sound0', coherent: true, dmaMaskBits: 32, ...kind });
    this.page = pfnToPhys(this.machine.pages.allocPages({ order: 1, owner: 'driver' }));
    const accessor = { name: 'driver', kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
    const extents = [{ phys: this.page, sizeBytes: 8192 }];
    this.cpu = new CpuView(this.machine.coherency, { extents, attribute: 'cached', accessor });
  }

  get reports() {
    return reportsOf(this.machine);
  }

  map(dir: DmaDirection, offset = 0, sizeBytes = 4096): DmaAddr {
    const address = dmaMapSingle(this.sound, (this.page + offset) as PhysAddr, sizeBytes, dir);
    if (dmaMappingError(this.sound, address)) throw new Error('no bounce buffer');
    return address;
  }

  deviceWrites(address: DmaAddr, value: number): void {
    this.sound.port.write(address, bytes(64, value), 0, 64);
  }
}

/** The reports of a run that are about bytes. */
export function reportsOf({ sim }: Machine) {
  const isAboutBytes = ({ hazard }: HazardFacts): boolean => hazard !== 'dma-debug.unmap-direction-mismatch';
  return sim.hazards
    .filter(isAboutBytes)
    .map((facts): (StaleReadFacts | LostWriteFacts) & { readonly cause: Cause } => {
      if (!('cause' in facts)) throw new Error(describeHazard(facts));
      return facts;
    });
}

/** `length` bytes of one value. */
export function bytes(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** {@link bytes} as a plain array. */
export function ones(length: number, value: number): number[] {
  return Array.from(bytes(length, value));
}
