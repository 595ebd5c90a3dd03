/**
 * Every kind of trace event with its fields: plain data, no references into the simulation.
 * Times are ns of simulated time, addresses and sizes bytes. A layer adds its kinds here.
 */
interface TraceFields {
  'task.spawn': { task: string };
  'task.end': { task: string; outcome: 'returned' | 'threw' | 'killed' };
  'task.kill': { task: string };
  'lock.acquire': { task: string; lock: string };
  'lock.release': { task: string; lock: string };
  'lock.wound': { task: string; lock: string };
  choice: { among: number; chosen: number };
  hazard: { code: string; text: string };
  'mem.alloc': { owner: string; phys: number; bytes: number };
  'mem.free': { owner: string; phys: number; bytes: number };
  'cache.maintain': { op: 'clean' | 'invalidate' | 'clean-invalidate'; phys: number; bytes: number; lines: number };
  'iommu.map': { domain: string; iova: number; phys: number; bytes: number };
  'iommu.unmap': { domain: string; iova: number; bytes: number };
  'iommu.flush': { domain: string; iova: number; bytes: number };
  'iommu.fault': { device: string; iova: number; access: 'read' | 'write'; reason: string };
  'dma.map': { device: string; dir: string; extents: number; segments: number; bytes: number };
  'dma.unmap': { device: string; dir: string; bytes: number };
  'dma.sync': { device: string; forWhom: 'cpu' | 'device'; dir: string; bytes: number };
  'swiotlb.bounced': { device: string; phys: number; tlb: number; bytes: number };
  'dmabuf.export': { buf: string; exporter: string; bytes: number };
  'dmabuf.attach': { buf: string; device: string };
  'dmabuf.detach': { buf: string; device: string };
  'dmabuf.map': { buf: string; device: string; dir: string };
  'dmabuf.unmap': { buf: string; device: string; dir: string };
  'dmabuf.begin-cpu-access': { buf: string; dir: string };
  'dmabuf.end-cpu-access': { buf: string; dir: string };
  'dmabuf.release': { buf: string };
  'dmabuf.pin': { buf: string; device: string };
  'dmabuf.unpin': { buf: string; device: string };
  'dmabuf.move-notify': { buf: string; importers: number };
  'dmabuf.vmap': { buf: string; count: number };
  'dmabuf.vunmap': { buf: string; count: number };
  'kernel.warn': { op: string; text: string };
  'fence.init': { fence: string; context: number; seqno: number };
  'fence.signal': { fence: string; error: string };
  'fence.signal-again': { fence: string };
  'device.frame': { device: string; stage: string; frame: number };
}

/** The name of an event: `'dmabuf.attach'`. */
export type TraceKind = keyof TraceFields;

/** The event of kind `K`: its fields, its `kind` and its time. */
export type TraceEventOf<K extends TraceKind> = K extends TraceKind
  ? { readonly kind: K; readonly timeNs: number } & Readonly<TraceFields[K]>
  : never;

/** Any event, discriminated by `kind`. */
export type TraceEvent = TraceEventOf<TraceKind>;
