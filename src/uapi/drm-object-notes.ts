/** What clients of DRM devices tell the ledger of objects (`sim.objects`). Nothing is told, at no cost, while nobody keeps it. */
import type { DrmFile } from './drm-file.ts';
import type { GemObject } from './drm-gem.ts';
import type { Syncobj } from './syncobj.ts';

/** @internal An object came to be; an imported one has taken over the reference of its buffer, and the attachment is a part of it. */
export function noteObjectMade(object: GemObject): void {
  const { objects } = object.device.sim;
  if (!objects.enabled) return;
  objects.track(object, 'gem-object', { of: 'gem', owner: object.device.device.name });
  const { imported } = object;
  if (imported === null) objects.alias(object.resv, object);
  else {
    objects.adopt(object, imported.buf);
    objects.alias(imported.attachment, object);
  }
}

/** @internal A client has a handle, which has a reference. */
export function noteHandle(client: DrmFile, object: GemObject, handle: number): void {
  const { objects } = object.device.sim;
  if (!objects.enabled) return;
  const owner = objects.of(client)?.owner ?? client.path;
  const name = `handle ${handle} of ${owner} in ${client.path}`;
  objects.note(client, 'handle', {
    ...{ of: 'gem', name, owner, holds: object, takesOver: true },
    ...{ within: client, tag: handle },
  });
}

/** @internal A sync object came to be. */
export function noteSyncobjMade(syncobj: Syncobj): void {
  const { objects, currentTask } = syncobj.sim;
  objects.track(syncobj, 'syncobj', { of: 'syncobj', name: 'sync object', owner: currentTask?.name ?? 'kernel' });
}

/** @internal A client has a handle of a sync object, which has a reference; it belongs to `subject`, which is a part of the client. */
export function noteSyncobjHandle(
  syncobj: Syncobj,
  { subject, within, handle }: { readonly subject: object; readonly within: object; readonly handle: number },
): void {
  const { objects } = syncobj.sim;
  if (!objects.enabled) return;
  const owner = objects.of(within)?.owner ?? 'kernel';
  const name = `sync object handle ${handle} of ${owner}`;
  objects.note(subject, 'handle', {
    ...{ of: 'syncobj', name, owner, holds: syncobj, takesOver: true },
    ...{ within, tag: handle },
  });
}
