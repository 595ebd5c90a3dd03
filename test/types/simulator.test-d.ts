import { expectTypeOf } from 'vitest';
import { type Op, Simulator, type Task } from '../../src/index.ts';

const sim = new Simulator();
function* five(): Op<number> {
  yield* sim.delay(1);
  return 5;
}

// run gives what the body gives, whether it is an operation, a generator function or plain; also strings and arrays.
expectTypeOf(sim.run(five)).toEqualTypeOf<number>();
expectTypeOf(sim.run(() => five())).toEqualTypeOf<number>();
expectTypeOf(sim.run(() => sim.delay(1))).toEqualTypeOf<void>();
expectTypeOf(sim.run(() => 'text')).toEqualTypeOf<string>();
expectTypeOf(sim.run(() => [1, 2])).toEqualTypeOf<number[]>();
expectTypeOf(
  sim.run(function* () {
    return yield* five();
  }),
).toEqualTypeOf<number>();
expectTypeOf(sim.spawn('t', () => ['a'])).toEqualTypeOf<Task<string[]>>();
expectTypeOf(sim.spawn('t', five)).toEqualTypeOf<Task<number>>();
