import { accessSync, constants, existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { type FileOrigin, fileOrigin } from "./dpkg.ts";

/** What a word of a haresources line turned out to be on this machine. */
export type ResolvedScript =
  | { readonly kind: "builtin"; readonly name: string; readonly note?: string }
  /** `lsb`: from /etc/init.d, whose `status` speaks through its exit code too. */
  | { readonly kind: "script"; readonly path: string; readonly lsb: boolean; readonly note?: string }
  | { readonly kind: "ocf"; readonly path: string; readonly agent: string }
  | { readonly kind: "systemd"; readonly unit: string }
  | { readonly kind: "missing" };

const RESOURCE_FOLDER = "/etc/ha.d/resource.d";
const LSB_FOLDER = "/etc/init.d";
const OCF_FOLDERS = ["/usr/lib/ocf/resource.d/heartbeat", "/usr/lib/ocf/resource.d/pacemaker"];
const UNIT_FOLDERS = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/** Names that run inside the daemon. */
export const BUILTIN_NAMES: readonly string[] = ["IPaddr", "IPaddr2", "Filesystem", "drbddisk", "drbdupper"];

/**
 * Finds what the words of a haresources line name. Order of search: our own resource unless the administrator put a file
 * of that name into resource.d; /etc/ha.d/resource.d; /etc/init.d; OCF agents; a systemd unit. `systemd:UNIT` says so.
 */
export class ScriptLookup {
  readonly #root: string;
  readonly #origins = new Map<string, FileOrigin>();

  /** @param root prefix of every path, for tests and for looking at another machine's tree */
  constructor(root = "/") {
    this.#root = root;
  }

  /** `args` tell which agent `OCF::AGENT::…` means. */
  resolve(script: string, args: readonly string[] = []): ResolvedScript {
    if (script === "OCF") return this.#ocfAgent(args[0] ?? "") ?? { kind: "missing" };
    if (script.startsWith("systemd:")) return { kind: "systemd", unit: script.slice("systemd:".length) };
    if (BUILTIN_NAMES.includes(script)) return this.#builtin(script);
    for (const folder of [RESOURCE_FOLDER, LSB_FOLDER]) {
      const path = this.path(folder, script);
      if (isExecutable(path)) return { kind: "script", path, lsb: folder === LSB_FOLDER };
    }
    return this.#ocfAgent(script) ?? this.#unit(script) ?? { kind: "missing" };
  }

  #builtin(name: string): ResolvedScript {
    const path = this.path(RESOURCE_FOLDER, name);
    if (!isExecutable(path)) return { kind: "builtin", name };
    const origin = this.#origin(path);
    if (origin.kind === "package") {
      const note = `built-in ${name} used in place of ${path} of the Debian package ${origin.packageName}`;
      return { kind: "builtin", name, note };
    }
    const whose =
      origin.kind === "own" ? "belongs to no package" : `was changed since ${origin.packageName} brought it`;
    return { kind: "script", path, lsb: false, note: `${path} ${whose}: it is used, not the built-in ${name}` };
  }

  #ocfAgent(agent: string): ResolvedScript | undefined {
    if (!/^[\w.-]+$/.test(agent)) return undefined;
    const path = OCF_FOLDERS.map((folder) => this.path(folder, agent)).find(isExecutable);
    return path === undefined ? undefined : { kind: "ocf", path, agent };
  }

  #unit(name: string): ResolvedScript | undefined {
    if (!/^[\w.@:-]+$/.test(name)) return undefined;
    const unit = /\.(service|target|socket|mount|timer)$/.test(name) ? name : `${name}.service`;
    const template = unit.replace(/@[^.]*\./, "@.");
    const found = UNIT_FOLDERS.some((folder) => [unit, template].some((file) => existsSync(this.path(folder, file))));
    return found ? { kind: "systemd", unit } : undefined;
  }

  /** A path below the root. */
  path(folder: string, name: string): string {
    return join(this.#root, folder, name);
  }

  #origin(path: string): FileOrigin {
    const known = this.#origins.get(path);
    if (known !== undefined) return known;
    const origin = fileOrigin(path, join(this.#root, "var/lib/dpkg"));
    this.#origins.set(path, origin);
    return origin;
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
