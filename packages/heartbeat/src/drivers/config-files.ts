import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Diagnostics } from "@hacluster/blockrep/base";
import { checkAuthkeysMode, parseAuthkeys } from "../config/authkeys.ts";
import { parseHaCf } from "../config/ha-cf.ts";
import { parseHaclusterConf } from "../config/hacluster-conf.ts";
import { parseHaresources } from "../config/haresources.ts";
import type { AuthKeys, GroupResource, HaCf, HaclusterConf, Haresources, HeartbeatConfig } from "../config/model.ts";

export interface LoadOptions {
  /** Folder that holds etc/ha.d; "/" by default. */
  readonly root?: string;
  /**
   * What a readable authkeys is. A daemon must not start with it; a copy of somebody's files elsewhere, such as a
   * git checkout, cannot keep modes. Default: `error` below "/", else `warning`.
   */
  readonly authkeysMode?: "error" | "warning";
  /** Report interfaces, users, programs and scripts that this machine lacks, as warnings. Default true. */
  readonly checkMachine?: boolean;
}

export interface LoadedConfig {
  readonly diagnostics: Diagnostics;
  /** What could be read of each file, for display. */
  readonly haCf: HaCf | undefined;
  readonly authkeys: AuthKeys | undefined;
  readonly haresources: Haresources | undefined;
  /** All of them; present when there is no error, and only then to be used. */
  readonly config: HeartbeatConfig | undefined;
}

/** Read ROOT/etc/ha.d/{ha.cf,authkeys,haresources} and, where it is there, hacluster.conf. All findings of all files in one run; never throws for a file. */
export function loadHeartbeatConfig(options: LoadOptions = {}): LoadedConfig {
  const root = options.root ?? "/";
  const folder = join(root, "etc/ha.d");
  const diagnostics = new Diagnostics();
  const haCfText = read(join(folder, "ha.cf"), "utf8", diagnostics);
  const haCf = haCfText === undefined ? undefined : parseHaCf(haCfText, join(folder, "ha.cf"), diagnostics);
  const authkeys = loadAuthkeys(join(folder, "authkeys"), options.authkeysMode ?? modeSeverity(root), diagnostics);
  const haresourcesPath = join(folder, "haresources");
  const haresourcesText = read(haresourcesPath, "utf8", diagnostics);
  const haresources =
    haresourcesText === undefined
      ? undefined
      : parseHaresources(haresourcesText, haresourcesPath, diagnostics, haCf?.nodes);
  const hacluster = loadHaclusterConf(join(folder, "hacluster.conf"), diagnostics, haresources);
  if (options.checkMachine !== false) {
    if (haCf !== undefined) checkInterfacesAndUsers(haCf, haresources, root, diagnostics);
    if (haresources !== undefined) checkScripts(haresources, root, diagnostics);
  }
  const complete = haCf !== undefined && authkeys !== undefined && haresources !== undefined;
  return {
    diagnostics,
    haCf,
    authkeys,
    haresources,
    config:
      complete && !diagnostics.hasErrors
        ? { haCf, authkeys, haresources, ...(hacluster === undefined ? {} : { hacluster }) }
        : undefined,
  };
}

/** The one file that need not be there. */
function loadHaclusterConf(
  path: string,
  diagnostics: Diagnostics,
  haresources: Haresources | undefined,
): HaclusterConf | undefined {
  if (!existsSync(path)) return undefined;
  const text = read(path, "utf8", diagnostics);
  return text === undefined ? undefined : parseHaclusterConf(text, path, diagnostics, haresources);
}

function modeSeverity(root: string): "error" | "warning" {
  return join(root, ".") === "/" ? "error" : "warning";
}

function read(path: string, encoding: "utf8" | "latin1", diagnostics: Diagnostics): string | undefined {
  try {
    return readFileSync(path, encoding);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const at = { file: path, line: 1, column: 1 };
    if (code === "ENOENT") diagnostics.error(at, "the file does not exist", "copy it from the other node, or write it");
    else diagnostics.error(at, `cannot be read (${code})`, code === "EACCES" ? "run as root" : undefined);
    return undefined;
  }
}

