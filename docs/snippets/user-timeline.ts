/** Two clients of a DRM device share a timeline; one waits for a point that does not exist yet. PRIME gives a buffer one identity. */
import * as lib from '../../src/index.ts';

const soc = lib.armSoc();
const { sim, pages, coherency } = soc;
const device = soc.addDevice({ name: 'card0', coherent: true });
lib.addDrmNode(
  new lib.DrmDevice(sim, { driver: { ...lib.vgemDriver, syncobj: 'timeline' }, device, pages, coherency }),
  '/dev/dri/card0',
);
const app = soc.addProcess({ name: 'app' });
const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: number) => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);

sim.run(function* () {
  const [one, two] = [yield* app.open('/dev/dri/card0'), yield* app.open('/dev/dri/card0')];
  const { handle } = yield* app.ioctl(one, lib.DRM_IOCTL_SYNCOBJ_CREATE, {});
  const { fd } = yield* app.ioctl(one, lib.DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD, { handle });
  const other = (yield* app.ioctl(two, lib.DRM_IOCTL_SYNCOBJ_FD_TO_HANDLE, { fd })).handle;
  app.spawn('producer', function* () {
    yield* sim.delay(3000);
    yield* app.ioctl(one, lib.DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL, {
      handles: u32(handle),
      points: u64(7),
      count_handles: 1,
    });
  });
  yield* app.ioctl(two, lib.DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT, {
    ...{ handles: u32(other), points: u64(5), count_handles: 1, timeout_nsec: 1e9 },
    flags: lib.DRM_SYNCOBJ.waitForSubmit,
  });
  console.log(`point 5 was reached with point 7, after ${Math.floor(sim.now / 1000)} us`);

  const dumb = yield* app.ioctl(one, lib.DRM_IOCTL_MODE_CREATE_DUMB, { width: 100, height: 10, bpp: 32 });
  console.log(`100x10 pixels: ${dumb.pitch} bytes a row, ${dumb.size} in all`);
  yield* app.ioctl(two, lib.DRM_IOCTL_MODE_CREATE_DUMB, { width: 1, height: 1, bpp: 32 });
  const { fd: prime } = yield* app.ioctl(one, lib.DRM_IOCTL_PRIME_HANDLE_TO_FD, { handle: dumb.handle });
  const handleIn = function* (client: number): lib.Op<number> {
    return (yield* app.ioctl(client, lib.DRM_IOCTL_PRIME_FD_TO_HANDLE, { fd: prime })).handle;
  };
  console.log(`handle ${dumb.handle} comes back as ${yield* handleIn(one)}`);
  console.log(`the other client calls it ${yield* handleIn(two)}, and again ${yield* handleIn(two)}`);
  app.exit();
});
