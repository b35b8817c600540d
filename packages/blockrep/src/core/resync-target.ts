import { BLOCK_SIZE, RESYNC_EXTENT_SIZE, SECTORS_PER_BLOCK } from "../base/units.ts";
import { ID_SYNCER_HIGH, ID_SYNCER_LOW } from "../wire/constants.ts";
import { type DigestAlgorithm, digestAlgorithm } from "../wire/digest.ts";
import type { BlockAckPacket, DataPacket } from "../wire/packets.ts";
import { ConnState } from "../wire/state-word.ts";
import { BlockLock, LockKind } from "./block-locks.ts";
import { BITMAP_WRITE_INTERVAL_MS, RESYNC_FLUSH_BLOCKS, RESYNC_STEP_MS, SEND_QUEUE_BYTES_HIGH } from "./limits.ts";
import { ResyncRate } from "./resync-rate.ts";
import type { Volume } from "./volume.ts";

const EXTENT_BLOCKS: number = RESYNC_EXTENT_SIZE / BLOCK_SIZE;

interface ResyncBlock {
  readonly sector: number;
  readonly sizeBytes: number;
  /** Keeps the application's writes of this node out from the request until the block is written. */
  readonly request: BlockLock;
  sent: boolean;
}

/**
 * The side that is behind: asks for what its bitmap marks, writes it, and reports a block as in sync only after a flush
 * that covers it. It alone knows when the resync is over.
 * @see DRBD 8.4 drbd_worker.c
 */
export class ResyncTarget {
  readonly #v: Volume;
  readonly #rate: ResyncRate;
  /** By first sector, from the request to the answer. */
  readonly #inFlight: Map<number, ResyncBlock> = new Map();
  /** Written, to be flushed and acknowledged together. */
  #written: ResyncBlock[] = [];
  #writing = 0;
  #cursor = 0;
  #active = false;
  #finishing = false;
  #stepAt = Infinity;
  /** Blocks that may still be asked for before the next step. */
  #budget = 0;
  #bitmapWrittenMs = 0;
  #failed: Set<number> = new Set();
  /** Digests are compared before blocks are copied. */
  #csums: DigestAlgorithm | undefined;
  /** Blocks of this resync that turned out to be the same on both sides. */
  equalBlocks = 0;

  constructor(volume: Volume) {
    this.#v = volume;
    this.#rate = new ResyncRate(() => volume.resyncTuning);
  }

  get active(): boolean {
    return this.#active;
  }

  get failedBlocks(): number {
    return this.#failed.size;
  }

  nextDeadlineMs(): number {
    // the last round trip needs no further steps
    return this.#active && !this.#finishing && this.#v.state.conn === ConnState.SyncTarget ? this.#stepAt : Infinity;
  }

  start(): void {
    this.#active = true;
    this.#finishing = false;
    this.#cursor = 0;
    this.#budget = 0;
    this.#failed.clear();
    const { csumsAfterCrashOnly } = this.#v.ctx.options.net;
    const { csumsAlg } = this.#v.connection;
    this.#csums = !csumsAfterCrashOnly || this.#v.crashedPrimary ? digestAlgorithm(csumsAlg) : undefined;
    this.equalBlocks = 0;
    this.#rate.reset();
    this.#stepAt = this.#v.ctx.nowMs;
    this.#bitmapWrittenMs = this.#v.ctx.nowMs;
    this.#v.ctx.later(() => this.step());
  }

