/** A buffer goes to another process over a socket; its sender is killed while it waits; the buffer lives on with the receiver. */
import { armSoc, DMA_BUF_SET_NAME_B, describeLeftBuffers, memoryUsage } from '../../src/index.ts';

const soc = armSoc();
const sender = soc.addProcess({ name: 'sender' });
const [ours, theirs] = sender.socketpair({ cloexec: true });
const receiver = sender.fork('receiver');

soc.sim.run(function* () {
  const fd = sender.fds.install(soc.systemHeap.alloc(8192, 'shared'));
  yield* sender.ioctl(fd, DMA_BUF_SET_NAME_B, 'shared');
  sender.sendmsg(ours, { bytes: Uint8Array.of(1), fds: [fd] });
  yield* sender.close(fd);
  const onItsWay = memoryUsage(soc.sim, [sender]).buffers[0];
  console.log(`in the message: ${onItsWay?.holders.length} holders, ${onItsWay?.otherReferences} other reference`);

  sender.spawn('main', () => sender.recvmsg(ours)); // waits for an answer that never comes
  yield* soc.sim.delay(1000);
  yield* sender.kill();
  const { fds } = yield* receiver.recvmsg(theirs);
  console.log(`received as fd ${fds[0]} from a process that is gone: ${receiver.readlink(fds[0] as number)}`);
  receiver.exec(); // closes what is closed on exec: the sockets, but not what was received
  for (const line of describeLeftBuffers(memoryUsage(soc.sim, [sender]))) console.log(line);
  receiver.exit();
});
console.log(`left: ${memoryUsage(soc.sim, [sender]).totalBytes} bytes`);
