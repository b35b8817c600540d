import { ErrorCode, HaError } from "../base/errors.ts";

/** Called once per request; undefined is success. It may be called before the method that took it returns. */
export type StoreDone = (error: HaError | undefined) => void;

/**
 * A disk: a file, a block device, memory, or a part of one of them. Callbacks, since this is the data path.
 *
 * - `write`, `discard` and `zero` complete in a volatile cache; only `flush` makes durable what was complete before it.
 * - Requests whose ranges overlap, one of them a write, act in the order of the calls; others in any order.
 * - After a flush failed the store is broken: nobody knows what reached the disk, and every later call fails.
 */
export interface BlockStore {
  /** For messages: the path, or what stands for one. */
  readonly name: string;
  readonly sizeBytes: number;
  /** `discard` gives space back; otherwise it writes zeroes. */
  readonly canDiscard: boolean;

  /** Fills `target` from `offset`; it is borrowed until `done`. */
  read(offset: number, target: Uint8Array, done: StoreDone): void;
  /** Writes `data` at `offset`; it is borrowed until `done`. */
  write(offset: number, data: Uint8Array, done: StoreDone): void;
  /** Makes every request that was complete before this call durable. */
  flush(done: StoreDone): void;
  /** The range reads as zeroes afterwards; its space is given back where that is possible. */
  discard(offset: number, length: number, done: StoreDone): void;
  /** The range reads as zeroes afterwards and stays allocated. */
  zero(offset: number, length: number, done: StoreDone): void;
  /** Waits for requests under way, then gives the disk back. Does not flush. */
  close(): Promise<void>;
}

/** The refusal of a range that leaves the store, or undefined. */
export function rangeRefusal(
  store: { readonly name: string; readonly sizeBytes: number },
  verb: string,
  offset: number,
  length: number,
): HaError | undefined {
  if (offset >= 0 && length >= 0 && offset + length <= store.sizeBytes) return undefined;
  return new HaError(
    ErrorCode.storeOutOfRange,
    `${verb} of ${length} bytes at ${offset} leaves ${store.name}, which has ${store.sizeBytes} bytes`,
    { path: store.name, offset, length, sizeBytes: store.sizeBytes },
  );
}

/**
 * A part of a store as a store of its own, such as the data in front of internal metadata. Closing it closes nothing:
 * the whole belongs to who opened it.
 */
export class StoreRange implements BlockStore {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #whole: BlockStore;
  readonly #startBytes: number;

  /** @throws HaError HA_STORE_TOO_SMALL when the part leaves the whole */
  constructor(whole: BlockStore, startBytes: number, sizeBytes: number, name: string = whole.name) {
    if (startBytes < 0 || sizeBytes < 0 || startBytes + sizeBytes > whole.sizeBytes) {
      throw new HaError(
        ErrorCode.storeTooSmall,
        `${whole.name} has ${whole.sizeBytes} bytes; ${name} would end at ${startBytes + sizeBytes}`,
        { path: whole.name, sizeBytes: whole.sizeBytes, neededBytes: startBytes + sizeBytes },
      );
    }
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.#whole = whole;
    this.#startBytes = startBytes;
  }

  get canDiscard(): boolean {
    return this.#whole.canDiscard;
  }

  read(offset: number, target: Uint8Array, done: StoreDone): void {
    const refusal = rangeRefusal(this, "read", offset, target.length);
    if (refusal === undefined) this.#whole.read(this.#startBytes + offset, target, done);
    else done(refusal);
  }

  write(offset: number, data: Uint8Array, done: StoreDone): void {
    const refusal = rangeRefusal(this, "write", offset, data.length);
    if (refusal === undefined) this.#whole.write(this.#startBytes + offset, data, done);
    else done(refusal);
  }

  flush(done: StoreDone): void {
    this.#whole.flush(done);
  }

  discard(offset: number, length: number, done: StoreDone): void {
    const refusal = rangeRefusal(this, "discard", offset, length);
    if (refusal === undefined) this.#whole.discard(this.#startBytes + offset, length, done);
    else done(refusal);
  }

  zero(offset: number, length: number, done: StoreDone): void {
    const refusal = rangeRefusal(this, "zero", offset, length);
    if (refusal === undefined) this.#whole.zero(this.#startBytes + offset, length, done);
    else done(refusal);
  }

  async close(): Promise<void> {
    // the whole is closed by its owner
  }
}
