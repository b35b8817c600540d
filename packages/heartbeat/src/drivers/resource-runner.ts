import { mkdirSync, readFileSync } from "node:fs";
import { nameArguments, OCF_NOT_RUNNING, parseInstanceFile, parseMetaData } from "./ocf-agent.ts";
import { DrbdDiskResource, type StorageControl } from "./resources/drbddisk.ts";
import { FilesystemResource } from "./resources/filesystem.ts";
import { IpAddressResource } from "./resources/ip-address.ts";
import {
  type ActionResult,
  type BuiltinResource,
  failed,
  type ResourceAction,
  type ResourceAlarm,
  type ResourceSpec,
  statusSaysRunning,
} from "./resources/resource.ts";
import { type CommandResult, runCommand } from "./run-command.ts";
import { scriptEnvironment } from "./script-environment.ts";
import { type ResolvedScript, ScriptLookup } from "./script-lookup.ts";
import { ScriptOutput } from "./script-output.ts";

export type { ResolvedScript } from "./script-lookup.ts";

export interface RunnerOptions {
  readonly storage: StorageControl;
  /** Added to the environment of every script: the HA_* variables of Heartbeat. */
  readonly environment?: () => Readonly<Record<string, string>>;
  /** Prefix of every path, for tests and for looking at another machine's tree. */
  readonly root?: string;
  readonly timeLimitsMs?: Partial<Record<ResourceAction, number>>;
  /** Wait for the answer to the probe before an address is taken, in milliseconds; 0: do not probe. Default 40. */
  readonly addressProbeMs?: number;
  /** Whether processes that keep a filesystem busy may be ended when it has to be unmounted. Default true. */
  readonly endHolders?: boolean;
  /** One line that an action printed, as it comes; control characters removed, bounded in length and number. */
  readonly onOutput?: (spec: ResourceSpec, action: ResourceAction, line: string) => void;
  readonly onAlarm?: (alarm: ResourceAlarm) => void;
}

/** Generous: a database may take minutes to stop. A hanging script must still end some day, so that somebody acts. */
const TIME_LIMITS_MS: Readonly<Record<ResourceAction, number>> = { start: 600_000, stop: 600_000, status: 60_000 };
const META_DATA_LIMIT_MS = 10_000;

const INSTANCE_FOLDER = "/etc/ha.d/conf/OCF";
/** Where agents keep their state. Packages make it at boot; it must be there in a container too. */
const AGENT_STATE_FOLDER = "/run/resource-agents";

