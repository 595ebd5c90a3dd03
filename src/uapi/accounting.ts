/**
 * Who holds which shared buffers, and how much that is: per process, per device, per exporter, and per buffer. What tools read out
 * of `/proc/PID/fdinfo`, `/proc/PID/maps`, `bufinfo` and sysfs, asked of all at one instant, so that the sums agree.
 *
 * 1. A process holds a buffer by descriptors, by mappings and by handles of DRM clients that it has open. Each buffer counts once.
 * 2. Its RSS is the sum of the buffers' sizes, its PSS that of its shares: a buffer's size is divided among the processes that
 *    hold it, in whole bytes; what is left over goes to the first of them. A mapping of a part holds the whole buffer.
 * 3. A buffer that no process holds is kept by a driver, a message in a socket, or a call that is going on.
 * 4. So the PSS of all processes and {@link MemoryUsage.keptByKernelBytes} add up to the total of `bufinfo`.
 *
 * Everything is plain, takes no time and changes nothing.
 *
 * @see Linux 6.1 `drivers/dma-buf/dma-buf.c` dma_buf_debug_show; `Documentation/filesystems/proc.rst`
 */
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import { dmaBufCore } from '../dmabuf/dma-buf-core.ts';
import { type DmaBufExporterStats, dmaBufStats } from '../dmabuf/dma-buf-info.ts';
import type { Simulator } from '../sim/simulator.ts';
import { DmaBufFile } from './dma-buf-file.ts';
import { DrmFile } from './drm-file.ts';
import type { Process } from './process.ts';
import { type SyncFileUsage, syncFilesOf } from './sync-file-usage.ts';

/** How one process holds one buffer. */
export interface BufferHolder {
  readonly process: string;
  /** Descriptors of it, ascending. */
  readonly fds: readonly number[];
  readonly mappings: number;
  /** Handles of DRM clients that the process has open. */
  readonly handles: number;
}

/** One buffer and all that is known about who keeps it. */
export interface BufferUsage {
  readonly buf: DmaBuf;
  /** Processes, in the order they were named. */
  readonly holders: readonly BufferHolder[];
  /** Devices that are attached, oldest first. */
  readonly devices: readonly string[];
  /** References that are neither a descriptor nor a mapping: of drivers, handles, messages, calls that go on. */
  readonly otherReferences: number;
}

/** What one process holds. */
export interface ProcessUsage {
  readonly process: string;
  /** Open descriptors of every kind, besides standard input, output and error. */
  readonly fds: number;
  /** Mappings of every kind, and their bytes. */
  readonly mappings: number;
  readonly mappedBytes: number;
  /** Shared buffers. */
  readonly buffers: number;
  readonly rssBytes: number;
  readonly pssBytes: number;
}

/** What one device is attached to. */
export interface DeviceUsage {
  readonly device: string;
  readonly attachments: number;
  /** Of buffers that it is attached to, each once. */
  readonly attachedBytes: number;
  /** Of those, the ones that are mapped for it. */
  readonly mappedBytes: number;
  readonly pins: number;
}

/** See the header. */
export interface MemoryUsage {
  readonly totalBytes: number;
  readonly keptByKernelBytes: number;
  /** As they were named, each followed by its children. */
  readonly processes: readonly ProcessUsage[];
  /** In the order of their oldest attachment to the oldest buffer. */
  readonly devices: readonly DeviceUsage[];
  readonly exporters: readonly DmaBufExporterStats[];
  /** Oldest first. */
  readonly buffers: readonly BufferUsage[];
  /** Sync files that the processes have, or that are on their way in their sockets. */
  readonly syncFiles: readonly SyncFileUsage[];
}

/** Counts what there is now. @param processes - all of the machine; children need not be named. */
export function memoryUsage(sim: Simulator, processes: readonly Process[]): MemoryUsage {
  const core = dmaBufCore(sim);
  const everybody = withChildren(processes);
  const held = everybody.map(buffersHeldBy);
  const buffers = [...core.buffers].reverse().map((buf): BufferUsage => {
    const holders = held.flatMap((of) => of.get(buf) ?? []);
    const known = holders.reduce((sum, { fds, mappings }) => sum + fds.length + mappings, 0);
    const devices = [...buf.attachments].reverse().map(({ dev }) => dev.name);
    return { buf, holders, devices, otherReferences: buf.references - known };
  });
  const rows = everybody.map((process) => emptyRow(process));
  let keptByKernelBytes = 0;
  for (const { buf } of buffers) {
    const sharers = rows.filter((_, i) => held[i]?.has(buf));
    if (sharers.length === 0) keptByKernelBytes += buf.sizeBytes;
    for (const [at, row] of sharers.entries()) {
      row.buffers++;
      row.rssBytes += buf.sizeBytes;
      row.pssBytes += shareOf(buf.sizeBytes, sharers.length, at);
    }
  }
  const { bytes: totalBytes, exporters } = dmaBufStats(core);
  const devices = devicesOf(buffers.map(({ buf }) => buf));
  const syncFiles = syncFilesOf(everybody);
  return { totalBytes, keptByKernelBytes, processes: rows, devices, exporters, buffers, syncFiles };
}

