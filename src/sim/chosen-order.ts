/**
 * The order of an instant when a {@link Chooser} decides it. All that is due at the instant is taken out of the event queue
 * at once, so that the chooser sees every ready task; but nothing has happened yet, so it can still be taken back as if it
 * were in the queue: events are held there, and the tasks are marked `gathered`.
 *
 * Whenever a task is next and more than one is ready, the chooser picks. Events that are no tasks keep their place.
 */
import { assert } from '../base/assert.ts';
import type { TraceBus } from '../trace/trace-bus.ts';
import { type Chooser, type HardwarePoint, hardwareChoice } from './chooser.ts';
import type { EventQueue } from './event-queue.ts';
import type { ReadyQueue } from './ready-queue.ts';
import type { Task } from './task.ts';

/** @internal Used by a scheduler that has a chooser. */
export class ChosenOrder {
  /** What was chosen so far; what hardware chose as {@link hardwareChoice} writes it. */
  readonly choices: number[] = [];
  /** Whether the chooser is asked about hardware. */
  readonly choosesHardware: boolean;
  readonly #chooser: Chooser;
  readonly #queue: EventQueue;
  readonly #ready: ReadyQueue;
  readonly #trace: TraceBus;

  constructor(chooser: Chooser, queue: EventQueue, ready: ReadyQueue, trace: TraceBus) {
    this.#chooser = chooser;
    this.choosesHardware = chooser.choosesHardware === true;
    this.#queue = queue;
    this.#ready = ready;
    this.#trace = trace;
  }

  /**
   * Makes all events of the next instant ready, in order. The queue must not be empty.
   *
   * @param sleeper - the task that an event of this kind and argument resumes; `null` if it is another event.
   */
  gather(sleeper: (kind: number, arg: number) => Task<unknown> | null): void {
    const queue = this.#queue;
    do {
      const held = queue.popHeld();
      const task = sleeper(queue.poppedKind, queue.poppedArg);
      if (task === null) {
        this.#ready.pushEvent(queue.poppedKind, queue.poppedArg, held);
        continue;
      }
      queue.release(held);
      task.timer = -1;
      task.gathered = true;
      this.#ready.pushTask(task);
    } while (queue.hasMoreAtPoppedTime());
  }

  /** Takes back that the delay of `task` has ended. */
  ungather(task: Task<unknown>): void {
    this.#ready.remove(task);
    task.gathered = false;
  }

  /** Takes a ready task; the chooser picks which. @returns null when an event is first. */
  takeTask(now: number): Task<unknown> | null {
    const among = this.#ready.choices;
    const task = among <= 1 ? this.#ready.takeTask() : this.#ready.takeNthTask(this.#choose(among, now));
    if (task !== null) task.gathered = false;
    return task;
  }

  /** Whether nothing of what is ready keeps a run from ending: only sleeping daemons and events that were taken back. */
  get isIdle(): boolean {
    return this.#ready.every(
      (task) => task.gathered && task.daemon,
      (held) => held >= 0 && !this.#queue.isHeld(held),
    );
  }

  /** What hardware does of `count` possibilities; 0, which is nothing, unless the chooser is asked about hardware. */
  chooseHardware(count: number, point: HardwarePoint, now: number): number {
    if (!this.choosesHardware || count < 2) return 0;
    const chosen = this.#chooser.choose(count, point);
    assert(isChoice(chosen, count), 'chooser: %s is not in [0, %s)', chosen, count);
    this.choices.push(hardwareChoice(chosen));
    if (chosen > 0 && this.#trace.enabled) this.#trace.emit({ kind: 'choice', timeNs: now, among: count, chosen });
    return chosen;
  }

  #choose(among: number, now: number): number {
    const chosen = this.#chooser.choose(among, 'task');
    assert(isChoice(chosen, among), 'chooser: %s is not in [0, %s)', chosen, among);
    this.choices.push(chosen);
    if (this.#trace.enabled) this.#trace.emit({ kind: 'choice', timeNs: now, among, chosen });
    return chosen;
  }
}

function isChoice(chosen: number, among: number): boolean {
  return Number.isInteger(chosen) && chosen >= 0 && chosen < among;
}
