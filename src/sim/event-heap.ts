/** A 4-ary heap of (time, sequence, slot) on typed arrays: the events that are next. */
const FIRST_CAPACITY = 256;

/** @internal Used by the event queue only, which reads the root at index 0 itself. */
export class EventHeap {
  times = new Float64Array(FIRST_CAPACITY);
  sequences = new Float64Array(FIRST_CAPACITY);
  slots = new Int32Array(FIRST_CAPACITY);
  length = 0;

  /** Bytes of host memory that the columns take. */
  get hostBytes(): number {
    return this.times.length * 20;
  }

  /** Adds an event. */
  push(time: number, sequence: number, slot: number): void {
    let i = this.length++;
    if (i === this.times.length) this.#grow();
    const times = this.times;
    const sequences = this.sequences;
    const slots = this.slots;
    while (i > 0) {
      const parent = (i - 1) >> 2;
      const parentTime = times[parent] as number;
      if (parentTime < time || (parentTime === time && (sequences[parent] as number) < sequence)) break;
      times[i] = parentTime;
      sequences[i] = sequences[parent] as number;
      slots[i] = slots[parent] as number;
      i = parent;
    }
    times[i] = time;
    sequences[i] = sequence;
    slots[i] = slot;
  }

  /** Takes the earliest event off. The heap must not be empty. */
  removeRoot(): void {
    const length = --this.length;
    if (length === 0) return;
    const times = this.times;
    const sequences = this.sequences;
    const slots = this.slots;
    const time = times[length] as number;
    const sequence = sequences[length] as number;
    let i = 0;
    for (;;) {
      const first = 4 * i + 1;
      if (first >= length) break;
      let least = first;
      let leastTime = times[first] as number;
      const end = first + 4 < length ? first + 4 : length;
      for (let k = first + 1; k < end; k++) {
        const t = times[k] as number;
        if (t < leastTime || (t === leastTime && (sequences[k] as number) < (sequences[least] as number))) {
          least = k;
          leastTime = t;
        }
      }
      if (time < leastTime || (time === leastTime && sequence < (sequences[least] as number))) break;
      times[i] = leastTime;
      sequences[i] = sequences[least] as number;
      slots[i] = slots[least] as number;
      i = least;
    }
    times[i] = time;
    sequences[i] = sequence;
    slots[i] = slots[length] as number;
  }

  #grow(): void {
    const { times, sequences, slots } = this;
    this.times = new Float64Array(times.length * 2);
    this.sequences = new Float64Array(times.length * 2);
    this.slots = new Int32Array(times.length * 2);
    this.times.set(times);
    this.sequences.set(sequences);
    this.slots.set(slots);
  }
}
