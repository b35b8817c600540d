import { AL_EXTENT_SECTORS } from "../base/units.ts";
import { DataFlag, Feature } from "../wire/constants.ts";
import type { BlockRequestPacket, DataPacket, DiscardPacket, RangePacket } from "../wire/packets.ts";
import { ConnState, DiskState } from "../wire/state-word.ts";
import { BlockLock, LockKind } from "./block-locks.ts";
import { type FlushPatience, type ReceivedEpoch, ReceivedEpochs } from "./epochs.ts";
import { BARRIER_PATIENCE, PEER_READS_MAX, RECEIVED_WRITES_MAX } from "./limits.ts";
import type { Volume } from "./volume.ts";

const AT_ONCE: FlushPatience = { delayMs: 0, writes: 0, bytes: 0 };

class ReceivedWrite extends BlockLock {
  readonly receiver: Receiver;
  readonly packet: DataPacket | DiscardPacket;
  readonly sizeBytes: number;
  readonly epoch: ReceivedEpoch;
  /** Answers belong to the connection they came from. */
  readonly generation: number;
  holdsExtents = false;

  constructor(
    receiver: Receiver,
    packet: DataPacket | DiscardPacket,
    sizeBytes: number,
    epoch: ReceivedEpoch,
    generation: number,
  ) {
    super(LockKind.peerWrite, packet.sector, sizeBytes);
    this.receiver = receiver;
    this.packet = packet;
    this.sizeBytes = sizeBytes;
    this.epoch = epoch;
    this.generation = generation;
  }

  override granted(): void {
    this.receiver.granted(this);
  }
}

/**
 * The receiving side of replication: writes what the peer sends, answers each write, and acknowledges epochs once they
 * are flushed. Also serves the peer's reads.
 * @see DRBD 8.4 drbd_receiver.c
 */
export class Receiver {
  readonly #v: Volume;
  readonly #epochs: ReceivedEpochs;
  #generation = 0;
  #active = 0;
  #peerReads = 0;
  #throttled = false;
  /** Writes acknowledged so far, and how many of them the last good barrier flush covered. */
  #finished = 0;
  #flushed = 0;
  #held: ReceivedWrite[] = [];
  /** Reads for the peer that came behind a held write of the same blocks. */
  #behindHeld: { readonly sector: number; readonly sizeBytes: number; readonly start: () => void }[] = [];
  receivedSectors = 0;

