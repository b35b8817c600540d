import type { Socket } from "node:net";
import { assert } from "../base/assert.ts";
import type { Slab, SlabPool } from "../drivers/slab.ts";
import type { BlockBackend } from "./backend.ts";
import { InputWindow, MemoryAccount, OutputArea, type ReplySegment } from "./connection-buffers.ts";
import {
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_PAYLOAD_MAX,
  NBD_SIMPLE_REPLY_BYTES,
  NbdErrno,
} from "./constants.ts";
import { type ExportInfo, Handshake } from "./handshake.ts";
import {
  ERROR_CHUNK_BYTES,
  NbdRequest,
  parseRequest,
  payloadBytes,
  putDataChunk,
  putErrorChunk,
  putSimpleReply,
  REQUEST_BYTES,
  readHeaderBytes,
  refusalOf,
  type TransmissionLimits,
} from "./transmission.ts";

/** Requests under way at once on one connection; more wait in the socket. The kernel's client keeps 128. */
export const NBD_INFLIGHT_MAX = 256;
/** Memory of one connection. A single request of 32 MiB may exceed it, alone. */
export const NBD_CONNECTION_BYTES_MAX: number = 8 * 1024 * 1024;
/** Replies that the client has not taken yet; beyond this no further request is begun. */
const UNSENT_BYTES_MAX = 4 * 1024 * 1024;

/** What a connection needs of its server. */
export interface ConnectionHost {
  readonly pool: SlabPool;
  readonly exports: readonly ExportInfo[];
  backend(name: string): BlockBackend;
  /** The client chose an export: from now on it counts as an opener. */
  began(connection: NbdConnection): void;
  /** The connection is gone and its last request is finished. */
  ended(connection: NbdConnection, reason: string): void;
  /** The peer sent something malformed, or the handshake was refused. */
  refused(reason: string): void;
}

/**
 * One client: bytes in, backend calls, bytes out. All requests of one turn of the event loop are begun in one
 * pass, and all replies that are ready at its end leave in one write.
 */
export class NbdConnection {
  readonly #host: ConnectionHost;
  #socket: Socket | undefined = undefined;
  readonly #memory: MemoryAccount;
  readonly #input: InputWindow;
  readonly #output: OutputArea;
  readonly #handshake: Handshake;
  readonly #request: NbdRequest = new NbdRequest();
  #backend: BlockBackend | undefined = undefined;
  #limits: TransmissionLimits | undefined = undefined;
  #exportName = "";

