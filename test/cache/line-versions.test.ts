import { describe, expect, it } from 'vitest';
import { LINES_PER_CHUNK, LineVersions, SPLIT, VersionChunk } from '../../src/cache/line-versions.ts';

describe('VersionChunk', () => {
  it('counts the lines whose memory is not the newest, one by one and by ranges', () => {
    const chunk = new VersionChunk(3);
    chunk.fill(0, 100, 1);
    expect([chunk.behind, chunk.memoryAt(5)]).toEqual([0, 1]);
    chunk.set(5, 2, 1);
    chunk.set(6, 3, 1);
    chunk.set(6, 4, 1);
    expect([chunk.behind, chunk.newest[5], chunk.memoryAt(5), chunk.memoryAt(7)]).toEqual([2, 2, 1, 1]);
    chunk.set(5, 2, 2);
    expect(chunk.behind).toBe(1);
    chunk.fill(0, 100, 5);
    expect([chunk.behind, chunk.newest[6], chunk.memoryAt(6)]).toEqual([0, 5, 5]);
  });

  it('counts split lines, which are behind whatever memory holds', () => {
    const chunk = new VersionChunk(0);
    chunk.set(9, SPLIT, 0);
    chunk.set(9, SPLIT, 0);
    expect([chunk.behind, chunk.splits]).toEqual([1, 1]);
    chunk.set(9, 7, 7);
    expect([chunk.behind, chunk.splits]).toEqual([0, 0]);
  });
});

describe('LineVersions', () => {
  it('gives each line the chunk it lies in, far apart or near', () => {
    const lines = new LineVersions();
    const far = 2 ** 45 + 3 * LINES_PER_CHUNK + 17;
    expect(lines.existing(far)).toBeUndefined();
    const chunk = lines.chunkOf(far);
    expect(far - chunk.first).toBe(17);
    expect(lines.chunkOf(far - 17)).toBe(chunk);
    for (let n = 0; n < 40; n++) lines.chunkOf(n * LINES_PER_CHUNK);
    expect(lines.chunkOf(far + 1)).toBe(chunk);
    expect(lines.existing(far)).toBe(chunk);
    expect(lines.chunkOf(far + LINES_PER_CHUNK)).not.toBe(chunk);
  });

  it('has a chunk that was filled whole ready when a line of it is asked for', () => {
    const lines = new LineVersions();
    const first = 5 * LINES_PER_CHUNK;
    lines.chunkOf(first + 3).set(3, 2, 1);
    lines.wholeChunk(first).fillAll(7);
    const whole = lines.existing(first);
    expect([whole?.behind, whole?.newestAt(3), whole?.newestAt(4)]).toEqual([0, 7, 7]);
    const chunk = lines.chunkOf(first + 3);
    expect([chunk.newest[3], chunk.memoryAt(3), chunk.newest[LINES_PER_CHUNK - 1]]).toEqual([7, 7, 7]);
    chunk.set(3, 8, 7);
    expect([lines.existing(first)?.newestAt(3), chunk.memoryAt(3), chunk.memoryAt(4), chunk.behind]).toEqual([
      8, 7, 7, 1,
    ]);
    lines.wholeChunk(first).fillAll(9);
    lines.wholeChunk(first).fillAll(10);
    expect([lines.chunkOf(first).newest[3], lines.chunkOf(first).memoryAt(3)]).toEqual([10, 10]);
  });
});
