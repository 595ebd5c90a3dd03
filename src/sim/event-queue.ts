/**
 * The queue of future events: a two-tier ladder on typed arrays, ordered by (time, sequence).
 *
 * An event is a row of two columns: time and sequence in one, kind, argument and links in the other, so that it takes two
 * lines of the processor's cache. It sits in one of three places, always decided by its bucket number. Times, widths and
 * the start of a window are whole numbers, so events of one instant can not be split:
 *
 * - `near`: a 4-ary heap with all events of the current bucket and of earlier times;
 * - the window: `bucketCount` linked lists of equal, power-of-two width after the current bucket;
 * - `far`: one linked list of everything after the window. When the window is used up, it becomes the next window.
 *
 * A queue of few events has no use for windows: as long as nothing is outside of `near`, the (empty) window begins after
 * the latest event. When `near` grows too long for that, it is spread.
 *
 * Push and pop are O(1) amortised. Cancelling marks the slot; the slot is dropped when it surfaces, or all at once when
 * more are dead than alive. Nothing here knows of tasks or callbacks.
 *
 * @see docs/decisions/0003-event-queue-is-a-two-tier-ladder.md
 */
import { assert } from '../base/assert.ts';
import { EventHeap } from './event-heap.ts';

const FIRST_CAPACITY = 256;
const FEWEST_BUCKETS = 256;
const MOST_BUCKETS = 1 << 19;
/** Aim of a new window: so many events a bucket. */
const EVENTS_PER_BUCKET = 3;
/** Compaction starts only above this many dead events. */
const FEWEST_DEAD = 1024;
/** Slots an {@link EventHandle} can name; the rest of the 53 bits is the generation. */
const HANDLE_SLOTS = 2 ** 24;
/** A queue of fewer events begins to keep all of them in `near`… */
const FEW = 16;
/** …and goes on until they are as many. */
const MANY = 64;
/** First value of fields that hold times, so that the engine takes them for fractions at once and not when they grow. */
const FRACTION = 0.5;
/** Marks a cancelled event. */
const DEAD = -1;
/** Ends a linked list. */
const NIL = -1;
/** Instead of a link: the event was popped, and can still be cancelled. */
const HELD = -2;

/** Names one scheduled event, for `sim.unschedule`; never valid again after the event ran or was cancelled. */
export type EventHandle = number;

/** @internal Used by the scheduler only. */
export class EventQueue {
  /** Time of the event popped last. */
  poppedTime = FRACTION;
  /** Kind and argument of the event popped last. */
  poppedKind = 0;
  poppedArg = 0;

  // An event is a row of each: [2 * slot] time, [+ 1] sequence.
  #order = new Float64Array(FIRST_CAPACITY * 2);
  // [4 * slot] next (links bucket lists, the far list and the free list), [+ 1] kind, [+ 2] argument, [+ 3] generation.
  #word = new Int32Array(FIRST_CAPACITY * 4);
  #freeHead = NIL;
  #slotsUsed = 0;
  #nextSequence = 0;
  #live = 0;
  #dead = 0;

  readonly #near = new EventHeap();

  // window
  #bucketHead = new Int32Array(FEWEST_BUCKETS).fill(NIL);
  #bucketCount = FEWEST_BUCKETS;
  #currentBucket = FEWEST_BUCKETS;
  #windowStart = FRACTION;
  #windowEnd = FRACTION;
  #bucketsPerNano = 1;

  // far
  #farHead = NIL;
  #farLength = 0;
  #farMin = Infinity;
  #farMax = 0;

  constructor() {
    this.poppedTime = 0;
    this.#windowStart = 1;
    this.#windowEnd = 1;
  }

  /** Events that are scheduled and not cancelled. */
  get size(): number {
    return this.#live;
  }

  /** Bytes of host memory that the columns take. */
  get hostBytes(): number {
    return this.#order.length * 16 + this.#near.hostBytes + this.#bucketHead.length * 4;
  }

