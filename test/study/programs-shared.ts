/** Correct programs of the study: shared buffers that one task and ports of devices use in turn. */
import * as b from './builders.ts';
import type { MemoryDecl, Program } from './program.ts';

const CAM = { name: 'cam', coherent: false } as const;
const ENC = { name: 'enc', coherent: false } as const;
const SIZE = 256;

/** Setup opens and attaches, one task works, the rest gives everything back. */
function shared(
  what: Pick<Program, 'name' | 'about' | 'devices' | 'memory'> & Partial<Program>,
  setup: readonly b.Item[],
  work: readonly b.Item[],
  finish: readonly b.Item[],
): Program {
  return {
    ...what,
    setup: b.task('setup', ...setup),
    tasks: [b.task('work', ...work)],
    finish: b.task('finish', ...finish),
  };
}

const frame = (kind: MemoryDecl['kind']): readonly MemoryDecl[] => [{ name: 'frame', kind }];

const capture = (kind: MemoryDecl['kind'], name: string, about: string, more: Partial<Program> = {}) =>
  shared(
    { name, about, devices: [CAM], memory: frame(kind), ...more },
    [...b.opened('frame'), ...b.attached('frame', 'cam', 'from-device')],
    [
      b.deviceWrite('frame@cam', 0, SIZE, 0x33),
      b.begin('frame', 'read'),
      b.read('frame.cpu', 0, SIZE),
      b.end('frame', 'read'),
      b.deviceWrite('frame@cam', 0, SIZE, 0x44),
      b.begin('frame', 'read'),
      b.read('frame.cpu', 0, SIZE),
      b.end('frame', 'read'),
    ],
    [...b.detached('frame', 'cam', 'from-device'), ...b.closed('frame')],
  );

const encode = (kind: MemoryDecl['kind'], name: string, about: string, more: Partial<Program> = {}) =>
  shared(
    { name, about, devices: [ENC], memory: frame(kind), ...more },
    [...b.opened('frame'), ...b.attached('frame', 'enc', 'to-device')],
    [
      b.begin('frame', 'write'),
      b.write('frame.cpu', 0, SIZE, 0x11),
      b.end('frame', 'write'),
      b.deviceRead('frame@enc', 0, SIZE),
      b.begin('frame', 'rw'),
      b.write('frame.cpu', 96, 64, 0x22),
      b.end('frame', 'rw'),
      b.deviceRead('frame@enc', 0, SIZE),
    ],
    [...b.detached('frame', 'enc', 'to-device'), ...b.closed('frame')],
  );

const exchange = (kind: MemoryDecl['kind'], name: string, about: string, more: Partial<Program> = {}) =>
  shared(
    { name, about, devices: [CAM], memory: frame(kind), ...more },
    [...b.opened('frame'), ...b.attached('frame', 'cam', 'bidirectional')],
    [
      b.begin('frame', 'write'),
      b.write('frame.cpu', 0, SIZE, 0x11),
      b.end('frame', 'write'),
      b.deviceRead('frame@cam', 0, SIZE),
      b.deviceWrite('frame@cam', 0, SIZE, 0x33),
      b.begin('frame', 'rw'),
      b.read('frame.cpu', 0, SIZE),
      b.write('frame.cpu', 32, 64, 0x22),
      b.end('frame', 'rw'),
      b.deviceRead('frame@cam', 0, SIZE),
    ],
    [...b.detached('frame', 'cam', 'bidirectional'), ...b.closed('frame')],
  );

const TOP = { at: 0, bytes: 256 } as const;

