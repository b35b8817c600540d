/**
 * Every packet of DRBD 8.4 as a value. Lengths are bytes, sectors are 512 bytes, UUIDs are bigint.
 *
 * Opaque values are kept as numbers that re-encode byte for byte; nothing may be read into a peer's. Block ids are two
 * big-endian halves; barrier numbers are little-endian, as x86 and ARM kernels write them and as Wireshark shows them. Byte fields of a decoded packet are views of what was
 * received: whoever keeps one beyond the next `push` of a recycled chunk copies it.
 *
 * @see DRBD 8.4 drbd_protocol.h
 */
import type { PacketKind } from "./constants.ts";
import type { FeatureOffer } from "./dialect.ts";

interface Base {
  /** 0 for packets that concern the connection, and for everything before version 100. */
  readonly volume: number;
}

/** A sector together with the requester's token, which is echoed byte for byte. */
export interface BlockAddress extends Base {
  readonly sector: number;
  /** First four bytes of the block id. */
  readonly idHigh: number;
  /** Last four bytes of the block id. */
  readonly idLow: number;
}

interface DataHead extends BlockAddress {
  /** Counts P_DATA and acks of one sender and volume; 0 in replies. */
  readonly seqNum: number;
  /** DataFlag bits; 0 in replies. */
  readonly dpFlags: number;
}

/** P_DATA: replicated write. P_DATA_REPLY, P_RS_DATA_REPLY: answers to a read, to a resync request. */
export interface DataPacket extends DataHead {
  readonly kind: "P_DATA" | "P_DATA_REPLY" | "P_RS_DATA_REPLY";
  /** Integrity digest over `data`; there exactly when data-integrity-alg is set. */
  readonly digest?: Uint8Array;
  /** Whole sectors, at most 1 MiB. */
  readonly data: Uint8Array;
}

/**
 * P_TRIM: discard. P_ZEROES: write zeroes (DataFlag.DISCARD: unmapping is allowed). Neither carries an integrity digest;
 * a kernel that has data-integrity-alg set expects one on P_ZEROES all the same, so send it zero data instead.
 */
export interface DiscardPacket extends DataHead {
  readonly kind: "P_TRIM" | "P_ZEROES";
  readonly sizeBytes: number;
}

/** Write the one logical block `data` repeatedly over `sizeBytes`. Decoded so that it can be refused; never sent. */
export interface WriteSamePacket extends DataHead {
  readonly kind: "P_WSAME";
  readonly sizeBytes: number;
  readonly digest?: Uint8Array;
  readonly data: Uint8Array;
}

/** Closes an epoch. The number is opaque to the receiver. */
export interface BarrierPacket extends Base {
  readonly kind: "P_BARRIER";
  readonly barrier: number;
}

export interface BarrierAckPacket extends Base {
  readonly kind: "P_BARRIER_ACK";
  /** Echo of P_BARRIER. */
  readonly barrier: number;
  /** Writes of that epoch, failed ones included. */
  readonly setSize: number;
}

/** The answers on the meta socket. `sizeBytes` is the full size of the request that is answered. */
export interface BlockAckPacket extends BlockAddress {
  readonly kind:
    | "P_RECV_ACK"
    | "P_WRITE_ACK"
    | "P_RS_WRITE_ACK"
    | "P_SUPERSEDED"
    | "P_NEG_ACK"
    | "P_NEG_DREPLY"
    | "P_NEG_RS_DREPLY"
    | "P_OV_RESULT"
    | "P_RS_IS_IN_SYNC"
    | "P_RS_CANCEL"
    | "P_RETRY_WRITE";
  readonly sizeBytes: number;
  readonly seqNum: number;
}

/** Asks for a range: a read (token in the block id), or resync and verify (ID_SYNCER). */
export interface BlockRequestPacket extends BlockAddress {
  readonly kind: "P_DATA_REQUEST" | "P_RS_DATA_REQUEST" | "P_RS_THIN_REQ" | "P_OV_REQUEST";
  readonly sizeBytes: number;
}

/** A range with the sender's digest of it: answer to P_OV_REQUEST, or "send it only if yours differs". */
export interface DigestRequestPacket extends BlockAddress {
  readonly kind: "P_OV_REPLY" | "P_CSUM_RS_REQUEST";
  readonly sizeBytes: number;
  readonly digest: Uint8Array;
}

/** P_OUT_OF_SYNC: mark the range. P_RS_DEALLOCATED: the range is all zeroes. */
export interface RangePacket extends Base {
  readonly kind: "P_OUT_OF_SYNC" | "P_RS_DEALLOCATED";
  readonly sector: number;
  readonly sizeBytes: number;
}

/** A piece of the plain bitmap: little-endian 64-bit words, that is bit k in byte k/8, bit k%8. Empty ends a transfer. */
export interface BitmapPacket extends Base {
  readonly kind: "P_BITMAP";
  readonly words: Uint8Array;
}

/** A piece of the bitmap as run lengths; see bitmap-codec. */
export interface CompressedBitmapPacket extends Base {
  readonly kind: "P_COMPRESSED_BITMAP";
  /** Low nibble: code; bits 4..6: pad bits at the end; bit 7: value of the first run. */
  readonly encoding: number;
  readonly code: Uint8Array;
}

/** Packets that are a header and nothing else. */
export interface EmptyPacket extends Base {
  readonly kind: "P_UNPLUG_REMOTE" | "P_PING" | "P_PING_ACK" | "P_INITIAL_META" | "P_INITIAL_DATA";
}

