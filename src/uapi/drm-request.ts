/** How a request of DRM is described: its number, its struct, and what it does for a client. */
import { lift, type MaybeOp, type Op } from '../sim/op.ts';
import type { DrmFile } from './drm-file.ts';
import { type Fields, type IoctlCall, type IoctlRequest, ioctlParts } from './ioctl.ts';
import { SizedCall } from './sized-ioctl.ts';

/** @internal One request. Gives the system call's result. */
export type DrmRequest = (file: DrmFile, call: IoctlCall) => Op<number>;

/** @internal A request that answers by its struct, or by nothing; `act` may wait. */
export function drmOp<F extends Fields>(
  request: IoctlRequest<F>,
  act: (file: DrmFile, sized: SizedCall<F>) => MaybeOp<void>,
): readonly [number, DrmRequest] {
  return [
    ioctlParts(request.code).nr,
    function* (file: DrmFile, call: IoctlCall): Op<number> {
      yield* lift(act(file, new SizedCall(call, request)));
      return 0;
    },
  ];
}
