/**
 * Allocation of IO virtual addresses.
 *
 *     node iova.bench.js tree|magazines small|large LIVE PAIRS     prints { "value": pairs a second, "sum": … }
 *
 * `tree`: `IovaAllocator` alone; `magazines`: `IovaSpace`, with its caches. A pair frees a random live range and allocates another; the
 * bare loops in `limits/iova.mjs` do the same with the same numbers.
 */
import process from 'node:process';
import { IovaAllocator, IovaSpace } from '../src/index.ts';
import { cpuSeconds } from './limits/cpu-seconds.mjs';
import { exercise } from './limits/iova-pairs.mjs';

const [variant, sizes = 'small', live = '256', pairs = '200000'] = process.argv.slice(2);

function allocator(): Parameters<typeof exercise>[0] {
  if (variant === 'tree') {
    const tree = new IovaAllocator();
    return { alloc: (size, limit) => tree.tryAlloc(size, limit - 1), free: (page) => tree.free(page) };
  }
  if (variant !== 'magazines') throw new Error(`no case ${variant}: tree or magazines`);
  const space = new IovaSpace({ cpu: 0 });
  return {
    alloc: (size, limit) => space.allocFast(size, limit - 1, true),
    free: (page, size) => space.freeFast(page, size),
  };
}

console.log(JSON.stringify(exercise(allocator(), sizes, Number(live), Number(pairs), cpuSeconds)));
