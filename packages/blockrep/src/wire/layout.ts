import { assert } from "../base/assert.ts";
import { type Details, ErrorCode, HaError } from "../base/errors.ts";
import { readU32, writeU53 } from "./bytes.ts";
import type { Dialect } from "./dialect.ts";
import type { Packet } from "./packets.ts";

/**
 * Where a packet may arrive. `first`: the socket's purpose is not known yet; the only packet that may come is the one
 * that announces it. `data`: bulk and ordered control packets. `meta`: acknowledgements, pings, replies.
 */
export type SocketKind = "first" | "data" | "meta";

/** One row of the packet catalogue: lengths, sockets, and the way between bytes and value. Lengths are payload bytes. */
export interface Layout<P extends Packet = Packet> {
  readonly command: number;
  readonly sockets: readonly SocketKind[];
  minLength(dialect: Dialect): number;
  /** Bounds what the framer reserves on a peer's word. */
  maxLength(dialect: Dialect): number;
  /** Bytes that `write` fills: the fixed part with names and digests, without `body`. */
  headLength(packet: P, dialect: Dialect): number;
  /** Bulk bytes behind the head, which an encoder may leave where they are. */
  body?(packet: P): Uint8Array;
  /** Fills `headLength` zeroed bytes at `at`. */
  write(packet: P, out: Uint8Array, at: number, dialect: Dialect): void;
  /** `payload` is within the length limits. */
  read(volume: number, payload: Uint8Array, dialect: Dialect): Packet;
}

/** Why something received was refused; `details.reason` of the error. The connection rules differ by it. */
export type WireRefusal = "bad-magic" | "bad-pad" | "unknown-command" | "wrong-socket" | "wrong-length" | "bad-value";

/** HA_WIRE_BAD_PACKET: the peer broke the protocol; the connection cannot go on. */
export function badPacket(reason: WireRefusal, message: string, details: Details = {}): HaError {
  return new HaError(ErrorCode.wireBadPacket, message, { reason, ...details });
}

export const DATA: readonly SocketKind[] = ["data"];
export const META: readonly SocketKind[] = ["meta"];
export const DATA_AND_META: readonly SocketKind[] = ["data", "meta"];
export const FIRST: readonly SocketKind[] = ["first"];

/** The length functions of a packet that always has the same length. */
export function fixedLength(bytes: number): Pick<Layout, "minLength" | "maxLength" | "headLength"> {
  const length = () => bytes;
  return { minLength: length, maxLength: length, headLength: length };
}

/**
 * A u64 that we keep as a number.
 * @throws HaError HA_WIRE_BAD_PACKET above 2^53-1: no device is that large
 */
export function readCount(bytes: Uint8Array, at: number, field: string): number {
  const high = readU32(bytes, at);
  if (high > 0x1f_ffff) {
    throw badPacket("bad-value", `${field} is above 2^53-1, which no device reaches`, { field });
  }
  return high * 0x1_0000_0000 + readU32(bytes, at + 4);
}

export function writeCount(bytes: Uint8Array, at: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, `a count or sector on the wire is 0..2^53-1, not ${value}`);
  writeU53(bytes, at, value);
}

/**
 * The name of an algorithm in a NUL-padded field.
 * @throws HaError HA_WIRE_BAD_PACKET without an ending NUL, or with bytes that no name has
 */
export function readName(bytes: Uint8Array, at: number, length: number, field: string): string {
  let name = "";
  for (let i = at; i < at + length; i++) {
    const byte = bytes[i]!;
    if (byte === 0) return name;
    if (byte < 0x21 || byte > 0x7e) {
      throw badPacket("bad-value", `${field} holds byte 0x${byte.toString(16)}, which no algorithm's name has`, {
        field,
      });
    }
    name += String.fromCharCode(byte);
  }
  throw badPacket("bad-value", `${field} has no ending NUL within its ${length} bytes`, { field });
}

/** Writes a name; the NUL behind it is already there. */
export function writeName(bytes: Uint8Array, at: number, length: number, name: string): void {
  assert(name.length < length && /^[\x21-\x7e]*$/.test(name), `"${name}" is no algorithm name of up to ${length - 1}`);
  for (let i = 0; i < name.length; i++) bytes[at + i] = name.charCodeAt(i);
}
