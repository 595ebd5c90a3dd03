import { describe, expect, it } from 'vitest';
import { assert, InvariantError } from '../../src/base/assert.ts';

describe('assert', () => {
  it('passes what holds, without making text of its arguments', () => {
    const argument = {
      toString(): string {
        throw new Error('made into text');
      },
    };
    expect(() => assert(true, 'never %s', argument)).not.toThrow();
  });

  it('throws an InvariantError with its arguments put in, in order and once', () => {
    expect(() => assert(false, '%s is not %s', 'a %s', 2)).toThrow(new InvariantError('a %s is not 2'));
    expect(() => assert(false, 'short: %s %s', null)).toThrow('short: null undefined');
  });
});

describe('InvariantError', () => {
  it('is an Error with a name of its own', () => {
    const error = new InvariantError('text');
    expect(error).toBeInstanceOf(Error);
    expect(String(error)).toBe('InvariantError: text');
  });
});
