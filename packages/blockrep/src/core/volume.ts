import { MdFlag } from "../meta/superblock.ts";
import { BIO_SIZE_MAX } from "../wire/constants.ts";
import type { Packet } from "../wire/packets.ts";
import { ConnState, DiskState, packState, Role, type StateFields } from "../wire/state-word.ts";
import { Activity } from "./activity.ts";
import { Attachment } from "./attachment.ts";
import { Bitmap } from "./bitmap.ts";
import { BlockLocks } from "./block-locks.ts";
import type { Connection } from "./connection.ts";
import type { EngineContext } from "./context.ts";
import { Disk } from "./disk.ts";
import type { SendEpoch } from "./epochs.ts";
import { Gate } from "./gate.ts";
import { metadataFlags } from "./metadata-flags.ts";
import { MetadataWriter } from "./metadata-writer.ts";
import { tuningPacket } from "./parameters.ts";
import type { DiskOptions, VolumeOptions, VolumeSnapshot } from "./ports.ts";
import { Receiver } from "./receiver.ts";
import { Resync } from "./resync.ts";
import type { ResyncTuning } from "./resync-rate.ts";
import { ResyncSource } from "./resync-source.ts";
import { ResyncTarget } from "./resync-target.ts";
import { changeState, INITIAL_STATE, type StateContext, StateRc } from "./state.ts";
import { FRESH_UUIDS, markRole, needsNewCurrent, newCurrentUuid, type UuidSet } from "./uuids.ts";
import { Verify } from "./verify.ts";
import { WritePath } from "./write-path.ts";

/**
 * One replicated device: its state word, its generation UUIDs and bitmap, and the parts that work on them.
 * Every change of the state goes through {@link change}, which applies what follows from it and then acts on it.
 */
export class Volume {
  readonly ctx: EngineContext;
  readonly options: VolumeOptions;
  readonly connection: Connection;
  readonly number: number;
  diskOptions: DiskOptions;

  state: StateFields = INITIAL_STATE;
  uuids: UuidSet = FRESH_UUIDS;
  /** MDF flags of the superblock. */
  flags = 0;
  /** This node was Primary when it went down; until both disks are UpToDate. */
  crashedPrimary = false;
  sizeSectors = 0;
  bitmap: Bitmap = new Bitmap(0);
  peerMaxBioBytes: number = BIO_SIZE_MAX;
  openers = 0;
  resyncTuning: ResyncTuning;
  /** Generation of the data that a diskless Primary has shown to its application; 0: none. */
  exposedUuid = 0n;
  /** The peer's data is lost but no I/O has passed since: fencing holds it. A generation begins when it goes on. */
  generationDue = false;
  /** The next P_UUIDS says that both disks count as equal. */
  skipsInitialSync = false;

  readonly disk: Disk;
  readonly meta: MetadataWriter;
  readonly locks: BlockLocks;
  readonly gate: Gate;
  readonly activity: Activity;
  readonly attachment: Attachment;
  readonly writes: WritePath;
  readonly receiver: Receiver;
  readonly source: ResyncSource;
  readonly target: ResyncTarget;
  readonly resync: Resync;
  readonly verify: Verify;
  #sequence = 0;
  #unsettled: { readonly epoch: SendEpoch | undefined; readonly fn: () => void }[] = [];

