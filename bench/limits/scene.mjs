/**
 * A bare pipeline of three devices: the limit that goal G13 of the film benchmark names. Each device has a page table and an
 * IOTLB of its own and moves its frame page by page through `translate`; a frame is one event a device. No bytes, no caches,
 * no fences, no reports.
 *
 *     node scene.mjs BYTES_A_FRAME               prints { "value": seconds of film at 60 frames a second, a second }
 */
import process from 'node:process';
import { cpuSeconds } from './cpu-seconds.mjs';
import { Ladder } from './ladder.mjs';

const ENT = 512,
  T32 = 4294967296,
  INV27 = 1 / 134217728,
  INV32 = 1 / 4294967296;
const E = 2048,
  W = 4;
class Pair {
  // entry e of table t: words (t*512+e)*2 (low) and +1 (high)
  constructor(tables = 4096) {
    this.m = new Uint32Array(tables * ENT * 2);
    this.top = 1;
    this.free = [];
    this.root = this.alloc();
    this.ilo = Infinity;
    this.ihi = 0;
  }
  alloc() {
    if (this.free.length) {
      const t = this.free.pop();
      this.m.fill(0, t * 1024, t * 1024 + 1024);
      return t;
    }
    if ((this.top + 1) * 1024 > this.m.length) {
      const n = new Uint32Array(this.m.length * 2);
      n.set(this.m);
      this.m = n;
    }
    return this.top++;
  }
  freeTree(t, lvl) {
    if (lvl < 3) {
      const m = this.m;
      for (let i = t * 1024, e = i + 1024; i < e; i += 2) if ((m[i] & 3) === 3) this.freeTree(m[i + 1], lvl + 1);
    }
    this.free.push(t);
  }
  // walks to the last table; table entries keep the table number in the high word
  map(pfn, pa, count, prot) {
    // 4K pages; returns pages mapped or a negative errno
    const i0 = (pfn * INV27) | 0,
      low = (pfn - i0 * 134217728) | 0;
    let p = (this.root * ENT + i0) * 2,
      t;
    if (this.m[p] === 0) {
      t = this.alloc();
      this.m[p] = 3;
      this.m[p + 1] = t;
    } else if ((this.m[p] & 3) !== 3) return -17;
    else t = this.m[p + 1];
    p = (t * ENT + (low >>> 18)) * 2;
    if (this.m[p] === 0) {
      t = this.alloc();
      this.m[p] = 3;
      this.m[p + 1] = t;
    } else if ((this.m[p] & 3) !== 3) return -17;
    else t = this.m[p + 1];
    p = (t * ENT + ((low >>> 9) & 511)) * 2;
    if (this.m[p] === 0) {
      t = this.alloc();
      this.m[p] = 3;
      this.m[p + 1] = t;
    } else if ((this.m[p] & 3) !== 3) return -17;
    else t = this.m[p + 1];
    const i3 = low & 511,
      n = count < ENT - i3 ? count : ENT - i3,
      m = this.m;
    p = (t * ENT + i3) * 2;
    for (let i = 0, q = p; i < n; i++, q += 2) if (m[q] !== 0) return -17;
    let hi = (pa / T32) >>> 0,
      lo = pa >>> 0;
    for (let i = 0; i < n; i++, p += 2) {
      m[p] = (lo | prot | 3) >>> 0;
      m[p + 1] = hi;
      lo = (lo + 4096) >>> 0;
      if (lo === 0) hi++;
    }
    return n;
  }
  map2M(pfn, pa, prot) {
    const i0 = (pfn * INV27) | 0,
      low = (pfn - i0 * 134217728) | 0;
    let p = (this.root * ENT + i0) * 2,
      t;
    if (this.m[p] === 0) {
      t = this.alloc();
      this.m[p] = 3;
      this.m[p + 1] = t;
    } else t = this.m[p + 1];
    p = (t * ENT + (low >>> 18)) * 2;
    if (this.m[p] === 0) {
      t = this.alloc();
      this.m[p] = 3;
      this.m[p + 1] = t;
    } else if ((this.m[p] & 3) !== 3) return -17;
    else t = this.m[p + 1];
    p = (t * ENT + ((low >>> 9) & 511)) * 2;
    const e = this.m[p];
    if (e !== 0) {
      if ((e & 3) === 1) return -17;
      this.freeTree(this.m[p + 1], 3);
    }
    this.m[p] = ((pa >>> 0) | prot | 1) >>> 0;
    this.m[p + 1] = (pa / T32) >>> 0;
    return 512;
  }
  unmap(pfn, count) {
    const m = this.m,
      i0 = (pfn * INV27) | 0,
      low = (pfn - i0 * 134217728) | 0;
    let p = (this.root * ENT + i0) * 2;
    if ((m[p] & 3) !== 3) return 0;
    p = (m[p + 1] * ENT + (low >>> 18)) * 2;
    if ((m[p] & 3) !== 3) return 0;
    p = (m[p + 1] * ENT + ((low >>> 9) & 511)) * 2;
    const e = m[p];
    if (e === 0) return 0;
    if ((e & 3) === 1) return this.split(p, low, pfn, count);
    const i3 = low & 511,
      n = count < ENT - i3 ? count : ENT - i3;
    let q = (m[p + 1] * ENT + i3) * 2,
      i = 0;
    for (; i < n; i++, q += 2) {
      if (m[q] === 0) break;
      m[q] = 0;
      m[q + 1] = 0;
    }
    if (pfn < this.ilo) this.ilo = pfn;
    if (pfn + i > this.ihi) this.ihi = pfn + i;
    return i;
  }
  split(p, low, _pfn, count) {
    const t = this.alloc(),
      m = this.m,
      i3 = low & 511,
      n = Math.min(count, ENT - i3),
      at = m[p] & 0xffc;
    let lo = (m[p] & 0xffe00000) >>> 0;
    const hi = m[p + 1];
    for (let i = 0, q = t * 1024; i < 512; i++, q += 2, lo = (lo + 4096) >>> 0)
      if (i < i3 || i >= i3 + n) {
        m[q] = (lo | at | 3) >>> 0;
        m[q + 1] = hi;
      }
    m[p] = 3;
    m[p + 1] = t;
    return n;
  }
  unmap2M(pfn) {
    const m = this.m,
      i0 = (pfn * INV27) | 0,
      low = (pfn - i0 * 134217728) | 0;
    let p = (this.root * ENT + i0) * 2;
    if ((m[p] & 3) !== 3) return 0;
    p = (m[p + 1] * ENT + (low >>> 18)) * 2;
    if ((m[p] & 3) !== 3) return 0;
    p = (m[p + 1] * ENT + ((low >>> 9) & 511)) * 2;
    const e = m[p];
    if (e === 0) return 0;
    if ((e & 3) === 3) this.freeTree(m[p + 1], 3);
    m[p] = 0;
    m[p + 1] = 0;
    if (pfn < this.ilo) this.ilo = pfn;
    if (pfn + 512 > this.ihi) this.ihi = pfn + 512;
    return 512;
  }
  walk(iova) {
    // byte address in, byte address out; -1 = fault
    const m = this.m,
      hi = (iova * INV32) | 0,
      lo = iova | 0; // lo = the low 32 bits: one truncation on x64
    let p = (this.root * ENT + (hi >>> 7)) * 2;
    if ((m[p] & 3) !== 3) return -1;
    p = m[p + 1] * 1024 + (((hi << 3) | (lo >>> 29)) & 0x3fe);
    let e = m[p];
    if ((e & 3) !== 3) return (e & 3) === 1 ? m[p + 1] * T32 + (((e & 0xc0000000) | (lo & 0x3fffffff)) >>> 0) : -1;
    p = m[p + 1] * 1024 + ((lo >>> 20) & 0x3fe);
    e = m[p];
    if ((e & 3) !== 3) return (e & 3) === 1 ? m[p + 1] * T32 + (((e & 0xffe00000) | (lo & 0x1fffff)) >>> 0) : -1;
    p = m[p + 1] * 1024 + ((lo >>> 11) & 0x3fe);
    e = m[p];
    return (e & 3) === 3 ? m[p + 1] * T32 + (((e & 0xfffff000) | (lo & 0xfff)) >>> 0) : -1;
  }
}