  // one entry per request under way
  readonly #type: Uint16Array = new Uint16Array(NBD_INFLIGHT_MAX);
  readonly #flags: Uint16Array = new Uint16Array(NBD_INFLIGHT_MAX);
  readonly #cookieHigh: Uint32Array = new Uint32Array(NBD_INFLIGHT_MAX);
  readonly #cookieLow: Uint32Array = new Uint32Array(NBD_INFLIGHT_MAX);
  readonly #parts: Uint32Array = new Uint32Array(NBD_INFLIGHT_MAX);
  readonly #errno: Uint32Array = new Uint32Array(NBD_INFLIGHT_MAX);
  readonly #offset: Float64Array = new Float64Array(NBD_INFLIGHT_MAX);
  readonly #remaining: Float64Array = new Float64Array(NBD_INFLIGHT_MAX);
  readonly #inputSlab: (Slab | undefined)[] = new Array<Slab | undefined>(NBD_INFLIGHT_MAX).fill(undefined);
  readonly #segment: (ReplySegment | undefined)[] = new Array<ReplySegment | undefined>(NBD_INFLIGHT_MAX).fill(
    undefined,
  );
  readonly #done: ((errno: number) => void)[] = [];
  readonly #freeSlots: Uint16Array = new Uint16Array(NBD_INFLIGHT_MAX);
  #freeCount = 0;

  #skipBytes = 0;
  #needed: number = REQUEST_BYTES;
  #stalled = false;
  #inTurn = false;
  #finishedInTurn = false;
  #turnScheduled = false;
  #backlog: Uint8Array | undefined = undefined;
  #unsentBytes = 0;
  #draining = false; // no further request is begun; hang up when all are answered
  #socketClosed = false;
  #ended = false;
  #closeReason = "";

  constructor(host: ConnectionHost) {
    this.#host = host;
    this.#memory = new MemoryAccount(host.pool, NBD_CONNECTION_BYTES_MAX);
    this.#input = new InputWindow(this.#memory);
    this.#output = new OutputArea(this.#memory);
    this.#handshake = new Handshake(host.exports);
  }

  get exportName(): string {
    return this.#exportName;
  }

  get inTransmission(): boolean {
    return this.#backend !== undefined;
  }

  get inflight(): number {
    return this.#done.length - this.#freeCount;
  }

  /** Begins to talk. The server has wired the socket's reading to `buffer` and `received`. */
  start(socket: Socket): void {
    this.#socket = socket;
    socket.on("close", () => this.#onClose());
    socket.on("error", (error) => {
      this.#closeReason ||= error.message;
    });
    socket.on("end", () => this.#drain("the client closed the connection"));
    this.#sendHandshake();
  }

  /** Memory for the socket's next read. */
  buffer(): Uint8Array {
    return this.#stalled || this.#draining ? this.#input.spare() : this.#input.target();
  }

  /** Bytes arrived, in place or elsewhere. @returns false when the socket is to stop reading. */
  received(chunk: Uint8Array): boolean {
    if (this.#draining || this.#socketClosed) return !this.#socketClosed; // read on, so that the end is seen
    if (this.#backlog !== undefined) this.#backlog = Buffer.concat([this.#backlog, chunk]);
    else if (!this.#stalled && this.#input.isTarget(chunk)) this.#input.end += chunk.length;
    else this.#backlog = chunk;
    this.#turn();
    // the caller's memory is used again: what had no room in the window is copied
    if (this.#backlog !== undefined && this.#backlog.buffer === chunk.buffer) {
      this.#backlog = new Uint8Array(this.#backlog); // not slice(): a Buffer's shares memory
    }
    return !this.#stalled;
  }

  /** Begins no further request, answers those under way, then closes. */
  shutdown(reason: string): void {
    this.#drain(reason);
  }

  /** Closes without waiting for replies; the backend's calls under way still end in their own time. */
  destroy(reason: string): void {
    this.#closeReason ||= reason;
    this.#socket?.destroy();
  }

  #drain(reason: string): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#closeReason ||= reason;
    this.#stalled = false;
    this.#socket?.resume();
    this.#hangUpIfIdle();
  }

  #onClose(): void {
    this.#socketClosed = true;
    this.#draining = true;
    this.#endIfIdle();
  }

  /** Begins what has arrived and sends what is ready, until there is no more of either. */
  #turn(): void {
    if (this.#inTurn) return;
    this.#inTurn = true;
    const wasStalled = this.#stalled;
    this.#stalled = false;
    this.#finishedInTurn = false;
    this.#backend?.beginBatch?.();
    const batch = this.#backend;
    for (;;) {
      this.#consume();
      if (this.#stalled || this.#draining) break;
      const force = this.inflight === 0 && this.#unsentBytes === 0 && !this.#output.waiting;
      if (!this.#input.prepare(this.#needed, force)) {
        this.#stalled = true;
        break;
      }
      if (!this.#takeBacklog()) break;
    }
    batch?.endBatch?.();
    this.#inTurn = false;
    this.#send();
    // what was finished meanwhile may be what the next request waits for
    if (this.#stalled && this.#finishedInTurn) this.#scheduleTurn();
    if (wasStalled && !this.#stalled) this.#socket?.resume();
    this.#hangUpIfIdle();
  }

  /** Moves bytes that arrived elsewhere behind those in the window. @returns true when there were any. */
  #takeBacklog(): boolean {
    const backlog = this.#backlog;
    if (backlog === undefined) return false;
    const length = Math.min(backlog.length, this.#input.room);
    this.#input.bytes.set(backlog.subarray(0, length), this.#input.end);
    this.#input.end += length;
    this.#backlog = length === backlog.length ? undefined : backlog.subarray(length);
    return true;
  }

  #consume(): void {
    if (this.#backend === undefined) this.#consumeHandshake();
    while (this.#backend !== undefined && !this.#stalled && !this.#draining) {
      if (!this.#consumeRequest()) return;
    }
  }

  #consumeHandshake(): void {
    const { bytes, start, end } = this.#input;
    this.#input.start += this.#handshake.receive(bytes, start, end);
    this.#sendHandshake();
    const { state, selected } = this.#handshake;
    if (state === "closed") {
      const reason = this.#handshake.closedBecause;
      if (reason !== "") this.#host.refused(reason);
      this.#drain(reason === "" ? "the client left during the handshake" : reason);
    } else if (state === "transmission") {
      assert(selected !== undefined, "transmission begins with an export");
      const backend = this.#host.backend(selected.name);
      this.#exportName = selected.name;
      this.#limits = {
        sizeBytes: selected.sizeBytes,
        minimumBlock: selected.blockSizes.minimum,
        readOnly: backend.readOnly,
        canTrim: backend.canTrim,
        canZeroFast: backend.canZeroFast,
        structuredReplies: this.#handshake.structuredReplies,
      };
      this.#needed = REQUEST_BYTES;
      this.#backend = backend;
      this.#host.began(this);
    } else {
      this.#needed = this.#handshake.needed(bytes, this.#input.start, end);
    }
  }

  #sendHandshake(): void {
    const reply = this.#handshake.takeReply();
    if (reply !== undefined) this.#socket?.write(reply);
  }

  /** Begins the next request. @returns false when more bytes, or room for its reply, are needed first. */
  #consumeRequest(): boolean {
    const input = this.#input;
    if (this.#skipBytes > 0) {
      const taken = Math.min(this.#skipBytes, input.available);
      input.start += taken;
      this.#skipBytes -= taken;
      if (this.#skipBytes > 0) return false;
    }
    this.#needed = REQUEST_BYTES;
    if (input.available < REQUEST_BYTES) return false;
    if (this.#unsentBytes > UNSENT_BYTES_MAX || (this.#freeCount === 0 && this.#done.length === NBD_INFLIGHT_MAX)) {
      this.#stalled = true;
      return false;
    }
    const request = this.#request;
    if (!parseRequest(input.bytes, input.start, request)) {
      this.#fail("a request without its magic number");
      return false;
    }
    const payload = payloadBytes(request);
    if (payload > NBD_PAYLOAD_MAX) {
      this.#fail(`a write of ${payload} bytes; at most ${NBD_PAYLOAD_MAX}`);
      return false;
    }
    const errno = refusalOf(request, this.#limits as TransmissionLimits);
    if (errno !== NbdErrno.ok) {
      input.start += REQUEST_BYTES;
      this.#skipBytes = payload;
      this.#finish(this.#takeSlot(), errno);
      return true;
    }
    if (request.type === NBD_CMD_DISC) {
      this.#drain("the client disconnected");
      return false;
    }
    if (input.available < REQUEST_BYTES + payload) {
      this.#needed = REQUEST_BYTES + payload;
      return false;
    }
    if (request.type === NBD_CMD_READ) {
      const room = readHeaderBytes(this.#handshake.structuredReplies) + request.length;
      const force = this.inflight === 0 && this.#unsentBytes === 0 && !this.#output.waiting;
      if (!this.#output.prepare(room, force)) {
        this.#stalled = true;
        return false;
      }
    }
    this.#begin(payload);
    return true;
  }

  #fail(reason: string): void {
    this.#host.refused(reason);
    this.#drain(reason);
  }

  #takeSlot(): number {
    let slot: number;
    if (this.#freeCount > 0) slot = this.#freeSlots[--this.#freeCount] as number;
    else {
      slot = this.#done.length;
      const mine = slot;
      this.#done.push((errno) => this.#complete(mine, errno));
    }
    const request = this.#request;
    this.#type[slot] = request.type;
    this.#flags[slot] = request.flags;
    this.#cookieHigh[slot] = request.cookieHigh;
    this.#cookieLow[slot] = request.cookieLow;
    this.#offset[slot] = request.offset;
    this.#remaining[slot] = request.length;
    this.#errno[slot] = 0;
    this.#parts[slot] = 1;
    return slot;
  }

  #begin(payload: number): void {
    const input = this.#input;
    const slot = this.#takeSlot();
    const { type, length } = this.#request;
    const from = input.start + REQUEST_BYTES;
    input.start = from + payload;
    const done = this.#done[slot] as (errno: number) => void;
    const backend = this.#backend as BlockBackend;
    if (type === NBD_CMD_READ) this.#beginRead(slot, length, backend, done);
    else if (type === NBD_CMD_WRITE) this.#beginWrite(slot, from, length, backend, done);
    else if (type === NBD_CMD_FLUSH) backend.flush(done);
    else this.#nextZeroPart(slot);
  }

  #beginRead(slot: number, length: number, backend: BlockBackend, done: (errno: number) => void): void {
    const header = readHeaderBytes(this.#handshake.structuredReplies);
    const segment = this.#output.reserve(header + length);
    this.#segment[slot] = segment;
    const maximum = backend.blockSizes.maximum;
    const offset = this.#offset[slot] as number;
    const { bytes } = segment.slab;
    const from = segment.start + header;
    this.#parts[slot] = Math.ceil(length / maximum);
    for (let at = 0; at < length; at += maximum) {
      const part = Math.min(maximum, length - at);
      backend.read(offset + at, bytes.subarray(from + at, from + at + part), done);
    }
  }

  #beginWrite(slot: number, from: number, length: number, backend: BlockBackend, done: (errno: number) => void): void {
    const { slab } = this.#input;
    slab.refs++;
    this.#inputSlab[slot] = slab;
    const maximum = backend.blockSizes.maximum;
    const offset = this.#offset[slot] as number;
    const fua = ((this.#flags[slot] as number) & NBD_CMD_FLAG_FUA) !== 0;
    this.#parts[slot] = Math.ceil(length / maximum);
    for (let at = 0; at < length; at += maximum) {
      const part = Math.min(maximum, length - at);
      backend.write(offset + at, slab.bytes.subarray(from + at, from + at + part), fua, done);
    }
  }

  /** TRIM and WRITE_ZEROES may name 4 GiB: their pieces go one after the other. */
  #nextZeroPart(slot: number): void {
    const backend = this.#backend as BlockBackend;
    const offset = this.#offset[slot] as number;
    const length = Math.min(this.#remaining[slot] as number, backend.blockSizes.maximumZero);
    this.#offset[slot] = offset + length;
    this.#remaining[slot] = (this.#remaining[slot] as number) - length;
    const flags = this.#flags[slot] as number;
    const done = this.#done[slot] as (errno: number) => void;
    if (this.#type[slot] === NBD_CMD_TRIM) backend.trim(offset, length, (flags & NBD_CMD_FLAG_FUA) !== 0, done);
    else backend.zero(offset, length, flags, done);
  }

  #complete(slot: number, errno: number): void {
    assert((this.#parts[slot] as number) > 0, "the backend finishes each request once");
    if (errno !== 0 && this.#errno[slot] === 0) this.#errno[slot] = errno;
    this.#parts[slot] = (this.#parts[slot] as number) - 1;
    if (this.#parts[slot] !== 0) return;
    const type = this.#type[slot] as number;
    const pieces = type !== NBD_CMD_READ && type !== NBD_CMD_WRITE && type !== NBD_CMD_FLUSH;
    if (pieces && errno === 0 && (this.#remaining[slot] as number) > 0 && !this.#socketClosed) {
      this.#parts[slot] = 1;
      this.#nextZeroPart(slot);
      return;
    }
    this.#finish(slot, this.#errno[slot] as number);
    if (this.#inTurn) {
      this.#finishedInTurn = true;
      return;
    }
    if (this.#socketClosed) this.#endIfIdle();
    else this.#scheduleTurn();
  }

  /** Lays the reply out and frees what the request held. */
  #finish(slot: number, errno: number): void {
    this.#parts[slot] = 0;
    const slab = this.#inputSlab[slot];
    if (slab !== undefined) {
      this.#memory.release(slab);
      this.#inputSlab[slot] = undefined;
    }
    const segment = this.#segment[slot];
    this.#segment[slot] = undefined;
    if (this.#socketClosed) {
      if (segment !== undefined) this.#output.drop(segment);
    } else this.#queueReply(slot, errno, segment);
    this.#freeSlots[this.#freeCount++] = slot;
  }

  #queueReply(slot: number, errno: number, segment: ReplySegment | undefined): void {
    const high = this.#cookieHigh[slot] as number;
    const low = this.#cookieLow[slot] as number;
    const structured = this.#handshake.structuredReplies && this.#type[slot] === NBD_CMD_READ;
    if (segment !== undefined && errno === 0) {
      const { bytes } = segment.slab;
      if (structured) {
        const length = segment.end - segment.start - readHeaderBytes(true);
        putDataChunk(bytes, segment.start, high, low, this.#offset[slot] as number, length);
      } else putSimpleReply(bytes, segment.start, 0, high, low);
      this.#output.queue(segment);
      return;
    }
    if (segment !== undefined) this.#output.drop(segment);
    const size = structured ? ERROR_CHUNK_BYTES : NBD_SIMPLE_REPLY_BYTES;
    this.#output.prepare(size, true);
    const reply = this.#output.reserve(size);
    if (structured) putErrorChunk(reply.slab.bytes, reply.start, errno, high, low);
    else putSimpleReply(reply.slab.bytes, reply.start, errno, high, low);
    this.#output.queue(reply);
  }

  /** Completions of one turn of the event loop share one write. */
  #scheduleTurn(): void {
    if (this.#turnScheduled) return;
    this.#turnScheduled = true;
    setImmediate(() => {
      this.#turnScheduled = false;
      if (this.#ended) return;
      if (this.#stalled) this.#turn();
      else {
        this.#send();
        this.#hangUpIfIdle();
      }
    });
  }

  #send(): void {
    const socket = this.#socket;
    if (!this.#output.waiting || socket === undefined || this.#socketClosed) return;
    const queue = this.#output.takeQueue();
    let bytes = 0;
    for (const segment of queue) bytes += segment.end - segment.start;
    this.#unsentBytes += bytes;
    const sent = (): void => {
      this.#unsentBytes -= bytes;
      for (const segment of queue) this.#output.drop(segment);
      if (this.#socketClosed) this.#endIfIdle();
      else if (this.#stalled || this.#draining) this.#scheduleTurn();
    };
    if (queue.length > 1) socket.cork();
    for (let i = 0; i < queue.length; i++) {
      const { slab, start, end } = queue[i] as ReplySegment;
      const part = slab.bytes.subarray(start, end);
      if (i === queue.length - 1) socket.write(part, sent);
      else socket.write(part);
    }
    if (queue.length > 1) socket.uncork();
  }

  #hangUpIfIdle(): void {
    if (!this.#draining || this.#socketClosed || this.inflight > 0) return;
    this.#send();
    if (this.#unsentBytes === 0) this.#socket?.end(() => this.#socket?.destroy());
  }

  #endIfIdle(): void {
    if (this.#ended || !this.#socketClosed || this.inflight > 0) return;
    this.#ended = true;
    this.#input.close();
    this.#output.close();
    this.#host.ended(this, this.#closeReason || "connection lost");
  }
}
