import { assert } from "../base/assert.ts";

/** The usual window into a socket. Larger ones gain nothing; smaller ones cost system calls. */
export const SLAB_BYTES: number = 256 * 1024;
/** Slabs kept for reuse, all connections together, in bytes. */
const POOL_BYTES_MAX = 32 * 1024 * 1024;

/** A piece of memory that requests and replies are carved from; it returns to its pool when nobody holds it. */
export class Slab {
  readonly bytes: Uint8Array;
  refs = 0;

  constructor(capacity: number) {
    // never from Node's small-buffer pool, and not zeroed: only bytes that were written are sent or stored
    this.bytes = Buffer.allocUnsafeSlow(capacity);
  }

  get capacity(): number {
    return this.bytes.length;
  }
}

/** Slabs by size, shared by the connections of one server. */
export class SlabPool {
  readonly #free: Map<number, Slab[]> = new Map<number, Slab[]>();
  #freeBytes = 0;

  /** A slab of at least `bytes`, held once. */
  take(bytes: number): Slab {
    const capacity = SlabPool.capacityFor(bytes);
    const slab = this.#free.get(capacity)?.pop() ?? new Slab(capacity);
    if (slab.refs === -1) this.#freeBytes -= capacity;
    slab.refs = 1;
    return slab;
  }

  /** Sizes are multiples of a quarter slab, so that equal requests find equal slabs. */
  static capacityFor(bytes: number): number {
    const step = SLAB_BYTES / 4;
    return Math.max(SLAB_BYTES, Math.ceil(bytes / step) * step);
  }

  /** Gives up one hold. @returns true when it was the last one. */
  release(slab: Slab): boolean {
    assert(slab.refs > 0, "a slab is released once per hold");
    if (--slab.refs > 0) return false;
    if (this.#freeBytes + slab.capacity <= POOL_BYTES_MAX) {
      slab.refs = -1;
      this.#freeBytes += slab.capacity;
      const list = this.#free.get(slab.capacity);
      if (list === undefined) this.#free.set(slab.capacity, [slab]);
      else list.push(slab);
    }
    return true;
  }
}
