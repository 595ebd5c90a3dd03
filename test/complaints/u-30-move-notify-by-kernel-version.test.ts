/** The same importer is refused by one kernel and taken by the next: whether `moveNotify` may be left out. */
import { describe, expect, it } from 'vitest';
import {
  type DmaBufProfile,
  dmaMapSgtable,
  dmaUnmapSgtable,
  exportDmaBuf,
  linux61,
  linux62,
  linux71,
  SgTable,
} from '../../src/index.ts';
import { deviceOf, failing, machineOf } from './scene.ts';

/** Attaches with options that have no `moveNotify`. */
function attachWithout(profile: DmaBufProfile): string {
  const machine = machineOf('pc');
  const nic = deviceOf(machine, 'pc', 'nic0');
  const frame = machine.pages.allocPages({ order: 0, owner: 'vram' });
  const buf = exportDmaBuf(machine.sim, {
    ...{ exporterName: 'vram', name: 'tensor', sizeBytes: 4096, priv: {}, profile },
    ops: {
      pin() {},
      unpin() {},
      mapDmaBuf({ dev }, dir) {
        const sgt = SgTable.fromPages([frame], { sizeBytes: 4096 });
        dmaMapSgtable(dev, sgt, dir);
        return sgt;
      },
      unmapDmaBuf: ({ dev }, sgt, dir) => dmaUnmapSgtable(dev, sgt, dir),
      release: () => machine.pages.freePages(frame, 1),
    },
  });
  const outcome = machine.sim.run(() =>
    failing(function* () {
      yield* buf.detach(yield* buf.dynamicAttach(nic, { allowPeer2Peer: true }));
    }),
  );
  buf.put();
  return outcome;
}

describe('U-30: "the module loads on 7.1 and gets EINVAL from dma_buf_dynamic_attach on 6.x"', () => {
  it.each([linux61, linux62])('is refused before 7.1, and the error says what is missing ($name)', (profile) => {
    expect(attachWithout(profile)).toMatch(/EINVAL.*moveNotify/);
  });

  it('is allowed from 7.1 on', () => {
    expect(attachWithout(linux71)).toBe('none');
  });
});
