/** Builds what is measured: plain ES modules as users get them, so that no loader stands in between. */
import { build } from 'tsup';
import { OUTPUT } from './catalogue.ts';

/** Bundles the cases into {@link OUTPUT}. */
export async function buildCases(): Promise<void> {
  await build({
    config: false,
    entry: {
      'dma.bench': 'bench/dma.bench.ts',
      'dmabuf.bench': 'bench/dmabuf.bench.ts',
      'iommu.bench': 'bench/iommu.bench.ts',
      'iova.bench': 'bench/iova.bench.ts',
      'kernel.bench': 'bench/kernel.bench.ts',
      'pipeline.bench': 'bench/pipeline.bench.ts',
      'uapi.bench': 'bench/uapi.bench.ts',
      tutorial: 'examples/00-stale-read.ts',
    },
    format: ['esm'],
    target: 'node20',
    platform: 'node',
    splitting: false,
    treeshake: true,
    clean: false,
    outDir: OUTPUT,
    silent: true,
  });
}
