import { AL_EXTENT_SECTORS } from "../base/units.ts";
import { DataFlag, Feature } from "../wire/constants.ts";
import type { BarrierAckPacket, BlockAckPacket, DataPacket } from "../wire/packets.ts";
import { ConnState, DiskState, Role } from "../wire/state-word.ts";
import { BlockLock, LockKind } from "./block-locks.ts";
import { type SendEpoch, TransferLog } from "./epochs.ts";
import {
  APPLICATION_REQUESTS_MAX,
  DISCARD_PART_BYTES_MAX,
  DISCARD_PART_BYTES_MAX_OLD,
  SEND_QUEUE_BYTES_HIGH,
  WRITE_PART_BYTES_MAX,
} from "./limits.ts";
import { Errno, type RequestId } from "./ports.ts";
import type { Volume } from "./volume.ts";

type PartKind = "write" | "discard" | "zero" | "zero-unmap";

const ZEROES: Uint8Array = new Uint8Array(WRITE_PART_BYTES_MAX);

/** A request of the application, answered when all of its parts are. */
class ApplicationRequest {
  readonly id: RequestId;
  open: number;
  errno = 0;

  constructor(id: RequestId, parts: number) {
    this.id = id;
    this.open = parts;
  }
}

/** A piece of a write that travels in one packet and is tracked until the peer acknowledged its epoch. */
export class WritePart extends BlockLock {
  readonly path: WritePath;
  readonly request: ApplicationRequest;
  readonly kind: PartKind;
  readonly sector: number;
  readonly sizeBytes: number;
  readonly data: Uint8Array | undefined;
  readonly fua: boolean;
  /** Token of P_DATA; the peer echoes it. */
  token = 0;
  epoch: SendEpoch | undefined = undefined;
  sentMs = 0;
  holdsExtents = false;
  local: "none" | "pending" | "ok" | "failed" = "none";
  /** none: not replicated; pending: no answer that the protocol waits for yet. */
  net: "none" | "pending" | "ok" | "failed" = "none";
  /** The barrier ack has come, or never will. */
  netDone = true;
  inSyncByPeer = false;
  completed = false;

  constructor(
    path: WritePath,
    request: ApplicationRequest,
    kind: PartKind,
    sector: number,
    sizeBytes: number,
    data: Uint8Array | undefined,
    fua: boolean,
  ) {
    super(LockKind.appWrite, sector, sizeBytes);
    this.path = path;
    this.request = request;
    this.kind = kind;
    this.sector = sector;
    this.sizeBytes = sizeBytes;
    this.data = data;
    this.fua = fua;
  }

  override granted(): void {
    this.path.granted(this);
  }

  get firstExtent(): number {
    return Math.floor(this.sector / AL_EXTENT_SECTORS);
  }

  get lastExtent(): number {
    return Math.floor((this.sector + (this.sizeBytes >>> 9) - 1) / AL_EXTENT_SECTORS);
  }
}

interface FlushWait {
  readonly request: RequestId;
  localPending: boolean;
  localOk: boolean;
  /** Waits for the acknowledgement of this epoch and so of all before it. */
  epoch: SendEpoch | undefined;
  remoteOk: boolean;
}

/**
 * What happens to a write of the application: overlap → activity log → epoch, then locally and on the wire side by side →
 * completion when the local disk has it and the peer has it on disk (protocol C), in memory (B) or on the way (A) → the
 * end, when the peer acknowledged the barrier.
 * @see DRBD 8.4 drbd_req.c
 */
export class WritePath {
  readonly #v: Volume;
  log: TransferLog;
  readonly #byToken: Map<number, WritePart> = new Map();
  #flushes: FlushWait[] = [];
  /** Protocol A: sent while the socket had more than enough to do; completed when it has caught up. */
  readonly #queued: WritePart[] = [];
  #lastToken = 0;
  #applicationPending = 0;
  #localPending = 0;
  #throttled = false;
  sentSectors = 0;

  constructor(volume: Volume) {
    this.#v = volume;
    this.log = this.#newLog();
  }

