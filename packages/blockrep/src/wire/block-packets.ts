/** Packets about blocks: data, discards, requests, acknowledgements, barriers, bitmaps. */
import { assert } from "../base/assert.ts";
import { SECTOR_SIZE } from "../base/units.ts";
import { readU32, readU32LE, writeU32, writeU32LE } from "./bytes.ts";
import { BIO_SIZE_MAX, BITMAP_PACKET_MAX, Command, DIGEST_MAX } from "./constants.ts";
import { type Dialect, headerLength } from "./dialect.ts";
import {
  badPacket,
  DATA,
  DATA_AND_META,
  FIRST,
  fixedLength,
  type Layout,
  META,
  readCount,
  type SocketKind,
  writeCount,
} from "./layout.ts";
import type {
  BarrierAckPacket,
  BarrierPacket,
  BitmapPacket,
  BlockAckPacket,
  BlockAddress,
  BlockRequestPacket,
  CompressedBitmapPacket,
  DataPacket,
  DelayProbePacket,
  DigestRequestPacket,
  DiscardPacket,
  EmptyPacket,
  RangePacket,
  WriteSamePacket,
} from "./packets.ts";

// All data packets start alike:
//   0        8          16        20         24
//   | sector | block_id | seq_num | dp_flags | [size] [digest] data
const DATA_HEAD = 24;
const SIZED_HEAD = 28;

function writeAddress(p: BlockAddress, out: Uint8Array, at: number): void {
  writeCount(out, at, p.sector);
  writeU32(out, at + 8, p.idHigh);
  writeU32(out, at + 12, p.idLow);
}

function writeDataHead(p: DataPacket | DiscardPacket | WriteSamePacket, out: Uint8Array, at: number): void {
  writeAddress(p, out, at);
  writeU32(out, at + 16, p.seqNum);
  writeU32(out, at + 20, p.dpFlags);
}

function writeDigest(digest: Uint8Array | undefined, out: Uint8Array, at: number, dialect: Dialect): void {
  assert(
    (digest?.length ?? 0) === dialect.integrityDigestLength,
    `integrity digest of ${digest?.length ?? 0} bytes where ${dialect.integrityDigestLength} are agreed`,
  );
  if (digest !== undefined) out.set(digest, at);
}

export function dataLayout(kind: DataPacket["kind"]): Layout<DataPacket> {
  return {
    command: Command[kind],
    sockets: DATA,
    minLength: (d) => DATA_HEAD + d.integrityDigestLength,
    maxLength: (d) => DATA_HEAD + d.integrityDigestLength + BIO_SIZE_MAX,
    headLength: (_p, d) => DATA_HEAD + d.integrityDigestLength,
    body: (p) => p.data,
    write(p, out, at, dialect) {
      writeDataHead(p, out, at);
      writeDigest(p.digest, out, at + DATA_HEAD, dialect);
    },
    read(volume, bytes, { integrityDigestLength }) {
      const start = DATA_HEAD + integrityDigestLength;
      if ((bytes.length - start) % SECTOR_SIZE !== 0) {
        throw badPacket("wrong-length", `${kind} carries ${bytes.length - start} bytes of data, not whole sectors`, {
          kind,
          volume,
          bytes: bytes.length - start,
        });
      }
      const packet = {
        kind,
        volume,
        sector: readCount(bytes, 0, "sector"),
        idHigh: readU32(bytes, 8),
        idLow: readU32(bytes, 12),
        seqNum: readU32(bytes, 16),
        dpFlags: readU32(bytes, 20),
        data: bytes.subarray(start),
      };
      return integrityDigestLength === 0 ? packet : { ...packet, digest: bytes.subarray(DATA_HEAD, start) };
    },
  };
}

