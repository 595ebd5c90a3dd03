/**
 * The brackets of CPU access that drivers have open, by buffer: whether each end had a begin, and each begin gets its end. Those of
 * processes are counted by the processes themselves.
 *
 * 1. A bracket counts for the directions that it was begun for; an end closes, of each of its directions, the youngest that is open: one of
 *    its own task if there is one, else of any, since a driver may end in a worker what it began elsewhere.
 * 2. A begin that failed has opened nothing, and an end that failed closes nothing.
 * 3. What an exporter calls while it carries out a bracket call is part of that call and is not counted.
 * 4. A bracket that is open when the buffer is released, or at `checkLeaks` when its task is over, stays open for good. A task that was
 *    killed is not to blame.
 *
 * Linux counts none of this: the calls do what they do, and a report comes after that.
 *
 * @see `Documentation/driver-api/dma-buf.rst` "CPU Access to DMA Buffer Objects"
 */
import type { Site } from '../base/site.ts';
import type { DmaDirection } from '../dma-api/direction.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { Task } from '../sim/task.ts';
import type { DmaBuf } from './dma-buf.ts';

/** @internal A bracket call of a driver. */
export interface BracketCall {
  readonly dir: DmaDirection;
  /** As the driver writes it: `'beginCpuAccess(to-device)'`. */
  readonly call: string;
  readonly by: string;
}

interface OpenBracket extends BracketCall {
  /** Directions that are still open. */
  bits: number;
  readonly task: Task<unknown> | null;
  readonly site: Site | null;
  readonly timeNs: number;
}

const READ = 1;
const WRITE = 2;
const BITS: Readonly<Record<DmaDirection, number>> = {
  'from-device': READ,
  'to-device': WRITE,
  bidirectional: READ + WRITE,
};
const DIRS = ['none', 'from-device', 'to-device', 'bidirectional'] as const;

/** @internal The brackets of the drivers of one machine: `sim.part(KernelBrackets)`. Plain throughout. */
export class KernelBrackets {
  readonly #sim: Simulator;
  readonly #open = new Map<DmaBuf, OpenBracket[]>();
  /** Who is inside a bracket call, how deep. */
  readonly #inside = new Map<Task<unknown> | null, number>();

  constructor(sim: Simulator) {
    this.#sim = sim;
  }

  /** The running task makes a bracket call. @returns whether that is part of another one: rule 3. */
  enter(): boolean {
    const { currentTask } = this.#sim;
    const depth = this.#inside.get(currentTask) ?? 0;
    this.#inside.set(currentTask, depth + 1);
    return depth > 0;
  }

  /** Ends {@link enter}. */
  leave(): void {
    const { currentTask } = this.#sim;
    const depth = this.#inside.get(currentTask) ?? 0;
    if (depth > 1) this.#inside.set(currentTask, depth - 1);
    else this.#inside.delete(currentTask);
  }

  /** A begin has succeeded. */
  begun(buf: DmaBuf, call: BracketCall): void {
    const { currentTask: task, now: timeNs } = this.#sim;
    const open = this.#open.get(buf) ?? [];
    open.push({ ...call, bits: BITS[call.dir], task, site: this.#sim.site(), timeNs });
    this.#open.set(buf, open);
  }

  /** An end has succeeded. @throws {HazardError} `dmabuf.unbalanced-sync` under policy `'throw'`. */
  ended(buf: DmaBuf, { dir, call, by }: BracketCall): void {
    const open = this.#open.get(buf) ?? [];
    const before = textOf(open);
    const { currentTask } = this.#sim;
    let missing = 0;
    for (const bit of [READ, WRITE]) {
      if ((BITS[dir] & bit) === 0) continue;
      const fits = (one: OpenBracket): boolean => (one.bits & bit) !== 0;
      const found = open.findLast((one) => fits(one) && one.task === currentTask) ?? open.findLast(fits);
      if (found === undefined) missing |= bit;
      else found.bits &= ~bit;
    }
    this.#keep(buf, open);
    if (missing === 0) return;
    const start = otherCall(call, 'begin', missing);
    const isNone = before === '';
    const remedy = isNone
      ? `begin with ${start} before the access`
      : `end a bracket with the directions it was begun for, or begin it with ${start} as well`;
    this.#report(buf, { who: by, call, open: before, remedy });
  }

  /** The buffer is gone. @throws {HazardError} as {@link ended}. */
  released(buf: DmaBuf): void {
    this.#leave(buf, this.#open.get(buf) ?? [], 'release');
  }

  /**
   * Nothing more is to come, but from `running`: reports what tasks have left open that are over.
   *
   * @throws {HazardError} as {@link ended}.
   */
  checkOver(running: readonly string[]): void {
    for (const [buf, open] of [...this.#open]) {
      const over = open.filter(({ task, by }) => (task === null || task.outcome !== null) && !running.includes(by));
      if (over.length > 0) this.#leave(buf, over, 'the end of the program');
    }
  }

  #leave(buf: DmaBuf, left: readonly OpenBracket[], call: string): void {
    const open = this.#open.get(buf) ?? [];
    this.#keep(
      buf,
      open.filter((one) => !left.includes(one)),
    );
    const blamed = left.filter(({ task }) => task === null || task.killedBy === null);
    const [first] = blamed;
    if (first === undefined) return;
    let bits = 0;
    for (const one of blamed) bits |= one.bits;
    const remedy = `${otherCall(first.call, 'end', bits)} before ${call}`;
    this.#report(buf, { who: first.by, call, open: textOf(blamed), remedy });
  }

  #keep(buf: DmaBuf, open: readonly OpenBracket[]): void {
    const left = open.filter(({ bits }) => bits !== 0);
    if (left.length > 0) this.#open.set(buf, left);
    else this.#open.delete(buf);
  }

  #report(
    buf: DmaBuf,
    facts: { readonly who: string; readonly call: string; readonly open: string; readonly remedy: string },
  ): void {
    const site = this.#sim.site()?.text ?? '';
    this.#sim.report({ hazard: 'dmabuf.unbalanced-sync', buf: buf.name, ...facts, site, timeNs: this.#sim.now });
  }
}

function textOf(open: readonly OpenBracket[]): string {
  return open
    .map(({ call, site, timeNs, bits }) => {
      const place = site?.text ?? '';
      return `${otherCall(call, 'begin', bits)} at ${place === '' ? `${timeNs} ns` : place}`;
    })
    .join(', ');
}

/** The call that pairs with `call`, for `bits`, in its caller's words. */
function otherCall(call: string, step: 'begin' | 'end', bits: number): string {
  if (call.startsWith('ioctl(')) {
    const access = ['', 'READ', 'WRITE', 'RW'][bits] ?? '';
    return `ioctl(DMA_BUF_IOCTL_SYNC, ${step === 'begin' ? 'START' : 'END'} | ${access})`;
  }
  return call.replace(/^(begin|end)/, step).replace(/none|from-device|to-device|bidirectional/, DIRS[bits] ?? 'none');
}
