/**
 * Packets ⇄ bytes. Which header and which layout is the dialect's business.
 *
 * ```text
 *  h80  | 0x83740267    | command u16 | length u16 |
 *  h95  | 0x835a | command u16 | length u32        |
 *  h100 | 0x8620ec20    | volume u16 | command u16 | length u32 | 0 u32 |
 * ```
 *
 * @see DRBD 8.4 drbd_protocol.h
 */
import { assert } from "../base/assert.ts";
import { ErrorCode, HaError } from "../base/errors.ts";
import {
  ackLayout,
  barrierAckLayout,
  barrierLayout,
  bitmapLayout,
  compressedBitmapLayout,
  dataLayout,
  delayProbeLayout,
  digestRequestLayout,
  discardLayout,
  emptyLayout,
  rangeLayout,
  requestLayout,
  writeSameLayout,
} from "./block-packets.ts";
import { readU16, readU32, writeU16, writeU32 } from "./bytes.ts";
import { MAGIC_H80, MAGIC_H95, MAGIC_H100, PAYLOAD_MAX_H80, type PacketKind } from "./constants.ts";
import { type Dialect, headerLength } from "./dialect.ts";
import { badPacket, type Layout, type SocketKind } from "./layout.ts";
import type { Packet } from "./packets.ts";
import {
  authChallengeLayout,
  authResponseLayout,
  featuresLayout,
  protocolLayout,
  sizesLayout,
  stateChangeReplyLayout,
  stateChangeRequestLayout,
  stateLayout,
  syncParam89Layout,
  syncParamLayout,
  syncUuidLayout,
  uuidsLayout,
} from "./parameter-packets.ts";

/** The whole packet catalogue. */
export const LAYOUTS: Readonly<Record<PacketKind, Layout>> = {
  P_DATA: dataLayout("P_DATA"),
  P_DATA_REPLY: dataLayout("P_DATA_REPLY"),
  P_RS_DATA_REPLY: dataLayout("P_RS_DATA_REPLY"),
  P_BARRIER: barrierLayout,
  P_BITMAP: bitmapLayout,
  P_UNPLUG_REMOTE: emptyLayout("P_UNPLUG_REMOTE"),
  P_DATA_REQUEST: requestLayout("P_DATA_REQUEST"),
  P_RS_DATA_REQUEST: requestLayout("P_RS_DATA_REQUEST"),
  P_SYNC_PARAM: syncParamLayout,
  P_PROTOCOL: protocolLayout("P_PROTOCOL"),
  P_UUIDS: uuidsLayout,
  P_SIZES: sizesLayout,
  P_STATE: stateLayout,
  P_SYNC_UUID: syncUuidLayout,
  P_AUTH_CHALLENGE: authChallengeLayout,
  P_AUTH_RESPONSE: authResponseLayout,
  P_STATE_CHG_REQ: stateChangeRequestLayout("P_STATE_CHG_REQ"),
  P_PING: emptyLayout("P_PING"),
  P_PING_ACK: emptyLayout("P_PING_ACK"),
  P_RECV_ACK: ackLayout("P_RECV_ACK"),
  P_WRITE_ACK: ackLayout("P_WRITE_ACK"),
  P_RS_WRITE_ACK: ackLayout("P_RS_WRITE_ACK"),
  P_SUPERSEDED: ackLayout("P_SUPERSEDED"),
  P_NEG_ACK: ackLayout("P_NEG_ACK"),
  P_NEG_DREPLY: ackLayout("P_NEG_DREPLY"),
  P_NEG_RS_DREPLY: ackLayout("P_NEG_RS_DREPLY"),
  P_BARRIER_ACK: barrierAckLayout,
  P_STATE_CHG_REPLY: stateChangeReplyLayout("P_STATE_CHG_REPLY"),
  P_OV_REQUEST: requestLayout("P_OV_REQUEST"),
  P_OV_REPLY: digestRequestLayout("P_OV_REPLY"),
  P_OV_RESULT: ackLayout("P_OV_RESULT"),
  P_CSUM_RS_REQUEST: digestRequestLayout("P_CSUM_RS_REQUEST"),
  P_RS_IS_IN_SYNC: ackLayout("P_RS_IS_IN_SYNC"),
  P_SYNC_PARAM89: syncParam89Layout,
  P_COMPRESSED_BITMAP: compressedBitmapLayout,
  P_DELAY_PROBE: delayProbeLayout,
  P_OUT_OF_SYNC: rangeLayout("P_OUT_OF_SYNC"),
  P_RS_CANCEL: ackLayout("P_RS_CANCEL"),
  P_CONN_ST_CHG_REQ: stateChangeRequestLayout("P_CONN_ST_CHG_REQ"),
  P_CONN_ST_CHG_REPLY: stateChangeReplyLayout("P_CONN_ST_CHG_REPLY"),
  P_RETRY_WRITE: ackLayout("P_RETRY_WRITE"),
  P_PROTOCOL_UPDATE: protocolLayout("P_PROTOCOL_UPDATE"),
  P_TRIM: discardLayout("P_TRIM"),
  P_RS_THIN_REQ: requestLayout("P_RS_THIN_REQ"),
  P_RS_DEALLOCATED: rangeLayout("P_RS_DEALLOCATED"),
  P_WSAME: writeSameLayout,
  P_ZEROES: discardLayout("P_ZEROES"),
  P_INITIAL_META: emptyLayout("P_INITIAL_META"),
  P_INITIAL_DATA: emptyLayout("P_INITIAL_DATA"),
  P_CONNECTION_FEATURES: featuresLayout,
};

