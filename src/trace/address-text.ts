/** Mappings in words, for reports. */
import type { AddressEnd, AddressMapping } from './address-book.ts';

/** `"'frame1', mapped by dmaMapSgtable at 120 ns (camera.ts:3:1)"`. Plain. */
export function mappingText({ object, call, sinceNs, site }: AddressMapping): string {
  const what = object === '' ? 'memory' : `'${object}'`;
  return `${what}, mapped by ${call} at ${sinceNs} ns${placeText(site)}`;
}

/** `'ended by dmaUnmapSgtable at 300 ns (camera.ts:9:1)'`. Plain. */
export function endText({ how, call, timeNs, site }: AddressEnd): string {
  return `${WORDS[how]} by ${call} at ${timeNs} ns${placeText(site)}`;
}

/** `' (camera.ts:9:1)'`, or nothing. Plain. */
export function placeText(site: { readonly text: string } | null): string {
  const text = site?.text ?? '';
  return text === '' ? '' : ` (${text})`;
}

const WORDS: Readonly<Record<AddressEnd['how'], string>> = {
  unmap: 'unmapped',
  move: 'taken away',
  revoke: 'revoked',
  detach: 'detached',
  'device-removed': 'ended with its device',
  exit: 'ended with its process',
};
