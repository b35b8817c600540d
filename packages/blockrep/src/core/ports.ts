/**
 * Everything that passes between the replication engine and the machine it runs on.
 *
 * The engine is one object per resource (one peer, one connection, its volumes). A driver feeds it inputs, which are the
 * public methods of {@link ResourceInputs}, and carries out what it asks for through {@link EngineSink}. Rules:
 *
 * - Inputs are never nested: a sink method that is called during an input must not call an input before that one has
 *   returned. A driver either starts the operation and returns, or records it and starts it after the input.
 * - Calls of the sink are made in the order in which the operations may start. What must wait for something durable is
 *   only called after the completion that it waits for, so a driver needs no ordering of its own, with one exception:
 *   `flushData`/`flushMeta` cover every write of that device whose completion was reported before the flush was asked for.
 * - Every operation with an `ioId` is answered exactly once by `ioDone`, also when it fails, also after `closeDisk`.
 * - Bytes handed to the sink stay unchanged until the answer (`ioDone`) or, for packets, until the driver has copied or
 *   written them. Bytes handed to the engine belong to it: a driver that recycles receive buffers gets bytes of P_DATA
 *   and P_RS_DATA_REPLY back through `releaseBytes`, and must treat all others as kept.
 * - Time is a number of milliseconds on a monotonic clock. `tick` moves it; all other inputs happen at the last tick.
 *   A driver calls `tick` before a batch of inputs and at the time that `nextDeadlineMs` names.
 */
import type { Dialect } from "../wire/dialect.ts";
import type { Packet } from "../wire/packets.ts";
import type { ConnState, DiskState, Role } from "../wire/state-word.ts";

/** Linux error numbers, as the front ends report them; 0 is success. */
export const Errno = { ok: 0, io: 5, invalid: 22, noSpace: 28, notPermitted: 1, busy: 16, shutdown: 108 } as const;

/** Chance for UUIDs, challenges and coin flips. The daemon takes it from the operating system, the simulator from its seed. */
export interface RandomSource {
  /** Integer 0..bound-1. */
  below(bound: number): number;
  u64(): bigint;
  bytes(length: number): Uint8Array;
}

/** What opening the backing device found. All in bytes. */
export interface DiskGeometry {
  /** Size of the device (or file) that holds the data; with internal metadata the metadata is at its end. */
  readonly dataDeviceBytes: number;
  /** Size of the device that holds the metadata; equal to `dataDeviceBytes` for internal metadata. */
  readonly metaDeviceBytes: number;
  readonly logicalBlockSize: number;
  readonly physicalBlockSize: number;
  /** Discards are possible, and a discarded range reads back as zeroes. */
  readonly discard: boolean;
}

/** Where the metadata is; `meta-disk internal`, `flexible-meta-disk DEV`, `meta-disk DEV[n]`. */
export type MetaPlacement =
  | { readonly kind: "internal" }
  | { readonly kind: "external" }
  | { readonly kind: "indexed"; readonly index: number };

/** Disk section of a volume; units are in the names. */
export interface DiskOptions {
  readonly meta: MetaPlacement;
  /** Size the administrator configured; 0: all of the device. */
  readonly sizeSectors: number;
  readonly onIoError: "pass_on" | "call-local-io-error" | "detach";
  readonly fencing: "dont-care" | "resource-only" | "resource-and-stonith";
  readonly alExtents: number;
  readonly diskFlushes: boolean;
  readonly mdFlushes: boolean;
  readonly resyncRateKib: number;
  /** Tenths of a second; 0: fixed `resyncRateKib`. */
  readonly cPlanAhead: number;
  readonly cDelayTarget: number;
  readonly cFillTargetSectors: number;
  readonly cMaxRateKib: number;
  readonly cMinRateKib: number;
  /** 0: wait for the disk for ever. */
  readonly diskTimeoutMs: number;
}

