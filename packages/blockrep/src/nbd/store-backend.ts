import { ErrorCode, type HaError } from "../base/errors.ts";
import { SECTOR_SIZE } from "../base/units.ts";
import type { BlockStore } from "../drivers/block-store.ts";
import { type BlockBackend, type Done, ZERO_FAST, ZERO_FUA, ZERO_NO_HOLE } from "./backend.ts";
import { NbdErrno } from "./constants.ts";

/** Serves a store as it is, without replication: `hacluster blockrep serve`, benchmarks and tests. */
export class StoreBackend implements BlockBackend {
  readonly sizeBytes: number;
  readonly blockSizes: BlockBackend["blockSizes"] = {
    minimum: SECTOR_SIZE,
    preferred: 4096,
    maximum: 1024 * 1024,
    maximumZero: 64 * 1024 * 1024,
  };
  readonly readOnly: boolean;
  readonly canTrim: boolean;
  readonly canZeroFast: boolean;
  readonly #store: BlockStore;
  /** Told of every failure of the store: the client sees an error number only. */
  readonly #onError: (error: HaError) => void;

  constructor(store: BlockStore, options: { readOnly?: boolean; onError?: (error: HaError) => void } = {}) {
    this.#store = store;
    this.sizeBytes = Math.floor(store.sizeBytes / SECTOR_SIZE) * SECTOR_SIZE;
    this.readOnly = options.readOnly ?? false;
    this.canTrim = store.canDiscard;
    this.canZeroFast = store.canDiscard;
    this.#onError = options.onError ?? (() => {});
  }

  read(offset: number, target: Uint8Array, done: Done): void {
    this.#store.read(offset, target, (error) => done(this.#errno(error)));
  }

  write(offset: number, data: Uint8Array, fua: boolean, done: Done): void {
    this.#store.write(offset, data, (error) => this.#written(error, fua, done));
  }

  flush(done: Done): void {
    this.#store.flush((error) => done(this.#errno(error)));
  }

  trim(offset: number, length: number, fua: boolean, done: Done): void {
    this.#store.discard(offset, length, (error) => this.#written(error, fua, done));
  }

  zero(offset: number, length: number, flags: number, done: Done): void {
    const written = (error: HaError | undefined): void => this.#written(error, (flags & ZERO_FUA) !== 0, done);
    const allocated = (flags & ZERO_NO_HOLE) !== 0;
    if ((flags & ZERO_FAST) !== 0 && (allocated || !this.#store.canDiscard)) done(NbdErrno.notSupported);
    else if (allocated) this.#store.zero(offset, length, written);
    else this.#store.discard(offset, length, written);
  }

  #written(error: HaError | undefined, fua: boolean, done: Done): void {
    if (error !== undefined || !fua) done(this.#errno(error));
    else this.flush(done);
  }

  #errno(error: HaError | undefined): number {
    if (error === undefined) return NbdErrno.ok;
    this.#onError(error);
    if (error.details["errno"] === "ENOSPC") return NbdErrno.noSpace;
    return error.code === ErrorCode.storeOutOfRange ? NbdErrno.invalid : NbdErrno.io;
  }
}
