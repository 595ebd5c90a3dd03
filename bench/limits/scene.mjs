/**
 * A bare pipeline of three devices: each has a page table and an IOTLB of its own and moves its frame page by page through
 * `translate`; a frame is one event a device. No bytes, no caches, no fences, no reports.
 *
 *     node scene.mjs BYTES_A_DEVICE              prints { "value": seconds of film at 60 frames a second, a second }
 */
import process from 'node:process';
import { cpuSeconds } from './cpu-seconds.mjs';
import { Ladder } from './ladder.mjs';
import { Port } from './page-table.mjs';

const PAGE = 4096;
const PROT = 0x7c0;
const FRAMES = 2400;
const pages = Math.ceil(Number(process.argv[2]) / PAGE);
const first = Array.from({ length: 4 }, (_, i) => 0xc0000 + i * pages);
const ports = Array.from({ length: 3 }, () => new Port(256));
for (const { table } of ports) {
  for (const page of first) {
    for (let i = 0; i < pages; ) i += table.map(page + i, (page + i) * PAGE, pages - i, PROT);
  }
}
const queue = new Ladder(4096);
let sum = 0;

/** The three stages take turns through the queue, as events. */
function run(frames) {
  const taken = [0, 0, 0];
  for (let stage = 0; stage < 3; stage++) queue.push(queue.now + 1000 * (stage + 1), stage);
  for (let left = 3 * frames; left > 0; left--) {
    const stage = queue.pop();
    const page = first[taken[stage]++ % first.length];
    for (let i = 0; i < pages; i++) sum += ports[stage].translate(page + i);
    if (left > 3) queue.push(queue.now + 3000, stage);
  }
}

run(FRAMES);
const start = cpuSeconds();
run(FRAMES);
if (sum < 0) throw new Error('no address');
console.log(JSON.stringify({ value: FRAMES / 60 / (cpuSeconds() - start) }));