class Sa {
  constructor() {
    this.sets = E / W;
    this.mask = this.sets - 1;
    this.tag = new Float64Array(E).fill(-1);
    this.pa = new Float64Array(E);
    this.rr = new Uint8Array(this.sets);
    this.hit = 0;
    this.miss = 0;
  }
  lookup(pfn, asid) {
    const key = pfn * 65536 + asid,
      s = (pfn & this.mask) * W,
      T = this.tag;
    for (let i = s; i < s + W; i++)
      if (T[i] === key) {
        this.hit++;
        return this.pa[i];
      }
    this.miss++;
    return -1;
  }
  fill(pfn, asid, pa) {
    const q = pfn & this.mask,
      w = this.rr[q],
      i = q * W + w;
    this.rr[q] = w + 1 === W ? 0 : w + 1;
    this.tag[i] = pfn * 65536 + asid;
    this.pa[i] = pa;
  }
  inval(pfn, n, asid) {
    for (let k = 0; k < n; k++) {
      const key = (pfn + k) * 65536 + asid,
        s = ((pfn + k) & this.mask) * W;
      for (let i = s; i < s + W; i++) if (this.tag[i] === key) this.tag[i] = -1;
    }
  }
}

const BYTES = Number(process.argv[2]),
  P = Math.ceil(BYTES / 4096),
  NB = 4,
  FRAMES = 2400;
const queue = new Ladder(4096);
const buffers = Array.from({ length: NB }, (_, i) => ({ pa: 0x100000000 + i * P * 8192, iova: 0xc00000 + i * 0x4000 }));
const devices = Array.from({ length: 3 }, () => ({ pt: new Pair(256), tlb: new Sa() }));
for (const { pt } of devices)
  for (const { iova, pa } of buffers) for (let i = 0; i < P; ) i += pt.map(iova + i, pa + i * 4096, P - i, 0x7c0);
let sum = 0;
const translate = ({ pt, tlb }, page) => {
  let pa = tlb.lookup(page, 1);
  if (pa < 0) {
    pa = pt.walk(page * 4096);
    if (pa < 0) throw new Error('fault');
    tlb.fill(page, 1, pa);
  }
  return pa;
};
/** One frame a device: the stages take turns through the queue, as events. */
const run = (frames) => {
  let shown = 0;
  for (let k = 0; k < 3; k++) queue.push(queue.now + 1000 * (k + 1), k);
  const at = [0, 0, 0];
  while (shown < frames) {
    const k = queue.pop();
    const { iova } = buffers[at[k]++ % NB];
    for (let j = 0; j < P; j++) sum += translate(devices[k], iova + j);
    if (k === 2) shown++;
    queue.push(queue.now + 3000, k);
  }
  while (queue.n > 0) queue.pop();
};
run(FRAMES);
const start = cpuSeconds();
run(FRAMES);
if (sum < 0) throw new Error('no address');
console.log(JSON.stringify({ value: FRAMES / 60 / (cpuSeconds() - start) }));
