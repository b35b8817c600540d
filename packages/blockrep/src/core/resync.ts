import { MdFlag } from "../meta/superblock.ts";
import { BitmapReceiver, BitmapSender, type BitmapSink, type BitmapSource } from "../wire/bitmap-codec.ts";
import { Feature, UuidFlag } from "../wire/constants.ts";
import type {
  BitmapPacket,
  CompressedBitmapPacket,
  StatePacket,
  SyncUuidPacket,
  UuidsPacket,
} from "../wire/packets.ts";
import { ConnState, DiskState, Role, type StateFields, unpackState } from "../wire/state-word.ts";
import { SEND_QUEUE_BYTES_HIGH } from "./limits.ts";
import type { ResyncProgress } from "./ports.ts";
import {
  type AfterSb0pri,
  type AfterSb1pri,
  type AfterSb2pri,
  type HandshakeDecision,
  handshakeDecision,
  mapPeerNegotiating,
} from "./split-brain.ts";
import { readPeerState, StateRc } from "./state.ts";
import {
  adoptSkippedInitialSync,
  finishResyncSource,
  finishResyncTarget,
  newCurrentUuid,
  startResyncSource,
  startResyncTarget,
  UUID_JUST_CREATED,
  type UuidSet,
} from "./uuids.ts";
import type { Volume } from "./volume.ts";

/**
 * From the peer's state word to the end of a resync: who is ahead, exchange of bitmaps, start and end on both sides.
 * No packet confirms that the peers agree; each follows the same rules on mirrored data.
 * @see DRBD 8.4 drbd_receiver.c receive_state, drbd_worker.c drbd_start_resync, drbd_resync_finished
 */
export class Resync {
  readonly #v: Volume;
  peerUuids: UuidSet | undefined;
  #peerFlags = 0;
  #peerDirtyBits = 0;
  /** Both were Inconsistent and one of us has just been forced: the next P_STATE decides who copies. */
  considerForced = false;
  #sender: BitmapSender | undefined;
  #receiver: BitmapReceiver | undefined;
  #generation = 0;
  #running: "source" | "target" | undefined;
  #totalBlocks = 0;
  #startedMs = 0;
  #reportedMs = 0;

  constructor(volume: Volume) {
    this.#v = volume;
  }

  connectionLost(): void {
    this.#generation++;
    this.peerUuids = undefined;
    this.considerForced = false;
    this.#sender = undefined;
    this.#receiver = undefined;
  }

  // The peer's parameters

  uuids(packet: UuidsPacket): void {
    const v = this.#v;
    const [history0, history1] = packet.history;
    this.peerUuids = { current: packet.current, bitmap: packet.bitmap, history0, history1 };
    this.#peerFlags = packet.flags;
    this.#peerDirtyBits = packet.dirtyBits;
    const other = ((v.exposedUuid ^ packet.current) & ~1n) !== 0n;
    if (v.state.disk < DiskState.Inconsistent && v.state.role === Role.Primary && v.exposedUuid !== 0n && other) {
      if (v.state.conn < ConnState.Connected) {
        v.connection.disconnect("can only connect to the data that was lost last");
        return;
      }
    }
    if (v.state.disk < DiskState.Inconsistent) v.exposedUuid = packet.current;
    const skip = (packet.flags & UuidFlag.SKIP_INITIAL_SYNC) !== 0;
    const fresh = (v.uuids.current & ~1n) === UUID_JUST_CREATED;
    if (skip && fresh && v.state.conn === ConnState.Connected && v.hasDisk) this.#skipInitialSync(this.peerUuids);
  }

