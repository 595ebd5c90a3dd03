/** One recorded case as it stands in a line of a `*.jsonl` file, and how its fields are read. Format: `vectors/README.md`. */

/** Any JSON value. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject;

/** A JSON object. */
export interface JsonObject {
  readonly [key: string]: Json;
}

/** One operation of a case with the kernel's answer. */
export interface VectorOp {
  readonly op: string;
  readonly args: JsonObject;
  /** Absent when the operation returns nothing worth recording. */
  readonly result?: JsonObject;
}

/** One case. */
export interface VectorCase {
  readonly family: string;
  readonly case: string;
  readonly setup: JsonObject;
  readonly ops: readonly VectorOp[];
  /** Outcome of the whole case, in families that record one. */
  readonly result?: JsonObject;
}

/** True for a JSON object. */
export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The number in `from[key]`. @throws {Error} it is none. */
export function numberIn(from: JsonObject, key: string): number {
  const value = from[key];
  if (typeof value !== 'number') throw new Error(`field ${key} is no number: ${JSON.stringify(value)}`);
  return value;
}

/** The string in `from[key]`. @throws {Error} it is none. */
export function stringIn(from: JsonObject, key: string): string {
  const value = from[key];
  if (typeof value !== 'string') throw new Error(`field ${key} is no string: ${JSON.stringify(value)}`);
  return value;
}

/** The boolean in `from[key]`. @throws {Error} it is none. */
export function booleanIn(from: JsonObject, key: string): boolean {
  const value = from[key];
  if (typeof value !== 'boolean') throw new Error(`field ${key} is no boolean: ${JSON.stringify(value)}`);
  return value;
}

/** The array in `from[key]`. @throws {Error} it is none. */
export function arrayIn(from: JsonObject, key: string): readonly Json[] {
  const value = from[key];
  if (!Array.isArray(value)) throw new Error(`field ${key} is no array: ${JSON.stringify(value)}`);
  return value;
}

/** The address in `from[key]`, see {@link parseAddress}. @throws {Error} it is none. */
export function addressIn(from: JsonObject, key: string): number {
  return parseAddress(stringIn(from, key));
}

/** A 64-bit hexadecimal number as a double; the upper half of the space comes out negative. @throws {Error} not `0x…`. */
export function parseAddress(text: string): number {
  if (!/^0x[0-9a-f]{1,16}$/i.test(text)) throw new Error(`no hexadecimal address: ${text}`);
  const digits = text.slice(2).padStart(16, '0');
  const high = Number.parseInt(digits.slice(0, 8), 16);
  const low = Number.parseInt(digits.slice(8), 16);
  return (high | 0) * 2 ** 32 + low;
}
