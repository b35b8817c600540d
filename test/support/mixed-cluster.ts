import { filesFor } from "../demo/configuration.ts";
import { Hacluster } from "../demo/hacluster.ts";
import { HEARTBEAT_PEER_NEEDS, type HeartbeatFiles, HeartbeatPeer } from "../lab/heartbeat-peer.ts";
import { Lab } from "../lab/lab.ts";
import { waitFor } from "../lab/process.ts";
import type { Needs } from "./requires.ts";

/** What a `MixedCluster` needs of this machine. */
export const MIXED_CLUSTER_NEEDS: Needs = {
  ...HEARTBEAT_PEER_NEEDS,
  programs: { ...HEARTBEAT_PEER_NEEDS.programs, arping: "iputils-arping" },
  files: {
    ...HEARTBEAT_PEER_NEEDS.files,
    "/etc/ha.d/resource.d/IPaddr2": "Debian packages heartbeat, resource-agents",
  },
};

/** Short times over the user's ha.cf. Heartbeat itself wants initdead to be at least deadtime. */
const TIMES: Readonly<Record<string, string>> = { keepalive: "200ms", deadtime: "2", warntime: "1", initdead: "5" };
const SERVICE_ADDRESS = "192.168.0.29";
/** The user's line with a service of ours in place of the replicated disk and the web server. */
const HARESOURCES = "nodo1 IPaddr2::192.168.0.29/24/eth0 service::data\n";
/** It runs on a node while this file is there; every start and stop is noted in the log. */
const SERVICE = `#!/bin/sh
# service NAME start|stop|status
mark=/run/service-$1
case $2 in
start) [ -e "$mark" ] || echo "start $1" >>/var/log/service; touch "$mark" ;;
stop) [ ! -e "$mark" ] || echo "stop $1" >>/var/log/service; rm -f "$mark" ;;
status) [ -e "$mark" ] && echo running || echo stopped ;;
esac
`;

/** A real Heartbeat 3.0.6 on nodo1 and hacluster on nodo2, with the user's ha.cf and authkeys. */
export class MixedCluster {
  readonly lab: Lab;
  readonly real: HeartbeatPeer;
  readonly hacluster: Hacluster;

  private constructor(lab: Lab, real: HeartbeatPeer) {
    this.lab = lab;
    this.real = real;
    this.hacluster = new Hacluster(lab.node("nodo2"), 60_000);
  }

  /** Both are started, not awaited: see `settle`. */
  static async start(
    options: {
      classic?: boolean;
      authkeys?: string;
      /** Another authkeys for our node. */
      ourAuthkeys?: string;
      autoFailback?: "on" | "off";
      name?: string;
      /** A machine that can be pinged. */
      client?: boolean;
      /** Further lines of ha.cf on both nodes. */
      extra?: string;
    } = {},
  ): Promise<MixedCluster> {
    const lab = await Lab.up({ name: options.name ?? "mixed", client: options.client ?? false });
    try {
      const files = (node: "nodo1" | "nodo2"): HeartbeatFiles => {
        const text = (name: string): string =>
          filesFor(node, true).find(({ path }) => path === `ha.d/${name}`)?.text ?? "";
        let haCf = text("ha.cf");
        if (options.classic !== true) {
          for (const [key, value] of Object.entries(TIMES))
            haCf = haCf.replace(new RegExp(`^${key}\\s.*$`, "m"), `${key} ${value}`);
        }
        if (options.autoFailback !== undefined)
          haCf = haCf.replace(/^auto_failback\s.*$/m, `auto_failback ${options.autoFailback}`);
        haCf += options.extra ?? "";
        const authkeys = options.authkeys ?? text("authkeys");
        return { haCf, authkeys, haresources: HARESOURCES, scripts: { service: SERVICE } };
      };
      const node = lab.node("nodo2");
      const ours = files("nodo2");
      await node.must(["sh", "-c", "rm -rf /etc/drbd.d /etc/drbd.conf /var/log/ha-log /var/log/ha-debug"]);
      await node.writeFile("/etc/ha.d/ha.cf", ours.haCf);
      await node.writeFile("/etc/ha.d/authkeys", options.ourAuthkeys ?? ours.authkeys, 0o600);
      await node.writeFile("/etc/ha.d/haresources", ours.haresources);
      await node.writeFile("/etc/ha.d/resource.d/service", SERVICE, 0o755);
      const [real] = await Promise.all([
        HeartbeatPeer.start(lab.node("nodo1"), files("nodo1")),
        node.must(["hacluster", "start"]),
      ]);
      return new MixedCluster(lab, real);
    } catch (error) {
      await lab.down();
      throw error;
    }
  }

  /** Which of the two nodes have the service and the address, as seen on the nodes themselves. */
  async owners(): Promise<string> {
    const states = await Promise.all(
      this.lab.nodes.map(async (node) => {
        if (!node.isOn) return "";
        const script = `[ -e /run/service-data ] && printf service; ip -4 -o addr show dev eth0 | grep -q ' ${SERVICE_ADDRESS}/' && printf +address`;
        const { stdout } = await node.exec(["sh", "-c", script]);
        return stdout === "" ? "" : `${node.name}:${stdout}`;
      }),
    );
    return states.filter((state) => state !== "").join(" ");
  }

  /** Wait until exactly this node has both, and the other one nothing. */
  async waitForOwner(node: "nodo1" | "nodo2", timeoutMs: number): Promise<void> {
    await this.waitForOwners(`${node}:service+address`, timeoutMs);
  }

  /** Wait until `owners` says exactly this. */
  async waitForOwners(wanted: string, timeoutMs: number): Promise<void> {
    let seen = "";
    const reached = await waitFor(
      async () => {
        seen = await this.owners();
        return seen === wanted;
      },
      timeoutMs,
      100,
    );
    if (!reached) throw new Error(`not within ${timeoutMs} ms: ${wanted}; seen: ${seen}\n${await this.report()}`);
  }

  async report(): Promise<string> {
    const ours = this.lab.node("nodo2");
    const log = await ours.exec(["sh", "-c", "tail -n 60 /var/log/ha-log 2>/dev/null"]);
    const real = this.lab.node("nodo1").isOn ? await this.real.lastWords(40) : "off";
    const status = await this.hacluster.statusText().catch(String);
    return `--- nodo2: hacluster status\n${status}\n${log.stdout}\n--- nodo1: ha-log of Heartbeat\n${real}`;
  }
}
