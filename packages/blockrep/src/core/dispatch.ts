import { ID_SYNCER_HIGH, ID_SYNCER_LOW } from "../wire/constants.ts";
import type { BlockAckPacket, Packet, StateChangeRequestPacket, SyncParam89Packet } from "../wire/packets.ts";
import { ConnState, DiskState, StateMask, unpackState } from "../wire/state-word.ts";
import type { Connection } from "./connection.ts";
import { applySizes } from "./parameters.ts";
import { applyRequest, convertPeerRequest, StateRc } from "./state.ts";
import type { Volume } from "./volume.ts";

/** Who handles which packet of an established connection, and which ones end it. */
export class Dispatch {
  readonly #c: Connection;

  constructor(connection: Connection) {
    this.#c = connection;
  }

  #volume(packet: Packet): Volume | undefined {
    return this.#c.volumes.find((v) => v.number === packet.volume);
  }

  #broken(text: string): void {
    this.#c.fail(ConnState.ProtocolError, text);
  }

  #expect(fits: boolean, packet: Packet): void {
    if (!fits) this.#broken(`${packet.kind} does not fit anything that was asked for or agreed`);
  }

  /** A packet of the data socket. */
  data(packet: Packet): void {
    const c = this.#c;
    switch (packet.kind) {
      case "P_PROTOCOL":
        c.checkProtocol(packet);
        return;
      case "P_BARRIER":
        c.volume.receiver.barrier(packet.barrier);
        return;
      case "P_CONN_ST_CHG_REQ":
        this.#connectionRequest(packet);
        return;
      case "P_UNPLUG_REMOTE":
        for (const one of c.volumes) one.receiver.hurry();
        return;
      case "P_DELAY_PROBE":
        return;
      default:
        break;
    }
    const v = this.#volume(packet);
    if (v === undefined) {
      const parameters = ["P_SYNC_PARAM", "P_SYNC_PARAM89", "P_SIZES", "P_UUIDS", "P_STATE"];
      if (parameters.includes(packet.kind))
        c.ctx.note("warn", `${packet.kind} for volume ${packet.volume}, which is not configured here`);
      else this.#broken(`${packet.kind} for volume ${packet.volume}, which is not configured here`);
      return;
    }
    this.#volumeData(v, packet);
  }

  #volumeData(v: Volume, packet: Packet): void {
    const c = this.#c;
    switch (packet.kind) {
      case "P_DATA":
        if (c.digestFits(packet.data, packet.digest)) this.#expect(v.receiver.write(packet), packet);
        else this.#broken("Digest integrity check FAILED");
        return;
      case "P_TRIM":
      case "P_ZEROES":
        this.#expect(v.receiver.write(packet), packet);
        return;
      case "P_DATA_REPLY":
        if (c.digestFits(packet.data, packet.digest)) this.#expect(v.writes.dataReply(packet), packet);
        else this.#broken("Digest integrity check FAILED");
        return;
      case "P_RS_DATA_REPLY":
        if (!c.digestFits(packet.data, packet.digest)) this.#broken("Digest integrity check FAILED");
        else if (v.state.conn === ConnState.SyncTarget || v.state.conn === ConnState.PausedSyncT) {
          this.#expect(v.target.reply(packet), packet);
        }
        return;
      case "P_DATA_REQUEST":
        this.#expect(v.receiver.read(packet), packet);
        return;
      case "P_RS_DATA_REQUEST":
        this.#expect(v.source.request(packet), packet);
        return;
      case "P_CSUM_RS_REQUEST":
        this.#expect(v.source.compare(packet), packet);
        return;
      case "P_OV_REQUEST":
        this.#expect(v.verify.request(packet), packet);
        return;
      case "P_OV_REPLY":
        this.#expect(v.verify.reply(packet), packet);
        return;
      case "P_OUT_OF_SYNC":
        v.receiver.outOfSync(packet);
        return;
      case "P_BITMAP":
      case "P_COMPRESSED_BITMAP":
        this.#expect(v.resync.bitmapPacket(packet), packet);
        return;
      case "P_SYNC_PARAM89":
        this.#syncParam(v, packet);
        return;
      case "P_SIZES":
        applySizes(v, packet);
        return;
      case "P_UUIDS":
        v.resync.uuids(packet);
        return;
      case "P_STATE":
        v.resync.state(packet);
        return;
      case "P_SYNC_UUID":
        v.resync.syncUuid(packet);
        return;
      case "P_STATE_CHG_REQ":
        this.#volumeRequest(v, packet);
        return;
      default:
        this.#broken(`unexpected packet ${packet.kind} on the data socket`);
    }
  }

  #syncParam(v: Volume, packet: SyncParam89Packet): void {
    const { net } = this.#c.ctx.options;
    if (v.state.conn === ConnState.WFReportParams) {
      const differs =
        packet.verifyAlg !== net.verifyAlg ? "verify-alg" : packet.csumsAlg !== net.csumsAlg ? "csums-alg" : "";
      if (differs !== "") {
        this.#c.disconnect(`incompatible ${differs} settings; both nodes need the same`);
        return;
      }
    } else {
      this.#c.adopted = { verifyAlg: packet.verifyAlg, csumsAlg: packet.csumsAlg };
    }
    v.resyncTuning = {
      resyncRateKib: packet.resyncRateKib,
      cPlanAhead: packet.cPlanAhead,
      cDelayTarget: packet.cDelayTarget,
      cFillTargetSectors: packet.cFillTarget,
      cMaxRateKib: packet.cMaxRate,
    };
  }

  /** The peer asks for our consent to a change of a volume. */
  #volumeRequest(v: Volume, packet: StateChangeRequestPacket): void {
    const retcode = this.#consent(v, packet);
    this.#c.sendMeta({ kind: "P_STATE_CHG_REPLY", volume: v.number, retcode });
    v.resync.startingSync();
  }

  #consent(v: Volume, packet: StateChangeRequestPacket): number {
    if (this.#c.resolveConflicts && this.#c.pendingRequest !== undefined) return StateRc.ConcurrentStateChange;
    const mine = convertPeerRequest(packet.mask, packet.value);
    if (mine === undefined) return StateRc.NotSupported;
    const wanted = applyRequest(v.state, mine.mask, mine.value);
    const forced =
      v.state.disk === DiskState.Inconsistent &&
      v.state.pdsk === DiskState.Inconsistent &&
      wanted.pdsk === DiskState.UpToDate;
    const rc = v.change(wanted, "asked for by the peer");
    if (forced && rc >= StateRc.Success) v.resync.considerForced = true;
    return rc;
  }

  /** The peer asks for a change of the connection: it disconnects. */
  #connectionRequest(packet: StateChangeRequestPacket): void {
    const c = this.#c;
    const mine = convertPeerRequest(packet.mask, packet.value);
    if (mine === undefined || unpackState(mine.value).conn !== ConnState.TearDown) {
      c.sendMeta({ kind: "P_CONN_ST_CHG_REPLY", volume: 0, retcode: StateRc.NotSupported });
      return;
    }
    const asked = unpackState(mine.value);
    const disks = {
      ...((mine.mask & StateMask.disk) === 0 ? {} : { disk: asked.disk }),
      ...((mine.mask & StateMask.pdsk) === 0 ? {} : { pdsk: asked.pdsk }),
    };
    const refusals = c.volumes.map((v) => v.judge({ conn: ConnState.TearDown, ...disks }));
    const retcode = Math.min(...refusals);
    c.sendMeta({
      kind: "P_CONN_ST_CHG_REPLY",
      volume: 0,
      retcode: retcode >= StateRc.Success ? StateRc.Success : retcode,
    });
    if (retcode < StateRc.Success) return;
    c.fail(ConnState.TearDown, "the peer disconnects", disks);
  }

  /** A packet of the meta socket; P_PING and P_PING_ACK are answered before. */
  meta(packet: Packet): void {
    const c = this.#c;
    if (!c.up) return;
    const v = this.#volume(packet) ?? c.volume;
    switch (packet.kind) {
      case "P_RECV_ACK":
      case "P_WRITE_ACK":
      case "P_RS_WRITE_ACK":
      case "P_NEG_ACK":
        this.#ack(v, packet);
        return;
      case "P_BARRIER_ACK":
        if (!v.writes.barrierAcknowledged(packet)) this.#broken("BAD! BarrierAck does not fit the oldest epoch");
        return;
      case "P_NEG_DREPLY":
        this.#expect(v.writes.readRefused(packet), packet);
        return;
      case "P_NEG_RS_DREPLY":
        v.target.refused(packet);
        return;
      case "P_RS_IS_IN_SYNC":
        this.#expect(v.target.isInSync(packet), packet);
        return;
      case "P_OV_RESULT":
        v.verify.result(packet);
        return;
      case "P_RS_CANCEL":
        v.target.cancelled(packet);
        return;
      case "P_STATE_CHG_REPLY":
      case "P_CONN_ST_CHG_REPLY": {
        const request = c.pendingRequest;
        c.pendingRequest = undefined;
        request?.(packet.retcode);
        return;
      }
      case "P_DELAY_PROBE":
        return;
      default:
        c.disconnect(`unexpected packet ${packet.kind} on the meta socket`);
    }
  }

  #ack(v: Volume, packet: BlockAckPacket): void {
    if (packet.idHigh === ID_SYNCER_HIGH && packet.idLow === ID_SYNCER_LOW) v.source.acknowledged(packet);
    else this.#expect(v.writes.acknowledged(packet), packet);
  }
}
