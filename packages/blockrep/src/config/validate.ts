import { type Diagnostics, nearestWord, type SourcePosition } from "../base/index.ts";
import { formatAddress } from "./address.ts";
import type { DrbdConfig, HostConfig, OptionSetting, ResourceConfig } from "./model.ts";

/**
 * Find what single statements cannot show: missing parts, things used twice, settings that exclude each other.
 * Returns the configuration with the names of stacked hosts filled in and dangling `resync-after` removed.
 */
export function validate(config: DrbdConfig, diagnostics: Diagnostics): DrbdConfig {
  // after a broken statement what is missing is most likely what was broken: one finding is enough
  const whole = !diagnostics.hasErrors;
  const resources = config.resources.map((resource) => {
    const hosts = resource.hosts.map((host) => withLowerNames(config, resource, host, diagnostics));
    return withoutDangling({ ...resource, hosts }, config, diagnostics);
  });
  const checked = { ...config, resources };
  for (const resource of resources) {
    checkHosts(resource, whole, diagnostics);
    if (whole) checkVolumes(resource, diagnostics);
    checkPolicies(checked, resource, diagnostics);
  }
  checkUnique(resources, diagnostics);
  return checked;
}

function withLowerNames(
  config: DrbdConfig,
  resource: ResourceConfig,
  host: HostConfig,
  diagnostics: Diagnostics,
): HostConfig {
  if (host.lower === undefined) return host;
  const lower = config.resources.find((r) => r.name === host.lower);
  if (lower === undefined) {
    const near = nearestWord(
      host.lower,
      config.resources.map((r) => r.name),
    );
    const hint = near === undefined ? "define it in this configuration" : `did you mean ${near}?`;
    diagnostics.error(host.at, `resource ${resource.name} is stacked on unknown resource "${host.lower}"`, hint);
    return host;
  }
  return { ...host, names: lower.hosts.flatMap((h) => h.names) };
}

function withoutDangling(resource: ResourceConfig, config: DrbdConfig, diagnostics: Diagnostics): ResourceConfig {
  const names = config.resources.map((r) => r.name);
  const known = (setting: OptionSetting): boolean => {
    if (setting.name !== "resync-after" || setting.value === undefined) return true;
    const name = setting.value.replace(/\/[0-9]+$/, "");
    if (names.includes(name)) return true;
    const near = nearestWord(name, names);
    const hint = near === undefined ? "the setting has no effect" : `did you mean ${near}?`;
    diagnostics.warning(setting.valueAt, `resync-after names unknown resource "${setting.value}"`, hint);
    return false;
  };
  return { ...resource, sections: { ...resource.sections, disk: resource.sections.disk.filter(known) } };
}

function title(host: HostConfig): string {
  if (host.kind === "floating" && host.address !== undefined) return `floating ${formatAddress(host.address)}`;
  return host.lower === undefined ? `on ${host.names.join(" ")}` : `stacked-on-top-of ${host.lower}`;
}

function checkHosts(resource: ResourceConfig, whole: boolean, diagnostics: Diagnostics): void {
  const seen = new Map<string, SourcePosition>();
  for (const host of resource.hosts) {
    if (whole && host.address === undefined) {
      const hint = 'write "address ADDRESS:PORT;" into it';
      diagnostics.error(host.at, `resource ${resource.name}, ${title(host)}: the address is missing`, hint);
    }
    if (host.lower !== undefined) {
      const hint = "no volume of this resource starts here";
      diagnostics.warning(host.at, `resource ${resource.name}: stacked resources are not supported`, hint);
      continue;
    }
    for (const name of host.names) {
      const first = seen.get(name);
      if (first !== undefined) {
        diagnostics.error(
          host.at,
          `resource ${resource.name} has two sections for host ${name}`,
          `${place(first)} is the other`,
        );
      }
      seen.set(name, host.at);
    }
  }
  if (!whole) return;
  if (resource.hosts.length === 1) {
    const hint = 'add "on PEER { }"; without it there is nobody to replicate to';
    diagnostics.warning(resource.at, `resource ${resource.name} has one host only`, hint);
  } else if (resource.hosts.length === 0) {
    const hint = 'add "on HOST { }" for both nodes';
    diagnostics.warning(resource.at, `resource ${resource.name} has no host`, hint);
  }
}