export interface NetOptions {
  readonly protocol: "A" | "B" | "C";
  readonly timeoutMs: number;
  readonly connectIntMs: number;
  readonly pingIntMs: number;
  readonly pingTimeoutMs: number;
  /** 0: as `pingTimeoutMs`. */
  readonly socketCheckTimeoutMs: number;
  /** 0: never. */
  readonly koCount: number;
  /** 4-KiB pages. */
  readonly maxBuffers: number;
  readonly maxEpochSize: number;
  readonly allowTwoPrimaries: boolean;
  /** "" for none; both or neither. */
  readonly cramHmacAlg: string;
  readonly sharedSecret: string;
  readonly afterSb0p: string;
  readonly afterSb1p: string;
  readonly afterSb2p: string;
  readonly alwaysAsbp: boolean;
  readonly rrConflict: "disconnect" | "call-pri-lost" | "violently";
  readonly dataIntegrityAlg: string;
  readonly verifyAlg: string;
  readonly csumsAlg: string;
  /** Compare digests only where this node crashed as a Primary: elsewhere marked blocks differ nearly always. */
  readonly csumsAfterCrashOnly: boolean;
  readonly useRle: boolean;
}

export interface VolumeOptions {
  readonly volume: number;
  readonly minor: number;
  readonly disk: DiskOptions;
}

/** Protections that a test may take away, one at a time, to prove that the simulator notices. Never set by a daemon. */
export interface Mutations {
  /** The activity-log block is written but not flushed before the data. */
  readonly skipActivityLogFlush?: boolean;
  /** Evicted extents leave the log without their data flushed and their bitmap pages written. */
  readonly skipEvictionFlush?: boolean;
  /** A barrier is acknowledged without a flush. */
  readonly skipBarrierFlush?: boolean;
  /** Resynced blocks are acknowledged without a flush. */
  readonly skipResyncFlush?: boolean;
  /** Bitmap pages are never written. */
  readonly skipBitmapWrite?: boolean;
}

export interface EngineOptions {
  readonly resource: string;
  readonly net: NetOptions;
  readonly volumes: readonly VolumeOptions[];
  readonly onNoDataAccessible: "io-error" | "suspend-io";
  /** Names of the configured handlers; others are never asked for. */
  readonly handlers: readonly string[];
  /** Protocol versions to offer; 100..101 unless a test narrows it. */
  readonly protocolMin: number;
  readonly protocolMax: number;
  readonly mutations?: Mutations;
}

/** Chosen by the front end; returned with the completion. */
export type RequestId = number;
/** Chosen by the engine; returned with `ioDone`. */
export type IoId = number;
/** Chosen by the engine, for dialled and accepted sockets alike; never used twice. */
export type SocketId = number;
/** Chosen by the caller; returned with `commandDone`. */
export type CommandId = number;
/** Chosen by the engine; returned with `handlerDone`. */
export type HandlerId = number;

/** What the engine asks of the machine. */
export interface EngineSink {
  /** Open the volume's backing and metadata devices exclusively; answered by `diskOpened`. */
  openDisk(volume: number): void;
  /** Give the devices back. Operations that are still running are answered first or later, but a new `openDisk` is only
   * answered when all of them have ended, so that no late write reaches a disk that is in use again. */
  closeDisk(volume: number): void;
  readData(ioId: IoId, volume: number, sector: number, lengthBytes: number): void;
  /** Complete as soon as a later read returns these bytes; with `fua` only when they are on stable storage. */
  writeData(ioId: IoId, volume: number, sector: number, bytes: Uint8Array, fua: boolean): void;
  /** Discard; the range reads as zeroes afterwards (the driver writes zeroes where it must). */
  discardData(ioId: IoId, volume: number, sector: number, lengthBytes: number): void;
  /** Write zeroes; with `mayUnmap` the space may be given back. */
  zeroData(ioId: IoId, volume: number, sector: number, lengthBytes: number, mayUnmap: boolean): void;
  /** fdatasync of the data device. With internal metadata it covers the metadata too, and `flushMeta` is not used. */
  flushData(ioId: IoId, volume: number): void;
  /** Offsets are bytes from the start of the metadata device. */
  readMeta(ioId: IoId, volume: number, byteOffset: number, lengthBytes: number): void;
  writeMeta(ioId: IoId, volume: number, byteOffset: number, bytes: Uint8Array): void;
  flushMeta(ioId: IoId, volume: number): void;

  /** Connect to the peer; answered by `socketOpened` or `socketClosed`. */
  dial(socketId: SocketId): void;
  /** Accept connections of the peer (`socketAccepted`), or stop doing so. */
  listen(on: boolean): void;
  /** Send what was queued before, if that takes no waiting, and close. No answer; no later input about this socket. */
  closeSocket(socketId: SocketId): void;
  /** From the next packet on, received and sent, this socket speaks the agreed dialect. A driver takes one packet at a
   * time from its framer, because the answer to a packet may be a new dialect. */
  setDialect(socketId: SocketId, receive: Dialect, send: Dialect): void;
  /** Packets of a socket are sent in the order of the calls. P_PING_ACK on the meta socket should not wait in a batch. */
  send(socketId: SocketId, packet: Packet): void;

