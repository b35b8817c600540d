import type { ResourceStatus, VolumeStatus } from "@hacluster/blockrep";

/** `key:value` in DRBD's words, in the order in which they are printed. */
export type Field = readonly [key: string, value: string];

export type ObjectKind = "resource" | "connection" | "device" | "peer-device";

/** One thing that `drbdsetup status` and `events2` describe. */
export interface DrbdObject {
  readonly kind: ObjectKind;
  /** What tells it from others of its kind: `name:r0 volume:0 minor:0`. */
  readonly id: string;
  readonly volume: number | undefined;
  /** The state: an event is printed when one of these changes. */
  readonly info: readonly Field[];
  /** Counters, KiB or numbers; never the reason for an event. */
  readonly statistics: readonly Field[];
}

/** The only peer of a resource: 8.4 has no names for peers. */
const PEER = "peer-node-id:0 conn-name:peer";
const WRITE_ORDERING = { b: "barrier", f: "flush", d: "drain", n: "none" } as const;
/** Names below a connection that has shaken hands; everything else is a state of the replication. */
const CONNECTION_STATES: ReadonlySet<string> = new Set([
  "StandAlone",
  "Disconnecting",
  "Unconnected",
  "Timeout",
  "BrokenPipe",
  "NetworkFailure",
  "ProtocolError",
  "TearDown",
]);

/** DRBD 9's name for the state of the connection, as its tools print it for 8.4. */
export function connectionState(conn: string): string {
  if (conn === "WFConnection") return "Connecting";
  return CONNECTION_STATES.has(conn) ? conn : "Connected";
}

export function replicationState(conn: string): string {
  if (CONNECTION_STATES.has(conn) || conn === "WFConnection" || conn === "WFReportParams") return "Off";
  return conn === "Connected" ? "Established" : conn;
}

/** A StandAlone resource has no connection at all: disconnect removes it, connect makes it anew. */
export function hasConnection(status: ResourceStatus): boolean {
  return status.connection !== "StandAlone";
}

export function kib(bytes: number): string {
  return String(Math.floor(bytes / 1024));
}

export function resourceObject(status: ResourceStatus): DrbdObject {
  return {
    kind: "resource",
    id: `name:${status.name}`,
    volume: undefined,
    info: [
      ["role", status.role],
      ["suspended", suspended(status)],
    ],
    statistics: [["write-ordering", WRITE_ORDERING[status.writeOrdering]]],
  };
}

export function connectionObject(status: ResourceStatus): DrbdObject {
  return {
    kind: "connection",
    id: `name:${status.name} ${PEER}`,
    volume: undefined,
    info: [
      ["connection", connectionState(status.connection)],
      ["role", status.peerRole],
    ],
    statistics: [["congested", "no"]],
  };
}

export function deviceObject(status: ResourceStatus, volume: VolumeStatus): DrbdObject {
  const { counters } = volume;
  return {
    kind: "device",
    id: `name:${status.name} volume:${volume.volume} minor:${volume.minor}`,
    volume: volume.volume,
    info: [["disk", volume.disk]],
    statistics: [
      ["size", kib(volume.sizeBytes)],
      ["read", kib(counters.readBytes)],
      ["written", kib(counters.writtenBytes)],
      ["al-writes", String(counters.activityLogWrites)],
      ["bm-writes", String(counters.bitmapWrites)],
      ["upper-pending", String(counters.applicationPending)],
      ["lower-pending", String(counters.localPending)],
      ["al-suspended", "no"],
      ["blocked", blocked(status)],
    ],
  };
}

export function peerDeviceObject(status: ResourceStatus, volume: VolumeStatus): DrbdObject {
  const { counters } = volume;
  return {
    kind: "peer-device",
    id: `name:${status.name} ${PEER} volume:${volume.volume}`,
    volume: volume.volume,
    info: [
      ["replication", replicationState(volume.connection)],
      ["peer-disk", volume.peerDisk],
      ["resync-suspended", resyncSuspended(status)],
    ],
    statistics: [
      ["received", kib(counters.receivedBytes)],
      ["sent", kib(counters.sentBytes)],
      ["out-of-sync", kib(volume.outOfSyncBytes)],
      ["pending", String(counters.peerPending)],
      ["unacked", String(counters.unacked)],
    ],
  };
}

/** All objects of a resource in the order of events2: resource, connection, devices, peer devices. */
export function drbdObjects(status: ResourceStatus): DrbdObject[] {
  const connected = hasConnection(status);
  return [
    resourceObject(status),
    ...(connected ? [connectionObject(status)] : []),
    ...status.volumes.map((volume) => deviceObject(status, volume)),
    ...(connected ? status.volumes.map((volume) => peerDeviceObject(status, volume)) : []),
  ];
}

function suspended({ suspendedBy }: ResourceStatus): string {
  const reasons: string[] = [];
  if (suspendedBy.user) reasons.push("user");
  if (suspendedBy.noData) reasons.push("no-data");
  if (suspendedBy.fencing) reasons.push("fencing");
  return reasons.length === 0 ? "no" : reasons.join(",");
}

function resyncSuspended({ pausedBy }: ResourceStatus): string {
  const reasons: string[] = [];
  if (pausedBy.user) reasons.push("user");
  if (pausedBy.peer) reasons.push("peer");
  if (pausedBy.dependency) reasons.push("dependency");
  return reasons.length === 0 ? "no" : reasons.join(",");
}

/** Held application I/O is blocked above the disk; a disk that blocks is not watched here. */
function blocked(status: ResourceStatus): string {
  return status.suspended ? "upper" : "no";
}

/** How much of a resync is done, or undefined; `status` shows it, events do not. */
export function percentDone({ resync }: VolumeStatus): string | undefined {
  return resync === null ? undefined : percent(resync.doneBytes, resync.totalBytes);
}

function percent(done: number, total: number): string {
  return (total === 0 ? 100 : (done * 100) / total).toFixed(2);
}
