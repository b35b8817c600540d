import { BLOCK_SIZE, SECTORS_PER_BLOCK } from "../base/units.ts";
import { ID_IN_SYNC, ID_OUT_OF_SYNC, ID_SYNCER_HIGH, ID_SYNCER_LOW } from "../wire/constants.ts";
import { type DigestAlgorithm, digestAlgorithm, sameDigest } from "../wire/digest.ts";
import type { BlockAckPacket, BlockRequestPacket, DigestRequestPacket } from "../wire/packets.ts";
import { ConnState } from "../wire/state-word.ts";
import { BlockLock, LockKind } from "./block-locks.ts";
import { PEER_READS_MAX, RESYNC_STEP_MS, SEND_QUEUE_BYTES_HIGH } from "./limits.ts";
import type { ResyncProgress } from "./ports.ts";
import { ResyncRate } from "./resync-rate.ts";
import type { Volume } from "./volume.ts";

interface VerifyBlock {
  readonly sector: number;
  readonly sizeBytes: number;
  /** Keeps the application's writes of this node out from the request to the result. */
  readonly request: BlockLock;
  sent: boolean;
  comparing: boolean;
}

/**
 * Online verify: the node where it was asked for (VerifyS) walks over the device and compares its digests with those of
 * the peer (VerifyT). What differs is marked out of sync on both sides and reported; nothing is repaired before the next
 * resync. Blocks are compared while nothing writes to them, here or there.
 * @see DRBD 8.4 drbd_worker.c w_make_ov_request
 */
export class Verify {
  readonly #v: Volume;
  readonly #rate: ResyncRate;
  readonly #inFlight: Map<number, VerifyBlock> = new Map();
  #side: "source" | "target" | undefined;
  #generation = 0;
  /** Next block to ask for, first block that is not asked for any more. */
  #cursor = 0;
  #end = 0;
  #total = 0;
  #left = 0;
  #reads = 0;
  #outOfSync = 0;
  /** Blocks that differ and lie side by side, reported as one. */
  #range: { sector: number; sectors: number } | undefined;
  #startedMs = 0;
  #stepAt = Infinity;
  #finishing = false;
  /** Where a verify that did not come to its end goes on, unless told otherwise. */
  resumeSector = 0;

  constructor(volume: Volume) {
    this.#v = volume;
    this.#rate = new ResyncRate(() => volume.resyncTuning);
  }

  get #algorithm(): DigestAlgorithm | undefined {
    return digestAlgorithm(this.#v.connection.verifyAlg);
  }

  nextDeadlineMs(): number {
    return this.#stepAt;
  }