/** The programs. */
export const sharedPrograms: readonly Program[] = [
  capture('heap', 'heap-capture', 'a device fills a buffer of the heap that a process has mapped'),
  encode('heap', 'heap-encode', 'a process fills a buffer of the heap that a device reads'),
  exchange('cma', 'cma-exchange', 'process and device write contiguous memory in turn'),
  exchange('udmabuf', 'udmabuf-exchange', 'the pages of a file as a buffer'),
  exchange('heap', 'heap-bounced', 'a buffer above the reach of a 32-bit device', {
    devices: [{ ...CAM, reach32: true }],
    high: true,
  }),
  capture('heap', 'heap-snooped', 'a device that snoops: brackets do nothing but have to be there', {
    devices: [{ ...CAM, coherent: true }],
  }),
  capture('uncached-heap', 'uncached-heap', 'a heap whose memory the CPU does not cache'),
  shared(
    {
      name: 'zeroed-heap',
      about: 'a device reads a new buffer: the zeros of the kernel are still in the caches when it is mapped',
      devices: [ENC],
      memory: frame('heap'),
    },
    [b.open('frame')],
    [
      ...b.attached('frame', 'enc', 'to-device'),
      b.deviceRead('frame@enc', 0, SIZE),
      ...b.detached('frame', 'enc', 'to-device'),
    ],
    [b.close('frame')],
  ),
  shared(
    {
      name: 'kernel-vmap',
      about: 'a driver works on a buffer through vmap',
      devices: [CAM],
      memory: frame('heap'),
    },
    b.attached('frame', 'cam', 'bidirectional'),
    [
      b.vmap('frame', 'frame.kernel'),
      b.kernelBegin('frame', 'write'),
      b.write('frame.kernel', 0, SIZE, 0x11),
      b.kernelEnd('frame', 'write'),
      b.deviceRead('frame@cam', 0, SIZE),
      b.deviceWrite('frame@cam', 64, 128, 0x33),
      b.kernelBegin('frame', 'read'),
      b.read('frame.kernel', 0, SIZE),
      b.kernelEnd('frame', 'read'),
      b.vunmap('frame.kernel'),
    ],
    [...b.detached('frame', 'cam', 'bidirectional'), b.put('frame')],
  ),
  shared(
    {
      name: 'two-importers',
      about: 'one device writes, the CPU draws over it, another device reads',
      devices: [CAM, ENC],
      memory: frame('heap'),
    },
    [...b.opened('frame'), ...b.attached('frame', 'cam', 'from-device'), ...b.attached('frame', 'enc', 'to-device')],
    [
      b.deviceWrite('frame@cam', 0, SIZE, 0x33),
      b.begin('frame', 'rw'),
      b.write('frame.cpu', 64, 96, 0x22),
      b.end('frame', 'rw'),
      b.deviceRead('frame@enc', 0, SIZE),
      b.deviceWrite('frame@cam', 0, SIZE, 0x44),
      b.deviceRead('frame@enc', 0, SIZE),
      b.begin('frame', 'read'),
      b.read('frame.cpu', 0, SIZE),
      b.end('frame', 'read'),
    ],
    [...b.detached('frame', 'enc', 'to-device'), ...b.detached('frame', 'cam', 'from-device'), ...b.closed('frame')],
  ),
  shared(
    {
      name: 'mixed-coherency',
      about: 'a device that snoops and one that does not share a buffer, which the CPU hands on',
      devices: [{ ...CAM, coherent: true }, ENC],
      memory: frame('heap'),
    },
    [...b.opened('frame'), ...b.attached('frame', 'cam', 'from-device'), ...b.attached('frame', 'enc', 'to-device')],
    [
      b.begin('frame', 'write'),
      b.write('frame.cpu', 0, SIZE, 0x11),
      b.end('frame', 'write'),
      b.deviceRead('frame@enc', 0, SIZE),
      b.deviceWrite('frame@cam', 0, SIZE, 0x33),
      b.begin('frame', 'read'),
      b.read('frame.cpu', 0, SIZE),
      b.end('frame', 'read'),
      b.deviceRead('frame@enc', 0, SIZE),
    ],
    [...b.detached('frame', 'enc', 'to-device'), ...b.detached('frame', 'cam', 'from-device'), ...b.closed('frame')],
  ),
  shared(
    {
      name: 'own-exporter-partial',
      about: "an exporter of the user's own that can sync parts of a buffer",
      devices: [CAM],
      memory: frame('own'),
    },
    [...b.attached('frame', 'cam', 'bidirectional'), b.vmap('frame', 'frame.kernel')],
    [
      b.deviceWrite('frame@cam', 0, 512, 0x33),
      b.kernelBegin('frame', 'rw', TOP),
      b.read('frame.kernel', 0, 256),
      b.write('frame.kernel', 0, 128, 0x22),
      b.kernelEnd('frame', 'rw', TOP),
      b.deviceRead('frame@cam', 0, 512),
      b.kernelBegin('frame', 'read'),
      b.read('frame.kernel', 0, 512),
      b.kernelEnd('frame', 'read'),
    ],
    [b.vunmap('frame.kernel'), ...b.detached('frame', 'cam', 'bidirectional'), b.put('frame')],
  ),
  shared(
    {
      name: 'ping-pong',
      about: 'CPU and device take turns for ten frames',
      devices: [CAM],
      memory: frame('heap'),
    },
    [...b.opened('frame'), ...b.attached('frame', 'cam', 'bidirectional')],
    b.frames(10, 2, (i) => [
      b.begin('frame', 'rw'),
      b.write('frame.cpu', 0, SIZE, 0x10 + i),
      b.end('frame', 'rw'),
      b.deviceRead('frame@cam', 0, SIZE),
      b.deviceWrite('frame@cam', 0, SIZE, 0x30 + i),
      b.begin('frame', 'read'),
      b.read('frame.cpu', 0, SIZE),
      b.end('frame', 'read'),
    ]),
    [...b.detached('frame', 'cam', 'bidirectional'), ...b.closed('frame')],
  ),
  shared(
    {
      name: 'camera-stream',
      about: 'a camera fills two buffers in turn, a process reads each',
      devices: [{ ...CAM, kind: 'camera' }],
      memory: [
        { name: 'a', kind: 'heap' },
        { name: 'b', kind: 'heap' },
      ],
    },
    [...b.opened('a'), ...b.opened('b'), b.importBuf('a', 'cam'), b.importBuf('b', 'cam')],
    [
      b.queue('cam', 'a'),
      b.streamOn('cam'),
      ...b.frames(4, 2, (i) => {
        const [mine, next] = i % 2 === 0 ? ['a', 'b'] : ['b', 'a'];
        return [
          b.dequeue('cam'),
          b.queue('cam', next ?? ''),
          b.begin(mine ?? '', 'read'),
          b.read(`${mine}.cpu`, 0, 384),
          b.end(mine ?? '', 'read'),
        ];
      }),
      b.streamOff('cam'),
    ],
    [b.release('a', 'cam'), b.release('b', 'cam'), ...b.closed('a'), ...b.closed('b')],
  ),
];
