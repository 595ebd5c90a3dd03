/** Family `cma-heap`: buffers from a CMA area through `/dev/dma_heap/reserved`, placed and freed by a process. */
import { PAGE_SIZE, physAddr } from '../../../src/base/addr.ts';
import { freeCacheCosts } from '../../../src/cache/cache-costs.ts';
import { CoherencyDomain } from '../../../src/cache/coherency.ts';
import { Device } from '../../../src/dma-api/device.ts';
import { CmaHeap } from '../../../src/dmabuf/dma-heap.ts';
import { CmaArea } from '../../../src/mem/cma.ts';
import { PhysMemory } from '../../../src/mem/phys-memory.ts';
import { lift, type MaybeOp } from '../../../src/sim/op.ts';
import { Simulator } from '../../../src/sim/simulator.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../../src/uapi/dma-buf-file.ts';
import { DMA_HEAP_IOCTL_ALLOC, DmaHeapFile } from '../../../src/uapi/dma-heap-file.ts';
import { PROT } from '../../../src/uapi/file.ts';
import { Process } from '../../../src/uapi/process.ts';
import type { UserMapping } from '../../../src/uapi/user-mapping.ts';
import { replayedFamily } from '../family.ts';
import { CLOSED, errnoOr, hexIn } from '../user-bench.ts';
import {
  isObject,
  type Json,
  type JsonObject,
  numberIn,
  parseAddress,
  type VectorCase,
  type VectorOp,
} from '../vector-case.ts';

/** What the recorder leaves in memory it has looked at. */
const FILLER = 0xaa;
/** As a number, in `<sys/mman.h>`. */
const MAP_PRIVATE = 2;

export default replayedFamily('cma-heap', (vector) => new Replay(vector));

class Replay {
  readonly #sim = new Simulator({ hazards: 'record' });
  readonly #area: CmaArea;
  readonly #app: Process;
  readonly #importer: Device;
  readonly #heap: number;
  readonly #fds = new Map<number, number>();
  readonly #mappings = new Map<number, UserMapping[]>();

