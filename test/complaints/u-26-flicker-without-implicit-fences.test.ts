/** A driver leaves no implicit fences, and the compositor looks for no others: it samples half-drawn pictures. */
import { describe, expect, it } from 'vitest';
import { freeHardware, reports } from './scene.ts';
import { drawAndSample } from './tearing.ts';

describe('U-26: "windows flicker, as if the compositor showed half-drawn frames"', () => {
  it('does, when the client’s driver leaves no fence in the buffer', () => {
    const { torn, machine } = drawAndSample({ implicit: false, honoursImplicit: true });
    expect(torn).toBe(5);
    expect(machine.sim.hazards[0]).toMatchObject({
      hazard: 'access.read-while-writing',
      first: { who: 'gpu0', action: 'write' },
      second: { who: 'gpu1', action: 'read' },
      work: "job 'frame 1'",
      remedy: expect.stringMatching(/gpu1: wait for fence gpu0:1 \(job 'frame 1'\) before reading/),
    });
    expect(new Set(reports(machine.sim))).toEqual(new Set(['access.read-while-writing']));
  });

  it('is the same when the fence is there and the compositor does not look', () => {
    const { torn, machine } = drawAndSample({ implicit: true, honoursImplicit: false });
    expect(torn).toBe(5);
    expect(reports(machine.sim)).toContain('access.read-while-writing');
  });

  it('is over when both drivers do implicit synchronisation', () => {
    for (const options of [{}, ...freeHardware()]) {
      const { torn, machine } = drawAndSample({ implicit: true, honoursImplicit: true }, options);
      expect([torn, reports(machine.sim)]).toEqual([0, []]);
    }
  });
});
