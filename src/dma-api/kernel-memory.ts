/** Memory as a driver names it to `dmaMapSingle`: by a kernel address, which is not always one of the linear map. */
import { hex, type PhysAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { Device } from './device.ts';
import type { DmaDebugRef } from './dma-debug-entry.ts';

/**
 * A buffer that does not lie in the linear map, or must not be given to a device.
 *
 * | kind | what happens |
 * |---|---|
 * | `'vmalloc'` | refused |
 * | `'stack'` | refused as `'vmalloc'`; with `inLinearMap` (CONFIG_VMAP_STACK off) mapped, and the checker complains |
 * | `'text'` | mapped, unnoticed; with `inLinearMap` (the kernel's image is not mapped elsewhere) the checker complains |
 */
export interface KernelBuffer {
  readonly kind: 'vmalloc' | 'stack' | 'text';
  /** Its first byte in memory. */
  readonly phys: PhysAddr;
  /** Whether its address is one of the linear map. Default false. */
  readonly inLinearMap?: boolean;
}

/** Kernel memory: a plain address is one of the linear map, given as the physical address behind it. */
export type KernelMemory = PhysAddr | KernelBuffer;

/** @internal The first byte of `memory`. @throws {InvariantError} it is neither an address nor a buffer of a known kind. */
export function physOf(memory: KernelMemory): PhysAddr {
  if (typeof memory === 'number') return memory;
  const kinds: readonly string[] = ['vmalloc', 'stack', 'text'];
  assert(kinds.includes(memory.kind), 'dmaMapSingle: memory.kind %s is none of %s', memory.kind, kinds.join(', '));
  return memory.phys;
}

/** @internal Whether `memory` can not be mapped, which is reported. @throws {HazardError} `dma-map.rejects-vmalloc`. */
export function rejectsVmalloc(dev: Device, memory: KernelMemory): boolean {
  if (typeof memory === 'number' || memory.kind === 'text') return false;
  if (memory.kind === 'stack' && memory.inLinearMap === true) return false;
  const whose = memory.kind === 'stack' ? 'on a stack that is mapped page by page' : 'allocated by vmalloc';
  dev.sim.report({
    hazard: 'dma-map.rejects-vmalloc',
    device: dev.name,
    what: `the buffer at ${hex(memory.phys)} is ${whose}: its pages need not be contiguous`,
    call: 'dmaMapSingle',
    timeNs: dev.sim.now,
    remedy: 'allocate the buffer with kmalloc, or map its pages one by one as a scatter-gather table',
  });
  return true;
}

/** @internal Tells the checker about memory of the linear map that no device should see. */
export function checkForbidden(dev: Device, memory: KernelMemory, ref: DmaDebugRef): void {
  if (typeof memory === 'number' || memory.inLinearMap !== true) return;
  const hazard = memory.kind === 'stack' ? 'dma-debug.maps-stack' : 'dma-debug.maps-kernel-text';
  dev.dmaDebug?.mapsForbidden(dev, ref, hazard);
}

/** @internal Whether `[phys, phys + sizeBytes)` has pages, as the page functions need; else it is reported. @throws {HazardError} `dma-map.pageless`. */
export function isPageless(dev: Device, call: string, phys: PhysAddr, sizeBytes: number): boolean {
  const { memory } = dev.coherency;
  if (memory.hasPage(phys) && memory.hasPage((phys + sizeBytes - 1) as PhysAddr)) return false;
  dev.sim.report({
    hazard: 'dma-map.pageless',
    device: dev.name,
    what: `${hex(phys)} + ${sizeBytes} has no struct page`,
    call,
    timeNs: dev.sim.now,
    remedy: 'map device memory and carve-outs with dmaMapResource',
  });
  return true;
}

/** @internal Whether `phys` has a page, which a resource must not have; that is reported. @throws {HazardError} `dma-map.resource-is-ram`. */
export function isRam(dev: Device, phys: PhysAddr): boolean {
  if (!dev.coherency.memory.hasPage(phys)) return false;
  dev.sim.report({
    hazard: 'dma-map.resource-is-ram',
    device: dev.name,
    what: `${hex(phys)} is RAM, which has pages and may be cached`,
    call: 'dmaMapResource',
    timeNs: dev.sim.now,
    remedy: 'map RAM with dmaMapPage or as a scatter-gather table',
  });
  return true;
}
