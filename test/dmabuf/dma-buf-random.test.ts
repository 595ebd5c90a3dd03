/**
 * Random programs of exporters, importers, moves and faults against a plain model; invariants after every step. `DMABUF_SIM_RUNS`
 * multiplies the number of operations: 100 makes it 100 000.
 */
import { describe, expect, it } from 'vitest';
import type { ErrnoCode } from '../../src/base/errno.ts';
import { ErrnoError } from '../../src/base/errors.ts';
import type { DmaDirection } from '../../src/dma-api/direction.ts';
import type { SgTable } from '../../src/dma-api/sg-table.ts';
import type { DmaBuf } from '../../src/dmabuf/dma-buf.ts';
import type { DmaBufAttachment } from '../../src/dmabuf/dma-buf-attachment.ts';
import { dmaBufCore } from '../../src/dmabuf/dma-buf-core.ts';
import { dmaBufStats } from '../../src/dmabuf/dma-buf-info.ts';
import type { CpuMapping } from '../../src/dmabuf/dma-buf-ops.ts';
import { linux61, linux62 } from '../../src/dmabuf/dma-buf-profile.ts';
import type { Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import { type Bench, bench } from '../bench.ts';
import { type FailingCallback, stateOf, type TestExporter, testBuffer } from './exporter.ts';

const OPERATIONS = 1000 * Number(process.env['DMABUF_SIM_RUNS'] ?? 1);
const OPERATIONS_A_PROGRAM = 200;

const DIRS: readonly DmaDirection[] = ['bidirectional', 'to-device', 'from-device'];
const FAILING: readonly FailingCallback[] = ['attach', 'pin', 'mapDmaBuf', 'beginCpuAccess', 'mmap', 'vmap'];
const CODES: readonly ErrnoCode[] = ['EINTR', 'ENOMEM', 'EBUSY', 'EIO'];
const PROFILES = [linux61, { ...linux61, moveNotify: true }, linux62];

/** What the model knows of an attachment. */
interface Member {
  readonly att: DmaBufAttachment<TestExporter>;
  readonly dynamic: boolean;
  /** Direction of the table that is kept, if one is. */
  kept: DmaDirection | null;
  readonly maps: { readonly sgt: SgTable; readonly dir: DmaDirection }[];
  pins: number;
  notified: number;
}

class Program {
  readonly #b: Bench;
  readonly #random: Prng;
  readonly #dynamic: boolean;
  readonly #cached: boolean;
  readonly #buf: DmaBuf<TestExporter>;
  readonly #members: Member[] = [];
  readonly #vmaps: CpuMapping[] = [];
  #references = 1;
  #moves = 0;
  #nextDevice = 0;

  constructor(seed: number) {
    this.#b = bench();
    this.#random = new Prng(seed);
    this.#dynamic = this.#chance(0.5);
    this.#cached = !this.#dynamic && this.#chance(0.4);
    const profile = PROFILES[this.#below(PROFILES.length)] ?? linux61;
    const waitNs = this.#chance(0.3) ? 5 : null;
    this.#buf = testBuffer(this.#b, { dynamic: this.#dynamic, cached: this.#cached, waitNs }, { profile });
  }

  run(operations: number): void {
    this.#b.sim.run(() => this.#steps(operations));
    this.#b.sim.run();
    const { priv, released } = this.#buf;
    expect([released, priv.count('release')]).toEqual([true, 1]);
    expect(dmaBufCore(this.#b.sim).warnings.every(({ op }) => op === 'vmap')).toBe(true);
  }

  *#steps(operations: number): Op<void> {
    for (let i = 0; i < operations; i++) {
      yield* this.#step();
      this.#check();
    }
    for (const member of [...this.#members]) yield* this.#leave(member);
    while (this.#vmaps.length > 0) yield* this.#vunmap();
    while (this.#references > 0) this.#put();
  }

  *#step(): Op<void> {
    const fault = this.#inject();
    const before = stateOf(this.#buf);
    try {
      yield* this.#anything();
      expect(fault()).toBe(false);
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.op !== 'exporter') throw error;
      expect([fault(), error.code]).toEqual([true, this.#buf.priv.fault?.code]);
      expect(stateOf(this.#buf)).toEqual(before);
    }
    this.#buf.priv.fault = null;
  }

  /** Now and then the next call of some callback fails. @returns what tells whether it did. */
  #inject(): () => boolean {
    if (!this.#chance(0.2)) return () => false;
    const callback = FAILING[this.#below(FAILING.length)] ?? 'attach';
    const { priv } = this.#buf;
    const nth = priv.count(callback) + 1;
    priv.fault = { callback, nth, code: CODES[this.#below(CODES.length)] ?? 'EIO' };
    return () => priv.count(callback) >= nth;
  }

  *#anything(): Op<void> {
    const member = this.#members[this.#below(this.#members.length)];
    const what = this.#below(12);
    if (what === 0) return this.#get();
    if (what === 1) return this.#references > 1 ? this.#put() : undefined;
    if (what === 2) return yield* this.#vmap();
    if (what === 3) return yield* this.#vunmap();
    if (what === 4) return yield* this.#mmap();
    if (what === 5) return yield* this.#move();
    if (what === 6) return yield* this.#bracket();
    if (what <= 8 || member === undefined) return yield* this.#join();
    if (what === 9) return yield* this.#map(member);
    if (what === 10) return yield* this.#unmap(member);
    return yield* this.#chance(0.5) ? this.#leave(member) : this.#pin(member);
  }

  *#join(): Op<void> {
    if (this.#members.length > 5) return;
    const device = this.#b.device(`d${this.#nextDevice++}`, { coherent: true });
    const dynamic = this.#chance(0.5);
    const ops = { moveNotify: (att: DmaBufAttachment) => this.#noteMove(att) };
    const att = yield* dynamic ? this.#buf.dynamicAttach(device, ops) : this.#buf.attach(device);
    const kept = dynamic !== this.#dynamic ? 'bidirectional' : null;
    this.#members.unshift({
      att,
      dynamic,
      kept,
      maps: [],
      pins: kept !== null && this.#dynamic ? 1 : 0,
      notified: this.#moves,
    });
  }

  *#leave(member: Member): Op<void> {
    while (member.maps.length > 0) yield* this.#unmap(member);
    yield* this.#buf.detach(member.att);
    this.#members.splice(this.#members.indexOf(member), 1);
  }

  *#map(member: Member): Op<void> {
    const dir = DIRS[this.#below(3)] ?? 'to-device';
    const { att, kept } = member;
    const refused = kept !== null && kept !== dir && kept !== 'bidirectional';
    try {
      const sgt = yield* att.mapUnlocked(dir);
      expect([refused, kept === null || sgt === att.keptTable]).toEqual([false, true]);
      member.maps.push({ sgt, dir });
      if (this.#pinsMaps(member)) member.pins++;
      if (this.#cached && kept === null) member.kept = dir;
    } catch (error) {
      if (!(error instanceof ErrnoError) || error.op !== 'map') throw error;
      expect([refused, error.code]).toEqual([true, 'EBUSY']);
    }
  }

  *#unmap(member: Member): Op<void> {
    const mapping = member.maps.splice(this.#below(member.maps.length), 1)[0];
    if (mapping === undefined) return;
    yield* member.att.unmapUnlocked(mapping.sgt, mapping.dir);
    if (this.#pinsMaps(member)) member.pins--;
  }

  *#pin({ att, dynamic }: Member): Op<void> {
    if (!dynamic) return;
    yield* this.#buf.resv.withLock(() => att.pin());
    yield* this.#buf.resv.withLock(() => att.unpin());
  }

  *#vmap(): Op<void> {
    const { buf, held } = { buf: this.#buf, held: this.#buf.profile.vmapLock === 'held' };
    this.#vmaps.push(yield* held ? buf.vmapUnlocked() : buf.vmap());
  }

  *#vunmap(): Op<void> {
    const map = this.#vmaps.pop();
    if (map === undefined) return;
    yield* this.#buf.profile.vmapLock === 'held' ? this.#buf.vunmapUnlocked(map) : this.#buf.vunmap(map);
  }

  *#mmap(): Op<void> {
    yield* this.#buf.mmap({ pgoff: this.#below(2), pageCount: 1 });
    this.#references++;
  }

  *#bracket(): Op<void> {
    const dir = DIRS[this.#below(3)] ?? 'to-device';
    yield* this.#buf.beginCpuAccess(dir);
    yield* this.#buf.endCpuAccess(dir);
  }

  *#move(): Op<void> {
    this.#moves++;
    yield* this.#buf.resv.withLock(() => this.#buf.moveNotify());
    for (const member of this.#members) {
      expect(member.notified).toBe(member.dynamic ? this.#moves : member.notified);
    }
  }

  #noteMove(att: DmaBufAttachment): undefined {
    for (const member of this.#members) if (member.att === att) member.notified = this.#moves;
    return undefined;
  }

  #get(): void {
    this.#buf.get();
    this.#references++;
  }

  #put(): void {
    this.#buf.put();
    this.#references--;
  }

  #pinsMaps({ dynamic }: Member): boolean {
    return dynamic && this.#dynamic && !this.#buf.profile.moveNotify;
  }

  #check(): void {
    const buf = this.#buf;
    expect([buf.references, buf.vmapCount, buf.resv.isLocked]).toEqual([this.#references, this.#vmaps.length, false]);
    expect(buf.attachments.every((att, i) => att === this.#members[i]?.att)).toBe(true);
    expect(buf.attachments.length).toBe(this.#members.length);
    for (const { att, kept, maps, pins } of this.#members) {
      const own = kept === null ? maps.length : 1;
      expect([att.keptTable !== null, att.tables.size, att.pinCount]).toEqual([kept !== null, own, pins]);
      const tables = new Set(maps.map(({ sgt }) => sgt));
      expect([att.mappings.size, [...tables].every((sgt) => att.mappings.has(sgt))]).toEqual([tables.size, true]);
    }
    const stats = dmaBufStats(dmaBufCore(this.#b.sim));
    expect([stats.buffers, stats.attachments]).toEqual([1, this.#members.length]);
    expect(buf.priv.count('release')).toBe(0);
  }

  #below(n: number): number {
    return n === 0 ? 0 : this.#random.int(n);
  }

  #chance(p: number): boolean {
    return this.#random.int(1000) < p * 1000;
  }
}

describe('random programs of exporters and importers', () => {
  it(`leave nothing behind and never surprise the model (${OPERATIONS} operations)`, {
    timeout: 20_000 + OPERATIONS * 10,
  }, () => {
    for (let seed = 1; seed <= OPERATIONS / OPERATIONS_A_PROGRAM; seed++) {
      try {
        new Program(seed).run(OPERATIONS_A_PROGRAM);
      } catch (error) {
        throw new Error(`program of seed ${seed} failed`, { cause: error });
      }
    }
  });
});
