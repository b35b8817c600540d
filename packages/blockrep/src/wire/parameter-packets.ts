/** Packets that set a connection up and describe it: features, authentication, settings, sizes, UUIDs, states. */
import { assert } from "../base/assert.ts";
import { readI32, readU16, readU32, readU64, writeU16, writeU32, writeU64 } from "./bytes.ts";
import { ALG_NAME_MAX, CHALLENGE_LENGTH, CHALLENGE_LENGTH_MAX, Command, DIGEST_MAX, Feature } from "./constants.ts";
import type { Dialect } from "./dialect.ts";
import {
  badPacket,
  DATA,
  fixedLength,
  type Layout,
  META,
  readCount,
  readName,
  writeCount,
  writeName,
} from "./layout.ts";
import type {
  AuthChallengePacket,
  AuthResponsePacket,
  FeaturesPacket,
  ProtocolPacket,
  SizesPacket,
  StateChangeReplyPacket,
  StateChangeRequestPacket,
  StatePacket,
  SyncParam89Packet,
  SyncParamPacket,
  SyncUuidPacket,
  UuidsPacket,
} from "./packets.ts";

/** Always in h80. Reserved words are sent as 0 and ignored when received. */
export const featuresLayout: Layout<FeaturesPacket> = {
  command: Command.P_CONNECTION_FEATURES,
  sockets: DATA,
  ...fixedLength(72),
  write(p, out, at) {
    writeU32(out, at, p.protocolMin);
    writeU32(out, at + 4, p.featureFlags);
    writeU32(out, at + 8, p.protocolMax);
  },
  read: (volume, bytes) => ({
    kind: "P_CONNECTION_FEATURES",
    volume,
    protocolMin: readU32(bytes, 0),
    featureFlags: readU32(bytes, 4),
    protocolMax: readU32(bytes, 8),
  }),
};

export const authChallengeLayout: Layout<AuthChallengePacket> = {
  command: Command.P_AUTH_CHALLENGE,
  sockets: DATA,
  minLength: () => CHALLENGE_LENGTH,
  maxLength: () => CHALLENGE_LENGTH_MAX,
  headLength: (p) => p.challenge.length,
  write: (p, out, at) => out.set(p.challenge, at),
  read: (volume, bytes) => ({ kind: "P_AUTH_CHALLENGE", volume, challenge: bytes }),
};

export const authResponseLayout: Layout<AuthResponsePacket> = {
  command: Command.P_AUTH_RESPONSE,
  sockets: DATA,
  minLength: () => 1,
  maxLength: () => DIGEST_MAX,
  headLength: (p) => p.response.length,
  write: (p, out, at) => out.set(p.response, at),
  read: (volume, bytes) => ({ kind: "P_AUTH_RESPONSE", volume, response: bytes }),
};

const PROTOCOL_FIXED = 24;

/** Version 86 ends after the six numbers; later ones append the name of the integrity algorithm with its NUL. */
export function protocolLayout(kind: ProtocolPacket["kind"]): Layout<ProtocolPacket> {
  return {
    command: Command[kind],
    sockets: DATA,
    minLength: (d) => PROTOCOL_FIXED + (d.version >= 87 ? 1 : 0),
    maxLength: (d) => PROTOCOL_FIXED + (d.version >= 87 ? ALG_NAME_MAX : 0),
    headLength: (p, d) => PROTOCOL_FIXED + (d.version >= 87 ? p.integrityAlg.length + 1 : 0),
    write(p, out, at, dialect) {
      writeU32(out, at, p.protocol);
      writeU32(out, at + 4, p.afterSb0p);
      writeU32(out, at + 8, p.afterSb1p);
      writeU32(out, at + 12, p.afterSb2p);
      writeU32(out, at + 16, p.connFlags);
      writeU32(out, at + 20, p.twoPrimaries);
      if (dialect.version >= 87) writeName(out, at + PROTOCOL_FIXED, ALG_NAME_MAX, p.integrityAlg);
    },
    read(volume, bytes, dialect) {
      const nameLength = bytes.length - PROTOCOL_FIXED;
      const integrityAlg = dialect.version >= 87 ? readName(bytes, PROTOCOL_FIXED, nameLength, "integrity-alg") : "";
      if (dialect.version >= 87 && integrityAlg.length + 1 !== nameLength) {
        throw badPacket("bad-value", `${kind} has bytes behind the name of its integrity algorithm`, { kind });
      }
      return {
        kind,
        volume,
        protocol: readU32(bytes, 0),
        afterSb0p: readU32(bytes, 4),
        afterSb1p: readU32(bytes, 8),
        afterSb2p: readU32(bytes, 12),
        connFlags: readU32(bytes, 16),
        twoPrimaries: readU32(bytes, 20),
        integrityAlg,
      };
    },
  };
}