/** Both sides must agree on all of it; P_PROTOCOL_UPDATE replaces the values without comparing. */
export interface ProtocolPacket extends Base {
  readonly kind: "P_PROTOCOL" | "P_PROTOCOL_UPDATE";
  /** ReplicationProtocol. */
  readonly protocol: number;
  /** SplitBrainPolicy, for no, one, two primaries at the moment of contact. */
  readonly afterSb0p: number;
  readonly afterSb1p: number;
  readonly afterSb2p: number;
  /** ProtocolFlag bits. */
  readonly connFlags: number;
  readonly twoPrimaries: number;
  /** Name of the data-integrity-alg, "" for none; not carried by version 86. */
  readonly integrityAlg: string;
}

/** Resync tuning of versions up to 88. */
export interface SyncParamPacket extends Base {
  readonly kind: "P_SYNC_PARAM";
  readonly resyncRateKib: number;
  /** Version 88 only; "" otherwise. */
  readonly verifyAlg: string;
}

/** Resync tuning from version 89 on. The controller's values (c*) travel from 95 on and are 0 before. */
export interface SyncParam89Packet extends Base {
  readonly kind: "P_SYNC_PARAM89";
  readonly resyncRateKib: number;
  readonly verifyAlg: string;
  readonly csumsAlg: string;
  /** Tenths of a second. */
  readonly cPlanAhead: number;
  /** Tenths of a second. */
  readonly cDelayTarget: number;
  /** Sectors. */
  readonly cFillTarget: number;
  /** KiB/s. */
  readonly cMaxRate: number;
}

export interface UuidsPacket extends Base {
  readonly kind: "P_UUIDS";
  readonly current: bigint;
  readonly bitmap: bigint;
  readonly history: readonly [bigint, bigint];
  /** Set bits of the sender's bitmap; good for statistics and split-brain policies only. */
  readonly dirtyBits: number;
  /** UuidFlag bits. */
  readonly flags: number;
}

/** Limits of the sender's device, bytes; carried by P_SIZES when Feature.WSAME was agreed. */
export interface QueueLimits {
  readonly physicalBlockSize: number;
  readonly logicalBlockSize: number;
  readonly alignmentOffset: number;
  readonly ioMin: number;
  readonly ioOpt: number;
  readonly discardEnabled: number;
  readonly discardZeroesData: number;
  readonly writeSameCapable: number;
}

/** All sizes in sectors, except maxBioSizeBytes. */
export interface SizesPacket extends Base {
  readonly kind: "P_SIZES";
  /** Usable size of the backing device; 0: diskless. */
  readonly dSize: number;
  /** What the administrator configured; 0: nothing. */
  readonly uSize: number;
  /** Current size; 0: unknown, or please answer. */
  readonly cSize: number;
  readonly maxBioSizeBytes: number;
  readonly queueOrderType: number;
  /** SizesFlag bits. */
  readonly ddsFlags: number;
  /** There exactly when Feature.WSAME was agreed. */
  readonly limits?: QueueLimits;
}

/** The sender's state word; a full snapshot, see state-word. */
export interface StatePacket extends Base {
  readonly kind: "P_STATE";
  readonly state: number;
}

/** The new current UUID of the sync target. */
export interface SyncUuidPacket extends Base {
  readonly kind: "P_SYNC_UUID";
  readonly uuid: bigint;
}

/** Asks the peer's consent to a state change, of a volume or of the connection; both words as the sender sees it. */
export interface StateChangeRequestPacket extends Base {
  readonly kind: "P_STATE_CHG_REQ" | "P_CONN_ST_CHG_REQ";
  readonly mask: number;
  readonly value: number;
}

export interface StateChangeReplyPacket extends Base {
  readonly kind: "P_STATE_CHG_REPLY" | "P_CONN_ST_CHG_REPLY";
  /** StateChangeResult; signed, 1 and above is success. */
  readonly retcode: number;
}

export interface AuthChallengePacket extends Base {
  readonly kind: "P_AUTH_CHALLENGE";
  /** 64..128 bytes. */
  readonly challenge: Uint8Array;
}

export interface AuthResponsePacket extends Base {
  readonly kind: "P_AUTH_RESPONSE";
  readonly response: Uint8Array;
}

/** Measures delay in some 8.3 versions; received and ignored. */
export interface DelayProbePacket extends Base {
  readonly kind: "P_DELAY_PROBE";
  readonly probe: Uint8Array;
}

export interface FeaturesPacket extends Base, FeatureOffer {
  readonly kind: "P_CONNECTION_FEATURES";
}

export type Packet =
  | DataPacket
  | DiscardPacket
  | WriteSamePacket
  | BarrierPacket
  | BarrierAckPacket
  | BlockAckPacket
  | BlockRequestPacket
  | DigestRequestPacket
  | RangePacket
  | BitmapPacket
  | CompressedBitmapPacket
  | EmptyPacket
  | ProtocolPacket
  | SyncParamPacket
  | SyncParam89Packet
  | UuidsPacket
  | SizesPacket
  | StatePacket
  | SyncUuidPacket
  | StateChangeRequestPacket
  | StateChangeReplyPacket
  | AuthChallengePacket
  | AuthResponsePacket
  | DelayProbePacket
  | FeaturesPacket;

/** The packet type of a kind: `PacketOf<"P_WRITE_ACK">`; narrows the interfaces that several kinds have in common. */
export type PacketOf<K extends PacketKind, P extends Packet = Packet> = P extends { readonly kind: infer J }
  ? K extends J
    ? P & { readonly kind: K }
    : never
  : never;
