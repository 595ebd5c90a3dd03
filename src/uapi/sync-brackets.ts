/**
 * The brackets of CPU access that a process has open, by buffer: whether each END had a START, and each START gets its END.
 *
 * 1. A bracket counts for the directions that it was begun for; an END closes, of each of its directions, the youngest that is open. So
 *    `START | RW` may be closed by `END | READ` and `END | WRITE`.
 * 2. A START that failed has opened nothing: not even one that a signal interrupted while it waited for fences, although the exporter's
 *    callback has run then. Who goes on to END has not looked at what START returned.
 * 3. When the process gives up its last descriptor and mapping of a buffer, or ends by itself, its brackets are open for good. A kill is
 *    not its fault. A child begins without brackets.
 *
 * Linux counts none of this: the calls do what they do, and a report comes after that.
 *
 * @see `Documentation/driver-api/dma-buf.rst` "CPU Access to DMA Buffer Objects"
 */
import type { Site } from '../base/site.ts';
import type { DmaBuf } from '../dmabuf/dma-buf.ts';
import { DMA_BUF_SYNC, describeSync } from '../dmabuf/dma-buf-sync.ts';
import type { Simulator } from '../sim/simulator.ts';

interface Bracket {
  /** Directions that are still open. */
  flags: number;
  readonly timeNs: number;
  readonly site: Site | null;
}

/** @internal The brackets of one process. Plain throughout. */
export class SyncBrackets {
  readonly #sim: Simulator;
  readonly #who: string;
  readonly #open = new Map<DmaBuf, Bracket[]>();
  /** How the last START of a buffer failed, until one succeeds. */
  readonly #failures = new Map<DmaBuf, string>();
  #isOver = false;

  constructor(sim: Simulator, who: string) {
    this.#sim = sim;
    this.#who = who;
  }

  /** A START has succeeded. */
  begun(buf: DmaBuf, flags: number): void {
    this.#failures.delete(buf);
    const open = this.#open.get(buf) ?? [];
    open.push({ flags: flags & DMA_BUF_SYNC.rw, timeNs: this.#sim.now, site: this.#sim.site() });
    this.#open.set(buf, open);
  }

  /** A START has failed with `code`. */
  failed(buf: DmaBuf, flags: number, code: string): void {
    this.#failures.set(buf, `${callText(flags)} failed with ${code} at ${this.#sim.now} ns`);
  }

  /** An END has succeeded. @throws {HazardError} `dmabuf.unbalanced-sync` under policy `'throw'`. */
  ended(buf: DmaBuf, flags: number): void {
    const before = this.#describe(buf);
    const open = this.#open.get(buf) ?? [];
    let missing = 0;
    for (const direction of [DMA_BUF_SYNC.read, DMA_BUF_SYNC.write]) {
      if ((flags & direction) === 0) continue;
      const bracket = open.findLast((one) => (one.flags & direction) !== 0);
      if (bracket === undefined) missing |= direction;
      else bracket.flags &= ~direction;
    }
    const left = open.filter((one) => one.flags !== 0);
    if (left.length > 0) this.#open.set(buf, left);
    else this.#open.delete(buf);
    const failure = this.#failures.get(buf);
    this.#failures.delete(buf);
    if (missing === 0) return;
    const start = callText(missing);
    const remedy =
      failure !== undefined
        ? `${failure}: look at what START returns, and repeat it after EINTR until it succeeds`
        : before === ''
          ? `begin with ${start} before the access`
          : `end a bracket with the directions it was begun for, or begin it with ${start} as well`;
    this.#report(buf, { call: callText(flags), open: before, remedy });
  }

  /** Whether a bracket of `buf` is open. */
  has(buf: DmaBuf): boolean {
    return this.#open.has(buf);
  }

  /** Buffers with open brackets. */
  get buffers(): readonly DmaBuf[] {
    return [...this.#open.keys()];
  }

  /** Nothing can close the brackets of `buf` after `call`. @throws {HazardError} as {@link ended}. */
  left(buf: DmaBuf, call: string): void {
    const open = this.#describe(buf);
    let end: number = DMA_BUF_SYNC.end;
    for (const { flags } of this.#open.get(buf) ?? []) end |= flags;
    this.#open.delete(buf);
    this.#failures.delete(buf);
    if (open !== '') this.#report(buf, { call, open, remedy: `${callText(end)} before ${call}` });
  }

  /** The process is being killed, and nobody is to blame, whatever its threads still do. */
  forget(): void {
    this.#isOver = true;
    this.#open.clear();
    this.#failures.clear();
  }

  #describe(buf: DmaBuf): string {
    return (this.#open.get(buf) ?? []).map(bracketText).join(', ');
  }

  #report(buf: DmaBuf, facts: { readonly call: string; readonly open: string; readonly remedy: string }): void {
    if (this.#isOver) return;
    const site = this.#sim.site()?.text ?? '';
    const hazard = 'dmabuf.unbalanced-sync';
    this.#sim.report({ hazard, buf: buf.name, who: this.#who, ...facts, site, timeNs: this.#sim.now });
  }
}

function bracketText({ flags, site, timeNs }: Bracket): string {
  const place = site?.text ?? '';
  return `${flagsText(flags)} at ${place === '' ? `${timeNs} ns` : place}`;
}

function callText(flags: number): string {
  return `ioctl(DMA_BUF_IOCTL_SYNC, ${flagsText(flags)})`;
}

function flagsText(flags: number): string {
  return describeSync(flags).replaceAll('DMA_BUF_SYNC_', '');
}
