/**
 * Numbers of the replication protocol, in the order and the spelling of the protocol's own documents.
 * @see DRBD 8.4 drbd_protocol.h
 */

/** Lowest and highest protocol version of the 8.4 series. */
export const PRO_VERSION_MIN = 86;
export const PRO_VERSION_MAX = 101;

/** First bytes of the three header formats. */
export const MAGIC_H80 = 0x83740267;
export const MAGIC_H95 = 0x835a;
export const MAGIC_H100 = 0x8620ec20;

export const HEADER_LENGTH_H80 = 8; // h95 has the same length
export const HEADER_LENGTH_H100 = 16;
/** With versions 95..99 a longer payload travels behind an h95 header. */
export const PAYLOAD_MAX_H80 = 32768;

/** Packet numbers. */
export const Command = {
  P_DATA: 0x00,
  P_DATA_REPLY: 0x01,
  P_RS_DATA_REPLY: 0x02,
  P_BARRIER: 0x03,
  P_BITMAP: 0x04,
  P_UNPLUG_REMOTE: 0x07,
  P_DATA_REQUEST: 0x08,
  P_RS_DATA_REQUEST: 0x09,
  P_SYNC_PARAM: 0x0a,
  P_PROTOCOL: 0x0b,
  P_UUIDS: 0x0c,
  P_SIZES: 0x0d,
  P_STATE: 0x0e,
  P_SYNC_UUID: 0x0f,
  P_AUTH_CHALLENGE: 0x10,
  P_AUTH_RESPONSE: 0x11,
  P_STATE_CHG_REQ: 0x12,
  P_PING: 0x13,
  P_PING_ACK: 0x14,
  P_RECV_ACK: 0x15,
  P_WRITE_ACK: 0x16,
  P_RS_WRITE_ACK: 0x17,
  P_SUPERSEDED: 0x18,
  P_NEG_ACK: 0x19,
  P_NEG_DREPLY: 0x1a,
  P_NEG_RS_DREPLY: 0x1b,
  P_BARRIER_ACK: 0x1c,
  P_STATE_CHG_REPLY: 0x1d,
  P_OV_REQUEST: 0x1e,
  P_OV_REPLY: 0x1f,
  P_OV_RESULT: 0x20,
  P_CSUM_RS_REQUEST: 0x21,
  P_RS_IS_IN_SYNC: 0x22,
  P_SYNC_PARAM89: 0x23,
  P_COMPRESSED_BITMAP: 0x24,
  P_DELAY_PROBE: 0x27,
  P_OUT_OF_SYNC: 0x28,
  P_RS_CANCEL: 0x29,
  P_CONN_ST_CHG_REQ: 0x2a,
  P_CONN_ST_CHG_REPLY: 0x2b,
  P_RETRY_WRITE: 0x2c,
  P_PROTOCOL_UPDATE: 0x2d,
  P_TRIM: 0x31,
  P_RS_THIN_REQ: 0x32,
  P_RS_DEALLOCATED: 0x33,
  P_WSAME: 0x34,
  P_ZEROES: 0x36,
  P_INITIAL_META: 0xfff1,
  P_INITIAL_DATA: 0xfff2,
  P_CONNECTION_FEATURES: 0xfffe,
} as const;
export type Command = (typeof Command)[keyof typeof Command];
export type PacketKind = keyof typeof Command;

/** Flags of P_DATA, P_TRIM, P_ZEROES. */
export const DataFlag = {
  RW_SYNC: 2,
  MAY_SET_IN_SYNC: 4,
  UNPLUG: 8,
  FUA: 16,
  FLUSH: 32,
  DISCARD: 64,
  SEND_RECEIVE_ACK: 128,
  SEND_WRITE_ACK: 256,
  WSAME: 512,
  ZEROES: 1024,
} as const;
export type DataFlag = (typeof DataFlag)[keyof typeof DataFlag];

/** Feature flags of P_CONNECTION_FEATURES. */
export const Feature = {
  /** P_TRIM is understood. */
  TRIM: 1,
  /** P_RS_THIN_REQ and P_RS_DEALLOCATED are understood. */
  THIN_RESYNC: 2,
  /** P_SIZES carries the queue limits; discards up to 128 MiB. */
  WSAME: 4,
  /** P_ZEROES is understood; without it a P_TRIM means zero-out. */
  WZEROES: 8,
} as const;
export type Feature = (typeof Feature)[keyof typeof Feature];
/** What 8.4 offers. */
export const FEATURES_ALL = 0x0f;

/** Flags of P_UUIDS. */
export const UuidFlag = {
  DISCARD_MY_DATA: 1,
  CRASHED_PRIMARY: 2,
  INCONSISTENT: 4,
  SKIP_INITIAL_SYNC: 8,
} as const;
export type UuidFlag = (typeof UuidFlag)[keyof typeof UuidFlag];

