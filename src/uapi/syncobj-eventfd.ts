/**
 * Raises an eventfd when a point of a sync object is reached, or exists. Not in Linux 6.1: it came with 6.6.
 *
 * @see Linux 6.6 `drivers/gpu/drm/drm_syncobj.c` drm_syncobj_eventfd_ioctl
 */
import type { EventFd } from './eventfd.ts';
import type { Syncobj } from './syncobj.ts';

/**
 * @internal Raises `eventfd` by 1, once, at once or later. Keeps the eventfd till then, but not the object: when that is gone
 * before the point existed, nothing happens. Plain.
 *
 * @param available - when the point exists; else when it is reached.
 */
export function raiseEventfdAt(syncobj: Syncobj, point: number, eventfd: EventFd, available: boolean): void {
  eventfd.get();
  const raise = (): undefined => {
    eventfd.raise();
    eventfd.put();
  };
  const tryIt = (): boolean => {
    const fence = syncobj.findFence(point);
    if (fence === null) return false;
    syncobj.unlisten(listener);
    const reached = (): undefined => {
      raise();
      fence.put();
    };
    if (available || !fence.addCallback(reached)) reached();
    return true;
  };
  const listener = {
    changed: (): undefined => {
      tryIt();
    },
    gone: (): undefined => {
      eventfd.put();
    },
  };
  if (!tryIt()) syncobj.listen(listener);
}
