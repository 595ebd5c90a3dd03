/**
 * For every frame ever allocated: the allocation it belongs to now, and who had it before and until when.
 *
 * Kept in chunks of {@link CHUNK_FRAMES} frames that come into being when a frame in them is first allocated; a chunk
 * whose frames all agree is one record, so a whole device memory handed out at once costs a record per 4 MiB.
 */
/** Frames in a chunk. */
const CHUNK_FRAMES = 1024;

/** What is known of the frames of a chunk; `slot` and `previous` are 1-based, 0 for none. */
interface OwnerChunk {
  slot: number;
  previous: number;
  freedAtNs: number;
  /** Present once frames of the chunk differ; the three fields above are meaningless then. */
  split: { slots: Int32Array; previous: Int32Array; freedAtNs: Float64Array } | undefined;
}

/**
 * Owners by frame number.
 *
 * @internal
 */
export class FrameOwners {
  readonly #chunks = new Map<number, OwnerChunk>();

  /** Marks frames [first, first + count) as part of allocation `slot`. */
  assign(first: number, count: number, slot: number): void {
    for (let frame = first; frame < first + count; ) {
      const from = frame % CHUNK_FRAMES;
      const to = Math.min(CHUNK_FRAMES, from + first + count - frame);
      const chunk = this.#chunkAt(frame, to - from);
      if (chunk.split === undefined) chunk.slot = slot + 1;
      else chunk.split.slots.fill(slot + 1, from, to);
      frame += to - from;
    }
  }

  /** Marks frames [first, first + count) as free since `nowNs`, last owned by `owner`. */
  release(first: number, count: number, owner: number, nowNs: number): void {
    for (let frame = first; frame < first + count; ) {
      const from = frame % CHUNK_FRAMES;
      const to = Math.min(CHUNK_FRAMES, from + first + count - frame);
      const chunk = this.#chunkAt(frame, to - from);
      if (chunk.split === undefined) {
        chunk.slot = 0;
        chunk.previous = owner + 1;
        chunk.freedAtNs = nowNs;
      } else {
        chunk.split.slots.fill(0, from, to);
        chunk.split.previous.fill(owner + 1, from, to);
        chunk.split.freedAtNs.fill(nowNs, from, to);
      }
      frame += to - from;
    }
  }

  /** The allocation that `frame` is part of, or -1. */
  slotAt(frame: number): number {
    const chunk = this.#chunks.get(Math.floor(frame / CHUNK_FRAMES));
    if (chunk === undefined) return -1;
    return (chunk.split === undefined ? chunk.slot : (chunk.split.slots[frame % CHUNK_FRAMES] as number)) - 1;
  }

  /** The last owner that gave `frame` back, or -1. */
  previousAt(frame: number): number {
    const chunk = this.#chunks.get(Math.floor(frame / CHUNK_FRAMES));
    if (chunk === undefined) return -1;
    return (chunk.split === undefined ? chunk.previous : (chunk.split.previous[frame % CHUNK_FRAMES] as number)) - 1;
  }

  /** When {@link previousAt} gave `frame` back, in ns. */
  freedAtNs(frame: number): number {
    const chunk = this.#chunks.get(Math.floor(frame / CHUNK_FRAMES));
    if (chunk === undefined) return 0;
    return chunk.split === undefined ? chunk.freedAtNs : (chunk.split.freedAtNs[frame % CHUNK_FRAMES] as number);
  }

  /** The chunk of `frame`, split unless all of its frames are about to change alike. */
  #chunkAt(frame: number, changing: number): OwnerChunk {
    const index = Math.floor(frame / CHUNK_FRAMES);
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = { slot: 0, previous: 0, freedAtNs: 0, split: undefined };
      this.#chunks.set(index, chunk);
    }
    if (changing < CHUNK_FRAMES && chunk.split === undefined) splitChunk(chunk);
    return chunk;
  }
}

function splitChunk(chunk: OwnerChunk): void {
  chunk.split = {
    slots: new Int32Array(CHUNK_FRAMES).fill(chunk.slot),
    previous: new Int32Array(CHUNK_FRAMES).fill(chunk.previous),
    freedAtNs: new Float64Array(CHUNK_FRAMES).fill(chunk.freedAtNs),
  };
}
