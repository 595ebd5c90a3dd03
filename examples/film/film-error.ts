/** The one error of the film files: a film that cannot be read or a picture that cannot be written. */

/**
 * A fault of a file, told in one line: `<path>: <fault>`. Catch it, print `message` and exit with 1; a stack trace would
 * tell the reader nothing more. Never retry without another file or place.
 */
export class FilmError extends Error {
  override readonly name = 'FilmError';
  /** The file as the caller named it. */
  readonly path: string;
  /** What is wrong with it, without the name. */
  readonly fault: string;

  /** @param cause - the error of the file system, if one is behind it. */
  constructor(path: string, fault: string, cause?: unknown) {
    super(`${printable(path)}: ${fault}`, cause === undefined ? undefined : { cause });
    this.path = path;
    this.fault = fault;
  }
}

/** Text of unknown origin on one line: control characters become `?`, and what is longer than 200 characters is cut. */
export function printable(text: string): string {
  const line = text.replaceAll(/\p{Cc}/gu, '?');
  return line.length <= 200 ? line : `${line.slice(0, 200)}...`;
}

/** The words for an error of `node:fs`: `permission denied (EACCES)`. Other errors keep their message. */
export function fileSystemFault(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const words = FAULTS[code];
  if (words !== undefined) return `${words} (${code})`;
  return printable(error instanceof Error ? error.message : String(error));
}

const FAULTS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  ENOTDIR: 'a part of the path is not a directory',
  EISDIR: 'is a directory',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space left on the device',
  EEXIST: 'is in the way',
  EMFILE: 'too many open files',
  ENAMETOOLONG: 'the name is too long',
  ELOOP: 'too many symbolic links',
};
