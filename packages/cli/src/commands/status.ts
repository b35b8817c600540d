import type { ResourceStatus, VolumeStatus } from "@hacluster/blockrep";
import type { ClusterStatus, FenceView, GroupView, NodeView, PingNodeView } from "@hacluster/heartbeat";
import { Command } from "commander";
import { resourceNames } from "../configuration.ts";
import type { Alarm } from "../daemon/alarms.ts";
import { ExitCode } from "../exit-codes.ts";
import { CommandFailure, print } from "./context.ts";
import { blockrepStatusIfUp, clusterStatusIfRunning } from "./control.ts";

interface Overview {
  readonly node: string;
  /** Null: this node's cluster daemon does not run. */
  readonly cluster: (ClusterStatus & { readonly alarms?: readonly Alarm[] }) | null;
  readonly resources: readonly (ResourceStatus | { readonly name: string; readonly role: "Unconfigured" })[];
}

/** `hacluster status`: one screen that says what runs where, and what to do if something is wrong. */
export function statusCommand(): Command {
  return new Command("status")
    .description("what runs where, in one screen; exit code 0 when all is well, 1 when something needs attention")
    .option("--json", "the same as JSON")
    .action(async (options: { json?: boolean }) => {
      const overview = await collect();
      if (options.json === true) print(JSON.stringify(forJson(overview), null, 2));
      else print(render(overview).join("\n"));
      const advice = adviceFor(overview);
      if (advice.length > 0) throw new CommandFailure("", ExitCode.failed);
    });
}

async function collect(): Promise<Overview> {
  const cluster = (await clusterStatusIfRunning()) ?? null;
  const { node, names } = resourceNames();
  const resources = await Promise.all(
    names.map(async (name) => (await blockrepStatusIfUp(name)) ?? ({ name, role: "Unconfigured" } as const)),
  );
  return { node: cluster?.node ?? node, cluster, resources };
}

/** Single-volume resources carry their volume's fields at the top as well: that is what most scripts ask for. */
function forJson(overview: Overview): unknown {
  return {
    ...overview,
    resources: overview.resources.map((resource) => {
      if (!("volumes" in resource)) return resource;
      const { volume: _volume, ...first } = resource.volumes[0] as VolumeStatus;
      return { ...resource, ...first };
    }),
    advice: adviceFor(overview),
  };
}

export function render(overview: Overview): string[] {
  const lines: string[] = [];
  const { cluster } = overview;
  if (cluster === null) lines.push(`${overview.node}  cluster not running here`);
  else if (!("nodes" in cluster)) lines.push(`${overview.node}  restarting after a partition`);
  else {
    for (const node of cluster.nodes) lines.push(renderNode(node));
    for (const node of cluster.pingNodes) lines.push(renderPingNode(node));
    lines.push("");
    if (cluster.fencing !== undefined) lines.push(...renderFencing(cluster.fencing));
    for (const group of cluster.groups) lines.push(...renderGroup(group, cluster));
    if (cluster.failbackWaitsFor !== undefined) lines.push(`         failback waits for ${cluster.failbackWaitsFor}`);
  }
  lines.push("");
  for (const resource of overview.resources) lines.push(...renderResource(resource));
  const advice = adviceFor(overview);
  if (advice.length > 0) lines.push("", ...advice.map((text) => `→ ${text}`));
  return lines;
}

function renderNode(node: NodeView): string {
  const links = node.links.map((link) => `${link.link} ${link.up ? "up" : "DOWN"}`).join(", ");
  const seen = node.own
    ? "this node"
    : node.lastSeenMs === undefined
      ? "never heard"
      : `heard ${Math.round(node.lastSeenMs)} ms ago`;
  const kind = node.kind === "heartbeat" ? ", Heartbeat 3" : "";
  return `node     ${node.node.padEnd(12)} ${node.status.padEnd(8)} ${seen}${kind}${links === "" ? "" : `, ${links}`}`;
}

function renderPingNode(node: PingNodeView): string {
  const seen = node.lastSeenMs === undefined ? "never heard" : `heard ${Math.round(node.lastSeenMs)} ms ago`;
  return `ping     ${node.node.padEnd(12)} ${node.status.padEnd(8)} ${seen}`;
}

/** Why nothing is taken over yet. */
function renderFencing(fencing: FenceView): string[] {
  const seconds = Math.round(fencing.sinceMs / 1000);
  const what =
    fencing.device === "meatware"
      ? `a person who makes sure that ${fencing.node} is off`
      : `the reset of ${fencing.node} with ${fencing.device ?? "its device"}, attempt ${fencing.attempts}`;
  const last = fencing.text === undefined ? [] : [`         last answer: ${fencing.text}`];
  return [`fencing  waits for ${what}, since ${seconds} s; nothing is taken over before`, ...last];
}

