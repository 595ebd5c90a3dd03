/** One program by hand and with the layer: what each step that is left out does, and that the layer leaves none out. */
import { describe, expect, it } from 'vitest';
import type { HazardFacts } from '../../src/base/hazards.ts';
import type { GpuBatch } from '../../src/devices/gpu/gpu-batch.ts';
import type { GpuBuffer, GpuJob } from '../../src/devices/gpu/gpu-job.ts';
import { Gpu } from '../../src/devices/gpu.ts';
import { DMA_BUF_SYNC } from '../../src/dmabuf/dma-buf-sync.ts';
import type { DmaFence } from '../../src/dmabuf/dma-fence.ts';
import { AdversarialChooser } from '../../src/sim/adversarial-chooser.ts';
import { type Chooser, RandomChooser } from '../../src/sim/chooser.ts';
import type { Op } from '../../src/sim/op.ts';
import { Prng } from '../../src/sim/prng.ts';
import { DMA_BUF_IOCTL_SYNC } from '../../src/uapi/dma-buf-file.ts';
import { DRM_IOCTL_SYNCOBJ_CREATE, DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL } from '../../src/uapi/drm-syncobj-requests.ts';
import { POLL } from '../../src/uapi/file.ts';
import { SharedBuffer, submitShared } from '../../src/uapi/shared-buffer.ts';
import { array } from './syncobj-bench.ts';
import { allocBuffer, CARDS, createDumb, handleToFd, outcome, SMALL, System } from './system.ts';

const { start, end, read, write, rw } = DMA_BUF_SYNC;
const JOB_NS = 5000;

/** An application, a GPU whose accesses do not snoop, and two buffers that it draws from and to. */
class Scene {
  readonly system: System;
  readonly sim;
  readonly app;
  readonly gpu: Gpu;

  constructor(chooser?: Chooser) {
    this.system = new System({
      ...SMALL,
      shadow: true,
      hazards: 'record',
      ...(chooser === undefined ? {} : { chooser }),
    });
    this.sim = this.system.sim;
    this.app = this.system.machine.addProcess({ name: 'app' });
    this.gpu = new Gpu(this.system.device('gpu0'), { launchNs: 100, pixelNs: 1, bytesPerNs: 1 });
  }

  *import(fd: number): Op<GpuBuffer> {
    const buf = this.app.fds.get(fd);
    const imported = yield* this.gpu.importBuffer(buf);
    buf.put();
    return imported;
  }

  /** Copies the first byte. */
  draw(from: GpuBuffer, to: GpuBuffer): GpuJob {
    const { sim } = this;
    return {
      name: 'draw',
      reads: [from],
      writes: [to],
      *run(memory) {
        const byte = new Uint8Array(1);
        memory.read(from.gpuVa, byte, 0, 1);
        yield* sim.delay(JOB_NS);
        memory.write(to.gpuVa, byte, 0, 1);
      },
    };
  }

  sync(fd: number, flags: number): Op<unknown> {
    return this.app.ioctl(fd, DMA_BUF_IOCTL_SYNC, { flags });
  }

  /** Runs a program, gives everything back and checks that nothing is left. @returns the hazards. */
  play(body: () => Op<void>): readonly HazardFacts[] {
    this.sim.run(body);
    this.sim.run(() => this.gpu.release());
    this.sim.run(() => this.app.kill());
    this.sim.run();
    this.system.expectNothingLeft();
    return this.sim.hazards;
  }
}

const codes = (hazards: readonly HazardFacts[]): string[] => [...new Set(hazards.map(({ hazard }) => hazard))].sort();
const seeds = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

function* flushed(batch: GpuBatch): Op<void> {
  for (const fence of yield* batch.flush()) fence.put();
}

