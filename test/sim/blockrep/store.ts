import type { Prng } from "@hacluster/blockrep/base";

const PIECE_SHIFT = 4;

/**
 * One machine's disk with a volatile cache, in sectors of 512 bytes. The data area keeps, instead of bytes, the number of
 * the write that a sector came from (0: zeroes); the metadata area keeps real bytes. A write is readable when it is
 * complete and durable when a flush that began later has ended; a power loss keeps or loses each sector by chance.
 */
export class Store {
  readonly dataSectors: number;
  readonly totalSectors: number;
  readonly #durable: Map<number, number | Uint8Array> = new Map();
  readonly #cached: Map<number, number | Uint8Array> = new Map();

  constructor(dataSectors: number, totalSectors: number) {
    this.dataSectors = dataSectors;
    this.totalSectors = totalSectors;
  }

  /** Pieces of the data area, of 16 sectors, that ever held something. */
  readonly #used: Set<number> = new Set();

  get(sector: number): number | Uint8Array | undefined {
    return this.#cached.get(sector) ?? this.#durable.get(sector);
  }

  id(sector: number): number {
    return (this.get(sector) as number | undefined) ?? 0;
  }

  put(sector: number, value: number | Uint8Array, prng: Prng): void {
    const old = this.#cached.get(sector);
    // the kernel may have written the older version back on its own
    if (old !== undefined && prng.chance(1, 4)) this.#durable.set(sector, old);
    this.#cached.set(sector, value);
    if (value !== 0) this.#used.add(sector >>> PIECE_SHIFT);
  }

  /** Zeroes a range of data sectors; cheap where nothing was ever written. */
  putZeroes(sector: number, count: number, prng: Prng): void {
    for (const [s] of this.contents(sector, count)) this.put(s, 0, prng);
  }

  /** Data sectors of a range that hold something else than zeroes, each with its write. */
  contents(sector: number, count: number): [number, number][] {
    const out: [number, number][] = [];
    const end = sector + count;
    for (let piece = sector >>> PIECE_SHIFT; piece <= (end - 1) >>> PIECE_SHIFT; piece++) {
      if (!this.#used.has(piece)) continue;
      const last = Math.min(end, (piece + 1) << PIECE_SHIFT);
      for (let s = Math.max(sector, piece << PIECE_SHIFT); s < last; s++) {
        const id = this.id(s);
        if (id !== 0) out.push([s, id]);
      }
    }
    return out;
  }

  /** What the disk is sure to hold after a power loss that keeps nothing of the cache. */
  durableId(sector: number): number {
    return (this.#durable.get(sector) as number | undefined) ?? 0;
  }

  bytes(sector: number, count: number, durable: boolean = false): Uint8Array {
    const out = new Uint8Array(count * 512);
    for (let i = 0; i < count; i++) {
      const value = durable ? this.#durable.get(sector + i) : this.get(sector + i);
      if (value !== undefined) out.set(value as Uint8Array, i * 512);
    }
    return out;
  }

  /** What a flush that begins now will make durable. */
  cachedSectors(): number[] {
    return [...this.#cached.keys()];
  }

  flushed(sectors: readonly number[]): void {
    for (const s of sectors) {
      const value = this.#cached.get(s);
      if (value === undefined) continue;
      this.#durable.set(s, value);
      this.#cached.delete(s);
    }
  }

  /** A failed fdatasync: some pages are lost although nobody will write them again. */
  flushFailed(prng: Prng): void {
    for (const [s, value] of [...this.#cached]) {
      if (prng.chance(1, 2)) this.#durable.set(s, value);
      this.#cached.delete(s);
    }
  }

  powerLoss(prng: Prng): void {
    const keepChance = prng.between(0, 4);
    for (const [s, value] of this.#cached) if (prng.chance(keepChance, 4)) this.#durable.set(s, value);
    this.#cached.clear();
  }

  /** Every data sector that was ever written. */
  writtenSectors(): number[] {
    const out = new Set<number>();
    for (const map of [this.#durable, this.#cached]) for (const s of map.keys()) if (s < this.dataSectors) out.add(s);
    return [...out];
  }
}
