import type { BlockBackend, Done } from "../nbd/backend.ts";
import { ZERO_FUA, ZERO_NO_HOLE } from "../nbd/backend.ts";
import type { EngineHost } from "./engine-host.ts";

const SECTOR = 512;

/** The replicated volume as the NBD server (or the embedding program) sees it. */
export class EngineBackend implements BlockBackend {
  readonly blockSizes: BlockBackend["blockSizes"] = {
    minimum: 512,
    preferred: 4096,
    /** One P_DATA carries at most 1 MiB. */
    maximum: 1024 * 1024,
    /** One P_TRIM stays within 4 MiB for peers without FF_WSAME; the server cuts longer ones. */
    maximumZero: 4 * 1024 * 1024,
  };
  readonly readOnly = false;
  readonly canTrim = true;
  readonly canZeroFast = false;
  readonly #host: EngineHost;
  readonly #volume: number;

  constructor(host: EngineHost, volume: number) {
    this.#host = host;
    this.#volume = volume;
  }

  get sizeBytes(): number {
    const volume = this.#host.snapshot().volumes.find((v) => v.volume === this.#volume);
    return (volume?.sizeSectors ?? 0) * SECTOR;
  }

  beginBatch(): void {
    this.#host.beginTurn();
  }

  endBatch(): void {
    this.#host.endTurn();
  }

  read(offset: number, target: Uint8Array, done: Done): void {
    this.#host.read(this.#volume, offset / SECTOR, target, done);
  }

  write(offset: number, data: Uint8Array, fua: boolean, done: Done): void {
    this.#host.write(this.#volume, offset / SECTOR, data, fua, done);
  }

  flush(done: Done): void {
    this.#host.flush(this.#volume, done);
  }

  trim(offset: number, length: number, fua: boolean, done: Done): void {
    this.#host.discard(this.#volume, offset / SECTOR, length, this.#durable(fua, done));
  }

  zero(offset: number, length: number, flags: number, done: Done): void {
    const fua = (flags & ZERO_FUA) !== 0;
    const mayUnmap = (flags & ZERO_NO_HOLE) === 0;
    this.#host.writeZeroes(this.#volume, offset / SECTOR, length, mayUnmap, this.#durable(fua, done));
  }

  /** Discards and zeroes have no FUA on the replication wire: a flush behind them gives the same promise. */
  #durable(fua: boolean, done: Done): Done {
    if (!fua) return done;
    return (errno) => {
      if (errno === 0) this.#host.flush(this.#volume, done);
      else done(errno);
    };
  }
}
