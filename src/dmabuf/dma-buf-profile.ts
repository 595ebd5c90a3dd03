/**
 * Which kernel's rules the dma-buf core follows. A profile belongs to a machine (`dmaBufCore(sim).profile`) or to one buffer
 * (`DmaBufExportInfo.profile`); nothing else in the core depends on a version.
 */

/** The rules that differ between kernels. */
export interface DmaBufProfile {
  /** As reports call it: `'linux-6.1'`. */
  readonly name: string;
  /**
   * `CONFIG_DMABUF_MOVE_NOTIFY`. Without it, every mapping of a dynamic importer pins the buffer while it lasts; with it, the
   * importer gives its mapping up when it is told that the buffer moves.
   */
  readonly moveNotify: boolean;
  /** Who holds the reservation lock to map and unmap: dynamic importers and importers of dynamic exporters, or all. */
  readonly mapLock: 'dynamic' | 'always';
  /** Whether `vmap` and `vunmap` demand the reservation lock. */
  readonly vmapLock: 'none' | 'held';
  /** Whether a dynamic importer may do without `moveNotify`. */
  readonly moveNotifyOptional: boolean;
}

/** Linux 6.1 as distributed: a static importer may map with or without the lock. The recorded answers are this one's. */
export const linux61: DmaBufProfile = {
  name: 'linux-6.1',
  moveNotify: false,
  mapLock: 'dynamic',
  vmapLock: 'none',
  moveNotifyOptional: false,
};

/** The locking convention written down in 6.2. @see Linux 6.2 `Documentation/driver-api/dma-buf.rst` "locking convention" */
export const linux62: DmaBufProfile = { ...linux61, name: 'linux-6.2', mapLock: 'always', vmapLock: 'held' };

/** Moves are always told, and an importer that can not give its mapping up is allowed (it is pinned). */
export const linux71: DmaBufProfile = { ...linux62, name: 'linux-7.1', moveNotify: true, moveNotifyOptional: true };