const KIND_OF_COMMAND: ReadonlyMap<number, PacketKind> = new Map(
  (Object.keys(LAYOUTS) as PacketKind[]).map((kind) => [LAYOUTS[kind].command, kind]),
);

/** A received header whose command is known; nothing else about it is checked yet. */
export interface Header {
  readonly kind: PacketKind;
  readonly volume: number;
  /** Bytes behind the header. */
  readonly length: number;
}

/**
 * Reads the header at `at`; there must be headerLength(dialect) bytes.
 * @throws HaError HA_WIRE_BAD_MAGIC when these bytes start no packet of this dialect;
 *   HA_WIRE_BAD_PACKET (`bad-pad`, `unknown-command`)
 */
export function decodeHeader(bytes: Uint8Array, at: number, dialect: Dialect): Header {
  const magic = readU32(bytes, at);
  let command: number;
  let volume = 0;
  let length: number;
  if (dialect.version >= 100) {
    if (magic !== MAGIC_H100) throw badMagic(magic, dialect);
    volume = readU16(bytes, at + 4);
    command = readU16(bytes, at + 6);
    length = readU32(bytes, at + 8);
    if (readU32(bytes, at + 12) !== 0) {
      throw badPacket("bad-pad", "the padding of a packet header is not zero: the stream is out of step", { command });
    }
  } else if (magic === MAGIC_H80) {
    command = readU16(bytes, at + 4);
    length = readU16(bytes, at + 6);
  } else if (magic >>> 16 === MAGIC_H95) {
    command = magic & 0xffff;
    length = readU32(bytes, at + 4);
  } else {
    throw badMagic(magic, dialect);
  }
  const kind = KIND_OF_COMMAND.get(command);
  if (kind === undefined) {
    throw badPacket("unknown-command", `packet type 0x${command.toString(16)} is not known to DRBD 8.4`, {
      command,
      length,
    });
  }
  return { kind, volume, length };
}

function badMagic(magic: number, dialect: Dialect): HaError {
  const found = `0x${magic.toString(16).padStart(8, "0")}`;
  return new HaError(
    ErrorCode.wireBadMagic,
    `${found} starts no packet of protocol version ${dialect.version}: the other end is no DRBD, or the stream is out of step`,
    { reason: "bad-magic", magic, version: dialect.version },
  );
}

/**
 * Whether a packet may come on this socket, with this length; before any byte of its payload is kept.
 * @throws HaError HA_WIRE_BAD_PACKET (`wrong-socket`, `wrong-length`)
 */
export function checkHeader(header: Header, socket: SocketKind, dialect: Dialect): void {
  if (!LAYOUTS[header.kind].sockets.includes(socket)) {
    throw badPacket("wrong-socket", `${header.kind} arrived ${SOCKET_TEXT[socket]}, where it has no place`, {
      kind: header.kind,
      socket,
    });
  }
  checkLength(header.kind, header.length, dialect);
}

const SOCKET_TEXT: Readonly<Record<SocketKind, string>> = {
  first: "as the first packet of a socket",
  data: "on the data socket",
  meta: "on the meta socket",
};

