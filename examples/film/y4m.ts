/**
 * A film in a YUV4MPEG2 file (`.y4m`), read frame by frame. A film may be long, so the file is never loaded as a whole;
 * yet all its structure is checked when it is opened, so that a broken film fails before any work is done for it.
 *
 * Own code, because the one reader found on npm, `y4m` 0.2.0 of 2021, cannot be imported (its `main` names a file that
 * the package does not hold), decodes asynchronous streams only, and so finds a cut last frame only when it gets there.
 *
 * Not handled: anything but 8-bit 4:2:0 (see `y4m-header.ts`), pipes, files that change while they are open.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { FilmError, fileSystemFault, printable } from './film-error.ts';
import { parseY4mHeader, type Y4mHeader } from './y4m-header.ts';

/** An open film. Holds a file descriptor until {@link Film.close}. */
export interface Film extends Y4mHeader {
  readonly path: string;
  /** Bytes of one frame: `width * height * 3 / 2`. */
  readonly frameBytes: number;
  /** At least 1. All of them are there in full. */
  readonly frameCount: number;
  /**
   * The samples of frame `index` (from 0) as I420: all of Y, then U, then V, without padding. The array is the caller's.
   *
   * @throws {RangeError} `index` is not a frame of the film. @throws {FilmError} the film is closed, or the file shrank
   * or became unreadable since it was opened.
   */
  readFrame(index: number): Uint8Array;
  /** Closes the file. Again: no effect. */
  close(): void;
}

/** What the caller needs of a film besides its being readable. */
export interface FilmNeeds {
  /** Least width and height, in samples. Default 2. */
  readonly smallestSide?: number;
}

const MAGIC = 'YUV4MPEG2';
const MARKER = 'FRAME';
/** Longest header or frame line, in bytes with its newline. */
const MAX_LINE_BYTES = 4096;

/**
 * Opens the film at `path` and checks its header, every frame marker and that every frame is there in full. Reads only
 * the lines, not the samples: about 4 KiB a frame.
 *
 * @throws {FilmError} no such file, not a regular file, not a film, or a film that is not handled or broken. The file
 * is closed again; never retry.
 */
export function openY4m(path: string, needs: FilmNeeds = {}): Film {
  // Asked before opening: to open a pipe without a writer would wait forever.
  const stat = guarded(path, () => statSync(path));
  if (stat.isDirectory()) throw new FilmError(path, 'is a directory, a film file is needed');
  if (!stat.isFile()) throw new FilmError(path, 'is not a regular file');
  const fd = guarded(path, () => openSync(path, 'r'));
  try {
    return checkedFilm(path, fd, needs.smallestSide ?? 2);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function checkedFilm(path: string, fd: number, smallestSide: number): Film {
  const size = guarded(path, () => fstatSync(fd)).size;
  const line = headerLine(path, fd, size);
  const header = parseY4mHeader(path, line);
  const { width, height } = header;
  if (width < smallestSide || height < smallestSide) {
    throw new FilmError(path, `${width}x${height} is too small, ${smallestSide}x${smallestSide} is needed at least`);
  }
  const frameBytes = (width * height * 3) / 2;
  const offsets = frameOffsets(path, fd, { from: line.length + 1, size, frameBytes });
  let open = true;
  return {
    ...header,
    path,
    frameBytes,
    frameCount: offsets.length,
    readFrame(index) {
      if (!open) throw new FilmError(path, 'the film is closed');
      const offset = offsets[index];
      if (offset === undefined)
        throw new RangeError(`index is ${index}, the film has frames 0 to ${offsets.length - 1}`);
      const frame = new Uint8Array(frameBytes);
      const got = readAt(path, fd, frame, offset);
      if (got === frameBytes) return frame;
      throw new FilmError(path, `frame ${index}: the file shrank, only ${got} of ${frameBytes} bytes are left`);
    },
    close() {
      if (open) closeSync(fd);
      open = false;
    },
  };
}

/** The header without its newline. One byte a character, so its length is that of its bytes. */
function headerLine(path: string, fd: number, size: number): string {
  if (size === 0) throw new FilmError(path, 'is empty');
  const text = textAt(path, fd, 0);
  if (!text.startsWith(MAGIC) || !' \n'.includes(text.charAt(MAGIC.length))) {
    throw new FilmError(path, `is not a YUV4MPEG2 film: it begins with "${printable(text.slice(0, 10))}"`);
  }
  const end = text.indexOf('\n');
  if (end >= 0) return text.slice(0, end);
  if (size < MAX_LINE_BYTES) throw new FilmError(path, `the header has no end in the file's ${size} bytes`);
  throw new FilmError(path, `the header is longer than ${MAX_LINE_BYTES} bytes`);
}

/** Where the samples of each frame begin. Walks the file, since a marker may carry parameters of any length. */
function frameOffsets(path: string, fd: number, film: { from: number; size: number; frameBytes: number }): number[] {
  const offsets: number[] = [];
  for (let at = film.from; at < film.size; ) {
    const data = at + markerBytes(path, fd, at, offsets.length);
    const there = film.size - data;
    if (there < film.frameBytes) {
      throw new FilmError(path, cutOff(offsets.length, `${there} of its ${film.frameBytes} bytes are there`));
    }
    offsets.push(data);
    at = data + film.frameBytes;
  }
  if (offsets.length === 0) throw new FilmError(path, 'has a header but no frames');
  return offsets;
}

/** Length of the marker line at `at`, with its newline. */
function markerBytes(path: string, fd: number, at: number, frame: number): number {
  const text = textAt(path, fd, at);
  const atEndOfFile = text.length < MAX_LINE_BYTES;
  if (atEndOfFile && MARKER.startsWith(text))
    throw new FilmError(path, cutOff(frame, 'only a part of its marker is there'));
  if (!text.startsWith(MARKER) || !' \n'.includes(text.charAt(MARKER.length))) {
    const found = printable(text.slice(0, MARKER.length + 1));
    throw new FilmError(path, `frame ${frame} (from 0): "${MARKER}" is needed at byte ${at}, "${found}" is there`);
  }
  const end = text.indexOf('\n');
  if (end >= 0) return end + 1;
  if (atEndOfFile) throw new FilmError(path, cutOff(frame, 'only a part of its marker is there'));
  throw new FilmError(path, `frame ${frame} (from 0): its marker line is longer than ${MAX_LINE_BYTES} bytes`);
}

function cutOff(frame: number, there: string): string {
  return `the last frame, ${frame} (from 0), is cut off: ${there}`;
}

/** Up to {@link MAX_LINE_BYTES} bytes as text, a character each; fewer at the end of the file. */
function textAt(path: string, fd: number, position: number): string {
  const bytes = Buffer.alloc(MAX_LINE_BYTES);
  return bytes.toString('latin1', 0, readAt(path, fd, bytes, position));
}

/** Fills `into` from `position` on; returns how many bytes there were. */
function readAt(path: string, fd: number, into: Uint8Array, position: number): number {
  return guarded(path, () => {
    let got = 0;
    while (got < into.length) {
      const step = readSync(fd, into, got, into.length - got, position + got);
      if (step === 0) break;
      got += step;
    }
    return got;
  });
}

function guarded<T>(path: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw new FilmError(path, fileSystemFault(error), error);
  }
}