  constructor(ctx: EngineContext, options: VolumeOptions, connection: Connection) {
    this.ctx = ctx;
    this.options = options;
    this.connection = connection;
    this.number = options.volume;
    this.diskOptions = options.disk;
    this.resyncTuning = options.disk;
    this.disk = new Disk(ctx.sink, options.volume, ctx.nextIo, ctx.later, (errno) => this.#flushFailed(errno));
    this.meta = new MetadataWriter(this);
    this.locks = new BlockLocks(ctx.later);
    this.gate = new Gate(ctx.later, () => this.suspended);
    this.activity = new Activity(this);
    this.attachment = new Attachment(this);
    this.writes = new WritePath(this);
    this.receiver = new Receiver(this);
    this.source = new ResyncSource(this);
    this.target = new ResyncTarget(this);
    this.resync = new Resync(this);
    this.verify = new Verify(this);
  }

  /** There is a disk that takes reads and writes. */
  get hasDisk(): boolean {
    return this.disk.isOpen && this.state.disk >= DiskState.Inconsistent;
  }

  get suspended(): boolean {
    return this.state.susp || this.state.suspNod || this.state.suspFen;
  }

  /** Other options from the configuration; where the metadata are and how many extents the log has stays as attached. */
  reconfigure(disk: DiskOptions): void {
    this.diskOptions = { ...disk, meta: this.diskOptions.meta };
    this.resyncTuning = this.diskOptions;
    if (this.connection.connected) this.send(tuningPacket(this));
  }

  send(packet: Packet): void {
    this.connection.sendData(packet);
  }

  sendMeta(packet: Packet): void {
    this.connection.sendMeta(packet);
  }

  /** One counter for the writes and acks of this volume and direction. */
  nextSequence(): number {
    this.#sequence = (this.#sequence + 1) >>> 0;
    return this.#sequence;
  }

  resetSequence(): void {
    this.#sequence = 0;
  }

  // Bitmap

  markOutOfSync(sector: number, sizeBytes: number): void {
    if (this.disk.isOpen) this.bitmap.setRange(sector, sizeBytes >>> 9);
  }

  clearOutOfSync(sector: number, sizeBytes: number): void {
    if (this.disk.isOpen) this.bitmap.clearRange(sector, sizeBytes >>> 9);
  }

  resyncProgress(): void {
    this.resync.progress();
  }

  finishAsTarget(failedBlocks: number): void {
    this.resync.finishAsTarget(failedBlocks);
  }

  /** Data and metadata of completed writes are durable. */
  flushAll(done: (errno: number) => void): void {
    if (this.disk.internalMeta) {
      this.disk.flush(done);
      return;
    }
    this.disk.flush((errno) => {
      if (errno !== 0) done(errno);
      else this.disk.flushMeta(done);
    });
  }

  // State

  stateContext(): StateContext {
    return {
      fencing: this.diskOptions.fencing,
      onNoData: this.ctx.options.onNoDataAccessible,
      allowTwoPrimaries: this.ctx.options.net.allowTwoPrimaries,
      hasNetConfig: this.connection.configured,
      otherVolumePeerPrimary: false,
      deviceOpen: this.openers > 0,
      hasVerifyAlg: this.connection.verifyAlg !== "",
      protocolVersion: this.connection.version,
      handshaking: this.state.conn === ConnState.WFReportParams,
      negotiated: this.#otherDataExposed ? undefined : this.attachment.negotiated,
    };
  }

  /** Applications saw data through the peer that this disk does not have. */
  get #otherDataExposed(): boolean {
    return this.exposedUuid !== 0n && ((this.exposedUuid ^ this.uuids.current) & ~1n) !== 0n;
  }

  /** Judges a change without making it. */
  judge(fields: Partial<StateFields>, hard: boolean = false): StateRc {
    return changeState(this.state, { ...this.state, ...fields }, this.stateContext(), hard).rc;
  }

  /**
   * Changes the state, with what follows from the change.
   * @param hard it has happened and is not asked for: permissions do not apply
   * @returns Success, NothingToDo, or the refusal, which changes nothing
   */
  change(fields: Partial<StateFields>, cause: string, hard: boolean = false): StateRc {
    const old = this.state;
    const { rc, state, warnings } = changeState(old, { ...old, ...fields }, this.stateContext(), hard);
    if (rc !== StateRc.Success) return rc;
    this.state = state;
    this.ctx.sink.event({ type: "state", volume: this.number, from: packState(old), to: packState(state), cause });
    for (const warning of warnings) this.ctx.note("warn", `${cause}: ${warning}`);
    this.#after(old, state, cause);
    return rc;
  }

  #after(old: StateFields, now: StateFields, cause: string): void {
    const bothGood = now.disk === DiskState.UpToDate && now.pdsk === DiskState.UpToDate;
    if (bothGood && (old.disk !== DiskState.UpToDate || old.pdsk !== DiskState.UpToDate)) this.crashedPrimary = false;
    if (this.disk.isOpen && now.disk >= DiskState.Inconsistent) this.#updateFlags(now);
    if (now.disk === DiskState.UpToDate && this.disk.isOpen) this.exposedUuid = this.uuids.current;

    const noData = (s: StateFields): boolean =>
      s.role === Role.Primary && s.disk < DiskState.UpToDate && s.pdsk < DiskState.UpToDate;
    if (noData(now) && !noData(old)) this.connection.runHandler("pri-on-incon-degr");
    if (this.suspended && now.suspNod && !noData(now))
      this.change({ suspNod: false }, "data is accessible again", true);

