/** The shadow of one write-combining buffer: what waits in it, and what it destroys when it drains. */
import type { BufferCopy } from './line-at-hand.ts';
import type { CopyNumber } from './lower-level.ts';
import { noLoss, type ShadowLines } from './shadow-lines.ts';
import type { WriteBufferObserver, WriteCombiningBuffer } from './write-combining.ts';

/** Watches one write-combining buffer for a shadow. @internal */
export class BufferShadow implements WriteBufferObserver {
  readonly #lines: ShadowLines;
  readonly #copy: BufferCopy;

  constructor(lines: ShadowLines, buffer: WriteCombiningBuffer) {
    this.#lines = lines;
    this.#copy = lines.addBuffer(buffer);
  }

  pendingWritten(entry: number, line: number, from: number, to: number): void {
    const { version, versions, splits, lineBytes } = this.#lines;
    const base = this.#lines.recordOf(line, versions.chunkOf(line));
    const at = entry * lineBytes;
    splits.newest.fill(version, base + from, base + to);
    this.#copy.pending.fill(version, at + from, at + to);
  }

  draining(entry: number, line: number, from: number, to: number, target: CopyNumber): void {
    const lines = this.#lines;
    const { buffer, pending } = this.#copy;
    const base = lines.recordOf(line, lines.versions.chunkOf(line));
    const { newest } = lines.splits;
    const over = lines.bytesOf(target);
    const bytes = lines.hand.take(line);
    const lost = noLoss('write-back');
    let destroyer = 0;
    for (let b = from; b < to; b++) {
      const at = entry * lines.lineBytes + b;
      if (buffer.mask[at] === 0) continue;
      const want = newest[base + b] as number;
      const mine = pending[at] as number;
      if (mine !== want && over[base + b] === want && !lines.isKept(base, b, want, target)) {
        if (bytes && lines.hand.byteIn(target, b) === buffer.bytes[at]) continue;
        const value = bytes ? lines.hand.byteIn(target, b) : 0;
        lines.markLost(lost, line, base, b, want, value, bytes ? (buffer.bytes[at] as number) : -1);
        destroyer = mine;
      }
      over[base + b] = mine;
    }
    lines.noteLost(lost, line, lines.log.writer(destroyer), destroyer);
  }

  drained(line: number): void {
    const base = this.#lines.splits.baseOf(line);
    if (base >= 0) this.#lines.settle(line, this.#lines.versions.chunkOf(line), base);
  }
}
