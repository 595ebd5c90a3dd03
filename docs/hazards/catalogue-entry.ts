/** What the catalogue says of one code. */
import type { Simulator } from '../../src/index.ts';

/** One code of the catalogue. */
export interface CatalogueEntry {
  /** What has happened, and why it is wrong, in a sentence or two. */
  readonly meaning: string;
  /** What to do instead; the near miss does it. */
  readonly right: string;
  /** The minimal program: `docs/hazards/FILE.ts`. */
  readonly file: string;
  /** Runs it. With `nearMiss` it does nearly the same, and right. */
  readonly program: (nearMiss: boolean) => Simulator;
  /** Part of the facts that the report has to give: who, and the planted call. */
  readonly finds: Readonly<Record<string, unknown>>;
  /** Part of the text of the report. */
  readonly says?: string;
}