    // the connection broke before the attach could compare the data, and alone it may not decide
    if (old.disk === DiskState.Negotiating && now.disk === DiskState.Diskless) {
      this.ctx.later(() => {
        if (this.state.disk === DiskState.Diskless && this.disk.isOpen) this.dropDisk(cause);
      });
    }
    this.#peerDataLost(old, now, cause);
    this.#fenced(old, now);
    if (old.conn > ConnState.Connected && now.conn <= ConnState.Connected) this.resync.ended();
    if (old.conn === ConnState.VerifyS || old.conn === ConnState.VerifyT) {
      if (now.conn !== old.conn) this.verify.ended();
    }
    if (now.conn >= ConnState.Connected && old.conn >= ConnState.Connected) this.#tellPeer(old, now);
    if (now.conn === ConnState.SyncTarget && old.conn === ConnState.PausedSyncT) this.target.start();
    this.gate.reconsider();
  }

  #updateFlags(now: StateFields): void {
    let flags = metadataFlags(this.flags, now, this.crashedPrimary);
    // The mark makes a crash replay the activity log: it stays until the bitmap on disk says as much.
    if ((this.flags & ~flags & MdFlag.primaryIndicator) !== 0) {
      flags |= MdFlag.primaryIndicator;
      this.#clearPrimaryMark();
    }
    if (flags === this.flags) return;
    this.flags = flags;
    this.meta.sync(() => {});
  }

  /** Data and bitmap become durable, then the superblock forgets that writes happened under this activity log. */
  #clearPrimaryMark(): void {
    this.flushAll((errno) => {
      if (errno !== 0) return;
      this.meta.syncBitmap((failed) => {
        if (failed !== 0 || !this.hasDisk) return;
        const flags = metadataFlags(this.flags, this.state, this.crashedPrimary);
        if (flags === this.flags) return;
        this.flags = flags;
        this.meta.sync(() => {});
      });
    });
  }

  /** Changes of the state that the peer cannot see happen. */
  #tellPeer(old: StateFields, now: StateFields): void {
    // Attaching is not told: the peer would answer with its parameters before there is a disk to compare them with.
    const gone = now.disk === DiskState.Failed || now.disk === DiskState.Diskless;
    const failed = now.disk !== old.disk && gone;
    const degraded =
      old.disk === DiskState.UpToDate && now.disk === DiskState.Inconsistent && now.conn <= ConnState.Connected;
    const paused = now.userIsp !== old.userIsp || now.aftrIsp !== old.aftrIsp;
    if (failed || degraded || paused) this.connection.sendState(this);
  }

  #peerDataLost(old: StateFields, now: StateFields, cause: string): void {
    const usable =
      old.pdsk >= DiskState.Inconsistent && old.pdsk !== DiskState.DUnknown && old.pdsk !== DiskState.Outdated;
    const lost =
      now.pdsk < DiskState.Inconsistent || now.pdsk === DiskState.DUnknown || now.pdsk === DiskState.Outdated;
    const primary = now.role === Role.Primary || now.peer === Role.Primary;
    if (usable && lost) {
      if (primary && now.suspFen) this.generationDue = true;
      else if (primary) this.newGeneration(`${cause}: the peer's data is lost`);
      if (now.conn >= ConnState.Connected) {
        this.writes.peerDiskLost();
        this.#persistBitmap();
      }
    } else if (now.pdsk < DiskState.Inconsistent && old.peer === Role.Secondary && now.peer === Role.Primary) {
      this.newGeneration("the peer became Primary without a disk");
    }
  }

  /** I/O goes on when the peer cannot have current data any more, or is back. */
  #fenced(old: StateFields, now: StateFields): void {
    const back = now.conn >= ConnState.Connected;
    if (now.suspFen && (back || now.pdsk <= DiskState.Outdated)) {
      this.change({ suspFen: false }, back ? "the peer is back" : "the peer is fenced", true);
    } else if (old.suspFen && !now.suspFen && this.generationDue) {
      this.generationDue = false;
      if (!back) this.newGeneration("I/O goes on without the peer");
    }
  }

  /** Nobody will end the fencing of a peer once this node is Secondary: what the peer may miss must show in the UUIDs. */
  generationBeforeSecondary(): void {
    if (!this.generationDue) return;
    this.generationDue = false;
    if (this.bitmap.count > 0) this.newGeneration("Secondary, and writes were under way when the peer was lost");
  }

  /** The peer is back before fencing had an end. What it may have missed was never completed, but may be on this disk. */
  beginDueGeneration(done: () => void): void {
    // nothing was under way: the generation stays due, in case fencing ends before the handshake does
    if (this.bitmap.count > 0) {
      this.generationDue = false;
      this.newGeneration("the peer is back, and writes were under way when it was lost");
    }
    this.meta.sync(done);
  }

  /** This disk alone has the data from here on: its bitmap must not only be in memory. */
  #persistBitmap(): void {
    if (!this.hasDisk) return;
    this.gate.close();
    this.meta.syncBitmap(() => this.gate.open());
  }

  /**
   * A new data generation, unless one began already: what is written from here on, the peer does not have. No I/O passes
   * until it is durable, for otherwise the peer could come back alone, take the lead, and nobody would notice.
   */
  newGeneration(cause: string): void {
    if (!this.hasDisk || this.state.disk < DiskState.UpToDate || !needsNewCurrent(this.uuids)) return;
    this.setUuids(newCurrentUuid(this.uuids, this.ctx.random.u64(), this.state.role === Role.Primary), cause);
    this.gate.close();
    this.meta.sync(() => {
      if (this.state.conn >= ConnState.Connected) this.connection.sendUuids(this);
      this.gate.open();
    });
  }

  setUuids(uuids: UuidSet, cause: string): void {
    this.uuids = uuids;
    if (this.state.disk === DiskState.UpToDate) this.exposedUuid = uuids.current;
    this.ctx.sink.event({
      type: "uuids",
      volume: this.number,
      cause,
      current: uuids.current,
      bitmap: uuids.bitmap,
    });
  }

  /** Bit 0 of the current UUID follows the role; the caller makes it durable. */
  markRoleInUuids(): void {
    this.uuids = markRole(this.uuids, this.state.role === Role.Primary);
  }

  /** A write on the peer's disk failed: what is written from here on is a generation of its own. */
  peerWriteFailed(): void {
    if (this.state.role === Role.Primary) this.newGeneration("a write failed on the peer");
  }

  // Failures of the disk

  /** An application's or the peer's I/O failed. on-io-error says what follows. */
  diskError(operation: "read" | "write", errno: number): void {
    if (!this.disk.isOpen || this.state.disk <= DiskState.Failed) return;
    this.ctx.sink.event({ type: "disk-error", volume: this.number, operation, errno });
    if (this.diskOptions.onIoError === "pass_on") {
      if (operation === "write" && this.state.disk > DiskState.Inconsistent) {
        this.change({ disk: DiskState.Inconsistent }, `${operation} error, passed on`, true);
      }
      return;
    }
    this.#fail(`${operation} error`);
  }

  /** Metadata that cannot be written makes the disk useless, whatever on-io-error says. */
  metadataError(operation: string, errno: number): void {
    if (!this.disk.isOpen) return;
    this.ctx.sink.event({ type: "disk-error", volume: this.number, operation, errno });
    this.#fail(operation);
  }

  #flushFailed(errno: number): void {
    this.ctx.sink.event({ type: "disk-error", volume: this.number, operation: "flush", errno });
    this.#fail("flush error", true);
  }

  #fail(cause: string, flush: boolean = false): void {
    const peerListens = this.state.conn >= ConnState.Connected && this.state.pdsk >= DiskState.Inconsistent;
    // What was written since the last good flush may be missing here; the log of hot extents covers all of it.
    if (peerListens) {
      for (const extent of this.activity.hotExtents()) {
        const sector = extent * 8192;
        const sizeBytes = Math.min(8192, this.sizeSectors - sector) * 512;
        this.send({ kind: "P_OUT_OF_SYNC", volume: this.number, sector, sizeBytes });
      }
    }
    const unflushed = this.receiver.hasUnflushedWrites || !this.receiver.idle || flush;
    if (this.diskOptions.onIoError === "call-local-io-error") this.connection.runHandler("local-io-error");
    this.change({ disk: DiskState.Failed }, cause, true);
    this.dropDisk(cause);
    // Writes that were acknowledged and not flushed can never be barrier-acknowledged; only a new connection says so.
    if (unflushed && this.state.conn >= ConnState.Connected && this.state.role !== Role.Primary) {
      this.connection.fail(ConnState.NetworkFailure, "acknowledged writes are lost with the disk");
    }
  }

  /** From Failed to Diskless: nobody waits for this device any more. */
  dropDisk(cause: string): void {
    this.activity.close();
    this.meta.close();
    this.target.stop();
    this.disk.close();
    this.ctx.sink.closeDisk(this.number);
    if (this.state.disk !== DiskState.Diskless) this.change({ disk: DiskState.Diskless }, cause, true);
    this.attachment.dropped();
  }

  // Connection

  /** The connection is gone; the state says so already, so that completions wait for the new generation. */
  connectionLost(): void {
    this.receiver.connectionLost();
    this.source.connectionLost();
    this.target.stop();
    this.resync.connectionLost();
    this.writes.connectionLost();
    if (this.hasDisk && this.bitmap.dirtyPages > 0) this.meta.syncBitmap(() => {});
    this.checkSettled();
  }

  /** Calls back when no write is under way here and every epoch of now is acknowledged. */
  whenSettled(fn: () => void): void {
    this.writes.log.close();
    this.writes.hurry();
    this.#unsettled.push({ epoch: this.writes.log.epochs.at(-1), fn });
    this.checkSettled();
  }

  checkSettled(): void {
    if (this.#unsettled.length === 0 || this.writes.localPending > 0 || !this.receiver.idle) return;
    const { epochs } = this.writes.log;
    const ready = this.#unsettled.filter((one) => one.epoch === undefined || !epochs.includes(one.epoch));
    if (ready.length === 0) return;
    this.#unsettled = this.#unsettled.filter((one) => !ready.includes(one));
    for (const one of ready) this.ctx.later(one.fn);
  }

  /** disk-timeout: at `ms` the disk had been asked for everything up to `lastIo`. */
  #diskMark: { ms: number; lastIo: number } = { ms: 0, lastIo: 0 };

  /** A disk that leaves an operation unanswered for disk-timeout (twice that at most) is given up. */
  #checkDiskTimeout(): void {
    const { diskTimeoutMs } = this.diskOptions;
    const { nowMs } = this.ctx;
    if (diskTimeoutMs === 0 || nowMs < this.#diskMark.ms + diskTimeoutMs) return;
    const oldest = this.disk.oldestPending;
    const late = oldest !== undefined && oldest <= this.#diskMark.lastIo;
    this.#diskMark = { ms: nowMs, lastIo: this.disk.lastIo };
    if (!late || this.state.disk <= DiskState.Failed) return;
    this.ctx.note("error", "the disk did not answer within disk-timeout");
    this.#fail("disk timeout");
  }

  get #diskDeadlineMs(): number {
    const { diskTimeoutMs } = this.diskOptions;
    const waits = diskTimeoutMs > 0 && this.disk.pendingCount > 0;
    return waits ? this.#diskMark.ms + diskTimeoutMs : Number.POSITIVE_INFINITY;
  }

  nextDeadlineMs(): number {
    return Math.min(
      this.#diskDeadlineMs,
      this.target.nextDeadlineMs(),
      this.verify.nextDeadlineMs(),
      this.activity.nextDeadlineMs(),
      this.receiver.nextDeadlineMs(),
    );
  }

  tick(): void {
    this.#checkDiskTimeout();
    this.target.tick();
    this.verify.tick();
    this.receiver.tick();
    this.activity.tick(this.ctx.nowMs);
  }

  snapshot(): VolumeSnapshot {
    const { current, bitmap, history0, history1 } = this.uuids;
    return {
      volume: this.number,
      minor: this.options.minor,
      role: this.state.role,
      peerRole: this.state.peer,
      conn: this.state.conn,
      disk: this.state.disk,
      peerDisk: this.state.pdsk,
      sizeSectors: this.sizeSectors,
      uuids: { current, bitmap, history: [history0, history1] },
      metadataFlags: this.flags,
      outOfSyncBlocks: this.bitmap.count,
      netSentSectors: this.writes.sentSectors,
      netReceivedSectors: this.receiver.receivedSectors,
      diskWrittenSectors: this.disk.writtenSectors,
      diskReadSectors: this.disk.readSectors,
      alWrites: this.activity.transactions,
      bitmapWrites: this.meta.pageWrites,
      localPending: this.disk.pendingCount,
      peerPending: this.writes.peerPending,
      unacked: this.receiver.unacked,
      applicationPending: this.writes.applicationPending,
      epochs: this.writes.log.epochs.length,
      openers: this.openers,
      resync: this.resync.snapshot() ?? this.verify.snapshot(),
    };
  }
}
