import { hostname, networkInterfaces } from "node:os";
import {
  type DrbdConfig,
  type ParseResult,
  type ResolvedResource,
  readDrbdConf,
  resolveResource,
} from "@hacluster/blockrep";
import { type HeartbeatConfig, loadHeartbeatConfig, readNodeName } from "@hacluster/heartbeat";
import { CommandFailure, showDiagnostics } from "./commands/context.ts";

/** This machine's name as drbd.conf's `on` sections mean it. */
export function hostName(): string {
  return hostname();
}

export function localAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map((entry) => entry.address));
}

/** The DRBD configuration of this machine, or of `file`. @throws CommandFailure after showing what is wrong */
export function requireDrbdConfig(file?: string): DrbdConfig {
  const result = readDrbdConf(file === undefined ? {} : { file });
  if (result === undefined) {
    throw new CommandFailure(
      "hacluster: no DRBD configuration: neither /etc/drbd.conf nor /etc/drbd.d/*.res is there; write one, or name it with -c FILE",
    );
  }
  return accepted(result);
}

function accepted(result: ParseResult): DrbdConfig {
  if (result.diagnostics.hasErrors) {
    showDiagnostics(result.diagnostics.items, true);
    throw new CommandFailure("hacluster: the DRBD configuration has errors; nothing was done");
  }
  return result.config;
}

/** The resources that an argument means: a name, or all of this host. */
export function resolveNamed(config: DrbdConfig, name: string): ResolvedResource[] {
  const options = { localAddresses: localAddresses() };
  if (name !== "all") return [resolveResource(config, name, hostName(), options)];
  return config.resources.map((resource) => resolveResource(config, resource.name, hostName(), options));
}

/** @throws CommandFailure after showing what is wrong with the three files */
export function requireHeartbeatConfig(): HeartbeatConfig {
  const loaded = loadHeartbeatConfig();
  if (loaded.config === undefined) {
    showDiagnostics(loaded.diagnostics.items, true);
    throw new CommandFailure("hacluster: the cluster configuration has errors; nothing was started");
  }
  const node = readNodeName();
  const names = loaded.config.haCf.nodes.map((n) => n.name);
  if (!names.includes(node)) {
    throw new CommandFailure(
      `hacluster: this node is "${node}" (uname -n), and ${loaded.config.haCf.file} has only ${names.join(", ")}; correct the host name or the "node" lines`,
    );
  }
  return loaded.config;
}

/** For status: this node and the resources of drbd.conf, whatever state the files are in. */
export function resourceNames(): { node: string; names: string[] } {
  let names: string[] = [];
  try {
    names = (readDrbdConf()?.config.resources ?? []).map((resource) => resource.name);
  } catch {
    // unreadable files are another command's subject: status shows what runs
  }
  return { node: readNodeName(), names };
}
