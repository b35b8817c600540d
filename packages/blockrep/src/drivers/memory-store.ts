import { SECTOR_SIZE } from "../base/units.ts";
import { type BlockStore, rangeRefusal, type StoreDone } from "./block-store.ts";

/**
 * A disk in memory, for tests and for the embedding example. `powerLoss` forgets what was not flushed, as a machine
 * crash does, sector by sector as the caller decides.
 */
export class MemoryStore implements BlockStore {
  readonly name: string;
  readonly sizeBytes: number;
  readonly canDiscard = true;
  /** What a reader sees. */
  readonly bytes: Uint8Array;
  readonly #stable: Uint8Array;
  readonly #unflushed: Set<number> = new Set<number>();

  constructor(sizeBytes: number, name = "memory") {
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.bytes = new Uint8Array(sizeBytes);
    this.#stable = new Uint8Array(sizeBytes);
  }

  read(offset: number, target: Uint8Array, done: StoreDone): void {
    const refusal = rangeRefusal(this, "read", offset, target.length);
    if (refusal === undefined) target.set(this.bytes.subarray(offset, offset + target.length));
    done(refusal);
  }

  write(offset: number, data: Uint8Array, done: StoreDone): void {
    const refusal = rangeRefusal(this, "write", offset, data.length);
    if (refusal === undefined) {
      this.bytes.set(data, offset);
      this.#touch(offset, data.length);
    }
    done(refusal);
  }

  flush(done: StoreDone): void {
    for (const sector of this.#unflushed) {
      const from = sector * SECTOR_SIZE;
      this.#stable.set(this.bytes.subarray(from, from + SECTOR_SIZE), from);
    }
    this.#unflushed.clear();
    done(undefined);
  }

  discard(offset: number, length: number, done: StoreDone): void {
    this.#clear("discard", offset, length, done);
  }

  zero(offset: number, length: number, done: StoreDone): void {
    this.#clear("zero", offset, length, done);
  }

  async close(): Promise<void> {
    // memory needs no closing, and stays readable for a test
  }

  /** Sectors written since the last flush. */
  get unflushedSectors(): number {
    return this.#unflushed.size;
  }

  /** The machine loses power: every unflushed sector for which `keep` says false returns to what was flushed last. */
  powerLoss(keep: (sector: number) => boolean = () => false): void {
    for (const sector of this.#unflushed) {
      const from = sector * SECTOR_SIZE;
      const to = from + SECTOR_SIZE;
      if (keep(sector)) this.#stable.set(this.bytes.subarray(from, to), from);
      else this.bytes.set(this.#stable.subarray(from, to), from);
    }
    this.#unflushed.clear();
  }

  #clear(verb: string, offset: number, length: number, done: StoreDone): void {
    const refusal = rangeRefusal(this, verb, offset, length);
    if (refusal === undefined) {
      this.bytes.fill(0, offset, offset + length);
      this.#touch(offset, length);
    }
    done(refusal);
  }

  #touch(offset: number, length: number): void {
    const last = Math.ceil((offset + length) / SECTOR_SIZE);
    for (let sector = Math.floor(offset / SECTOR_SIZE); sector < last; sector++) this.#unflushed.add(sector);
  }
}