function checkLength(kind: PacketKind, length: number, dialect: Dialect): void {
  const layout = LAYOUTS[kind];
  const min = layout.minLength(dialect);
  const max = layout.maxLength(dialect);
  if (length >= min && length <= max) return;
  const expected = min === max ? `${min}` : `${min} to ${max}`;
  throw badPacket(
    "wrong-length",
    `${kind} of ${length} bytes where protocol version ${dialect.version} has ${expected}`,
    {
      kind,
      length,
      min,
      max,
    },
  );
}

/**
 * Payload to packet. Byte fields are views of `payload`.
 * @param payload the bytes behind the header, all of them
 * @throws HaError HA_WIRE_BAD_PACKET (`wrong-length`, `bad-value`)
 */
export function decodePacket(header: Header, payload: Uint8Array, dialect: Dialect): Packet {
  assert(payload.length === header.length, "the payload of a packet is what its header says");
  checkLength(header.kind, payload.length, dialect);
  return LAYOUTS[header.kind].read(header.volume, payload, dialect);
}

/** A packet ready for writev: header and fixed part, and the bulk data where it was. */
export interface EncodedPacket {
  readonly head: Uint8Array;
  /** The packet's own bytes, not a copy: they must not change until they are sent. */
  readonly data: Uint8Array | undefined;
}

/** Header, fixed part, digest: everything of a packet except its bulk data. */
export function encodedHeadLength(packet: Packet, dialect: Dialect): number {
  return headerLength(dialect) + LAYOUTS[packet.kind].headLength(packet, dialect);
}

/**
 * Writes header and fixed part at `at`, zeroing the padding, for callers that keep their own slabs.
 * @returns how many bytes were written: encodedHeadLength
 */
export function encodeHeadInto(packet: Packet, dialect: Dialect, out: Uint8Array, at: number): number {
  const layout = LAYOUTS[packet.kind];
  const header = headerLength(dialect);
  const head = layout.headLength(packet, dialect);
  const length = head + (layout.body?.(packet).length ?? 0);
  assert(
    length >= layout.minLength(dialect) && length <= layout.maxLength(dialect),
    `${packet.kind} of ${length} bytes is outside its limits`,
  );
  assert(at + header + head <= out.length, `no room for the head of ${packet.kind}`);
  out.fill(0, at, at + header + head);
  writeHeader(out, at, layout.command, packet.volume, length, dialect);
  layout.write(packet, out, at + header, dialect);
  return header + head;
}

/** The packet's bulk data, where it is; undefined for packets without. */
export function packetBody(packet: Packet): Uint8Array | undefined {
  const data = LAYOUTS[packet.kind].body?.(packet);
  return data === undefined || data.length === 0 ? undefined : data;
}

/** The head of a packet in memory of its own, its bulk data left in place. */
export function encodeHead(packet: Packet, dialect: Dialect): EncodedPacket {
  const head = new Uint8Array(encodedHeadLength(packet, dialect));
  encodeHeadInto(packet, dialect, head, 0);
  const data = LAYOUTS[packet.kind].body?.(packet);
  return { head, data: data === undefined || data.length === 0 ? undefined : data };
}

/** The whole packet in one piece; copies the data. */
export function encodePacket(packet: Packet, dialect: Dialect): Uint8Array {
  const body = LAYOUTS[packet.kind].body?.(packet);
  const headLength = encodedHeadLength(packet, dialect);
  const out = new Uint8Array(headLength + (body?.length ?? 0));
  encodeHeadInto(packet, dialect, out, 0);
  if (body !== undefined) out.set(body, headLength);
  return out;
}

function writeHeader(
  out: Uint8Array,
  at: number,
  command: number,
  volume: number,
  length: number,
  dialect: Dialect,
): void {
  if (dialect.version >= 100) {
    assert(volume >= 0 && volume <= 0xffff, `volume ${volume} does not fit a packet header`);
    writeU32(out, at, MAGIC_H100);
    writeU16(out, at + 4, volume);
    writeU16(out, at + 6, command);
    writeU32(out, at + 8, length);
    return;
  }
  assert(volume === 0, "volumes other than 0 need protocol version 100");
  if (dialect.version >= 95 && length > PAYLOAD_MAX_H80) {
    writeU16(out, at, MAGIC_H95);
    writeU16(out, at + 2, command);
    writeU32(out, at + 4, length);
    return;
  }
  assert(length <= 0xffff, `a payload of ${length} bytes needs protocol version 95`);
  writeU32(out, at, MAGIC_H80);
  writeU16(out, at + 4, command);
  writeU16(out, at + 6, length);
}
