/** See `exponential.mjs`. */
export const INCREMENTS: number;
/** Increments of time: mean 1e9, whole. */
export function exponentialTable(): Float64Array;
