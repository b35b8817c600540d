import { accessSync, constants, statSync } from "node:fs";
import { join } from "node:path";
import { fileOrigin } from "./dpkg.ts";
import { DrbdDiskResource, type StorageControl } from "./resources/drbddisk.ts";
import { FilesystemResource } from "./resources/filesystem.ts";
import { IpAddressResource } from "./resources/ip-address.ts";
import {
  type ActionResult,
  type BuiltinResource,
  failed,
  type ResourceAction,
  type ResourceSpec,
  statusTextSaysRunning,
} from "./resources/resource.ts";
import { runCommand } from "./run-command.ts";

/** What a word of a haresources line turned out to be on this machine. */
export type ResolvedScript =
  | { readonly kind: "builtin"; readonly name: string; readonly note?: string }
  | { readonly kind: "script"; readonly path: string; readonly note?: string }
  | { readonly kind: "ocf"; readonly path: string; readonly agent: string }
  | { readonly kind: "systemd"; readonly unit: string }
  | { readonly kind: "missing" };

export interface RunnerOptions {
  readonly storage: StorageControl;
  /** Added to the environment of every script: the HA_* variables of Heartbeat. */
  readonly environment?: () => Readonly<Record<string, string>>;
  /** Prefix of every path, for tests and for looking at another machine's tree. */
  readonly root?: string;
  readonly timeLimitsMs?: Partial<Record<ResourceAction, number>>;
}

/** Generous: a database may take minutes to stop. A hanging script must still end some day, so that somebody acts. */
const TIME_LIMITS_MS: Readonly<Record<ResourceAction, number>> = { start: 600_000, stop: 600_000, status: 60_000 };

const OCF_FOLDERS = ["/usr/lib/ocf/resource.d/heartbeat", "/usr/lib/ocf/resource.d/pacemaker"];
const OCF_NOT_RUNNING = 7;
const BUILTIN_NAMES = ["IPaddr", "IPaddr2", "Filesystem", "drbddisk", "drbdupper"] as const;

/**
 * Finds and runs what the words of a haresources line name. Order of search: our own resource unless the administrator
 * put a file of that name into resource.d; /etc/ha.d/resource.d; /etc/init.d; OCF agents; `systemd:UNIT`.
 */
export class ResourceRunner {
  readonly #options: RunnerOptions;
  readonly #builtins: ReadonlyMap<string, BuiltinResource>;
  readonly #origins = new Map<string, ReturnType<typeof fileOrigin>>();

