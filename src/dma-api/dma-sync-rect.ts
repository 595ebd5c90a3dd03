/**
 * Syncs of a rectangle of an image: of each row only its own bytes, so of a wide image only a few lines.
 *
 * @see Linux has no such call; drivers sync row by row with `dma_sync_single_range_for_cpu`, `Documentation/core-api/dma-api.rst`
 */
import type { DmaAddr } from '../base/addr.ts';
import { assert } from '../base/assert.ts';
import type { DmaCaller } from './call-site.ts';
import type { Device } from './device.ts';
import type { DmaDirection } from './direction.ts';
import { checkDir, checkDmaRange, checkPresent } from './dma-args.ts';
import { noteRangesSynced } from './dma-notes.ts';

/** A rectangle in a mapped image, in bytes and rows. */
export interface DmaRect {
  /** From the start of one row to the start of the next. */
  readonly pitchBytes: number;
  /** Where each row of it begins, from the start of the image's row; default 0. */
  readonly x?: number;
  /** Bytes of each row of it. */
  readonly widthBytes: number;
  /** Its first row; default 0. */
  readonly y?: number;
  readonly rows: number;
}

/**
 * The bytes of `rect` of the image at `address`, all in one mapping, go to the CPU. Plain; charges cache maintenance row by row, or once
 * where rows follow each other without a gap.
 *
 * @throws {HazardError} `dma-debug.sync-*`: it does not fit a mapping; nothing has happened then. `*-write.lost`; the sync is done.
 * @throws {InvariantError} a number of `rect` is no whole number in range, or a row is wider than the pitch; nothing has happened.
 */
export function dmaSyncRectForCpu(dev: Device, address: DmaAddr, rect: DmaRect, dir: DmaDirection): void {
  const run = checkRect(dev, dmaSyncRectForCpu, address, rect, dir, true);
  if (run === null) return;
  inRows(dev, run, (at, bytes) => dev.backEnd.syncForCpu(at, bytes, dir));
}

/** As {@link dmaSyncRectForCpu}, to the device. Plain. */
export function dmaSyncRectForDevice(dev: Device, address: DmaAddr, rect: DmaRect, dir: DmaDirection): void {
  const run = checkRect(dev, dmaSyncRectForDevice, address, rect, dir, false);
  if (run === null) return;
  inRows(dev, run, (at, bytes) => dev.backEnd.syncForDevice(at, bytes, dir));
}

/** Runs of equal length at equal distances. */
interface Rows {
  readonly first: number;
  readonly bytes: number;
  readonly pitchBytes: number;
  readonly count: number;
}

function inRows(
  dev: Device,
  { first, bytes, pitchBytes, count }: Rows,
  act: (at: DmaAddr, bytes: number) => void,
): void {
  dev.coherency.asOneAccess(() => {
    for (let row = 0; row < count; row++) act((first + row * pitchBytes) as DmaAddr, bytes);
  });
}

/** @returns what to sync, or `null`: it is in no mapping. */
function checkRect(
  dev: Device,
  caller: DmaCaller,
  address: DmaAddr,
  rect: DmaRect,
  dir: DmaDirection,
  toCpu: boolean,
): Rows | null {
  const { pitchBytes, x = 0, widthBytes, y = 0, rows } = rect;
  checkPresent(caller.name, dev);
  checkDir(caller.name, dir);
  checkWhole(caller.name, 'pitchBytes', pitchBytes, 1);
  checkWhole(caller.name, 'x', x, 0);
  checkWhole(caller.name, 'widthBytes', widthBytes, 1);
  checkWhole(caller.name, 'y', y, 0);
  checkWhole(caller.name, 'rows', rows, 1);
  const isInRow = x + widthBytes <= pitchBytes;
  assert(isInRow, '%s: x %s + widthBytes %s is beyond pitchBytes %s', caller.name, x, widthBytes, pitchBytes);
  const first = address + y * pitchBytes + x;
  const sizeBytes = (rows - 1) * pitchBytes + widthBytes;
  checkDmaRange(caller.name, first, sizeBytes);
  const { dmaDebug: debug, sim } = dev;
  if (debug !== null) {
    const where = { address: first as DmaAddr, phys: -1, sizeBytes, dir };
    const how = { call: caller.name, kind: 'single' as const, sgCallEnts: 0, site: debug.siteOf(caller) };
    if (!debug.syncing(dev, { ...where, ...how }, toCpu)) return null;
  }
  if (sim.trace.enabled) {
    const forWhom = toCpu ? 'cpu' : 'device';
    const bytes = rows * widthBytes;
    sim.trace.emit({ kind: 'dma.sync', timeNs: sim.now, device: dev.name, forWhom, dir, bytes });
  }
  const isWhole = widthBytes === pitchBytes;
  const run = { first, bytes: isWhole ? sizeBytes : widthBytes, pitchBytes, count: isWhole ? 1 : rows };
  if (sim.syncs.enabled) {
    noteRangesSynced(dev, toCpu ? 'sync-for-cpu' : 'sync-for-device', run, { call: caller.name, dir, skipped: false });
  }
  return run;
}

function checkWhole(op: string, what: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  assert(false, '%s: %s %s is no whole number >= %s', op, what, value, least);
}
