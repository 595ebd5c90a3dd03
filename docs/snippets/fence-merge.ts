/** Merging takes the latest pending fence of each context, and forgets errors of what is over. */
import {
  allocDmaFenceContext,
  DmaFenceChain,
  DmaFenceTimeline,
  dmaFenceUnwrap,
  Simulator,
  SyncFile,
} from '../../src/index.ts';

const sim = new Simulator();
const [a, b] = ['a', 'b'].map((name) => new DmaFenceTimeline(sim, allocDmaFenceContext(sim, name)));
if (a === undefined || b === undefined) throw new Error('no timeline');
const [a1, a2, b1] = [a.fence(), a.fence(), b.fence()];

const merged = new SyncFile(sim, a1).merge(new SyncFile(sim, a2), 'both').merge(new SyncFile(sim, b1), 'all');
console.log(`merged: ${dmaFenceUnwrap(merged.fence).map(({ name }) => name)}, status ${merged.info().status}`);
a1.setError('EIO');
for (const fence of [a1, a2, b1]) fence.signal();
console.log(
  `status ${merged.info().status}; of a merge made now ${merged.merge(new SyncFile(sim, a1), 'late').info().status}`,
);

const link = new DmaFenceChain(sim, new DmaFenceChain(sim, null, a.fence(), 1), b.fence(), 2);
console.log(`point 2 stands for ${dmaFenceUnwrap(link).map(({ name }) => name)}`);
