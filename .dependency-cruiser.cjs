/**
 * The layer table: what each folder of `src` may import, besides itself. `CONTRIBUTING.md` has it with words.
 * To change it needs a decision record.
 */
const LAYERS = {
  base: [],
  trace: ['base'],
  sim: ['base', 'trace'],
  mem: ['base', 'trace'],
  bus: ['base', 'trace', 'sim', 'mem'],
  cache: ['base', 'trace', 'sim', 'mem'],
  iommu: ['base', 'trace', 'sim', 'mem'],
  'dma-api': ['base', 'trace', 'sim', 'mem', 'bus', 'cache', 'iommu'],
  dmabuf: ['base', 'trace', 'sim', 'mem', 'dma-api'],
  uapi: ['base', 'trace', 'sim', 'mem', 'cache', 'dma-api', 'dmabuf'],
  // "All above", row by row.
  devices: ['base', 'trace', 'sim', 'mem', 'bus', 'cache', 'iommu', 'dma-api', 'dmabuf', 'uapi'],
  platform: ['base', 'trace', 'sim', 'mem', 'bus', 'cache', 'iommu', 'dma-api', 'dmabuf', 'uapi', 'devices'],
  inspect: ['base', 'trace', 'sim', 'mem', 'bus', 'cache', 'iommu', 'dma-api', 'dmabuf', 'uapi', 'devices', 'platform'],
  testing: [
    ...['base', 'trace', 'sim', 'mem', 'bus', 'cache', 'iommu', 'dma-api', 'dmabuf', 'uapi', 'devices', 'platform'],
    'inspect',
  ],
};

/** The only files that may re-export. */
const ENTRIES = '^src/(index|testing/index)[.]ts$';

/** Who may import a run-time package. A package that is not listed may not be imported from `src` at all. */
const PACKAGES = {
  eventemitter3: '^src/trace/',
  'pure-rand': '^src/sim/',
  // Atomic state only: the display's commit, the topology of a platform, snapshots of inspectors.
  immer: '^src/(devices/display[/.]|platform/|inspect/)',
};

const layerRules = Object.entries(LAYERS).map(([layer, allowed]) => ({
  name: `layer-${layer}`,
  comment: `src/${layer} may import ${allowed.length === 0 ? 'no other folder' : allowed.join(', ')}.`,
  severity: 'error',
  from: { path: `^src/${layer}/` },
  to: { path: '^src/', pathNot: `^src/(${[layer, ...allowed].join('|')})/` },
}));

const packageRules = Object.entries(PACKAGES).map(([name, users]) => ({
  name: `only-there-${name}`,
  comment: `${name} is imported by ${users} only.`,
  severity: 'error',
  from: { path: '^src/', pathNot: users },
  to: { path: `node_modules/${name}/` },
}));

module.exports = {
  forbidden: [
    ...layerRules,
    ...packageRules,
    {
      name: 'known-folder',
      comment: 'Every file of src lies in a folder of the layer table or is the entry src/index.ts.',
      severity: 'error',
      from: { path: '^src/', pathNot: `^src/(index[.]ts$|(${Object.keys(LAYERS).join('|')})/)` },
      to: {},
    },
    {
      name: 'known-folder-target',
      comment: 'The same for a file that imports nothing.',
      severity: 'error',
      from: {},
      to: { path: '^src/', pathNot: `^src/(index[.]ts$|(${Object.keys(LAYERS).join('|')})/)` },
    },
    {
      name: 'device-apart',
      comment:
        'No device imports another. The files of one device: src/devices/NAME.ts and src/devices/NAME/; src/devices/shared/ is for all.',
      severity: 'error',
      from: { path: '^src/devices/([^/.]+)' },
      to: { path: '^src/devices/', pathNot: '^src/devices/($1[/.]|shared/)' },
    },
    {
      name: 'entry-imported',
      comment: 'Inside src import from the file that defines the name, not from an entry.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: ENTRIES },
    },
    {
      name: 'no-inner-barrel',
      comment: 'Only src/index.ts and src/testing/index.ts re-export.',
      severity: 'error',
      from: { path: '^src/', pathNot: ENTRIES },
      to: { dependencyTypes: ['export'] },
    },
    {
      name: 'no-cycle',
      comment: 'No import cycles at run time. Types may refer to each other: a buffer and its attachment do.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'src-stands-alone',
      comment: 'src imports nothing of node: and no other folder of this project.',
      severity: 'error',
      from: { path: '^src/' },
      to: { couldNotResolve: false, pathNot: ['^src/', 'node_modules/'] },
    },
    {
      name: 'src-known-package',
      comment: `Run-time packages need a decision record (docs/decisions/0004): ${Object.keys(PACKAGES).join(', ')}.`,
      severity: 'error',
      from: { path: '^src/' },
      to: { path: 'node_modules/', pathNot: `node_modules/(${Object.keys(PACKAGES).join('|')})/` },
    },
    {
      name: 'example-uses-the-public-interface',
      comment: 'An example imports what a user can: src/index.ts and src/testing/index.ts.',
      severity: 'error',
      from: { path: '^examples/' },
      to: { path: '^(src|test|bench|scripts)/', pathNot: ENTRIES },
    },
    {
      name: 'unresolved',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|docs)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'node', 'default'],
    },
  },
};
