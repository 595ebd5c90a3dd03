/**
 * An inner node of an `IovaTree`: up to 16 blocks or nodes, ascending.
 *
 * @internal
 */
import type { IovaBlock } from './iova-block.ts';
import { ORDERS } from './iova-bounds.ts';

/** Children a node holds at most before it is split. @internal */
export const NODE_CHILDREN = 16;

/** What a node holds: other nodes, or blocks when its height is 1. @internal */
export type IovaChild = IovaNode | IovaBlock;

/** @internal See the head of this file. */
export class IovaNode {
  readonly children: IovaChild[] = [];
  /** No range below a child begins in front of this page, none below the child before it behind it. */
  readonly firsts = new Float64Array(NODE_CHILDREN + 1);
  /** Of all children. */
  readonly bounds = new Float64Array(ORDERS);
  /** 1: the children are blocks. */
  readonly height: number;
  /** Ranges below it. */
  count = 0;
  parent: IovaNode | null = null;

  constructor(height: number) {
    this.height = height;
  }

  /** Where `child` is. */
  slotOf(child: IovaChild): number {
    const { children } = this;
    let slot = 0;
    while (children[slot] !== child) slot++;
    return slot;
  }

  /** The child that `page` lies in or would be inserted into. */
  slotFor(page: number): number {
    let low = 0;
    let high = this.children.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.firsts[middle] as number) <= page) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Puts `child`, whose ranges begin at `first` or behind it, at `slot`. The caller sees to count and bounds. */
  insert(slot: number, child: IovaChild, first: number): void {
    const { length } = this.children;
    this.children.splice(slot, 0, child);
    this.firsts.copyWithin(slot + 1, slot, length);
    this.firsts[slot] = first;
    child.parent = this;
  }

  /** Takes the child at `slot` out. */
  remove(slot: number): void {
    this.children.splice(slot, 1);
    this.firsts.copyWithin(slot, slot + 1, this.children.length + 1);
  }

  /** Moves the upper half of the children into a new node. */
  split(): IovaNode {
    const upper = new IovaNode(this.height);
    const keep = this.children.length >> 1;
    upper.firsts.set(this.firsts.subarray(keep, this.children.length));
    upper.bounds.set(this.bounds);
    for (const child of this.children.splice(keep)) {
      upper.children.push(child);
      child.parent = upper;
      upper.count += child.count;
    }
    this.count -= upper.count;
    return upper;
  }
}
