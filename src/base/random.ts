/** A deterministic source of numbers; `sim.prng` hands out named ones. The simulator never uses `Math.random`. */
export interface RandomSource {
  /** A whole number in [0, bound), uniform. `bound` in [1, 2^31]. */
  int(bound: number): number;
  /** A number in [0, 1), uniform, 32 bits of resolution. */
  float(): number;
}