/** Runs what the words of a haresources line name; `ScriptLookup` says where that is found. */
export class ResourceRunner {
  readonly #options: RunnerOptions;
  readonly #lookup: ScriptLookup;
  readonly #address: IpAddressResource;
  readonly #builtins: ReadonlyMap<string, BuiltinResource>;
  readonly #metaData = new Map<string, Promise<string>>();

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#lookup = new ScriptLookup(options.root);
    this.#address = new IpAddressResource({
      ...(options.addressProbeMs === undefined ? {} : { probeMs: options.addressProbeMs }),
      ...(options.onAlarm === undefined ? {} : { onAlarm: options.onAlarm }),
    });
    const disk = new DrbdDiskResource(options.storage);
    const limits = { stopMs: this.#limit("stop"), endHolders: options.endHolders ?? true };
    this.#builtins = new Map<string, BuiltinResource>([
      ["IPaddr", this.#address],
      ["IPaddr2", this.#address],
      ["Filesystem", new FilesystemResource(limits)],
      ["drbddisk", disk],
      ["drbdupper", disk],
    ]);
  }

  /** Finds the script of a word; `args` tell which agent `OCF::AGENT::…` means. */
  resolve(script: string, args: readonly string[] = []): ResolvedScript {
    return this.#lookup.resolve(script, args);
  }

  /** Tell the neighbours again where the addresses of this node are. */
  announceAll(): void {
    this.#address.announceAll();
  }

  /** Ask the network whether another machine has one of our addresses too; a conflict raises an alarm. */
  checkConflicts(): Promise<void> {
    return this.#address.checkConflicts();
  }

  /**
   * Remove addresses of the groups that are on an interface although nothing holds them.
   * @param except texts of resources (as in haresources) that this node does run
   * @returns one sentence for each address found
   */
  removeLeftovers(
    groups: readonly { readonly resources: readonly (ResourceSpec & { readonly text: string })[] }[],
    except: ReadonlySet<string> = new Set(),
  ): Promise<string[]> {
    const addresses = groups
      .flatMap((group) => group.resources)
      .filter(({ script, text }) => (script === "IPaddr" || script === "IPaddr2") && !except.has(text))
      .filter(({ script, args }) => this.resolve(script, args).kind === "builtin");
    return this.#address.removeLeftovers(addresses);
  }

  /** No more announcements. */
  close(): void {
    this.#address.close();
  }

  /** Run one action; failures are results, never exceptions. `signal` ends a script as its time limit does. */
  async run(spec: ResourceSpec, action: ResourceAction, signal?: AbortSignal): Promise<ActionResult> {
    const tell = (result: ActionResult): ActionResult => {
      for (const line of result.output.split("\n")) if (line !== "") this.#options.onOutput?.(spec, action, line);
      return result;
    };
    try {
      const resolved = this.resolve(spec.script, spec.args);
      switch (resolved.kind) {
        case "builtin":
          return tell(await (this.#builtins.get(resolved.name) as BuiltinResource)[action](spec.args));
        case "script":
          return await this.#runScript(resolved, spec, action, signal);
        case "ocf":
          return await this.#runOcf(resolved, spec, action, signal);
        case "systemd":
          return await this.#runSystemd(resolved.unit, spec, action, signal);
        case "missing":
          return tell(
            failed(
              `cannot locate resource script ${spec.script}: it is neither in /etc/ha.d/resource.d nor in /etc/init.d, and no OCF agent and no systemd unit has that name`,
              127,
            ),
          );
      }
    } catch (error) {
      return tell(failed(`${spec.script} ${action}: ${error instanceof Error ? error.message : String(error)}`));
    }
  }

  async #runScript(
    script: Extract<ResolvedScript, { kind: "script" }>,
    spec: ResourceSpec,
    action: ResourceAction,
    signal: AbortSignal | undefined,
  ): Promise<ActionResult> {
    this.#makeStateFolder();
    // called unquoted by Heartbeat, so empty arguments vanish
    const args = [...spec.args.filter((arg) => arg !== ""), action];
    const result = await this.#command(script.path, args, spec, action, signal);
    return this.#judge(result, `${script.path} ${action}`, action, () =>
      statusSaysRunning(result.stdout, script.lsb ? result.exitCode : undefined),
    );
  }

  async #runOcf(
    { path, agent }: Extract<ResolvedScript, { kind: "ocf" }>,
    spec: ResourceSpec,
    action: ResourceAction,
    signal: AbortSignal | undefined,
  ): Promise<ActionResult> {
    const args = spec.script === "OCF" ? spec.args.slice(1) : spec.args;
    const instance = this.#instance(agent, args);
    const read =
      instance === undefined
        ? nameArguments(agent, args, parseMetaData(await this.#agentMeta(path)))
        : { named: instance };
    if ("refusal" in read) {
      this.#options.onOutput?.(spec, action, read.refusal);
      return failed(read.refusal, 2);
    }
    const environment: Record<string, string> = {
      ...this.#ocfEnvironment(agent),
      OCF_RESOURCE_INSTANCE: `${agent}_${args.join("_").replace(/[^\w.-]/g, "_") || "default"}`,
    };
    for (const [name, value] of Object.entries(read.named)) environment[`OCF_RESKEY_${name}`] = value;
    this.#makeStateFolder();
    const verb = action === "status" ? "monitor" : action;
    const result = await this.#command(path, [verb], spec, action, signal, environment);
    return this.#judge(result, `${path} ${verb}`, action, () => result.exitCode !== OCF_NOT_RUNNING);
  }

  /** `OCF::AGENT::INSTANCE` names a file of parameters, when there is one. */
  #instance(agent: string, args: readonly string[]): Record<string, string> | undefined {
    const [instance] = args;
    if (args.length !== 1 || instance === undefined || !/^[\w.-]+$/.test(instance)) return undefined;
    try {
      return parseInstanceFile(readFileSync(this.#lookup.path(`${INSTANCE_FOLDER}/${agent}`, instance), "utf8"));
    } catch {
      return undefined;
    }
  }

  #agentMeta(path: string): Promise<string> {
    const known = this.#metaData.get(path);
    if (known !== undefined) return known;
    const asked = runCommand(path, ["meta-data"], {
      env: this.#environment(this.#ocfEnvironment("")),
      timeLimitMs: META_DATA_LIMIT_MS,
    }).then((result) => {
      if (result.exitCode !== 0) this.#metaData.delete(path); // asked again next time
      return result.exitCode === 0 ? result.stdout : "";
    });
    this.#metaData.set(path, asked);
    return asked;
  }

  #ocfEnvironment(agent: string): Record<string, string> {
    return {
      OCF_ROOT: "/usr/lib/ocf",
      OCF_RA_VERSION_MAJOR: "1",
      OCF_RA_VERSION_MINOR: "0",
      OCF_RESOURCE_PROVIDER: "heartbeat",
      OCF_RESOURCE_TYPE: agent,
    };
  }

  /** Agents' meta-data costs some hundred milliseconds: asked for at start, not in the middle of a takeover. */
  async prepare(specs: readonly ResourceSpec[]): Promise<void> {
    for (const { script, args } of specs) {
      const found = this.resolve(script, args);
      if (found.kind === "ocf") await this.#agentMeta(found.path);
    }
  }

  async #runSystemd(
    unit: string,
    spec: ResourceSpec,
    action: ResourceAction,
    signal: AbortSignal | undefined,
  ): Promise<ActionResult> {
    const verb = action === "status" ? "is-active" : action;
    const result = await this.#command("systemctl", [verb, unit], spec, action, signal);
    return this.#judge(
      result,
      `systemctl ${verb} ${unit}`,
      action,
      // what is on its way up or down still holds something
      () => result.exitCode === 0 || /^(activating|deactivating|reloading|refreshing)/.test(result.stdout),
    );
  }

  async #command(
    program: string,
    args: readonly string[],
    spec: ResourceSpec,
    action: ResourceAction,
    signal: AbortSignal | undefined,
    environment: Readonly<Record<string, string>> = {},
  ): Promise<CommandResult> {
    const { onOutput } = this.#options;
    const output = onOutput === undefined ? undefined : new ScriptOutput((line) => onOutput(spec, action, line));
    const result = await runCommand(program, args, {
      env: this.#environment(environment),
      timeLimitMs: this.#limit(action),
      service: true,
      ...(signal === undefined ? {} : { signal }),
      ...(output === undefined ? {} : { onOutput: (stream, text) => output.write(stream, text) }),
    });
    output?.end();
    if (result.timedOut) onOutput?.(spec, action, this.#late(`${spec.script} ${action}`, action));
    return result;
  }

  #judge(result: CommandResult, what: string, action: ResourceAction, running: () => boolean): ActionResult {
    const late = result.timedOut ? this.#late(what, action) : "";
    const output = [result.stdout.trim(), result.stderr.trim(), late].filter((text) => text !== "").join("\n");
    const exitCode = result.timedOut ? 124 : result.exitCode;
    return action === "status" ? { exitCode, output, running: running() } : { exitCode, output };
  }

  #late(what: string, action: ResourceAction): string {
    return `${what} did not end within ${this.#limit(action) / 1000} s and was stopped`;
  }

  #limit(action: ResourceAction): number {
    return this.#options.timeLimitsMs?.[action] ?? TIME_LIMITS_MS[action];
  }

  #environment(added: Readonly<Record<string, string>>): Record<string, string> {
    return { ...scriptEnvironment(process.env, this.#options.environment?.()), ...added };
  }

  #makeStateFolder(): void {
    try {
      mkdirSync(this.#lookup.path("/", AGENT_STATE_FOLDER), { recursive: true, mode: 0o755 });
    } catch {
      // the agent will say what it misses
    }
  }
}
