/** Family `resv-kernel`: programs of reservations (`resv-N`) and of plain fences, arrays and chains (`fence-N`). */
import { ERRNO, type ErrnoCode } from '../../../src/base/errno.ts';
import { ErrnoError } from '../../../src/base/errors.ts';
import { DmaFence } from '../../../src/dmabuf/dma-fence.ts';
import { DmaFenceArray } from '../../../src/dmabuf/dma-fence-array.ts';
import { DmaFenceChain, dmaFenceChainFindSeqno } from '../../../src/dmabuf/dma-fence-chain.ts';
import type { DmaFenceCallback } from '../../../src/dmabuf/dma-fence-ops.ts';
import { dmaFenceUnwrap, dmaFenceUnwrapMerge } from '../../../src/dmabuf/dma-fence-unwrap.ts';
import { allocDmaFenceContext } from '../../../src/dmabuf/dma-fence-world.ts';
import { DmaResv, DmaResvUsage, type DmaResvUsageValue } from '../../../src/dmabuf/dma-resv.ts';
import type { Op } from '../../../src/sim/op.ts';
import { Simulator } from '../../../src/sim/simulator.ts';
import { WwAcquireCtx } from '../../../src/sim/ww-acquire-ctx.ts';
import { replayedFamily } from '../family.ts';
import {
  arrayIn,
  booleanIn,
  type Json,
  type JsonObject,
  numberIn,
  stringIn,
  type VectorCase,
  type VectorOp,
} from '../vector-case.ts';

const USAGES: ReadonlyMap<string, DmaResvUsageValue> = new Map([
  ['DMA_RESV_USAGE_KERNEL', DmaResvUsage.kernel],
  ['DMA_RESV_USAGE_WRITE', DmaResvUsage.write],
  ['DMA_RESV_USAGE_READ', DmaResvUsage.read],
  ['DMA_RESV_USAGE_BOOKKEEP', DmaResvUsage.bookkeep],
]);

export default replayedFamily('resv-kernel', (vector) => new Replay(vector));

class Replay {
  // The kernel warns and goes on.
  readonly #sim = new Simulator({ hazards: 'record' });
  readonly #contexts: ReturnType<typeof allocDmaFenceContext>[] = [];
  readonly #resvs: DmaResv[] = [];
  readonly #fences: DmaFence[] = [];
  readonly #callbacks: DmaFenceCallback[] = [];
  readonly #isResv: boolean;
  #fired: number[] = [];

  constructor({ case: name, setup }: VectorCase) {
    this.#isResv = name.startsWith('resv-');
    for (let i = 0; i < numberIn(setup, 'contexts'); i++) {
      this.#contexts.push(allocDmaFenceContext(this.#sim, `context${i}`));
    }
    const resvs = setup['resv_objects'];
    for (let i = 0; typeof resvs === 'number' && i < resvs; i++) this.#resvs.push(new DmaResv(this.#sim, `resv${i}`));
  }

  /** The answer to one operation; undefined when it has none. */
  step(op: VectorOp): JsonObject | undefined {
    const { args } = op;
    this.#fired = [];
    switch (op.op) {
      case 'dma_fence_init':
        this.#fences[numberIn(args, 'fence')] = new DmaFence(
          this.#sim,
          at(this.#contexts, numberIn(args, 'context')),
          numberIn(args, 'seqno'),
        );
        return undefined;
      case 'dma_fence_signal':
        return this.#signal(args);
      case 'query':
        return this.#isResv ? this.#queryResv(args) : this.#queryFence(op);
      default:
        return this.#isResv ? this.#stepResv(op) : this.#stepFence(op);
    }
  }

