/**
 * What a process can open by path: device nodes and a few files of the kernel's.
 *
 * @see Linux 6.1 `fs/char_dev.c`; `Documentation/admin-guide/devices.rst`
 */
import { ErrnoError } from '../base/errors.ts';
import type { MaybeOp } from '../sim/op.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { OpenFile } from './file.ts';
import type { Process } from './process.ts';
import { SW_SYNC_PATH, SwSyncFile } from './sw-sync.ts';

/** Makes an open file for a process that opens the node with `flags` (`O` bits). Its reference is the caller's. */
export type OpenNode = (process: Process, flags: number) => MaybeOp<OpenFile>;

/** The nodes of one machine; {@link deviceNodes} gives them. Plain throughout. */
export class DeviceNodes {
  readonly #nodes = new Map<string, OpenNode>();
  readonly #stock = new Map<string, OpenNode>();

  /** @internal Use {@link deviceNodes}. */
  constructor(sim: Simulator) {
    this.add(SW_SYNC_PATH, (process, flags) => new SwSyncFile(sim, process.comm, flags));
  }

  /** What can be opened, in alphabetical order. */
  get paths(): readonly string[] {
    return [...new Set([...this.#nodes.keys(), ...this.#stock.keys()])].sort();
  }

  /** Takes the place of what the machine came with. @throws {ErrnoError} `EEXIST` there is one that was added (never retry). */
  add(path: string, open: OpenNode): void {
    if (this.#nodes.has(path)) throw new ErrnoError('EEXIST', 'mknod', `${path} exists`);
    this.#nodes.set(path, open);
  }

  /** @internal A node that the machine comes with, until another of its path is added. */
  addStock(path: string, open: OpenNode): void {
    this.#stock.set(path, open);
  }

  /** Takes a node away, for good; open files stay. @throws {ErrnoError} `ENOENT` there is none (never retry). */
  remove(path: string): void {
    const wasAdded = this.#nodes.delete(path);
    const wasStock = this.#stock.delete(path);
    if (!wasAdded && !wasStock) throw new ErrnoError('ENOENT', 'unlink', `there is no ${path}`);
  }

  /** @internal @throws {ErrnoError} `ENOENT` there is none (never retry). */
  find(path: string): OpenNode {
    const node = this.#nodes.get(path) ?? this.#stock.get(path);
    if (node === undefined) throw new ErrnoError('ENOENT', 'open', `there is no ${path}`);
    return node;
  }
}

/** The nodes that every process of `sim` can open. Plain. */
export function deviceNodes(sim: Simulator): DeviceNodes {
  return sim.part(DeviceNodes);
}
