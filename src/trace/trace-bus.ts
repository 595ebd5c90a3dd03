/**
 * The trace bus: the only way to observe a simulation.
 *
 * A layer that has something to tell asks {@link TraceBus.enabled} first and only then builds an event, so that
 * observation costs nothing when nobody looks. A listener may look, never act; what it throws ends the run.
 * Events of the same run come in the same order with the same fields: {@link TraceHash} proves it.
 */
import { EventEmitter } from 'eventemitter3';
import type { TraceColumns } from './trace-columns.ts';
import type { TraceEvent, TraceEventOf, TraceKind } from './trace-events.ts';

/** Receives events; must not change the simulation. */
export type TraceListener<E extends TraceEvent = TraceEvent> = (event: E) => undefined;

const ANY = '*';

/** Typed publish/subscribe for {@link TraceEvent}; one per simulator. */
export class TraceBus {
  /** True while anybody listens. Ask before you build an event. */
  enabled = false;
  /** When set, gets a row for every event the scheduler dispatches: kind and argument, no objects. */
  recorder: TraceColumns | null = null;
  readonly #emitter = new EventEmitter();

  /** Calls `listener` for each event of `kind`. @returns a function that ends the subscription. */
  on<K extends TraceKind>(kind: K, listener: TraceListener<TraceEventOf<K>>): () => void {
    return this.#subscribe(kind, listener);
  }

  /** Calls `listener` for every event. @returns a function that ends the subscription. */
  onAny(listener: TraceListener): () => void {
    return this.#subscribe(ANY, listener);
  }

  /** Hands `event` to its listeners, those of its kind first, at once. */
  emit(event: TraceEvent): void {
    this.#emitter.emit(event.kind, event);
    this.#emitter.emit(ANY, event);
  }

  #subscribe<E extends TraceEvent>(name: string, listener: TraceListener<E>): () => void {
    // A function of its own for each subscription, so that ending one leaves others of the same listener alone.
    const subscription = (event: E) => listener(event);
    this.#emitter.on(name, subscription);
    this.enabled = true;
    return () => {
      this.#emitter.off(name, subscription);
      this.enabled = this.#emitter.eventNames().length > 0;
    };
  }
}
