/**
 * What stands in place of a page table in a domain that is not translated: identity maps every address to itself, blocked none.
 * Nothing can be mapped or unmapped.
 *
 * @internal
 */
import type { Iova, PhysAddr } from '../base/addr.ts';
import { ERRNO } from '../base/errno.ts';
import { IommuProt, type IoPgtable, type IoPgtableDumpLeaf, type IoPgtableLeaf } from './io-pgtable.ts';

/** Bytes that one translation of an identity domain is said to cover. */
const RUN_BYTES = 2 ** 30;

/** @internal See the head of this file. */
export class UntranslatedTable implements IoPgtable {
  readonly format: 'identity' | 'blocked';
  readonly pgsizeBitmap: number;
  readonly granuleBytes = 4096;
  readonly ias: number;
  readonly oas: number;
  readonly tablePages = 0;
  readonly mapped = 0;
  readonly warnings = 0;

  constructor(format: 'identity' | 'blocked', pgsizeBitmap: number, addressBits: number) {
    this.format = format;
    this.pgsizeBitmap = pgsizeBitmap;
    this.ias = addressBits;
    this.oas = addressBits;
  }

  mapPages(): number {
    return -ERRNO.EINVAL;
  }

  unmapPages(): number {
    return 0;
  }

  iovaToPhys(iova: Iova): PhysAddr {
    return (this.format === 'identity' ? Number(iova) : 0) as PhysAddr;
  }

  contains(iova: Iova): boolean {
    return iova >= 0 && iova < 2 ** this.ias;
  }

  walk(iova: Iova, leaf: IoPgtableLeaf): boolean {
    leaf.level = -1;
    leaf.reads = 0;
    leaf.phys = Number(iova) as PhysAddr;
    leaf.sizeBytes = RUN_BYTES;
    leaf.prot = IommuProt.read | IommuProt.write;
    return this.format === 'identity';
  }

  *leaves(): IterableIterator<IoPgtableDumpLeaf> {}

  dump(): string {
    return this.format === 'identity' ? 'identity: every address is a physical address' : 'blocked: nothing is mapped';
  }

  check(): void {}

  free(): void {}
}
