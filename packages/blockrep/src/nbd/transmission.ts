import { assert } from "../base/assert.ts";
import {
  NBD_CHUNK_HEADER_BYTES,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_PAYLOAD_MAX,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REQUEST_BYTES,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_BYTES,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  NbdErrno,
} from "./constants.ts";

/** A request's header. One record per connection is used again and again: copy out what must live longer. */
export class NbdRequest {
  flags = 0;
  type = 0;
  cookieHigh = 0;
  cookieLow = 0;
  /** Bytes. Not exact above 2^53, where it is beyond every device anyway. */
  offset = 0;
  length = 0;
}

/** What a request is checked against. */
export interface TransmissionLimits {
  readonly sizeBytes: number;
  readonly minimumBlock: number;
  readonly readOnly: boolean;
  readonly canTrim: boolean;
  readonly canZeroFast: boolean;
  readonly structuredReplies: boolean;
}

/**
 * Reads the header at `bytes[at..at+28)`.
 * @returns false when the magic number is wrong: the stream is out of step, and nothing but hanging up is left.
 */
export function parseRequest(bytes: Uint8Array, at: number, into: NbdRequest): boolean {
  if (u32(bytes, at) !== NBD_REQUEST_MAGIC) return false;
  into.flags = ((bytes[at + 4] as number) << 8) | (bytes[at + 5] as number);
  into.type = ((bytes[at + 6] as number) << 8) | (bytes[at + 7] as number);
  into.cookieHigh = u32(bytes, at + 8);
  into.cookieLow = u32(bytes, at + 12);
  into.offset = u32(bytes, at + 16) * 0x1_0000_0000 + u32(bytes, at + 20);
  into.length = u32(bytes, at + 24);
  return true;
}

/** Bytes that follow the header. Only a write has any, and has them also when it is refused. */
export function payloadBytes(request: NbdRequest): number {
  return request.type === NBD_CMD_WRITE ? request.length : 0;
}

/**
 * Everything that can be wrong with a request, decided before anything is done.
 * @returns 0, or the error number to answer with.
 * @see NBD proto.md, "Request types" and "Error values"
 */
export function refusalOf(request: NbdRequest, limits: TransmissionLimits): number {
  const { type, flags, offset, length } = request;
  switch (type) {
    case NBD_CMD_READ: {
      const allowed = limits.structuredReplies ? NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF : NBD_CMD_FLAG_FUA;
      if ((flags & ~allowed) !== 0 || length > NBD_PAYLOAD_MAX) return NbdErrno.invalid;
      return rangeRefusal(offset, length, limits, NbdErrno.invalid);
    }
    case NBD_CMD_WRITE:
      if (limits.readOnly) return NbdErrno.notPermitted;
      if ((flags & ~NBD_CMD_FLAG_FUA) !== 0) return NbdErrno.invalid;
      return rangeRefusal(offset, length, limits, NbdErrno.noSpace);
    case NBD_CMD_TRIM:
      if (limits.readOnly) return NbdErrno.notPermitted;
      if (!limits.canTrim || (flags & ~NBD_CMD_FLAG_FUA) !== 0) return NbdErrno.invalid;
      return rangeRefusal(offset, length, limits, NbdErrno.invalid);
    case NBD_CMD_WRITE_ZEROES: {
      if (limits.readOnly) return NbdErrno.notPermitted;
      const fast = limits.canZeroFast ? NBD_CMD_FLAG_FAST_ZERO : 0;
      if ((flags & ~(NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | fast)) !== 0) return NbdErrno.invalid;
      return rangeRefusal(offset, length, limits, NbdErrno.noSpace);
    }
    case NBD_CMD_FLUSH:
      return (flags & ~NBD_CMD_FLAG_FUA) === 0 && offset === 0 && length === 0 ? NbdErrno.ok : NbdErrno.invalid;
    case NBD_CMD_DISC:
      return NbdErrno.ok;
    case NBD_CMD_CACHE: // not advertised
    case NBD_CMD_BLOCK_STATUS: // needs a meta context, and none is offered
      return NbdErrno.invalid;
    default:
      return NbdErrno.invalid;
  }
}

function rangeRefusal(offset: number, length: number, limits: TransmissionLimits, beyond: number): number {
  if (length === 0) return NbdErrno.invalid;
  if (offset + length > limits.sizeBytes) return beyond;
  const unit = limits.minimumBlock;
  return offset % unit === 0 && length % unit === 0 ? NbdErrno.ok : NbdErrno.invalid;
}

/** Writes a simple reply of 16 bytes at `out[at]`; the data of a successful simple read follows it. */
export function putSimpleReply(
  out: Uint8Array,
  at: number,
  errno: number,
  cookieHigh: number,
  cookieLow: number,
): number {
  put32(out, at, NBD_SIMPLE_REPLY_MAGIC);
  put32(out, at + 4, errno);
  put32(out, at + 8, cookieHigh);
  put32(out, at + 12, cookieLow);
  return NBD_SIMPLE_REPLY_BYTES;
}

/** Bytes of the header that stands before the data of a successful read. */
export function readHeaderBytes(structured: boolean): number {
  return structured ? NBD_CHUNK_HEADER_BYTES + 8 : NBD_SIMPLE_REPLY_BYTES;
}

/** Writes the one and last chunk's header of a structured read; its `length` bytes of data follow. */
export function putDataChunk(
  out: Uint8Array,
  at: number,
  cookieHigh: number,
  cookieLow: number,
  offset: number,
  length: number,
): number {
  putChunk(out, at, NBD_REPLY_TYPE_OFFSET_DATA, cookieHigh, cookieLow, 8 + length);
  put32(out, at + 20, Math.floor(offset / 0x1_0000_0000));
  put32(out, at + 24, offset >>> 0);
  return NBD_CHUNK_HEADER_BYTES + 8;
}

/** Bytes of an error chunk without text. */
export const ERROR_CHUNK_BYTES: number = NBD_CHUNK_HEADER_BYTES + 6;

/** Writes the error chunk that ends a structured read. */
export function putErrorChunk(
  out: Uint8Array,
  at: number,
  errno: number,
  cookieHigh: number,
  cookieLow: number,
): number {
  assert(errno !== 0, "an error chunk carries an error");
  putChunk(out, at, NBD_REPLY_TYPE_ERROR, cookieHigh, cookieLow, 6);
  put32(out, at + 20, errno);
  out[at + 24] = 0; // no text
  out[at + 25] = 0;
  return ERROR_CHUNK_BYTES;
}

function putChunk(out: Uint8Array, at: number, type: number, high: number, low: number, length: number): void {
  put32(out, at, NBD_STRUCTURED_REPLY_MAGIC);
  put32(out, at + 4, ((NBD_REPLY_FLAG_DONE << 16) | type) >>> 0);
  put32(out, at + 8, high);
  put32(out, at + 12, low);
  put32(out, at + 16, length);
}

function u32(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}

function put32(out: Uint8Array, at: number, value: number): void {
  out[at] = value >>> 24;
  out[at + 1] = (value >>> 16) & 0xff;
  out[at + 2] = (value >>> 8) & 0xff;
  out[at + 3] = value & 0xff;
}

/** The header's length, so that a caller needs no other import. */
export const REQUEST_BYTES: number = NBD_REQUEST_BYTES;
