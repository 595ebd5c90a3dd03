/** A small machine to plant bugs in, and what its one report says. */
import { type PhysAddr, pfnToPhys } from '../../src/base/addr.ts';
import type { Cause } from '../../src/base/cause.ts';
import { describeHazard, type LostWriteFacts, type StaleReadFacts } from '../../src/base/hazards.ts';
import type { MemoryAttribute } from '../../src/cache/cpu-port.ts';
import { CpuView } from '../../src/cache/cpu-view.ts';
import type { Device } from '../../src/dma-api/device.ts';
import { armSoc } from '../../src/platform/arm-soc.ts';
import type { Machine, MachineOptions } from '../../src/platform/machine.ts';

/** A report about wrong bytes. */
export type WrongBytesFacts = StaleReadFacts | LostWriteFacts;

/** A machine, two devices that do not snoop, a page, and the driver's cached view of it. */
export class CauseBench {
  readonly soc: Machine;
  readonly nic: Device;
  readonly gpu: Device;
  readonly page: PhysAddr;
  readonly cpu: CpuView;

  constructor(options: MachineOptions = {}) {
    this.soc = armSoc({ hazards: 'record', ...options });
    this.nic = this.soc.addDevice({ name: 'nic0', coherent: false });
    this.gpu = this.soc.addDevice({ name: 'gpu0', coherent: false });
    this.page = pfnToPhys(this.soc.pages.allocPages({ order: 0, owner: 'driver' }));
    this.cpu = this.view('cached');
  }

  /** One more view of the page. */
  view(attribute: MemoryAttribute, name = 'nic0 driver'): CpuView {
    const accessor = { name, kind: 'cpu', via: 'linear map', beforeRead: '', afterWrite: '' } as const;
    const extents = [{ phys: this.page, sizeBytes: 4096 }];
    return new CpuView(this.soc.coherency, { extents, attribute, accessor });
  }

  /** What is reported about bytes. */
  get reports(): readonly WrongBytesFacts[] {
    return this.soc.sim.hazards.filter((facts): facts is WrongBytesFacts => 'cause' in facts);
  }

  /** The cause of the only report about bytes. */
  get cause(): Cause {
    const [facts, ...more] = this.reports;
    if (facts === undefined || more.length > 0) {
      throw new Error(`no single report:\n${this.soc.sim.hazards.map(describeHazard).join('\n')}`);
    }
    return facts.cause;
  }
}

/** `length` bytes of `value`. */
export function bytes(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** What a device reads. */
export function deviceReads(dev: Device, address: number, length = 64): Uint8Array {
  const out = new Uint8Array(length);
  dev.port.read(address as Parameters<Device['port']['read']>[0], out, 0, length);
  return out;
}

/** A device writes `length` bytes of `value`. */
export function deviceWrites(dev: Device, address: number, value: number, length = 64): void {
  dev.port.write(address as Parameters<Device['port']['write']>[0], bytes(length, value), 0, length);
}

/** Stands where the planted call is missing: its line. */
export function planted(): number {
  const [, , caller = ''] = (new Error('here').stack ?? '').split('\n');
  return lineOf(caller.replace(/\)$/, ''));
}

/** Whether `line` lies behind the one access that `cause` names, and before the other. */
export function isBetween({ after, before }: Cause, line: number): boolean {
  const files = [after, before].map((side) => side?.site?.split(':')[0]);
  return files[0] === files[1] && lineOf(after?.site) < line && line < lineOf(before?.site);
}

function lineOf(site: string | undefined): number {
  const line = /:(\d+):\d+$/.exec(site ?? '')?.[1];
  if (line === undefined) throw new Error(`no place in the program: '${site}'`);
  return Number(line);
}