  constructor(options: RunnerOptions) {
    this.#options = options;
    const address = new IpAddressResource();
    const disk = new DrbdDiskResource(options.storage);
    this.#builtins = new Map<string, BuiltinResource>([
      ["IPaddr", address],
      ["IPaddr2", address],
      ["Filesystem", new FilesystemResource()],
      ["drbddisk", disk],
      ["drbdupper", disk],
    ]);
  }

  /** Finds the script of a word; `args` tell which agent `OCF::AGENT::…` means. */
  resolve(script: string, args: readonly string[] = []): ResolvedScript {
    if (script === "OCF") return this.#ocfAgent(args[0] ?? "") ?? { kind: "missing" };
    const inResourceD = this.#path("/etc/ha.d/resource.d", script);
    if (this.#builtins.has(script)) {
      if (!isExecutable(inResourceD)) return { kind: "builtin", name: script };
      const origin = this.#origin(inResourceD);
      if (origin.kind === "package") {
        return {
          kind: "builtin",
          name: script,
          note: `built-in ${script} used in place of ${inResourceD} of the Debian package ${origin.packageName}`,
        };
      }
      const whose =
        origin.kind === "own" ? "belongs to no package" : `was changed since ${origin.packageName} brought it`;
      return {
        kind: "script",
        path: inResourceD,
        note: `${inResourceD} ${whose}: it is used, not the built-in ${script}`,
      };
    }
    if (script.startsWith("systemd:")) return { kind: "systemd", unit: script.slice("systemd:".length) };
    for (const folder of ["/etc/ha.d/resource.d", "/etc/init.d"]) {
      const path = this.#path(folder, script);
      if (isExecutable(path)) return { kind: "script", path };
    }
    return this.#ocfAgent(script) ?? { kind: "missing" };
  }

  #ocfAgent(agent: string): ResolvedScript | undefined {
    for (const folder of OCF_FOLDERS) {
      const path = this.#path(folder, agent);
      if (isExecutable(path)) return { kind: "ocf", path, agent };
    }
    return undefined;
  }

  /** Run one action; failures are results, never exceptions. */
  async run(spec: ResourceSpec, action: ResourceAction): Promise<ActionResult> {
    const resolved = this.resolve(spec.script, spec.args);
    const args = spec.script === "OCF" ? spec.args.slice(1) : spec.args;
    try {
      switch (resolved.kind) {
        case "builtin":
          return await (this.#builtins.get(resolved.name) as BuiltinResource)[action](args);
        case "script":
          return await this.#runScript(resolved.path, args, action);
        case "ocf":
          return await this.#runOcf(resolved.path, resolved.agent, args, action);
        case "systemd":
          return await this.#runSystemd(resolved.unit, action);
        case "missing":
          return failed(
            `cannot locate resource script ${spec.script}: it is neither in /etc/ha.d/resource.d nor in /etc/init.d, and no OCF agent has that name`,
            127,
          );
      }
    } catch (error) {
      return failed(`${spec.script} ${action}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  async #runScript(path: string, args: readonly string[], action: ResourceAction): Promise<ActionResult> {
    // called unquoted by Heartbeat, so empty arguments vanish
    const result = await runCommand(path, [...args.filter((arg) => arg !== ""), action], {
      env: this.#environment(),
      timeLimitMs: this.#limit(action),
    });
    const output = joinOutput(result.stdout, result.stderr, result.timedOut, path, action, this.#limit(action));
    if (action !== "status") return { exitCode: result.timedOut ? 124 : result.exitCode, output };
    return { exitCode: result.exitCode, output, running: statusTextSaysRunning(result.stdout) };
  }

  /** OCF agents take parameters by name: write `AGENT::name=value`. */
  async #runOcf(path: string, agent: string, args: readonly string[], action: ResourceAction): Promise<ActionResult> {
    const parameters: Record<string, string> = {};
    for (const arg of args) {
      const equals = arg.indexOf("=");
      if (equals < 1)
        return failed(`OCF agent ${agent} takes parameters by name: write ${agent}::name=value, not "${arg}"`, 2);
      parameters[`OCF_RESKEY_${arg.slice(0, equals)}`] = arg.slice(equals + 1);
    }
    const result = await runCommand(path, [action === "status" ? "monitor" : action], {
      env: {
        ...this.#environment(),
        ...parameters,
        OCF_ROOT: "/usr/lib/ocf",
        OCF_RA_VERSION_MAJOR: "1",
        OCF_RA_VERSION_MINOR: "0",
        OCF_RESOURCE_PROVIDER: "heartbeat",
        OCF_RESOURCE_TYPE: agent,
        OCF_RESOURCE_INSTANCE: `${agent}_${args.join("_").replace(/[^\w.-]/g, "_") || "default"}`,
      },
      timeLimitMs: this.#limit(action),
    });
    const output = joinOutput(result.stdout, result.stderr, result.timedOut, path, action, this.#limit(action));
    if (action !== "status") return { exitCode: result.timedOut ? 124 : result.exitCode, output };
    // anything but "not running" may still hold the resource: 7 alone means stopped
    return { exitCode: result.exitCode, output, running: result.exitCode !== OCF_NOT_RUNNING };
  }

  async #runSystemd(unit: string, action: ResourceAction): Promise<ActionResult> {
    const verb = action === "status" ? "is-active" : action;
    const result = await runCommand("systemctl", [verb, unit], { timeLimitMs: this.#limit(action) });
    const output = joinOutput(
      result.stdout,
      result.stderr,
      result.timedOut,
      `systemctl ${verb}`,
      unit,
      this.#limit(action),
    );
    if (action !== "status") return { exitCode: result.exitCode, output };
    return { exitCode: result.exitCode, output, running: result.exitCode === 0 };
  }

  #limit(action: ResourceAction): number {
    return this.#options.timeLimitsMs?.[action] ?? TIME_LIMITS_MS[action];
  }

  #environment(): NodeJS.ProcessEnv {
    return { ...process.env, ...this.#options.environment?.() };
  }

  #path(folder: string, name: string): string {
    return join(this.#options.root ?? "/", folder, name);
  }

  #origin(path: string): ReturnType<typeof fileOrigin> {
    const known = this.#origins.get(path);
    if (known !== undefined) return known;
    const origin = fileOrigin(path, join(this.#options.root ?? "/", "var/lib/dpkg"));
    this.#origins.set(path, origin);
    return origin;
  }
}

/** Names that run inside the daemon. */
export const builtinResources: readonly string[] = BUILTIN_NAMES;

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function joinOutput(
  stdout: string,
  stderr: string,
  timedOut: boolean,
  what: string,
  action: string,
  limitMs: number,
): string {
  const late = timedOut ? `${what} ${action} did not end within ${limitMs / 1000} s and was stopped` : "";
  return [stdout.trim(), stderr.trim(), late].filter((text) => text !== "").join("\n");
}
