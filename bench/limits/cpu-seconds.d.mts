/** See `cpu-seconds.mjs`. */
export function cpuSeconds(): number;
