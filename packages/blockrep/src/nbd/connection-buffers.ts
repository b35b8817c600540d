import { SLAB_BYTES, type Slab, SlabPool } from "../drivers/slab.ts";

/** At a message border a slab with less room than this is left for a fresh one. */
const TAIL_MIN = 16 * 1024;
/** Where bytes land that were already under way when the connection stopped reading. */
const SPARE_BYTES = 16 * 1024;

/** Counts the memory that one connection holds, so that a client cannot make the server grow. */
export class MemoryAccount {
  heldBytes = 0;
  readonly pool: SlabPool;
  readonly limitBytes: number;

  constructor(pool: SlabPool, limitBytes: number) {
    this.pool = pool;
    this.limitBytes = limitBytes;
  }

  /** True when a slab for `bytes` fits the limit. */
  fits(bytes: number): boolean {
    return this.heldBytes + SlabPool.capacityFor(bytes) <= this.limitBytes;
  }

  take(bytes: number): Slab {
    const slab = this.pool.take(bytes);
    this.heldBytes += slab.capacity;
    return slab;
  }

  release(slab: Slab): void {
    if (this.pool.release(slab)) this.heldBytes -= slab.capacity;
  }
}

/**
 * The receiving side's memory: `bytes[start..end)` is what arrived and is not consumed yet, always in one piece.
 * Payloads are handed out in place; whoever keeps one holds the slab.
 */
export class InputWindow {
  slab: Slab;
  start = 0;
  end = 0;
  readonly #memory: MemoryAccount;
  #spare: Uint8Array | undefined = undefined;
  /** Largest message of this slab: the next one is made as large, so that big writes arrive in place. */
  #largest = 0;

  constructor(memory: MemoryAccount) {
    this.#memory = memory;
    this.slab = memory.take(SLAB_BYTES);
  }

  get bytes(): Uint8Array {
    return this.slab.bytes;
  }

  get available(): number {
    return this.end - this.start;
  }

  /** Free bytes behind `end`. */
  get room(): number {
    return this.slab.capacity - this.end;
  }

  /** Where the socket writes next. */
  target(): Uint8Array {
    return this.slab.bytes.subarray(this.end);
  }

  /** Memory of its own for a read that may not touch the slab. */
  spare(): Uint8Array {
    this.#spare ??= new Uint8Array(SPARE_BYTES);
    return this.#spare;
  }

  /** True when `chunk` was received in place. */
  isTarget(chunk: Uint8Array): boolean {
    return chunk.buffer === this.slab.bytes.buffer && chunk.byteOffset === this.slab.bytes.byteOffset + this.end;
  }

  /**
   * Makes room for the message that begins at `start` and is `needed` bytes long as far as known.
   * @param force take memory beyond the limit (nothing else is under way, so nothing will ever be freed)
   * @returns false when memory has to be freed first.
   */
  prepare(needed: number, force: boolean): boolean {
    this.#largest = Math.max(this.#largest, needed);
    const pending = this.end - this.start;
    const { slab } = this;
    if (slab.refs === 1 && needed <= slab.capacity && (pending === 0 || this.start + needed > slab.capacity)) {
      if (pending > 0) slab.bytes.copyWithin(0, this.start, this.end);
      this.start = 0;
      this.end = pending;
      return true;
    }
    const enough = pending === 0 ? this.room >= TAIL_MIN : this.start + needed <= slab.capacity;
    if (enough) return true;
    const size = Math.max(needed, Math.min(this.#largest, this.#memory.limitBytes / 4));
    if (!force && !this.#memory.fits(size)) return false;
    const next = this.#memory.take(size);
    next.bytes.set(slab.bytes.subarray(this.start, this.end));
    this.#memory.release(slab);
    this.slab = next;
    this.start = 0;
    this.end = pending;
    this.#largest = needed;
    return true;
  }

  close(): void {
    this.#memory.release(this.slab);
  }
}

/** A run of reply bytes that waits to be sent; it holds its slab. */
export interface ReplySegment {
  slab: Slab;
  start: number;
  end: number;
}

/** The sending side's memory: replies and read data are laid one behind the other, so that many leave as one. */
export class OutputArea {
  readonly #memory: MemoryAccount;
  #slab: Slab;
  #used = 0;
  #segments: ReplySegment[] = [];

  constructor(memory: MemoryAccount) {
    this.#memory = memory;
    this.#slab = memory.take(SLAB_BYTES);
  }

  /**
   * Makes sure that the next `reserve(bytes)` is served. Without `force` it keeps to the memory limit.
   * @returns false when memory has to be freed first.
   */
  prepare(bytes: number, force: boolean): boolean {
    if (this.#slab.refs === 1) this.#used = 0;
    if (this.#used + bytes <= this.#slab.capacity) return true;
    if (!force && !this.#memory.fits(bytes)) return false;
    this.#memory.release(this.#slab);
    this.#slab = this.#memory.take(bytes);
    this.#used = 0;
    return true;
  }

  /** The next `bytes` of the area, held; `prepare` was called with as much. */
  reserve(bytes: number): ReplySegment {
    this.#slab.refs++;
    const start = this.#used;
    this.#used += bytes;
    return { slab: this.#slab, start, end: start + bytes };
  }

  /** Hands a filled segment over for sending; its hold ends when it is sent. */
  queue(segment: ReplySegment): void {
    const last = this.#segments[this.#segments.length - 1];
    if (last !== undefined && last.slab === segment.slab && last.end === segment.start) {
      last.end = segment.end;
      this.#memory.release(segment.slab); // one hold per run is enough
    } else this.#segments.push(segment);
  }

  /** Gives a reserved segment back unsent. */
  drop(segment: ReplySegment): void {
    this.#memory.release(segment.slab);
  }

  get waiting(): boolean {
    return this.#segments.length > 0;
  }

  /** Everything that was queued; the caller drops each segment when it is sent. */
  takeQueue(): ReplySegment[] {
    const queue = this.#segments;
    this.#segments = [];
    return queue;
  }

  close(): void {
    for (const segment of this.takeQueue()) this.drop(segment);
    this.#memory.release(this.#slab);
  }
}
