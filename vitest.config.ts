import process from 'node:process';
import { defineConfig } from 'vitest/config';

/** Where to write the result as JSON besides showing it, for programs that count. */
const report = process.env['TEST_REPORT'];

/**
 * Type tests (`test/types/*.test-d.ts`) are checked by `npm run typecheck`: the compiler is their runner.
 * Files share one worker's modules (`isolate: false`): no module of `src` has state that could leak.
 */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'threads',
    isolate: false,
    maxWorkers: '100%',
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: report === undefined ? ['default'] : ['default', ['json', { outputFile: report }]],
  },
});
