/** Correct programs of the study: drivers with streaming mappings and allocations of their own. */
import * as b from './builders.ts';
import type { Program } from './program.ts';

const NIC = { name: 'nic0', coherent: false } as const;
const SNOOPER = { name: 'nic0', coherent: true } as const;
const LEGACY = { name: 'nic0', coherent: false, reach32: true } as const;
const PAGES = { name: 'ring', kind: 'pages' } as const;
const SIZE = 256;

/** One task does everything. */
function alone(
  what: Pick<Program, 'name' | 'about' | 'devices' | 'memory'> & Partial<Program>,
  ...items: readonly b.Item[]
): Program {
  return { setup: b.task('setup'), finish: b.task('finish'), ...what, tasks: [b.task('driver', ...items)] };
}

const toDevice = (device: Program['devices'][number], name: string, about: string, more: Partial<Program> = {}) =>
  alone(
    { name, about, devices: [device], memory: [PAGES], ...more },
    b.write('ring', 0, SIZE, 0x11),
    b.dmaMap('ring', 'nic0', 'to-device', SIZE),
    b.deviceRead('ring.dma', 0, SIZE),
    b.syncCpu('ring', 'to-device'),
    b.write('ring', 0, SIZE, 0x22),
    b.syncDevice('ring', 'to-device'),
    b.deviceRead('ring.dma', 0, SIZE),
    b.dmaUnmap('ring', 'to-device'),
    b.free('ring'),
  );

const fromDevice = (
  device: Program['devices'][number],
  how: 'single' | 'sg',
  name: string,
  about: string,
  more: Partial<Program> = {},
) =>
  alone(
    { name, about, devices: [device], memory: [PAGES], ...more },
    b.write('ring', 0, SIZE, 0x11),
    b.dmaMap('ring', 'nic0', 'from-device', SIZE, how),
    b.deviceWrite('ring.dma', 0, SIZE, 0x33),
    b.syncCpu('ring', 'from-device'),
    b.read('ring', 0, SIZE),
    b.syncDevice('ring', 'from-device'),
    b.deviceWrite('ring.dma', 0, SIZE, 0x44),
    b.dmaUnmap('ring', 'from-device'),
    b.read('ring', 0, SIZE),
    b.free('ring'),
  );

const bothWays = (
  device: Program['devices'][number],
  how: 'single' | 'sg',
  name: string,
  about: string,
  more: Partial<Program> = {},
) =>
  alone(
    { name, about, devices: [device], memory: [PAGES], ...more },
    b.write('ring', 0, SIZE, 0x11),
    b.dmaMap('ring', 'nic0', 'bidirectional', SIZE, how),
    b.deviceRead('ring.dma', 0, SIZE),
    b.deviceWrite('ring.dma', 0, SIZE, 0x33),
    b.syncCpu('ring', 'bidirectional'),
    b.read('ring', 0, SIZE),
    b.write('ring', 64, 128, 0x22),
    b.syncDevice('ring', 'bidirectional'),
    b.deviceRead('ring.dma', 0, SIZE),
    b.dmaUnmap('ring', 'bidirectional'),
    b.read('ring', 0, SIZE),
    b.free('ring'),
  );

const RECT = { pitchBytes: 256, x: 64, widthBytes: 128, y: 1, rows: 3 } as const;

