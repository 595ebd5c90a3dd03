/** The policy of `IovaAllocator` on one sorted list, passed range by range. */
export class RangeWalk {
  readonly #ranges: { lo: number; hi: number }[] = [{ lo: 2 ** 52, hi: 2 ** 52 }];
  readonly #start: number;
  readonly #end32: number;
  #cached32 = 2 ** 52;
  #cached = 2 ** 52;
  #failed32: number;

  constructor(start: number, end32: number) {
    this.#start = start;
    this.#end32 = end32;
    this.#failed32 = end32;
  }

  alloc(size: number, limitPfn: number): number {
    const limit = limitPfn + 1;
    const low = limit <= this.#end32;
    if (low && size >= this.#failed32) return -1;
    const from = this.#index(low ? this.#cached32 : this.#cached);
    const above = (this.#ranges[from]?.hi ?? 0) + 1;
    let place = this.#search(from, size, limit, this.#start);
    if (place < 0 && above <= limit) place = this.#search(this.#ranges.length - 1, size, limit, above);
    if (place < 0) {
      this.#failed32 = size;
      return -1;
    }
    this.#insert(place, place + size - 1);
    if (place + size - 1 < this.#end32) this.#cached32 = place;
    else this.#cached = place;
    return place;
  }

  free(first: number): void {
    const index = this.#index(first);
    const [range] = this.#ranges.splice(index, 1);
    const next = this.#ranges[index]?.lo ?? 2 ** 52;
    if (range === undefined) return;
    if (range.lo === this.#cached32 || (range.hi < this.#end32 && range.lo >= this.#cached32)) this.#cached32 = next;
    if (range.lo < this.#end32) this.#failed32 = this.#end32;
    if (range.lo >= this.#cached) this.#cached = next;
  }

  reserve(first: number, last: number): void {
    for (let page = first; page <= last; page++) {
      if (!this.#ranges.some((range) => page >= range.lo && page <= range.hi)) this.#insert(page, page);
    }
  }

  #search(from: number, size: number, limit: number, low: number): number {
    let align = 1;
    while (align < size) align *= 2;
    for (let i = from; i >= 0; i--) {
      const top = Math.min(limit, this.#ranges[i]?.lo ?? 0);
      const place = Math.floor((top - size) / align) * align;
      if (place < low) return -1;
      if (place > (this.#ranges[i - 1]?.hi ?? -1)) return place;
    }
    return -1;
  }

  #index(lo: number): number {
    return this.#ranges.findIndex((range) => range.lo === lo);
  }

  #insert(lo: number, hi: number): void {
    this.#ranges.push({ lo, hi });
    this.#ranges.sort((a, b) => a.lo - b.lo);
  }
}
