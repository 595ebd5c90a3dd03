/**
 * What the kernel tells about its buffers in text: the list of all of them and the lines of one descriptor; and the same as
 * numbers.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_debug_show, dma_buf_show_fdinfo; `dma-buf-sysfs-stats.c`
 */
import type { Op } from '../sim/op.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { DmaBufCore } from './dma-buf-core.ts';

/** Numbers of a machine's buffers. */
export interface DmaBufStats {
  readonly buffers: number;
  readonly bytes: number;
  readonly attachments: number;
  /** Tables that exporters have made and not taken back. */
  readonly tables: number;
  readonly pins: number;
  /** Per exporter, in order of its newest buffer. */
  readonly exporters: readonly DmaBufExporterStats[];
}

/** Numbers of one exporter's buffers. */
export interface DmaBufExporterStats {
  readonly exporter: string;
  readonly buffers: number;
  readonly bytes: number;
}

/**
 * The text of `/sys/kernel/debug/dma_buf/bufinfo`, newest buffer first. Takes the reservation lock of each buffer in turn and
 * waits for it; the caller must hold none of them.
 */
export function* bufinfo(core: DmaBufCore): Op<string> {
  const names = ['size', 'flags', 'mode', 'count'].map(column).join('\t');
  const lines = ['', 'Dma-buf Objects:', `${names}\texp_name\t${column('ino')}\tname`];
  let count = 0;
  let bytes = 0;
  for (const buf of [...core.buffers]) {
    yield* buf.resv.withLock(() => {
      lines.push(...linesOf(buf));
    });
    count++;
    bytes += buf.sizeBytes;
  }
  lines.push('', `Total ${count} objects, ${bytes} bytes`, '');
  return lines.join('\n');
}

/** What `/proc/PID/fdinfo/FD` shows of a buffer, one string a line. Plain; changes nothing. */
export function bufferFdinfo(buf: DmaBuf): string[] {
  const lines = [`size:\t${buf.sizeBytes}`, `count:\t${buf.references - 1}`, `exp_name:\t${buf.exporterName}`];
  if (buf.label !== null) lines.push(`name:\t${buf.label}`);
  return lines;
}

/** Counts what there is now. Plain; changes nothing. */
export function dmaBufStats(core: DmaBufCore): DmaBufStats {
  const exporters = new Map<string, { exporter: string; buffers: number; bytes: number }>();
  let [bytes, attachments, tables, pins] = [0, 0, 0, 0];
  for (const buf of core.buffers) {
    const row = exporters.get(buf.exporterName) ?? { exporter: buf.exporterName, buffers: 0, bytes: 0 };
    row.buffers++;
    row.bytes += buf.sizeBytes;
    exporters.set(buf.exporterName, row);
    bytes += buf.sizeBytes;
    attachments += buf.attachments.length;
    for (const att of buf.attachments) {
      tables += att.tables.size;
      pins += att.pinCount;
    }
  }
  return { buffers: core.buffers.length, bytes, attachments, tables, pins, exporters: [...exporters.values()] };
}

function linesOf(buf: DmaBuf): string[] {
  const numbers = [
    digits(buf.sizeBytes),
    digits(buf.fileFlags, 16),
    digits(buf.fileMode, 16),
    digits(buf.references),
    buf.exporterName,
    digits(buf.inode),
    buf.label ?? '<none>',
  ];
  return [
    numbers.join('\t'),
    ...buf.resv.describeFences().map((line) => `\t${line}`),
    '\tAttached Devices:',
    ...buf.attachments.map((att) => `\t${att.dev.name}`),
    `Total ${buf.attachments.length} devices attached`,
    '',
  ];
}

/** A heading, as wide as the numbers under it. */
function column(heading: string): string {
  return heading.padEnd(8);
}

function digits(value: number, radix = 10): string {
  return value.toString(radix).padStart(8, '0');
}
