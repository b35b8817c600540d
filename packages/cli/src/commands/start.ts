import { existsSync, readdirSync, readFileSync } from "node:fs";
import { type ResolvedResource, readDrbdConf } from "@hacluster/blockrep";
import { loadHeartbeatConfig } from "@hacluster/heartbeat";
import { Command } from "commander";
import { requireDrbdConfig, requireHeartbeatConfig, resolveNamed } from "../configuration.ts";
import { textOf } from "../control/protocol.ts";
import { startDaemon } from "../daemon/start-up.ts";
import { CommandFailure, complain, print } from "./context.ts";
import { callHeartbeat, clusterStatusIfRunning } from "./control.ts";
import { bringUp, waitForPeer } from "./resources.ts";

/**
 * `hacluster start`: disks up, wait for the peer as startup {} says, then join the cluster. Where it runs already, service
 * groups that failed are tried again.
 */
export function startCommand(): Command {
  return new Command("start")
    .description("bring the replicated disks up, wait for the peer as startup {} says, join the cluster")
    .option("--no-wait", "do not wait for the peers of the disks")
    .action(async (options: { wait: boolean }) => {
      requireHeartbeatConfig();
      const resources = readDrbdConf() === undefined ? [] : resolveNamed(requireDrbdConfig(), "all");
      if ((await clusterStatusIfRunning()) !== undefined) {
        print(`the cluster runs here already: ${textOf(await callHeartbeat("start"))}`);
        return;
      }
      refuseBesideHeartbeat();
      for (const warning of bootConflicts()) complain(`warning: ${warning}`);
      for (const resource of resources) await bringUp(resource, {});
      if (options.wait) await waitForAll(resources);
      await startDaemon(["heartbeat"]);
      print("started");
    });
}

/** A peer that does not come within the configured time ends the wait, not the start: that is what the time is for. */
async function waitForAll(resources: readonly ResolvedResource[]): Promise<void> {
  await Promise.all(
    resources.map(async (resource) => {
      try {
        await waitForPeer(resource, "connected");
      } catch (error) {
        if (!(error instanceof CommandFailure) || error.exitCode !== 5) throw error;
        complain(`${error.message}: going on without the peer`);
      }
    }),
  );
}

/** Two programs that answer for one node name would each start its services. */
function refuseBesideHeartbeat(): void {
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    let command = "";
    try {
      command = readFileSync(`/proc/${name}/comm`, "utf8").trim();
    } catch {
      continue; // ended meanwhile
    }
    if (command === "heartbeat" && !isOurs(name)) {
      throw new CommandFailure(
        `hacluster: a Heartbeat runs here (pid ${name}): stop it first ("systemctl stop heartbeat" or "heartbeat -k")`,
      );
    }
  }
}

/** Node names its process "node"; only a real Heartbeat is called heartbeat. This guards against a renamed one of ours. */
function isOurs(pid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("hacluster");
  } catch {
    return true;
  }
}

/** What would start by itself at boot, and so on both nodes: each a warning with what to do. */
function bootConflicts(): string[] {
  const warnings: string[] = [];
  const groups = loadHeartbeatConfig({ checkMachine: false }).haresources?.groups ?? [];
  let fstab = "";
  try {
    fstab = readFileSync("/etc/fstab", "utf8");
  } catch {
    // a node without fstab mounts nothing by itself
  }
  for (const resource of groups.flatMap((group) => group.resources)) {
    if (resource.kind === "filesystem") {
      const { device, directory } = resource;
      const line = fstab
        .split("\n")
        .map((text) => text.trim().split(/\s+/))
        .find(([what = "", where]) => !what.startsWith("#") && (what === device || where === directory));
      if (line !== undefined && !(line[3] ?? "").split(",").includes("noauto")) {
        warnings.push(
          `${directory} stands in /etc/fstab and would be mounted at boot on both nodes: add "noauto" there`,
        );
      }
    }
    const unit = resource.kind === "systemd" ? resource.unit : resource.kind === "script" ? resource.script : undefined;
    if (unit !== undefined && isEnabledAtBoot(unit)) {
      warnings.push(`${unit} starts at boot on both nodes: run "systemctl disable ${unit}"`);
    }
  }
  return warnings;
}

function isEnabledAtBoot(unit: string): boolean {
  if (!existsSync("/run/systemd/system")) return false;
  const file = unit.includes(".") ? unit : `${unit}.service`;
  return ["multi-user.target.wants", "graphical.target.wants", "default.target.wants"].some((target) =>
    existsSync(`/etc/systemd/system/${target}/${file}`),
  );
}
