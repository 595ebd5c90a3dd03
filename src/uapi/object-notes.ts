/** What processes and clients tell the ledger of objects (`sim.objects`). Nothing is told, at no cost, while nobody keeps it. */
import type { Simulator } from '../sim/simulator.ts';
import type { FdTable } from './fd-table.ts';
import { type OpenFile, StandardFile } from './file.ts';
import type { UserMapping } from './user-mapping.ts';

/** @internal Somebody whose reference to a file lasts as long as a system call does. */
export const SYSTEM_CALL = { name: 'a system call' } as const;

/** @internal Tells of the descriptors of one process. */
export class FdNotes {
  readonly #sim: Simulator;
  readonly #owner: string;

  /** Descriptors that are open already are told of at once. */
  constructor(sim: Simulator, owner: string, fds: FdTable) {
    this.#sim = sim;
    this.#owner = owner;
    for (const fd of fds.open) this.opened(fd, fds.file(fd));
  }

  /** A descriptor has taken over a reference of `file`. */
  opened(fd: number, file: OpenFile): void {
    const { objects } = this.#sim;
    if (!objects.enabled || file instanceof StandardFile) return;
    noteFile(this.#sim, file, this.#owner);
    const [of, owner, holds] = [kindOf(file), this.#owner, file.counted];
    objects.note(this, 'fd', { of, name: `fd ${fd} of ${owner}`, owner, holds, takesOver: true, tag: fd });
  }

  /** It is closed. */
  closed(fd: number): void {
    this.#sim.objects.end(this, 'fd', fd);
  }
}

/** @internal A process has a mapping, which has a reference of its file. */
export function noteMmapped(mapping: UserMapping): void {
  const { file, backing, view } = mapping.vma;
  if (file.objects?.enabled !== true) return;
  const owner = view.accessor.name;
  const name = `mmap of ${backing.name} in ${owner}`;
  file.objects.note(mapping, 'mmap', { of: kindOf(file), name, owner, holds: file.counted, takesOver: true });
}

/** @internal It is unmapped. */
export function noteMunmapped(mapping: UserMapping): void {
  mapping.vma.file.objects?.end(mapping, 'mmap');
}

/** Lets the ledger know `file` and its parts. */
function noteFile(sim: Simulator, file: OpenFile, owner: string): void {
  if (file.objects !== null) return;
  const { objects } = sim;
  file.objects = objects;
  objects.track(file, 'file', { of: kindOf(file), name: file.path, owner, references: file.references });
  for (const part of file.parts) objects.alias(part, file);
}

/** `'dmabuf'`, `'sync_file'`, `'/dev/dri/card0'`, `'socket'`. */
function kindOf({ path }: OpenFile): string {
  if (path.startsWith('/dmabuf:')) return 'dmabuf';
  return path.replace(/^anon_inode:/, '').replace(/:\[.*$/, '');
}
