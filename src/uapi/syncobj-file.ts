/** A sync object as a descriptor, to pass it to others. @see Linux 6.1 `drivers/gpu/drm/drm_syncobj.c` drm_syncobj_file_fops */
import { OpenFile } from './file.ts';
import type { Syncobj } from './syncobj.ts';

/** Keeps its object; has nothing else to offer. */
export class SyncobjFile extends OpenFile {
  readonly path = 'anon_inode:syncobj_file';
  readonly syncobj: Syncobj;

  /** Takes a reference to `syncobj` of its own. */
  constructor(syncobj: Syncobj) {
    super();
    syncobj.sim.objects.hold(this, syncobj);
    this.syncobj = syncobj.get();
  }

  protected override release(): void {
    this.syncobj.put();
    this.syncobj.sim.objects.unhold(this, this.syncobj);
  }
}