  /** Answers `read`, `write`, `flush`, `discard`, `writeZeroes`. `data` with a successful read only. */
  complete(request: RequestId, errno: number, data?: Uint8Array): void;
  /** Answers `command`. `code`: StateChangeResult (1 and above is success) or an AdminError (100 and above). */
  commandDone(command: CommandId, code: number, text: string): void;
  /** Run a handler of the configuration; answered by `handlerDone`. */
  runHandler(handler: HandlerId, name: string, env: Readonly<Record<string, string>>): void;
  /** For logs, `events` and status; never needed for correctness. */
  event(event: EngineEvent): void;
  /** `application` on: take no more requests; `data-socket` on: read no more from the data socket. Off: go on. */
  throttle(what: "application" | "data-socket", on: boolean): void;
  /** The engine needs these received bytes no longer. */
  releaseBytes(bytes: Uint8Array): void;
}

export type AdminVerb =
  | "attach"
  | "detach"
  | "connect"
  | "disconnect"
  | "primary"
  | "secondary"
  | "down"
  | "invalidate"
  | "invalidate-remote"
  | "outdate"
  | "pause-sync"
  | "resume-sync"
  | "suspend-io"
  | "resume-io"
  | "new-current-uuid"
  | "verify";

export interface AdminCommand {
  readonly verb: AdminVerb;
  /** All volumes when left out. */
  readonly volume?: number;
  /** primary, detach, disconnect: override a refusal, at the price that the manual names. */
  readonly force?: boolean;
  /** connect: the next split brain is decided against this node. One-shot. */
  readonly discardMyData?: boolean;
  /** connect: compare, report, disconnect. */
  readonly dryRun?: boolean;
  /** new-current-uuid: also declare both disks equal (skip the initial sync). */
  readonly clearBitmap?: boolean;
  /** verify: first sector; left out: where the last one was broken off, or the beginning. */
  readonly startSector?: number;
  /** verify: first sector that is not compared any more; left out: the end of the device. */
  readonly stopSector?: number;
}

/** Failures of a command other than a refused state change; the numbers drbdsetup prints. */
export const AdminError = {
  ok: 101,
  localAddressUsed: 102,
  openBackingDevice: 104,
  mdInvalid: 119,
  mdUnclean: 165,
  diskConfigured: 124,
  connected: 151,
  ioMetadata: 118,
  diskTooSmall: 111,
  noDisk: 138,
  pauseIsSet: 134,
  pauseIsClear: 135,
  dataNotCurrent: 150,
  minorUnknown: 127,
  discardImpossible: 123,
  interrupted: 129,
} as const;

export type SocketError = "refused" | "unreachable" | "reset" | "closed" | "timeout" | "malformed" | "error";

/** The inputs: what a driver tells the engine. */
export interface ResourceInputs {
  tick(nowMs: number): void;
  /** When `tick` has to be called at the latest; Infinity: not before another input. */
  nextDeadlineMs(): number;

  read(request: RequestId, volume: number, sector: number, lengthBytes: number): void;
  write(request: RequestId, volume: number, sector: number, data: Uint8Array, fua: boolean): void;
  /** Everything completed before is on stable storage on every disk that counts. */
  flush(request: RequestId, volume: number): void;
  discard(request: RequestId, volume: number, sector: number, lengthBytes: number): void;
  writeZeroes(request: RequestId, volume: number, sector: number, lengthBytes: number, mayUnmap: boolean): void;
  /** How many openers the exported device has; a node with openers refuses to become Secondary. */
  deviceOpeners(volume: number, count: number): void;

  diskOpened(volume: number, error: string | undefined, geometry: DiskGeometry | undefined): void;
  /** `bytes` for successful reads only. */
  ioDone(ioId: IoId, errno: number, bytes?: Uint8Array): void;

  socketOpened(socket: SocketId): void;
  /** The id of the new socket, or undefined when the engine does not want it: then the driver closes it. */
  socketAccepted(): SocketId | undefined;
  packetReceived(socket: SocketId, packet: Packet): void;
  /** Also the answer of a `dial` that failed. */
  socketClosed(socket: SocketId, error: SocketError): void;
  /** Bytes handed to `send` that the system has not taken yet; told whenever that number changes much, and at 0. */
  sendQueue(socket: SocketId, bytes: number): void;

