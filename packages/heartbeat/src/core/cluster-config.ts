import { monitorPolicyOf } from "../config/hacluster-conf.ts";
import type { HaCf, HeartbeatConfig, StonithDevice } from "../config/model.ts";
import type { ClusterConfig } from "./ports.ts";

/** Longest run of one script; Heartbeat itself waits for ever. */
const SCRIPT_TIMEOUT_MS = 300_000;
/** @see Heartbeat 3.0.6 HA_STOPRETRYMAX */
const STOP_RETRIES = 10;

/**
 * The engine's configuration from the three files of /etc/ha.d. `auto_failback legacy` (also the default of a file that does
 * not set it) is taken as `on`: the groups go home, with the newer conversation; the caller says so.
 */
export function clusterConfigOf(
  config: Pick<HeartbeatConfig, "haCf" | "haresources" | "hacluster">,
  node?: string,
): ClusterConfig {
  const { haCf, haresources, hacluster } = config;
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
    groups: haresources.groups.map((group) => ({
      ...group,
      resources: group.resources.map((resource) => {
        const monitor = monitorPolicyOf(hacluster, resource);
        return monitor === undefined ? resource : { ...resource, monitor };
      }),
    })),
    fencing: stonithDeviceOf(haCf, node) !== undefined,
    // a host bus adapter cannot be asked for an echo from here: it would be dead on both nodes
    pingNodes: haCf.pingNodes.filter((ping) => ping.kind !== "hbaping").map((ping) => ping.name),
    deadpingMs: haCf.deadpingMs,
    // it needs the newer conversation; in legacy mode the original ends itself
    ipfail: haCf.respawn.some((client) => client.builtIn === "ipfail") && haCf.autoFailback !== "legacy",
    scriptTimeoutMs: SCRIPT_TIMEOUT_MS,
    stopRetries: STOP_RETRIES,
  };
}

/**
 * The one device with which this node resets the other: the last line that names this node, `*`, or nobody. Without `node`
 * any line counts.
 * @see Heartbeat 3.0.6 stonith_host
 */
export function stonithDeviceOf(haCf: Pick<HaCf, "stonith">, node?: string): StonithDevice | undefined {
  const ours = (host: string | undefined): boolean =>
    node === undefined || host === undefined || host === "*" || host === node;
  return haCf.stonith.filter((device) => ours(device.host)).at(-1);
}
