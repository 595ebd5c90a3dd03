/**
 * What is to run at the present instant, in the order it became ready: tasks, and events without delay. In front of the
 * event queue, so that wake-ups never touch it.
 *
 * The tasks form one chain through `nextWaiter`, the link they had in the list they waited in: so all waiters of a list
 * are taken over at once, however many they are. The events lie in a ring; each knows how many of the tasks follow it
 * before the next event.
 */
import type { Task } from './task.ts';

const FIRST_WORDS = 64;

/** @internal Used by the scheduler only. */
export class ReadyQueue {
  /** Kind and argument of the event taken last, and its slot if it is held in the event queue; else -1. */
  takenKind = 0;
  takenArg = 0;
  takenHeld = -1;
  #firstTask: Task<unknown> | null = null;
  #lastTask: Task<unknown> | null = null;
  /** Tasks before the first event. */
  #leadingTasks = 0;
  // An event is four words: kind, argument, tasks after it, held slot.
  #words = new Int32Array(FIRST_WORDS);
  #head = 0;
  #used = 0;

  get isEmpty(): boolean {
    return this.#leadingTasks === 0 && this.#used === 0;
  }

  pushEvent(kind: number, arg: number, held = -1): void {
    if (this.#used === this.#words.length) this.#grow();
    const at = (this.#head + this.#used) & (this.#words.length - 1);
    this.#words[at] = kind;
    this.#words[at + 1] = arg;
    this.#words[at + 2] = 0;
    this.#words[at + 3] = held;
    this.#used += 4;
  }

  /** Adds a task that stands in no list. */
  pushTask(task: Task<unknown>): void {
    this.pushChain(task, task, 1);
  }

  /** Adds `count` tasks that are linked from `first` to `last`. */
  pushChain(first: Task<unknown>, last: Task<unknown>, count: number): void {
    if (this.#lastTask === null) this.#firstTask = first;
    else this.#lastTask.nextWaiter = first;
    this.#lastTask = last;
    if (this.#used === 0) this.#leadingTasks += count;
    else this.#follow(count);
  }

  /** Takes the entry that has waited longest if it is a task. */
  takeTask(): Task<unknown> | null {
    if (this.#leadingTasks === 0) return null;
    this.#leadingTasks--;
    const task = this.#firstTask as Task<unknown>;
    const next = task.nextWaiter;
    this.#firstTask = next;
    if (next === null) this.#lastTask = null;
    task.unlink();
    return task;
  }

  /** Takes the entry that has waited longest, an event. @returns false when the queue is empty. */
  takeEvent(): boolean {
    if (this.#used === 0) return false;
    const head = this.#head;
    this.takenKind = this.#words[head] as number;
    this.takenArg = this.#words[head + 1] as number;
    this.#leadingTasks = this.#words[head + 2] as number;
    this.takenHeld = this.#words[head + 3] as number;
    this.#head = (head + 4) & (this.#words.length - 1);
    this.#used -= 4;
    return true;
  }

  /** How many tasks may come next: all that are here, unless an event has waited longer. */
  get choices(): number {
    let count = this.#leadingTasks;
    if (count > 0) for (let i = 0; i < this.#used; i += 4) count += this.#words[this.#at(i) + 2] as number;
    return count;
  }

  /** Takes the `nth` task (from 0); the others keep their order. */
  takeNthTask(nth: number): Task<unknown> {
    let before: Task<unknown> | null = null;
    let task = this.#firstTask as Task<unknown>;
    for (let i = 0; i < nth; i++) {
      before = task;
      task = task.nextWaiter as Task<unknown>;
    }
    if (before === null) this.#firstTask = task.nextWaiter;
    else before.nextWaiter = task.nextWaiter;
    if (task.nextWaiter === null) this.#lastTask = before;
    task.unlink();
    this.#countOut(nth);
    return task;
  }

  /** Takes `task` out, wherever it is; the others keep their order. */
  remove(task: Task<unknown>): void {
    let nth = 0;
    for (let other = this.#firstTask; other !== task && other !== null; other = other.nextWaiter) nth++;
    this.takeNthTask(nth);
  }

  /** Whether all entries are of the kind that the functions tell; an event is told by its held slot, -1 without. */
  every(task: (task: Task<unknown>) => boolean, event: (held: number) => boolean): boolean {
    for (let other = this.#firstTask; other !== null; other = other.nextWaiter) if (!task(other)) return false;
    for (let i = 0; i < this.#used; i += 4) if (!event(this.#words[this.#at(i) + 3] as number)) return false;
    return true;
  }

  /** Counts the `nth` task out of the group it is in. */
  #countOut(nth: number): void {
    let left = nth - this.#leadingTasks;
    if (left < 0) this.#leadingTasks--;
    for (let i = 0; left >= 0; i += 4) {
      const at = this.#at(i) + 2;
      left -= this.#words[at] as number;
      if (left < 0) this.#words[at] = (this.#words[at] as number) - 1;
    }
  }

  #at(word: number): number {
    return (this.#head + word) & (this.#words.length - 1);
  }

  #follow(count: number): void {
    const at = this.#at(this.#used - 4) + 2;
    this.#words[at] = (this.#words[at] as number) + count;
  }

  #grow(): void {
    const words = new Int32Array(this.#words.length * 2);
    for (let i = 0; i < this.#used; i++) words[i] = this.#words[this.#at(i)] as number;
    this.#words = words;
    this.#head = 0;
  }
}
