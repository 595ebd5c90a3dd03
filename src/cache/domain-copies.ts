/** The copies of memory in one coherency domain, as everybody in it finds them. */
import type { PhysMemory } from '../mem/phys-memory.ts';
import type { CpuCache } from './cpu-cache.ts';
import type { WriteBuffers } from './write-buffers.ts';

/** Number of the CPUs' cache as a copy. */
export const CPU_CACHE = 1;
/** Number of the system cache as a copy. Those of devices come after it. */
export const SYSTEM_CACHE = 2;

/** What the gate of a domain works on. Caches of devices are behind their ports. @internal */
export interface DomainCopies {
  readonly memory: PhysMemory;
  readonly cache: CpuCache;
  readonly system: CpuCache | undefined;
  readonly buffers: WriteBuffers;
}

/** Which caches an access looks into on its way to memory. @internal */
export interface Looks {
  /** Into the cache of the CPUs, and so into the system cache. */
  readonly snoops: boolean;
  /** Into the system cache. */
  readonly seesSystem: boolean;
}

/** Straight to memory. @internal */
export const PAST_ALL: Looks = { snoops: false, seesSystem: false };
const SYSTEM_ONLY: Looks = { snoops: false, seesSystem: true };
const INTO_ALL: Looks = { snoops: true, seesSystem: true };

/** Where an access looks: who snoops sees the system cache, too. @internal */
export function looksOf(snoops: boolean, seesSystem: boolean | undefined): Looks {
  if (snoops) return INTO_ALL;
  return seesSystem === true ? SYSTEM_ONLY : PAST_ALL;
}