/** The programs. */
export const driverPrograms: readonly Program[] = [
  toDevice(NIC, 'single-to-device', 'the CPU writes packets that a device reads'),
  fromDevice(NIC, 'single', 'single-from-device', 'a device writes packets that the CPU reads'),
  bothWays(NIC, 'sg', 'sg-both-ways', 'descriptors that device and CPU write in turn'),
  bothWays(SNOOPER, 'single', 'snooping-both-ways', 'the same on a device that snoops: no sync does anything'),
  bothWays({ ...NIC, iommu: true }, 'sg', 'iommu-strict', 'the same behind an IOMMU'),
  fromDevice({ ...NIC, iommu: true }, 'sg', 'iommu-lazy', 'behind an IOMMU that invalidates late', { lazyIommu: true }),
  toDevice(LEGACY, 'bounce-to-device', 'memory above the reach of a 32-bit device, which reads', { high: true }),
  fromDevice(LEGACY, 'single', 'bounce-from-device', 'memory above the reach of a 32-bit device, which writes', {
    high: true,
  }),
  bothWays({ ...LEGACY, coherent: true }, 'sg', 'bounce-snooping', 'bounced for a device that snoops', { high: true }),
  alone(
    {
      name: 'neighbours-in-a-line',
      about: 'a mapping that begins and ends inside lines, whose other bytes are left alone while the device has it',
      devices: [NIC],
      memory: [PAGES],
    },
    b.write('ring', 0, SIZE, 0x11),
    b.dmaMap('ring', 'nic0', 'from-device', 192, 'single', 32),
    b.deviceWrite('ring.dma', 0, 192, 0x33),
    b.syncCpu('ring', 'from-device'),
    b.read('ring', 0, SIZE),
    b.write('ring', 0, 32, 0x55),
    b.write('ring', 224, 32, 0x66),
    b.syncDevice('ring', 'from-device'),
    b.deviceWrite('ring.dma', 0, 192, 0x44),
    b.dmaUnmap('ring', 'from-device'),
    b.read('ring', 0, SIZE),
    b.free('ring'),
  ),
  alone(
    { name: 'partial-syncs', about: 'only the part of a ring that changed is synced', devices: [NIC], memory: [PAGES] },
    b.write('ring', 0, 512, 0x11),
    b.dmaMap('ring', 'nic0', 'bidirectional', 512),
    b.deviceWrite('ring.dma', 0, 256, 0x33),
    b.syncCpu('ring', 'bidirectional', { at: 0, bytes: 256 }),
    b.read('ring', 0, 256),
    b.write('ring', 256, 256, 0x22),
    b.syncDevice('ring', 'bidirectional', { at: 256, bytes: 256 }),
    b.deviceRead('ring.dma', 256, 256),
    b.dmaUnmap('ring', 'bidirectional'),
    b.read('ring', 0, 512),
    b.free('ring'),
  ),
  alone(
    { name: 'rectangle-syncs', about: 'a rectangle of an image is synced', devices: [NIC], memory: [PAGES] },
    b.write('ring', 0, 1024, 0x11),
    b.dmaMap('ring', 'nic0', 'bidirectional', 1024),
    b.deviceWrite('ring.dma', 320, 128, 0x33),
    b.deviceWrite('ring.dma', 832, 128, 0x34),
    b.syncRectCpu('ring', 'bidirectional', RECT),
    b.read('ring', 320, 128),
    b.read('ring', 832, 128),
    b.write('ring', 576, 128, 0x22),
    b.syncRectDevice('ring', 'bidirectional', RECT),
    b.deviceRead('ring.dma', 576, 128),
    b.dmaUnmap('ring', 'bidirectional'),
    b.read('ring', 0, 1024),
    b.free('ring'),
  ),
  alone(
    {
      name: 'coherent-allocation',
      about: 'a ring that a non-coherent device and the CPU see alike; a barrier goes before each doorbell',
      devices: [NIC],
      memory: [{ name: 'ring', kind: 'coherent', dev: 'nic0' }],
    },
    b.write('ring', 0, SIZE, 0x11),
    b.barrier,
    b.deviceRead('ring', 0, SIZE),
    b.deviceWrite('ring', 128, 128, 0x33),
    b.read('ring', 0, SIZE),
    b.write('ring', 32, 64, 0x22),
    b.barrier,
    b.deviceRead('ring', 0, SIZE),
    b.free('ring'),
  ),
  alone(
    {
      name: 'coherent-allocation-snooped',
      about: 'a ring in cached memory, for a device that snoops',
      devices: [SNOOPER],
      memory: [
        { name: 'ring', kind: 'coherent', dev: 'nic0' },
        { ...PAGES, name: 'packet' },
      ],
    },
    b.write('ring', 0, SIZE, 0x11),
    b.deviceRead('ring', 0, SIZE),
    b.write('packet', 0, SIZE, 0x55),
    b.dmaMap('packet', 'nic0', 'to-device', SIZE),
    b.deviceRead('packet.dma', 0, SIZE),
    b.dmaUnmap('packet', 'to-device'),
    b.deviceWrite('ring', 32, 32, 0x33),
    b.read('ring', 0, SIZE),
    b.free('packet'),
    b.free('ring'),
  ),
  alone(
    {
      name: 'write-combined-producer',
      about: 'the CPU fills a frame through a write-combining view, with a barrier before the device looks',
      devices: [NIC],
      memory: [{ name: 'ring', kind: 'write-combine', dev: 'nic0' }],
    },
    ...b.frames(3, 2, (i) => [b.write('ring', 0, SIZE, 0x20 + i), b.barrier, b.deviceRead('ring', 0, SIZE)]),
    b.free('ring'),
  ),
  alone(
    {
      name: 'uncached-consumer',
      about: 'the CPU sees a mapping past its caches, so only the map and the unmap matter',
      devices: [NIC],
      memory: [{ ...PAGES, view: 'uncached' }],
    },
    b.dmaMap('ring', 'nic0', 'bidirectional', SIZE),
    b.deviceWrite('ring.dma', 0, SIZE, 0x33),
    b.syncCpu('ring', 'bidirectional'),
    b.read('ring', 0, SIZE),
    b.write('ring', 64, 64, 0x22),
    b.syncDevice('ring', 'bidirectional'),
    b.deviceRead('ring.dma', 0, SIZE),
    b.dmaUnmap('ring', 'bidirectional'),
    b.free('ring'),
  ),
];