  tick(): void {
    if (this.#v.ctx.nowMs >= this.#stepAt) this.#step();
  }

  /**
   * The peer agreed and the state is VerifyS.
   * @param stopSector first sector that is not compared; undefined: the end of the device
   */
  start(startSector: number, stopSector: number | undefined): void {
    const v = this.#v;
    const { bits } = v.bitmap;
    const stops = v.connection.version >= 97 && v.connection.version !== 100;
    if (stopSector !== undefined && !stops) {
      v.ctx.note("warn", `verify goes on to the end: protocol ${v.connection.version} knows no stop`);
    }
    this.#begin("source", Math.floor(startSector / SECTORS_PER_BLOCK));
    this.#end = stopSector === undefined || !stops ? bits : Math.min(bits, Math.ceil(stopSector / SECTORS_PER_BLOCK));
    this.#total = this.#left = Math.max(0, this.#end - this.#cursor);
    this.#rate.reset();
    this.#stepAt = v.ctx.nowMs;
    v.ctx.later(() => this.#step());
  }

  #begin(side: "source" | "target", firstBlock: number): void {
    const v = this.#v;
    this.#side = side;
    this.#generation++;
    this.#finishing = false;
    this.#cursor = firstBlock;
    this.#end = v.bitmap.bits;
    this.#total = this.#left = Math.max(0, this.#end - firstBlock);
    this.#outOfSync = 0;
    this.#range = undefined;
    this.#startedMs = v.ctx.nowMs;
    v.ctx.sink.event({
      type: "verify-start",
      volume: v.number,
      role: side,
      startSector: firstBlock * SECTORS_PER_BLOCK,
      blocks: this.#total,
    });
  }

  /** The state left VerifyS or VerifyT, with or without an end. */
  ended(): void {
    const v = this.#v;
    if (this.#side === undefined) return;
    const side = this.#side;
    const done = side === "target" ? v.state.conn === ConnState.Connected : this.#finishing;
    this.#side = undefined;
    this.#generation++;
    this.#stepAt = Infinity;
    this.#reads = 0;
    this.resumeSector = done ? 0 : (this.#end - this.#left) * SECTORS_PER_BLOCK;
    for (const block of this.#inFlight.values()) v.locks.release(block.request);
    this.#inFlight.clear();
    this.#report();
    const outOfSyncBlocks = this.#outOfSync;
    const ms = v.ctx.nowMs - this.#startedMs;
    v.ctx.sink.event({ type: "verify-end", volume: v.number, done, blocks: this.#total, outOfSyncBlocks, ms });
    if (!done) v.ctx.note("warn", `verify ended early; the next one goes on at sector ${this.resumeSector}`);
    if (v.bitmap.count === 0) return;
    v.ctx.note("error", `Online verify found ${outOfSyncBlocks} 4k block out of sync!`);
    v.connection.runHandler("out-of-sync");
  }

  snapshot(): ResyncProgress | undefined {
    if (this.#side === undefined) return undefined;
    return {
      totalBlocks: this.#total,
      leftBlocks: this.#left,
      failedBlocks: 0,
      startedMs: this.#startedMs,
      elapsedMs: this.#v.ctx.nowMs - this.#startedMs,
    };
  }

  // The side that asks

  #step(): void {
    const v = this.#v;
    if (this.#side !== "source" || this.#finishing || v.state.conn !== ConnState.VerifyS) {
      this.#stepAt = Infinity;
      return;
    }
    this.#stepAt = v.ctx.nowMs + RESYNC_STEP_MS;
    let budget = this.#rate.step(this.#inFlight.size);
    const window = Math.max(1, v.ctx.options.net.maxBuffers >>> 1);
    while (budget > 0 && this.#cursor < this.#end && this.#inFlight.size < window) {
      if (v.connection.sendQueueBytes >= SEND_QUEUE_BYTES_HIGH) break;
      this.#ask(this.#cursor++);
      budget--;
    }
    this.#checkEnd();
  }

  #ask(bit: number): void {
    const v = this.#v;
    const sector = bit * SECTORS_PER_BLOCK;
    const sizeBytes = Math.min(BLOCK_SIZE, (v.sizeSectors - sector) * 512);
    const request = new BlockLock(LockKind.resyncRequest, sector, sizeBytes, () => {
      const block = this.#inFlight.get(sector);
      if (block?.request !== request || block.sent) return;
      block.sent = true;
      v.send({
        kind: "P_OV_REQUEST",
        volume: v.number,
        sector,
        idHigh: ID_SYNCER_HIGH,
        idLow: ID_SYNCER_LOW,
        sizeBytes,
      });
    });
    this.#inFlight.set(sector, { sector, sizeBytes, request, sent: false, comparing: false });
    v.locks.acquire(request);
  }

  /** P_OV_REPLY. @returns false: not asked for, or not a digest of the agreed kind */
  reply(packet: DigestRequestPacket): boolean {
    const v = this.#v;
    if (this.#side !== "source") return true; // on its way while the verify ended
    const block = this.#inFlight.get(packet.sector);
    const algorithm = this.#algorithm;
    if (block === undefined || !block.sent || block.comparing || block.sizeBytes !== packet.sizeBytes) return false;
    if (algorithm === undefined || packet.digest.length !== algorithm.lengthBytes) return false;
    block.comparing = true;
    const digest = packet.digest.slice();
    const generation = this.#generation;
    this.#rate.received(block.sizeBytes >>> 9);
    const read = new BlockLock(LockKind.ownRead, block.sector, block.sizeBytes, () => {
      v.disk.read(block.sector, block.sizeBytes, (errno, bytes) => {
        v.locks.release(read);
        if (errno !== 0) v.diskError("read", errno);
        if (generation !== this.#generation) return;
        this.#compared(block, errno === 0 && bytes !== undefined && sameDigest(digest, algorithm.digest(bytes)));
      });
    });
    v.locks.acquire(read);
    return true;
  }

  #compared(block: VerifyBlock, same: boolean): void {
    const v = this.#v;
    const { sector, sizeBytes } = block;
    if (same) this.#report();
    else this.#differs(sector, sizeBytes);
    const idLow = same ? ID_IN_SYNC : ID_OUT_OF_SYNC;
    v.sendMeta({
      kind: "P_OV_RESULT",
      volume: v.number,
      sector,
      idHigh: 0,
      idLow,
      sizeBytes,
      seqNum: v.nextSequence(),
    });
    this.#inFlight.delete(sector);
    v.locks.release(block.request);
    this.#left--;
    this.#checkEnd();
  }

  #checkEnd(): void {
    const v = this.#v;
    if (this.#finishing || this.#cursor < this.#end || this.#inFlight.size > 0) return;
    this.#finishing = true;
    this.#stepAt = Infinity;
    const generation = this.#generation;
    v.connection.pingThen(() => {
      if (generation !== this.#generation || v.state.conn !== ConnState.VerifyS) return;
      v.change({ conn: ConnState.Connected }, "verify done", true);
      v.connection.sendState(v);
    });
  }

  // The side that answers

  /** P_OV_REQUEST. @returns false: outside of the device, or far too many */
  request(packet: BlockRequestPacket): boolean {
    const v = this.#v;
    const { sector, sizeBytes } = packet;
    const algorithm = this.#algorithm;
    if (algorithm === undefined || sizeBytes <= 0 || sector + sizeBytes / 512 > v.sizeSectors) return false;
    if (v.state.conn !== ConnState.VerifyT) return true; // it has ended here
    if (this.#side !== "target") this.#begin("target", Math.floor(sector / SECTORS_PER_BLOCK));
    if (++this.#reads > PEER_READS_MAX) return false;
    const generation = this.#generation;
    // held until the digest is queued: a write that overlaps is sent, or written, behind it
    const lock = new BlockLock(LockKind.resyncRead, sector, sizeBytes, () => {
      v.disk.read(sector, sizeBytes, (errno, bytes) => {
        if (errno !== 0) v.diskError("read", errno);
        if (generation === this.#generation) {
          this.#reads--;
          const digest = bytes === undefined ? new Uint8Array(algorithm.lengthBytes) : algorithm.digest(bytes);
          const { idHigh, idLow } = packet;
          v.send({ kind: "P_OV_REPLY", volume: v.number, sector, idHigh, idLow, sizeBytes, digest });
        }
        v.locks.release(lock);
      });
    });
    v.receiver.behindHeld(sector, sizeBytes, () => v.locks.acquire(lock));
    return true;
  }

  /** P_OV_RESULT. */
  result(packet: BlockAckPacket): void {
    if (this.#side !== "target") return;
    if (packet.idLow === ID_OUT_OF_SYNC) this.#differs(packet.sector, packet.sizeBytes);
    else this.#report();
    if (this.#left > 0) this.#left--;
  }

  /** The peer says that it is done; its results may still be on the way. */
  finishAsTarget(): void {
    const v = this.#v;
    if (this.#finishing) return;
    this.#finishing = true;
    const generation = this.#generation;
    v.connection.pingThen(() => {
      if (generation !== this.#generation || v.state.conn !== ConnState.VerifyT) return;
      v.change({ conn: ConnState.Connected }, "verify done", true);
    });
  }

  // Report

  #differs(sector: number, sizeBytes: number): void {
    this.#v.markOutOfSync(sector, sizeBytes);
    this.#outOfSync++;
    const sectors = sizeBytes >>> 9;
    if (this.#range !== undefined && this.#range.sector + this.#range.sectors === sector)
      this.#range.sectors += sectors;
    else {
      this.#report();
      this.#range = { sector, sectors };
    }
  }

  /** A range that differs has come to its end. */
  #report(): void {
    if (this.#range === undefined) return;
    const { sector, sectors } = this.#range;
    this.#range = undefined;
    this.#v.ctx.sink.event({ type: "verify-out-of-sync", volume: this.#v.number, sector, sectors });
    this.#v.ctx.note("error", `Out of sync: start=${sector}, size=${sectors} (sectors)`);
  }
}
