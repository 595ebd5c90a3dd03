/** How calls are written in reports: which calls belong to a mapping call, and brackets of CPU access in the words of who makes them. */
import type { Accessor } from '../base/hazards.ts';
import type { SyncRecord } from '../trace/sync-log.ts';

/** What an access needs of a bracket. */
export type BracketAccess = 'read' | 'write' | 'both';

/** What can be done with a mapping. */
export type MappingVerb = 'for-cpu' | 'for-device' | 'unmap';

/** The calls for memory that was mapped or allocated by a call, by what follows `dmaMap` or `dmaAlloc` in its name. */
const SYNCS: Readonly<Record<string, string>> = {
  Sgtable: 'Sgtable',
  Sg: 'Sg',
  Noncontiguous: 'Sgtable',
};

const FLAGS: Readonly<Record<BracketAccess, string>> = { read: 'READ', write: 'WRITE', both: 'RW' };
const DIRECTIONS = { read: 'from-device', write: 'to-device', both: 'bidirectional' } as const;

/** The call that ends or syncs what `mapCall` made: `'dmaSyncSgtableForCpu'` for `'dmaMapSgtable'`. @internal */
export function counterpart(mapCall: string, verb: MappingVerb): string {
  if (verb === 'unmap') {
    return mapCall.replace('dmaMap', 'dmaUnmap').replace('dmaAlloc', 'dmaFree').replace('dmaIovaLink', 'dmaIovaUnlink');
  }
  const kind = SYNCS[mapCall.replace(/^dma(Map|Alloc)/, '')] ?? 'Single';
  return `dmaSync${kind}${verb === 'for-cpu' ? 'ForCpu' : 'ForDevice'}`;
}

/** A bracket call as `accessor` writes it. @internal */
export function bracketCall(accessor: Accessor, step: 'begin' | 'end', access: BracketAccess): string {
  const isIoctl = accessor.brackets === 'ioctl' || (accessor.brackets === undefined && isIoctlText(accessor));
  if (isIoctl) return `ioctl(DMA_BUF_IOCTL_SYNC, ${step === 'begin' ? 'START' : 'END'} | ${FLAGS[access]})`;
  return `${step}CpuAccess(${DIRECTIONS[access]})`;
}

/** What a direction lets the CPU do in a bracket. @internal */
export function accessOf(dir: SyncRecord['dir']): { readonly reads: boolean; readonly writes: boolean } {
  const isBoth = dir === 'bidirectional';
  return { reads: isBoth || dir === 'from-device', writes: isBoth || dir === 'to-device' };
}

/** The name of the function in the text of a call. @internal */
export function functionOf(call: string): string {
  return call.slice(0, call.indexOf('('));
}

/** A call that was made, with its place. @internal */
export function madeText({ call, site }: SyncRecord): string {
  const place = site?.text ?? '';
  return place === '' ? call : `${call} at ${place}`;
}

function isIoctlText({ beforeRead, afterWrite }: Accessor): boolean {
  return beforeRead.startsWith('ioctl(') || afterWrite.startsWith('ioctl(');
}
