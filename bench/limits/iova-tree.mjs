/**
 * Ranges in a red-black tree in typed arrays, searched backwards range by range: the linear walk that `IovaAllocator` charges
 * as cost but does not perform. Node 0 is nil, node 1 stands above the space.
 *
 * Balance: Cormen, Leiserson, Rivest, Stein, "Introduction to Algorithms", chapter 13.
 */
const NIL = 0;
const ANCHOR = 1;
const LOW_END = 2 ** 20;

export class RangeTree {
  /** @param {number} capacity ranges at most */
  constructor(capacity) {
    const nodes = capacity + 2;
    this.left = new Int32Array(nodes);
    this.right = new Int32Array(nodes);
    this.parent = new Int32Array(nodes);
    this.red = new Uint8Array(nodes);
    this.lo = new Float64Array(nodes);
    this.hi = new Float64Array(nodes);
    this.spare = Array.from({ length: capacity }, (_, i) => nodes - 1 - i);
    this.root = ANCHOR;
    this.lo[ANCHOR] = this.hi[ANCHOR] = 2 ** 52;
    this.from = ANCHOR;
    this.failed = LOW_END;
  }

  previous(node) {
    return this.neighbour(node, this.left, this.right);
  }

  next(node) {
    return this.neighbour(node, this.right, this.left);
  }

  /** The next node on the side `near`. */
  neighbour(node, near, far) {
    const { parent } = this;
    let at = node;
    if (near[at] !== NIL) {
      at = near[at];
      while (far[at] !== NIL) at = far[at];
      return at;
    }
    let above = parent[at];
    while (above !== NIL && at === near[above]) {
      at = above;
      above = parent[above];
    }
    return above;
  }

  /** Turns `node` down to the side `down`; its child on the other side takes its place. */
  rotate(node, down, up) {
    const { parent, left, right } = this;
    const child = up[node];
    up[node] = down[child];
    if (down[child] !== NIL) parent[down[child]] = node;
    const above = parent[node];
    parent[child] = above;
    if (above === NIL) this.root = child;
    else if (left[above] === node) left[above] = child;
    else right[above] = child;
    down[child] = node;
    parent[node] = child;
  }

  insert(node, from) {
    const { left, right, parent, red, lo } = this;
    let at = from;
    let above = NIL;
    while (at !== NIL) {
      above = at;
      at = lo[node] < lo[at] ? left[at] : right[at];
    }
    parent[node] = above;
    left[node] = right[node] = NIL;
    red[node] = 1;
    if (lo[node] < lo[above]) left[above] = node;
    else right[above] = node;
    this.mendInsert(node);
  }

  mendInsert(inserted) {
    const { left, right, parent, red } = this;
    let node = inserted;
    while (node !== this.root && red[parent[node]] === 1) {
      const grandparent = parent[parent[node]];
      const isLeft = parent[node] === left[grandparent];
      const near = isLeft ? left : right;
      const far = isLeft ? right : left;
      const uncle = far[grandparent];
      if (uncle !== NIL && red[uncle] === 1) {
        red[parent[node]] = red[uncle] = 0;
        red[grandparent] = 1;
        node = grandparent;
        continue;
      }
      if (node === far[parent[node]]) {
        node = parent[node];
        this.rotate(node, near, far);
      }
      red[parent[node]] = 0;
      red[grandparent] = 1;
      this.rotate(grandparent, far, near);
    }
    red[this.root] = 0;
  }

  transplant(old, heir) {
    const { left, right, parent } = this;
    const above = parent[old];
    if (above === NIL) this.root = heir;
    else if (left[above] === old) left[above] = heir;
    else right[above] = heir;
    parent[heir] = above; // nil keeps a parent while the tree is mended
  }

  erase(node) {
    const { left, right, parent, red } = this;
    let removedRed = red[node];
    let heir;
    if (left[node] === NIL || right[node] === NIL) {
      heir = left[node] === NIL ? right[node] : left[node];
      this.transplant(node, heir);
    } else {
      let after = right[node];
      while (left[after] !== NIL) after = left[after];
      removedRed = red[after];
      heir = right[after];
      if (parent[after] === node) parent[heir] = after;
      else {
        this.transplant(after, heir);
        right[after] = right[node];
        parent[right[after]] = after;
      }
      this.transplant(node, after);
      left[after] = left[node];
      parent[left[after]] = after;
      red[after] = red[node];
    }
    if (removedRed === 0) this.mendErase(heir);
    parent[NIL] = NIL;
    red[NIL] = 0;
  }

  mendErase(start) {
    const { left, right, parent, red } = this;
    let node = start;
    while (node !== this.root && red[node] === 0) {
      const above = parent[node];
      const isLeft = node === left[above];
      const near = isLeft ? left : right;
      const far = isLeft ? right : left;
      let sibling = far[above];
      if (red[sibling] === 1) {
        red[sibling] = 0;
        red[above] = 1;
        this.rotate(above, near, far);
        sibling = far[above];
      }
      if (red[near[sibling]] === 0 && red[far[sibling]] === 0) {
        red[sibling] = 1;
        node = above;
        continue;
      }
      if (red[far[sibling]] === 0) {
        red[near[sibling]] = 0;
        red[sibling] = 1;
        this.rotate(sibling, far, near);
        sibling = far[above];
      }
      red[sibling] = red[above];
      red[above] = red[far[sibling]] = 0;
      this.rotate(above, near, far);
      node = this.root;
    }
    red[node] = 0;
  }

  find(page) {
    const { left, right, lo, hi } = this;
    let node = this.root;
    while (node !== NIL && (page < lo[node] || page > hi[node])) node = page < lo[node] ? left[node] : right[node];
    return node;
  }

  /** Where a search from `limit` down begins. */
  startAt(limit) {
    if (limit > LOW_END) return ANCHOR;
    let node = ANCHOR;
    for (let below = this.previous(node); below !== NIL && this.lo[below] >= limit; below = this.previous(below))
      node = below;
    return node;
  }

  /** @returns the place at or above `low`, or -1; leaves the range it was found under in `this.under`. */
  walk(start, size, limit, low) {
    const { lo, hi } = this;
    const align = size <= 1 ? 1 : 2 ** (32 - Math.clz32(size - 1));
    let node = start;
    let high = limit;
    for (;;) {
      if (lo[node] < high) high = lo[node];
      const last = high - size;
      const place = last - (last % align);
      this.under = node;
      node = this.previous(node);
      if (last < low || place < low) return -1;
      if (node === NIL || place > hi[node]) return place;
    }
  }

  alloc(size, limit) {
    const isLow = limit <= LOW_END;
    if (isLow && size >= this.failed) return -1;
    let place = this.walk(this.from, size, limit, 1);
    if (place < 0 && this.hi[this.from] < limit)
      place = this.walk(this.startAt(limit), size, limit, this.hi[this.from] + 1);
    if (place < 0) {
      if (isLow) this.failed = size;
      return -1;
    }
    const node = this.spare.pop();
    this.lo[node] = place;
    this.hi[node] = place + size - 1;
    this.insert(node, this.root);
    this.from = node;
    return place;
  }

  free(page) {
    const node = this.find(page);
    if (node === NIL) throw new Error(`no range begins at ${page}`);
    if (this.lo[node] >= this.lo[this.from]) this.from = this.next(node);
    this.failed = LOW_END;
    this.erase(node);
    this.spare.push(node);
  }
}
