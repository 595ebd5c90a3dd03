import { describe, expect, it } from 'vitest';
import { GIB, MIB } from '../../src/base/units.ts';
import { divideIntoZones, zonelist } from '../../src/mem/zone.ts';

const frames = (bytes: number) => bytes / 4096;

describe('divideIntoZones', () => {
  const ram = [
    { first: 0, count: frames(3 * GIB) },
    { first: frames(4 * GIB), count: frames(2 * GIB) },
  ];

  it('cuts RAM at 16 MiB and 4 GiB', () => {
    expect(divideIntoZones(ram, {})).toEqual([
      { name: 'DMA', ranges: [{ first: 0, count: frames(16 * MIB) }] },
      { name: 'DMA32', ranges: [{ first: frames(16 * MIB), count: frames(3 * GIB - 16 * MIB) }] },
      { name: 'NORMAL', ranges: [{ first: frames(4 * GIB), count: frames(2 * GIB) }] },
    ]);
  });

  it('has no empty zones, and other limits where a platform has them', () => {
    const high = [{ first: frames(8 * GIB), count: 5 }];
    expect(divideIntoZones(high, {}).map((zone) => zone.name)).toEqual(['NORMAL']);
    const zones = divideIntoZones(ram, { dmaEnd: GIB, dma32End: GIB });
    expect(zones.map((zone) => [zone.name, zone.ranges[0]?.count])).toEqual([
      ['DMA', frames(GIB)],
      ['NORMAL', frames(2 * GIB)],
    ]);
  });

  it('makes the top of the highest zone movable, its start rounded up to 4 MiB, across holes', () => {
    const zones = divideIntoZones(
      [
        { first: frames(4 * GIB), count: 5000 },
        { first: frames(5 * GIB), count: 1000 },
      ],
      { movableBytes: 2000 * 4096 },
    );
    const border = frames(4 * GIB) + 4096;
    expect(zones).toEqual([
      { name: 'NORMAL', ranges: [{ first: frames(4 * GIB), count: 4096 }] },
      {
        name: 'MOVABLE',
        ranges: [
          { first: border, count: 904 },
          { first: frames(5 * GIB), count: 1000 },
        ],
      },
    ]);
  });

  it('refuses limits that are wrong and names them', () => {
    expect(() => divideIntoZones(ram, { dmaEnd: MIB })).toThrow(/dmaEnd 1048576/);
    expect(() => divideIntoZones(ram, { dma32End: 8 * MIB })).toThrow(/dmaEnd .* above dma32End/);
    expect(() => divideIntoZones(ram, { movableBytes: 3 * GIB })).toThrow(/movableBytes/);
    expect(() => divideIntoZones(ram, { movableBytes: -1 })).toThrow(/movableBytes -1/);
  });
});

describe('zonelist', () => {
  it('falls back downwards only', () => {
    expect(zonelist('MOVABLE')).toEqual(['MOVABLE', 'NORMAL', 'DMA32', 'DMA']);
    expect(zonelist('NORMAL')).toEqual(['NORMAL', 'DMA32', 'DMA']);
    expect(zonelist('DMA32')).toEqual(['DMA32', 'DMA']);
    expect(zonelist('DMA')).toEqual(['DMA']);
  });
});