export const syncParamLayout: Layout<SyncParamPacket> = {
  command: Command.P_SYNC_PARAM,
  sockets: DATA,
  minLength: (d) => (d.version >= 88 ? 5 : 4),
  maxLength: (d) => 4 + (d.version >= 88 ? ALG_NAME_MAX : 0),
  headLength: (p, d) => 4 + (d.version >= 88 ? p.verifyAlg.length + 1 : 0),
  write(p, out, at, dialect) {
    writeU32(out, at, p.resyncRateKib);
    if (dialect.version >= 88) writeName(out, at + 4, ALG_NAME_MAX, p.verifyAlg);
  },
  read: (volume, bytes, dialect) => ({
    kind: "P_SYNC_PARAM",
    volume,
    resyncRateKib: readU32(bytes, 0),
    verifyAlg: dialect.version >= 88 ? readName(bytes, 4, bytes.length - 4, "verify-alg") : "",
  }),
};

const SYNC_PARAM89_LENGTH = 132;
const SYNC_PARAM95_LENGTH = 148;

function syncParam89Length(dialect: Dialect): number {
  return dialect.version >= 95 ? SYNC_PARAM95_LENGTH : SYNC_PARAM89_LENGTH;
}

export const syncParam89Layout: Layout<SyncParam89Packet> = {
  command: Command.P_SYNC_PARAM89,
  sockets: DATA,
  minLength: syncParam89Length,
  maxLength: syncParam89Length,
  headLength: (_p, d) => syncParam89Length(d),
  write(p, out, at, dialect) {
    writeU32(out, at, p.resyncRateKib);
    writeName(out, at + 4, ALG_NAME_MAX, p.verifyAlg);
    writeName(out, at + 68, ALG_NAME_MAX, p.csumsAlg);
    if (dialect.version < 95) return;
    writeU32(out, at + 132, p.cPlanAhead);
    writeU32(out, at + 136, p.cDelayTarget);
    writeU32(out, at + 140, p.cFillTarget);
    writeU32(out, at + 144, p.cMaxRate);
  },
  read(volume, bytes, dialect) {
    const controlled = dialect.version >= 95;
    return {
      kind: "P_SYNC_PARAM89",
      volume,
      resyncRateKib: readU32(bytes, 0),
      verifyAlg: readName(bytes, 4, ALG_NAME_MAX, "verify-alg"),
      csumsAlg: readName(bytes, 68, ALG_NAME_MAX, "csums-alg"),
      cPlanAhead: controlled ? readU32(bytes, 132) : 0,
      cDelayTarget: controlled ? readU32(bytes, 136) : 0,
      cFillTarget: controlled ? readU32(bytes, 140) : 0,
      cMaxRate: controlled ? readU32(bytes, 144) : 0,
    };
  },
};

export const uuidsLayout: Layout<UuidsPacket> = {
  command: Command.P_UUIDS,
  sockets: DATA,
  ...fixedLength(48),
  write(p, out, at) {
    writeU64(out, at, p.current);
    writeU64(out, at + 8, p.bitmap);
    writeU64(out, at + 16, p.history[0]);
    writeU64(out, at + 24, p.history[1]);
    writeCount(out, at + 32, p.dirtyBits);
    writeCount(out, at + 40, p.flags);
  },
  read: (volume, bytes) => ({
    kind: "P_UUIDS",
    volume,
    current: readU64(bytes, 0),
    bitmap: readU64(bytes, 8),
    history: [readU64(bytes, 16), readU64(bytes, 24)],
    dirtyBits: readCount(bytes, 32, "number of dirty bits"),
    flags: readCount(bytes, 40, "UUID flags"),
  }),
};

