/**
 * A loadable module, as far as it matters who may use which symbol and who must not go away: its licence, the namespaces it
 * imports, and how many hold it.
 *
 * @see Linux 6.1 `Documentation/core-api/symbol-namespaces.rst`; `kernel/module/main.c`
 */
import { assert } from '../base/assert.ts';
import { ErrnoError } from '../base/errors.ts';

/** What a module says of itself. */
export interface KernelModuleInfo {
  readonly name: string;
  /** `MODULE_LICENSE`: `'GPL'`, `'Dual MIT/GPL'`, `'Proprietary'`. */
  readonly license: string;
  /** `MODULE_IMPORT_NS`: `['DMA_BUF']`. Default: none. */
  readonly namespaces?: readonly string[];
}

/** A symbol that some module exports to others. */
export interface ExportedSymbol {
  /** `'dma_buf_attach'` */
  readonly name: string;
  /** The namespace to import, or `''`. */
  readonly namespace: string;
  readonly gplOnly: boolean;
}

/** @see Linux 6.1 `include/linux/license.h` license_is_gpl_compatible */
const GPL_COMPATIBLE: readonly string[] = [
  'GPL',
  'GPL v2',
  'GPL and additional rights',
  'Dual BSD/GPL',
  'Dual MIT/GPL',
  'Dual MPL/GPL',
];

/** A loaded module. */
export class KernelModule {
  readonly name: string;
  readonly license: string;
  readonly namespaces: readonly string[];
  #references = 0;
  #loaded = true;

  constructor(info: KernelModuleInfo) {
    this.name = info.name;
    this.license = info.license;
    this.namespaces = info.namespaces ?? [];
  }

  /** How many hold it: buffers it has exported and that are not released. */
  get references(): number {
    return this.#references;
  }

  /** Whether it is still there. */
  get loaded(): boolean {
    return this.#loaded;
  }

  /** Takes a reference. Plain. @returns false when it is unloaded. @see Linux 6.1 `kernel/module/main.c` try_module_get */
  tryGet(): boolean {
    if (this.#loaded) this.#references++;
    return this.#loaded;
  }

  /** Gives a reference back. Plain. @throws {InvariantError} more puts than gets. @see Linux 6.1 module_put */
  put(): void {
    assert(this.#references > 0, 'module %s: more puts than gets', this.name);
    this.#references--;
  }

  /**
   * Unloads it. Plain.
   *
   * @throws {ErrnoError} `EAGAIN` somebody holds it (retry when its buffers are released); `ENOENT` it is unloaded.
   * @see delete_module(2) with `O_NONBLOCK`
   */
  unload(): void {
    if (!this.#loaded) throw new ErrnoError('ENOENT', 'unload', `module ${this.name} is not loaded`);
    if (this.#references > 0) {
      throw new ErrnoError(
        'EAGAIN',
        'unload',
        `module ${this.name} is held ${this.#references} times; release its buffers`,
      );
    }
    this.#loaded = false;
  }

  /**
   * Whether the module may use `symbol`. Plain.
   *
   * @throws {ErrnoError} `ENOENT` the symbol is for GPL-compatible modules only; `EINVAL` it is in a namespace that the module
   *   does not import. Never retry; the text names the symbol.
   * @see Linux 6.1 `kernel/module/main.c` resolve_symbol
   */
  resolve(symbol: ExportedSymbol): void {
    if (symbol.gplOnly && !GPL_COMPATIBLE.includes(this.license)) {
      const why = `Unknown symbol ${symbol.name} (it is GPL-only and the licence is '${this.license}')`;
      throw new ErrnoError('ENOENT', 'resolve', `${this.name}: ${why}`);
    }
    if (symbol.namespace !== '' && !this.namespaces.includes(symbol.namespace)) {
      const why = `uses symbol ${symbol.name} from namespace ${symbol.namespace}, but does not import it`;
      throw new ErrnoError('EINVAL', 'resolve', `module ${this.name} ${why}`);
    }
  }
}