  command(command: CommandId, request: AdminCommand): void;
  handlerDone(handler: HandlerId, exitCode: number): void;
  /**
   * Other options for the same resource and volumes. What is negotiated counts from the next connection, the size and
   * the activity log from the next attach, the rest at once.
   */
  reconfigure(options: EngineOptions): void;
  /** The cluster manager finds the peer silent: ping now instead of at the next interval. */
  suspectPeer(): void;
  snapshot(): ResourceSnapshot;
}

export interface VolumeSnapshot {
  readonly volume: number;
  readonly minor: number;
  /** Each volume has a role, and a resync of its own. */
  readonly role: Role;
  readonly peerRole: Role;
  readonly conn: ConnState;
  readonly disk: DiskState;
  readonly peerDisk: DiskState;
  readonly sizeSectors: number;
  readonly uuids: { readonly current: bigint; readonly bitmap: bigint; readonly history: readonly [bigint, bigint] };
  /** MDF flags as the superblock has them, or gets them with its next write. */
  readonly metadataFlags: number;
  readonly outOfSyncBlocks: number;
  /** Counters since start; sectors, except the last two which count writes. */
  readonly netSentSectors: number;
  readonly netReceivedSectors: number;
  readonly diskWrittenSectors: number;
  readonly diskReadSectors: number;
  readonly alWrites: number;
  readonly bitmapWrites: number;
  readonly localPending: number;
  readonly peerPending: number;
  readonly unacked: number;
  readonly applicationPending: number;
  readonly epochs: number;
  readonly openers: number;
  /** During a resync or a verify only. */
  readonly resync: ResyncProgress | undefined;
}

export interface ResyncProgress {
  readonly totalBlocks: number;
  readonly leftBlocks: number;
  readonly failedBlocks: number;
  readonly startedMs: number;
  readonly elapsedMs: number;
}

export interface ResourceSnapshot {
  readonly resource: string;
  readonly role: Role;
  readonly peerRole: Role;
  readonly conn: ConnState;
  readonly protocol: "A" | "B" | "C";
  /** 0 while not connected. */
  readonly agreedVersion: number;
  readonly suspended: { readonly user: boolean; readonly noData: boolean; readonly fencing: boolean };
  readonly pause: { readonly user: boolean; readonly peer: boolean; readonly dependency: boolean };
  readonly writeOrdering: "b" | "f" | "d" | "n";
  readonly volumes: readonly VolumeSnapshot[];
}

/** What happened, for people and for the event stream. */
export type EngineEvent =
  | {
      readonly type: "state";
      readonly volume: number;
      readonly from: number;
      readonly to: number;
      readonly cause: string;
    }
  | { readonly type: "connected"; readonly version: number; readonly features: number }
  | {
      readonly type: "handshake";
      readonly volume: number;
      readonly rule: number;
      readonly result: number;
      readonly text: string;
    }
  | {
      readonly type: "resync-start";
      readonly volume: number;
      readonly role: "source" | "target";
      readonly blocks: number;
    }
  | { readonly type: "resync-progress"; readonly volume: number; readonly progress: ResyncProgress }
  | {
      readonly type: "resync-end";
      readonly volume: number;
      readonly done: boolean;
      readonly blocks: number;
      readonly ms: number;
    }
  | {
      readonly type: "verify-start";
      readonly volume: number;
      /** source: the node that compares; target: the one that sends its digests. */
      readonly role: "source" | "target";
      readonly startSector: number;
      readonly blocks: number;
    }
  | {
      readonly type: "verify-out-of-sync";
      readonly volume: number;
      readonly sector: number;
      readonly sectors: number;
    }
  | {
      readonly type: "verify-end";
      readonly volume: number;
      readonly done: boolean;
      readonly blocks: number;
      readonly outOfSyncBlocks: number;
      readonly ms: number;
    }
  | { readonly type: "split-brain"; readonly volume: number; readonly resolved: boolean; readonly text: string }
  | {
      readonly type: "uuids";
      readonly volume: number;
      readonly cause: string;
      readonly current: bigint;
      readonly bitmap: bigint;
    }
  | { readonly type: "disk-error"; readonly volume: number; readonly operation: string; readonly errno: number }
  | { readonly type: "network"; readonly level: "info" | "warn"; readonly text: string }
  | { readonly type: "note"; readonly level: "info" | "warn" | "error"; readonly text: string };
