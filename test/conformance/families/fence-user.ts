/** Family `fence-user`: timelines that a process drives itself, and sync files, through system calls. */

import { F } from '../../../src/uapi/fcntl.ts';
import { SYNC_IOC_FILE_INFO, SYNC_IOC_MERGE } from '../../../src/uapi/fence-file.ts';
import { type IoctlRequest, ioctlCode } from '../../../src/uapi/ioctl.ts';
import { SW_SYNC_IOC_CREATE_FENCE, SW_SYNC_IOC_INC } from '../../../src/uapi/sw-sync.ts';
import { replayedFamily } from '../family.ts';
import { errnoOr, hexIn, UserBench } from '../user-bench.ts';
import { type JsonObject, numberIn, stringIn, type VectorOp } from '../vector-case.ts';

const REQUESTS: Readonly<Record<string, Pick<IoctlRequest<Record<string, never>>, 'code'>>> = {
  SYNC_IOC_MERGE,
  SYNC_IOC_FILE_INFO,
  SW_SYNC_IOC_CREATE_FENCE,
  SW_SYNC_IOC_INC,
};

export default replayedFamily('fence-user', () => new Replay());

/** Numbers of the timeline and the fence that operations on "a file" use. */
const SPARE = -2;

class Replay {
  readonly #bench = new UserBench();

  step({ op, args, result = {} }: VectorOp): JsonObject {
    const known = this.#bench.step(op, args);
    if (known !== null) return known;
    switch (op) {
      case 'SYNC_IOC_FILE_INFO':
        return this.#info(args, 'poll' in result);
      case 'poll':
        return { poll: this.#bench.poll(this.#bench.fence(numberIn(args, 'fence')), hexIn(args, 'events')) };
      default:
        if (args['file'] === undefined) throw new Error(`unknown op ${op}`);
        return { ret: this.#onFile(op, args) };
    }
  }

  #info(args: JsonObject, isPolled: boolean): JsonObject {
    const fd = this.#bench.fence(numberIn(args, 'fence'));
    const [num_fences, flags, pad] = [numberIn(args, 'num_fences'), numberIn(args, 'flags'), numberIn(args, 'pad')];
    const info = this.#bench.info(fd, { num_fences, flags, pad });
    return isPolled ? { ...info, poll: this.#bench.poll(fd, 1) } : info;
  }

  #onFile(op: string, args: JsonObject): JsonObject[string] {
    const { app } = this.#bench;
    const fd = this.#fileOf(stringIn(args, 'file'));
    switch (op) {
      case 'ioctl': {
        const code = REQUESTS[stringIn(args, 'request')]?.code ?? ioctlCode('none', '?', 99, 0);
        return this.#bench.ret(() => app.ioctl(fd, code, null));
      }
      case 'read':
        return this.#bench.ret(() => app.read(fd, 4));
      case 'write':
        return this.#bench.ret(() => app.write(fd, new Uint8Array(4)));
      case 'lseek':
        return this.#bench.ret(() => app.lseek(fd, 0, 2));
      case 'mmap':
        return this.#bench.ret(() => app.mmap(fd, { length: 4096, prot: 1 }));
      case 'fcntl_getfd':
        return errnoOr(() => app.fcntl(fd, F.getfd));
      case 'fcntl_getfl':
        return errnoOr(() => app.fcntl(fd, F.getfl));
      default:
        throw new Error(`unknown op ${op}`);
    }
  }

  #fileOf(kind: string): number {
    const bench = this.#bench;
    if (bench.timeline(SPARE) < 0) {
      bench.openTimeline(SPARE);
      bench.step('SW_SYNC_IOC_CREATE_FENCE', { timeline: SPARE, value: 1, fence: SPARE });
    }
    return kind === 'sync_file' ? bench.fence(SPARE) : bench.timeline(SPARE);
  }
}
