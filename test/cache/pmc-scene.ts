/** A page that a process and devices share, and by hand worked out ranges of wrong bytes. */
import { expect } from 'vitest';
import { type DmaAddr, dmaAddr } from '../../src/base/addr.ts';
import type { HazardFacts } from '../../src/base/hazards.ts';
import type { Device } from '../../src/dma-api/device.ts';
import type { Chooser } from '../../src/sim/chooser.ts';
import type { Op } from '../../src/sim/op.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import type { UserMapping } from '../../src/uapi/user-mapping.ts';
import { type Bench, bench } from '../bench.ts';

export const LINE = 64;
export const BYTES = 4096;
export const LINES = BYTES / LINE;

/** Bytes [from, to) of a buffer. */
export type Range = readonly [from: number, to: number];

/** A page that a process and a device share. */
export class Shared {
  readonly b: Bench;
  readonly view: UserMapping;
  readonly phys: number;
  readonly #sync: (flags: number) => Op<void>;
  readonly #devices: ReadonlyMap<string, { readonly dev: Device; readonly address: DmaAddr }>;

  constructor(
    b: Bench,
    view: UserMapping,
    phys: number,
    sync: (flags: number) => Op<void>,
    devices: Shared['devices'],
  ) {
    this.b = b;
    this.view = view;
    this.phys = phys;
    this.#sync = sync;
    this.#devices = devices;
  }

  get devices(): ReadonlyMap<string, { readonly dev: Device; readonly address: DmaAddr }> {
    return this.#devices;
  }

  sync(flags: number): Op<void> {
    return this.#sync(flags);
  }

  /** The device writes `value` into the bytes, by one access. */
  puts(value: number, [from, to]: Range = [0, BYTES], who = 'camera0'): void {
    const { dev, address } = this.#of(who);
    const bytes = new Uint8Array(to - from).fill(value);
    expect(dev.port.write(dmaAddr(address + from), bytes, 0, to - from)).toBe(to - from);
  }

  /** What the device reads. */
  gets(who = 'camera0'): Uint8Array {
    const { dev, address } = this.#of(who);
    const out = new Uint8Array(BYTES);
    expect(dev.port.read(address, out, 0, BYTES)).toBe(BYTES);
    return out;
  }

  #of(who: string): { readonly dev: Device; readonly address: DmaAddr } {
    return this.#devices.get(who) ?? expect.fail(`no device ${who}`);
  }
}

interface Options {
  readonly chooser?: Chooser;
  /** Devices, and whether they snoop. Default: `camera0`, which does not. */
  readonly devices?: Readonly<Record<string, boolean>>;
}

/** Runs `body` with a shared page that is mapped for the devices in both directions. */
export function share<T>(body: (scene: Shared) => Op<T>, { chooser, devices = { camera0: false } }: Options = {}) {
  const b = bench({ hazards: 'record', ...(chooser === undefined ? {} : { chooser }) });
  const app = b.machine.addProcess({ name: 'app' });
  const all = Object.entries(devices).map(([name, coherent]) => b.device(name, { coherent, iommu: true }));
  const value = b.sim.run(function* () {
    const buf = b.machine.systemHeap.alloc(BYTES, 'frame');
    const fd = app.fds.install(buf);
    const mapped = new Map<string, { readonly dev: Device; readonly address: DmaAddr }>();
    const ends: (() => Op<unknown>)[] = [];
    for (const dev of all) {
      const att = yield* buf.attach(dev);
      const sgt = yield* att.mapUnlocked('bidirectional');
      mapped.set(dev.name, { dev, address: sgt.dmaAddress(0) });
      ends.push(
        () => att.unmapUnlocked(sgt, 'bidirectional'),
        () => buf.detach(att),
      );
    }
    const view = yield* app.mmap(fd);
    const { phys = 0 } = buf.priv.memory.extents()[0] ?? {};
    function* sync(flags: number): Op<void> {
      yield* app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags });
    }
    const result = yield* body(new Shared(b, view, phys, sync, mapped));
    for (const done of ends) yield* done();
    app.exit();
    return result;
  });
  return { value, hazards: b.sim.hazards };
}

/** The ranges of `bytes` that are not `value`. */
export function wrongRanges(bytes: Uint8Array, value: number): Range[] {
  const ranges: [number, number][] = [];
  for (const [i, byte] of bytes.entries()) {
    const last = ranges.at(-1);
    if (byte === value) continue;
    if (last?.[1] === i) last[1]++;
    else ranges.push([i, i + 1]);
  }
  return ranges;
}

/** Reads line by line, so that each stale line has a report of its own. */
export function readLines(view: UserMapping): Uint8Array {
  const out = new Uint8Array(BYTES);
  for (let at = 0; at < BYTES; at += LINE) out.set(view.read(at, LINE), at);
  return out;
}

/** The wrong lines that the reports list, as ranges of the buffer. */
export function listed(hazards: readonly HazardFacts[], base: number): Range[] {
  const bytes = new Uint8Array(BYTES);
  for (const facts of hazards) {
    const phys = 'phys' in facts ? Number(facts.phys) - base : -1;
    if (phys >= 0) bytes.fill(1, phys, phys + LINE);
  }
  return wrongRanges(bytes, 0);
}

export const causes = (hazards: readonly HazardFacts[]): string[] => [
  ...new Set(hazards.map((facts) => ('cause' in facts ? `${facts.cause.code}: ${facts.cause.call}` : facts.hazard))),
];
