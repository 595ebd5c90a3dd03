/** The CRC-32 of a picture that lies in memory with padding after its rows. */
import { crc32 } from 'node:zlib';

/** Where the rows of a picture lie. */
export interface Rows {
  /** Bytes of a row that belong to the picture. */
  readonly rowBytes: number;
  readonly rowCount: number;
  /** Bytes from the start of a row to that of the next, at least `rowBytes`. */
  readonly strideBytes: number;
}

/**
 * CRC-32 (that of zlib and PNG) of the rows of `bytes` from its start, without the padding between them: equal pictures
 * have equal sums whatever their stride.
 *
 * @throws {RangeError} as {@link checkRows} does.
 */
export function rowsCrc32(bytes: Uint8Array, rows: Rows): number {
  checkRows(bytes, rows);
  const { rowBytes, rowCount, strideBytes } = rows;
  let sum = 0;
  for (let row = 0; row < rowCount; row++) {
    sum = crc32(bytes.subarray(row * strideBytes, row * strideBytes + rowBytes), sum);
  }
  return sum;
}

/** Throws a {@link RangeError} unless `bytes` holds all of `rows`, and there is at least one byte in them. */
export function checkRows(bytes: Uint8Array, { rowBytes, rowCount, strideBytes }: Rows): void {
  if (!(rowBytes > 0 && rowCount > 0)) throw new RangeError(`${rowCount} rows of ${rowBytes} bytes are no picture`);
  if (!(strideBytes >= rowBytes)) throw new RangeError(`strideBytes is ${strideBytes}, a row needs ${rowBytes}`);
  const needed = (rowCount - 1) * strideBytes + rowBytes;
  if (bytes.length < needed) throw new RangeError(`${bytes.length} bytes are given, the rows need ${needed}`);
}
