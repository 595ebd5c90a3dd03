/**
 * Waiting for several files at once, at most for a while, until something is ready or a signal comes.
 *
 * Each round asks every file. The first round also tells each file's queues to wake the caller, so that nothing that happens
 * between the question and the wait is lost.
 *
 * @see Linux 6.1 `fs/select.c`; poll(2), select(2)
 */
import { nanos } from '../base/addr.ts';
import { ErrnoError } from '../base/errors.ts';
import { lift, type Op } from '../sim/op.ts';
import { settle } from '../sim/settle.ts';
import type { Simulator } from '../sim/simulator.ts';
import type { FdTable } from './fd-table.ts';
import { type OpenFile, POLL, type PollTable } from './file.ts';
import { SYSTEM_CALL } from './object-notes.ts';
import { Sleeper } from './signals.ts';

/** A file to wait for. */
export interface PollRequest {
  /** Negative: is passed over. */
  readonly fd: number;
  /** `POLL` bits. `err`, `hup` and `nval` come without being asked for. */
  readonly events: number;
  /** What is ready: set by the call. */
  revents?: number;
}

/** Descriptors to wait for, by kind of event; {@link SelectSets} with what is ready comes back. */
export interface SelectSets {
  readonly read?: readonly number[];
  readonly write?: readonly number[];
  readonly except?: readonly number[];
}

/** Who waits. */
interface Poller {
  readonly sim: Simulator;
  readonly fds: FdTable;
}

interface Polled {
  readonly file: OpenFile;
  readonly events: number;
}

/** What belongs to a set of select(2). @see Linux 6.1 `fs/select.c` POLLIN_SET, POLLOUT_SET, POLLEX_SET */
const READ_SET = POLL.rdnorm | POLL.rdband | POLL.in | POLL.hup | POLL.err;
const WRITE_SET = POLL.wrband | POLL.wrnorm | POLL.out | POLL.err;
const EXCEPT_SET = POLL.pri;

/** @internal See `Process.poll`. */
export function* pollFds(poller: Poller, requests: readonly PollRequest[], timeoutNs: number): Op<number> {
  if (requests.length > poller.fds.limit) throw new ErrnoError('EINVAL', 'poll', `${requests.length} requests`);
  const polled: Polled[] = [];
  const places: PollRequest[] = [];
  let bad = 0;
  for (const request of requests) {
    request.revents = 0;
    if (request.fd < 0) continue;
    const file = openFileAt(poller.fds, request.fd);
    if (file === null) {
      request.revents = POLL.nval;
      bad++;
    } else {
      polled.push({ file, events: request.events });
      places.push(request);
    }
  }
  const ready = yield* waitForFiles(poller.sim, polled, bad > 0 ? 0 : timeoutNs);
  for (const [at, mask] of ready.entries()) {
    const request = places[at];
    if (request !== undefined) request.revents = mask;
  }
  return bad + ready.filter((mask) => mask !== 0).length;
}

/** @internal See `Process.select`. */
export function* selectFds(
  poller: Poller,
  { read = [], write = [], except = [] }: SelectSets,
  timeoutNs: number,
): Op<Required<SelectSets>> {
  const asked = [
    ...read.map((fd) => ({ fd, events: READ_SET })),
    ...write.map((fd) => ({ fd, events: WRITE_SET })),
    ...except.map((fd) => ({ fd, events: EXCEPT_SET })),
  ];
  const polled = asked.map(({ fd, events }) => ({ file: poller.fds.file(fd, 'select'), events }));
  const ready = yield* waitForFiles(poller.sim, polled, timeoutNs);
  const readyOf = (events: number) => (fd: number) =>
    ready.some((mask, at) => asked[at]?.fd === fd && asked[at].events === events && (mask & events) !== 0);
  return {
    read: read.filter(readyOf(READ_SET)),
    write: write.filter(readyOf(WRITE_SET)),
    except: except.filter(readyOf(EXCEPT_SET)),
  };
}

/** Waits until one of `polled` is ready. Holds a reference of each file. @returns what is ready of each. */
function* waitForFiles(sim: Simulator, polled: readonly Polled[], timeoutNs: number): Op<number[]> {
  const limitNs = timeoutNs < 0 || timeoutNs === Infinity ? Infinity : nanos(timeoutNs);
  const sleeper = limitNs > 0 ? new Sleeper(sim, () => 'wait queue poll') : null;
  for (const { file } of polled) file.getFor(SYSTEM_CALL);
  try {
    yield* settle(sim);
    const deadline = sim.now + limitNs;
    for (let table: PollTable = sleeper === null ? null : (queue) => sleeper.watch(queue); ; table = null) {
      sleeper?.arm();
      const ready = yield* askAll(polled, table);
      if (ready.some((mask) => mask !== 0) || sleeper === null) return ready;
      if (!(yield* sleeper.sleep('poll', deadline - sim.now))) return ready;
    }
  } finally {
    sleeper?.end();
    for (const { file } of polled) file.putFor(SYSTEM_CALL);
  }
}

/** Asks each file; once one is ready, the others need not wake anybody. */
function* askAll(polled: readonly Polled[], table: PollTable): Op<number[]> {
  const ready: number[] = [];
  let watching = table;
  for (const { file, events } of polled) {
    const asked = events | POLL.err | POLL.hup;
    const mask = (yield* lift(file.poll(asked, watching))) & asked;
    if (mask !== 0) watching = null;
    ready.push(mask);
  }
  return ready;
}

function openFileAt(fds: FdTable, fd: number): OpenFile | null {
  try {
    return fds.file(fd, 'poll');
  } catch (error) {
    if (error instanceof ErrnoError) return null;
    throw error;
  }
}