  #skipInitialSync(peer: UuidSet): void {
    const v = this.#v;
    v.setUuids(
      adoptSkippedInitialSync(v.uuids, peer, v.state.role === Role.Primary),
      "initial sync skipped by the peer",
    );
    v.bitmap.clearAll();
    v.connection.hold();
    v.meta.syncBitmap(() => {
      v.change({ disk: DiskState.UpToDate, pdsk: DiskState.UpToDate }, "initial sync skipped", true);
      v.meta.sync(() => {
        // a state of mine that was on its way when the peer decided says Inconsistent
        v.connection.sendState(v);
        v.connection.release();
      });
    });
  }

  state(packet: StatePacket): void {
    const v = this.#v;
    const old = v.state;
    if (old.conn < ConnState.WFReportParams) return;
    const peer = unpackState(packet.state);
    const peerDisk = mapPeerNegotiating(peer.disk, (this.#peerFlags & UuidFlag.INCONSISTENT) !== 0);
    const report = readPeerState(old, peer, peerDisk, this.peerUuids !== undefined, this.considerForced);
    if (report.finished === "resync") {
      this.#finishAsSource();
      return;
    }
    if (report.finished === "verify") {
      v.verify.finishAsTarget();
      return;
    }
    if (report.considerResync) this.#handshake(report.wanted, peer, peerDisk);
    else this.#apply(old, peer, report.wanted);
  }

  #handshake(wanted: StateFields, peer: StateFields, peerDisk: DiskState): void {
    const v = this.#v;
    this.considerForced = false;
    const decision = this.#decide(peer, peerDisk);
    for (const line of decision.log) v.ctx.note("info", line);
    v.ctx.sink.event({
      type: "handshake",
      volume: v.number,
      rule: decision.rule,
      result: decision.result,
      text: decision.log.join("; "),
    });
    for (const name of decision.handlers) v.connection.runHandler(name);
    if (decision.splitBrain) {
      const resolved = decision.reason !== "split-brain";
      const text = decision.log.at(-1) ?? "";
      v.ctx.sink.event({ type: "split-brain", volume: v.number, resolved, text });
    }
    this.peerUuids = decision.peer;
    if (decision.selfCorrected) {
      v.setUuids(decision.self, `rule ${decision.rule}`);
      v.meta.sync(() => {});
    }
    if (decision.action === "refuse" || decision.conn === undefined) {
      this.#refused(wanted, peer, decision);
      return;
    }
    if (decision.demote) v.change({ role: Role.Secondary }, "lost the split brain", true);
    const fields = { ...wanted, role: v.state.role, conn: decision.conn };
    const full = decision.action === "source-full" || decision.action === "target-full";
    if (!full) {
      this.#apply(v.state, peer, fields);
      return;
    }
    this.setAllBits(() => this.#apply(v.state, peer, fields));
  }

  #decide(peer: StateFields, peerDisk: DiskState): HandshakeDecision {
    const v = this.#v;
    const { net } = v.ctx.options;
    return handshakeDecision({
      self: v.uuids,
      peer: this.peerUuids as UuidSet,
      selfRole: v.state.role,
      peerRole: peer.role,
      selfCrashedPrimary: v.crashedPrimary,
      peerCrashedPrimary: (this.#peerFlags & UuidFlag.CRASHED_PRIMARY) !== 0,
      resolveConflicts: v.connection.resolveConflicts,
      protocolVersion: v.connection.version,
      writeSameAgreed: (v.connection.features & Feature.WSAME) !== 0,
      selfDisk: v.state.disk === DiskState.Negotiating ? (v.attachment.negotiated?.disk ?? v.state.disk) : v.state.disk,
      selfDiskRaw: v.state.disk,
      peerDisk,
      selfChanges: v.connection.sentDirtyBits,
      peerChanges: this.#peerDirtyBits,
      selfDiscard: v.connection.discardMyData,
      peerDiscard: (this.#peerFlags & UuidFlag.DISCARD_MY_DATA) !== 0,
      dryRun: v.connection.dryRun,
      canDemote: v.openers === 0,
      policies: {
        afterSb0pri: net.afterSb0p as AfterSb0pri,
        afterSb1pri: net.afterSb1p as AfterSb1pri,
        afterSb2pri: net.afterSb2p as AfterSb2pri,
        rrConflict: net.rrConflict,
        alwaysAsbp: net.alwaysAsbp,
      },
    });
  }

  #refused(wanted: StateFields, peer: StateFields, decision: HandshakeDecision): void {
    const v = this.#v;
    const text = decision.log.at(-1) ?? "refused";
    if (v.state.disk === DiskState.Negotiating) {
      v.ctx.note("error", `attach refused by the handshake: ${text}`);
      v.change({ disk: DiskState.Failed }, text, true);
      v.dropDisk(text);
    } else if (peer.disk === DiskState.Negotiating && v.state.conn >= ConnState.Connected) {
      v.ctx.note("warn", `the peer's attach is refused: ${text}`);
      this.#apply(v.state, peer, { ...wanted, pdsk: DiskState.Diskless });
    } else {
      v.connection.disconnect(text);
    }
  }

  /** All bits set and on disk; a crash in between sets them again. The peer's packets wait. */
  setAllBits(done: () => void): void {
    const v = this.#v;
    const generation = this.#generation;
    v.connection.hold();
    v.flags |= MdFlag.fullSync;
    v.meta.sync(() => {
      v.bitmap.setAll();
      v.meta.syncBitmap(() => {
        v.flags &= ~MdFlag.fullSync;
        v.meta.sync(() => {
          if (generation !== this.#generation) return;
          v.connection.release();
          done();
        });
      });
    });
  }

  /** The peer's report and the outcome of the handshake become our state. */
  #apply(old: StateFields, peer: StateFields, wanted: StateFields): void {
    const v = this.#v;
    const fields = { ...wanted };
    const { negotiated } = v.attachment;
    const settles = fields.conn === ConnState.Connected || fields.conn === ConnState.WFBitMapS;
    if (
      settles &&
      v.state.disk === DiskState.Negotiating &&
      peer.disk !== DiskState.Negotiating &&
      negotiated !== undefined
    ) {
      fields.disk = negotiated.disk;
    }
    const connects = old.conn < ConnState.Connected && fields.conn >= ConnState.Connected;
    const { disk, role, conn, peer: peerRole, pdsk, peerIsp } = fields;
    const rc = v.change({ disk, role, conn, peer: peerRole, pdsk, peerIsp }, "the peer's state", !connects);
    if (rc < StateRc.Success) {
      v.connection.disconnect(`the states do not fit together (${rc})`);
      return;
    }
    const now = v.state;
    if (connects) {
      v.connection.parametersDone();
      v.connection.sendState(v);
    } else if (now.conn > ConnState.Connected && old.conn <= ConnState.Connected) {
      // we want a resync and the peer has not decided yet
      if (peer.conn <= ConnState.Connected && peer.disk !== DiskState.Negotiating) this.#sendUuidsAndState();
    }
    if (!connects && old.pdsk === DiskState.Diskless && now.pdsk > DiskState.Diskless) this.#sendUuidsAndState();
    if (old.disk === DiskState.Negotiating && now.disk !== DiskState.Negotiating) v.connection.sendState(v);
    if (now.conn === old.conn) return;
    if (now.conn === ConnState.WFBitMapS) {
      this.#receiver = new BitmapReceiver(this.#bits(), v.connection.dialect);
      this.#sendBitmap();
    } else if (now.conn === ConnState.WFBitMapT) {
      this.#receiver = new BitmapReceiver(this.#bits(), v.connection.dialect);
    }
  }

  #sendUuidsAndState(): void {
    this.#v.connection.sendUuids(this.#v);
    this.#v.connection.sendState(this.#v);
  }

  // Bitmap exchange

  #bits(): BitmapSource & BitmapSink {
    const { bitmap } = this.#v;
    return {
      bitCount: bitmap.bits,
      findNext: (from, set) => {
        const bit = set ? bitmap.nextSet(from) : bitmap.nextClear(from);
        return bit === -1 ? bitmap.bits : bit;
      },
      readBytes: (at, out) => bitmap.storeBytes(at, out),
      setRange: (first, end) => {
        bitmap.setBits(first, end);
      },
      orBytes: (at, bytes) => {
        bitmap.orBytes(at, bytes);
      },
    };
  }

  #sendBitmap(): void {
    const v = this.#v;
    const { useRle } = v.ctx.options.net;
    this.#sender = new BitmapSender(this.#bits(), { volume: v.number, dialect: v.connection.dialect, useRle });
    this.continueBitmap();
  }

  /** Goes on sending when the socket has room again. */
  continueBitmap(): void {
    const v = this.#v;
    const sender = this.#sender;
    if (sender === undefined) return;
    while (v.connection.sendQueueBytes < SEND_QUEUE_BYTES_HIGH) {
      const packet = sender.next();
      if (packet === undefined) {
        this.#sender = undefined;
        if (v.state.conn === ConnState.WFBitMapT) v.change({ conn: ConnState.WFSyncUUID }, "bitmaps exchanged", true);
        return;
      }
      v.send(packet);
    }
  }

  /** P_BITMAP, P_COMPRESSED_BITMAP; throws what the codec throws. @returns false: not expected now */
  bitmapPacket(packet: BitmapPacket | CompressedBitmapPacket): boolean {
    const v = this.#v;
    if (this.#receiver === undefined) return false;
    if (!this.#receiver.receive(packet)) return true;
    this.#receiver = undefined;
    if (v.state.conn === ConnState.WFBitMapT) this.#sendBitmap();
    else if (v.state.conn === ConnState.WFBitMapS) this.startAsSource();
    return true;
  }

  // Start

  /** After an invalidate: both sides mark everything, then the side with the data begins. */
  startingSync(): void {
    const v = this.#v;
    const { conn } = v.state;
    if (conn === ConnState.StartingSyncS) this.setAllBits(() => this.startAsSource());
    else if (conn === ConnState.StartingSyncT) {
      this.setAllBits(() => {
        v.change({ conn: ConnState.WFSyncUUID }, "invalidate", true);
      });
    }
  }

  /** new-current-uuid: a generation of its own; with `clearBitmap` two new disks are declared equal. */
  newCurrent(clearBitmap: boolean, done: () => void): void {
    const v = this.#v;
    const skip = clearBitmap && v.state.conn === ConnState.Connected && (v.uuids.current & ~1n) === UUID_JUST_CREATED;
    v.setUuids(newCurrentUuid(v.uuids, v.ctx.random.u64(), v.state.role === Role.Primary), "new-current-uuid");
    if (clearBitmap) v.bitmap.clearAll();
    v.meta.syncBitmap(() => {
      if (skip) {
        v.skipsInitialSync = true;
        v.connection.sendUuids(v);
        v.skipsInitialSync = false;
        v.setUuids({ ...v.uuids, bitmap: 0n }, "initial sync skipped");
        v.change({ disk: DiskState.UpToDate, pdsk: DiskState.UpToDate }, "initial sync skipped", true);
      }
      v.meta.sync(done);
    });
  }

  startAsSource(): void {
    const v = this.#v;
    const generation = this.#generation;
    v.connection.hold();
    v.connection.runHandler("before-resync-source", (exitCode) => {
      if (generation !== this.#generation) return;
      if (exitCode !== 0 && exitCode !== 3) {
        v.connection.release();
        v.connection.disconnect(`before-resync-source handler returned ${exitCode}`);
        return;
      }
      v.setUuids(startResyncSource(v.uuids, v.ctx.random.u64()), "resync starts");
      v.meta.sync((errno) => {
        if (errno !== 0 || generation !== this.#generation) return;
        v.change({ conn: ConnState.SyncSource, pdsk: DiskState.Inconsistent }, "resync starts", true);
        v.send({ kind: "P_SYNC_UUID", volume: v.number, uuid: v.uuids.bitmap });
        v.source.start();
        this.#begin("source");
        v.connection.release();
      });
    });
  }

  syncUuid(packet: SyncUuidPacket): void {
    const v = this.#v;
    if (v.state.conn !== ConnState.WFSyncUUID && v.state.conn !== ConnState.Behind) return;
    const generation = this.#generation;
    v.connection.hold();
    v.connection.runHandler("before-resync-target", (exitCode) => {
      if (generation !== this.#generation) return;
      if (exitCode !== 0) {
        v.connection.release();
        v.connection.disconnect(`before-resync-target handler returned ${exitCode}`);
        return;
      }
      v.setUuids(startResyncTarget(v.uuids, packet.uuid, v.state.role === Role.Primary), "resync starts");
      v.change({ conn: ConnState.SyncTarget, disk: DiskState.Inconsistent }, "resync starts", true);
      v.meta.sync((errno) => {
        if (errno !== 0 || generation !== this.#generation) return;
        this.#begin("target");
        v.target.start();
        v.connection.release();
      });
    });
  }

  #begin(role: "source" | "target"): void {
    const v = this.#v;
    this.#running = role;
    this.#totalBlocks = v.bitmap.count;
    this.#startedMs = v.ctx.nowMs;
    this.#reportedMs = v.ctx.nowMs;
    v.ctx.sink.event({ type: "resync-start", volume: v.number, role, blocks: this.#totalBlocks });
  }

  // End

  finishAsTarget(failedBlocks: number): void {
    const v = this.#v;
    const generation = this.#generation;
    v.connection.pingThen(() => {
      if (generation !== this.#generation || v.state.conn !== ConnState.SyncTarget) return;
      v.meta.syncBitmap((errno) => {
        if (errno !== 0 || generation !== this.#generation || v.state.conn !== ConnState.SyncTarget) return;
        if (failedBlocks > 0) {
          v.change({ conn: ConnState.Connected }, `resync ended with ${failedBlocks} failed blocks`, true);
          v.connection.sendState(v);
          return;
        }
        const peer = this.peerUuids as UuidSet;
        v.setUuids(finishResyncTarget(v.uuids, peer, v.state.role === Role.Primary), "resync done");
        v.change({ conn: ConnState.Connected, disk: DiskState.UpToDate }, "resync done", true);
        v.meta.sync((failed) => {
          if (failed === 0 && generation === this.#generation) v.connection.sendState(v);
        });
        v.connection.runHandler("after-resync-target");
      });
    });
  }

  #finishing = false;

  /** The target says Connected and UpToDate. Its last acks may still be on the other socket: a ping round trip brings them. */
  #finishAsSource(): void {
    const v = this.#v;
    if (this.#finishing) return;
    this.#finishing = true;
    const generation = this.#generation;
    v.connection.pingThen(() => {
      this.#finishing = false;
      if (generation !== this.#generation || v.state.conn <= ConnState.Connected) return;
      v.setUuids(finishResyncSource(v.uuids), "resync done");
      v.change({ conn: ConnState.Connected, pdsk: DiskState.UpToDate }, "resync done", true);
      v.meta.sync(() => {});
      v.connection.fencing.resyncDone();
    });
  }

  /** The connection state left the resync states, one way or the other. */
  ended(): void {
    const v = this.#v;
    this.#sender = undefined;
    this.#receiver = undefined;
    this.#finishing = false;
    v.target.stop();
    if (this.#running !== undefined) {
      this.#running = undefined;
      const done = v.state.disk === DiskState.UpToDate && v.state.pdsk === DiskState.UpToDate;
      const ms = v.ctx.nowMs - this.#startedMs;
      v.ctx.sink.event({ type: "resync-end", volume: v.number, done, blocks: this.#totalBlocks, ms });
    }
    if (v.hasDisk) v.meta.syncBitmap(() => {});
  }

  progress(): void {
    const v = this.#v;
    if (v.ctx.nowMs - this.#reportedMs < 1000) return;
    this.#reportedMs = v.ctx.nowMs;
    const progress = this.snapshot();
    if (progress !== undefined) v.ctx.sink.event({ type: "resync-progress", volume: v.number, progress });
  }

  snapshot(): ResyncProgress | undefined {
    if (this.#running === undefined) return undefined;
    const v = this.#v;
    return {
      totalBlocks: this.#totalBlocks,
      leftBlocks: v.bitmap.count,
      failedBlocks: this.#running === "source" ? v.source.failedBlocks : v.target.failedBlocks,
      startedMs: this.#startedMs,
      elapsedMs: v.ctx.nowMs - this.#startedMs,
    };
  }
}