  constructor(volume: Volume) {
    this.#v = volume;
    this.#epochs = new ReceivedEpochs(
      (done) => this.#flushEpoch(done),
      (barrier, setSize) => {
        volume.sendMeta({ kind: "P_BARRIER_ACK", volume: 0, barrier, setSize });
        this.#releaseHeld();
      },
      () => this.#patience(),
      () => volume.ctx.nowMs,
    );
  }

  get unacked(): number {
    return this.#active + this.#epochs.waiting;
  }

  /** Writes were acknowledged that a power loss here could still take away. */
  get hasUnflushedWrites(): boolean {
    return this.#finished > this.#flushed;
  }

  get idle(): boolean {
    return this.#active === 0;
  }

  /** Nothing that runs belongs to a living connection any more. */
  connectionLost(): void {
    this.#generation++;
    this.#epochs.reset();
    const held = this.#held;
    this.#held = [];
    this.#peerReads = 0;
    for (const write of held) this.#finish(write, false); // never begun: the sender knows that it has no barrier ack for them
    const waiting = this.#behindHeld;
    this.#behindHeld = [];
    for (const { start } of waiting) start();
  }

  #flushEpoch(done: (ok: boolean) => void): void {
    const v = this.#v;
    // a disk that is being detached still takes a flush, and still owes one
    if (!v.disk.isOpen || !v.diskOptions.diskFlushes || v.ctx.mutations.skipBarrierFlush === true) {
      v.ctx.later(() => done(true));
      return;
    }
    const covered = this.#finished;
    v.disk.flush((errno) => {
      if (errno === 0) this.#flushed = Math.max(this.#flushed, covered);
      done(errno === 0);
    });
  }

  /** P_DATA, P_TRIM, P_ZEROES. @returns false: outside of the device */
  write(packet: DataPacket | DiscardPacket): boolean {
    const v = this.#v;
    const sizeBytes = "data" in packet ? packet.data.length : packet.sizeBytes;
    if (sizeBytes % 512 !== 0 || packet.sector + sizeBytes / 512 > v.sizeSectors) return false;
    this.receivedSectors += sizeBytes >>> 9;
    const write = new ReceivedWrite(this, packet, sizeBytes, this.#epochs.begin(sizeBytes), this.#generation);
    this.#active++;
    if (this.#active >= RECEIVED_WRITES_MAX && !this.#throttled) {
      this.#throttled = true;
      v.ctx.sink.throttle("data-socket", true);
    }
    if (this.#epochs.waiting > 0 && v.connection.strictEpochs) this.#held.push(write);
    else this.#begin(write);
    return true;
  }

  #releaseHeld(): void {
    // Their own barrier may have come meanwhile (protocols A and B do not wait for these writes): it is not one to wait for.
    const ready = this.#held.filter((write) => this.#epochs.isOldest(write.epoch));
    this.#held = this.#held.filter((write) => !ready.includes(write));
    for (const write of ready) this.#begin(write);
    const waiting = this.#behindHeld;
    this.#behindHeld = [];
    for (const { sector, sizeBytes, start } of waiting) this.behindHeld(sector, sizeBytes, start);
  }

  /**
   * Starts a read on behalf of the peer behind the writes that it sent before and that still wait for an earlier epoch:
   * the locks know only writes that have begun.
   */
  behindHeld(sector: number, sizeBytes: number, start: () => void): void {
    const end = sector + sizeBytes / 512;
    const overlaps = this.#held.some(
      ({ packet, sizeBytes: length }) => packet.sector < end && sector < packet.sector + length / 512,
    );
    if (overlaps) this.#behindHeld.push({ sector, sizeBytes, start });
    else start();
  }

  #begin(write: ReceivedWrite): void {
    // only what will be written whatever becomes of the connection counts as received
    if ((write.packet.dpFlags & DataFlag.SEND_RECEIVE_ACK) !== 0) this.#ack(write, "P_RECV_ACK");
    this.#v.locks.acquire(write);
  }

  /** No earlier operation overlaps this write. */
  granted(write: ReceivedWrite): void {
    const v = this.#v;
    if (!v.hasDisk) {
      this.#finish(write, false);
      return;
    }
    // a peer that attaches may have sent this before its disk took part, and the bitmaps are just being compared
    const comparing = v.state.conn === ConnState.WFBitMapS;
    if ((v.state.pdsk >= DiskState.Inconsistent && !comparing) || write.generation !== this.#generation) {
      if (v.gate.passes) this.#submit(write);
      else v.gate.pass(() => this.#submit(write));
      return;
    }
    // I hold the only copy: what the peer's disk misses has to be on record, as on a Primary without a peer
    const first = Math.floor(write.packet.sector / AL_EXTENT_SECTORS);
    const last = Math.floor((write.packet.sector + write.sizeBytes / 512 - 1) / AL_EXTENT_SECTORS);
    v.activity.begin(first, last, (ok) => {
      write.holdsExtents = ok;
      v.gate.pass(() => {
        v.markOutOfSync(write.packet.sector, write.sizeBytes);
        if (v.state.conn === ConnState.WFBitMapS) {
          const { sector } = write.packet;
          v.send({ kind: "P_OUT_OF_SYNC", volume: v.number, sector, sizeBytes: write.sizeBytes });
        }
        this.#submit(write);
      });
    });
  }

  #submit(write: ReceivedWrite): void {
    const v = this.#v;
    const { packet } = write;
    if (!v.hasDisk) {
      this.#finish(write, false);
      return;
    }
    const done = (errno: number): void => {
      if (errno !== 0) v.diskError("write", errno);
      this.#finish(write, errno === 0);
    };
    const fua = (packet.dpFlags & DataFlag.FUA) !== 0;
    if ("data" in packet) {
      v.disk.write(packet.sector, packet.data, fua, done);
    } else if (packet.kind === "P_ZEROES") {
      v.disk.zero(packet.sector, write.sizeBytes, (packet.dpFlags & DataFlag.DISCARD) !== 0, done);
    } else if ((v.connection.features & Feature.WZEROES) === 0) {
      v.disk.zero(packet.sector, write.sizeBytes, false, done); // older senders mean zeroes
    } else {
      v.disk.discard(packet.sector, write.sizeBytes, done);
    }
  }

  #finish(write: ReceivedWrite, ok: boolean): void {
    const v = this.#v;
    const { packet } = write;
    v.locks.release(write);
    if (write.holdsExtents) {
      const first = Math.floor(packet.sector / AL_EXTENT_SECTORS);
      v.activity.end(first, Math.floor((packet.sector + write.sizeBytes / 512 - 1) / AL_EXTENT_SECTORS));
    }
    this.#forget(write);
    if (write.generation !== this.#generation) return;
    if (ok) {
      this.#finished++;
      // The block's bit stays: only a flushed write may be called in sync, and the resync will come by.
      if ((packet.dpFlags & DataFlag.SEND_WRITE_ACK) !== 0) this.#ack(write, "P_WRITE_ACK");
    } else {
      v.target.forget(packet.sector, write.sizeBytes);
      v.markOutOfSync(packet.sector, write.sizeBytes);
      this.#ack(write, "P_NEG_ACK");
    }
    this.#epochs.end(write.epoch);
  }

  /** It is written, or never will be. */
  #forget({ packet }: ReceivedWrite): void {
    const v = this.#v;
    if ("data" in packet) v.ctx.sink.releaseBytes(packet.data);
    this.#active--;
    if (this.#throttled && this.#active <= RECEIVED_WRITES_MAX / 2) {
      this.#throttled = false;
      v.ctx.sink.throttle("data-socket", false);
    }
    v.checkSettled();
  }

  #ack(write: ReceivedWrite, kind: "P_RECV_ACK" | "P_WRITE_ACK" | "P_NEG_ACK"): void {
    const { volume, sector, idHigh, idLow } = write.packet;
    const seqNum = this.#v.nextSequence();
    this.#v.sendMeta({ kind, volume, sector, idHigh, idLow, sizeBytes: write.sizeBytes, seqNum });
  }

  /** Only a peer that says when it waits may be kept waiting, and less long than its timeout for requests. */
  #patience(): FlushPatience {
    const { connection, ctx } = this.#v;
    if (connection.strictEpochs) return AT_ONCE;
    const { koCount, timeoutMs } = ctx.options.net;
    const limitMs = koCount === 0 ? Infinity : (koCount * timeoutMs) / 8;
    return { ...BARRIER_PATIENCE, delayMs: Math.min(BARRIER_PATIENCE.delayMs, limitMs) };
  }

  /** P_UNPLUG_REMOTE: somebody at the peer waits for our barrier acks. */
  hurry(): void {
    this.#epochs.hurry();
  }

  nextDeadlineMs(): number {
    return this.#epochs.dueMs;
  }

  tick(): void {
    this.#epochs.tick();
  }

  barrier(barrier: number): void {
    this.#epochs.barrier(barrier);
  }

  /** P_OUT_OF_SYNC: the peer wrote there without sending it. */
  outOfSync(packet: RangePacket): void {
    this.#v.markOutOfSync(packet.sector, packet.sizeBytes);
  }

  /** P_DATA_REQUEST: a read by an application on the peer. @returns false: outside of the device, or far too many */
  read(packet: BlockRequestPacket): boolean {
    const v = this.#v;
    const { volume, sector, idHigh, idLow, sizeBytes } = packet;
    if (sector + sizeBytes / 512 > v.sizeSectors || ++this.#peerReads > PEER_READS_MAX) return false;
    const generation = this.#generation;
    const refuse = (): void => {
      v.sendMeta({ kind: "P_NEG_DREPLY", volume, sector, idHigh, idLow, sizeBytes, seqNum: v.nextSequence() });
    };
    const lock = new BlockLock(LockKind.read, sector, sizeBytes, () => {
      if (generation !== this.#generation) return;
      if (!v.hasDisk || v.state.disk !== DiskState.UpToDate) {
        this.#peerReads--;
        refuse();
        return;
      }
      v.disk.read(sector, sizeBytes, (errno, bytes) => {
        if (errno !== 0) v.diskError("read", errno);
        if (generation !== this.#generation || v.state.conn < ConnState.Connected) return;
        this.#peerReads--;
        if (errno !== 0 || bytes === undefined) {
          refuse();
          return;
        }
        const head = { volume, sector, idHigh, idLow, seqNum: 0, dpFlags: 0 };
        v.send({ kind: "P_DATA_REPLY", ...head, ...v.connection.digestOf(bytes), data: bytes });
      });
    });
    v.locks.acquire(lock);
    return true;
  }
}