function checkVolumes(resource: ResourceConfig, diagnostics: Diagnostics): void {
  const where = (host: HostConfig): string => `resource ${resource.name}, ${title(host)}`;
  for (const host of resource.hosts) {
    const stacked = host.kind === "stacked-on-top-of";
    if (host.volumes.length === 0) {
      diagnostics.error(
        host.at,
        `${where(host)}: there is no volume`,
        'write "device", "disk" and "meta-disk" into it',
      );
    }
    const unnumbered = host.volumes.find((v) => v.implicit);
    if (unnumbered !== undefined && host.volumes.length > 1) {
      const hint = 'put "device", "disk" and "meta-disk" of every volume into a "volume N { }"';
      diagnostics.error(unnumbered.at, `${where(host)}: statements without a volume beside numbered volumes`, hint);
    }
    let previous = -1;
    for (const volume of host.volumes) {
      const name = volume.implicit ? "" : `, volume ${volume.vnr}`;
      const needed = [
        ["device", volume.device, "device /dev/drbd0;"],
        ["disk", stacked || volume.disk, "disk /dev/sdb1; (none: no disk here)"],
        ["meta-disk", stacked || volume.metaDisk, "meta-disk internal;"],
      ] as const;
      for (const [word, value, example] of needed) {
        if (value === undefined) {
          diagnostics.error(volume.at, `${where(host)}${name}: ${word} is missing`, `write "${example}"`);
        }
      }
      if (volume.vnr === previous) {
        diagnostics.error(volume.at, `${where(host)}: volume ${volume.vnr} is there twice`, "give each its own number");
      }
      previous = volume.vnr;
      if (volume.disk?.path === "none") {
        diagnostics.warning(volume.disk.at, `${where(host)}${name}: diskless nodes are not supported`, "name a disk");
      }
      if (volume.metaDisk !== undefined && "path" in volume.metaDisk && volume.metaDisk.path === volume.disk?.path) {
        const message = `${where(host)}${name}: data and metadata share ${volume.metaDisk.path}`;
        diagnostics.error(volume.metaDisk.at, message, 'write "meta-disk internal;"');
      }
    }
  }
  const [first, ...others] = resource.hosts.filter((host) => host.volumes.length > 0);
  for (const host of first === undefined ? [] : others) {
    for (const [mine, theirs] of [[first as HostConfig, host] as const, [host, first as HostConfig] as const]) {
      for (const volume of mine.volumes) {
        const twin = theirs.volumes.find((v) => v.vnr === volume.vnr);
        if (twin === undefined) {
          const message = `resource ${resource.name}: volume ${volume.vnr} of ${title(mine)} is missing in ${title(theirs)}`;
          diagnostics.error(theirs.at, message, `add "volume ${volume.vnr} { }" to it`);
        } else if (mine === first && twin.implicit !== volume.implicit) {
          const message = `resource ${resource.name}: volume ${volume.vnr} is numbered on one host and not on the other`;
          diagnostics.error(twin.at, message, `write "volume ${volume.vnr} { }" in both or in none`);
        }
      }
    }
  }
}

/** The setting that counts, of the resource or of `common`. */
export function effective(
  config: DrbdConfig,
  resource: ResourceConfig,
  section: "net" | "disk" | "startup",
  name: string,
): OptionSetting | undefined {
  const all = [...(config.common?.sections[section] ?? []), ...resource.sections[section]];
  return all.findLast((setting) => setting.name === name);
}

