import type { AddressFamily, MetaDisk } from "./model.ts";

/**
 * What the daemon of one resource needs on one host: addresses, volumes and every option with 8.4's defaults filled in
 * and units converted. Times are milliseconds, sizes bytes, rates bytes per second.
 */
export interface ResolvedResource {
  readonly name: string;
  /** `FILE:LINE` of its definition, for messages. */
  readonly definedAt: string;
  readonly local: ResolvedNode;
  readonly peer: ResolvedNode;
  /** Sorted by number. */
  readonly volumes: readonly ResolvedVolume[];
  readonly net: NetOptions;
  readonly options: ResourceOptions;
  readonly startup: StartupOptions;
  readonly handlers: Handlers;
}

export interface ResolvedNode {
  /** What the configuration calls it; for a `floating` section its address. */
  readonly name: string;
  readonly address: ResolvedAddress;
}

export interface ResolvedAddress {
  readonly family: AddressFamily;
  /** Numeric, without brackets. */
  readonly host: string;
  readonly port: number;
}

export interface ResolvedVolume {
  readonly vnr: number;
  readonly minor: number;
  /** The device that the application opens: `/dev/drbd0`. */
  readonly device: string;
  readonly peerMinor: number;
  /** The backing disk; undefined on a diskless host (`disk none`). */
  readonly disk: string | undefined;
  readonly metaDisk: ResolvedMetaDisk;
  readonly diskOptions: DiskOptions;
}

export type ResolvedMetaDisk =
  | { readonly kind: "internal" }
  | { readonly kind: "indexed"; readonly path: string; readonly index: number }
  | { readonly kind: "flexible"; readonly path: string };

export function plainMetaDisk(metaDisk: MetaDisk): ResolvedMetaDisk {
  switch (metaDisk.kind) {
    case "internal":
      return { kind: "internal" };
    case "indexed":
      return { kind: "indexed", path: metaDisk.path, index: metaDisk.index };
    case "flexible":
      return { kind: "flexible", path: metaDisk.path };
  }
}

export type Protocol = "A" | "B" | "C";

export type AfterSb0Pri =
  | "disconnect"
  | "discard-younger-primary"
  | "discard-older-primary"
  | "discard-zero-changes"
  | "discard-least-changes"
  | "discard-local"
  | "discard-remote";
export type AfterSb1Pri =
  | "disconnect"
  | "consensus"
  | "discard-secondary"
  | "call-pri-lost-after-sb"
  | "violently-as0p";
export type AfterSb2Pri = "disconnect" | "call-pri-lost-after-sb" | "violently-as0p";

export interface NetOptions {
  readonly protocol: Protocol;
  readonly timeoutMs: number;
  readonly connectIntMs: number;
  readonly pingIntMs: number;
  readonly pingTimeoutMs: number;
  /** 0: never give up on a peer that does not take requests. */
  readonly koCount: number;
  /** 4-KiB pages. */
  readonly maxBuffersPages: number;
  /** Writes. */
  readonly maxEpochSize: number;
  readonly unplugWatermarkPages: number;
  /** 0: automatic. */
  readonly sndbufSizeBytes: number;
  readonly rcvbufSizeBytes: number;
  readonly allowTwoPrimaries: boolean;
  /** Empty: no authentication. */
  readonly cramHmacAlg: string;
  readonly sharedSecret: string;
  /** `discard-node-NAME` has become `discard-local` or `discard-remote`. */
  readonly afterSb0pri: AfterSb0Pri;
  readonly afterSb1pri: AfterSb1Pri;
  readonly afterSb2pri: AfterSb2Pri;
  readonly alwaysAsbp: boolean;
  readonly rrConflict: "disconnect" | "call-pri-lost" | "violently";
  readonly dataIntegrityAlg: string;
  readonly verifyAlg: string;
  readonly csumsAlg: string;
  readonly csumsAfterCrashOnly: boolean;
  readonly tcpCork: boolean;
  readonly useRle: boolean;
  readonly onCongestion: "block" | "pull-ahead" | "disconnect";
  readonly congestionFillBytes: number;
  readonly congestionExtents: number;
  /** 0: as `pingTimeoutMs`. */
  readonly socketCheckTimeoutMs: number;
}

export interface DiskOptions {
  /** 0: the whole disk. */
  readonly sizeBytes: number;
  readonly onIoError: "pass_on" | "call-local-io-error" | "detach";
  readonly fencing: "dont-care" | "resource-only" | "resource-and-stonith";
  readonly diskBarrier: boolean;
  readonly diskFlushes: boolean;
  readonly diskDrain: boolean;
  readonly mdFlushes: boolean;
  readonly resyncRateBytesPerSec: number;
  /** `RESOURCE` or `RESOURCE/VOLUME`; empty for none. */
  readonly resyncAfter: string;
  readonly alExtents: number;
  readonly alUpdates: boolean;
  /** 0: the fixed `resyncRateBytesPerSec` is used. */
  readonly cPlanAheadMs: number;
  readonly cDelayTargetMs: number;
  readonly cFillTargetBytes: number;
  readonly cMaxRateBytesPerSec: number;
  readonly cMinRateBytesPerSec: number;
  /** 0: none. */
  readonly diskTimeoutMs: number;
  readonly readBalancing: string;
  readonly maxBioBvecs: number;
  readonly discardZeroesIfAligned: boolean;
  readonly disableWriteSame: boolean;
  readonly rsDiscardGranularityBytes: number;
}

export interface ResourceOptions {
  readonly cpuMask: string;
  readonly onNoDataAccessible: "io-error" | "suspend-io";
}

export interface StartupOptions {
  /** 0: wait for ever; so in the next two. */
  readonly wfcTimeoutMs: number;
  /** Applies when this node went down as a Primary without a peer. */
  readonly degrWfcTimeoutMs: number;
  /** Applies when the peer is known to be outdated. */
  readonly outdatedWfcTimeoutMs: number;
  readonly waitAfterSb: boolean;
  readonly stackedTimeouts: boolean;
  /** Host names, or `both`. */
  readonly becomePrimaryOn: readonly string[];
}

/** Names of the handlers that DRBD 8.4 calls. */
export type HandlerName =
  | "pri-on-incon-degr"
  | "pri-lost-after-sb"
  | "pri-lost"
  | "fence-peer"
  | "unfence-peer"
  | "local-io-error"
  | "initial-split-brain"
  | "split-brain"
  | "before-resync-target"
  | "after-resync-target"
  | "before-resync-source"
  | "out-of-sync";

/** Shell commands of the configured handlers. */
export type Handlers = Readonly<Partial<Record<HandlerName, string>>>;
