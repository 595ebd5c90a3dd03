/** Family `dma-buf-kernel`: programs of the dma-buf core with an exporter and importers whose callbacks are noted. */
import { PAGE_SIZE } from '../../../src/base/addr.ts';
import { ErrnoError } from '../../../src/base/errors.ts';
import { ms } from '../../../src/base/units.ts';
import { Device } from '../../../src/dma-api/device.ts';
import { DmaDebug } from '../../../src/dma-api/dma-debug.ts';
import type { SgTable } from '../../../src/dma-api/sg-table.ts';
import type { DmaBuf } from '../../../src/dmabuf/dma-buf.ts';
import { bindDmaBuf, type DmaBufApi } from '../../../src/dmabuf/dma-buf-api.ts';
import type { DmaBufAttachment } from '../../../src/dmabuf/dma-buf-attachment.ts';
import { dmaBufCore } from '../../../src/dmabuf/dma-buf-core.ts';
import type { CpuMapping } from '../../../src/dmabuf/dma-buf-ops.ts';
import { linux61 } from '../../../src/dmabuf/dma-buf-profile.ts';
import { DmaFence } from '../../../src/dmabuf/dma-fence.ts';
import { allocDmaFenceContext } from '../../../src/dmabuf/dma-fence-world.ts';
import { DmaResvUsage } from '../../../src/dmabuf/dma-resv.ts';
import { KernelModule } from '../../../src/dmabuf/kernel-module.ts';
import { pc } from '../../../src/platform/pc.ts';
import type { MaybeOp, Op } from '../../../src/sim/op.ts';
import { lift } from '../../../src/sim/op.ts';
import { FdTable } from '../../../src/uapi/fd-table.ts';
import { absent, callbacksFor, directionIn, inodeSize, missing, RecordingExporter } from '../dma-buf-exporter.ts';
import { type Family, firstDifference, type Mismatch } from '../family.ts';
import {
  addressIn,
  arrayIn,
  booleanIn,
  isObject,
  type Json,
  type JsonObject,
  numberIn,
  stringIn,
  type VectorCase,
  type VectorOp,
} from '../vector-case.ts';

/** After so long the recorder signalled every fence, for calls that had blocked. */
const FENCES_AFTER_NS = ms(60);

/** Calls that may wait for fences: their answers say whether they did. */
const WAITING = new Set([
  'dma_buf_attach',
  'dma_buf_dynamic_attach',
  'dma_buf_map_attachment',
  'dma_buf_map_attachment_unlocked',
  'dma_buf_begin_cpu_access',
]);

const family: Family = {
  family: 'dma-buf-kernel',
  run(vector: VectorCase): Mismatch | null {
    const replay = new Replay(vector.setup);
    for (const [index, op] of vector.ops.entries()) {
      const difference = firstDifference(`${op.op}.result`, op.result, replay.step(op));
      if (difference !== null) return { op: index, ...difference };
    }
    return null;
  },
};
export default family;

class Replay {
  // The kernel warns and goes on.
  readonly #machine = pc({ vtd: false, hazards: 'record' });
  readonly #sim = this.#machine.sim;
  readonly #core = dmaBufCore(this.#sim);
  readonly #api: DmaBufApi;
  readonly #setup: JsonObject;
  readonly #fds = new FdTable();
  readonly #openFds = new Map<Json, number>();
  readonly #devices: Device[] = [];
  readonly #dmaDebug: DmaDebug | null;
  readonly #attachments = new Map<Json, DmaBufAttachment>();
  readonly #maps = new Map<Json, SgTable>();
  readonly #fences: DmaFence[] = [];
  #vmaps: CpuMapping[] = [];
  #exporter: RecordingExporter | null = null;
  #buf: DmaBuf | null = null;

  constructor(setup: JsonObject) {
    this.#setup = setup;
    const { boot } = setup;
    this.#core.profile = { ...linux61, moveNotify: booleanIn(setup, 'CONFIG_DMABUF_MOVE_NOTIFY') };
    this.#dmaDebug = isObject(boot) && boot['kernel'] === 'debug' ? new DmaDebug(this.#sim) : null;
    const module = new KernelModule({ name: 'recorder', license: 'GPL', namespaces: ['DMA_BUF'] });
    this.#api = bindDmaBuf(this.#sim, module);
  }

