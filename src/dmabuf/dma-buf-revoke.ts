/**
 * Taking a buffer's memory back while importers are attached: a device is reset or unplugged, and what it shared is gone.
 *
 * 1. The buffer is marked: from now on every map answers `ENODEV`.
 * 2. Importers are told, as for a move; all their work on the buffer is waited for (BOOKKEEP fences).
 * 3. Then the exporter waits until the last of them has unmapped. Only an importer that is told can be relied on to do so in
 *    bounded time, so the exporter admits no other ({@link Revocation.checkAttach}).
 *
 * @see Linux 7.1 `drivers/dma-buf/dma-buf.c` dma_buf_invalidate_mappings, dma_buf_attach_revocable
 */
import { ErrnoError } from '../base/errors.ts';
import type { Op } from '../sim/op.ts';
import { noteMoved } from './attachment-notes.ts';
import type { DmaBuf } from './dma-buf.ts';
import type { DmaBufAttachment } from './dma-buf-attachment.ts';
import { requireFree } from './dma-buf-locking.ts';
import { DmaResvUsage } from './dma-resv.ts';

/** An exporter's right to take one buffer back; part of the exporter's own data. */
export class Revocation {
  #revoked = false;

  /** Whether the buffer is taken back. */
  get revoked(): boolean {
    return this.#revoked;
  }

  /**
   * For the exporter's `attach`. Plain.
   *
   * @throws {ErrnoError} `EOPNOTSUPP` the importer can not be told (never retry; attach with `moveNotify`); `ENODEV` revoked.
   */
  checkAttach(att: DmaBufAttachment): void {
    if (!att.revocable) {
      const why = `${att.dev.name} can not be told that ${att.buf.name} is taken back; attach with moveNotify`;
      throw new ErrnoError('EOPNOTSUPP', 'attach', why);
    }
    this.checkMap(att.buf);
  }

  /** For the exporter's `mapDmaBuf` and `pin`. Plain. @throws {ErrnoError} `ENODEV` revoked (retry after {@link restore}). */
  checkMap(buf: DmaBuf): void {
    if (this.#revoked) throw new ErrnoError('ENODEV', 'map', `${buf.name} was taken back`);
  }

  /**
   * Takes the buffer back. Waits for the reservation lock, for all work on the buffer, and until no importer has it mapped.
   * The caller may free the memory then. Doing it again waits for the same and tells nobody.
   *
   * @throws {ErrnoError} `EBUSY` an importer that can not be told has it mapped; nothing changes (retry after its detach).
   * @throws {HazardError} `resv.held`.
   */
  *revoke(buf: DmaBuf): Op<void> {
    requireFree(buf, 'revoke');
    yield* buf.resv.withLock(() => this.#announce(buf));
    yield* buf.unmappedByAll();
  }

  /** The memory is back: maps work again. Plain. */
  restore(): void {
    this.#revoked = false;
  }

  *#announce(buf: DmaBuf): Op<void> {
    const deaf = buf.attachments.find((att) => att.tables.size > 0 && (!att.revocable || att.keptTable !== null));
    if (deaf !== undefined) {
      throw new ErrnoError('EBUSY', 'revoke', `${deaf.dev.name} keeps a table of ${buf.name} until it detaches`);
    }
    if (!this.#revoked) {
      this.#revoked = true;
      for (const att of buf.attachments) if (att.isDynamic) noteMoved(att, 'revoke');
      buf.moveNotify();
    }
    yield* buf.resv.wait(DmaResvUsage.bookkeep);
  }
}