function renderGroup(group: GroupView, cluster: ClusterStatus): string[] {
  const peer = cluster.nodes.find((node) => !node.own);
  let where: string = group.state;
  if (group.state === "running") where = `running on ${cluster.node}`;
  else if (group.state === "stopped" && peer !== undefined && holdsGroup(peer, group))
    where = `running on ${peer.node}`;
  const failed = group.failedResource === undefined ? "" : ` (${group.failedResource} failed)`;
  const failures = group.failures === undefined ? "" : `, ${group.failures} failures found by monitoring`;
  const home = where.endsWith(group.node) ? "" : `, home is ${group.node}`;
  return [`group    ${group.key}`, `         ${where}${failed}${failures}${home}`];
}

/** What the other node holds is named from its own point of view. */
function holdsGroup(peer: NodeView, group: GroupView): boolean {
  if (peer.holds === "all") return true;
  return peer.holds === (group.node === peer.node ? "local" : "foreign");
}

export function renderResource(resource: Overview["resources"][number]): string[] {
  if (!("volumes" in resource)) return [`disk     ${resource.name.padEnd(12)} not up`];
  const lines = [`disk     ${resource.name.padEnd(12)} ${resource.connection}  ${resource.role}/${resource.peerRole}`];
  for (const volume of resource.volumes) {
    lines.push(
      `         ${(volume.device ?? `volume ${volume.volume}`).padEnd(12)} ${volume.disk}/${volume.peerDisk}  ${size(volume.sizeBytes)}` +
        (volume.outOfSyncBytes > 0 ? `, ${size(volume.outOfSyncBytes)} out of sync` : "") +
        (resource.suspended ? ", I/O suspended" : ""),
    );
    if (volume.resync !== null) lines.push(`         ${progress(volume.resync.doneBytes, volume.resync.totalBytes)}`);
  }
  return lines;
}

function progress(done: number, total: number): string {
  const share = total === 0 ? 1 : done / total;
  const filled = Math.floor(share * 20);
  return `[${"=".repeat(filled)}${">".padEnd(20 - filled, ".")}] ${(share * 100).toFixed(1)} % (${size(done)} of ${size(total)})`;
}

export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** What somebody should do now; empty when all is well. */
export function adviceFor(overview: Overview): string[] {
  const advice: string[] = [];
  const { cluster } = overview;
  for (const alarm of cluster?.alarms ?? []) {
    advice.push(`since ${new Date(alarm.sinceMs).toISOString().slice(0, 19)}Z: ${alarm.text}`);
  }
  if (cluster === null) advice.push('this node takes nothing over: run "hacluster start"');
  else if ("nodes" in cluster) {
    for (const node of cluster.nodes) {
      if (!node.own && node.status === "dead") {
        advice.push(
          `${node.node} is dead or unreachable: look at the machine and at the links, then "hacluster start" there`,
        );
      }
    }
    if (cluster.fencing !== undefined) {
      const { node } = cluster.fencing;
      advice.push(
        `${node} must be reset first: switch it off by hand, then run "hacluster fence-confirm ${node}" here`,
      );
    }
    for (const ping of cluster.pingNodes) {
      if (ping.status === "dead") advice.push(`ping node ${ping.node} does not answer this node: look at the network`);
    }
    for (const group of cluster.groups) {
      if (group.state === "failed")
        advice.push(`group ${group.key} failed here: see the log, repair, then "hacluster start" to try again`);
      if (group.state === "stop-failed") {
        advice.push(
          `group ${group.key} does not stop here and cannot run elsewhere: end what holds it, then "hacluster standby"`,
        );
      }
    }
  }
  for (const resource of overview.resources) advice.push(...resourceAdvice(resource));
  return advice;
}

function resourceAdvice(resource: Overview["resources"][number]): string[] {
  const { name } = resource;
  if (!("volumes" in resource)) return [`${name} is not replicated: run "hacluster blockrep up ${name}"`];
  const advice: string[] = [];
  if (resource.connection === "StandAlone") {
    advice.push(
      `${name} is StandAlone and will not connect by itself: after a split brain, on the node whose changes are to be thrown away run "hacluster blockrep connect --discard-my-data ${name}", on the other "hacluster blockrep connect ${name}"`,
    );
  } else if (resource.connection === "WFConnection") {
    advice.push(`${name} has no peer: writes are on this disk alone until it returns`);
  }
  for (const volume of resource.volumes) {
    if (volume.disk === "Diskless" || volume.disk === "Failed") {
      advice.push(
        `${name} lost its disk here: replace it, then "hacluster blockrep create-md ${name}" and "attach ${name}"`,
      );
    }
    if (volume.disk === "Inconsistent" && volume.resync === null) {
      advice.push(
        `${name} has no usable data here yet: it needs a peer with UpToDate data, or "primary --force" for a first sync`,
      );
    }
  }
  return advice;
}
