import type { HeartbeatConfig } from "../config/model.ts";
import type { ClusterConfig } from "./ports.ts";

/** Longest run of one script; Heartbeat itself waits for ever. */
const SCRIPT_TIMEOUT_MS = 300_000;
/** @see Heartbeat 3.0.6 HA_STOPRETRYMAX */
const STOP_RETRIES = 10;

/**
 * The engine's configuration from the three files of /etc/ha.d. `auto_failback legacy` (also the default of a file that does
 * not set it) is taken as `on`: the groups go home, with the newer conversation; the caller says so.
 */
export function clusterConfigOf(config: Pick<HeartbeatConfig, "haCf" | "haresources">): ClusterConfig {
  const { haCf, haresources } = config;
  const links = haCf.media.map((medium) => (medium.kind === "serial" ? medium.device : medium.interface));
  return {
    nodes: haCf.nodes.map((node) => node.name),
    keepaliveMs: haCf.keepaliveMs,
    deadtimeMs: haCf.deadtimeMs,
    warntimeMs: haCf.warntimeMs,
    initdeadMs: haCf.initdeadMs,
    maxRexmitDelayMs: haCf.maxRetransmitDelayMs,
    // ping nodes count as nodes in ttl
    hopfudge: haCf.hopfudge + haCf.pingNodes.length,
    autoFailback: haCf.autoFailback === "off" ? "off" : "on",
    links: [...new Set(links)],
    groups: haresources.groups,
    fencing: haCf.stonith.length > 0,
    scriptTimeoutMs: SCRIPT_TIMEOUT_MS,
    stopRetries: STOP_RETRIES,
  };
}
