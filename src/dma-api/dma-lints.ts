/**
 * Habits of drivers that work here and break elsewhere. Reported as hazards, but only with `lints`: none of them moves a wrong byte.
 *
 * | code | habit |
 * |---|---|
 * | `dma.map-as-flush` | a buffer is mapped and unmapped again and again, and the device never looks: somebody wants the caches cleaned |
 * | `dma.map-resource-in-sg` | what dmaMapResource returned stands in a scatter-gather table, which others will unmap as memory |
 * | `dma.backend-peek` | a driver looks at which back end makes its addresses |
 */
import { hex } from '../base/addr.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { AddressMapping, AddressPieces } from '../trace/address-book.ts';
import { bytesOfPieces, pieceAt } from '../trace/address-pieces.ts';

/** Mappings without an access in a row, of one buffer for one device, that make a habit. */
const HABIT = 3;
/** Buffers whose last mapping without an access is remembered. */
const BUFFERS_KEPT = 1024;

/** A device, as reports name it. */
interface Habitual {
  readonly name: string;
  readonly sim: Simulator;
}

/** @internal The lints of one machine. Plain throughout: nothing waits, nothing is charged. */
export class DmaLints {
  readonly #sim: Simulator;
  /** Mappings in a row that no access met, by device and memory. */
  readonly #unused = new Map<string, number>();

  constructor(sim: Simulator) {
    this.#sim = sim;
  }

  /** A mapping of a device that does not snoop ends, that was not told to leave the caches alone. */
  unmapping(dev: Habitual, mapping: AddressMapping, wasUsed: boolean): void {
    const memory = mapping.to?.pieces;
    if (memory === undefined) return;
    const key = `${dev.name} ${mapping.object} ${memory.base[0]} ${memory.base.length} ${bytesOfPieces(memory)}`;
    const count = wasUsed ? 0 : (this.#unused.get(key) ?? 0) + 1;
    this.#unused.delete(key);
    if (count > 0) this.#unused.set(key, count);
    this.#forgetOldest();
    if (count !== HABIT) return;
    const what =
      mapping.object === '' ? `${bytesOfPieces(memory)} bytes at ${hex(memory.base[0] as number)}` : mapping.object;
    this.#sim.report({
      hazard: 'dma.map-as-flush',
      who: `${dev.name} driver`,
      what: `${what} was mapped for ${dev.name} and unmapped ${count} times in a row (${mapping.call}), and ${dev.name} never looked`,
      site: this.#sim.site()?.text ?? '',
      timeNs: this.#sim.now,
      remedy: 'map once for the device that uses the memory, and sync that mapping (dmaSyncSgtableForDevice, …ForCpu)',
    });
  }

  /** A buffer that was last seen long ago is no habit. */
  #forgetOldest(): void {
    if (this.#unused.size <= BUFFERS_KEPT) return;
    const [oldest] = this.#unused.keys();
    if (oldest !== undefined) this.#unused.delete(oldest);
  }

  /** A table has these addresses on its device side, or this memory on its CPU side. */
  tableOf(dev: Habitual, side: 'device' | 'cpu', pieces: AddressPieces, who: string): void {
    for (const mapping of this.#sim.addresses.live) {
      if (mapping.call !== 'dmaMapResource' || (side === 'device' && mapping.owner !== dev.name)) continue;
      const at = pieces.base.find((base) => pieceAt(mapping.pieces, base) >= 0);
      // Where addresses are physical, the two sides have the same number, and the CPU side is right to have it.
      if (at === undefined || (side === 'cpu' && mapping.to !== null && pieceAt(mapping.to.pieces, at) >= 0)) continue;
      this.#sim.report({
        hazard: 'dma.map-resource-in-sg',
        who,
        what: `${hex(at)}, which dmaMapResource returned for ${mapping.owner}, stands on the ${side} side of a table for ${dev.name}`,
        site: mapping.site?.text ?? '',
        timeNs: this.#sim.now,
        remedy:
          'keep such addresses out of tables, and end them with dmaUnmapResource; or give the memory pages (p2pdma)',
      });
      return;
    }
  }

  /** Somebody outside the DMA API asked a device for its back end. */
  peeked(dev: Habitual): void {
    this.#sim.report({
      hazard: 'dma.backend-peek',
      who: `${dev.name} driver`,
      what: `a driver looks at the back end of ${dev.name}: what it concludes is wrong with the next kernel or platform`,
      site: this.#sim.site()?.text ?? '',
      timeNs: this.#sim.now,
      remedy:
        'ask the DMA API what you want to know: dmaNeedSync, dmaMaxMappingSize, dmaAddressingLimited, dmaMergeBoundary',
    });
  }
}
