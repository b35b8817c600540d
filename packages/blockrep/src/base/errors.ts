/**
 * Every failure that a caller can meet has a stable code; match on `code`, never on the text.
 * The list is public API: codes are added, never reused.
 */
export const ErrorCode = {
  configSyntax: "HA_CONFIG_SYNTAX",
  configInvalid: "HA_CONFIG_INVALID",
  wireBadMagic: "HA_WIRE_BAD_MAGIC",
  wireBadPacket: "HA_WIRE_BAD_PACKET",
  metaNotFound: "HA_META_NOT_FOUND",
  metaUnclean: "HA_META_UNCLEAN",
  metaInvalid: "HA_META_INVALID",
  metaExists: "HA_META_EXISTS",
  storeMissing: "HA_STORE_MISSING",
  storeBusy: "HA_STORE_BUSY",
  storeTooSmall: "HA_STORE_TOO_SMALL",
  storeOutOfRange: "HA_STORE_OUT_OF_RANGE",
  storeIo: "HA_STORE_IO",
  stateRefused: "HA_STATE_REFUSED",
  notConnected: "HA_NOT_CONNECTED",
  splitBrain: "HA_PEER_SPLIT_BRAIN",
  unsupported: "HA_UNSUPPORTED",
  daemonNotRunning: "HA_DAEMON_NOT_RUNNING",
  daemonRunning: "HA_DAEMON_RUNNING",
  controlProtocol: "HA_CONTROL_PROTOCOL",
  programMissing: "HA_PROGRAM_MISSING",
  programFailed: "HA_PROGRAM_FAILED",
  deviceBusy: "HA_DEVICE_BUSY",
  timeout: "HA_TIMEOUT",
  aborted: "HA_ABORTED",
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

export type Details = Readonly<Record<string, string | number | boolean>>;

/** An operating error or a refusal: what was tried, on what, why it failed, what to do next. */
export class HaError extends Error {
  override readonly name: string = "HaError";
  readonly code: ErrorCode;
  readonly details: Details;
  constructor(code: ErrorCode, message: string, details: Details = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.details = details;
  }
}

/** A bug of our own. The process stops and keeps the evidence. */
export class InvariantError extends Error {
  override readonly name: string = "InvariantError";
}
