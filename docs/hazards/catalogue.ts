/** Every hazard that the simulator can name, each with a minimal program: what `docs/hazards.md` shows and the tests run. */
import type { CauseCode, HazardCode } from '../../src/index.ts';
import { byteEntries } from './byte-entries.ts';
import { callEntries } from './call-entries.ts';
import type { CatalogueEntry } from './catalogue-entry.ts';
import { causeEntries } from './cause-entries.ts';
import { dmaDebugEntries } from './dma-debug-entries.ts';
import { watchEntries } from './watch-entries.ts';

/** By code, in the order of the page. A code without an entry does not compile. */
export const hazardCatalogue: Readonly<Record<HazardCode, CatalogueEntry>> = {
  ...byteEntries,
  ...watchEntries,
  ...callEntries,
  ...dmaDebugEntries,
};

/** Why bytes were old or gone, by code. */
export const causeCatalogue: Readonly<Record<CauseCode, CatalogueEntry>> = causeEntries;
