import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type EventHandle, EventQueue } from '../../src/sim/event-queue.ts';
import { Prng } from '../../src/sim/prng.ts';

interface Entry {
  readonly time: number;
  readonly arg: number;
  readonly handle: EventHandle;
}

/** The slow obvious queue: a list kept in order. */
class SortedList {
  readonly entries: Entry[] = [];
  poppedTime = 0;

  push(entry: Entry): void {
    let low = 0;
    let high = this.entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.entries[middle]?.time ?? 0) <= entry.time) low = middle + 1;
      else high = middle;
    }
    this.entries.splice(low, 0, entry);
  }

  pop(): Entry | undefined {
    const entry = this.entries.shift();
    if (entry !== undefined) this.poppedTime = entry.time;
    return entry;
  }

  cancel(handle: EventHandle): boolean {
    const at = this.entries.findIndex((entry) => entry.handle === handle);
    if (at >= 0) this.entries.splice(at, 1);
    return at >= 0;
  }
}

type Command =
  | { readonly do: 'push'; readonly delays: readonly number[]; readonly times: number }
  | { readonly do: 'pop'; readonly count: number }
  | { readonly do: 'cancel'; readonly pick: number; readonly count: number };

const delay = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 3 }) },
  { weight: 3, arbitrary: fc.integer({ min: 0, max: 2000 }) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 44 }).map((power) => 2 ** power) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 44 }).map((power) => 2 ** power - 1) },
  { weight: 1, arbitrary: fc.maxSafeNat().map((n) => n % 2 ** 46) },
);

const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({
    do: fc.constant('push' as const),
    delays: fc.array(delay, { minLength: 1, maxLength: 30 }),
    times: fc.constantFrom(1, 1, 1, 20, 200),
  }),
  fc.record({ do: fc.constant('pop' as const), count: fc.constantFrom(1, 3, 50, 5000) }),
  fc.record({ do: fc.constant('cancel' as const), pick: fc.nat(), count: fc.constantFrom(1, 2, 300, 3000) }),
);

/** Drives the queue and its model side by side. */
class Pair {
  readonly queue = new EventQueue();
  readonly model = new SortedList();
  readonly handles: EventHandle[] = [];
  #pushed = 0;

  do(step: Command): void {
    if (step.do === 'push') this.#push(step.delays, step.times);
    else if (step.do === 'pop') for (let i = 0; i < step.count && this.pop(); i++);
    else this.#cancel(step.pick, step.count);
    expect(this.queue.size).toBe(this.model.entries.length);
  }

  pop(): boolean {
    const wanted = this.model.pop();
    const popped = this.queue.pop();
    expect(popped).toBe(wanted !== undefined);
    if (wanted === undefined) return false;
    const { poppedTime, poppedKind, poppedArg } = this.queue;
    if (poppedTime !== wanted.time || poppedArg !== wanted.arg || poppedKind !== wanted.arg % 5) {
      expect([poppedTime, poppedArg, poppedKind]).toEqual([wanted.time, wanted.arg, wanted.arg % 5]);
    }
    return true;
  }

  #push(delays: readonly number[], times: number): void {
    for (let round = 0; round < times; round++) {
      for (const ns of delays) {
        const arg = this.#pushed++;
        const time = this.model.poppedTime + ns + round;
        const handle = this.queue.push(time, arg % 5, arg);
        this.handles.push(handle);
        this.model.push({ time, arg, handle });
      }
    }
  }

  #cancel(pick: number, count: number): void {
    for (let i = 0; i < count && i < this.handles.length; i++) {
      const handle = this.handles[(pick + i) % this.handles.length] ?? 0;
      const cancelled = this.queue.cancel(handle);
      if (cancelled !== this.model.cancel(handle)) expect([handle, cancelled]).toEqual([handle, !cancelled]);
    }
  }
}

