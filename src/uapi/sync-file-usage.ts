/**
 * Who has which sync files: a descriptor that a program forgets keeps its fence, and with it whatever the driver keeps until that is freed.
 * Everything is plain, takes no time and changes nothing.
 */
import { DmaFenceArray } from '../dmabuf/dma-fence-array.ts';
import { FenceFile, type SyncFileMaker } from './fence-file.ts';
import type { OpenFile } from './file.ts';
import type { Process } from './process.ts';
import { SocketFile } from './socket.ts';

/** One sync file, and all that is known about who keeps it. */
export interface SyncFileUsage {
  /** As `SYNC_IOC_FILE_INFO` tells it: the name it was given, or driver, timeline and number of its fence. */
  readonly name: string;
  /** Names of its fences: `'gpu0:3'`. */
  readonly fences: readonly string[];
  /** 0 pending, 1 signalled, or the error as a negative number; only looked at. */
  readonly status: number;
  /** Who made it, or `null`: nobody said. */
  readonly maker: SyncFileMaker | null;
  /** Processes, in the order they were named, and their descriptors of it, ascending. */
  readonly holders: readonly { readonly process: string; readonly fds: readonly number[] }[];
  /** References of messages in sockets and of calls that go on. */
  readonly otherReferences: number;
}

/** @internal The sync files that `processes` have, or that are on their way in their sockets; in the order they are found. */
export function syncFilesOf(processes: readonly Process[]): SyncFileUsage[] {
  const found = new Map<FenceFile, Map<string, number[]>>();
  const fdsOf = (file: FenceFile) => {
    const holders = found.get(file) ?? new Map<string, number[]>();
    found.set(file, holders);
    return holders;
  };
  const look = (file: OpenFile, process: string, fd: number): void => {
    if (file instanceof FenceFile) {
      const holders = fdsOf(file);
      holders.set(process, [...(holders.get(process) ?? []), fd]);
    }
    if (file instanceof SocketFile) for (const sent of file.filesOnTheirWay) if (sent instanceof FenceFile) fdsOf(sent);
  };
  for (const process of processes) {
    for (const fd of process.fds.open) look(process.fds.file(fd), process.name, fd);
  }
  return [...found].map(([file, holders]) => usageOf(file, holders));
}

/** One line a sync file that is left: which fence, who made it and when, who keeps it; for the end of a program. */
export function describeLeftSyncFiles({ syncFiles }: { readonly syncFiles: readonly SyncFileUsage[] }): string[] {
  return syncFiles.map(({ name, fences, status, maker, holders, otherReferences }) => {
    const state = status === 0 ? 'pending' : status === 1 ? 'signalled' : `failed with ${status}`;
    const made = maker === null ? '' : `, made by ${maker.process} with ${maker.call} at ${maker.timeNs} ns`;
    const keepers = [
      ...holders.map(({ process, fds }) => `${process} (fd ${fds.join(', ')})`),
      ...(otherReferences > 0 ? [`${otherReferences} message(s) or call(s)`] : []),
    ];
    return `sync file ${name}: fence ${fences.join(', ')}, ${state}${made}, kept by ${keepers.join('; ')}`;
  });
}

function usageOf(file: FenceFile, byProcess: ReadonlyMap<string, readonly number[]>): SyncFileUsage {
  const { syncFile, maker } = file;
  const { fence } = syncFile;
  const parts = fence instanceof DmaFenceArray ? fence.fences : [fence];
  const holders = [...byProcess].map(([process, fds]) => ({ process, fds }));
  const known = holders.reduce((sum, { fds }) => sum + fds.length, 0);
  const otherReferences = file.references - known;
  const fences = parts.map((part) => part.name);
  return { name: syncFile.name, fences, status: fence.status, maker, holders, otherReferences };
}