/** Draws twice, each time another byte. @returns what the CPU has seen. */
function byHand(skip: 'nothing' | 'flush' | 'poll' | 'wait' | 'begin' | 'end', chooser?: Chooser) {
  const s = new Scene(chooser);
  const seen: number[] = [];
  const hazards = s.play(function* () {
    const [from, to] = [yield* allocBuffer(s.app), yield* allocBuffer(s.app)];
    const [input, output] = [yield* s.app.mmap(from), yield* s.app.mmap(to)];
    const job = s.draw(yield* s.import(from), yield* s.import(to));
    for (const value of [1, 2]) {
      const batch = s.gpu.batch();
      yield* s.sync(from, start | rw);
      input.write(0, Uint8Array.of(value));
      if (skip !== 'end') yield* s.sync(from, end | rw);
      batch.add(job);
      if (skip !== 'flush') yield* flushed(batch);
      if (skip !== 'wait' && skip !== 'poll') yield* s.app.poll([{ fd: to, events: POLL.in, revents: 0 }], -1);
      if (skip !== 'wait' && skip !== 'begin') yield* s.sync(to, start | read);
      seen.push(...output.read(0, 1));
      if (skip !== 'wait' && skip !== 'begin') yield* s.sync(to, end | read);
      if (skip === 'flush') yield* flushed(batch);
      yield* s.app.poll([{ fd: to, events: POLL.out, revents: 0 }], -1);
    }
  });
  return { seen, codes: codes(hazards).filter((code) => code !== 'dmabuf.unbalanced-sync') };
}

function withLayer(chooser?: Chooser) {
  const s = new Scene(chooser);
  const seen: number[] = [];
  const hazards = s.play(function* () {
    const batch = s.gpu.batch();
    const fds = [yield* allocBuffer(s.app), yield* allocBuffer(s.app)] as const;
    const [input, output] = fds.map((fd) => SharedBuffer.open(s.app, fd, { batches: [batch] }));
    if (input === undefined || output === undefined) return;
    const job = s.draw(yield* s.import(fds[0]), yield* s.import(fds[1]));
    for (const fd of fds) yield* s.app.close(fd);
    for (const value of [1, 2]) {
      yield* input.write(0, Uint8Array.of(value));
      batch.add(job);
      seen.push(...(yield* output.read(0, 1)));
    }
    yield* input.close();
    yield* output.close();
  });
  return { seen, codes: codes(hazards) };
}

describe('a program that draws and looks', () => {
  it('is right by hand when nothing is left out, and with the layer', () => {
    for (const played of [byHand('nothing'), withLayer()]) expect(played).toEqual({ seen: [1, 2], codes: [] });
  });

  it.each([
    ['flush', 'fence.unsubmitted-batch'],
    ['wait', 'access.read-while-writing'],
    ['begin', 'cpu-read.stale'],
    ['end', 'device-read.stale'],
  ] as const)('by hand without %s is wrong: %s', (skip, code) => {
    const played = byHand(skip);
    expect(played.codes).toContain(code);
    expect(played.seen).not.toEqual([1, 2]);
  });

  it('is right with the layer in any schedule, on hardware that fetches, evicts and drains as it likes', () => {
    for (const seed of seeds(25)) {
      const schedule = new RandomChooser(new Prng(seed).fork('schedule'));
      const hostile = new AdversarialChooser(new Prng(seed).fork('hostile'));
      for (const chooser of [schedule, hostile])
        expect([seed, withLayer(chooser)]).toEqual([seed, { seen: [1, 2], codes: [] }]);
    }
  });

  it('is not right by hand when START has to do the waiting: a cache may fetch old bytes before the fence', () => {
    const wrong = seeds(60).filter((seed) => {
      const played = byHand('poll', new AdversarialChooser(new Prng(seed).fork('hostile')));
      return played.codes.includes('cpu-read.stale');
    });
    expect(wrong.length).toBeGreaterThan(0);
  });
});