/**
 * One line a buffer that is left: what it is, who made it and when, and who keeps it. Oldest first; for the end of a program.
 *
 * @param allocations - the live allocations of the machine's memory (`memory.ledger`): they tell when it was made.
 */
export function describeLeftBuffers(
  { buffers }: MemoryUsage,
  allocations: readonly { readonly owner: string; readonly timeNs: number }[] = [],
): string[] {
  return buffers.map(({ buf, holders, devices, otherReferences }) => {
    const made = allocations.find(({ owner }) => owner === buf.name);
    const when = made === undefined ? '' : ` at ${made.timeNs} ns`;
    const keepers = [
      ...holders.map(describeHolder),
      ...(devices.length > 0 ? [`attached: ${devices.join(', ')}`] : []),
      ...(otherReferences > 0 ? [`${otherReferences} reference(s) of drivers or messages`] : []),
    ];
    return `${buf.name}: ${buf.sizeBytes} bytes of ${buf.exporterName}${when}, kept by ${keepers.join('; ')}`;
  });
}

interface Row extends ProcessUsage {
  buffers: number;
  rssBytes: number;
  pssBytes: number;
}

interface DeviceRow extends DeviceUsage {
  attachments: number;
  attachedBytes: number;
  mappedBytes: number;
  pins: number;
}

function withChildren(processes: readonly Process[]): Process[] {
  const all = new Set<Process>();
  const add = (process: Process): void => {
    if (all.has(process)) return;
    all.add(process);
    for (const child of process.children) add(child);
  };
  for (const process of processes) add(process);
  return [...all];
}

function emptyRow(process: Process): Row {
  const { mappings } = process;
  return {
    process: process.name,
    fds: process.fds.open.length,
    mappings: mappings.length,
    mappedBytes: mappings.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    ...{ buffers: 0, rssBytes: 0, pssBytes: 0 },
  };
}

/** What the `at`th of `count` holders is said to have of `bytes`. */
function shareOf(bytes: number, count: number, at: number): number {
  return Math.floor(bytes / count) + (at === 0 ? bytes % count : 0);
}

function buffersHeldBy(process: Process): Map<DmaBuf, BufferHolder> {
  const held = new Map<DmaBuf, { process: string; fds: number[]; mappings: number; handles: number }>();
  const of = (buf: DmaBuf) => {
    const known = held.get(buf) ?? { process: process.name, fds: [], mappings: 0, handles: 0 };
    held.set(buf, known);
    return known;
  };
  const clients = new Set<DrmFile>();
  for (const fd of process.fds.open) {
    const file = process.fds.file(fd);
    if (file instanceof DmaBufFile) of(file.buf).fds.push(fd);
    if (file instanceof DrmFile) clients.add(file);
  }
  for (const { vma } of process.mappings) if (vma.file instanceof DmaBufFile) of(vma.file.buf).mappings++;
  for (const client of clients) {
    for (const handle of client.handles) {
      const { imported, dmaBuf } = client.object(handle);
      const buf = imported?.buf ?? dmaBuf;
      if (buf !== null) of(buf).handles++;
    }
  }
  return held;
}

function devicesOf(buffers: readonly DmaBuf[]): DeviceUsage[] {
  const rows = new Map<string, DeviceRow>();
  for (const buf of buffers) {
    const attached = new Set<DeviceRow>();
    const mapped = new Set<DeviceRow>();
    for (const att of [...buf.attachments].reverse()) {
      const { name: device } = att.dev;
      const row = rows.get(device) ?? { device, attachments: 0, attachedBytes: 0, mappedBytes: 0, pins: 0 };
      rows.set(device, row);
      row.attachments++;
      row.pins += att.pinCount;
      attached.add(row);
      if (att.tables.size > 0) mapped.add(row);
    }
    for (const row of attached) row.attachedBytes += buf.sizeBytes;
    for (const row of mapped) row.mappedBytes += buf.sizeBytes;
  }
  return [...rows.values()];
}

function describeHolder({ process, fds, mappings, handles }: BufferHolder): string {
  const ways = [
    ...(fds.length > 0 ? [`fd ${fds.join(', ')}`] : []),
    ...(mappings > 0 ? [`${mappings} mapping(s)`] : []),
    ...(handles > 0 ? [`${handles} handle(s)`] : []),
  ];
  return `${process} (${ways.join(', ')})`;
}
