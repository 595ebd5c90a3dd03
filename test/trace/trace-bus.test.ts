import { describe, expect, it } from 'vitest';
import { TraceBus } from '../../src/trace/trace-bus.ts';
import type { TraceEvent } from '../../src/trace/trace-events.ts';

const spawn: TraceEvent = { kind: 'task.spawn', timeNs: 1, task: 'a' };
const kill: TraceEvent = { kind: 'task.kill', timeNs: 2, task: 'a' };

describe('TraceBus', () => {
  it('hands events to the listeners of their kind first, then to those of all kinds', () => {
    const bus = new TraceBus();
    const log: string[] = [];
    bus.onAny((event) => {
      log.push(`any ${event.kind}`);
      return undefined;
    });
    bus.on('task.spawn', (event) => {
      log.push(`spawn ${event.task}`);
      return undefined;
    });
    bus.emit(spawn);
    bus.emit(kill);
    expect(log).toEqual(['spawn a', 'any task.spawn', 'any task.kill']);
  });

  it('is enabled exactly while somebody listens', () => {
    const bus = new TraceBus();
    expect(bus.enabled).toBe(false);
    const stopFirst = bus.on('task.kill', () => undefined);
    const stopSecond = bus.onAny(() => undefined);
    expect(bus.enabled).toBe(true);
    stopFirst();
    expect(bus.enabled).toBe(true);
    stopSecond();
    stopSecond();
    expect(bus.enabled).toBe(false);
  });

  it('ends one subscription only, though the same function was subscribed twice', () => {
    const bus = new TraceBus();
    let calls = 0;
    const listener = (): undefined => {
      calls++;
    };
    const stop = bus.onAny(listener);
    bus.onAny(listener);
    stop();
    stop();
    bus.emit(kill);
    expect([calls, bus.enabled]).toEqual([1, true]);
  });

  it('lets the error of a listener through', () => {
    const bus = new TraceBus();
    bus.onAny(() => {
      throw new Error('listener broke');
    });
    expect(() => bus.emit(kill)).toThrow('listener broke');
  });

  it('hands no event to listeners of another kind', () => {
    const bus = new TraceBus();
    const kinds: string[] = [];
    bus.on('hazard', (event) => {
      kinds.push(event.kind);
      return undefined;
    });
    bus.emit(kill);
    expect(kinds).toEqual([]);
  });
});