  #newLog(): TransferLog {
    const v = this.#v;
    return new TransferLog(
      (packet) => {
        v.send(packet);
        if (v.activity.starved) this.hurry();
      },
      v.ctx.options.net.maxEpochSize,
      v.ctx.random.below(0x7fffffff),
      () => v.ctx.nowMs,
    );
  }

  get applicationPending(): number {
    return this.#applicationPending;
  }

  /** Writes that the local disk has not answered. */
  get localPending(): number {
    return this.#localPending;
  }

  /** Writes that were sent and not answered. */
  get peerPending(): number {
    return this.#byToken.size;
  }

  submit(
    id: RequestId,
    kind: PartKind,
    sector: number,
    sizeBytes: number,
    data: Uint8Array | undefined,
    fua: boolean,
  ): void {
    const v = this.#v;
    if (sizeBytes <= 0 || sizeBytes % 512 !== 0 || sector < 0 || sector + sizeBytes / 512 > v.sizeSectors) {
      v.ctx.sink.complete(id, sizeBytes === 0 ? 0 : Errno.invalid);
      return;
    }
    if (v.state.role !== Role.Primary) {
      v.ctx.sink.complete(id, Errno.io);
      return;
    }
    const partMax = this.#partMax(kind);
    const request = new ApplicationRequest(id, Math.ceil(sizeBytes / partMax));
    this.#began();
    for (let at = 0; at < sizeBytes; at += partMax) {
      const length = Math.min(partMax, sizeBytes - at);
      const bytes = data === undefined || length === sizeBytes ? data : data.subarray(at, at + length);
      v.locks.acquire(new WritePart(this, request, kind, sector + at / 512, length, bytes, fua));
    }
  }

  #partMax(kind: PartKind): number {
    // a kernel would take a digest for part of P_ZEROES: with data-integrity-alg zeroes travel as data
    const asData = kind === "write" || (kind !== "discard" && this.#v.ctx.options.net.dataIntegrityAlg !== "");
    if (asData) return Math.min(WRITE_PART_BYTES_MAX, this.#v.peerMaxBioBytes);
    const features = this.#v.connection.features;
    const wide = !this.#v.connection.connected || (features & Feature.WSAME) !== 0;
    return wide ? DISCARD_PART_BYTES_MAX : DISCARD_PART_BYTES_MAX_OLD;
  }

  #began(): void {
    this.#applicationPending++;
    if (this.#applicationPending >= APPLICATION_REQUESTS_MAX && !this.#throttled) {
      this.#throttled = true;
      this.#v.ctx.sink.throttle("application", true);
    }
  }

  #answer(id: RequestId, errno: number, data?: Uint8Array): void {
    this.#applicationPending--;
    this.#v.ctx.sink.complete(id, errno, data);
    if (this.#throttled && this.#applicationPending <= APPLICATION_REQUESTS_MAX / 2) {
      this.#throttled = false;
      this.#v.ctx.sink.throttle("application", false);
    }
  }

  /** No earlier operation overlaps this part. */
  granted(part: WritePart): void {
    const v = this.#v;
    if (!v.hasDisk) {
      this.#passGate(part);
      return;
    }
    part.holdsExtents = true;
    if (v.activity.tryBegin(part.firstExtent, part.lastExtent)) {
      this.#passGate(part);
      return;
    }
    v.activity.begin(part.firstExtent, part.lastExtent, (ok) => {
      if (!ok) part.holdsExtents = false;
      this.#passGate(part);
    });
  }

  #passGate(part: WritePart): void {
    const { gate } = this.#v;
    if (gate.passes) this.#issue(part);
    else gate.pass(() => this.#issue(part));
  }

  /** The moment that decides where the write goes; the state may have changed while it waited. */
  #issue(part: WritePart): void {
    const v = this.#v;
    const { disk, pdsk, conn } = v.state;
    if (v.state.role !== Role.Primary || (disk !== DiskState.UpToDate && pdsk !== DiskState.UpToDate)) {
      this.#finishPart(part, Errno.io);
      return;
    }
    const local = v.hasDisk;
    // A disk that came while this write waited has no activity-log reference for it.
    if (local && !part.holdsExtents) {
      this.granted(part);
      return;
    }
    const replicate =
      conn >= ConnState.Connected &&
      conn < ConnState.Ahead &&
      conn !== ConnState.WFBitMapS &&
      (pdsk === DiskState.UpToDate || (pdsk >= DiskState.Inconsistent && conn >= ConnState.WFBitMapT));
    if (replicate) this.#replicate(part);
    else {
      this.log.close(); // an epoch holds replicated writes only
      if (local) this.#localOnly(part);
    }
    if (local) {
      part.local = "pending";
      this.#localPending++;
      this.#writeLocally(part);
    } else if (!replicate) {
      this.#finishPart(part, Errno.io);
    } else {
      v.markOutOfSync(part.sector, part.sizeBytes); // a disk that is just being attached misses this write
    }
  }

  #localOnly(part: WritePart): void {
    const v = this.#v;
    const changed = v.bitmap.setRange(part.sector, part.sizeBytes >>> 9);
    const tells = v.state.conn === ConnState.WFBitMapS || v.state.conn === ConnState.Ahead;
    if (tells && changed > 0) {
      v.send({ kind: "P_OUT_OF_SYNC", volume: v.number, sector: part.sector, sizeBytes: part.sizeBytes });
    }
  }

  #replicate(part: WritePart): void {
    const v = this.#v;
    this.#lastToken = this.#lastToken >= 0x7fffffff ? 1 : this.#lastToken + 1;
    part.token = this.#lastToken;
    part.net = "pending";
    part.netDone = false;
    part.sentMs = v.ctx.nowMs;
    part.epoch = this.log.join(part);
    this.#byToken.set(part.token, part);
    const syncing = v.state.conn >= ConnState.SyncSource && v.state.conn <= ConnState.PausedSyncT;
    const protocol = v.connection.protocol;
    let dpFlags: number = DataFlag.RW_SYNC | (part.fua ? DataFlag.FUA : 0);
    if (syncing) dpFlags |= DataFlag.MAY_SET_IN_SYNC;
    // where this disk is not good, what the peer has is all there is: such a write waits for it under every protocol
    const onlyThere = v.state.disk !== DiskState.UpToDate;
    if (syncing || onlyThere || protocol === "C") dpFlags |= DataFlag.SEND_WRITE_ACK;
    if (protocol === "B") dpFlags |= DataFlag.SEND_RECEIVE_ACK;
    this.sentSectors += part.sizeBytes >>> 9;
    this.#sendPart(part, dpFlags);
    this.log.joined(part.epoch);
    if (protocol !== "A" || onlyThere) return;
    if (v.connection.sendQueueBytes < SEND_QUEUE_BYTES_HIGH) part.net = "ok";
    else this.#queued.push(part);
  }

  /** The data socket has room again: with protocol A what is queued on it counts as handed over. */
  sendQueueShrank(): void {
    for (const part of this.#queued.splice(0)) {
      if (part.net !== "pending") continue;
      part.net = "ok";
      this.#advance(part);
    }
  }

  #sendPart(part: WritePart, dpFlags: number): void {
    const v = this.#v;
    const { sector, sizeBytes } = part;
    // with protocol A the application gets its memory back before the socket has taken the bytes
    const zeroes = part.kind === "zero" || part.kind === "zero-unmap";
    const filled = zeroes && v.connection.hasDigest && sizeBytes <= ZEROES.length;
    const data = filled
      ? ZEROES.subarray(0, sizeBytes)
      : v.connection.protocol === "A"
        ? part.data?.slice()
        : part.data;
    const head = { volume: v.number, sector, idHigh: 0, idLow: part.token, seqNum: v.nextSequence() };
    if (data !== undefined && !v.connection.hasDigest) {
      // written out: every packet of the data path has the same shape
      const { volume, idHigh, idLow, seqNum } = head;
      v.send({ kind: "P_DATA", volume, sector, idHigh, idLow, seqNum, dpFlags, data });
    } else if (data !== undefined) {
      v.send({ kind: "P_DATA", ...head, dpFlags, ...v.connection.digestOf(data), data });
    } else if (part.kind === "discard" || (v.connection.features & Feature.WZEROES) === 0) {
      v.send({ kind: "P_TRIM", ...head, dpFlags: dpFlags | DataFlag.DISCARD, sizeBytes });
    } else {
      const unmap = part.kind === "zero-unmap" ? DataFlag.DISCARD : 0;
      v.send({ kind: "P_ZEROES", ...head, dpFlags: dpFlags | DataFlag.ZEROES | unmap, sizeBytes });
    }
  }

  #writeLocally(part: WritePart): void {
    const disk = this.#v.disk;
    const done = (errno: number): void => this.#localDone(part, errno);
    if (part.data !== undefined) disk.write(part.sector, part.data, part.fua, done);
    else if (part.kind === "discard") disk.discard(part.sector, part.sizeBytes, done);
    else disk.zero(part.sector, part.sizeBytes, part.kind === "zero-unmap", done);
  }

  #localDone(part: WritePart, errno: number): void {
    part.local = errno === 0 ? "ok" : "failed";
    this.#localPending--;
    if (errno !== 0) {
      this.#v.markOutOfSync(part.sector, part.sizeBytes);
      this.#v.diskError("write", errno);
    }
    this.#advance(part);
    this.#v.checkSettled();
  }

  #advance(part: WritePart): void {
    if (!part.completed && part.local !== "pending" && part.net !== "pending") {
      // A disk that is being brought up to date is not where the data is: such a write counts only with the peer's.
      const localCounts = part.local === "ok" && this.#v.state.disk === DiskState.UpToDate;
      const good = localCounts || part.net === "ok";
      part.completed = true;
      if (part.epoch !== undefined && !part.netDone) this.log.completed(part.epoch);
      // What the application hears must not be newer than what the metadata says about the two disks.
      if (this.#v.gate.passes) this.#finishPart(part, good ? 0 : Errno.io);
      else this.#v.gate.pass(() => this.#finishPart(part, good ? 0 : Errno.io));
    }
    if (part.holdsExtents && part.netDone && part.local !== "pending" && part.completed) {
      part.holdsExtents = false;
      this.#v.activity.end(part.firstExtent, part.lastExtent);
    }
  }

  #finishPart(part: WritePart, errno: number): void {
    if (part.holdsExtents && part.local === "none" && part.netDone) {
      part.holdsExtents = false;
      this.#v.activity.end(part.firstExtent, part.lastExtent);
    }
    this.#v.locks.release(part);
    const request = part.request;
    if (errno !== 0) request.errno = errno;
    request.open--;
    if (request.open === 0) this.#answer(request.id, request.errno);
  }

  /** P_RECV_ACK, P_WRITE_ACK, P_RS_WRITE_ACK, P_NEG_ACK with a token of ours. @returns false: no such write */
  acknowledged(packet: BlockAckPacket): boolean {
    const part = this.#byToken.get(packet.idLow);
    if (part === undefined || packet.idHigh !== 0 || part.sector !== packet.sector) return false;
    const v = this.#v;
    if (packet.kind === "P_RECV_ACK" && v.connection.protocol !== "B") return true;
    if (packet.kind !== "P_RECV_ACK") this.#byToken.delete(part.token);
    if (packet.kind === "P_NEG_ACK") {
      v.markOutOfSync(part.sector, part.sizeBytes);
      part.net = "failed";
      v.peerWriteFailed();
    } else {
      if (part.net === "pending") part.net = "ok";
      if (packet.kind === "P_RS_WRITE_ACK") part.inSyncByPeer = true;
    }
    if (part.inSyncByPeer && part.local === "ok") v.clearOutOfSync(part.sector, part.sizeBytes);
    this.#advance(part);
    return true;
  }

  /** @returns false: the answer does not fit, the connection has to be dropped */
  barrierAcknowledged(packet: BarrierAckPacket): boolean {
    const epoch = this.log.acknowledge(packet.barrier, packet.setSize);
    if (epoch === undefined) return false;
    for (const part of epoch.parts) this.#endPart(part);
    for (const flush of this.#flushes) {
      if (flush.epoch !== epoch) continue;
      flush.epoch = undefined;
      flush.remoteOk = true;
    }
    this.#checkFlushes();
    this.#v.checkSettled();
    return true;
  }

  #endPart(part: WritePart): void {
    this.#byToken.delete(part.token);
    part.netDone = true;
    if (part.net === "pending") part.net = "ok"; // a barrier ack stands for every write of its epoch
    this.#advance(part);
  }

  /** The peer's disk is gone but the connection stays: what it did not confirm as durable counts as not written. */
  peerDiskLost(): void {
    for (const epoch of this.log.epochs) {
      for (const part of epoch.parts) this.#v.markOutOfSync(part.sector, part.sizeBytes);
    }
  }

  /** Nothing of the transfer log will be acknowledged any more. */
  connectionLost(): void {
    const v = this.#v;
    this.#queued.length = 0;
    for (const epoch of this.log.clear()) {
      for (const part of epoch.parts) {
        v.markOutOfSync(part.sector, part.sizeBytes);
        part.netDone = true;
        if (part.net === "pending") part.net = "failed";
        this.#advance(part);
      }
    }
    this.#byToken.clear();
    for (const flush of this.#flushes) flush.epoch = undefined;
    this.#checkFlushes();
    this.log = this.#newLog();
    this.#retryReads();
  }

  /** Somebody waits for barrier acks, and the peer, if it is one of ours, takes its time with them unless told. */
  hurry(): void {
    const v = this.#v;
    if (this.log.epochs[0]?.closed !== true || v.connection.strictEpochs) return;
    v.send({ kind: "P_UNPLUG_REMOTE", volume: 0 });
  }

  /**
   * An empty flush of the application: durable here, and the barrier acks of everything completed before. With protocol A
   * the peer may be behind by design, so that the local disk alone answers while it is good.
   */
  flush(id: RequestId): void {
    const v = this.#v;
    if (v.state.role !== Role.Primary) {
      v.ctx.sink.complete(id, Errno.io);
      return;
    }
    this.#began();
    this.log.close();
    const wait: FlushWait = {
      request: id,
      localPending: v.hasDisk,
      localOk: false,
      epoch:
        v.connection.protocol === "A" && v.state.disk === DiskState.UpToDate ? undefined : this.log.lastCompleted(),
      remoteOk: false,
    };
    if (wait.epoch === undefined) wait.remoteOk = v.state.pdsk === DiskState.UpToDate;
    this.#flushes.push(wait);
    if (wait.epoch !== undefined) this.hurry();
    if (v.hasDisk) {
      v.disk.flush((errno) => {
        wait.localPending = false;
        wait.localOk = errno === 0;
        this.#checkFlushes();
      });
    } else {
      v.ctx.later(() => this.#checkFlushes());
    }
  }

  #checkFlushes(): void {
    const ready = this.#flushes.filter((flush) => !flush.localPending && flush.epoch === undefined);
    if (ready.length === 0) return;
    this.#flushes = this.#flushes.filter((flush) => flush.localPending || flush.epoch !== undefined);
    for (const flush of ready) {
      this.#v.gate.pass(() => this.#answer(flush.request, flush.localOk || flush.remoteOk ? 0 : Errno.io));
    }
  }

  /** Oldest write that waits for an answer or a barrier ack, for the request timer; undefined: none. */
  oldestWaitMs(): number | undefined {
    const epoch = this.log.epochs[0];
    if (epoch === undefined) return undefined;
    const { parts } = epoch;
    while (epoch.answered < parts.length && parts[epoch.answered]?.net !== "pending") epoch.answered++;
    const open = parts[epoch.answered];
    if (open !== undefined) return open.sentMs;
    return epoch.closed ? epoch.barrierSentMs : undefined;
  }

  // Reads

  readonly #remoteReads: Map<
    number,
    { sector: number; lengthBytes: number; done: (data: Uint8Array | undefined) => void }
  > = new Map();

  read(id: RequestId, sector: number, lengthBytes: number): void {
    const v = this.#v;
    if (lengthBytes <= 0 || lengthBytes % 512 !== 0 || sector < 0 || sector + lengthBytes / 512 > v.sizeSectors) {
      v.ctx.sink.complete(id, Errno.invalid);
      return;
    }
    this.#began();
    v.locks.acquire(
      new BlockLock(LockKind.read, sector, lengthBytes, () => this.#readNow(id, sector, lengthBytes, true)),
    );
  }

  #readNow(id: RequestId, sector: number, lengthBytes: number, tryLocal: boolean): void {
    const v = this.#v;
    const { disk } = v.state;
    const readable =
      disk === DiskState.UpToDate ||
      (disk === DiskState.Inconsistent &&
        !v.bitmap.anySet(sector, lengthBytes >>> 9) &&
        v.state.conn > ConnState.Connected);
    if (tryLocal && v.hasDisk && readable) {
      v.disk.read(sector, lengthBytes, (errno, bytes) => {
        if (errno === 0) {
          this.#answer(id, 0, bytes);
          return;
        }
        v.diskError("read", errno);
        this.#readNow(id, sector, lengthBytes, false);
      });
      return;
    }
    if (v.state.pdsk !== DiskState.UpToDate || v.state.conn < ConnState.Connected) {
      if (v.suspended) v.gate.pass(() => this.#readNow(id, sector, lengthBytes, true));
      else this.#answer(id, Errno.io);
      return;
    }
    this.#readFromPeer(id, sector, lengthBytes);
  }

  #readFromPeer(id: RequestId, sector: number, lengthBytes: number): void {
    const v = this.#v;
    const result = new Uint8Array(lengthBytes);
    const pieceMax = Math.min(WRITE_PART_BYTES_MAX, v.peerMaxBioBytes);
    let open = Math.ceil(lengthBytes / pieceMax);
    let failed = false;
    this.log.close(); // the peer must not read past a barrier that was not sent
    for (let at = 0; at < lengthBytes; at += pieceMax) {
      const length = Math.min(pieceMax, lengthBytes - at);
      this.#lastToken = this.#lastToken >= 0x7fffffff ? 1 : this.#lastToken + 1;
      const token = this.#lastToken;
      const done = (data: Uint8Array | undefined): void => {
        if (data === undefined) failed = true;
        else result.set(data, at);
        open--;
        if (open > 0) return;
        if (failed) this.#readAgain(id, sector, lengthBytes);
        else this.#answer(id, 0, result);
      };
      this.#remoteReads.set(token, { sector: sector + at / 512, lengthBytes: length, done });
      v.send({
        kind: "P_DATA_REQUEST",
        volume: v.number,
        sector: sector + at / 512,
        idHigh: 0,
        idLow: token,
        sizeBytes: length,
      });
    }
  }

  #readAgain(id: RequestId, sector: number, lengthBytes: number): void {
    const v = this.#v;
    if (v.hasDisk && v.state.disk === DiskState.UpToDate) this.#readNow(id, sector, lengthBytes, true);
    else if (v.suspended) v.gate.pass(() => this.#readNow(id, sector, lengthBytes, true));
    else this.#answer(id, Errno.io);
  }

  /** P_DATA_REPLY. @returns false: nobody asked for it */
  dataReply(packet: DataPacket): boolean {
    const read = this.#remoteReads.get(packet.idLow);
    if (read === undefined || read.sector !== packet.sector || read.lengthBytes !== packet.data.length) return false;
    this.#remoteReads.delete(packet.idLow);
    read.done(packet.data);
    this.#v.ctx.sink.releaseBytes(packet.data);
    return true;
  }

  /** P_NEG_DREPLY. */
  readRefused(packet: BlockAckPacket): boolean {
    const read = this.#remoteReads.get(packet.idLow);
    if (read === undefined) return false;
    this.#remoteReads.delete(packet.idLow);
    read.done(undefined);
    return true;
  }

  #retryReads(): void {
    const reads = [...this.#remoteReads.values()];
    this.#remoteReads.clear();
    for (const read of reads) read.done(undefined);
  }
}
