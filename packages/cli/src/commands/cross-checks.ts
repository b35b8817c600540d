import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { DrbdConfig } from "@hacluster/blockrep";
import type { Diagnostic } from "@hacluster/blockrep/base";
import type { LoadedConfig } from "@hacluster/heartbeat";

/** What only shows when the files are looked at together; all of it warnings, since each file is right by itself. */
export function crossChecks(heartbeat: LoadedConfig, drbd: DrbdConfig | undefined, root: string): Diagnostic[] {
  const findings: Diagnostic[] = [];
  if (drbd === undefined) {
    findings.push({
      severity: "warning",
      at: { file: join(root, "etc/drbd.conf"), line: 1, column: 1 },
      message: "there is no DRBD configuration",
      hint: "write /etc/drbd.conf or /etc/drbd.d/RESOURCE.res where disks are to be replicated",
    });
  }
  const names = new Set(drbd?.resources.map((resource) => resource.name) ?? []);
  const devices = new Set(
    drbd?.resources.flatMap((r) => r.hosts.flatMap((h) => h.volumes.map((v) => v.device?.path))) ?? [],
  );
  for (const group of heartbeat.haresources?.groups ?? []) {
    for (const resource of group.resources) {
      if (drbd === undefined) continue;
      if (resource.kind === "drbddisk" && !names.has(resource.resource) && resource.resource !== "all") {
        findings.push({
          severity: "warning",
          at: resource.at,
          message: `"${resource.text}": there is no resource ${resource.resource} in the DRBD configuration`,
          hint: names.size === 0 ? "it has none" : `it has ${[...names].join(", ")}`,
        });
      }
      if (resource.kind === "filesystem" && resource.device.startsWith("/dev/drbd") && !devices.has(resource.device)) {
        findings.push({
          severity: "warning",
          at: resource.at,
          message: `"${resource.text}": no resource in the DRBD configuration has the device ${resource.device}`,
        });
      }
    }
  }
  findings.push(...hostNameChecks(heartbeat, drbd), ...deviceChecks(heartbeat, drbd));
  return findings;
}

/** Disks that this machine lacks: of its own host section, or on a machine that no section means, of all of them. */
function deviceChecks(heartbeat: LoadedConfig, drbd: DrbdConfig | undefined): Diagnostic[] {
  const wanted: { path: string; at: Diagnostic["at"] }[] = [];
  for (const resource of drbd?.resources ?? []) {
    const own = resource.hosts.filter((host) => host.names.includes(hostname()));
    for (const { disk, metaDisk } of (own.length > 0 ? own : resource.hosts).flatMap((host) => host.volumes)) {
      if (disk !== undefined && disk.path !== "none") wanted.push(disk);
      if (metaDisk !== undefined && metaDisk.kind !== "internal") wanted.push(metaDisk);
    }
  }
  const replicated = new Set(
    drbd?.resources.flatMap((r) => r.hosts.flatMap((h) => h.volumes.map((v) => v.device?.path))) ?? [],
  );
  for (const resource of heartbeat.haresources?.groups.flatMap((group) => group.resources) ?? []) {
    if (resource.kind !== "filesystem" || replicated.has(resource.device)) continue;
    // what a resource is to bring, and names such as LABEL=x and server:/path, are not looked for
    if (resource.device.startsWith("/") && !resource.device.startsWith("/dev/drbd")) {
      wanted.push({ path: resource.device, at: resource.at });
    }
  }
  const told = new Set<string>();
  return wanted
    .filter(({ path }) => !existsSync(path) && !told.has(path) && told.add(path))
    .map(({ path, at }) => ({ severity: "warning", at, message: `${path} does not exist on this machine` }));
}

/** The nodes of ha.cf and the hosts of a resource are the same machines, so their names must agree. */
function hostNameChecks(heartbeat: LoadedConfig, drbd: DrbdConfig | undefined): Diagnostic[] {
  const nodes = heartbeat.haCf?.nodes.map((node) => node.name) ?? [];
  if (nodes.length === 0 || drbd === undefined) return [];
  return drbd.resources.flatMap((resource) =>
    resource.hosts
      .filter((host) => host.kind === "on" && !host.names.some((name) => nodes.includes(name.toLowerCase())))
      .map(
        (host): Diagnostic => ({
          severity: "warning",
          at: host.at,
          message: `resource ${resource.name}: ${host.names.join(", ")} is no node of ha.cf`,
          hint: `its nodes are ${nodes.join(", ")}`,
        }),
      ),
  );
}