  #signal(args: JsonObject): JsonObject {
    const fence = this.#fence(args);
    if (args['set_error_before'] !== undefined) fence.setError(errorIn(args, 'set_error_before'));
    const ret = fence.signal() ? 0 : '-EINVAL';
    return this.#isResv ? { ret, status: fence.getStatus() } : { ret, callbacks_fired: this.#fired };
  }

  #stepResv({ op, args }: VectorOp): JsonObject {
    switch (op) {
      case 'dma_resv_reserve_fences':
        return this.#locked(args, 'resv', (resv) => resv.reserveFences(numberIn(args, 'num_fences')), { ret: 0 });
      case 'dma_resv_add_fence':
        return this.#locked(args, 'resv', (resv) => resv.addFence(this.#fence(args), usageIn(args)));
      case 'dma_resv_replace_fences': {
        const context = at(this.#contexts, numberIn(args, 'context'));
        const replacement = at(this.#fences, numberIn(args, 'replacement'));
        return this.#locked(args, 'resv', (resv) => resv.replaceFences(context, replacement, usageIn(args)));
      }
      case 'dma_resv_copy_fences': {
        const src = at(this.#resvs, numberIn(args, 'src'));
        return this.#locked(args, 'dst', (resv) => resv.copyFences(src), { ret: 0 });
      }
      case 'dma_resv_get_fences':
        return {
          ret: 0,
          fences: this.#resv(args)
            .getFences(usageIn(args))
            .map((fence) => this.#numberOf(fence)),
        };
      case 'dma_resv_get_singleton':
        return this.#singleton(this.#resv(args).getSingleton(usageIn(args)));
      case 'dma_resv_lock_sequence':
        return this.#sim.run(() => this.#lockSequence(at(this.#resvs, 0), arrayIn(args, 'what')));
      default:
        throw new Error(`unknown operation ${op}`);
    }
  }

  /** Does `act` with the lock held. @returns `answer` and what the reservation lists afterwards. */
  #locked(args: JsonObject, key: string, act: (resv: DmaResv) => void, answer: JsonObject = {}): JsonObject {
    const resv = at(this.#resvs, numberIn(args, key));
    const list = this.#sim.run(() =>
      resv.withLock<number[][]>(() => {
        act(resv);
        return this.#listed(resv, DmaResvUsage.bookkeep);
      }),
    );
    return { ...answer, list };
  }

  #queryResv(args: JsonObject): JsonObject {
    const [resv, usage] = [this.#resv(args), usageIn(args)];
    const test_signaled = resv.testSignaled(usage);
    const wait_timeout_0 = this.#sim.run(() => resv.waitTimeout(usage, 0));
    const locked_iter = this.#sim.run(() => resv.withLock<number[][]>(() => this.#listed(resv, usage)));
    const unlocked_iter: Json[] = [];
    const iter = resv.iter(usage);
    for (let fence = iter.next(); fence !== null; fence = iter.next()) {
      unlocked_iter.push([this.#numberOf(fence), iter.usage]);
    }
    return { test_signaled, wait_timeout_0, locked_iter, unlocked_iter };
  }

  #singleton(fence: DmaFence | null): JsonObject {
    if (!(fence instanceof DmaFenceArray)) return { ret: 0, fence: fence === null ? null : this.#numberOf(fence) };
    return {
      ret: 0,
      array: fence.fences.map((member) => this.#numberOf(member)),
      seqno: fence.seqno,
      signaled: fence.isSignaled(),
    };
  }

  *#lockSequence(resv: DmaResv, what: readonly Json[]): Op<{ ret: (number | boolean | string)[]; is_locked: boolean }> {
    const ctx = new WwAcquireCtx(this.#sim.reservationClass);
    const ret: (number | boolean | string)[] = [];
    for (const call of what) {
      if (call === 'dma_resv_trylock') ret.push(resv.tryLock());
      else if (call === 'dma_resv_lock(ctx)' || call === 'dma_resv_lock(same ctx)') ret.push(yield* lockBy(resv, ctx));
      else throw new Error(`unknown lock operation ${JSON.stringify(call)}`);
    }
    const answer = { ret, is_locked: resv.isLocked };
    resv.unlock();
    ctx.done();
    ctx.fini();
    return answer;
  }

  #stepFence({ op, args }: VectorOp): JsonObject {
    const warned = this.#sim.hazards.length;
    const warns = (): number => this.#sim.hazards.length - warned;
    switch (op) {
      case 'dma_fence_set_error': {
        const fence = this.#fence(args);
        fence.setError(errorIn(args, 'error'));
        return { warns: warns(), status: statusOf(fence.getStatus()), callbacks_fired: this.#fired };
      }
      case 'dma_fence_add_callback':
        return this.#addCallback(this.#fence(args), numberIn(args, 'cb'));
      case 'dma_fence_remove_callback': {
        const ret = this.#fence(args).removeCallback(at(this.#callbacks, numberIn(args, 'cb')));
        return { ret, callbacks_fired: this.#fired };
      }
      case 'dma_fence_is_later': {
        const [a, b] = [at(this.#fences, numberIn(args, 'f1')), at(this.#fences, numberIn(args, 'f2'))];
        return { same_context: a.context === b.context, ret: a.isLater(b), warns: warns() };
      }
      case 'dma_fence_array_create': {
        const array = new DmaFenceArray(this.#sim, this.#several(args), {
          seqno: numberIn(args, 'seqno'),
          signalOnAny: booleanIn(args, 'signal_on_any'),
        });
        this.#fences[numberIn(args, 'fence')] = array;
        return { warns: warns(), flag_signaled: array.signaled };
      }
      case 'dma_fence_chain_init':
        return { ...this.#chain(args), warns: warns() };
      case 'dma_fence_chain_find_seqno':
        return this.#findSeqno(this.#fence(args), numberIn(args, 'seqno'));
      case 'dma_fence_unwrap_merge':
        return this.#merged(dmaFenceUnwrapMerge(this.#sim, this.#several(args)));
      default:
        throw new Error(`unknown operation ${op}`);
    }
  }

  #addCallback(fence: DmaFence, number: number): JsonObject {
    const callback: DmaFenceCallback = () => {
      this.#fired.push(number);
      return undefined;
    };
    this.#callbacks[number] = callback;
    const ret = fence.addCallback(callback) ? 0 : '-ENOENT';
    return { ret, flag_signaled: fence.signaled, callbacks_fired: this.#fired };
  }

  #chain(args: JsonObject): JsonObject {
    const prev = numberIn(args, 'prev') < 0 ? null : at(this.#fences, numberIn(args, 'prev'));
    const link = new DmaFenceChain(this.#sim, prev, this.#fence(args), numberIn(args, 'seqno'));
    this.#fences[numberIn(args, 'chain')] = link;
    return {
      seqno: link.seqno,
      prev_seqno: link.prevSeqno,
      shares_prev_context: prev !== null && link.context === prev.context,
    };
  }

  #findSeqno(fence: DmaFence, seqno: number): JsonObject {
    try {
      const found = dmaFenceChainFindSeqno(fence, seqno);
      return { ret: 0, fence: found === null ? null : this.#numberOf(found) };
    } catch (error) {
      if (!(error instanceof ErrnoError)) throw error;
      return { ret: `-${error.code}`, fence: this.#numberOf(fence) };
    }
  }

  #merged(merged: DmaFence): JsonObject {
    const known = this.#fences.indexOf(merged);
    if (known >= 0) return { fence: known };
    if (merged instanceof DmaFenceArray) return { array: merged.fences.map((member) => this.#numberOf(member)) };
    return { stub: merged.driverName === 'stub', signaled: merged.signaled };
  }

  #queryFence({ args, result }: VectorOp): JsonObject {
    const fence = this.#fence(args);
    const is_signaled = fence.isSignaled();
    // Whatever its name says: in all recorded queries, of arrays that nobody had asked before as well, it is the flag afterwards.
    const flag_signaled_before = fence.signaled;
    const get_status = statusOf(fence.getStatus());
    const error = statusOf(fence.rawError);
    // The recorder waited in a part of its queries only.
    const waited = result?.['wait_timeout_0'] !== undefined;
    const wait = waited ? { wait_timeout_0: this.#sim.run(() => fence.waitTimeout(0)) } : {};
    const unwrapped = dmaFenceUnwrap(fence).map((leaf) => this.#numberOf(leaf));
    return { flag_signaled_before, is_signaled, get_status, error, ...wait, callbacks_fired: this.#fired, unwrapped };
  }

  #listed(resv: DmaResv, usage: DmaResvUsageValue): number[][] {
    return resv.entries(usage).map((entry) => [this.#numberOf(entry.fence), entry.usage]);
  }

  #resv(args: JsonObject): DmaResv {
    return at(this.#resvs, numberIn(args, 'resv'));
  }

  #fence(args: JsonObject): DmaFence {
    return at(this.#fences, numberIn(args, 'fence'));
  }

  #several(args: JsonObject): DmaFence[] {
    return arrayIn(args, 'fences').map((number) => at(this.#fences, number));
  }

  #numberOf(fence: DmaFence): number {
    return this.#fences.indexOf(fence);
  }
}

function* lockBy(resv: DmaResv, ctx: WwAcquireCtx): Op<number | string> {
  try {
    yield* resv.lock(ctx);
    return 0;
  } catch (error) {
    if (!(error instanceof ErrnoError)) throw error;
    return `-${error.code}`;
  }
}

function usageIn(args: JsonObject): DmaResvUsageValue {
  const name = stringIn(args, 'usage');
  const usage = USAGES.get(name);
  if (usage === undefined) throw new Error(`unknown usage ${name}`);
  return usage;
}

function errorIn(args: JsonObject, key: string): ErrnoCode {
  const text = stringIn(args, key);
  const code = codes().find((known) => `-${known}` === text);
  if (code === undefined) throw new Error(`unknown error ${text}`);
  return code;
}

/** A status as the vectors write it: errors by name. */
function statusOf(status: number): Json {
  const code = status < 0 ? codes().find((known) => ERRNO[known] === -status) : undefined;
  return code === undefined ? status : `-${code}`;
}

function codes(): readonly ErrnoCode[] {
  return Object.keys(ERRNO).filter((name): name is ErrnoCode => name in ERRNO);
}

function at<T>(list: readonly T[], index: Json): T {
  const value = typeof index === 'number' ? list[index] : undefined;
  if (value === undefined) throw new Error(`there is no number ${JSON.stringify(index)}`);
  return value;
}
