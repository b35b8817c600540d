import type { Socket } from "node:net";
import { encodedHeadLength, encodeHeadInto, packetBody } from "../wire/codec.ts";
import type { Dialect } from "../wire/dialect.ts";
import type { Packet } from "../wire/packets.ts";
import { SLAB_BYTES, type Slab, type SlabPool } from "./slab.ts";

/** Copying less than this next to its head costs less than one more piece in the system call. */
const COPY_BYTES_MAX: number = 16 * 1024;

/**
 * What goes out on one socket at the end of a turn: heads, acks and small blocks one behind the other in recycled
 * memory, large blocks from where they are. One system call for all of it.
 */
export class SendBatch {
  readonly #pool: SlabPool;
  #slab: Slab;
  #from = 0;
  #used = 0;
  #pieces: Uint8Array[] = [];
  /** Slabs that the pieces lie in, one hold each. */
  #held: Slab[] = [];

  constructor(pool: SlabPool) {
    this.#pool = pool;
    this.#slab = pool.take(SLAB_BYTES);
  }

  get isEmpty(): boolean {
    return this.#used === this.#from && this.#pieces.length === 0;
  }

  add(packet: Packet, dialect: Dialect): void {
    const headLength = encodedHeadLength(packet, dialect);
    const body = packetBody(packet);
    const copied = body !== undefined && body.length <= COPY_BYTES_MAX;
    this.#room(headLength + (copied ? body.length : 0));
    const { bytes } = this.#slab;
    encodeHeadInto(packet, dialect, bytes, this.#used);
    this.#used += headLength;
    if (body === undefined) return;
    if (copied) {
      bytes.set(body, this.#used);
      this.#used += body.length;
    } else {
      this.#seal();
      this.#pieces.push(body);
    }
  }

  /** Hands everything to the socket. */
  flush(socket: Socket): void {
    this.#seal();
    const pieces = this.#pieces;
    const held = this.#held;
    if (pieces.length === 0) return;
    this.#pieces = [];
    this.#held = [];
    const sent = (): void => {
      for (const slab of held) this.#pool.release(slab);
    };
    const last = pieces.length - 1;
    if (last > 0) socket.cork();
    for (let i = 0; i < last; i++) socket.write(pieces[i] as Uint8Array);
    socket.write(pieces[last] as Uint8Array, sent);
    if (last > 0) socket.uncork();
  }

  /** Gives the memory back; what was not flushed is lost. */
  close(): void {
    for (const slab of this.#held) this.#pool.release(slab);
    this.#held = [];
    this.#pieces = [];
    this.#from = this.#used = 0;
    if (this.#slab.refs > 0) this.#pool.release(this.#slab);
  }

  #room(bytes: number): void {
    if (this.#used === this.#from && this.#slab.refs === 1) this.#from = this.#used = 0;
    if (this.#used + bytes <= this.#slab.capacity) return;
    this.#seal();
    this.#pool.release(this.#slab);
    this.#slab = this.#pool.take(Math.max(SLAB_BYTES, bytes));
    this.#from = this.#used = 0;
  }

  #seal(): void {
    if (this.#used === this.#from) return;
    this.#pieces.push(this.#slab.bytes.subarray(this.#from, this.#used));
    this.#slab.refs++;
    this.#held.push(this.#slab);
    this.#from = this.#used;
  }
}
