/**
 * A device as the DMA API sees it: how far it reaches, whether it snoops, and behind which IOMMU domain it sits. A model
 * of a device has one of these; its memory accesses go through {@link Device.port}.
 */

import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';
import { KIB } from '../base/units.ts';
import type { CoherencyDomain } from '../cache/coherency.ts';
import type { Simulator } from '../sim/simulator.ts';
import { DirectDma } from './dma-direct.ts';
import { IommuDma, type IommuDmaDomain } from './dma-iommu.ts';
import type { DmaMaster, DmaOps } from './dma-ops.ts';
import { DmaPort } from './dma-port.ts';

/** How to make a {@link Device}. */
export interface DeviceOptions {
  readonly name: string;
  readonly coherency: CoherencyDomain;
  /** Whether its accesses snoop the CPU caches (`dma-coherent` in the device tree). */
  readonly coherent: boolean;
  /** Behind this IOMMU domain; without one its addresses are physical addresses. */
  readonly iommu?: IommuDmaDomain;
  /** Bits of address the device can drive: 1 to 64, without an IOMMU 24 to 64. Default 32, as Linux's. */
  readonly dmaMaskBits?: number;
  /** Longest segment in bytes. Default 64 KiB, as Linux's. */
  readonly maxSegmentSizeBytes?: number;
  /** No segment crosses a multiple of this many bytes (a power of two). Default 4 GiB. */
  readonly segBoundaryBytes?: number;
}

/** The end of the zone that every device is expected to reach, in bits. */
const LEAST_MASK_BITS = 24;

/** One device of a machine. */
export class Device implements DmaMaster {
  readonly name: string;
  readonly sim: Simulator;
  readonly coherency: CoherencyDomain;
  /** Whether its accesses snoop, so that syncing it is a no-op. */
  readonly coherent: boolean;
  /** The IOMMU domain its addresses are translated by, or `null`. */
  readonly iommu: IommuDmaDomain | null;
  readonly maxSegmentSizeBytes: number;
  readonly segBoundaryBytes: number;
  /** Its way to memory. */
  readonly port: DmaPort;
  /** @internal The back end of the DMA API; drivers can not see which. */
  readonly dmaOps: DmaOps;
  #dmaMaskBits: number;
  /** Asked for each page of an access, so it is kept. */
  #dmaLimit: number;

  /** @throws {InvariantError} a mask, segment size or boundary out of range; the text names it. */
  constructor(sim: Simulator, options: DeviceOptions) {
    const boundary = options.segBoundaryBytes ?? 2 ** 32;
    const longest = options.maxSegmentSizeBytes ?? 64 * KIB;
    const bits = checkBits(options.dmaMaskBits ?? 32);
    const isDirect = options.iommu === undefined;
    assert(boundary >= 1 && Number.isInteger(Math.log2(boundary)), 'segBoundaryBytes: %s is no power of two', boundary);
    assert(
      Number.isSafeInteger(longest) && longest > 0,
      'maxSegmentSizeBytes: %s is no whole number of bytes > 0',
      longest,
    );
    assert(!isDirect || bits >= LEAST_MASK_BITS, 'dmaMaskBits: %s is below 24 and there is no IOMMU', bits);
    this.sim = sim;
    this.name = options.name;
    this.coherency = options.coherency;
    this.coherent = options.coherent;
    this.iommu = options.iommu ?? null;
    this.maxSegmentSizeBytes = longest;
    this.segBoundaryBytes = boundary;
    this.#dmaMaskBits = bits;
    this.#dmaLimit = 2 ** this.#dmaMaskBits;
    this.dmaOps = this.iommu === null ? new DirectDma(this) : new IommuDma(this, this.iommu);
    this.port = new DmaPort(this, this.dmaOps);
  }

  /** Bits of address the device can drive. */
  get dmaMaskBits(): number {
    return this.#dmaMaskBits;
  }

  /** The first address the device can not drive. */
  get dmaLimit(): number {
    return this.#dmaLimit;
  }

  /**
   * Sets how far the device reaches, for streaming and coherent mappings; live mappings stay as they are. Plain.
   *
   * @param bits - 1 to 64.
   * @throws {ErrnoError} `EIO` without an IOMMU, when the mask does not reach the end of the DMA zone (24 bits); the old
   *   one stays (never retry).
   * @throws {InvariantError} `bits` is out of range; the old mask stays.
   * @see Linux 6.1 `include/linux/dma-mapping.h` dma_set_mask_and_coherent
   */
  setDmaMask(bits: number): void {
    checkBits(bits);
    if (this.iommu === null && bits < LEAST_MASK_BITS) {
      throw new ErrnoError('EIO', 'setDmaMask', `${this.name}: ${bits} bits do not reach the end of the DMA zone`);
    }
    this.#dmaMaskBits = bits;
    this.#dmaLimit = 2 ** this.#dmaMaskBits;
  }
}

function checkBits(bits: number): number {
  assert(Number.isInteger(bits) && bits >= 1 && bits <= 64, 'dmaMaskBits: %s is not in [1, 64]', bits);
  return bits;
}
