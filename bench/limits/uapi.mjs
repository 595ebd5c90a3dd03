/**
 * Bare loops for what a user process does with shared buffers: tables of numbers, counts of references, lists, flags; no errors, no
 * locks, no time, no waiting but the generators that every system call is.
 *
 *     node uapi.mjs share | poll FDS | timeline POINTS     prints { "value": … }, units as in uapi.bench.ts
 */
import process from 'node:process';
import { cpuSeconds } from './cpu-seconds.mjs';

const [what = 'share', countText = '1'] = process.argv.slice(2);
const COUNT = Number(countText);

const NOTHING = [];

/** A system call: a generator that need not wait. */
function* call(body) {
  yield* NOTHING;
  return body();
}

function install(table, file) {
  let fd = 0;
  while (table[fd] !== undefined) fd++;
  table[fd] = file;
  return fd;
}

function close(table, fd) {
  const file = table[fd];
  table[fd] = undefined;
  if (--file.references === 0) file.pool.push(file.page);
}

function share() {
  const rounds = 500_000;
  const pool = Array.from({ length: 64 }, (_, i) => i);
  const [sender, receiver, messages] = [[{}, {}, {}], [{}, {}, {}], []];
  function* one() {
    const fd = yield* call(() => {
      const page = pool.pop();
      return install(sender, { page, pool, references: 1, bytes: new Uint32Array(16).fill(0), attachments: [] });
    });
    sender[fd].references++;
    messages.push({ bytes: new Uint8Array(1), file: sender[fd] });
    yield* call(() => close(sender, fd));
    const got = yield* call(() => install(receiver, messages.shift().file));
    const file = receiver[got];
    const table = yield* call(() => ({ phys: Float64Array.of(file.page * 4096), lengths: Float64Array.of(4096) }));
    yield* call(() => file.attachments.push(table));
    yield* call(() => file.attachments.pop());
    yield* call(() => close(receiver, got));
  }
  const drive = (count) => {
    for (let i = 0; i < count; i++) for (const _ of one());
  };
  drive(rounds / 4);
  const start = cpuSeconds();
  drive(rounds);
  const spent = cpuSeconds() - start;
  if (pool.length !== 64) throw new Error('a page was lost');
  return rounds / spent;
}

function poll() {
  const rounds = Math.ceil(20_000_000 / COUNT);
  const table = Array.from({ length: COUNT }, () => ({ references: 1, signaled: false }));
  table[COUNT - 1].signaled = true;
  const requests = table.map((_, fd) => ({ fd, events: 1, revents: 0 }));
  const ask = () => {
    let ready = 0;
    for (const request of requests) {
      request.revents = table[request.fd].signaled ? request.events : 0;
      if (request.revents !== 0) ready++;
    }
    return ready;
  };
  const drive = (count) => {
    let ready = 0;
    for (let i = 0; i < count; i++) ready += call(ask).next().value;
    return ready;
  };
  drive(Math.ceil(rounds / 4));
  const start = cpuSeconds();
  if (drive(rounds) !== rounds) throw new Error('not one ready in each round');
  return (rounds * COUNT) / (cpuSeconds() - start);
}

function timeline() {
  const rounds = Math.ceil(4_000_000 / COUNT);
  let spent = 0;
  for (let round = -1; round < rounds; round++) {
    const start = cpuSeconds();
    const links = [];
    let first = 0;
    for (let point = 1; point <= COUNT; point++) links.push({ point, signaled: false, references: 1 });
    for (let point = 1; point <= COUNT; point++) {
      let low = first;
      let high = links.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (links[middle].point >= point) high = middle;
        else low = middle + 1;
      }
      links[low].signaled = true;
      while (links[first]?.signaled) first++;
    }
    if (first !== COUNT) throw new Error(`reached ${first}`);
    if (round >= 0) spent += cpuSeconds() - start;
  }
  return (rounds * COUNT) / spent;
}

console.log(JSON.stringify({ value: { share, poll, timeline }[what]() }));
