/** Why bytes went wrong: the one call that is missing, and between which two accesses it belongs. */
import type { HazardSide } from './watch-hazards.ts';

/** Kinds of causes; each has a line in `docs/hazards.md`. */
export type CauseCode =
  /** The CPU reads what a device wrote without a bracket that was begun for reading. */
  | 'missing-begin-cpu-access'
  /** The CPU wrote, and no bracket for writing was ended before the device read. */
  | 'missing-end-cpu-access'
  /** The call was made, for the other direction. */
  | 'wrong-direction'
  /** The call was made, for other bytes. */
  | 'range-too-small'
  /** The call was made, and the exporter does nothing there. */
  | 'exporter-does-not-sync'
  /** A driver's own mapping: `dmaSync…ForCpu` or the unmap is missing. */
  | 'missing-sync-for-cpu'
  /** A driver's own mapping: `dmaSync…ForDevice` is missing. */
  | 'missing-sync-for-device'
  /** The mapping or its end was told to skip the sync (`skipCpuSync`). */
  | 'skipped-sync'
  /** The device has no mapping of these bytes. */
  | 'missing-map'
  /** The bytes are in a bounce buffer, and nothing has copied them. */
  | 'bounce-without-sync'
  /** A device's own cache holds the newest bytes. */
  | 'missing-device-flush'
  /** A device's own cache holds old bytes. */
  | 'missing-device-invalidate'
  /** The bytes wait in a write-combining buffer. */
  | 'missing-barrier'
  /** A fence was not waited for. */
  | 'missing-fence'
  /** The CPU wrote while the device had the buffer. */
  | 'write-outside-bracket'
  /** Two mappings with different attributes over one memory. */
  | 'mixed-attributes'
  /** Two owners share a line. */
  | 'shared-line'
  | 'unknown';

/** What would have prevented a hazard. */
export interface Cause {
  readonly code: CauseCode;
  /** The missing call: `'ioctl(DMA_BUF_IOCTL_SYNC, START | READ)'`, `'dmaSyncSgtableForCpu(camera0, from-device)'`; `''`: no call helps. */
  readonly call: string;
  /** Another call that does the same: `'dmaUnmapSgtable(camera0, from-device)'`, when the mapping may as well end there. */
  readonly or?: string;
  /** The buffer that the call is for: `'frame1'`; absent when nobody named it. */
  readonly object?: string;
  /** Who has to make it: a process or the driver of a device. */
  readonly by: string;
  /** It belongs behind this access, … */
  readonly after: HazardSide | null;
  /** … and before this one. */
  readonly before: HazardSide | null;
  /** The call that was made there and does not do, with its place: `'ioctl(… START | WRITE) at app.ts:12:3'`; `''`: none. */
  readonly instead: string;
}

/** What no call helps against, in words. */
const NO_CALL: Partial<Record<CauseCode, string>> = {
  'mixed-attributes': 'one memory is seen through views that do not share a copy: give both the same attribute',
  'shared-line': 'two owners share a cache line: align the buffer and its size to whole lines',
};

/** @internal The answer to: which call, at which place in the program, would have prevented it? */
export function causeText({ code, call, or, object, by, after, before, instead }: Cause): string {
  const made = instead === '' ? '' : `; made instead: ${instead}`;
  if (call === '') {
    const whose = object === undefined ? '' : ` (bytes of ${object})`;
    return `prevented by: ${NO_CALL[code] ?? 'nothing that is known here'}${whose}${made} [${code}]`;
  }
  const where = [placeText('after', after), placeText('before', before)].filter((text) => text !== '').join(', ');
  const what = `${call}${or === undefined ? '' : ` (or ${or})`}${object === undefined ? '' : ` of ${object}`}`;
  return `prevented by: ${what}, made by ${by}${where === '' ? '' : `, ${where}`}${made} [${code}]`;
}

function placeText(word: string, side: HazardSide | null): string {
  if (side === null) return '';
  const site = side.site === undefined || side.site === '' ? '' : ` at ${side.site}`;
  return `${word} the ${side.action} by ${side.who}${site} (${side.timeNs} ns)`;
}
