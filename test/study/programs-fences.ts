/** Correct programs of the study: several tasks and jobs, kept in order by fences. */
import * as b from './builders.ts';
import type { Program } from './program.ts';

const GPU = { name: 'gpu', coherent: false, kind: 'gpu' } as const;
const GPU2 = { name: 'gpu2', coherent: false, kind: 'gpu' } as const;
const PANEL = { name: 'panel', coherent: false } as const;
const DISPLAY = { name: 'panel', coherent: false, kind: 'display' } as const;
const CAM = { name: 'cam', coherent: false, kind: 'camera' } as const;
const SIZE = 256;
const FRONT = { name: 'front', kind: 'heap' } as const;
const BACK = { name: 'back', kind: 'heap' } as const;

const buffer = (i: number): string => (i % 2 === 0 ? 'front' : 'back');

/** A process and a GPU work on one buffer; `gpu` tells whether it snoops. */
const gpuRoundTrip = (
  name: string,
  about: string,
  gpu: Program['devices'][number],
  wait: readonly b.Item[],
): Program => ({
  name,
  about,
  devices: [gpu],
  memory: [FRONT],
  setup: b.task('setup', ...b.opened('front'), b.importBuf('front', 'gpu')),
  tasks: [
    b.task(
      'app',
      b.begin('front', 'write'),
      b.write('front.cpu', 0, SIZE, 0x11),
      b.end('front', 'write'),
      b.submit('gpu', 'job1', { reads: [b.from('front', SIZE)], writes: [b.to('front', 128, 0x33)] }),
      ...wait,
      b.begin('front', 'rw'),
      b.read('front.cpu', 0, SIZE),
      b.write('front.cpu', 192, 64, 0x22),
      b.end('front', 'rw'),
      b.submit('gpu', 'job2', { reads: [b.from('front', SIZE)] }),
      b.wait('job2'),
    ),
  ],
  finish: b.task('finish', b.release('front', 'gpu'), ...b.closed('front')),
});

const panelSetup = [
  b.open('front'),
  b.open('back'),
  b.importBuf('front', 'gpu'),
  b.importBuf('back', 'gpu'),
  ...b.attached('front', 'panel', 'to-device'),
  ...b.attached('back', 'panel', 'to-device'),
];
const panelFinish = [
  b.release('front', 'gpu'),
  b.release('back', 'gpu'),
  ...b.detached('front', 'panel', 'to-device'),
  ...b.detached('back', 'panel', 'to-device'),
  b.close('front'),
  b.close('back'),
];

const SCREEN = 512;

/** Two buffers that a GPU draws and a display shows. */
const screens = [
  ...b.opened('front'),
  ...b.opened('back'),
  ...['front', 'back'].flatMap((buf) => [b.importBuf(buf, 'gpu', 'write'), b.importBuf(buf, 'panel', 'read')]),
];
const screensGone = [
  b.streamOff('panel'),
  ...['front', 'back'].flatMap((buf) => [b.release(buf, 'gpu'), b.release(buf, 'panel')]),
  ...b.closed('front'),
  ...b.closed('back'),
];