describe('EventQueue', () => {
  it('gives events in the order of time, then of pushing, under any pushes, pops and cancels', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
        const pair = new Pair();
        for (const step of commands) pair.do(step);
        while (pair.pop());
        expect(pair.queue.nextTime()).toBe(Infinity);
      }),
      { numRuns: 150 },
    );
  });

  it('tells the time of the earliest event without changing the order of later pushes before it', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 25 }), (commands) => {
        const pair = new Pair();
        for (const step of commands) {
          pair.do(step);
          expect(pair.queue.nextTime()).toBe(pair.model.entries[0]?.time ?? Infinity);
        }
        while (pair.pop());
      }),
      { numRuns: 60 },
    );
  });

  it('tells whether an event of the present instant is left', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 25 }), (commands) => {
        const pair = new Pair();
        for (const step of commands) {
          pair.do(step);
          const { poppedTime, entries } = pair.model;
          if (poppedTime === 0) continue; // nothing was popped yet
          expect(pair.queue.hasMoreAtPoppedTime()).toBe(entries.length > 0 && entries[0]?.time === poppedTime);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('still knows the events of the present instant after it has thrown out many cancelled ones', () => {
    const queue = new EventQueue();
    queue.push(10, 0, 0);
    queue.push(10, 0, 1);
    const later = Array.from({ length: 3000 }, (_, i) => queue.push(100 + i, 0, 2));
    queue.pop();
    for (const handle of later) queue.cancel(handle);
    expect(queue.hasMoreAtPoppedTime()).toBe(true);
  });

  it('keeps the order when delays grow over many windows', () => {
    const queue = new EventQueue();
    let wanted = 0;
    for (let power = 0; power < 50; power++) {
      queue.push(wanted + 2 ** power, 0, 2 * power);
      queue.push(wanted + 2 ** power, 0, 2 * power + 1);
      expect([queue.pop(), queue.poppedTime, queue.poppedArg]).toEqual([true, wanted + 2 ** power, 2 * power]);
      wanted += 2 ** power;
      expect([queue.pop(), queue.poppedTime, queue.poppedArg]).toEqual([true, wanted, 2 * power + 1]);
    }
  });

  it('never cancels twice, nor with the handle of an event that has run, though slots are used again', () => {
    const queue = new EventQueue();
    const old: EventHandle[] = [];
    for (let i = 0; i < 1000; i++) {
      const ran = queue.push(i, 0, 0);
      const cancelled = queue.push(i, 0, 1);
      expect(queue.cancel(cancelled)).toBe(true);
      expect(queue.pop()).toBe(true);
      old.push(ran, cancelled);
      const live = queue.push(i + 1, 0, 2);
      for (const handle of old.slice(-20)) expect(queue.cancel(handle)).toBe(false);
      expect(queue.cancel(live)).toBe(true);
      expect(queue.size).toBe(0);
    }
    expect(new Set(old).size).toBe(old.length);
  });

  it('refuses handles that it never gave', () => {
    const queue = new EventQueue();
    queue.push(5, 0, 0);
    for (const handle of [-1, 1, 2 ** 24, 2 ** 40]) expect(queue.cancel(handle)).toBe(false);
    expect(queue.size).toBe(1);
  });

  it('gives the room of cancelled events back, so timeouts that never expire do not fill memory', () => {
    const queue = new EventQueue();
    queue.push(2 ** 40, 0, 7);
    for (let i = 0; i < 200_000; i++) queue.cancel(queue.push(1_000_000 + i, 0, 0));
    expect(queue.hostBytes).toBeLessThan(1_000_000);
    expect([queue.size, queue.pop(), queue.poppedArg]).toEqual([1, true, 7]);
  });

  it('holds 2^20 events in at most 100 bytes each, in order, be they spread or all at one time', () => {
    const count = 2 ** 20;
    for (const range of [1, 1000, 2 ** 31]) {
      const queue = new EventQueue();
      const random = new Prng(range).fork('times');
      for (let i = 0; i < count; i++) queue.push(random.int(range), 0, i);
      let ordered = true;
      let time = -1;
      let arg = -1;
      let popped = 0;
      while (queue.pop()) {
        ordered &&= queue.poppedTime > time || (queue.poppedTime === time && queue.poppedArg > arg);
        time = queue.poppedTime;
        arg = queue.poppedArg;
        popped++;
      }
      expect([ordered, popped]).toEqual([true, count]);
      expect(queue.hostBytes / count).toBeLessThanOrEqual(100);
    }
  });
});
