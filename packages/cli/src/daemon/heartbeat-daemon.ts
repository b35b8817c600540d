import { setPriority } from "node:os";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import {
  type ClusterCommand,
  ClusterNode,
  type CommandResult,
  type GroupSet,
  type HeartbeatConfig,
  loadUuid,
  nextGeneration,
  ResourceRunner,
  readNodeName,
} from "@hacluster/heartbeat";
import type { Logger } from "pino";
import { type ControlValue, textOf } from "../control/protocol.ts";
import { ControlServer } from "../control/server.ts";
import { HEARTBEAT_PID_FILE, HEARTBEAT_SOCKET, HEARTBEAT_STATE_FOLDER } from "../paths.ts";
import { Alarms } from "./alarms.ts";
import { Companions } from "./companions.ts";
import { removePidFile, writePidFile } from "./start-up.ts";
import { StorageLink } from "./storage-link.ts";

export interface HeartbeatDaemonOptions {
  readonly config: HeartbeatConfig;
  /** Names of the resources in drbd.conf, for `drbddisk` without an argument and for facts. */
  readonly resources: readonly string[];
  readonly logger: Logger;
  /** The machine is ours alone: a `failfast` client that dies reboots it. */
  readonly mayReboot: boolean;
  /** The cluster was left in order, or must be left at once: the process may end with this code. */
  readonly onEnd: (exitCode: number) => void;
}

type Params = { readonly [key: string]: ControlValue };

/** Of what a failed script printed, the last lines are in `hacluster status`; all of it is in the log. */
const ALARM_LINES = 3;
/** How often the network is asked whether another machine has one of our addresses too. */
const ADDRESS_CHECK_MS = 60_000;

const SETS: ReadonlySet<string> = new Set<GroupSet>(["local", "foreign", "all"]);

/**
 * The process that is this node's membership: the library's ClusterNode, a control socket, and the connection to the
 * processes of the replicated disks. After a healed partition the node is replaced by one with a new generation.
 */
export class HeartbeatDaemon {
  readonly #options: HeartbeatDaemonOptions;
  readonly #log: Logger;
  readonly #control: ControlServer;
  readonly #storage: StorageLink;
  readonly #runner: ResourceRunner;
  readonly #name: string;
  readonly #alarms: Alarms;
  readonly #companions: Companions;
  readonly #checkMs: number;
  #checkTimer: NodeJS.Timeout | undefined;
  #node: ClusterNode | undefined;
  #ending = false;
  /** What ends the wait of `stop`. */
  #onExit: (() => void) | undefined;