  /** The answer to one operation, with what came with it. */
  step(op: VectorOp): JsonObject {
    const warned = this.#warnings();
    const { own, trace, deferred } = this.#sim.run(() => this.#asSystemCall(op));
    const warns = this.#warnings() - warned;
    const references = this.#buf?.references ?? 0;
    return {
      ...own,
      trace,
      ...(deferred.length > 0 ? { deferred } : {}),
      ...(warns > 0 ? { warns } : {}),
      ...(references > 0 ? { file_count: references } : {}),
    };
  }

  *#asSystemCall(op: VectorOp): Op<{ own: JsonObject; trace: JsonObject[]; deferred: JsonObject[] }> {
    const own = yield* this.#answer(op);
    const trace = this.#takeTrace();
    yield* this.#core.runTaskWork();
    return { own, trace, deferred: this.#takeTrace() };
  }

  *#answer(op: VectorOp): Op<JsonObject> {
    const pending = WAITING.has(op.op) && this.#fences.some((fence) => !fence.signaled);
    let waited = false;
    const timer = this.#sim.after(FENCES_AFTER_NS, () => {
      waited = true;
      this.#signalAll();
      return undefined;
    });
    try {
      const answer = yield* this.#run(op);
      return pending ? { ...answer, waited_for_fences: waited } : answer;
    } finally {
      timer.cancel();
    }
  }

  *#run({ op, args }: VectorOp): Op<JsonObject> {
    switch (op) {
      case 'dma_buf_export':
        return yield* this.#try(() => this.#export(args));
      case 'dma_buf_put':
        this.#api.put(this.#bufIn(args));
        return { ret: null };
      case 'dma_buf_fd':
      case 'dma_buf_get':
      case 'close':
        return yield* this.#try(() => this.#descriptor(op, args));
      case 'dma_buf_attach':
      case 'dma_buf_dynamic_attach':
        return yield* this.#attach(op, args);
      case 'dma_buf_vmap':
      case 'dma_buf_vunmap':
        return yield* this.#kernelMap(op, args);
      case 'dma_buf_mmap':
      case 'mmap_file':
        return yield* this.#try(() => this.#mmap(args));
      case 'dma_resv_add_fence':
        return yield* this.#addFence(stringIn(args, 'usage'));
      case 'signal_all_fences':
        this.#signalAll();
        return { ret: null };
      default:
        return yield* this.#try(() => this.#onAttachment(op, args));
    }
  }

  *#onAttachment(op: string, args: JsonObject): Op<JsonObject> {
    const buf = this.#bufIn(args);
    switch (op) {
      case 'dma_buf_detach':
        yield* this.#api.detach(buf, yield* this.#attachmentIn(args));
        return { ret: null };
      case 'dma_buf_pin':
        yield* this.#locked(() => this.#attached(args).pin());
        return { ret: 0 };
      case 'dma_buf_unpin':
        yield* this.#locked(() => this.#attached(args).unpin());
        return { ret: null };
      case 'dma_buf_move_notify':
        yield* this.#locked(() => this.#live().moveNotify());
        return { ret: null };
      case 'dma_buf_begin_cpu_access':
        yield* this.#api.beginCpuAccess(buf, directionIn(args));
        return { ret: 0 };
      case 'dma_buf_end_cpu_access':
        yield* this.#api.endCpuAccess(buf, directionIn(args));
        return { ret: 0 };
      default:
        return yield* this.#mapping(op, args);
    }
  }

  *#mapping(op: string, args: JsonObject): Op<JsonObject> {
    const dir = directionIn(args);
    const att = yield* this.#attachmentIn(args);
    const within = <T>(body: () => Op<T>): Op<T> => (args['caller_holds_resv'] === true ? this.#locked(body) : body());
    switch (op) {
      case 'dma_buf_map_attachment':
        return this.#mapped(yield* within(() => this.#api.map(att, dir)), args);
      case 'dma_buf_map_attachment_unlocked':
        return this.#mapped(yield* this.#api.mapUnlocked(att, dir), args);
      case 'dma_buf_unmap_attachment':
        yield* within(() => this.#api.unmap(att, this.#tableIn(args), dir));
        return { ret: null };
      case 'dma_buf_unmap_attachment_unlocked':
        yield* this.#api.unmapUnlocked(att, this.#tableIn(args), dir);
        return { ret: null };
      default:
        throw new Error(`unknown operation ${op}`);
    }
  }

  #export(args: JsonObject): JsonObject {
    const { exporter: given, fail, title } = this.#setup;
    const size = typeof args['size'] === 'string' ? Number(args['size']) : numberIn(args, 'size');
    const exporter = isObject(given)
      ? new RecordingExporter(
          arrayIn(given, 'callbacks').map(String),
          booleanIn(given, 'cache_sgt_mapping'),
          size,
          fail,
        )
      : new RecordingExporter(callbacksFor(args, title), booleanIn(args, 'cache_sgt_mapping'), size, undefined);
    this.#exporter = exporter;
    const buf = this.#api.export({
      exporterName: 'recorder',
      name: 'buf',
      sizeBytes: size,
      flags: addressIn(args, 'flags'),
      ops: args['ops'] === false ? absent() : exporter.ops(),
      priv: args['priv'] === false ? absent() : exporter,
    });
    this.#buf = buf;
    const answer = { ret: 0, size: typeof args['size'] === 'string' ? args['size'] : buf.sizeBytes };
    if (isObject(given)) return answer;
    const [f_flags = '', f_mode = ''] = [buf.fileFlags, buf.fileMode].map((bits) => `0x${bits.toString(16)}`);
    return { ...answer, f_flags, f_mode, i_size: inodeSize(answer.size) };
  }

  #descriptor(op: string, args: JsonObject): JsonObject {
    if (op === 'dma_buf_fd') {
      const buf = this.#bufIn(args);
      const fd = this.#api.fd(this.#fds, buf?.get() ?? null);
      this.#openFds.set(args['fd'] ?? 'that fd', fd);
      return { ret: 'fd' };
    }
    const fd = this.#fdIn(args);
    if (op === 'close') {
      this.#fds.close(fd);
      return { ret: 0 };
    }
    return { ret: this.#fds.get(fd) === this.#buf ? 'same' : 'other' };
  }

  /** In programs the descriptor is a slot; in argument checks it is what the kernel was given. */
  #fdIn(args: JsonObject): number {
    const fd = args['fd'] ?? null;
    if (fd === 'fd of another file type') return 0;
    const known = this.#openFds.get(fd === 'closed fd' ? 'that fd' : fd);
    if (known !== undefined) return known;
    if (typeof fd === 'number' && !isObject(this.#setup['exporter'])) return fd;
    throw new Error(`unknown descriptor ${JSON.stringify(fd)}`);
  }

  *#attach(op: string, args: JsonObject): Op<JsonObject> {
    const buf = this.#bufIn(args);
    const dev = typeof args['dev'] === 'number' ? this.#device(args['dev']) : null;
    const id = args['attach'];
    if (this.#exporter !== null && typeof id === 'number') this.#exporter.nextAttachment = id;
    const wanted = args['importer_ops'];
    return yield* this.#try(() => this.#attachAs(op === 'dma_buf_attach' ? null : wanted, buf, dev, id));
  }

  *#attachAs(wanted: Json | undefined, buf: DmaBuf | null, dev: Device | null, id: Json | undefined): Op<JsonObject> {
    const att = isObject(wanted)
      ? yield* this.#api.dynamicAttach(buf, dev, {
          allowPeer2Peer: booleanIn(wanted, 'allow_peer2peer'),
          ...(booleanIn(wanted, 'move_notify') ? { moveNotify: (moved) => this.#exporter?.noteMove(moved) } : {}),
        })
      : yield* this.#api.attach(buf, dev);
    if (typeof id === 'number') {
      this.#attachments.set(id, att);
      this.#exporter?.bind(att, id);
    }
    return { ret: 0, peer2peer: att.peer2peer, has_cached_sgt: att.keptTable !== null };
  }

  *#kernelMap(op: string, args: JsonObject): Op<JsonObject> {
    const buf = this.#bufIn(args);
    if (op === 'dma_buf_vunmap') {
      yield* this.#api.vunmap(buf, this.#vmaps.pop() ?? null);
      return buf === null ? { ret: null } : { ret: null, vmapping_counter: buf.vmapCount };
    }
    const before = this.#vmaps.length;
    const answer = yield* this.#try(() => this.#vmap(buf));
    if (buf === null) return answer;
    return { ...answer, map_is_null: this.#vmaps.length === before, vmapping_counter: buf.vmapCount };
  }

  *#vmap(buf: DmaBuf | null): Op<JsonObject> {
    this.#vmaps.push(yield* this.#api.vmap(buf));
    return { ret: 0 };
  }

  /** Maps, counts, and unmaps again. */
  *#mmap(args: JsonObject): Op<JsonObject> {
    const buf = this.#bufIn(args);
    if (buf === null) {
      yield* this.#api.mmap(buf, null);
      return { ret: 0 };
    }
    const pageCount = Math.ceil(numberIn(args, 'length') / PAGE_SIZE);
    yield* this.#api.mmap(buf, { pgoff: addressIn(args, 'pgoff'), pageCount });
    const during = buf.references;
    buf.put();
    return { ret: 0, file_count_while_mapped: during };
  }

  #mapped(sgt: SgTable, args: JsonObject): JsonObject {
    const number = this.#exporter?.numberOfTable(sgt) ?? -1;
    const map = args['map'];
    if (map === undefined) return { ret: 0, sgt: number };
    this.#maps.set(map, sgt);
    return { ret: 0, sgt: number, orig_nents: sgt.origNents, nents: sgt.nents };
  }

  *#addFence(usage: string): Op<JsonObject> {
    const key = usage.replace('DMA_RESV_USAGE_', '').toLowerCase();
    const value = Object.entries(DmaResvUsage).find(([name]) => name === key)?.[1] ?? missing(`usage ${usage}`);
    const fence = new DmaFence(this.#sim, allocDmaFenceContext(this.#sim, `f${this.#fences.length}`), 1);
    this.#fences.push(fence);
    const { resv } = this.#live();
    yield* resv.withLock(() => {
      resv.reserveFences(1);
      resv.addFence(fence, value);
    });
    return { ret: null };
  }

  #signalAll(): void {
    for (const fence of this.#fences) if (!fence.signaled) fence.signal();
  }

  #locked<T>(body: () => MaybeOp<T>): Op<T> {
    return this.#live().resv.withLock(body);
  }

  /** The answer, or the errno as one. */
  *#try(body: () => MaybeOp<JsonObject>): Op<JsonObject> {
    try {
      return yield* lift(body());
    } catch (error) {
      if (error instanceof ErrnoError) return { ret: `-${error.code}` };
      throw error;
    }
  }

  /** Only where the case names no buffer, it is the one there is. */
  #bufIn(args: JsonObject): DmaBuf | null {
    return args['dmabuf'] === null ? null : this.#live();
  }

  #live(): DmaBuf {
    return this.#buf ?? missing('buffer');
  }

  #attached(args: JsonObject): DmaBufAttachment {
    const name = args['attach'] ?? null;
    return this.#attachments.get(name) ?? missing(`attachment ${JSON.stringify(name)}`);
  }

  /** The argument checks name one in words; the recorder had made it without noting it. */
  *#attachmentIn(args: JsonObject): Op<DmaBufAttachment | null> {
    const name = args['attach'] ?? null;
    if (typeof name === 'string' && !this.#attachments.has(name)) {
      const att = yield* this.#live().attach(this.#device(0));
      this.#attachments.set(name, att);
      this.#takeTrace();
    }
    return name === null ? null : this.#attached(args);
  }

  #tableIn(args: JsonObject): SgTable | null {
    return args['sgt'] === null ? null : (this.#maps.get(args['map'] ?? null) ?? null);
  }

  #device(index: number): Device {
    const { sim, coherency } = this.#machine;
    this.#devices[index] ??= new Device(sim, {
      name: `dev${index}`,
      coherency,
      coherent: true,
      ...(this.#dmaDebug === null ? {} : { dmaDebug: this.#dmaDebug }),
    });
    return this.#devices[index];
  }

  #takeTrace(): JsonObject[] {
    const trace = this.#exporter?.trace ?? [];
    if (this.#exporter !== null) this.#exporter.trace = [];
    return trace;
  }

  /** Kernel warnings so far, those of the DMA debugging included. */
  #warnings(): number {
    const ofDma = this.#sim.hazards.filter(({ hazard }) => hazard.startsWith('dma-debug.'));
    return this.#core.warnings.length + ofDma.length;
  }
}