/** Current UUID of metadata that no node has written to yet. */
export const UUID_JUST_CREATED = 4n;
/** What the bitmap UUID of a sync source grows by at the start of a resync. */
export const UUID_NEW_BM_OFFSET = 0x0001000000000000n;

/** dds_flags of P_SIZES. */
export const SizesFlag = { FORCED: 1, NO_RESYNC: 2 } as const;
export type SizesFlag = (typeof SizesFlag)[keyof typeof SizesFlag];

/** conn_flags of P_PROTOCOL. */
export const ProtocolFlag = { DISCARD_MY_DATA: 1, DRY_RUN: 2 } as const;
export type ProtocolFlag = (typeof ProtocolFlag)[keyof typeof ProtocolFlag];

/** When a write counts as replicated: sent, received, written. */
export const ReplicationProtocol = { A: 1, B: 2, C: 3 } as const;
export type ReplicationProtocol = (typeof ReplicationProtocol)[keyof typeof ReplicationProtocol];

/** After-split-brain policies as P_PROTOCOL numbers them; the keys are the words of the configuration. */
export const SplitBrainPolicy = {
  disconnect: 0,
  "discard-younger-primary": 1,
  "discard-older-primary": 2,
  "discard-zero-changes": 3,
  "discard-least-changes": 4,
  "discard-local": 5,
  "discard-remote": 6,
  consensus: 7,
  "discard-secondary": 8,
  "call-pri-lost-after-sb": 9,
  "violently-as0p": 10,
} as const;
export type SplitBrainPolicy = (typeof SplitBrainPolicy)[keyof typeof SplitBrainPolicy];

/** Return codes of the state-change replies; 1 and above are success. */
export const StateChangeResult = {
  SS_CW_NO_NEED: 4,
  SS_CW_SUCCESS: 3,
  SS_NOTHING_TO_DO: 2,
  SS_SUCCESS: 1,
  SS_UNKNOWN_ERROR: 0,
  SS_TWO_PRIMARIES: -1,
  SS_NO_UP_TO_DATE_DISK: -2,
  SS_NO_LOCAL_DISK: -4,
  SS_NO_REMOTE_DISK: -5,
  SS_CONNECTED_OUTDATES: -6,
  SS_PRIMARY_NOP: -7,
  SS_RESYNC_RUNNING: -8,
  SS_ALREADY_STANDALONE: -9,
  SS_CW_FAILED_BY_PEER: -10,
  SS_IS_DISKLESS: -11,
  SS_DEVICE_IN_USE: -12,
  SS_NO_NET_CONFIG: -13,
  SS_NO_VERIFY_ALG: -14,
  SS_NEED_CONNECTION: -15,
  SS_LOWER_THAN_OUTDATED: -16,
  SS_NOT_SUPPORTED: -17,
  SS_IN_TRANSIENT_STATE: -18,
  SS_CONCURRENT_ST_CHG: -19,
  SS_O_VOL_PEER_PRI: -20,
  SS_OUTDATE_WO_CONN: -21,
} as const;
export type StateChangeResult = (typeof StateChangeResult)[keyof typeof StateChangeResult];

/** Block id of everything that belongs to resync or verify: all ones, in two halves. */
export const ID_SYNCER_HIGH = 0xffffffff;
export const ID_SYNCER_LOW = 0xffffffff;
/** Low half of the block id of P_OV_RESULT (the high half is 0). */
export const ID_IN_SYNC = 4711;
export const ID_OUT_OF_SYNC = 4712;

/** Encoding nibble of P_COMPRESSED_BITMAP: run lengths in variable-length integers. */
export const BITMAP_CODE_RLE_VLI = 2;

// Limits. A peer can push on each of them; the framer refuses before it reserves memory.

/** Bytes of data in one packet, whatever the version; the peers agree on less through P_SIZES. */
export const BIO_SIZE_MAX: number = 1024 * 1024;
export const BIO_SIZE_MAX_95 = 131072; // versions 95..99
export const BIO_SIZE_MAX_80 = 32768; // versions up to 94
/** Bytes of a discard or zero-out: with Feature.WSAME, and without. */
export const DISCARD_SIZE_MAX: number = 128 * 1024 * 1024;
export const DISCARD_SIZE_MAX_NO_WSAME: number = 4 * 1024 * 1024;
/** Header and payload of a bitmap packet: the kernel's socket work buffer. */
export const BITMAP_PACKET_MAX = 4096;
/** Bytes of an algorithm's name, the ending NUL included. */
export const ALG_NAME_MAX = 64;
/** Bytes of a digest; sha512 is the longest. */
export const DIGEST_MAX = 64;
export const CHALLENGE_LENGTH = 64; // what we send
export const CHALLENGE_LENGTH_MAX = 128; // what is accepted

/** The largest data packet a peer may send under an agreed version. */
export function bioSizeMax(version: number): number {
  return version >= 100 ? BIO_SIZE_MAX : version >= 95 ? BIO_SIZE_MAX_95 : BIO_SIZE_MAX_80;
}
