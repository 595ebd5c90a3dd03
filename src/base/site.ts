/**
 * Where in the user's program a call stands: the nearest frame of the stack that lies outside this library.
 *
 * A {@link Site} keeps the stack as the engine took it, which costs about ten microseconds; its text costs several times as much and is
 * made when a report asks for it. So a site can be kept with each call of a protocol, though not with each line.
 */

/** Frames that are kept: a call through several layers of the library and a few generators. */
const DEPTH = 24;

/** A place in a program, not in words yet. */
export class Site {
  readonly #holder: { stack?: string } = {};
  #text: string | undefined;

  /** Takes the place of the call that is being made. */
  constructor() {
    const before = Error.stackTraceLimit;
    Error.stackTraceLimit = DEPTH;
    Error.captureStackTrace(this.#holder);
    Error.stackTraceLimit = before;
  }

  /** `'camera.ts:31:7'`; `''` when no frame of the stack is the program's. */
  get text(): string {
    this.#text ??= programFrame(this.#holder.stack ?? '');
    return this.#text;
  }
}

function programFrame(stack: string): string {
  let library = '';
  for (let at = stack.indexOf('\n') + 1; at > 0; at = stack.indexOf('\n', at) + 1) {
    const end = stack.indexOf('\n', at);
    const frame = end < 0 ? stack.slice(at) : stack.slice(at, end);
    library ||= folderOf(frame);
    if (frame.includes(library) || frame.includes('(node:') || frame.includes('(<anonymous>)')) continue;
    return /([^/\\(]+:\d+:\d+)\)?$/.exec(frame)?.[1] ?? '';
  }
  return '';
}

/** The library's folder, from a frame of this file: `src/` of a checkout, or that of the built files. */
function folderOf(frame: string): string {
  const path = /(?:\(|at )(?:file:\/\/)?([^()]*?):\d+:\d+\)?$/.exec(frame)?.[1] ?? '?';
  return path.replace(/(base[/\\])?[^/\\]*$/, '');
}
