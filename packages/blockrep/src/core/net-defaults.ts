import type { NetOptions } from "./ports.ts";

/** DRBD 8.4's defaults of the net section. */
export const NET_DEFAULTS: NetOptions = {
  protocol: "C",
  timeoutMs: 6000,
  connectIntMs: 10_000,
  pingIntMs: 10_000,
  pingTimeoutMs: 500,
  socketCheckTimeoutMs: 0,
  koCount: 7,
  maxBuffers: 2048,
  maxEpochSize: 2048,
  allowTwoPrimaries: false,
  cramHmacAlg: "",
  sharedSecret: "",
  afterSb0p: "disconnect",
  afterSb1p: "disconnect",
  afterSb2p: "disconnect",
  alwaysAsbp: false,
  rrConflict: "disconnect",
  dataIntegrityAlg: "",
  verifyAlg: "",
  csumsAlg: "",
  csumsAfterCrashOnly: false,
  useRle: true,
};
