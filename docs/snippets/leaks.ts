/** A compositor forgets to close the buffer of each frame; a detector finds it in the third frame that has one more, and the end names what is left. */
import { armSoc, checkLeaks, DMA_HEAP_IOCTL_ALLOC, GrowthDetector, leakReport } from '../../src/index.ts';

const FRAMES = 5;
const soc = armSoc({ hazards: 'record' });
const { sim } = soc;
const gpu = soc.addDevice({ name: 'gpu0', coherent: false });
const client = soc.addProcess({ name: 'client' });
const [ours, theirs] = client.socketpair();
const compositor = client.fork('compositor');

sim.run(function* () {
  const heap = yield* client.open('/dev/dma_heap/system');
  const detector = new GrowthDetector(soc);
  for (let frame = 1; frame <= FRAMES; frame++) {
    const { fd } = yield* client.ioctl(heap, DMA_HEAP_IOCTL_ALLOC, { len: 4096 });
    client.sendmsg(ours, { bytes: Uint8Array.of(frame), fds: [fd] });
    yield* client.close(fd); // the message holds it
    const message = yield* compositor.recvmsg(theirs);
    const buf = compositor.fds.get(message.fds[0] as number);
    const attachment = yield* buf.attach(gpu); // shows it; the descriptor stays open
    yield* buf.detach(attachment);
    buf.put();
    for (const { hazard, what, site } of detector.cycle()) console.log(`frame ${frame}: ${hazard}: ${what}, ${site}`);
  }
});
client.exit();
const { text, leaks } = leakReport(soc, { expect: [{ kind: 'fd', of: 'socket' }] });
console.log(text);
console.log(leaks[0]?.remedy);

compositor.exit();
console.log(`after the exit of the compositor: ${checkLeaks(soc)} leaks, ${sim.objects.size} objects alive`);
