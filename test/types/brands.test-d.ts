/** Spaces and units do not mix: checked by the compiler, never run. */
import { describe, expectTypeOf, it } from 'vitest';
import {
  type DmaAddr,
  dmaAddr,
  type Iova,
  type Nanos,
  type Pfn,
  type PhysAddr,
  pfnToPhys,
  physAddr,
  physToPfn,
  us,
  type VirtAddr,
} from '../../src/index.ts';

describe('brands', () => {
  it('let no address pass for one of another space', () => {
    expectTypeOf<PhysAddr>().not.toExtend<DmaAddr>();
    expectTypeOf<DmaAddr>().not.toExtend<PhysAddr>();
    expectTypeOf<Iova>().not.toExtend<DmaAddr>();
    expectTypeOf<VirtAddr>().not.toExtend<PhysAddr>();
  });

  it('let no frame number or time pass for bytes, and no plain number for any of them', () => {
    expectTypeOf<Pfn>().not.toExtend<PhysAddr>();
    expectTypeOf<Nanos>().not.toExtend<PhysAddr>();
    expectTypeOf<number>().not.toExtend<PhysAddr>();
    expectTypeOf<number>().not.toExtend<Nanos>();
  });

  it('are numbers, made by their constructors', () => {
    expectTypeOf<PhysAddr>().toExtend<number>();
    expectTypeOf(physAddr).returns.toEqualTypeOf<PhysAddr>();
    expectTypeOf(dmaAddr).returns.toEqualTypeOf<DmaAddr>();
    expectTypeOf(us).returns.toEqualTypeOf<Nanos>();
  });

  it('are converted by functions that name both spaces', () => {
    expectTypeOf(physToPfn).parameter(0).toEqualTypeOf<PhysAddr>();
    expectTypeOf(physToPfn).returns.toEqualTypeOf<Pfn>();
    expectTypeOf(pfnToPhys).parameter(0).toEqualTypeOf<Pfn>();
  });
});
