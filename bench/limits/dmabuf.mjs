/**
 * Bare loops for shared buffers, fences and reservations: plain objects, arrays, generators and columns of a list; no checks, errors,
 * reports, references or names.
 *
 *     node dmabuf.mjs cycle PAGES | fence CALLBACKS | resv FENCES | ww          prints { "value": operations a second }
 *     node --expose-gc dmabuf.mjs bytes buffer|attachment|fence COUNT           prints { "value": bytes }
 */
import process from 'node:process';
import { cpuSeconds } from './cpu-seconds.mjs';

const PAGE = 4096;
const BASE = 2 ** 32;
const [what, first, second] = process.argv.slice(2);

function rate(rounds, perRound, round) {
  for (let i = 0; i < rounds / 4; i++) round();
  const start = cpuSeconds();
  for (let i = 0; i < rounds; i++) round();
  return (rounds * perRound) / (cpuSeconds() - start);
}

class List {
  constructor(count) {
    this.phys = new Float64Array(count);
    this.length = new Float64Array(count);
    this.address = new Float64Array(count);
    this.segment = new Float64Array(count);
  }

  clone() {
    const copy = new List(this.phys.length);
    copy.phys.set(this.phys);
    copy.length.set(this.length);
    return copy;
  }
}

const makeBuffer = (memory) => ({ memory, attachments: [], owner: null, fences: [], references: 1 });
const makeFence = (context, seqno) => ({ context, seqno, signaled: false, callbacks: null, waiter: null });

function attachAndMap(buf) {
  const att = { buf, table: null };
  buf.attachments.unshift(att);
  att.table = buf.memory.clone();
  for (let i = 0; i < att.table.phys.length; i++) {
    att.table.address[i] = att.table.phys[i];
    att.table.segment[i] = att.table.length[i];
  }
  return att;
}

function scattered(pages) {
  const list = new List(pages);
  for (let i = 0; i < pages; i++) [list.phys[i], list.length[i]] = [BASE + 2 * i * PAGE, PAGE];
  return list;
}

/** A step for each call that can wait: lock, attach, map, unmap, detach, release. */
function cycle(pages) {
  const memory = scattered(pages);
  const batch = Math.ceil(20_000 / (10 + pages));
  const lock = function* (buf, body) {
    buf.owner = lock;
    try {
      const value = body();
      if (buf.references === 0) yield buf; // what a lock that is taken would do
      return value;
    } finally {
      buf.owner = null;
    }
  };
  const program = function* () {
    for (let i = 0; i < batch; i++) {
      const buf = makeBuffer(memory);
      const att = yield* lock(buf, () => {
        return attachAndMap(buf);
      });
      if (att.table.address[0] !== BASE) throw new Error('not mapped');
      yield* lock(buf, () => {
        att.table = null;
      });
      yield* lock(buf, () => {
        buf.attachments.splice(buf.attachments.indexOf(att), 1);
      });
      buf.references--;
      yield buf;
    }
  };
  return rate(pages > 1000 ? 200 : 60, batch, () => {
    for (const buf of program()) if (buf.references > 0) throw new Error('not released');
  });
}

function signal(fence) {
  fence.signaled = true;
  const { callbacks } = fence;
  if (callbacks === null) return;
  for (const callback of callbacks) callback(fence);
}

function fence(callbacks) {
  const functions = Array.from({ length: callbacks }, () => () => undefined);
  const context = {};
  let seqno = 0;
  let signaled = 0;
  return rate(1600 / (1 + callbacks), 1000, () => {
    for (let i = 0; i < 1000; i++) {
      const made = makeFence(context, ++seqno);
      for (const callback of functions) {
        if (made.callbacks === null) made.callbacks = [callback];
        else made.callbacks.push(callback);
      }
      signal(made);
      if (made.signaled) signaled++;
    }
    if (signaled === 0) throw new Error('nothing signalled');
  });
}

/** Each fence goes to the end of a list; who waits looks at each in turn and is a generator. */
function resv(count) {
  const contexts = Array.from({ length: count }, (_, i) => ({ id: i }));
  const batch = Math.ceil(1000 / count);
  const waiting = function* (list) {
    for (const each of list) {
      if (!each.signaled) yield each;
    }
  };
  return rate(200, batch * count, () => {
    for (let i = 0; i < batch; i++) {
      const list = [];
      for (const context of contexts) list.push(makeFence(context, 1));
      const waiter = waiting(list);
      if (waiter.next().done) throw new Error('did not wait');
      for (const each of list) signal(each);
      while (!waiter.next().done);
    }
  });
}

/** Eight generators take all sixteen locks at once, in order, whenever they are free. */
function ww() {
  const owners = new Int32Array(16).fill(-1);
  const body = function* (own) {
    for (let round = 0; round < 20; round++) {
      while (owners[0] >= 0) yield;
      for (let i = 0; i < owners.length; i++) owners[i] = own;
      yield;
      for (let i = 0; i < owners.length; i++) owners[i] = -1;
    }
  };
  return rate(60, 8 * 20 * 16, () => {
    let tasks = Array.from({ length: 8 }, (_, i) => body(i));
    while (tasks.length > 0) tasks = tasks.filter((task) => !task.next().done);
  });
}

function usedBytes() {
  for (let i = 0; i < 3; i++) globalThis.gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function bytes(kind, count) {
  const memory = scattered(1);
  const kept = new Array(count).fill(null);
  const context = {};
  if (kind === 'attachment') for (let i = 0; i < count; i++) kept[i] = makeBuffer(memory);
  const start = usedBytes();
  for (let i = 0; i < count; i++) {
    if (kind === 'attachment') attachAndMap(kept[i]);
    else kept[i] = kind === 'buffer' ? makeBuffer(memory) : makeFence(context, i);
  }
  const used = usedBytes() - start;
  if (kept.at(-1) === null) throw new Error('nothing was kept');
  return used / count;
}

const loops = { cycle, fence, resv, ww };
const value = what === 'bytes' ? bytes(first, Number(second)) : loops[what](Number(first));
console.log(JSON.stringify({ value }));
