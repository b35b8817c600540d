import { Command, Feature, type PacketKind } from "@hacluster/blockrep/unstable/wire/constants";
import type { Dialect } from "@hacluster/blockrep/unstable/wire/dialect";
import type { Packet, PacketOf } from "@hacluster/blockrep/unstable/wire/packets";
import fc from "fast-check";

export const ALL_KINDS: readonly PacketKind[] = Object.keys(Command) as PacketKind[];

/** Any dialect that two nodes can agree on. */
export const anyDialect: fc.Arbitrary<Dialect> = fc.record({
  version: fc.integer({ min: 86, max: 101 }),
  features: fc.integer({ min: 0, max: 15 }),
  integrityDigestLength: fc.constantFrom(0, 4, 16, 20),
});

// decoded packets are plain objects, and deepEqual compares prototypes
const PLAIN = { noNullPrototype: true } as const;
const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const count = fc.oneof(fc.integer({ min: 0, max: 2 ** 40 }), fc.maxSafeNat());
const uuid = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const name = fc.constantFrom("", "md5", "crc32c", "sha1", "x".repeat(63));
const bytes = (minLength: number, maxLength = minLength) => fc.uint8Array({ minLength, maxLength });
const sectors = (max: number) => fc.integer({ min: 0, max }).chain((n) => bytes(n * 512));

/** Any packet that a dialect can carry, of one kind or of all. */
export function anyPacket(dialect: Dialect, kinds: readonly PacketKind[] = ALL_KINDS): fc.Arbitrary<Packet> {
  const volume = dialect.version >= 100 ? u16 : fc.constant(0);
  return fc.constantFrom(...kinds).chain((kind) => {
    const fields = fieldsOf(kind, dialect);
    return fc.record({ kind: fc.constant(kind), volume, ...fields }, PLAIN) as unknown as fc.Arbitrary<Packet>;
  });
}

type Fields = Record<string, fc.Arbitrary<unknown>>;

function fieldsOf(kind: PacketKind, dialect: Dialect): Fields {
  const address = { sector: count, idHigh: u32, idLow: u32 };
  const { integrityDigestLength, version } = dialect;
  const digest: Fields = integrityDigestLength > 0 ? { digest: bytes(integrityDigestLength) } : {};
  switch (kind) {
    case "P_DATA":
    case "P_DATA_REPLY":
    case "P_RS_DATA_REPLY":
      return { ...address, seqNum: u32, dpFlags: u32, ...digest, data: sectors(9) };
    case "P_TRIM":
    case "P_ZEROES":
      return { ...address, seqNum: u32, dpFlags: u32, sizeBytes: u32 };
    case "P_WSAME":
      return { ...address, seqNum: u32, dpFlags: u32, sizeBytes: u32, ...digest, data: sectors(1) };
    case "P_BARRIER":
      return { barrier: u32 };
    case "P_BARRIER_ACK":
      return { barrier: u32, setSize: u32 };
    case "P_DATA_REQUEST":
    case "P_RS_DATA_REQUEST":
    case "P_RS_THIN_REQ":
    case "P_OV_REQUEST":
      return { ...address, sizeBytes: u32 };
    case "P_OV_REPLY":
    case "P_CSUM_RS_REQUEST":
      return { ...address, sizeBytes: u32, digest: bytes(1, 64) };
    case "P_OUT_OF_SYNC":
    case "P_RS_DEALLOCATED":
      return { sector: count, sizeBytes: u32 };
    case "P_BITMAP":
      return { words: fc.integer({ min: 0, max: 20 }).chain((n) => bytes(n * 8)) };
    case "P_COMPRESSED_BITMAP":
      return { encoding: u8, code: bytes(1, 100) };
    case "P_UNPLUG_REMOTE":
    case "P_PING":
    case "P_PING_ACK":
    case "P_INITIAL_META":
    case "P_INITIAL_DATA":
      return {};
    case "P_PROTOCOL":
    case "P_PROTOCOL_UPDATE":
      return {
        protocol: u32,
        afterSb0p: u32,
        afterSb1p: u32,
        afterSb2p: u32,
        connFlags: u32,
        twoPrimaries: u32,
        integrityAlg: version >= 87 ? name : fc.constant(""),
      };
    case "P_SYNC_PARAM":
      return { resyncRateKib: u32, verifyAlg: version >= 88 ? name : fc.constant("") };
    case "P_SYNC_PARAM89": {
      const tuning = version >= 95 ? u32 : fc.constant(0);
      return {
        resyncRateKib: u32,
        verifyAlg: name,
        csumsAlg: name,
        cPlanAhead: tuning,
        cDelayTarget: tuning,
        cFillTarget: tuning,
        cMaxRate: tuning,
      };
    }
    case "P_UUIDS":
      return { current: uuid, bitmap: uuid, history: fc.tuple(uuid, uuid), dirtyBits: count, flags: count };
    case "P_SIZES": {
      const sizes: Fields = {
        dSize: count,
        uSize: count,
        cSize: count,
        maxBioSizeBytes: u32,
        queueOrderType: u16,
        ddsFlags: u16,
      };
      return (dialect.features & Feature.WSAME) === 0 ? sizes : { ...sizes, limits: fc.record(LIMITS, PLAIN) };
    }
    case "P_STATE":
      return { state: u32 };
    case "P_SYNC_UUID":
      return { uuid };
    case "P_STATE_CHG_REQ":
    case "P_CONN_ST_CHG_REQ":
      return { mask: u32, value: u32 };
    case "P_STATE_CHG_REPLY":
    case "P_CONN_ST_CHG_REPLY":
      return { retcode: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }) };
    case "P_AUTH_CHALLENGE":
      return { challenge: bytes(64, 128) };
    case "P_AUTH_RESPONSE":
      return { response: bytes(1, 64) };
    case "P_DELAY_PROBE":
      return { probe: bytes(8) };
    case "P_CONNECTION_FEATURES":
      return { protocolMin: u32, protocolMax: u32, featureFlags: u32 };
    default:
      return { ...address, sizeBytes: u32, seqNum: u32 }; // the acknowledgements
  }
}

const LIMITS = {
  physicalBlockSize: u32,
  logicalBlockSize: u32,
  alignmentOffset: u32,
  ioMin: u32,
  ioOpt: u32,
  discardEnabled: u8,
  discardZeroesData: u8,
  writeSameCapable: u8,
};

/** A plain 4 KiB protocol-C write, as a kernel sends it. */
export const WRITE: PacketOf<"P_DATA"> = {
  kind: "P_DATA",
  volume: 0,
  sector: 2048,
  idHigh: 0x80b1c2d3,
  idLow: 0xff88ffff,
  seqNum: 7,
  dpFlags: 0x102,
  data: Uint8Array.from({ length: 4096 }, (_, i) => i & 0xff),
};