describe('SharedBuffer.withAccess', () => {
  /** A device has written a line, of which the CPU has an old copy. */
  function besides(fill: (s: Scene, fd: number, buffer: SharedBuffer) => Op<void>) {
    const s = new Scene();
    const bytes: number[] = [];
    const hazards = s.play(function* () {
      const fd = yield* allocBuffer(s.app);
      const buffer = SharedBuffer.open(s.app, fd);
      yield* buffer.read(0, 64);
      const target = yield* s.import(fd);
      const fence = yield* s.gpu.submitSynced({
        name: 'draw',
        writes: [target],
        run: (memory) => void memory.write(target.gpuVa, new Uint8Array(64).fill(7), 0, 64),
      });
      yield* fence;
      yield* fill(s, fd, buffer);
      bytes.push(...(yield* buffer.read(0, 2)));
      yield* buffer.close();
    });
    return { bytes, codes: codes(hazards) };
  }

  it('keeps the bytes beside those that are written, which a bracket for writing alone does not', () => {
    expect(besides((_s, _fd, buffer) => buffer.write(0, Uint8Array.of(1)))).toEqual({ bytes: [1, 7], codes: [] });
    const alone = besides(function* (s, fd) {
      const map = yield* s.app.mmap(fd);
      yield* s.sync(fd, start | write);
      map.write(0, Uint8Array.of(1));
      yield* s.sync(fd, end | write);
    });
    expect(alone.bytes).toEqual([1, 0]);
    expect(alone.codes).toContain('device-write.lost');
  });

  it('brackets for writing alone when everything is overwritten', () => {
    const whole = besides((_s, _fd, buffer) => buffer.write(0, new Uint8Array(4096).fill(1), { overwrite: true }));
    expect(whole).toEqual({ bytes: [1, 1], codes: [] });
    const s = new Scene();
    s.play(function* () {
      const buffer = SharedBuffer.open(s.app, yield* allocBuffer(s.app));
      const op = buffer.withAccess('read', () => undefined, { overwrite: true });
      let message = '';
      try {
        yield* op;
      } catch (error) {
        message = String(error);
      }
      expect(message).toContain("overwrite goes with 'write' only");
    });
  });

  it('ends the bracket when the body throws, and when the process is killed in it', () => {
    const s = new Scene();
    s.play(function* () {
      const buffer = SharedBuffer.open(s.app, yield* allocBuffer(s.app));
      const failing = s.sim.spawn('failing', () =>
        buffer.withAccess('read-write', (map) => {
          map.write(0, Uint8Array.of(3));
          throw new Error('no picture');
        }),
      );
      expect(yield* failing.exit).toBe('threw');
      const stuck = s.app.spawn('stuck', () => buffer.withAccess('write', () => s.sim.delay(1e9)));
      yield* s.sim.delay(1000);
      expect([s.system.count('dmabuf.begin-cpu-access'), s.system.count('dmabuf.end-cpu-access')]).toEqual([2, 1]);
      yield* s.app.kill();
      expect([stuck.outcome, s.system.count('dmabuf.end-cpu-access')]).toEqual(['killed', 2]);
    });
    expect(s.sim.hazards).toEqual([]);
  });

  it('leaves nothing in a write buffer', () => {
    const s = new Scene();
    s.play(function* () {
      const card = yield* s.app.open(CARDS[0]);
      const fd = yield* handleToFd(s.app, card, yield* createDumb(s.app, card));
      const buffer = SharedBuffer.open(s.app, fd);
      yield* buffer.withAccess('write', (map) => {
        map.write(0, Uint8Array.of(1));
        expect(s.system.machine.coherency.pendingLines).toBe(1);
      });
      expect(s.system.machine.coherency.pendingLines).toBe(0);
    });
  });

  it('waits on when signals come, wherever it waits', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      const fd = yield* allocBuffer(s.app);
      const buffer = SharedBuffer.open(s.app, fd);
      const target = yield* s.import(fd);
      yield* s.gpu.submitSynced(s.draw(target, target));
      const reader = s.app.spawn('reader', () => buffer.read(0, 1));
      for (let i = 0; i < 10; i++) {
        yield* s.sim.delay(JOB_NS / 20);
        s.app.interrupt();
      }
      expect(reader.outcome).toBeNull();
      yield* reader.done;
      expect(s.sim.now).toBeGreaterThanOrEqual(JOB_NS);
    });
    expect(hazards).toEqual([]);
  });

  it('waits for fences that were handed over explicitly: sync files, and points that are not submitted yet', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      const card = yield* s.app.open(CARDS[1]);
      const { handle } = yield* s.app.ioctl(card, DRM_IOCTL_SYNCOBJ_CREATE, {});
      const fd = yield* allocBuffer(s.app);
      const buffer = SharedBuffer.open(s.app, fd);
      const target = yield* s.import(fd);
      const fence = s.gpu.submit(s.draw(target, target));
      const syncFile = s.app.installFence(fence);
      fence.put();
      const later = s.app.spawn('later', function* () {
        yield* s.sim.delay(3 * JOB_NS);
        s.app.interrupt();
        const point = { handles: array([handle], 4), points: array([7], 8), count_handles: 1 };
        yield* s.app.ioctl(card, DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, point);
      });
      yield* buffer.read(0, 1, { after: [{ syncFile }] });
      expect(s.sim.now).toBeGreaterThanOrEqual(JOB_NS);
      yield* buffer.read(0, 1, { after: [{ card, handle, point: 7 }, { syncFile }] });
      expect(s.sim.now).toBeGreaterThanOrEqual(3 * JOB_NS);
      yield* later.done;
      expect(yield* outcome(() => buffer.read(0, 1, { after: [{ syncFile: 99 }] }))).toBe('EBADF');
    });
    expect(hazards).toEqual([]);
  });

  it('refuses what is no dma-buf, and a buffer that it has closed', () => {
    const s = new Scene();
    s.play(function* () {
      const heap = yield* s.app.open('/dev/dma_heap/system');
      expect(yield* outcome(() => void SharedBuffer.open(s.app, heap))).toBe('EINVAL');
      const buffer = SharedBuffer.open(s.app, yield* allocBuffer(s.app));
      yield* buffer.close();
      yield* buffer.close();
      expect(() => [...(buffer.read(0, 1) as Iterable<unknown>)]).toThrow('it was closed');
    });
  });
});