function checkPolicies(config: DrbdConfig, resource: ResourceConfig, diagnostics: Diagnostics): void {
  const value = (section: "net" | "disk" | "startup", name: string): string | undefined =>
    effective(config, resource, section, name)?.value;
  const discard = effective(config, resource, "net", "after-sb-0pri");
  const victim = /^discard-node-(.+)$/.exec(discard?.value ?? "")?.[1];
  if (discard !== undefined && victim !== undefined) {
    const hosts = resource.hosts.flatMap((host) => host.names);
    if (!hosts.includes(victim)) {
      // drbdadm would discard the peer's data on both nodes
      const near = nearestWord(victim, hosts);
      const hint = near === undefined ? `its hosts are ${hosts.join(", ")}` : `did you mean discard-node-${near}?`;
      diagnostics.error(discard.valueAt, `resource ${resource.name}: ${discard.value} names an unknown host`, hint);
    }
  }
  const become = effective(config, resource, "startup", "become-primary-on");
  if (become?.value !== undefined) {
    if (become.value === "both" && value("net", "allow-two-primaries") !== "yes") {
      const hint = 'write "allow-two-primaries;" into net, or name one host';
      diagnostics.error(
        become.at,
        `resource ${resource.name}: become-primary-on both without allow-two-primaries`,
        hint,
      );
    }
    const hosts = resource.hosts.flatMap((host) => host.names);
    for (const name of become.value === "both" ? [] : become.value.split(" ")) {
      if (hosts.includes(name)) continue;
      const near = nearestWord(name, hosts);
      const hint = near === undefined ? `its hosts are ${hosts.join(", ")}` : `did you mean ${near}?`;
      diagnostics.error(
        become.valueAt,
        `resource ${resource.name}: become-primary-on names unknown host "${name}"`,
        hint,
      );
    }
  }
}

function place(at: SourcePosition): string {
  return `${at.file}:${at.line}:${at.column}`;
}

function checkUnique(resources: readonly ResourceConfig[], diagnostics: Diagnostics): void {
  const seen = new Map<string, SourcePosition>();
  const reported = new Set<SourcePosition>();
  const claim = (key: string, what: string, at: SourcePosition, hint: string): void => {
    const first = seen.get(key);
    if (first === undefined) seen.set(key, at);
    // the same statement again: it is inherited by several hosts, and was reported for the first
    else if (first !== at && !reported.has(at)) {
      reported.add(at);
      diagnostics.error(at, `${what} is used twice, first in ${place(first)}`, hint);
    }
  };
  for (const [index, resource] of resources.entries()) {
    // a second resource of a name is reported as such
    if (resources.findIndex((r) => r.name === resource.name) !== index) continue;
    for (const host of resource.hosts) {
      if (host.address !== undefined) {
        const shown = formatAddress(host.address);
        claim(`address ${shown}`, `address ${shown}`, host.address.at, "give every resource and host its own");
      }
      const names = host.kind === "floating" ? [title(host)] : host.names;
      for (const name of names) {
        for (const { device, disk, metaDisk } of host.volumes) {
          if (device !== undefined) {
            const what = `minor ${device.minor} of ${name}`;
            claim(`minor ${name} ${device.minor}`, what, device.at, "give every volume its own");
            if (device.path !== undefined) {
              claim(
                `device ${name} ${device.path}`,
                `device ${device.path} of ${name}`,
                device.at,
                "give every volume its own",
              );
            }
          }
          if (disk !== undefined && disk.path !== "none") {
            claim(`disk ${name} ${disk.path}`, `disk ${disk.path} of ${name}`, disk.at, "give every volume its own");
          }
          if (metaDisk !== undefined && metaDisk.kind !== "internal") {
            const slot = metaDisk.kind === "indexed" ? `${metaDisk.path}[${metaDisk.index}]` : metaDisk.path;
            claim(
              `meta ${name} ${slot}`,
              `meta-disk ${slot} of ${name}`,
              metaDisk.at,
              "give every volume its own slot",
            );
          }
        }
      }
    }
  }
}
