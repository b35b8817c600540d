import { ErrorCode, HaError } from "../base/errors.ts";
import type { DiskOptions as ConfiguredDisk, ResolvedResource, ResolvedVolume } from "../config/resolved.ts";
import type { DiskOptions, EngineOptions, NetOptions } from "../core/ports.ts";
import type { MetaPlacement } from "../meta/layout.ts";
import type { MetadataTarget } from "./metadata-tools.ts";
import type { ResourceSettings, VolumeSettings } from "./resource.ts";

/** Protocol versions that are offered: every DRBD 8.4 agrees to 100 or 101. */
const PROTOCOL_MIN = 100;
const PROTOCOL_MAX = 101;

export const PROTOCOL_VERSIONS: { readonly protocolMin: number; readonly protocolMax: number } = {
  protocolMin: PROTOCOL_MIN,
  protocolMax: PROTOCOL_MAX,
};

/** A resource of drbd.conf, resolved for this host, as the library takes it. */
export function settingsOf(resource: ResolvedResource, options: { runHandlers: boolean }): ResourceSettings {
  const handlers = Object.fromEntries(
    Object.entries(resource.handlers).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  return {
    engine: engineOptions(resource, Object.keys(handlers)),
    local: { host: resource.local.address.host, port: resource.local.address.port },
    peer: { host: resource.peer.address.host, port: resource.peer.address.port },
    volumes: resource.volumes.map(volumeSettings),
    handlers,
    runHandlers: options.runHandlers,
  };
}

/** Where the metadata of each volume is, for create-md, apply-al and the like. */
export function metadataTargets(resource: ResolvedResource): MetadataTarget[] {
  return resource.volumes.map((volume) => {
    const { metaDisk } = volume;
    const disk = diskOf(volume);
    if (metaDisk.kind === "internal") return { disk, placement: "internal" };
    const placement: MetaPlacement = metaDisk.kind === "flexible" ? "flexible" : { index: metaDisk.index };
    return { disk, metaDisk: metaDisk.path, placement };
  });
}

function diskOf(volume: ResolvedVolume): string {
  if (volume.disk !== undefined) return volume.disk;
  throw new HaError(ErrorCode.unsupported, `volume ${volume.vnr} has no disk on this host ("disk none")`);
}

function volumeSettings(volume: ResolvedVolume): VolumeSettings {
  return {
    volume: volume.vnr,
    minor: volume.minor,
    disk: diskOf(volume),
    device: volume.device,
    ...(volume.metaDisk.kind === "internal" ? {} : { metaDisk: volume.metaDisk.path }),
  };
}

function engineOptions(resource: ResolvedResource, handlers: readonly string[]): EngineOptions {
  return {
    resource: resource.name,
    net: netOptions(resource),
    volumes: resource.volumes.map((volume) => ({
      volume: volume.vnr,
      minor: volume.minor,
      disk: diskOptions(volume.diskOptions, volume),
    })),
    onNoDataAccessible: resource.options.onNoDataAccessible,
    handlers,
    ...PROTOCOL_VERSIONS,
  };
}

function netOptions({ net }: ResolvedResource): NetOptions {
  return {
    protocol: net.protocol,
    timeoutMs: net.timeoutMs,
    connectIntMs: net.connectIntMs,
    pingIntMs: net.pingIntMs,
    pingTimeoutMs: net.pingTimeoutMs,
    socketCheckTimeoutMs: net.socketCheckTimeoutMs,
    koCount: net.koCount,
    maxBuffers: net.maxBuffersPages,
    maxEpochSize: net.maxEpochSize,
    allowTwoPrimaries: net.allowTwoPrimaries,
    cramHmacAlg: net.cramHmacAlg,
    sharedSecret: net.sharedSecret,
    afterSb0p: net.afterSb0pri,
    afterSb1p: net.afterSb1pri,
    afterSb2p: net.afterSb2pri,
    alwaysAsbp: net.alwaysAsbp,
    rrConflict: net.rrConflict,
    dataIntegrityAlg: net.dataIntegrityAlg,
    verifyAlg: net.verifyAlg,
    csumsAlg: net.csumsAlg,
    csumsAfterCrashOnly: net.csumsAfterCrashOnly,
    useRle: net.useRle,
  };
}

function diskOptions(disk: ConfiguredDisk, volume: ResolvedVolume): DiskOptions {
  const kib = (bytes: number): number => Math.round(bytes / 1024);
  const { metaDisk } = volume;
  return {
    meta:
      metaDisk.kind === "internal"
        ? { kind: "internal" }
        : metaDisk.kind === "flexible"
          ? { kind: "external" }
          : { kind: "indexed", index: metaDisk.index },
    sizeSectors: Math.floor(disk.sizeBytes / 512),
    onIoError: disk.onIoError,
    fencing: disk.fencing,
    alExtents: disk.alExtents,
    diskFlushes: disk.diskFlushes,
    mdFlushes: disk.mdFlushes,
    resyncRateKib: kib(disk.resyncRateBytesPerSec),
    cPlanAhead: Math.round(disk.cPlanAheadMs / 100),
    cDelayTarget: Math.round(disk.cDelayTargetMs / 100),
    cFillTargetSectors: Math.floor(disk.cFillTargetBytes / 512),
    cMaxRateKib: kib(disk.cMaxRateBytesPerSec),
    cMinRateKib: kib(disk.cMinRateBytesPerSec),
    diskTimeoutMs: disk.diskTimeoutMs,
  };
}
