import type { ResourceStatus, VolumeStatus } from "@hacluster/blockrep";
import { hasConnection, kib } from "./drbd-objects.ts";

/** The kernel module whose file this stands for; programs decide by it which fields they look for. */
const MODULE_VERSION = "8.4.11";
const SYNCING: ReadonlySet<string> = new Set(["SyncSource", "SyncTarget"]);
const VERIFYING: ReadonlySet<string> = new Set(["VerifyS", "VerifyT"]);

export interface ProcOptions {
  /** Our own version, where the module tells the checksum of its source. */
  readonly version: string;
  readonly protocolMin: number;
  readonly protocolMax: number;
}

/**
 * The text of /proc/drbd for the volumes of these resources, in the order of their minors.
 * @see DRBD 8.4 drbd_proc.c
 */
export function formatProc(statuses: readonly ResourceStatus[], options: ProcOptions): string {
  const { version, protocolMin, protocolMax } = options;
  const lines = [
    `version: ${MODULE_VERSION} (api:1/proto:${protocolMin}-${protocolMax})`,
    `srcversion: hacluster ${version}`,
  ];
  const volumes = statuses
    .flatMap((status) => status.volumes.map((volume) => ({ status, volume })))
    .sort((a, b) => a.volume.minor - b.volume.minor);
  let previous = -1;
  for (const { status, volume } of volumes) {
    if (volume.minor !== previous + 1) lines.push("");
    previous = volume.minor;
    lines.push(...device(status, volume));
  }
  return `${lines.join("\n")}\n`;
}

function device(status: ResourceStatus, volume: VolumeStatus): string[] {
  const minor = String(volume.minor).padStart(2);
  const { connection } = volume;
  if (isUnconfigured(status, volume)) return [`${minor}: cs:Unconfigured`];
  const c = volume.counters;
  const { user, peer, dependency } = status.pausedBy;
  const flags = `${status.suspended ? "s" : "r"}${dependency ? "a" : "-"}${peer ? "p" : "-"}${user ? "u" : "-"}--`;
  const lines = [
    `${minor}: cs:${connection} ro:${volume.role}/${volume.peerRole} ds:${volume.disk}/${volume.peerDisk} ${hasConnection(status) ? status.protocol : " "} ${flags}`,
    `    ns:${kib(c.sentBytes)} nr:${kib(c.receivedBytes)} dw:${kib(c.writtenBytes)} dr:${kib(c.readBytes)} al:${c.activityLogWrites} bm:${c.bitmapWrites} lo:${c.localPending} pe:${c.peerPending} ua:${c.unacked} ap:${c.applicationPending} ep:${Math.max(1, c.epochs)} wo:${status.writeOrdering} oos:${kib(volume.outOfSyncBytes)}`,
  ];
  if (volume.resync !== null && (SYNCING.has(connection) || VERIFYING.has(connection))) {
    lines.push(...progress(connection, volume.resync));
  }
  return lines;
}

/** What the kernel calls a minor that has neither disk nor connection. */
export function isUnconfigured(status: ResourceStatus, volume: VolumeStatus): boolean {
  return !hasConnection(status) && volume.disk === "Diskless" && volume.role === "Secondary";
}

const BLOCK = 4096;
/** More than this, and the amounts are told in MiB. */
const MEGA_FROM_BYTES = 4 * 2 ** 30;

function progress(connection: string, resync: NonNullable<VolumeStatus["resync"]>): string[] {
  const total = Math.floor(resync.totalBytes / BLOCK);
  const left = Math.max(0, total - Math.floor(resync.doneBytes / BLOCK));
  const permil = perMil(left, total);
  const verifying = VERIFYING.has(connection);
  const mega = resync.totalBytes > MEGA_FROM_BYTES;
  const amount = (blocks: number): number => (mega ? Math.floor(blocks / 256) : blocks * 4);
  const seconds = Math.max(1, Math.floor(resync.elapsedMs / 1000));
  const done = total - left;
  // the remaining time in the kernel's own way of rounding
  const rest = Math.floor((seconds * Math.floor(left / (Math.floor(done / 100) + 1))) / 100);
  const speed = thousands(Math.floor(done / seconds) * 4);
  const share = `${String(Math.floor(permil / 10)).padStart(3)}.${permil % 10}%`;
  return [
    `\t${bar(permil)} ${verifying ? "verified:" : "sync'ed:"}${share} (${amount(left)}/${amount(total)})${mega ? "M" : "K"}`,
    `\tfinish: ${clock(rest)} speed: ${speed} (${speed}) K/sec${resync.elapsedMs > STALLED_MS && done === 0 ? " (stalled)" : ""}`,
  ];
}

/** Without any progress for so long it is not a slow start. */
const STALLED_MS = 30_000;

/** In units of 1024 blocks, so that the kernel needs no 64-bit division: small devices look nearly done from the start. */
function perMil(left: number, total: number): number {
  const unit = total > 2 ** 32 ? 65_536 : 1024;
  return 1000 - Math.floor((Math.floor(left / unit) * 1000) / (1 + Math.floor(total / unit)));
}

function bar(permil: number): string {
  const filled = Math.floor(permil / 50);
  return `[${"=".repeat(Math.max(0, filled - 1))}>${".".repeat(20 - filled)}]`;
}

function clock(seconds: number): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  return `${Math.floor(seconds / 3600)}:${two(Math.floor((seconds % 3600) / 60))}:${two(seconds % 60)}`;
}

function thousands(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}
