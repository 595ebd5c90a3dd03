/**
 * Bare loops for data paths: page tables, IOTLBs and copies, without caches, fences, tasks or reports.
 *
 *     node pipeline.mjs map1gib             prints { "value": pages a second }
 *     node pipeline.mjs film tags|bytes     prints { "value": seconds of 1080p60 film a second }
 */
import process from 'node:process';
import { cpuSeconds } from './cpu-seconds.mjs';
import { Port } from './page-table.mjs';

const PAGE = 4096;
const PROT = 0x7c0;

/** Maps, translates and unmaps 1 GiB of scattered pages, page by page. */
function map1gib() {
  const count = 2 ** 30 / PAGE;
  const port = new Port(1024);
  const first = 0xc0000;
  let sum = 0;
  const round = () => {
    for (let i = 0; i < count; i++) port.table.map(first + i, 0x40000000 + i * 2 * PAGE, 1, PROT);
    for (let i = 0; i < count; i++) sum += port.translate(first + i);
    port.unmap(first, count);
  };
  round();
  const start = cpuSeconds();
  for (let i = 0; i < 4; i++) round();
  if (sum < 0) throw new Error('no address');
  return (4 * count) / (cpuSeconds() - start);
}

const WIDTH = 1920;
const HEIGHT = 1080;
const NV12 = (WIDTH * HEIGHT * 3) / 2;
const XRGB = WIDTH * HEIGHT * 4;
const FRAMES = 60;

function makeBuffer(memory, bytes) {
  const pages = Math.ceil(bytes / PAGE);
  const buffer = { bytes, pages, page: 0xc0000 + memory.used, phys: memory.used * PAGE };
  memory.used += pages;
  return buffer;
}

function map(port, buffer) {
  for (let i = 0; i < buffer.pages; ) {
    i += port.table.map(buffer.page + i, buffer.phys + i * PAGE, buffer.pages - i, PROT);
  }
}

/** Moves a whole buffer page by page between `bytes` and memory; only translates without `bytes`. */
function transfer(memory, port, buffer, bytes, isWrite) {
  let sum = 0;
  for (let i = 0; i < buffer.pages; i++) {
    const phys = port.translate(buffer.page + i);
    sum += phys;
    if (bytes === null) continue;
    const from = i * PAGE;
    const to = Math.min(from + PAGE, buffer.bytes);
    if (isWrite) memory.bytes.set(bytes.subarray(from, to), phys);
    else bytes.set(memory.bytes.subarray(phys, phys + to - from), from);
  }
  return sum;
}

const clip = (value) => (value < 0 ? 0 : value > 255 ? 255 : value);

/** NV12 to XRGB8888, BT.601 in whole numbers, two rows at a time. */
function convert(yuv, pixels) {
  for (let row = 0; row < HEIGHT; row += 2) {
    let upper = row * WIDTH;
    let chroma = WIDTH * HEIGHT + (row / 2) * WIDTH;
    for (const end = upper + WIDTH; upper < end; upper += 2, chroma += 2) {
      const d = yuv[chroma] - 128;
      const e = yuv[chroma + 1] - 128;
      const r = 409 * e + 128;
      const g = -100 * d - 208 * e + 128;
      const b = 516 * d + 128;
      for (let k = 0; k < 4; k++) {
        const at = upper + (k & 1) + (k >> 1) * WIDTH;
        const y = 298 * (yuv[at] - 16);
        pixels[at] = 0xff000000 | (clip((y + r) >> 8) << 16) | (clip((y + g) >> 8) << 8) | clip((y + b) >> 8);
      }
    }
  }
}

/** Camera, GPU and display: the camera maps its buffer for each frame, the others map theirs once. */
function film(mode) {
  const stores = mode === 'bytes';
  const memory = { used: 0, bytes: null };
  const captured = Array.from({ length: 4 }, () => makeBuffer(memory, NV12));
  const converted = Array.from({ length: 3 }, () => makeBuffer(memory, XRGB));
  if (stores) memory.bytes = new Uint8Array(memory.used * PAGE);
  const [camera, gpu, display] = [new Port(256), new Port(256), new Port(256)];
  for (const buffer of [...captured, ...converted]) map(gpu, buffer);
  for (const buffer of converted) map(display, buffer);
  const source = stores ? Uint8Array.from({ length: NV12 }, (_, i) => (i * 7) & 255) : null;
  const yuv = stores ? new Uint8Array(NV12) : null;
  const pixels = stores ? new Int32Array(WIDTH * HEIGHT) : null;
  const pixelBytes = stores ? new Uint8Array(pixels.buffer) : null;
  const shown = stores ? new Uint8Array(XRGB) : null;
  let sum = 0;
  const frame = (i) => {
    const from = captured[i % captured.length];
    const to = converted[i % converted.length];
    map(camera, from);
    sum += transfer(memory, camera, from, source, true);
    camera.unmap(from.page, from.pages);
    sum += transfer(memory, gpu, from, yuv, false);
    if (stores) convert(yuv, pixels);
    sum += transfer(memory, gpu, to, pixelBytes, true);
    sum += transfer(memory, display, to, shown, false);
  };
  const rounds = stores ? 1 : 40;
  for (let i = 0; i < rounds * FRAMES; i++) frame(i); // warms up
  const start = cpuSeconds();
  for (let i = 0; i < rounds * FRAMES; i++) frame(i);
  if (sum < 0) throw new Error('no address');
  return rounds / (cpuSeconds() - start);
}

const [what, mode] = process.argv.slice(2);
console.log(JSON.stringify({ value: what === 'film' ? film(mode) : map1gib() }));