  /** Connection or disk gone, or the resync is over: nothing that is under way counts any more. */
  stop(): void {
    this.#active = false;
    this.#stepAt = Infinity;
    for (const block of this.#inFlight.values()) this.#v.locks.release(block.request);
    this.#inFlight.clear();
    for (const block of this.#written) this.#v.locks.release(block.request);
    this.#written = [];
  }

  tick(): void {
    if (this.#active && this.#v.ctx.nowMs >= this.#stepAt) this.step();
  }

  /** One batch of requests. */
  step(): void {
    const v = this.#v;
    if (!this.#active || this.#finishing) return;
    if (v.state.conn !== ConnState.SyncTarget) {
      this.#stepAt = Infinity;
      return;
    }
    if (v.ctx.nowMs >= this.#stepAt) {
      this.#stepAt = v.ctx.nowMs + RESYNC_STEP_MS;
      this.#budget = this.#rate.step(this.#inFlight.size);
      this.#request();
      if (this.#written.length > 0) this.#flush();
      if (v.ctx.nowMs - this.#bitmapWrittenMs >= BITMAP_WRITE_INTERVAL_MS && v.bitmap.dirtyPages > 0) {
        this.#bitmapWrittenMs = v.ctx.nowMs;
        v.meta.writePages(undefined, () => {});
      }
    }
    this.#checkEnd();
  }

  /** Asks for what this step has left, as far as the window goes; what was answered makes room within the same step. */
  #request(): void {
    const v = this.#v;
    if (!this.#active || this.#finishing || this.#budget <= 0 || v.state.conn !== ConnState.SyncTarget) return;
    const window = Math.max(1, v.ctx.options.net.maxBuffers >>> 1);
    let outstanding = 0;
    for (const block of this.#inFlight.values()) outstanding += block.sizeBytes / BLOCK_SIZE;
    while (this.#budget > 0 && outstanding < window && v.connection.sendQueueBytes < SEND_QUEUE_BYTES_HIGH) {
      const blocks = this.#requestNext(Math.min(this.#budget, window - outstanding));
      if (blocks === 0) return;
      this.#budget -= blocks;
      outstanding += blocks;
    }
  }

  /** Sends a request for the next marked blocks. @returns how many blocks it covers; 0: none left for now */
  #requestNext(blocksMax: number): number {
    const v = this.#v;
    const { bitmap } = v;
    let first = bitmap.nextSet(this.#cursor);
    while (first !== -1 && (this.#inFlight.has(first * SECTORS_PER_BLOCK) || this.#failed.has(first))) {
      first = bitmap.nextSet(first + 1);
    }
    if (first === -1) {
      this.#cursor = bitmap.bits;
      return 0;
    }
    const bytesMax = Math.min(v.peerMaxBioBytes, blocksMax * BLOCK_SIZE);
    const extentEnd = (Math.floor(first / EXTENT_BLOCKS) + 1) * EXTENT_BLOCKS;
    let count = 1;
    let align = 1;
    while (
      (count + 1) * BLOCK_SIZE <= bytesMax &&
      first + count < extentEnd &&
      bitmap.test(first + count) &&
      !this.#failed.has(first + count)
    ) {
      // the start stays aligned to the power of two that the size grows to
      if (count + 1 > align) {
        if (first % (align * 2) !== 0) break;
        align *= 2;
      }
      count++;
    }
    this.#cursor = first + count;
    const sector = first * SECTORS_PER_BLOCK;
    const sizeBytes = Math.min(count * BLOCK_SIZE, (v.sizeSectors - sector) * 512);
    const lock = new BlockLock(LockKind.resyncRequest, sector, sizeBytes, () => {
      const block = this.#inFlight.get(sector);
      if (block === undefined || block.request !== lock || block.sent) return;
      if (this.#csums === undefined) this.#ask(block, undefined);
      else this.#askIfDifferent(block, this.#csums);
    });
    this.#inFlight.set(sector, { sector, sizeBytes, request: lock, sent: false });
    v.locks.acquire(lock);
    return count;
  }

  #ask(block: ResyncBlock, digest: Uint8Array | undefined): void {
    const v = this.#v;
    const { sector, sizeBytes } = block;
    block.sent = true;
    const head = { volume: v.number, sector, idHigh: ID_SYNCER_HIGH, idLow: ID_SYNCER_LOW };
    if (digest === undefined) v.send({ kind: "P_RS_DATA_REQUEST", ...head, sizeBytes });
    else v.send({ kind: "P_CSUM_RS_REQUEST", ...head, sizeBytes, digest });
  }

  /**
   * Reads what is here first: the source sends the block only if its own is another one, and counts it as in sync at once
   * otherwise. What was read may be in the page cache only, so that it is made durable before the source hears of it.
   */
  #askIfDifferent(block: ResyncBlock, algorithm: DigestAlgorithm): void {
    const v = this.#v;
    v.disk.read(block.sector, block.sizeBytes, (errno, bytes) => {
      if (errno !== 0) v.diskError("read", errno);
      if (this.#inFlight.get(block.sector) !== block || block.sent) return;
      if (errno !== 0 || bytes === undefined) {
        this.#ask(block, undefined);
        return;
      }
      const digest = algorithm.digest(bytes);
      v.disk.flush((failed) => {
        if (failed === 0 && this.#inFlight.get(block.sector) === block) this.#ask(block, digest);
      });
    });
  }

  /** P_RS_IS_IN_SYNC: found by the sector, for its block id may be anything. @returns false: not asked for */
  isInSync(packet: BlockAckPacket): boolean {
    const block = this.#inFlight.get(packet.sector);
    if (block === undefined) return !this.#active;
    if (block.sizeBytes !== packet.sizeBytes || !block.sent) return false;
    this.#rate.received(block.sizeBytes >>> 9);
    this.equalBlocks += Math.ceil(block.sizeBytes / BLOCK_SIZE);
    this.#end(block);
    this.#v.clearOutOfSync(block.sector, block.sizeBytes);
    this.#v.resyncProgress();
    this.#checkEnd();
    return true;
  }

  /** P_RS_DATA_REPLY. @returns false: not asked for */
  reply(packet: DataPacket): boolean {
    const v = this.#v;
    const block = this.#inFlight.get(packet.sector);
    if (block === undefined || block.sizeBytes !== packet.data.length || !block.sent) return false;
    this.#rate.received(block.sizeBytes >>> 9);
    v.receiver.receivedSectors += block.sizeBytes >>> 9;
    this.#writing++;
    const lock = new BlockLock(LockKind.resyncWrite, block.sector, block.sizeBytes, () => {
      if (!v.hasDisk) {
        this.#writeDone(block, lock, packet, 5);
        return;
      }
      v.disk.write(block.sector, packet.data, false, (errno) => {
        if (errno !== 0) v.diskError("write", errno);
        this.#writeDone(block, lock, packet, errno);
      });
    });
    v.locks.acquire(lock);
    return true;
  }

  #writeDone(block: ResyncBlock, lock: BlockLock, packet: DataPacket, errno: number): void {
    const v = this.#v;
    this.#writing--;
    v.locks.release(lock);
    v.ctx.sink.releaseBytes(packet.data);
    // an answer of a resync that was stopped, or of an earlier one
    if (this.#inFlight.get(block.sector) !== block) return;
    if (errno !== 0) {
      this.#end(block);
      this.#fail(block.sector, block.sizeBytes);
      this.#answer("P_NEG_ACK", block);
      this.#checkEnd();
      return;
    }
    this.#written.push(block);
    if (this.#written.length >= RESYNC_FLUSH_BLOCKS || this.#writing === 0) this.#flush();
  }

  #end(block: ResyncBlock): void {
    this.#inFlight.delete(block.sector);
    this.#v.locks.release(block.request);
  }

  #fail(sector: number, sizeBytes: number): void {
    for (let bit = sector / SECTORS_PER_BLOCK; bit * SECTORS_PER_BLOCK < sector + sizeBytes / 512; bit++) {
      this.#failed.add(bit);
    }
  }

  #flush(): void {
    const v = this.#v;
    const batch = this.#written;
    this.#written = [];
    if (v.ctx.mutations.skipResyncFlush === true) {
      v.ctx.later(() => this.#durable(batch));
      return;
    }
    v.disk.flush((errno) => {
      if (errno === 0) this.#durable(batch);
      else for (const block of batch) v.locks.release(block.request);
    });
  }

  #durable(batch: ResyncBlock[]): void {
    const v = this.#v;
    for (const block of batch) {
      if (this.#inFlight.get(block.sector) !== block) continue;
      this.#end(block);
      v.clearOutOfSync(block.sector, block.sizeBytes);
      this.#answer("P_RS_WRITE_ACK", block);
    }
    v.resyncProgress();
    this.#checkEnd();
    this.#request();
  }

  #answer(kind: "P_RS_WRITE_ACK" | "P_NEG_ACK", block: ResyncBlock): void {
    const v = this.#v;
    const { sector, sizeBytes } = block;
    const head = { volume: v.number, sector, idHigh: ID_SYNCER_HIGH, idLow: ID_SYNCER_LOW };
    v.sendMeta({ kind, ...head, sizeBytes, seqNum: v.nextSequence() });
  }

  /** A replicated write failed here: resynced blocks below it that were not acknowledged yet must not be any more. */
  forget(sector: number, sizeBytes: number): void {
    const end = sector + (sizeBytes >>> 9);
    for (const block of [...this.#inFlight.values()]) {
      if (block.sector >= end || block.sector + (block.sizeBytes >>> 9) <= sector) continue;
      this.#end(block);
      this.#fail(block.sector, block.sizeBytes);
      this.#answer("P_NEG_ACK", block);
    }
  }

  /** P_NEG_RS_DREPLY: the source cannot read it. */
  refused(packet: BlockAckPacket): boolean {
    const block = this.#inFlight.get(packet.sector);
    if (block === undefined) return false;
    this.#end(block);
    this.#fail(block.sector, block.sizeBytes);
    this.#checkEnd();
    return true;
  }

  /** P_RS_CANCEL: the source is ahead; ask again later. */
  cancelled(packet: BlockAckPacket): void {
    const block = this.#inFlight.get(packet.sector);
    if (block === undefined) return;
    this.#end(block);
    this.#cursor = Math.min(this.#cursor, Math.floor(block.sector / SECTORS_PER_BLOCK));
  }

  #checkEnd(): void {
    const v = this.#v;
    if (!this.#active || this.#finishing || this.#inFlight.size > 0 || v.state.conn !== ConnState.SyncTarget) return;
    if (v.bitmap.count > this.#failed.size) {
      // bits below the cursor were set meanwhile, by P_OUT_OF_SYNC or a failed write
      if (v.bitmap.nextSet(this.#cursor) === -1) this.#cursor = 0;
      return;
    }
    this.#finishing = true;
    this.#stepAt = Infinity;
    v.finishAsTarget(this.#failed.size);
  }
}