const SIZES_LENGTH = 32;
const SIZES_LIMITS_LENGTH = 24;

function sizesLength(dialect: Dialect): number {
  return SIZES_LENGTH + ((dialect.features & Feature.WSAME) !== 0 ? SIZES_LIMITS_LENGTH : 0);
}

export const sizesLayout: Layout<SizesPacket> = {
  command: Command.P_SIZES,
  sockets: DATA,
  minLength: sizesLength,
  maxLength: sizesLength,
  headLength: (_p, d) => sizesLength(d),
  write(p, out, at, dialect) {
    writeCount(out, at, p.dSize);
    writeCount(out, at + 8, p.uSize);
    writeCount(out, at + 16, p.cSize);
    writeU32(out, at + 24, p.maxBioSizeBytes);
    writeU16(out, at + 28, p.queueOrderType);
    writeU16(out, at + 30, p.ddsFlags);
    if ((dialect.features & Feature.WSAME) === 0) return;
    assert(p.limits !== undefined, "P_SIZES carries queue limits when Feature.WSAME is agreed");
    writeU32(out, at + 32, p.limits.physicalBlockSize);
    writeU32(out, at + 36, p.limits.logicalBlockSize);
    writeU32(out, at + 40, p.limits.alignmentOffset);
    writeU32(out, at + 44, p.limits.ioMin);
    writeU32(out, at + 48, p.limits.ioOpt);
    out[at + 52] = p.limits.discardEnabled;
    out[at + 53] = p.limits.discardZeroesData;
    out[at + 54] = p.limits.writeSameCapable;
  },
  read(volume, bytes, dialect) {
    const packet: SizesPacket = {
      kind: "P_SIZES",
      volume,
      dSize: readCount(bytes, 0, "d_size"),
      uSize: readCount(bytes, 8, "u_size"),
      cSize: readCount(bytes, 16, "c_size"),
      maxBioSizeBytes: readU32(bytes, 24),
      queueOrderType: readU16(bytes, 28),
      ddsFlags: readU16(bytes, 30),
    };
    if ((dialect.features & Feature.WSAME) === 0) return packet;
    return {
      ...packet,
      limits: {
        physicalBlockSize: readU32(bytes, 32),
        logicalBlockSize: readU32(bytes, 36),
        alignmentOffset: readU32(bytes, 40),
        ioMin: readU32(bytes, 44),
        ioOpt: readU32(bytes, 48),
        discardEnabled: bytes[52]!,
        discardZeroesData: bytes[53]!,
        writeSameCapable: bytes[54]!,
      },
    };
  },
};

export const stateLayout: Layout<StatePacket> = {
  command: Command.P_STATE,
  sockets: DATA,
  ...fixedLength(4),
  write: (p, out, at) => writeU32(out, at, p.state),
  read: (volume, bytes) => ({ kind: "P_STATE", volume, state: readU32(bytes, 0) }),
};

export const syncUuidLayout: Layout<SyncUuidPacket> = {
  command: Command.P_SYNC_UUID,
  sockets: DATA,
  ...fixedLength(8),
  write: (p, out, at) => writeU64(out, at, p.uuid),
  read: (volume, bytes) => ({ kind: "P_SYNC_UUID", volume, uuid: readU64(bytes, 0) }),
};

export function stateChangeRequestLayout(kind: StateChangeRequestPacket["kind"]): Layout<StateChangeRequestPacket> {
  return {
    command: Command[kind],
    sockets: DATA,
    ...fixedLength(8),
    write(p, out, at) {
      writeU32(out, at, p.mask);
      writeU32(out, at + 4, p.value);
    },
    read: (volume, bytes) => ({ kind, volume, mask: readU32(bytes, 0), value: readU32(bytes, 4) }),
  };
}

export function stateChangeReplyLayout(kind: StateChangeReplyPacket["kind"]): Layout<StateChangeReplyPacket> {
  return {
    command: Command[kind],
    sockets: META,
    ...fixedLength(4),
    write: (p, out, at) => writeU32(out, at, p.retcode),
    read: (volume, bytes) => ({ kind, volume, retcode: readI32(bytes, 0) }),
  };
}
