/** The same table of exponential increments (mean 1 ms, in whole ps) in every program, so that no generator is compared. */
export const INCREMENTS = 65536;

export function exponentialTable() {
  const table = new Float64Array(INCREMENTS);
  let state = 0x12345678;
  for (let i = 0; i < INCREMENTS; i++) {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    table[i] = Math.ceil(-Math.log((state + 0.5) / 2 ** 32) * 1e9);
  }
  return table;
}
