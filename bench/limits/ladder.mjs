/** Bare queues of events, ordered by (time, sequence): what an event queue in this language can at most reach. */

/** A 4-ary heap in three typed arrays. */
export class QuadHeap {
  constructor(capacity) {
    this.times = new Float64Array(capacity + 2);
    this.sequences = new Float64Array(capacity + 2);
    this.slots = new Int32Array(capacity + 2);
    this.length = 0;
    this.sequence = 0;
    this.now = 0;
  }

  push(time, slot) {
    this.pushKey(time, this.sequence++, slot);
  }

  pushKey(time, sequence, slot) {
    const { times, sequences, slots } = this;
    let i = this.length++;
    while (i > 0) {
      const parent = (i - 1) >> 2;
      if (times[parent] < time || (times[parent] === time && sequences[parent] < sequence)) break;
      times[i] = times[parent];
      sequences[i] = sequences[parent];
      slots[i] = slots[parent];
      i = parent;
    }
    times[i] = time;
    sequences[i] = sequence;
    slots[i] = slot;
  }

  pop() {
    const slot = this.slots[0];
    this.now = this.times[0];
    const length = --this.length;
    if (length > 0) this.sink(this.times[length], this.sequences[length], this.slots[length], length);
    return slot;
  }

  sink(time, sequence, slot, length) {
    const { times, sequences, slots } = this;
    let i = 0;
    for (;;) {
      const first = 4 * i + 1;
      if (first >= length) break;
      let least = first;
      let leastTime = times[first];
      const end = first + 4 < length ? first + 4 : length;
      for (let k = first + 1; k < end; k++) {
        const t = times[k];
        if (t < leastTime || (t === leastTime && sequences[k] < sequences[least])) {
          least = k;
          leastTime = t;
        }
      }
      if (time < leastTime || (time === leastTime && sequence < sequences[least])) break;
      times[i] = leastTime;
      sequences[i] = sequences[least];
      slots[i] = slots[least];
      i = least;
    }
    times[i] = time;
    sequences[i] = sequence;
    slots[i] = slot;
  }
}

/** Two tiers: a small heap for what is next, a window of buckets, one list for everything after it. */
export class Ladder {
  constructor(capacity, bucketCount = 1024) {
    this.near = new QuadHeap(capacity);
    this.next = new Int32Array(capacity + 2);
    this.times = new Float64Array(capacity + 2);
    this.sequences = new Float64Array(capacity + 2);
    this.slots = new Int32Array(capacity + 2);
    this.free = Int32Array.from({ length: capacity + 2 }, (_, i) => capacity + 1 - i);
    this.freeLength = capacity + 1;
    this.bucketCount = bucketCount;
    this.heads = new Int32Array(bucketCount);
    this.far = 0;
    this.farLength = 0;
    this.farMin = Infinity;
    this.farMax = 0;
    this.length = 0;
    this.sequence = 0;
    this.now = 0;
    this.bucket = -1;
    this.windowStart = 0;
    this.windowEnd = 0;
    this.perTick = 0;
  }

  push(time, slot) {
    this.length++;
    const sequence = this.sequence++;
    let bucket = -1;
    if (time < this.windowEnd) {
      bucket = ((time - this.windowStart) * this.perTick) | 0;
      if (bucket <= this.bucket) {
        this.near.pushKey(time, sequence, slot);
        return;
      }
      if (bucket >= this.bucketCount) bucket = this.bucketCount - 1;
    }
    const row = this.free[--this.freeLength];
    this.times[row] = time;
    this.sequences[row] = sequence;
    this.slots[row] = slot;
    if (bucket >= 0) {
      this.next[row] = this.heads[bucket];
      this.heads[bucket] = row;
      return;
    }
    this.next[row] = this.far;
    this.far = row;
    this.farLength++;
    if (time < this.farMin) this.farMin = time;
    if (time > this.farMax) this.farMax = time;
  }

  pop() {
    if (this.near.length === 0) this.refill();
    this.length--;
    const slot = this.near.pop();
    this.now = this.near.now;
    return slot;
  }

  refill() {
    const { near, next, times, sequences, slots, free } = this;
    for (;;) {
      while (++this.bucket < this.bucketCount) {
        let row = this.heads[this.bucket];
        if (row === 0) continue;
        this.heads[this.bucket] = 0;
        while (row !== 0) {
          near.pushKey(times[row], sequences[row], slots[row]);
          free[this.freeLength++] = row;
          row = next[row];
        }
        return;
      }
      this.openWindow();
    }
  }

  openWindow() {
    let wanted = 256;
    while (wanted * 3 < this.farLength && wanted < 1 << 19) wanted *= 2;
    if (wanted !== this.bucketCount) {
      this.bucketCount = wanted;
      this.heads = new Int32Array(wanted);
    }
    const width = (this.farMax - this.farMin) / wanted + 1;
    this.windowStart = this.farMin;
    this.windowEnd = this.farMin + width * wanted;
    this.perTick = 1 / width;
    this.bucket = -1;
    let row = this.far;
    this.far = 0;
    this.farLength = 0;
    this.farMin = Infinity;
    this.farMax = 0;
    while (row !== 0) {
      const after = this.next[row];
      let bucket = ((this.times[row] - this.windowStart) * this.perTick) | 0;
      if (bucket >= wanted) bucket = wanted - 1;
      this.next[row] = this.heads[bucket];
      this.heads[bucket] = row;
      row = after;
    }
  }
}