export function discardLayout(kind: DiscardPacket["kind"]): Layout<DiscardPacket> {
  return {
    command: Command[kind],
    sockets: DATA,
    ...fixedLength(SIZED_HEAD), // no digest, whatever data-integrity-alg says
    write(p, out, at) {
      writeDataHead(p, out, at);
      writeU32(out, at + DATA_HEAD, p.sizeBytes);
    },
    read: (volume, bytes) => ({
      kind,
      volume,
      sector: readCount(bytes, 0, "sector"),
      idHigh: readU32(bytes, 8),
      idLow: readU32(bytes, 12),
      seqNum: readU32(bytes, 16),
      dpFlags: readU32(bytes, 20),
      sizeBytes: readU32(bytes, DATA_HEAD),
    }),
  };
}

export const writeSameLayout: Layout<WriteSamePacket> = {
  command: Command.P_WSAME,
  sockets: DATA,
  minLength: (d) => SIZED_HEAD + d.integrityDigestLength,
  maxLength: (d) => SIZED_HEAD + d.integrityDigestLength + BITMAP_PACKET_MAX, // one logical block
  headLength: (_p, d) => SIZED_HEAD + d.integrityDigestLength,
  body: (p) => p.data,
  write(p, out, at, dialect) {
    writeDataHead(p, out, at);
    writeU32(out, at + DATA_HEAD, p.sizeBytes);
    writeDigest(p.digest, out, at + SIZED_HEAD, dialect);
  },
  read(volume, bytes, { integrityDigestLength }) {
    const start = SIZED_HEAD + integrityDigestLength;
    const packet: WriteSamePacket = {
      kind: "P_WSAME",
      volume,
      sector: readCount(bytes, 0, "sector"),
      idHigh: readU32(bytes, 8),
      idLow: readU32(bytes, 12),
      seqNum: readU32(bytes, 16),
      dpFlags: readU32(bytes, 20),
      sizeBytes: readU32(bytes, DATA_HEAD),
      data: bytes.subarray(start),
    };
    return integrityDigestLength === 0 ? packet : { ...packet, digest: bytes.subarray(SIZED_HEAD, start) };
  },
};

export function ackLayout(kind: BlockAckPacket["kind"]): Layout<BlockAckPacket> {
  return {
    command: Command[kind],
    sockets: META,
    ...fixedLength(24),
    write(p, out, at) {
      writeAddress(p, out, at);
      writeU32(out, at + 16, p.sizeBytes);
      writeU32(out, at + 20, p.seqNum);
    },
    read: (volume, bytes) => ({
      kind,
      volume,
      sector: readCount(bytes, 0, "sector"),
      idHigh: readU32(bytes, 8),
      idLow: readU32(bytes, 12),
      sizeBytes: readU32(bytes, 16),
      seqNum: readU32(bytes, 20),
    }),
  };
}

/** The last four bytes are padding: sent as 0, and a kernel may leave anything there. */
export function requestLayout(kind: BlockRequestPacket["kind"]): Layout<BlockRequestPacket> {
  return {
    command: Command[kind],
    sockets: DATA,
    ...fixedLength(24),
    write(p, out, at) {
      writeAddress(p, out, at);
      writeU32(out, at + 16, p.sizeBytes);
    },
    read: (volume, bytes) => ({
      kind,
      volume,
      sector: readCount(bytes, 0, "sector"),
      idHigh: readU32(bytes, 8),
      idLow: readU32(bytes, 12),
      sizeBytes: readU32(bytes, 16),
    }),
  };
}

export function digestRequestLayout(kind: DigestRequestPacket["kind"]): Layout<DigestRequestPacket> {
  return {
    command: Command[kind],
    sockets: DATA,
    minLength: () => 24 + 1,
    maxLength: () => 24 + DIGEST_MAX,
    headLength: (p) => 24 + p.digest.length,
    write(p, out, at) {
      writeAddress(p, out, at);
      writeU32(out, at + 16, p.sizeBytes);
      out.set(p.digest, at + 24);
    },
    read: (volume, bytes) => ({
      kind,
      volume,
      sector: readCount(bytes, 0, "sector"),
      idHigh: readU32(bytes, 8),
      idLow: readU32(bytes, 12),
      sizeBytes: readU32(bytes, 16),
      digest: bytes.subarray(24),
    }),
  };
}

