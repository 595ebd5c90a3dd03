/**
 * The self-test of io-pgtable-arm, restated: every row runs over all 36 configurations (3 granule sets, 6 input sizes, 2 stages).
 *
 * @see Linux 6.1 `drivers/iommu/io-pgtable-arm.c` arm_lpae_run_tests
 */
import { describe, expect, it } from 'vitest';
import { iova, physAddr } from '../../src/base/addr.ts';
import { GIB, KIB, MIB } from '../../src/base/units.ts';
import { IommuProt, type IoPgtable } from '../../src/iommu/io-pgtable.ts';
import { buildPgtable, EEXIST, type PgtableFixture, RW } from './pgtable-fixture.ts';

type Format = 'ARM_64_LPAE_S1' | 'ARM_64_LPAE_S2';

const GRANULE_SETS = [
  [4 * KIB, 2 * MIB, GIB],
  [16 * KIB, 32 * MIB],
  [64 * KIB, 512 * MIB],
] as const;
const INPUT_SIZES = [32, 36, 40, 42, 44, 48] as const;
const FORMATS: readonly Format[] = ['ARM_64_LPAE_S1', 'ARM_64_LPAE_S2'];
const OFFSET = 42;

interface Run extends PgtableFixture<Format> {
  readonly name: string;
  /** Page sizes, ascending, each with the address that the row uses for it: 0, 1 GiB, 2 GiB. */
  readonly places: readonly { readonly size: number; readonly at: number }[];
}

/** Runs `body` on a fresh table of each configuration. Afterwards the table must agree with itself and give all its pages back. */
function everyConfiguration(body: (run: Run) => void): void {
  let runs = 0;
  for (const format of FORMATS)
    for (const sizes of GRANULE_SETS)
      for (const ias of INPUT_SIZES) {
        const pgsizeBitmap = sizes.reduce((sum: number, size) => sum + size, 0);
        const config = { pgsizeBitmap, ias, oas: 48, coherentWalk: true, quirks: [] };
        const fixture = buildPgtable(format, config);
        const name = `${format}, ${sizes.map((size) => size / KIB)} KiB, ${ias} bits`;
        const places = sizes.map((size, i) => ({ size, at: i * GIB }));
        body({ ...fixture, name, places });
        fixture.table.check();
        fixture.table.free();
        expect(fixture.pages.outstanding, name).toBe(0);
        runs++;
      }
  expect(runs).toBe(36);
}

function mapDistinct({ table, places, name }: Run): void {
  for (const { size, at } of places) expect(mapOne(table, at, at, size, RW), `${name}: map ${size}`).toBe(0);
}

function mapOne(table: IoPgtable, at: number, phys: number, size: number, prot: number): number {
  return table.mapPages(iova(at), physAddr(phys), size, 1, prot);
}

describe('io-pgtable-arm self-test', () => {
  it('IPT-01 an empty table translates nothing', () => {
    everyConfiguration(({ table, name }) => {
      for (const at of [0, GIB, 2 * GIB]) expect(table.iovaToPhys(iova(at + OFFSET)), name).toBe(0);
    });
  });

  it('IPT-02 one page of each size, at its own gigabyte, translates to itself with the offset kept', () => {
    everyConfiguration((run) => {
      mapDistinct(run);
      for (const { size, at } of run.places) {
        expect(run.table.mapped, run.name).toBeGreaterThan(0);
        expect(run.table.iovaToPhys(iova(at + OFFSET)), `${run.name}: ${size}`).toBe(at + OFFSET);
      }
      expect([...run.table.leaves()].map((leaf) => leaf.sizeBytes)).toEqual(run.places.map(({ size }) => size));
    });
  });

  it('IPT-03 mapping over a page that is mapped is refused with EEXIST and changes nothing', () => {
    everyConfiguration((run) => {
      const { table, places, name } = run;
      mapDistinct(run);
      for (const { size, at } of places) {
        expect(mapOne(table, at, at + size, size, RW), `${name}: ${size}`).toBe(EEXIST);
        expect(table.mapped).toBe(0);
        expect(table.iovaToPhys(iova(at + OFFSET)), `${name}: ${size}`).toBe(at + OFFSET);
      }
      expect(table.warnings).toBe(places.length);
    });
  });

  it('IPT-04 unmapping the second small page of a block makes a hole of just that page', () => {
    everyConfiguration((run) => {
      const { table, places, name } = run;
      mapDistinct(run);
      const small = places[0]?.size ?? 0;
      const block = places[1]?.size ?? 0;
      expect(table.unmapPages(iova(GIB + small), small, 1, run.gather), name).toBe(small);
      expect(table.iovaToPhys(iova(GIB + small + OFFSET)), name).toBe(0);
      expect(table.iovaToPhys(iova(GIB + OFFSET)), name).toBe(GIB + OFFSET);
      expect(table.iovaToPhys(iova(GIB + 2 * small + OFFSET)), name).toBe(GIB + 2 * small + OFFSET);
      expect(table.iovaToPhys(iova(GIB + block - 1)), name).toBe(GIB + block - 1);
      expect(table.warnings, name).toBe(0);
    });
  });

  it('IPT-05 the hole in a block takes a page that leads elsewhere', () => {
    everyConfiguration((run) => {
      const { table, places, name } = run;
      mapDistinct(run);
      const small = places[0]?.size ?? 0;
      table.unmapPages(iova(GIB + small), small, 1, run.gather);
      expect(mapOne(table, GIB + small, small, small, IommuProt.read), name).toBe(0);
      expect(table.iovaToPhys(iova(GIB + small + OFFSET)), name).toBe(small + OFFSET);
      expect(table.iovaToPhys(iova(GIB + OFFSET)), name).toBe(GIB + OFFSET);
    });
  });

  it('IPT-06 each size unmaps as a whole and maps again, write-only', () => {
    everyConfiguration((run) => {
      const { table, places, name, gather } = run;
      mapDistinct(run);
      const small = places[0]?.size ?? 0;
      // The block of the second size is a table of small pages by now, as in the self-test.
      table.unmapPages(iova(GIB + small), small, 1, gather);
      mapOne(table, GIB + small, small, small, IommuProt.read);
      for (const { size, at } of places) {
        expect(table.unmapPages(iova(at), size, 1, gather), `${name}: ${size}`).toBe(size);
        expect(table.iovaToPhys(iova(at + OFFSET)), `${name}: ${size}`).toBe(0);
        expect(mapOne(table, at, at, size, IommuProt.write), `${name}: ${size}`).toBe(0);
        expect(table.iovaToPhys(iova(at + OFFSET)), `${name}: ${size}`).toBe(at + OFFSET);
      }
      expect(table.warnings, name).toBe(0);
    });
  });
});
