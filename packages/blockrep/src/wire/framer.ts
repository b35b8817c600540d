import { assert } from "../base/assert.ts";
import { checkHeader, decodeHeader, decodePacket, type Header } from "./codec.ts";
import { HEADER_LENGTH_H100 } from "./constants.ts";
import { type Dialect, headerLength, INITIAL_DIALECT } from "./dialect.ts";
import type { SocketKind } from "./layout.ts";
import type { Packet } from "./packets.ts";

export interface FramerOptions {
  /** Default "first": nothing but P_INITIAL_DATA or P_INITIAL_META may come until `socket` is set. */
  readonly socket?: SocketKind;
  readonly dialect?: Dialect;
  /**
   * Memory for a payload that does not lie in one chunk; it becomes the packet's. Its content does not matter: no
   * packet shows a byte that was not received. Default: fresh arrays.
   */
  readonly allocate?: (lengthBytes: number) => Uint8Array;
}

const NOTHING = new Uint8Array(0);

/**
 * Cuts one direction of a socket into packets. Chunks may end anywhere. It holds at most one header and one payload,
 * whose length is checked against the packet's own limit first, so a peer can make it reserve about 1 MiB and no more.
 *
 * Pull, do not iterate blindly: after P_CONNECTION_FEATURES (or a P_PROTOCOL_UPDATE) the next packet of the same chunk
 * already follows the new dialect, so set it before the next `next()`.
 *
 * A payload that lies in one chunk is decoded in place and its packet borrows the chunk; otherwise it is copied once,
 * straight to where it stays. `space` and `advance` save even that copy: read a socket directly into `space`.
 *
 * @example
 * framer.push(chunk);
 * for (let p = framer.next(); p !== undefined; p = framer.next()) handle(p);
 */
export class Framer {
  /** What the socket is for. */
  socket: SocketKind;
  /** How the next packet is laid out. */
  dialect: Dialect;
  readonly #allocate: (lengthBytes: number) => Uint8Array;
  readonly #headerBytes: Uint8Array = new Uint8Array(HEADER_LENGTH_H100);
  #headerFill = 0;
  #header: Header | undefined;
  #payload: Uint8Array | undefined;
  #payloadFill = 0;
  #chunk: Uint8Array = NOTHING;
  #at = 0;
  #failure: unknown;

  constructor(options: FramerOptions = {}) {
    this.socket = options.socket ?? "first";
    this.dialect = options.dialect ?? INITIAL_DIALECT;
    this.#allocate = options.allocate ?? ((length) => new Uint8Array(length));
  }

  /** Bytes of the last chunk that `next` has not looked at; they stay when a caller stops pulling to wait for a disk. */
  get unread(): number {
    return this.#chunk.length - this.#at;
  }

  /** Whether an end of the stream now would cut a packet. */
  get midPacket(): boolean {
    return this.#headerFill > 0 || this.#header !== undefined || this.unread > 0;
  }

  /** Give it what was received; only after `next` has returned undefined. */
  push(chunk: Uint8Array): void {
    assert(this.unread === 0, "push only when next() has returned undefined");
    this.#chunk = chunk;
    this.#at = 0;
  }

  /**
   * The next complete packet, or undefined when more bytes are needed.
   * @throws HaError HA_WIRE_BAD_MAGIC, HA_WIRE_BAD_PACKET: the stream is over, every further call throws the same
   */
  next(): Packet | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      return this.#next();
    } catch (error) {
      this.#failure = error;
      this.#payload = undefined;
      this.#chunk = NOTHING;
      this.#at = 0;
      throw error;
    }
  }

  /** The rest of a payload that has begun: the socket may be read into it directly. Undefined between payloads. */
  get space(): Uint8Array | undefined {
    return this.unread > 0 ? undefined : this.#payload?.subarray(this.#payloadFill);
  }

  /** Says that `lengthBytes` were read into the beginning of `space`; `next` may then have a packet. */
  advance(lengthBytes: number): void {
    const room = this.#payload === undefined ? 0 : this.#payload.length - this.#payloadFill;
    assert(this.unread === 0 && lengthBytes <= room, "advance by what was read into space");
    this.#payloadFill += lengthBytes;
  }

  #next(): Packet | undefined {
    const header = this.#header ?? this.#takeHeader();
    if (header === undefined) return undefined;
    const payload = this.#takePayload(header.length);
    if (payload === undefined) return undefined;
    this.#header = undefined;
    return decodePacket(header, payload, this.dialect);
  }

  #takeHeader(): Header | undefined {
    const length = headerLength(this.dialect);
    let header: Header;
    if (this.#headerFill === 0 && this.unread >= length) {
      header = decodeHeader(this.#chunk, this.#at, this.dialect);
      this.#at += length;
    } else {
      const part = Math.min(length - this.#headerFill, this.unread);
      this.#headerBytes.set(this.#chunk.subarray(this.#at, this.#at + part), this.#headerFill);
      this.#headerFill += part;
      this.#at += part;
      if (this.#headerFill < length) return undefined;
      header = decodeHeader(this.#headerBytes, 0, this.dialect);
      this.#headerFill = 0;
    }
    checkHeader(header, this.socket, this.dialect);
    this.#header = header;
    return header;
  }

  #takePayload(length: number): Uint8Array | undefined {
    if (this.#payload === undefined) {
      if (this.unread >= length) {
        const view = this.#chunk.subarray(this.#at, this.#at + length);
        this.#at += length;
        return view;
      }
      this.#payload = this.#allocate(length);
      assert(this.#payload.length === length, "allocate gives what was asked for");
      this.#payloadFill = 0;
    }
    const payload = this.#payload;
    const part = Math.min(length - this.#payloadFill, this.unread);
    payload.set(this.#chunk.subarray(this.#at, this.#at + part), this.#payloadFill);
    this.#payloadFill += part;
    this.#at += part;
    if (this.#payloadFill < length) return undefined;
    this.#payload = undefined;
    return payload;
  }
}
