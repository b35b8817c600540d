import { BIO_SIZE_MAX, Feature, UuidFlag } from "../wire/constants.ts";
import type { Packet, SizesPacket, UuidsPacket } from "../wire/packets.ts";
import { ConnState, DiskState } from "../wire/state-word.ts";
import type { Volume } from "./volume.ts";

/** What a node tells about a volume before its UUIDs: resync tuning and sizes. */
export function parameterPackets(v: Volume): Packet[] {
  return [tuningPacket(v), sizesPacket(v)];
}

/** Also sent alone when the administrator changes the tuning. */
export function tuningPacket(v: Volume): Packet {
  const { verifyAlg, csumsAlg } = v.ctx.options.net;
  const t = v.diskOptions;
  return {
    kind: "P_SYNC_PARAM89",
    volume: v.number,
    resyncRateKib: t.resyncRateKib,
    verifyAlg,
    csumsAlg,
    cPlanAhead: t.cPlanAhead,
    cDelayTarget: t.cDelayTarget,
    cFillTarget: t.cFillTargetSectors,
    cMaxRate: t.cMaxRateKib,
  };
}

/** A diskless node has d_size 0; a device that was never sized has c_size 0. */
export function sizesPacket(v: Volume): SizesPacket {
  const geometry = v.attachment.geometry;
  const packet: SizesPacket = {
    kind: "P_SIZES",
    volume: v.number,
    dSize: v.attachment.usableSectors,
    uSize: v.diskOptions.sizeSectors,
    cSize: v.sizeSectors,
    maxBioSizeBytes: BIO_SIZE_MAX,
    queueOrderType: 0,
    ddsFlags: 0,
  };
  if ((v.connection.features & Feature.WSAME) === 0) return packet;
  return {
    ...packet,
    limits: {
      physicalBlockSize: geometry?.physicalBlockSize ?? 512,
      logicalBlockSize: geometry?.logicalBlockSize ?? 512,
      alignmentOffset: 0,
      ioMin: geometry?.physicalBlockSize ?? 512,
      ioOpt: 0,
      discardEnabled: geometry?.discard === true ? 1 : 0,
      discardZeroesData: geometry?.discard === true ? 1 : 0,
      writeSameCapable: 0,
    },
  };
}

export function uuidsPacket(v: Volume, flags: number): UuidsPacket {
  const { current, bitmap, history0, history1 } = v.uuids;
  const disk = v.state.disk === DiskState.Negotiating ? v.attachment.negotiated?.disk : v.state.disk;
  const own =
    (v.crashedPrimary ? UuidFlag.CRASHED_PRIMARY : 0) | (disk === DiskState.Inconsistent ? UuidFlag.INCONSISTENT : 0);
  return {
    kind: "P_UUIDS",
    volume: v.number,
    current,
    bitmap,
    history: [history0, history1],
    dirtyBits: v.bitmap.count,
    flags: flags | own,
  };
}

/** P_SIZES: the device is as large as the smaller disk, and as configured at most. */
export function applySizes(v: Volume, packet: SizesPacket): void {
  v.peerMaxBioBytes = bioBytes(packet.maxBioSizeBytes);
  if (!v.disk.isOpen) {
    const size = packet.cSize || packet.uSize || packet.dSize;
    if (size > 0) v.sizeSectors = size;
    return;
  }
  if (packet.dSize === 0) return;
  const limits = [v.diskOptions.sizeSectors, packet.uSize].filter((size) => size > 0);
  const agreed = Math.min(v.attachment.usableSectors, packet.dSize, ...limits);
  if (agreed === v.sizeSectors) return;
  if (v.state.conn >= ConnState.Connected) {
    v.ctx.note("warn", `the peer announces a size of ${packet.dSize} sectors while connected; reconnect to use it`);
    return;
  }
  if (agreed < v.sizeSectors && v.state.disk >= DiskState.Outdated) {
    v.connection.disconnect(`The peer's disk size is too small! (${agreed} < ${v.sizeSectors} sectors)`);
    return;
  }
  // Only a disk whose content is still open may shrink; growth is left to resize, which marks the new area.
  if (agreed > v.sizeSectors && v.state.disk >= DiskState.Outdated) return;
  v.connection.hold();
  v.bitmap.resize(agreed, true);
  v.sizeSectors = agreed;
  v.meta.syncBitmap(() => v.meta.sync(() => v.connection.release()));
}

/** Largest request that both sides take. */
function bioBytes(announced: number): number {
  return announced >= 4096 ? Math.min(BIO_SIZE_MAX, announced) : BIO_SIZE_MAX;
}
