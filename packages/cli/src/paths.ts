import { join } from "node:path";

/** Where the daemons of this machine keep what does not survive a reboot. */
export const RUN_FOLDER = "/run/hacluster";
/** Heartbeat's own place for its generation and uuid: a node that migrates keeps its identity. */
export const HEARTBEAT_STATE_FOLDER = "/var/lib/heartbeat";

export function blockrepSocket(resource: string): string {
  return join(RUN_FOLDER, `blockrep-${resource}.sock`);
}

/** The NBD socket of a volume: `blockrep-r0.nbd`; of resources with several volumes `blockrep-r0-1.nbd`. */
export function blockrepExport(device: string): string {
  return join(RUN_FOLDER, `blockrep-${device}.nbd`);
}

export function blockrepPidFile(resource: string): string {
  return join(RUN_FOLDER, `blockrep-${resource}.pid`);
}

export const HEARTBEAT_SOCKET: string = join(RUN_FOLDER, "heartbeat.sock");
export const HEARTBEAT_PID_FILE: string = join(RUN_FOLDER, "heartbeat.pid");
/** What the cluster daemon runs, for its next life. */
export const HEARTBEAT_JOURNAL: string = join(RUN_FOLDER, "journal.json");