function loadAuthkeys(path: string, severity: "error" | "warning", diagnostics: Diagnostics): AuthKeys | undefined {
  // latin1: a key is the bytes of the file, whatever encoding its author used
  const text = read(path, "latin1", diagnostics);
  if (text === undefined) return undefined;
  const found = new Diagnostics();
  checkAuthkeysMode(statSync(path).mode, path, found);
  for (const item of found.items) {
    if (severity === "error") diagnostics.error(item.at, item.message, item.hint);
    else diagnostics.warning(item.at, item.message, item.hint);
  }
  return parseAuthkeys(text, path, diagnostics);
}

function checkInterfacesAndUsers(
  haCf: HaCf,
  haresources: Haresources | undefined,
  root: string,
  diagnostics: Diagnostics,
): void {
  const present = (name: string): boolean => existsSync(join("/sys/class/net", name));
  for (const medium of haCf.media) {
    if (medium.kind === "serial") {
      if (existsSync(medium.device)) continue;
      diagnostics.warning(medium.at, `serial device ${medium.device} does not exist on this machine`);
    } else if (!present(medium.interface)) {
      diagnostics.warning(medium.at, `interface ${medium.interface} does not exist on this machine`, nearInterfaces());
    }
  }
  for (const resource of haresources?.groups.flatMap((g) => g.resources) ?? []) {
    if (resource.kind !== "address" || resource.address.interface === undefined) continue;
    if (present(resource.address.interface)) continue;
    diagnostics.warning(
      resource.at,
      `"${resource.text}": interface ${resource.address.interface} does not exist on this machine`,
      nearInterfaces(),
    );
  }
  const users = new Set(lines(join(root, "etc/passwd")).map((line) => line.slice(0, Math.max(0, line.indexOf(":")))));
  for (const client of haCf.respawn) {
    if (!users.has(client.user)) diagnostics.warning(client.at, `user ${client.user} does not exist on this machine`);
    if (client.builtIn === undefined && !isExecutable(join(root, client.path))) {
      diagnostics.warning(client.at, `program ${client.path} does not exist on this machine, or is not executable`);
    }
  }
}

function nearInterfaces(): string {
  let names: string[] = [];
  try {
    names = readdirSync("/sys/class/net").filter((name) => name !== "lo");
  } catch {
    // no sysfs: nothing to propose
  }
  return names.length === 0 ? "it has none but lo" : `it has ${names.join(", ")}`;
}

/** Served by hacluster itself, whatever the machine has. */
const OWN_SCRIPTS: ReadonlySet<string> = new Set(["drbddisk", "drbdupper", "IPaddr", "IPaddr2", "Filesystem"]);

function checkScripts(haresources: Haresources, root: string, diagnostics: Diagnostics): void {
  for (const resource of haresources.groups.flatMap((g) => g.resources)) {
    if (resource.kind === "systemd") {
      if (!hasUnit(root, resource.unit)) diagnostics.warning(resource.at, `no systemd unit ${resource.unit}`);
    } else if (!OWN_SCRIPTS.has(resource.script) && !hasScript(root, resource)) {
      const name = resource.kind === "ocf" ? resource.agent : resource.script;
      diagnostics.warning(
        resource.at,
        resource.kind === "ocf"
          ? `no OCF agent "${name}" below /usr/lib/ocf/resource.d`
          : `no script "${name}" in /etc/ha.d/resource.d or /etc/init.d, and no OCF agent or systemd unit of that name`,
        "install the package that brings it, on both nodes",
      );
    }
  }
}

function hasScript(root: string, resource: GroupResource): boolean {
  if (resource.kind === "ocf") return hasAgent(root, resource.agent);
  return (
    isExecutable(join(root, "etc/ha.d/resource.d", resource.script)) ||
    isExecutable(join(root, "etc/init.d", resource.script)) ||
    hasAgent(root, resource.script) ||
    hasUnit(root, resource.script)
  );
}

function hasAgent(root: string, name: string): boolean {
  const folder = join(root, "usr/lib/ocf/resource.d");
  try {
    return readdirSync(folder).some((provider) => isExecutable(join(folder, provider, name)));
  } catch {
    return false;
  }
}

function hasUnit(root: string, name: string): boolean {
  const file = name.includes(".") ? name : `${name}.service`;
  return ["etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"].some((folder) =>
    existsSync(join(root, folder, file)),
  );
}

function isExecutable(path: string): boolean {
  try {
    const stat = statSync(path);
    return stat.isFile() && (stat.mode & 0o111) !== 0;
  } catch {
    return false;
  }
}

function lines(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n");
  } catch {
    return [];
  }
}
