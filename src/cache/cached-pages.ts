/**
 * How many lines of each page are cached; pages that share a place add up. So ranges of which nothing is cached, as those of
 * devices mostly are, are passed over a page at a time.
 */
import { PAGE_SIZE } from '../base/addr.ts';

/** A power of two. */
const PLACES = 16384;

/** Counts of cached lines by page. @internal */
export class CachedPages {
  /** Lines in a page. */
  readonly linesPerPage: number;
  /** Exact, as both are powers of two. */
  readonly #pagesPerLine: number;
  readonly #counts = new Uint32Array(PLACES);

  constructor(lineBytes: number) {
    this.linesPerPage = PAGE_SIZE / lineBytes;
    this.#pagesPerLine = lineBytes / PAGE_SIZE;
  }

  /** `line` came into the cache (1) or left it (-1). */
  count(line: number, change: 1 | -1): void {
    const place = (line * this.#pagesPerLine) & (PLACES - 1);
    this.#counts[place] = (this.#counts[place] as number) + change;
  }

  /** The first line at or after `line`, at most `end`, that may be cached: those before it are not. */
  skip(line: number, end: number): number {
    let at = line;
    while (at < end) {
      const page = Math.floor(at / this.linesPerPage);
      if (this.#counts[page % PLACES] !== 0) return at;
      at = (page + 1) * this.linesPerPage;
    }
    return end;
  }

  /** First line after the page of `line`. */
  endOfPage(line: number): number {
    return (Math.floor(line / this.linesPerPage) + 1) * this.linesPerPage;
  }
}
