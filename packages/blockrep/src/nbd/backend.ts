/**
 * Called once when a request is finished: 0, or an error number of `NbdErrno`. It may be called before the method
 * that took it returns.
 */
export type Done = (errno: number) => void;

/** Modifiers of `zero`; the values are NBD's own. */
export const ZERO_FUA = 0x01;
/** The range stays allocated: write zeroes, punch no hole. */
export const ZERO_NO_HOLE = 0x02;
/** Fail at once with ENOTSUP where zeroing is no faster than writing. */
export const ZERO_FAST = 0x10;

/**
 * A block device as the NBD server sees it. Callbacks, since a promise per request costs more than a cached write.
 * The server has checked every range: inside the device, aligned to `blockSizes.minimum`, not empty.
 */
export interface BlockBackend {
  /** Bytes; read once per connection, so a change is seen by the next client. */
  readonly sizeBytes: number;
  readonly blockSizes: {
    /** Every offset and length is a multiple of this. */
    readonly minimum: number;
    /** What a client should use. */
    readonly preferred: number;
    /** Longest `read` or `write`; the server cuts longer requests into parallel pieces. */
    readonly maximum: number;
    /** Longest `trim` or `zero`; the server cuts longer requests and sends the pieces one after the other. */
    readonly maximumZero: number;
  };
  readonly readOnly: boolean;
  /** Advertise TRIM. */
  readonly canTrim: boolean;
  /** Advertise FAST_ZERO. */
  readonly canZeroFast: boolean;

  /** Requests follow that arrived together; the backend may begin them together at `endBatch`. */
  beginBatch?(): void;
  endBatch?(): void;
  /** Fills `target` from `offset`. The buffer is the server's: borrowed until `done`, which must come after the last byte. */
  read(offset: number, target: Uint8Array, done: Done): void;
  /** Writes `data`, borrowed until `done`. With `fua` it is on stable storage when `done` is called with 0. */
  write(offset: number, data: Uint8Array, fua: boolean, done: Done): void;
  /** Makes every write that was finished before this call durable, whichever connection it came on. */
  flush(done: Done): void;
  /** Contents become zero or stay; the backend decides, but the same on every replica. */
  trim(offset: number, length: number, fua: boolean, done: Done): void;
  /** Contents become zero. @param flags ZERO_* */
  zero(offset: number, length: number, flags: number, done: Done): void;
}
