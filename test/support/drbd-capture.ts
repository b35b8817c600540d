import { readFileSync } from "node:fs";
import { HaError } from "@hacluster/blockrep/base";
import { type Dialect, headerLength, INITIAL_DIALECT, negotiate } from "@hacluster/blockrep/unstable/wire/dialect";
import { Framer } from "@hacluster/blockrep/unstable/wire/framer";
import type { SocketKind } from "@hacluster/blockrep/unstable/wire/layout";
import type { FeaturesPacket, Packet } from "@hacluster/blockrep/unstable/wire/packets";
import { readTcpConnections, type TcpConnection, type TcpStream } from "./tcp-streams.ts";

/** A packet of a capture, with the bytes it came in and how it was laid out. */
export interface CapturedPacket {
  readonly packet: Packet;
  readonly bytes: Uint8Array;
  readonly dialect: Dialect;
  /** Whether the capture cut bytes off this packet; they read as 0. */
  readonly cut: boolean;
}

export interface CapturedDirection {
  readonly stream: TcpStream;
  readonly socket: SocketKind;
  readonly packets: readonly CapturedPacket[];
  /** Bytes behind the last complete packet; `cut` when the capture, not DRBD, is to blame. */
  readonly rest: number;
  readonly cut: boolean;
  readonly firstDialect: Dialect;
  readonly firstSocket: SocketKind;
}

/** What two 8.4 kernels agree on: for captures that start in the middle. */
const KERNEL_DIALECT: Dialect = { version: 101, features: 0x0f, integrityDigestLength: 0 };
const INTEGRITY_LENGTH: Readonly<Record<string, number>> = { "": 0, crc32c: 4, md5: 16, sha1: 20 };

/**
 * Decodes both directions of every connection of a capture, up to where the capture itself ends or has a gap.
 * @param integrityAlg data-integrity-alg of connections whose beginning the capture does not have
 */
export function readDrbdCapture(path: string, integrityAlg = ""): CapturedDirection[] {
  const connections = readTcpConnections(readFileSync(path));
  const agreed = { ...agreedDialect(connections), integrityDigestLength: INTEGRITY_LENGTH[integrityAlg] ?? 0 };
  return connections.flatMap((connection) => {
    const meta = isMeta(connection);
    return [connection.client, connection.server]
      .filter((stream) => stream.bytes.length > 0)
      .map((stream) => decode(stream, stream === connection.client, meta, agreed));
  });
}

function startsWithH80(stream: TcpStream): boolean {
  return stream.fromStart && stream.bytes[0] === 0x83 && stream.bytes[1] === 0x74;
}

function firstCommand(stream: TcpStream): number {
  return startsWithH80(stream)
    ? (stream.bytes[4]! << 8) | stream.bytes[5]!
    : (stream.bytes[6]! << 8) | stream.bytes[7]!;
}

function isMeta({ client, server }: TcpConnection): boolean {
  if (client.fromStart) return firstCommand(client) === 0xfff1;
  return [client, server].some((s) => s.bytes.length > 0 && META_COMMANDS.has(firstCommand(s)));
}
// everything that comes on the meta socket only
const META_COMMANDS = new Set([
  0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x20, 0x22, 0x29, 0x2b, 0x2c,
]);

function agreedDialect(connections: readonly TcpConnection[]): Dialect {
  for (const connection of connections) {
    const [a, b] = [connection.client, connection.server].map(featuresOf);
    if (a !== undefined && b !== undefined) return negotiate(a, b) ?? KERNEL_DIALECT;
  }
  return KERNEL_DIALECT;
}

function featuresOf(stream: TcpStream): FeaturesPacket | undefined {
  if (!startsWithH80(stream)) return undefined;
  const framer = new Framer({ socket: firstCommand(stream) === 0xfffe ? "data" : "first" });
  framer.push(stream.bytes);
  for (let packet = framer.next(); packet !== undefined; packet = framer.next()) {
    if (packet.kind === "P_CONNECTION_FEATURES") return packet;
    if (packet.kind !== "P_INITIAL_DATA") return undefined;
    framer.socket = "data";
  }
  return undefined;
}

function decode(stream: TcpStream, isClient: boolean, meta: boolean, agreed: Dialect): CapturedDirection {
  const firstSocket: SocketKind = isClient && stream.fromStart ? "first" : meta ? "meta" : "data";
  const firstDialect = firstSocket === "first" || (!meta && stream.fromStart) ? INITIAL_DIALECT : agreed;
  const framer = new Framer({ socket: firstSocket, dialect: firstDialect });
  framer.push(stream.bytes);
  const packets: CapturedPacket[] = [];
  let at = 0;
  let cut = false;
  const touchesHole = (start: number, end: number) => stream.holes.some(([s, e]) => s < end && start < e);
  for (;;) {
    const dialect = framer.dialect;
    if (touchesHole(at, Math.min(at + headerLength(dialect), stream.bytes.length))) {
      cut = true;
      break;
    }
    let packet: Packet | undefined;
    try {
      packet = framer.next();
    } catch (error) {
      const where = `${stream.source}>${stream.destination} byte ${at}`;
      throw error instanceof HaError ? new Error(`${where}: ${error.message}`, { cause: error }) : error;
    }
    if (packet === undefined) break;
    const end = stream.bytes.length - framer.unread;
    packets.push({ packet, bytes: stream.bytes.subarray(at, end), dialect, cut: touchesHole(at, end) });
    at = end;
    follow(framer, packet, agreed);
  }
  return {
    stream,
    socket: meta ? "meta" : "data",
    packets,
    rest: stream.bytes.length - at,
    cut,
    firstDialect,
    firstSocket,
  };
}

/** Moves a receiving framer on as a connection would. */
export function follow(framer: Framer, packet: Packet, agreed: Dialect): void {
  if (packet.kind === "P_INITIAL_DATA") framer.socket = "data";
  if (packet.kind === "P_INITIAL_META") {
    framer.socket = "meta";
    framer.dialect = agreed;
  }
  if (packet.kind === "P_CONNECTION_FEATURES") framer.dialect = agreed;
  if (packet.kind === "P_PROTOCOL" || packet.kind === "P_PROTOCOL_UPDATE") {
    const integrityDigestLength = INTEGRITY_LENGTH[packet.integrityAlg] ?? 0;
    framer.dialect = { ...framer.dialect, integrityDigestLength };
  }
}
