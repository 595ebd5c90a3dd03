/** Looking without touching: what an access would find now, and putting bytes where everybody finds them. */
import type { PhysAddr } from '../base/addr.ts';
import { contiguousRun } from './access-range.ts';
import type { CpuCache } from './cpu-cache.ts';
import type { MemoryAttribute } from './cpu-port.ts';
import type { DomainCopies } from './domain-copies.ts';
import type { Shadow } from './shadow.ts';

/** Fills `out` with what the CPU that runs would read now. The range was checked. @internal */
export function peekAt(
  copies: DomainCopies,
  phys: PhysAddr,
  out: Uint8Array,
  outOffset: number,
  length: number,
  attribute: MemoryAttribute,
  pastSeesSystem: boolean,
): void {
  const { memory, cache, system, buffers } = copies;
  memory.read(phys, out, outOffset, length);
  if (!memory.storesBytes) return;
  for (let done = 0, step = 0; done < length; done += step) {
    step = contiguousRun(memory, phys + done, length - done);
    const at = memory.resolve((phys + done) as PhysAddr);
    if (attribute === 'cached' || pastSeesSystem) system?.overlay(at, out, outOffset + done, step);
    if (attribute === 'cached') cache.overlay(at, out, outOffset + done, step);
    else if (attribute === 'uncached' && buffers.gatherUncached) {
      for (const buffer of buffers.all) buffer.overlay(at, out, outOffset + done, step);
    } else if (attribute !== 'device') buffers.mine?.overlay(at, out, outOffset + done, step);
  }
}

/** Puts `bytes` into memory, into every buffer and into all of `caches`. The range was checked. @internal */
export function pokeAt(
  { memory, buffers }: DomainCopies,
  caches: readonly CpuCache[],
  shadow: Shadow | undefined,
  phys: PhysAddr,
  bytes: Uint8Array,
): void {
  memory.write(phys, bytes, 0, bytes.length);
  for (let i = 0; memory.storesBytes && i < bytes.length; i++) {
    const at = memory.resolve((phys + i) as PhysAddr);
    const value = bytes[i] as number;
    for (const cache of caches) cache.poke(at, value);
    for (const buffer of buffers.all) {
      const waiting = buffer.indexOf(at);
      if (waiting >= 0) buffer.bytes[waiting] = value;
    }
    shadow?.poked(at, value);
  }
}
