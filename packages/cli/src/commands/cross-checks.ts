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
      if (resource.kind === "filesystem" && /^\/dev\/drbd/.test(resource.device) && !devices.has(resource.device)) {
        findings.push({
          severity: "warning",
          at: resource.at,
          message: `"${resource.text}": no resource in the DRBD configuration has the device ${resource.device}`,
        });
      }
    }
  }
  findings.push(...hostNameChecks(heartbeat, drbd));
  return findings;
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