describe('SharedBuffer.submit', () => {
  it('lets implicit and explicit consumers wait for a job, and the job for both kinds of producers', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      const fds = [yield* allocBuffer(s.app), yield* allocBuffer(s.app)] as const;
      const [a, b] = [SharedBuffer.open(s.app, fds[0]), SharedBuffer.open(s.app, fds[1])];
      const [ga, gb] = [yield* s.import(fds[0]), yield* s.import(fds[1])];
      const other = new Gpu(s.system.device('gpu1'), s.gpu.params);
      const buf = s.app.fds.get(fds[1]);
      const theirs = yield* other.importBuffer(buf);
      buf.put();
      yield* a.write(0, Uint8Array.of(9));
      const first = yield* submitShared(
        [
          { buffer: a, access: 'read' },
          { buffer: b, access: 'write' },
        ],
        (waits) => s.gpu.submit({ ...s.draw(ga, gb), waits }),
      );
      const ready = function* (fd: number, events: number): Op<number> {
        return yield* s.app.poll([{ fd, events, revents: 0 }], 0);
      };
      expect([yield* ready(first, POLL.in), yield* ready(fds[0], POLL.in), yield* ready(fds[0], POLL.out)]).toEqual([
        0, 1, 0,
      ]);
      expect([yield* ready(fds[1], POLL.in), yield* ready(fds[1], POLL.out)]).toEqual([0, 0]);
      const seen = new Uint8Array(1);
      const look: GpuJob = { name: 'look', run: (memory) => void memory.read(theirs.gpuVa, seen, 0, 1) };
      const second = yield* b.submit('read', (waits) => other.submit({ ...look, waits }));
      const explicit = yield* b.submit('read', (waits) => other.submit({ ...look, waits }), [{ syncFile: second }]);
      yield* s.app.poll([{ fd: explicit, events: POLL.in, revents: 0 }], -1);
      expect([...seen, yield* ready(first, POLL.in)]).toEqual([9, 1]);
      expect([...(yield* b.read(0, 1))]).toEqual([9]);
      for (const fd of [first, second, explicit]) yield* s.app.close(fd);
      yield* other.release();
    });
    expect(hazards).toEqual([]);
  });

  it('flushes what the program has recorded before', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      const [from, to] = [yield* allocBuffer(s.app), yield* allocBuffer(s.app)];
      const batch = s.gpu.batch();
      const output = SharedBuffer.open(s.app, to, { batches: [batch] });
      const [gpuFrom, gpuTo] = [yield* s.import(from), yield* s.import(to)];
      yield* SharedBuffer.open(s.app, from).write(0, Uint8Array.of(5));
      batch.add(s.draw(gpuFrom, gpuTo));
      const seen = new Uint8Array(1);
      const look: GpuJob = { name: 'look', run: (memory) => void memory.read(gpuTo.gpuVa, seen, 0, 1) };
      const done = yield* output.submit('read', (waits) => s.gpu.submit({ ...look, waits }));
      yield* s.app.poll([{ fd: done, events: POLL.in, revents: 0 }], -1);
      expect([...seen, batch.pendingJobs]).toEqual([5, 0]);
    });
    expect(hazards).toEqual([]);
  });

  it('leaves nothing in flight when its fence can not be handed over', () => {
    const s = new Scene();
    const hazards = s.play(function* () {
      const app = s.system.machine.addProcess({ name: 'small', maxFds: 6 });
      const fd = yield* allocBuffer(app);
      const buffer = SharedBuffer.open(app, fd);
      const buf = app.fds.get(fd);
      const target = yield* s.gpu.importBuffer(buf);
      buf.put();
      const submit = () => buffer.submit('write', (waits) => s.gpu.submit({ ...s.draw(target, target), waits }));
      expect(yield* outcome(submit)).toBe('EMFILE');
      expect([s.gpu.pendingJobs, app.fds.open.length]).toEqual([0, 2]);
      yield* s.gpu.releaseBuffer(target);
      yield* app.kill();
    });
    expect(hazards).toEqual([]);
  });

  it('refuses nothing to use, buffers of two processes, an unknown access, and a fence that is none', () => {
    const s = new Scene();
    s.play(function* () {
      const other = s.system.machine.addProcess({ name: 'other' });
      const [mine, theirs] = [
        SharedBuffer.open(s.app, yield* allocBuffer(s.app)),
        SharedBuffer.open(other, yield* allocBuffer(other)),
      ];
      const never = () => expect.fail('it was submitted');
      const message = function* (op: Op<unknown>): Op<string> {
        try {
          yield* op;
          return '';
        } catch (error) {
          return String(error);
        }
      };
      expect(yield* message(submitShared([], never))).toContain('uses is empty');
      const uses = [mine, theirs].map((buffer) => ({ buffer, access: 'read' as const }));
      expect(yield* message(submitShared(uses, never))).toContain('several processes');
      expect(yield* message(mine.submit('read', never, [{ syncFile: mine.fd }]))).toContain('EINVAL');
      expect(yield* message(mine.submit('look' as 'read', never))).toContain('access look is not');
      expect(yield* message(mine.withAccess('look' as 'read', never))).toContain('access look is not');
      const open = s.app.fds.open.length;
      const nothing = () => undefined as unknown as DmaFence;
      expect(yield* message(mine.submit('read', nothing))).toContain('submit gave no fence');
      expect(s.app.fds.open.length).toBe(open);
      yield* other.kill();
    });
  });
});
