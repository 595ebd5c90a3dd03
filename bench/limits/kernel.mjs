/**
 * Bare loops for the event kernel: queues and generators without interface, checks, tracing or errors.
 *
 *     node kernel.mjs hold|pingpong|pingtime|procs|wake N OPERATIONS     prints { "value": operations a second }
 */
import process from 'node:process';
import { cpuSeconds } from './cpu-seconds.mjs';
import { exponentialTable } from './exponential.mjs';
import { Ladder, QuadHeap } from './ladder.mjs';

const table = exponentialTable();
let drawn = 0;
const increment = () => table[drawn++ & 65535];

/** Times `run(operations)` after a warm-up. */
function rate(run, warmUp, operations) {
  run(warmUp);
  const start = cpuSeconds();
  run(operations);
  return operations / (cpuSeconds() - start);
}

/** Takes the earliest event and adds one, with `n` pending. */
function hold(n, operations) {
  const queue = new Ladder(n + 8);
  for (let i = 0; i < n; i++) queue.push(increment(), i);
  const run = (count) => {
    for (let i = 0; i < count; i++) {
      const slot = queue.pop();
      queue.push(queue.now + increment(), slot);
    }
  };
  const value = rate(run, Math.min(operations, Math.max(200000, n)), operations);
  for (let i = 0, last = -1; i < Math.min(n, 1000); i++) {
    queue.pop();
    if (queue.now < last) throw new Error('events came out of order');
    last = queue.now;
  }
  return value;
}

/** Two generators wake each other through event objects and a ring. */
function pingpong(_n, operations) {
  const ring = new Int32Array(1024);
  let head = 0;
  let tail = 0;
  const fire = (event) => {
    if (event.waiter < 0) return;
    ring[tail++ & 1023] = event.waiter;
    event.waiter = -1;
  };
  const run = (count) => {
    let left = count;
    const events = [{ waiter: -1 }, { waiter: -1 }];
    const body = function* (mine, other) {
      while (left > 0) {
        left--;
        fire(other);
        yield mine;
      }
      fire(other);
    };
    const tasks = [body(events[0], events[1]), body(events[1], events[0])];
    ring[tail++ & 1023] = 1;
    ring[tail++ & 1023] = 0;
    while (head !== tail) {
      const task = ring[head++ & 1023];
      const result = tasks[task].next();
      if (!result.done) result.value.waiter = task;
    }
  };
  return rate(run, 300000, operations);
}

/** The same through events one tick later. */
function pingtime(_n, operations) {
  const queue = new QuadHeap(64);
  const run = (count) => {
    let left = count;
    const body = function* (other) {
      while (left > 0) {
        left--;
        queue.push(queue.now + 1, other);
        yield;
      }
    };
    const tasks = [body(1), body(0)];
    queue.length = 0;
    queue.push(0, 0);
    while (queue.length > 0) tasks[queue.pop()].next();
  };
  return rate(run, 300000, operations);
}

/** `n` generators, each of which sleeps again and again. */
function procs(n, operations) {
  const queue = new Ladder(n + 8);
  const body = function* () {
    for (;;) yield increment();
  };
  const tasks = Array.from({ length: n }, body);
  for (const [i, task] of tasks.entries()) queue.push(task.next().value, i);
  const run = (count) => {
    for (let i = 0; i < count; i++) {
      const task = queue.pop();
      queue.push(queue.now + tasks[task].next().value, task);
    }
  };
  return rate(run, 200000, operations);
}

/** One event wakes `n` generators, again and again. */
function wake(n, operations) {
  const event = { waiters: [] };
  let woken = 0;
  const body = function* () {
    for (;;) {
      yield event;
      woken++;
    }
  };
  for (let i = 0; i < n; i++) {
    const task = body();
    task.next().value.waiters.push(task);
  }
  const run = (count) => {
    woken = 0;
    while (woken < count) {
      const { waiters } = event;
      event.waiters = [];
      for (const task of waiters) task.next().value.waiters.push(task);
    }
  };
  return rate(run, 200000, operations);
}

const loops = { hold, pingpong, pingtime, procs, wake };
const [loop, n, operations] = process.argv.slice(2);
console.log(JSON.stringify({ value: loops[loop](Number(n), Number(operations)) }));