  constructor(options: HeartbeatDaemonOptions) {
    this.#options = options;
    this.#log = options.logger;
    this.#name = readNodeName();
    this.#storage = new StorageLink(options.resources, (resource, facts) => this.#node?.drbdStatus(resource, facts));
    this.#alarms = new Alarms();
    const settings = options.config.hacluster?.runner ?? {};
    this.#runner = new ResourceRunner({
      ...settings,
      storage: this.#storage,
      environment: () => this.#environment(),
      onOutput: ({ script, args }, action, line) => {
        const resource = [script, ...args].join("::");
        const level = action === "status" ? "debug" : "info";
        this.#log[level]({ event: "script.output", resource, action }, `${resource} ${action}: ${line}`);
      },
      onAlarm: (alarm) => {
        const over = alarm.name.endsWith(".over");
        this.#log[over ? "info" : "fatal"]({ event: alarm.name, ...alarm.details }, alarm.text);
        this.#control.publish(alarm.name, alarm.details);
        if (over) this.#alarms.clear(alarm.key);
        else this.#alarms.raise(alarm.key, alarm.name, alarm.text);
      },
    });
    this.#companions = new Companions({
      haCf: options.config.haCf,
      node: this.#name,
      logger: this.#log,
      environment: () => this.#environment(),
      mayReboot: options.mayReboot,
      leave: (reason) => {
        this.stop().catch((error: unknown) =>
          this.#log.fatal({ event: "stop.refused" }, `${reason}: ${String(error)}`),
        );
      },
    });
    this.#checkMs = settings.addressCheckMs ?? ADDRESS_CHECK_MS;
    this.#control = new ControlServer(HEARTBEAT_SOCKET, (method, params) => this.#handle(method, params));
  }

  async start(): Promise<void> {
    await this.#control.listen();
    writePidFile(HEARTBEAT_PID_FILE);
    this.#warnAboutAuthentication();
    this.#reportScripts();
    this.#companions.start();
    this.#storage.start();
    // takes its time for OCF agents, which nobody waits for: a restart inside the dead time must not become late by it
    void this.#runner.prepare(this.#options.config.haresources.groups.flatMap((group) => group.resources));
    if (this.#checkMs > 0) {
      this.#checkTimer = setInterval(() => void this.#runner.checkConflicts(), this.#checkMs);
    }
    await this.#startNode();
  }

  /** SIGTERM: release everything, say so, end. */
  async stop(): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    const exited = new Promise<void>((resolve) => {
      this.#onExit = resolve;
    });
    const result = await this.#node?.command({ kind: "stop" });
    if (result?.ok === false) {
      this.#ending = false;
      throw new HaError(ErrorCode.stateRefused, result.text);
    }
    await exited;
  }

  async #startNode(): Promise<void> {
    const { haCf } = this.#options.config;
    const now = Date.now() / 1000;
    const { generation, previous } = nextGeneration(HEARTBEAT_STATE_FOLDER, haCf.generationMethod, now);
    if (previous === undefined) {
      this.#log.warn({ event: "generation.new" }, `No Previous generation - starting at ${generation}`);
    }
    const uuid = loadUuid(HEARTBEAT_STATE_FOLDER, haCf.uuidFrom, this.#name);
    const journal = this.#companions.takeEarlier();
    await this.#removeLeftovers(journal ?? []);
    this.#node = new ClusterNode({
      config: this.#options.config,
      identity: { node: this.#name, uuid, generation, ...(journal === undefined ? {} : { journal }) },
      ...(this.#companions.journal === undefined ? {} : { journal: this.#companions.journal }),
      runner: this.#runner,
      onEvent: (event) => {
        const level = event.level === "crit" ? "fatal" : event.level;
        this.#log[level]({ event: event.name, ...event.details }, event.text);
        this.#control.publish(event.name, event.details);
        if (event.name === "node.status" && event.details["to"] === "active" && event.details["node"] === this.#name) {
          this.#companions.active();
        }
      },
      onMediaReport: (report) => {
        const level = report.kind === "open" || report.kind === "send-recovered" ? "info" : "warn";
        this.#log[level]({ event: `medium.${report.kind}`, ...report }, `${report.medium}: ${report.kind}`);
      },
      onScriptOutput: (job, result) => {
        if (job.action === "status") return;
        const resource = job.resource.text;
        const key = `${resource} ${job.action}`;
        if (result.exitCode === 0) return this.#alarms.clear(key);
        const text = `${resource} ${job.action} failed with exit code ${result.exitCode}`;
        this.#log.error({ event: "script.exit", resource, action: job.action, exitCode: result.exitCode }, text);
        const said = result.output.split("\n").slice(-ALARM_LINES).join("; ");
        this.#alarms.raise(key, "script.failed", said === "" ? text : `${text}: ${said}`);
      },
      pingPeerNow: (resource) => this.#storage.suspectPeer(resource),
      outdate: (resource) => this.#storage.outdate(resource),
      onRestart: (reason, delayMs) => void this.#restart(reason, delayMs),
      onExit: (reason) => void this.#end(reason),
    });
    this.#log.info(
      { event: "daemon.start", node: this.#name, generation },
      `node ${this.#name} starts with generation ${generation}`,
    );
    await this.#node.start();
  }

  /**
   * Addresses that are on an interface though this daemon did not run their group a moment ago may be the other node's by
   * now: they go before the first packet leaves.
   */
  async #removeLeftovers(adopted: readonly string[]): Promise<void> {
    const { groups } = this.#options.config.haresources;
    const kept = groups.filter((group) => adopted.includes(group.key)).flatMap((group) => group.resources);
    try {
      const said = await this.#runner.removeLeftovers(groups, new Set(kept.map((resource) => resource.text)));
      for (const text of said) this.#log.warn({ event: "address.leftover" }, text);
    } catch (error) {
      this.#log.error({ event: "address.leftover" }, `cannot look for leftover addresses: ${String(error)}`);
    }
  }

  async #restart(reason: string, delayMs: number): Promise<void> {
    this.#log.warn({ event: "restart", delayMs }, `${reason}: back in ${delayMs} ms with a new generation`);
    await this.#node?.close();
    this.#node = undefined;
    setTimeout(() => {
      this.#startNode().catch((error: unknown) => {
        this.#log.fatal({ event: "restart.failed" }, `cannot start again: ${String(error)}`);
        this.#options.onEnd(1);
      });
    }, delayMs);
  }

  async #end(reason: string): Promise<void> {
    this.#log.info({ event: "daemon.stop" }, reason);
    await this.#node?.close();
    await this.#companions.stop();
    clearInterval(this.#checkTimer);
    this.#runner.close();
    this.#storage.close();
    removePidFile(HEARTBEAT_PID_FILE);
    this.#onExit?.();
    // the answer to "stop" leaves before the socket closes
    setImmediate(() => {
      const end = (): void => this.#options.onEnd(0);
      void this.#control.close().then(end, end);
    });
  }

  async #handle(method: string, params: Params): Promise<ControlValue> {
    switch (method) {
      case "subscribe":
        return null;
      case "ping":
        return process.pid;
      case "status":
        return this.#status();
      case "stop":
        await this.stop();
        return null;
      case "standby":
      case "takeover": {
        const set = textOf(params["set"], "all");
        if (!SETS.has(set)) throw new HaError(ErrorCode.unsupported, `"${set}" is none of local, foreign, all`);
        return this.#command({ kind: method, set: set as Exclude<GroupSet, "none"> });
      }
      case "start":
        return this.#command({ kind: "start" });
      case "fence-confirm":
        return this.#command({ kind: "fence-confirm", node: textOf(params["node"]) });
      case "outdate-peer": {
        const resource = textOf(params["resource"]);
        const timeoutMs = Number(params["timeoutMs"] ?? 60_000);
        const { text, exitCode } = await this.#ask({ kind: "outdate-peer", resource, timeoutMs });
        return { text, exitCode: exitCode ?? 1 };
      }
      default:
        throw new HaError(ErrorCode.unsupported, `unknown request "${method}"`);
    }
  }

  #ask(command: ClusterCommand): Promise<CommandResult> {
    if (this.#node === undefined) {
      throw new HaError(ErrorCode.stateRefused, "the node is restarting after a partition; try again in a moment");
    }
    return this.#node.command(command);
  }

  async #command(command: ClusterCommand): Promise<ControlValue> {
    const result = await this.#ask(command);
    if (!result.ok) throw new HaError(ErrorCode.stateRefused, result.text);
    return result.text;
  }

  #status(): ControlValue {
    const alarms = this.#alarms.list();
    if (this.#node === undefined) return { node: this.#name, restarting: true, alarms };
    return { ...this.#node.status(), pid: process.pid, refused: this.#node.refused, alarms } as unknown as ControlValue;
  }

  #warnAboutAuthentication(): void {
    const { authkeys } = this.#options.config;
    if (authkeys.keys.get(authkeys.active)?.method === "crc") {
      this.#log.warn(
        { event: "auth.crc" },
        "authkeys says crc: anybody on these networks can speak for the other node; use sha1 with a key on both nodes",
      );
    }
  }

  #reportScripts(): void {
    for (const group of this.#options.config.haresources.groups) {
      for (const resource of group.resources) {
        const found = this.#runner.resolve(resource.script, resource.args);
        if ("note" in found && found.note !== undefined) this.#log.info({ event: "script.choice" }, found.note);
        if (found.kind === "missing") {
          this.#log.error({ event: "script.missing" }, `${resource.text}: no script, agent or unit of that name here`);
        }
      }
    }
  }

  /** What scripts of Heartbeat find in their environment. */
  #environment(): Readonly<Record<string, string>> {
    const { haCf } = this.#options.config;
    const environment: Record<string, string> = {
      HA_CURHOST: this.#name,
      HA_OSTATUS: this.#node === undefined ? "init" : "active",
      HA_DIR: "/etc/ha.d",
      HA_RCDIR: "/etc/ha.d/rc.d",
      HA_RESOURCEDIR: "/etc/ha.d/resource.d",
      HA_BIN: "/usr/lib/heartbeat",
      HA_DOCDIR: "/usr/share/doc/heartbeat",
      HA_FIFO: "/var/lib/heartbeat/fifo",
      HA_FUNCS: "/etc/ha.d/shellfuncs",
      HA_DATEFMT: "%Y/%m/%d_%T\t",
      HA_LOGD: haCf.useLogd ? "yes" : "no",
      HA_debug: String(haCf.debug),
    };
    if (haCf.autoFailback !== "legacy") environment["HA_NICEFAILBACK"] = "yes";
    if (haCf.logfile !== undefined) environment["HA_LOGFILE"] = haCf.logfile;
    if (haCf.debugfile !== undefined) environment["HA_DEBUGLOG"] = haCf.debugfile;
    if (haCf.logfacility !== undefined) environment["HA_LOGFACILITY"] = haCf.logfacility;
    for (const setting of haCf.settings) environment[`HA_${setting.directive}`] = setting.value;
    for (const [name, value] of haCf.environment) environment[`HA_${name}`] = value;
    return environment;
  }
}

/** Raise our own priority where that is allowed: a busy machine must not make the node late. */
export function raisePriority(log: Logger): void {
  try {
    setPriority(-15);
  } catch (error) {
    log.info({ event: "priority" }, `priority stays as it is (${(error as Error).message})`);
  }
}
