/** A GPU draws a picture, a display shows it: who tells whom when it is done. */
import { armSoc, Display, Gpu, type GpuJob } from '../../src/index.ts';

const FORMAT = { width: 16, height: 8, strideBytes: 64, format: 'XR24' } as const;
const mode = { pixelClockKhz: 200_000, hdisplay: 16, htotal: 20, vdisplay: 8, vtotal: 10 };

function present(producer: 'implicit' | 'explicit', consumer: 'implicit' | 'explicit'): void {
  const soc = armSoc({ hazards: 'record' });
  const { sim } = soc;
  const gpu = new Gpu(soc.addDevice({ name: 'gpu0', coherent: true }), { launchNs: 0, pixelNs: 1, bytesPerNs: 4 });
  const display = new Display(
    soc.addDevice({ name: 'display0', coherent: true }),
    { mode, strideAlignBytes: 64, linesPerBatch: 1 },
    {
      onScanout: ({ bytes }) => {
        const lines = Array.from({ length: 8 }, (_, line) => bytes?.[64 * line]).join('');
        console.log(`${producer} producer, ${consumer} consumer: lines ${lines}, hazards: ${sim.hazards.length}`);
        return undefined;
      },
    },
  );
  sim.run(function* () {
    const buf = soc.cmaHeap.alloc(4096, 'picture');
    const framebuffer = yield* display.importFramebuffer(buf, FORMAT);
    const target = yield* gpu.importBuffer(buf);
    const draw: GpuJob = {
      name: 'draw',
      writes: [target],
      *run(memory) {
        for (let line = 0; line < 8; line++) {
          yield* sim.delay(150);
          memory.write((target.gpuVa + 64 * line) as typeof target.gpuVa, new Uint8Array(64).fill(1), 0, 64);
        }
      },
    };
    display.enable();
    yield* sim.delay(880);
    // With submitSynced the fence is left in the buffer, with submit only the caller has it.
    const fence = producer === 'implicit' ? yield* gpu.submitSynced(draw) : gpu.submit(draw);
    yield* display.pageFlip(framebuffer, consumer === 'explicit' ? { inFence: fence } : {});
    yield* display.waitVblank();
  });
  for (const { hazard, remedy } of sim.hazards) console.log(`  ${hazard}\n  ${remedy}`);
}

present('implicit', 'implicit');
present('explicit', 'explicit');
present('implicit', 'explicit');
present('explicit', 'implicit');