  constructor({ setup }: VectorCase) {
    const area = setup['area'];
    if (!isObject(area)) throw new Error('setup.area is missing');
    const { trace } = this.#sim;
    const memory = new PhysMemory({ trace, now: () => this.#sim.now });
    const base = physAddr(hexIn(area, 'base'));
    const bytes = numberIn(area, 'pages') * PAGE_SIZE;
    memory.addRegion({ kind: 'ram', name: 'ram', base, bytes });
    const maxAlignOrder = numberIn(setup, 'max_align_order');
    this.#area = new CmaArea(memory, { name: String(setup['heap']), base, bytes, maxAlignOrder });
    const cache = { lineBytes: 64, sets: 16, ways: 2 };
    const coherency = new CoherencyDomain(this.#sim, memory, { costs: freeCacheCosts, cache, shadow: false });
    this.#importer = new Device(this.#sim, { name: 'importer', coherency, coherent: true, dmaMaskBits: 64 });
    this.#app = new Process(this.#sim, coherency, { name: 'user' });
    this.#heap = this.#app.fds.install(new DmaHeapFile(new CmaHeap(this.#sim, this.#area, coherency)));
  }

  /** The answer to one operation, with the state of the area after it where the recorder looked at it. */
  step(op: VectorOp): JsonObject {
    const answer = this.#answer(op);
    const { usedPages, largestFreePages } = this.#area;
    const state = { used_pages: usedPages, largest_free_pages: largestFreePages };
    const { result = state } = op;
    return { ...answer, ...('used_pages' in result || 'largest_free_pages' in result ? state : {}) };
  }

  #answer({ op, args, result = {} }: VectorOp): JsonObject {
    const id = numberIn(args, 'id');
    const fd = this.#fds.get(id) ?? CLOSED;
    switch (op) {
      case 'DMA_HEAP_IOCTL_ALLOC':
        return this.#alloc(id, args);
      case 'close':
        this.#fds.delete(id);
        return this.#ret(() => this.#app.close(fd));
      case 'mmap_and_look':
        return this.#mapAndLook(id, fd, args);
      case 'mmap':
        return this.#ret(() => this.#map(id, fd, args));
      case 'munmap':
        return this.#ret(() => {
          for (const { address, sizeBytes } of this.#mappings.get(id) ?? []) this.#app.munmap(address, sizeBytes);
          this.#mappings.delete(id);
        });
      case 'DMA_BUF_IOCTL_SYNC':
        return this.#ret(() => this.#app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags: flagsIn(args) }));
      case 'exporter_name': {
        const buf = this.#app.fds.get(fd);
        const key = Object.keys(result).find((one) => typeof result[one] === 'string') ?? 'name';
        buf.put();
        return { ...('ret' in result ? { ret: 0 } : {}), [key]: buf.exporterName };
      }
      default:
        throw new Error(`unknown operation ${op}`);
    }
  }

  #alloc(id: number, args: JsonObject): JsonObject {
    const len = typeof args['len'] === 'string' ? parseAddress(args['len']) : numberIn(args, 'len');
    const asked = { len, fd_flags: hexIn(args, 'fd_flags'), heap_flags: hexIn(args, 'heap_flags'), fd: 0 };
    const { ret } = this.#ret(() => this.#app.ioctl(this.#heap, DMA_HEAP_IOCTL_ALLOC, asked));
    if (ret !== 0) return { ret: ret ?? null };
    this.#fds.set(id, asked.fd);
    return { ret, size: this.#app.lseek(asked.fd, 0, 2), phys: this.#segments(asked.fd) };
  }

  /** The table that an attachment gets. */
  #segments(fd: number): Json {
    const { fds } = this.#app;
    const device = this.#importer;
    return this.#call(function* () {
      const buf = fds.get(fd);
      const attachment = yield* buf.attach(device);
      const table = yield* attachment.mapUnlocked('bidirectional');
      const segments = table.segments().map(({ address, length }) => [`0x${address.toString(16)}`, length]);
      yield* attachment.unmapUnlocked(table, 'bidirectional');
      yield* buf.detach(attachment);
      buf.put();
      return segments;
    });
  }

  *#map(id: number, fd: number, args: JsonObject) {
    const range = {
      ...(typeof args['offset'] === 'number' ? { offset: args['offset'] } : {}),
      ...(typeof args['length'] === 'number' ? { length: args['length'] } : {}),
      prot: typeof args['prot'] === 'number' ? args['prot'] : PROT.read | PROT.write,
      shared: !isPrivate(args['flags']),
    };
    const mapping = yield* this.#app.mmap(fd, range);
    this.#mappings.set(id, [...(this.#mappings.get(id) ?? []), mapping]);
    return mapping;
  }

  #mapAndLook(id: number, fd: number, args: JsonObject): JsonObject {
    let nonzero = 0;
    const map = () => this.#map(id, fd, args);
    const answer = this.#ret(function* () {
      const mapping = yield* map();
      const bytes = mapping.read(0, mapping.sizeBytes);
      for (const byte of bytes) if (byte !== 0) nonzero++;
      mapping.write(0, bytes.fill(FILLER));
    });
    return answer['ret'] === 0 ? { ...answer, nonzero_bytes: nonzero } : answer;
  }

  #call<T>(body: () => MaybeOp<T>): T {
    return this.#sim.run(() => lift(body()));
  }

  #ret(body: () => MaybeOp<unknown>): JsonObject {
    const ret = errnoOr(() => {
      this.#call(body);
      return 0;
    });
    this.#sim.run();
    return { ret };
  }
}

/** Flags as a number or in hexadecimal. */
function flagsIn(args: JsonObject): number {
  return typeof args['flags'] === 'number' ? args['flags'] : hexIn(args, 'flags');
}

/** Whether the flags of a mapping, by name or as C has them, ask for a private one. */
function isPrivate(flags: Json | undefined): boolean {
  if (flags === undefined || flags === null) return false;
  return flags === 'MAP_PRIVATE' || Number(flags) === MAP_PRIVATE;
}
