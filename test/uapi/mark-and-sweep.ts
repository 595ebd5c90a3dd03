/** Counts who holds what, from everything that can hold something, and compares with the counts that are kept. */
import { expect } from 'vitest';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import type { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { DmaResvUsage } from '../../src/dmabuf/dma-resv.ts';
import { DmaBufFile, dmaBufFile } from '../../src/uapi/dma-buf-file.ts';
import { DrmFile } from '../../src/uapi/drm-file.ts';
import type { GemObject } from '../../src/uapi/drm-gem.ts';
import { type OpenFile, POLL } from '../../src/uapi/file.ts';
import type { Process } from '../../src/uapi/process.ts';
import type { System } from './system.ts';

/** A system call that has not returned. */
export interface InFlight {
  readonly process: Process;
  /** References that it holds. */
  readonly holds: readonly OpenFile[];
  /** What it polls. */
  readonly polls: readonly { readonly file: OpenFile; readonly events: number }[];
  /** When it gives up, in ns. */
  readonly deadlineNs: number;
}

/** What can not be seen from outside, so the program notes it. */
export class Marks {
  readonly inFlight = new Set<InFlight>();
  /** Files in messages that nobody has received, by the socket they wait at. */
  readonly messages = new Map<OpenFile, (readonly OpenFile[])[]>();
  /** Handles by which a client has exported or imported. */
  readonly prime = new Map<DrmFile, Set<number>>();
  readonly #watched = new Map<DmaBuf, Map<number, DmaFence>>();
  readonly #seen = new Set<OpenFile>();
  readonly #system: System;

  constructor(system: System) {
    this.#system = system;
  }

  /** `client` has exported or imported by `handle`. */
  notePrime(client: DrmFile, handle: number): void {
    const handles = this.prime.get(client) ?? new Set<number>();
    this.prime.set(client, handles.add(handle));
  }

  /** A poll asked a buffer: what is pending there is watched until it signals. */
  watch(polls: InFlight['polls']): void {
    for (const { file, events } of polls) {
      if (!(file instanceof DmaBufFile) || file.references === 0) continue;
      const watched = this.#watchedOf(file.buf);
      for (const bit of [POLL.in, POLL.out]) {
        if ((events & bit) === 0 || watched.has(bit)) continue;
        const usage = bit === POLL.in ? DmaResvUsage.write : DmaResvUsage.read;
        const pending = file.buf.resv.fences(usage).find((fence) => !fence.signaled);
        if (pending !== undefined) watched.set(bit, pending);
      }
    }
  }

  /** Everything is at rest but for calls in flight: every count is what can be counted. */
  check(processes: readonly Process[]): void {
    const files = this.#fileHolders(processes);
    const objects = this.#objectHolders(processes, files);
    const add = (buf: DmaBuf) => count(files, dmaBufFile(buf));
    for (const object of objects.keys()) {
      if (object.dmaBuf !== null) add(object.dmaBuf);
      if (object.imported !== null) add(object.imported.buf);
      if (object.handleCount === 0 && object.dmaBuf !== null) throw new Error(`${object.name} keeps its buffer`);
    }
    for (const [client, handles] of this.prime) {
      if (!files.has(client)) this.prime.delete(client);
      else for (const handle of handles) add(primeBuf(client.object(handle)));
    }
    for (const [buf, watched] of this.#watched) for (const _fence of watched.values()) add(buf);
    for (const file of this.#seen) {
      same(file.path, 'references', file.references, files.get(file) ?? 0);
      if (file.references === 0) this.#seen.delete(file);
    }
    for (const { name, references } of dmaBufCore(this.#system.sim).buffers.filter(
      (buf) => !files.has(dmaBufFile(buf)),
    )) {
      same(name, 'references', references, 0);
    }
    this.#checkObjects(objects);
  }

  #checkObjects(objects: ReadonlyMap<GemObject, number>): void {
    const attached = new Map<DmaBuf, number>();
    for (const [object, references] of objects) {
      same(object.name, 'references', object.references, references);
      if (object.imported !== null) count(attached, object.imported.buf);
    }
    const all = this.#system.cards.flatMap((card) => card.objects);
    for (const object of all) if (!objects.has(object)) same(object.name, 'references', object.references, 0);
    for (const buf of dmaBufCore(this.#system.sim).buffers) {
      same(buf.name, 'attachments', buf.attachments.length, attached.get(buf) ?? 0);
    }
  }

  /** Descriptors, mappings, messages and calls in flight. */
  #fileHolders(processes: readonly Process[]): Map<OpenFile, number> {
    for (const watched of this.#watched.values()) {
      for (const [bit, fence] of watched) if (fence.signaled) watched.delete(bit);
    }
    for (const { polls } of this.inFlight) this.watch(polls);
    const files = new Map<OpenFile, number>();
    for (const { fds, mappings } of processes) {
      for (const fd of fds.open) count(files, fds.file(fd));
      for (const { vma } of mappings) count(files, vma.file);
    }
    for (const { holds } of this.inFlight) for (const file of holds) count(files, file);
    for (const [socket, messages] of this.messages) {
      if (!files.has(socket)) this.messages.delete(socket);
      else for (const file of messages.flat()) count(files, file);
    }
    for (const file of files.keys()) this.#seen.add(file);
    return files;
  }

  /** Handles, buffers and mappings of objects. */
  #objectHolders(processes: readonly Process[], files: ReadonlyMap<OpenFile, number>): Map<GemObject, number> {
    const objects = new Map<GemObject, number>();
    const all = this.#system.cards.flatMap((card) => card.objects);
    for (const file of files.keys()) {
      if (file instanceof DrmFile) for (const handle of file.handles) count(objects, file.object(handle));
    }
    for (const { mappings } of processes) {
      for (const { vma } of mappings) {
        const mapped = all.find((object) => object.name === vma.backing.name);
        if (vma.file instanceof DrmFile && mapped !== undefined) count(objects, mapped);
      }
    }
    for (const { priv } of dmaBufCore(this.#system.sim).buffers) {
      const exported = all.find((object) => object === priv);
      if (exported !== undefined) count(objects, exported);
    }
    return objects;
  }

  #watchedOf(buf: DmaBuf): Map<number, DmaFence> {
    const watched = this.#watched.get(buf) ?? new Map<number, DmaFence>();
    this.#watched.set(buf, watched);
    return watched;
  }
}

/** As `expect`, which is too slow for every object after every call. */
function same(name: string, what: string, kept: number, counted: number): void {
  if (kept !== counted) expect({ name, what, kept }).toEqual({ name, what, kept: counted });
}

function count<K>(map: Map<K, number>, key: K): void {
  map.set(key, (map.get(key) ?? 0) + 1);
}

/** The buffer that an object is known as. */
function primeBuf(object: GemObject): DmaBuf {
  const buf = object.imported?.buf ?? object.dmaBuf;
  if (buf === null) throw new Error(`${object.name} has a handle that was exported, and no buffer`);
  return buf;
}
