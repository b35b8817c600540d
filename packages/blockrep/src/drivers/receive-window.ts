import type { Framer } from "../wire/framer.ts";
import { SLAB_BYTES, type Slab, SlabPool } from "./slab.ts";

/** With less room than this a slab is left for another one. */
const ROOM_MIN: number = 64 * 1024;
/** Payloads of this size that do not arrive in one piece get memory of the pool, smaller ones their own. */
const POOLED_BYTES_MIN: number = 16 * 1024;
/** Where bytes land that were already under way when reading was paused. */
const SPARE_BYTES: number = 16 * 1024;

/**
 * Recycled memory of what comes from the peer. A block stays where it was received until the engine gives it back; the
 * memory of one that is never given back (its connection broke) is left to the garbage collector.
 */
export class ReceiveMemory {
  readonly pool: SlabPool = new SlabPool();
  readonly #slabs: WeakMap<ArrayBufferLike, Slab> = new WeakMap();

  take(bytes: number): Slab {
    const slab = this.pool.take(bytes);
    this.#slabs.set(slab.bytes.buffer, slab);
    return slab;
  }

  /** The engine has these bytes now. */
  lend(bytes: Uint8Array): void {
    const slab = this.#slabs.get(bytes.buffer);
    if (slab !== undefined) slab.refs++;
  }

  /** The engine needs them no longer. */
  release(bytes: Uint8Array): void {
    const slab = this.#slabs.get(bytes.buffer);
    if (slab !== undefined) this.pool.release(slab);
  }
}

/** The memory that one socket is read into, in front of its framer. */
export class ReceiveWindow {
  readonly #memory: ReceiveMemory;
  #slab: Slab;
  #end = 0;
  #spare: Uint8Array | undefined;
  /** Slab of the payload that the framer is filling. */
  #payload: Slab | undefined;

  constructor(memory: ReceiveMemory) {
    this.#memory = memory;
    this.#slab = memory.take(SLAB_BYTES);
  }

  /** For the framer: memory of a payload that does not lie in one chunk. */
  readonly allocate = (lengthBytes: number): Uint8Array => {
    if (lengthBytes < POOLED_BYTES_MIN) return new Uint8Array(lengthBytes);
    this.#payload = this.#memory.take(lengthBytes);
    return this.#payload.bytes.subarray(0, lengthBytes);
  };

  /** The packet whose payload was allocated is complete, and lent if the engine keeps it. */
  payloadDone(): void {
    if (this.#payload === undefined) return;
    this.#memory.pool.release(this.#payload);
    this.#payload = undefined;
  }

  /** Where the next read goes. */
  target(framer: Framer): Uint8Array {
    if (framer.unread > 0) {
      this.#spare ??= new Uint8Array(SPARE_BYTES);
      return this.#spare;
    }
    const space = framer.space;
    if (space !== undefined && space.length >= POOLED_BYTES_MIN) return space;
    if (this.#slab.refs === 1) this.#end = 0;
    else if (this.#slab.capacity - this.#end < ROOM_MIN) {
      this.#memory.pool.release(this.#slab);
      this.#slab = this.#memory.take(SLAB_BYTES);
      this.#end = 0;
    }
    return this.#slab.bytes.subarray(this.#end);
  }

  /** Bytes were read into `target`: tells the framer. @returns false when they have to wait, and were copied */
  feed(framer: Framer, chunk: Uint8Array): boolean {
    if (framer.unread > 0) return false;
    const space = framer.space;
    if (space !== undefined && space.buffer === chunk.buffer && space.byteOffset === chunk.byteOffset) {
      framer.advance(chunk.length);
      return true;
    }
    if (chunk.buffer === this.#slab.bytes.buffer) this.#end += chunk.length;
    framer.push(chunk);
    return true;
  }
}
