/** A fingerprint of a run: equal for equal runs, byte for byte of every event's text. */
import type { TraceBus } from './trace-bus.ts';
import type { TraceEvent } from './trace-events.ts';

/** Folds every event of a bus into 64 bits, FNV-1a style, from the moment it is made. */
export class TraceHash {
  #low = 0x811c9dc5 | 0;
  #high = 0xcbf29ce4 | 0;
  #count = 0;
  readonly #stop: () => void;

  constructor(bus: TraceBus) {
    this.#stop = bus.onAny((event) => {
      this.#fold(`${formatTraceEvent(event)}\n`);
    });
  }

  /** Events folded so far. */
  get count(): number {
    return this.#count;
  }

  /** 16 hexadecimal digits. */
  get digest(): string {
    return [this.#high, this.#low].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }

  /** Stops listening. */
  close(): void {
    this.#stop();
  }

  #fold(text: string): undefined {
    this.#count++;
    let low = this.#low;
    let high = this.#high;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      low = Math.imul(low ^ code, 0x01000193);
      high = Math.imul(high ^ code ^ (low >>> 13), 0x01000193);
    }
    this.#low = low;
    this.#high = high;
  }
}

/** One line of text with every field in the order it was given: `'1200 task.spawn task=gpu0'`. */
export function formatTraceEvent(event: TraceEvent): string {
  const fields = Object.entries(event).filter(([key]) => key !== 'kind' && key !== 'timeNs');
  return [`${event.timeNs} ${event.kind}`, ...fields.map(([key, value]) => `${key}=${value}`)].join(' ');
}
