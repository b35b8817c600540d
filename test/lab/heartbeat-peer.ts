import { existsSync } from "node:fs";
import type { Needs } from "../support/requires.ts";
import type { LabNode } from "./node.ts";
import { CommandError, type Result, waitFor } from "./process.ts";

const DAEMON = ["/usr/lib/heartbeat/heartbeat", "/usr/libexec/heartbeat/heartbeat"].find((path) => existsSync(path));

/** What a real Heartbeat needs of the host. */
export const HEARTBEAT_PEER_NEEDS: Needs = {
  root: true,
  namespaces: true,
  programs: { ip: "iproute2", cl_status: "heartbeat" },
  files: {
    "/usr/share/heartbeat/hb_standby": "Debian package heartbeat",
    "/etc/ha.d/harc": "Debian package heartbeat",
  },
};

/** What the daemon gives its scripts; `hb_standby` and `hb_takeover` want it too. */
const ENVIRONMENT: Readonly<Record<string, string>> = {
  PATH: "/usr/share/heartbeat:/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C",
  HA_DIR: "/etc/ha.d",
  HA_FIFO: "/var/lib/heartbeat/fifo",
  HA_LOGFACILITY: "",
  HA_LOGFILE: "/var/log/ha-log",
  HA_DEBUGLOG: "/var/log/ha-debug",
};

/** Arguments of `hb_standby` and `hb_takeover`. */
export type ResourceSet = "all" | "local" | "foreign" | "failback";

export interface HeartbeatFiles {
  readonly haCf: string;
  readonly authkeys: string;
  readonly haresources: string;
  /** Scripts for /etc/ha.d/resource.d, by name. */
  readonly scripts?: Readonly<Record<string, string>>;
}

/**
 * The real Heartbeat 3.0.6 in a node of a lab. Its power loss is the node's (`node.kill()`); after `node.start()` call
 * `start` again: generation and node id are on the node's /var.
 */
export class HeartbeatPeer {
  readonly node: LabNode;

  private constructor(node: LabNode) {
    this.node = node;
  }

  /** Install the files and start the daemon. `ha.cf` should log to /var/log/ha-log and /var/log/ha-debug. */
  static async start(node: LabNode, files: HeartbeatFiles): Promise<HeartbeatPeer> {
    const self = new HeartbeatPeer(node);
    // of the host's own installation only the packages' scripts are used, never its configuration or state
    await node.must(["sh", "-c", "rm -f /var/lib/heartbeat/hb_* /var/log/ha-log /var/log/ha-debug"]);
    await node.writeFile("/etc/ha.d/ha.cf", files.haCf);
    await node.writeFile("/etc/ha.d/authkeys", files.authkeys, 0o600);
    await node.writeFile("/etc/ha.d/haresources", files.haresources);
    for (const [name, text] of Object.entries(files.scripts ?? {}))
      await node.writeFile(`/etc/ha.d/resource.d/${name}`, text, 0o755);
    await self.start();
    return self;
  }

  /** Start the daemon; resolves when it says that it runs (`active` comes after initdead, see `waitForStatus`). */
  async start(): Promise<void> {
    const folders = [
      "mkdir -p /run/resource-agents /run/heartbeat/ccm /run/heartbeat/crm /run/heartbeat/dopd /run/heartbeat/rsctmp",
      "chown -R hacluster:haclient /run/heartbeat",
      "chmod 750 /run/heartbeat /run/heartbeat/*",
    ].join(" && ");
    await this.node.must(["sh", "-c", folders]);
    await this.must([DAEMON ?? "heartbeat"], 30_000);
    const runs = async (): Promise<boolean> => (await this.exec([DAEMON ?? "heartbeat", "-s"])).code === 0;
    if (!(await waitFor(runs, 30_000, 200))) throw new Error(`Heartbeat does not run: ${await this.lastWords()}`);
  }

  /** Clean stop: resources are released, the peer is told. */
  async stop(): Promise<void> {
    await this.must([DAEMON ?? "heartbeat", "-k"], 120_000);
  }

  async exec(command: readonly string[], timeoutMs = 30_000): Promise<Result> {
    return await this.node.exec(command, { env: ENVIRONMENT, timeoutMs });
  }

  /** @throws CommandError */
  async must(command: readonly string[], timeoutMs = 30_000): Promise<string> {
    const result = await this.exec(command, timeoutMs);
    if (result.code !== 0) throw new CommandError([`${this.node.name}:`, ...command], result);
    return result.stdout;
  }

  /** `cl_status nodestatus NODE`: active, up, dead, ...; "" while the daemon does not answer. */
  async statusOf(node: string): Promise<string> {
    return (await this.exec(["cl_status", "nodestatus", node])).stdout.trim();
  }

  /** `cl_status rscstatus`: none, local, foreign, all, transition. */
  async resources(): Promise<string> {
    return (await this.exec(["cl_status", "rscstatus"])).stdout.trim();
  }

  async waitForStatus(node: string, status: string, timeoutMs: number): Promise<void> {
    await this.#until(`${node} is ${status}`, async () => (await this.statusOf(node)) === status, timeoutMs);
  }

  async waitForResources(status: string | RegExp, timeoutMs: number): Promise<void> {
    const is = (seen: string): boolean => (typeof status === "string" ? seen === status : status.test(seen));
    await this.#until(`resources are ${status}`, async () => is(await this.resources()), timeoutMs);
  }

  /** Give resources to the other node: all, local, foreign, failback. */
  async standby(which: ResourceSet = "all"): Promise<void> {
    await this.must(["hb_standby", which]);
  }

  /** Take resources from the other node. */
  async takeover(which: ResourceSet = "all"): Promise<void> {
    await this.must(["hb_takeover", which]);
  }

  async log(): Promise<string> {
    return (await this.node.exec(["sh", "-c", "cat /var/log/ha-log 2>/dev/null"])).stdout;
  }

  async waitForLog(pattern: RegExp, timeoutMs: number): Promise<void> {
    await this.#until(`its log shows ${pattern}`, async () => pattern.test(await this.log()), timeoutMs);
  }

  /** The end of the log, for the report of a failure. */
  async lastWords(lines = 25): Promise<string> {
    return (await this.log()).trim().split("\n").slice(-lines).join("\n");
  }

  async #until(what: string, condition: () => Promise<boolean>, timeoutMs: number): Promise<void> {
    if (await waitFor(condition, timeoutMs, 200)) return;
    throw new Error(`Heartbeat on ${this.node.name}: not within ${timeoutMs} ms: ${what}\n${await this.lastWords()}`);
  }
}
