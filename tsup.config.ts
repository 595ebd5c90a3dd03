import { defineConfig } from 'tsup';

/**
 * Builds what is published: ES modules, CommonJS and declarations of both for the entries `.` and `./testing`.
 * Splitting keeps one copy of each class for both entries in either format, so that `instanceof` holds across them;
 * `scripts/check-package.ts` proves it on the built files.
 */
export default defineConfig({
  entry: { index: 'src/index.ts', 'testing/index': 'src/testing/index.ts' },
  format: ['esm', 'cjs'],
  target: 'node20',
  platform: 'neutral',
  splitting: true,
  treeshake: true,
  dts: true,
  sourcemap: true,
  clean: true,
  outDir: 'dist',
  silent: true,
});
