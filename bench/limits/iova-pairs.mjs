/** The work that all allocators of IO virtual addresses are measured with; the numbers are the same in every run. */

/**
 * Fills an allocator with `live` ranges, then frees and allocates `pairs` times, once to warm up and once measured.
 *
 * @param {{ alloc(size: number, limit: number): number, free(page: number, size: number): void }} allocator `limit` is the first page not to be used
 * @param {'small' | 'large'} space sizes: 1 to 32 pages or 33 to 288
 * @param {number} live
 * @param {number} pairs
 * @param {() => number} seconds clock
 * @returns {{ value: number, sum: number }} pairs a second, and a checksum of all addresses
 */
export function exercise(allocator, space, live, pairs, seconds) {
  let state = 12345;
  const random = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  const size = space === 'small' ? () => 1 + (random() & 31) : () => 33 + (random() & 255);
  const limit = live > 4096 ? 2 ** 36 : 2 ** 20;
  const pages = new Float64Array(live);
  const sizes = new Int32Array(live);
  let sum = 0;
  const allocate = (i) => {
    const count = size();
    const page = allocator.alloc(count, limit);
    if (page <= 0) throw new Error('the space is full');
    pages[i] = page;
    sizes[i] = count;
    sum = (sum + page) % 16777216;
  };
  for (let i = 0; i < live; i++) allocate(i);
  const work = () => {
    for (let i = 0; i < pairs; i++) {
      const victim = random() % live;
      allocator.free(pages[victim], sizes[victim]);
      allocate(victim);
    }
  };
  work();
  const start = seconds();
  work();
  const spent = seconds() - start;
  return { value: pairs / spent, sum };
}
