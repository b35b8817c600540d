import { BLOCK_SIZE } from "../base/units.ts";
import { ID_SYNCER_HIGH, ID_SYNCER_LOW } from "../wire/constants.ts";
import { digestAlgorithm, sameDigest } from "../wire/digest.ts";
import type { BlockAckPacket, BlockRequestPacket, DigestRequestPacket } from "../wire/packets.ts";
import { ConnState } from "../wire/state-word.ts";
import { BlockLock, LockKind } from "./block-locks.ts";
import { PEER_READS_MAX } from "./limits.ts";
import type { Volume } from "./volume.ts";

/**
 * The side with the good data: answers the target's requests and clears its bits as the target confirms.
 * The target decides what is copied and when it is over.
 */
export class ResyncSource {
  readonly #v: Volume;
  readonly #reading: Set<BlockLock> = new Set();
  #generation = 0;
  failedBlocks = 0;
  /** Blocks whose digests were equal, so that they were not copied. */
  equalBlocks = 0;

  constructor(volume: Volume) {
    this.#v = volume;
  }

  get reading(): number {
    return this.#reading.size;
  }

  start(): void {
    this.failedBlocks = 0;
    this.equalBlocks = 0;
  }

  connectionLost(): void {
    this.#generation++;
    for (const lock of this.#reading) this.#v.locks.release(lock);
    this.#reading.clear();
  }

  /** P_CSUM_RS_REQUEST: the data only if its digest is another one. @returns false: as of `request`, or no such digest */
  compare(packet: DigestRequestPacket): boolean {
    const algorithm = digestAlgorithm(this.#v.connection.csumsAlg);
    if (algorithm === undefined || packet.digest.length !== algorithm.lengthBytes) return false;
    const digest = packet.digest.slice();
    return this.request(packet, (bytes) => sameDigest(digest, algorithm.digest(bytes)));
  }

  /** P_RS_DATA_REQUEST. @returns false: outside of the device, or far too many */
  request(packet: BlockRequestPacket | DigestRequestPacket, equal?: (bytes: Uint8Array) => boolean): boolean {
    const v = this.#v;
    const { sector, sizeBytes } = packet;
    if (sizeBytes <= 0 || sector + sizeBytes / 512 > v.sizeSectors || this.#reading.size >= PEER_READS_MAX)
      return false;
    if (!v.hasDisk || v.state.conn < ConnState.Connected) {
      this.#refuse(sector, sizeBytes);
      return true;
    }
    const generation = this.#generation;
    // Held until the reply is queued: a write of the application that overlaps is sent behind it, never overtaken by it.
    const lock = new BlockLock(LockKind.resyncRead, sector, sizeBytes, () => {
      if (generation !== this.#generation) return;
      v.disk.read(sector, sizeBytes, (errno, bytes) => {
        if (errno !== 0) v.diskError("read", errno);
        if (generation !== this.#generation) return;
        if (errno !== 0 || bytes === undefined) this.#refuse(sector, sizeBytes);
        else if (equal?.(bytes) === true) this.#inSync(sector, sizeBytes);
        else {
          const head = {
            volume: v.number,
            sector,
            idHigh: ID_SYNCER_HIGH,
            idLow: ID_SYNCER_LOW,
            seqNum: 0,
            dpFlags: 0,
          };
          v.send({ kind: "P_RS_DATA_REPLY", ...head, ...v.connection.digestOf(bytes), data: bytes });
          v.writes.sentSectors += sizeBytes >>> 9;
        }
        this.#reading.delete(lock);
        v.locks.release(lock);
      });
    });
    this.#reading.add(lock);
    v.locks.acquire(lock);
    return true;
  }

  #inSync(sector: number, sizeBytes: number): void {
    this.equalBlocks += Math.ceil(sizeBytes / BLOCK_SIZE);
    this.#v.clearOutOfSync(sector, sizeBytes);
    this.#answer("P_RS_IS_IN_SYNC", sector, sizeBytes);
    this.#v.resyncProgress();
  }

  #refuse(sector: number, sizeBytes: number): void {
    this.#answer("P_NEG_RS_DREPLY", sector, sizeBytes);
  }

  #answer(kind: "P_NEG_RS_DREPLY" | "P_RS_IS_IN_SYNC", sector: number, sizeBytes: number): void {
    const v = this.#v;
    v.sendMeta({
      kind,
      volume: v.number,
      sector,
      idHigh: ID_SYNCER_HIGH,
      idLow: ID_SYNCER_LOW,
      sizeBytes,
      seqNum: v.nextSequence(),
    });
  }

  /** P_RS_WRITE_ACK or P_NEG_ACK for a resynced block. */
  acknowledged(packet: BlockAckPacket): void {
    const v = this.#v;
    if (packet.kind === "P_RS_WRITE_ACK") {
      v.clearOutOfSync(packet.sector, packet.sizeBytes);
      v.resyncProgress();
    } else {
      this.failedBlocks += Math.ceil(packet.sizeBytes / 4096);
    }
  }
}
