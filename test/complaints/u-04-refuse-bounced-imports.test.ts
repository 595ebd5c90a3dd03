/** A driver that cannot work on a copy refuses it: a clean error at import instead of a green picture. */
import { describe, expect, it } from 'vitest';
import { pc } from '../../src/index.ts';
import { failing, reports } from './scene.ts';

function importing(refuseBounce: boolean, dmaMaskBits: number) {
  const machine = pc({ vtd: false, hazards: 'record', swiotlbBytes: 1024 * 1024 });
  const display = machine.addDevice({ name: 'display0', coherent: true, dmaMaskBits, refuseBounce });
  const outcome = machine.sim.run(function* () {
    const frame = machine.systemHeap.alloc(4096, 'nv12');
    const att = yield* frame.attach(display);
    const error = yield* failing(() => att.mapUnlocked('to-device'));
    for (const sgt of att.tables.keys()) yield* att.unmapUnlocked(sgt, 'to-device');
    yield* frame.detach(att);
    frame.put();
    return error;
  });
  return { outcome, usedSlots: machine.swiotlb?.highWaterSlots, found: reports(machine.sim) };
}

describe('U-04: "tell me at import that the buffer would be bounced"', () => {
  it('is refused with the address, the mask and the policy when the device does not reach the buffer', () => {
    const { outcome, usedSlots, found } = importing(true, 32);
    expect(outcome).toMatch(/E[A-Z]+/);
    expect(outcome).toContain('refuses bouncing');
    expect([usedSlots, found]).toEqual([0, []]);
  });

  it('works on a copy without the policy, and needs none where the device reaches the buffer', () => {
    expect(importing(false, 32).outcome).toBe('none');
    expect(importing(true, 40)).toEqual({ outcome: 'none', usedSlots: 0, found: [] });
  });
});