  /**
   * Schedules an event. Events of one time come out in the order they were pushed.
   *
   * @param time - whole ns, not before the time popped last. @param kind - >= 0.
   */
  push(time: number, kind: number, arg: number): EventHandle {
    const slot = this.add(time, kind, arg);
    return (this.#word[slot * 4 + 3] as number) * HANDLE_SLOTS + slot;
  }

  /** Like {@link push}. @returns a slot that names the event only until it is popped or cancelled, but costs less. */
  add(time: number, kind: number, arg: number): number {
    const slot = this.#freeHead === NIL ? this.#newSlot() : this.#freeHead;
    const words = this.#word; // read after #newSlot, which may replace it
    const row = slot * 4;
    this.#freeHead = words[row] as number;
    words[row + 1] = kind;
    words[row + 2] = arg;
    const sequence = this.#nextSequence++;
    if (time < this.#windowStart && this.#near.length < MANY) this.#near.push(time, sequence, slot);
    else this.#place(slot, time, sequence);
    this.#live++;
    return slot;
  }

  /** Takes an event out. @returns false if it ran already or was cancelled before. */
  cancel(handle: EventHandle): boolean {
    const slot = handle % HANDLE_SLOTS;
    if (slot >= this.#slotsUsed) return false;
    if (this.#word[slot * 4 + 3] !== Math.floor(handle / HANDLE_SLOTS) || this.#word[slot * 4 + 1] === DEAD)
      return false;
    if (this.#word[slot * 4] === HELD) this.#word[slot * 4 + 1] = DEAD;
    else this.cancelSlot(slot);
    return true;
  }

  /** Takes the pending event of `slot` out. */
  cancelSlot(slot: number): void {
    this.#word[slot * 4 + 1] = DEAD;
    this.#live--;
    this.#dead++;
    if (this.#dead > FEWEST_DEAD && this.#dead > this.#live && this.#dead * 8 > this.#slotsUsed) this.#compact();
  }

  /** Time of the earliest event; Infinity when empty. */
  nextTime(): number {
    return this.#settle() ? (this.#near.times[0] as number) : Infinity;
  }

  /**
   * True when an event at exactly `poppedTime` is left. Cheaper than {@link nextTime}: all events of one instant are in
   * one bucket, so only `near` can hold it.
   */
  hasMoreAtPoppedTime(): boolean {
    while (this.#near.length > 0 && this.#near.times[0] === this.poppedTime) {
      if (this.#word[(this.#near.slots[0] as number) * 4 + 1] !== DEAD) return true;
      this.#dropRoot();
    }
    return false;
  }

  /** Pops the earliest event into `poppedTime`, `poppedKind`, `poppedArg`. @returns false when empty. */
  pop(): boolean {
    const slot = this.popHeld();
    if (slot < 0) return false;
    this.#free(slot);
    return true;
  }

  /**
   * Pops the earliest event, like {@link pop}, but leaves the say to {@link cancel} until {@link release} is called.
   *
   * @returns its slot; -1 when empty.
   */
  popHeld(): number {
    if (!this.#settle()) return -1;
    const slot = this.#near.slots[0] as number;
    this.poppedTime = this.#near.times[0] as number;
    this.poppedKind = this.#word[slot * 4 + 1] as number;
    this.poppedArg = this.#word[slot * 4 + 2] as number;
    this.#near.removeRoot();
    this.#word[slot * 4] = HELD;
    this.#live--;
    return slot;
  }

  /** Whether a held event was not cancelled. */
  isHeld(slot: number): boolean {
    return this.#word[slot * 4 + 1] !== DEAD;
  }

  /** Lets go of a held event. @returns false if it was cancelled meanwhile. */
  release(slot: number): boolean {
    const due = this.#word[slot * 4 + 1] !== DEAD;
    this.#free(slot);
    return due;
  }

  /** Brings a live event to the root of `near`. @returns false when the queue is empty. */
  #settle(): boolean {
    if (this.#live === 0) return false;
    for (;;) {
      if (this.#near.length === 0) this.#refill();
      if (this.#word[(this.#near.slots[0] as number) * 4 + 1] !== DEAD) return true;
      this.#dropRoot();
    }
  }

  #place(slot: number, time: number, sequence: number): void {
    if (time < this.#windowStart) {
      if (this.#near.length < MANY || this.#windowStart < this.#windowEnd || time <= this.poppedTime) {
        return this.#near.push(time, sequence, slot);
      }
      this.#spread();
    } else if (time < this.#windowEnd) {
      const bucket = ((time - this.#windowStart) * this.#bucketsPerNano) | 0;
      if (bucket <= this.#currentBucket) return this.#near.push(time, sequence, slot);
      this.#order[slot * 2] = time;
      this.#order[slot * 2 + 1] = sequence;
      this.#word[slot * 4] = this.#bucketHead[bucket] as number;
      this.#bucketHead[bucket] = slot;
      return;
    } else if (this.#near.length < FEW && this.#near.length === this.#live + this.#dead) {
      this.#windowStart = time + 1;
      this.#windowEnd = this.#windowStart;
      return this.#near.push(time, sequence, slot);
    }
    this.#order[slot * 2] = time;
    this.#order[slot * 2 + 1] = sequence;
    this.#word[slot * 4] = this.#farHead;
    this.#farHead = slot;
    this.#farLength++;
    if (time < this.#farMin) this.#farMin = time;
    if (time > this.#farMax) this.#farMax = time;
  }

  /** Ends the time when everything is in `near`: what is not due at this instant goes to the far list. */
  #spread(): void {
    const length = this.#near.length;
    this.#saveHeap();
    this.#near.length = 0;
    this.#windowStart = this.poppedTime + 1;
    this.#windowEnd = this.#windowStart;
    for (const slot of this.#near.slots.slice(0, length)) {
      this.#place(slot, this.#order[slot * 2] as number, this.#order[slot * 2 + 1] as number);
    }
  }

  /** Writes the order of the events in `near` to their rows, where it is not kept. */
  #saveHeap(): void {
    for (let i = 0; i < this.#near.length; i++) {
      const slot = this.#near.slots[i] as number;
      this.#order[slot * 2] = this.#near.times[i] as number;
      this.#order[slot * 2 + 1] = this.#near.sequences[i] as number;
    }
  }

  /** Moves the next bucket that holds events into `near`; opens a new window when none is left. */
  #refill(): void {
    for (;;) {
      while (++this.#currentBucket < this.#bucketCount) {
        let slot = this.#bucketHead[this.#currentBucket] as number;
        if (slot === NIL) continue;
        this.#bucketHead[this.#currentBucket] = NIL;
        while (slot !== NIL) {
          this.#near.push(this.#order[slot * 2] as number, this.#order[slot * 2 + 1] as number, slot);
          slot = this.#word[slot * 4] as number;
        }
        return;
      }
      this.#openWindow();
    }
  }

  /** Spreads the far list over a new window. Widths are powers of two, so that bucket numbers are exact. */
  #openWindow(): void {
    assert(this.#farLength > 0, 'event queue: %s events counted but none found', this.#live);
    let wanted = FEWEST_BUCKETS;
    while (wanted * EVENTS_PER_BUCKET < this.#farLength && wanted < MOST_BUCKETS) wanted *= 2;
    if (wanted !== this.#bucketCount) {
      this.#bucketCount = wanted;
      this.#bucketHead = new Int32Array(wanted).fill(NIL);
    }
    const start = this.#farMin;
    let width = 1;
    while (width * wanted <= this.#farMax - start) width *= 2;
    this.#windowStart = start;
    this.#windowEnd = start + width * wanted;
    this.#bucketsPerNano = 1 / width;
    this.#currentBucket = -1;
    let slot = this.#farHead;
    this.#farHead = NIL;
    this.#farLength = 0;
    this.#farMin = Infinity;
    this.#farMax = 0;
    while (slot !== NIL) {
      const after = this.#word[slot * 4] as number;
      const bucket = (((this.#order[slot * 2] as number) - start) * this.#bucketsPerNano) | 0;
      this.#word[slot * 4] = this.#bucketHead[bucket] as number;
      this.#bucketHead[bucket] = slot;
      slot = after;
    }
  }

  /** Removes the dead event at the root. */
  #dropRoot(): void {
    const slot = this.#near.slots[0] as number;
    this.#near.removeRoot();
    this.#free(slot);
    this.#dead--;
  }

  #free(slot: number): void {
    const row = slot * 4;
    this.#word[row] = this.#freeHead;
    this.#word[row + 1] = DEAD;
    this.#word[row + 3] = ((this.#word[row + 3] as number) + 1) & 0x1fffffff;
    this.#freeHead = slot;
  }

  #newSlot(): number {
    const slot = this.#slotsUsed++;
    if (slot * 2 === this.#order.length) this.#growRows();
    this.#word[slot * 4] = NIL;
    return slot;
  }

  #growRows(): void {
    const capacity = this.#order.length;
    assert(capacity <= HANDLE_SLOTS, 'event queue: more than %s events are pending', HANDLE_SLOTS);
    this.#order = grown(this.#order, new Float64Array(capacity * 2));
    this.#word = grown(this.#word, new Int32Array(capacity * 4));
  }

  /** Frees all dead events: puts the live ones of every tier into the far list again and opens a window over them. */
  #compact(): void {
    const slots: number[] = [];
    const drop = new Uint8Array(this.#slotsUsed);
    for (let slot = this.#freeHead; slot !== NIL; slot = this.#word[slot * 4] as number) drop[slot] = 1;
    for (let slot = 0; slot < this.#slotsUsed; slot++) {
      if (drop[slot] === 0 && this.#word[slot * 4] !== HELD) slots.push(slot);
    }
    this.#saveHeap();
    this.#near.length = 0;
    this.#bucketHead.fill(NIL);
    this.#farHead = NIL;
    this.#farLength = 0;
    this.#farMin = Infinity;
    this.#farMax = 0;
    // What is due at the present instant must stay in `near`, where hasMoreAtPoppedTime looks.
    this.#windowStart = this.poppedTime + 1;
    this.#windowEnd = this.#windowStart;
    this.#currentBucket = this.#bucketCount;
    this.#dead = 0;
    for (const slot of slots) {
      if (this.#word[slot * 4 + 1] === DEAD) this.#free(slot);
      else this.#place(slot, this.#order[slot * 2] as number, this.#order[slot * 2 + 1] as number);
    }
  }
}

function grown<A extends Float64Array | Int32Array>(from: A, to: A): A {
  to.set(from);
  return to;
}