/** The programs. */
export const fencePrograms: readonly Program[] = [
  gpuRoundTrip('gpu-implicit', 'CPU, GPU, CPU: the process waits for the reservation, then opens its bracket', GPU, [
    b.idle('front', 'rw'),
  ]),
  gpuRoundTrip(
    'gpu-snooping-implicit',
    'a GPU that snoops: the wait in the bracket is enough',
    { ...GPU, coherent: true },
    [],
  ),
  gpuRoundTrip('gpu-explicit', 'the process waits for the fence of the job itself', GPU, [b.wait('job1')]),
  {
    name: 'double-buffer-explicit',
    about: 'a GPU renders, a panel shows; fences go both ways',
    devices: [GPU, PANEL],
    memory: [FRONT, BACK],
    setup: b.task('setup', ...panelSetup, ...[0, 1, 2, 3].map((i) => b.fence(`shown${i}`))),
    tasks: [
      b.task(
        'render',
        ...[0, 1, 2, 3].map((i) =>
          b.submit(
            'gpu',
            `drawn${i}`,
            { writes: [b.to(buffer(i), SIZE, 0x40 + i)] },
            { synced: false, waits: i < 2 ? [] : [`shown${i - 2}`] },
          ),
        ),
      ),
      b.task(
        'display',
        ...[0, 1, 2, 3].flatMap((i) => [
          b.wait(`drawn${i}`),
          b.deviceRead(`${buffer(i)}@panel`, 0, SIZE),
          b.signal(`shown${i}`),
        ]),
      ),
    ],
    finish: b.task('finish', ...panelFinish),
  },
  {
    name: 'double-buffer-timeline',
    about: 'the same with points of two timelines',
    devices: [GPU, PANEL],
    memory: [FRONT, BACK],
    setup: b.task('setup', ...panelSetup, ...[0, 1, 2].map((i) => b.fence(`shown${i}`))),
    tasks: [
      b.task(
        'render',
        ...[0, 1, 2].flatMap((i) => [
          ...(i < 2 ? [] : [b.waitPoint('shown', i - 1)]),
          b.submit('gpu', `drawn${i}`, { writes: [b.to(buffer(i), SIZE, 0x40 + i)] }, { synced: false }),
          b.addPoint('drawn', i + 1, `drawn${i}`),
        ]),
      ),
      b.task(
        'display',
        ...[0, 1, 2].flatMap((i) => [
          b.waitPoint('drawn', i + 1),
          b.deviceRead(`${buffer(i)}@panel`, 0, SIZE),
          b.signal(`shown${i}`),
          b.addPoint('shown', i + 1, `shown${i}`),
        ]),
      ),
    ],
    finish: b.task('finish', ...panelFinish),
  },
  {
    name: 'two-gpus-implicit',
    about: 'one GPU draws into two buffers in turn, another reads them; reservations keep them apart',
    devices: [GPU, GPU2],
    memory: [FRONT, BACK],
    setup: b.task(
      'setup',
      ...b.opened('front'),
      b.open('back'),
      ...['front', 'back'].flatMap((buf) => [b.importBuf(buf, 'gpu'), b.importBuf(buf, 'gpu2')]),
    ),
    tasks: [
      b.task(
        'app',
        ...b.frames(4, 4, (i) => [
          b.submit('gpu', `drawn${i}`, { writes: [b.to(buffer(i), SIZE, 0x40 + i)] }),
          b.submit('gpu2', `composed${i}`, { reads: [b.from(buffer(i), SIZE)] }),
        ]),
        b.idle('front', 'read'),
        b.begin('front', 'read'),
        b.read('front.cpu', 0, SIZE),
        b.end('front', 'read'),
      ),
    ],
    finish: b.task(
      'finish',
      ...['front', 'back'].flatMap((buf) => [b.release(buf, 'gpu'), b.release(buf, 'gpu2')]),
      ...b.closed('front'),
      b.close('back'),
    ),
  },
  {
    name: 'cpu-producer-fence',
    about: 'a process promises a frame by a fence in the reservation; the job of another task waits for it',
    devices: [GPU],
    memory: [FRONT],
    setup: b.task(
      'setup',
      ...b.opened('front'),
      b.importBuf('front', 'gpu', 'read'),
      b.begin('front', 'write'),
      b.fence('filled', 'front'),
    ),
    tasks: [
      b.task('producer', b.write('front.cpu', 0, SIZE, 0x11), b.end('front', 'write'), b.signal('filled')),
      b.task('consumer', b.submit('gpu', 'job', { reads: [b.from('front', SIZE)] }), b.wait('job')),
    ],
    finish: b.task('finish', b.release('front', 'gpu'), ...b.closed('front')),
  },
  {
    name: 'camera-gpu-panel-cpu',
    about: 'a camera captures, a GPU converts, a panel shows, the CPU takes a screenshot',
    devices: [CAM, GPU, PANEL],
    memory: [
      { name: 'raw', kind: 'heap' },
      { name: 'front', kind: 'heap' },
    ],
    setup: b.task(
      'setup',
      b.open('raw'),
      ...b.opened('front'),
      b.importBuf('raw', 'cam'),
      b.importBuf('raw', 'gpu', 'read'),
      b.importBuf('front', 'gpu', 'write'),
      ...b.attached('front', 'panel', 'to-device'),
      b.queue('cam', 'raw'),
      b.streamOn('cam'),
    ),
    tasks: [
      b.task(
        'film',
        ...b.frames(3, 2, (i) => [
          b.dequeue('cam'),
          b.submit('gpu', `drawn${i}`, { reads: [b.from('raw', 384)], writes: [b.to('front', SIZE, 0x40 + i)] }),
          b.wait(`drawn${i}`),
          b.queue('cam', 'raw'),
          b.deviceRead('front@panel', 0, SIZE),
          b.begin('front', 'read'),
          b.read('front.cpu', 0, SIZE),
          b.end('front', 'read'),
        ]),
        b.streamOff('cam'),
      ),
    ],
    finish: b.task(
      'finish',
      b.release('raw', 'gpu'),
      b.release('front', 'gpu'),
      b.release('raw', 'cam'),
      ...b.detached('front', 'panel', 'to-device'),
      b.close('raw'),
      ...b.closed('front'),
    ),
  },
  {
    name: 'gpu-display',
    about: 'a GPU draws into two buffers in turn, a display shows each when it is drawn',
    devices: [GPU, DISPLAY],
    memory: [FRONT, BACK],
    setup: b.task('setup', ...screens, b.streamOn('panel')),
    tasks: [
      b.task(
        'app',
        ...b.frames(4, 3, (i) => [
          b.submit('gpu', `drawn${i}`, { writes: [b.to(buffer(i), SCREEN, 0x40 + i)] }),
          b.flip('panel', buffer(i)),
        ]),
      ),
    ],
    finish: b.task('finish', ...screensGone),
  },
  {
    name: 'camera-gpu-display-cpu',
    about: 'a camera captures, a GPU converts, a display shows, the CPU takes screenshots',
    devices: [CAM, GPU, DISPLAY],
    memory: [{ name: 'raw', kind: 'heap' }, FRONT, BACK],
    setup: b.task(
      'setup',
      b.open('raw'),
      b.importBuf('raw', 'cam'),
      b.importBuf('raw', 'gpu', 'read'),
      ...screens,
      b.queue('cam', 'raw'),
      b.streamOn('cam'),
      b.streamOn('panel'),
    ),
    tasks: [
      b.task(
        'film',
        ...b.frames(3, 2, (i) => [
          b.dequeue('cam'),
          b.submit('gpu', `drawn${i}`, { reads: [b.from('raw', 384)], writes: [b.to(buffer(i), SCREEN, 0x40 + i)] }),
          b.wait(`drawn${i}`),
          b.queue('cam', 'raw'),
          b.begin(buffer(i), 'read'),
          b.read(`${buffer(i)}.cpu`, 0, SCREEN),
          b.end(buffer(i), 'read'),
          b.flip('panel', buffer(i)),
        ]),
        b.streamOff('cam'),
      ),
    ],
    finish: b.task('finish', b.release('raw', 'gpu'), b.release('raw', 'cam'), b.close('raw'), ...screensGone),
  },
  {
    name: 'camera-and-reader',
    about: 'a camera that maps its buffer for each frame only; a process reads between',
    devices: [{ ...CAM, mapsEachFrame: true }],
    memory: [{ name: 'raw', kind: 'heap' }],
    setup: b.task('setup', ...b.opened('raw'), b.importBuf('raw', 'cam'), b.queue('cam', 'raw'), b.streamOn('cam')),
    tasks: [
      b.task(
        'film',
        ...b.frames(3, 1, () => [
          b.dequeue('cam'),
          b.begin('raw', 'read'),
          b.read('raw.cpu', 0, 384),
          b.end('raw', 'read'),
          b.queue('cam', 'raw'),
        ]),
        b.streamOff('cam'),
      ),
    ],
    finish: b.task('finish', b.release('raw', 'cam'), ...b.closed('raw')),
  },
];