export function rangeLayout(kind: RangePacket["kind"]): Layout<RangePacket> {
  return {
    command: Command[kind],
    sockets: DATA,
    ...fixedLength(16),
    write(p, out, at) {
      writeCount(out, at, p.sector);
      writeU32(out, at + 8, p.sizeBytes);
    },
    read: (volume, bytes) => ({
      kind,
      volume,
      sector: readCount(bytes, 0, "sector"),
      sizeBytes: readU32(bytes, 8),
    }),
  };
}

// kernels write the number in their own byte order, which is little-endian wherever we meet one: 5 shows as 5
export const barrierLayout: Layout<BarrierPacket> = {
  command: Command.P_BARRIER,
  sockets: DATA,
  ...fixedLength(8),
  write: (p, out, at) => writeU32LE(out, at, p.barrier),
  read: (volume, bytes) => ({ kind: "P_BARRIER", volume, barrier: readU32LE(bytes, 0) }),
};

export const barrierAckLayout: Layout<BarrierAckPacket> = {
  command: Command.P_BARRIER_ACK,
  sockets: META,
  ...fixedLength(8),
  write(p, out, at) {
    writeU32LE(out, at, p.barrier);
    writeU32(out, at + 4, p.setSize);
  },
  read: (volume, bytes) => ({
    kind: "P_BARRIER_ACK",
    volume,
    barrier: readU32LE(bytes, 0),
    setSize: readU32(bytes, 4),
  }),
};

export const bitmapLayout: Layout<BitmapPacket> = {
  command: Command.P_BITMAP,
  sockets: DATA,
  minLength: () => 0,
  maxLength: (d) => BITMAP_PACKET_MAX - headerLength(d),
  headLength: () => 0,
  body: (p) => p.words,
  write() {},
  read(volume, bytes) {
    if (bytes.length % 8 !== 0) {
      throw badPacket("wrong-length", `P_BITMAP carries ${bytes.length} bytes, not whole 64-bit words`, {
        kind: "P_BITMAP",
        volume,
        bytes: bytes.length,
      });
    }
    return { kind: "P_BITMAP", volume, words: bytes };
  },
};

export const compressedBitmapLayout: Layout<CompressedBitmapPacket> = {
  command: Command.P_COMPRESSED_BITMAP,
  sockets: DATA,
  minLength: () => 2,
  maxLength: (d) => BITMAP_PACKET_MAX - headerLength(d),
  headLength: () => 1,
  body: (p) => p.code,
  write(p, out, at) {
    out[at] = p.encoding;
  },
  read: (volume, bytes) => ({
    kind: "P_COMPRESSED_BITMAP",
    volume,
    encoding: bytes[0]!,
    code: bytes.subarray(1),
  }),
};

export const delayProbeLayout: Layout<DelayProbePacket> = {
  command: Command.P_DELAY_PROBE,
  sockets: DATA_AND_META,
  ...fixedLength(8),
  write(p, out, at) {
    assert(p.probe.length === 8, "a delay probe has 8 bytes");
    out.set(p.probe, at);
  },
  read: (volume, bytes) => ({ kind: "P_DELAY_PROBE", volume, probe: bytes }),
};

const EMPTY_SOCKETS: Readonly<Record<EmptyPacket["kind"], readonly SocketKind[]>> = {
  P_UNPLUG_REMOTE: DATA,
  P_PING: META,
  P_PING_ACK: META,
  P_INITIAL_META: FIRST,
  P_INITIAL_DATA: FIRST,
};

export function emptyLayout(kind: EmptyPacket["kind"]): Layout<EmptyPacket> {
  return {
    command: Command[kind],
    sockets: EMPTY_SOCKETS[kind],
    ...fixedLength(0),
    write() {},
    read: (volume) => ({ kind, volume }),
  };
}
