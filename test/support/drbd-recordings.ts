import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { ResourceStatus, VolumeCounters, VolumeStatus } from "@hacluster/blockrep";

const FOLDER = fileURLToPath(new URL("../../../test/vectors/drbd-admin/", import.meta.url));

/** One command of a recording of the real tools. */
export interface Recorded {
  readonly command: string;
  readonly stdout: string;
  readonly exitCode: number;
  readonly stderr: string;
}

export function readRecording(name: "alone.txt" | "pair.txt"): Recorded[] {
  const blocks = readFileSync(`${FOLDER}${name}`, "utf8").split(/^=== /m).slice(1);
  return blocks.map((block) => {
    const [command = "", ...rest] = block.split("\n");
    const body = rest.join("\n").replace(/^#####.*\n/m, "");
    const end = /^--- exit (\d+)\n/m.exec(body);
    if (end === null) throw new Error(`${name}: no exit code after ${command}`);
    return {
      command,
      stdout: body.slice(0, end.index),
      exitCode: Number(end[1]),
      stderr: body.slice(end.index + end[0].length),
    };
  });
}

export function readRecordedEvents(): string[] {
  return readFileSync(`${FOLDER}events2.txt`, "utf8").split("\n").filter(Boolean);
}

export const NAMES_CONF: string = `${FOLDER}names.conf`;

const NO_COUNTERS: VolumeCounters = {
  sentBytes: 0,
  receivedBytes: 0,
  writtenBytes: 0,
  readBytes: 0,
  activityLogWrites: 0,
  bitmapWrites: 0,
  localPending: 0,
  peerPending: 0,
  unacked: 0,
  applicationPending: 0,
  epochs: 1,
  openers: 0,
};

export const EMPTY_VOLUME: VolumeStatus = {
  volume: 0,
  minor: 0,
  device: null,
  role: "Secondary",
  peerRole: "Unknown",
  connection: "StandAlone",
  disk: "Diskless",
  peerDisk: "DUnknown",
  sizeBytes: 0,
  outOfSyncBytes: 0,
  resync: null,
  resyncedBytes: 0,
  uuids: { current: "", bitmap: "", history: ["", ""] },
  counters: NO_COUNTERS,
};

export const EMPTY_STATUS: ResourceStatus = {
  name: "r0",
  role: "Secondary",
  peerRole: "Unknown",
  connection: "StandAlone",
  protocol: "C",
  agreedVersion: 0,
  suspended: false,
  suspendedBy: { user: false, noData: false, fencing: false },
  pausedBy: { user: false, peer: false, dependency: false },
  writeOrdering: "f",
  volumes: [EMPTY_VOLUME],
};

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** The status that `drbdsetup status --verbose --statistics` tells; what it does not tell is as in `EMPTY_STATUS`. */
export function parseStatus(text: string): ResourceStatus {
  const words = text.split(/\s+/).filter(Boolean);
  let status: ResourceStatus = { ...EMPTY_STATUS, name: words[0] ?? "", volumes: [] };
  const volumes: VolumeStatus[] = [];
  let volume = -1;
  for (const word of words.slice(1)) {
    const colon = word.indexOf(":");
    const [key, value] = colon < 0 ? [word, ""] : [word.slice(0, colon), word.slice(colon + 1)];
    if (key === "volume") {
      volume = volumes.findIndex((v) => v.volume === Number(value));
      if (volume < 0) volume = volumes.push({ ...EMPTY_VOLUME, volume: Number(value) }) - 1;
    } else if (key === "peer") volume = -1;
    const current = volumes[volume];
    if (current === undefined) status = { ...status, ...resourceField(key, value, volumes.length > 0) };
    else {
      volumes[volume] = withVolumeField(current, key, value);
      if (key === "replication" && value !== "Off") {
        status = { ...status, connection: value === "Established" ? "Connected" : value };
      }
      if (key === "resync-suspended") status = { ...status, pausedBy: { ...status.pausedBy, user: value === "user" } };
    }
  }
  return withVolumes(status, volumes);
}

/** A status whose volumes are all in the state of the resource. */
export function withVolumes(status: ResourceStatus, volumes: readonly VolumeStatus[]): ResourceStatus {
  const { role, peerRole, connection } = status;
  return { ...status, volumes: volumes.map((volume) => ({ ...volume, role, peerRole, connection })) };
}

function resourceField(key: string, value: string, ofPeer: boolean): Partial<ResourceStatus> {
  if (key === "role") return ofPeer ? { peerRole: value } : { role: value };
  if (key === "connection") return { connection: value === "Connecting" ? "WFConnection" : value };
  if (key !== "suspended") return {};
  return { suspended: value !== "no", suspendedBy: { user: value === "user", noData: false, fencing: false } };
}

const COUNTERS: Readonly<Record<string, readonly [key: keyof VolumeCounters, unit: number]>> = {
  read: ["readBytes", 1024],
  written: ["writtenBytes", 1024],
  "al-writes": ["activityLogWrites", 1],
  "bm-writes": ["bitmapWrites", 1],
  "upper-pending": ["applicationPending", 1],
  "lower-pending": ["localPending", 1],
  received: ["receivedBytes", 1024],
  sent: ["sentBytes", 1024],
  pending: ["peerPending", 1],
  unacked: ["unacked", 1],
};

export function withVolumeField(volume: VolumeStatus, key: string, value: string): VolumeStatus {
  const out: Mutable<VolumeStatus> = { ...volume };
  const counter = COUNTERS[key];
  if (counter !== undefined) out.counters = { ...volume.counters, [counter[0]]: Number(value) * counter[1] };
  else if (key === "minor") out.minor = Number(value);
  else if (key === "disk") out.disk = value;
  else if (key === "peer-disk") out.peerDisk = value;
  else if (key === "size") out.sizeBytes = Number(value) * 1024;
  else if (key === "out-of-sync") out.outOfSyncBytes = Number(value) * 1024;
  else if (key === "done") out.resync = { doneBytes: Number(value) * 100, totalBytes: 10_000, elapsedMs: 0 };
  return out;
}
