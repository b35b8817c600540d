import { ID_SYNCER_HIGH, ID_SYNCER_LOW } from "../wire/constants.ts";
import type { BlockAckPacket, BlockRequestPacket } from "../wire/packets.ts";
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

  constructor(volume: Volume) {
    this.#v = volume;
  }

  get reading(): number {
    return this.#reading.size;
  }

  start(): void {
    this.failedBlocks = 0;
  }

  connectionLost(): void {
    this.#generation++;
    for (const lock of this.#reading) this.#v.locks.release(lock);
    this.#reading.clear();
  }

  /** P_RS_DATA_REQUEST. @returns false: outside of the device, or far too many */
  request(packet: BlockRequestPacket): boolean {
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

  #refuse(sector: number, sizeBytes: number): void {
    const v = this.#v;
    v.sendMeta({
      kind: "P_NEG_RS_DREPLY",
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
