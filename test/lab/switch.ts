import { spawn } from "node:child_process";
import { killProcess, must, namespaceOf, type ProcessId, processId, run, waitFor } from "./process.ts";

/** A link of the lab: `eth0` is 192.168.0.0/24, `eth1` (where asked for) 10.0.0.0/24. */
export type LinkName = "eth0" | "eth1";

const PREFIX: Readonly<Record<LinkName, string>> = { eth0: "192.168.0", eth1: "10.0.0" };
/** The switch itself answers here: a gateway, and a ping node. */
export const GATEWAY_HOST = 254;

export function addressOn(link: LinkName, host: number): string {
  return `${PREFIX[link]}.${host}`;
}

export function macOn(link: LinkName, host: number): string {
  const hex = (n: number): string => n.toString(16).padStart(2, "0");
  return `02:00:00:00:${hex(link === "eth0" ? 0 : 1)}:${hex(host)}`;
}

/**
 * The LANs of a lab: one bridge per link, in a network namespace of its own, which a sleeping process holds. The host
 * gets no interface, no route, and no name below /run/netns.
 */
export class Switch {
  readonly #holder: ProcessId;
  readonly links: readonly LinkName[];
  #filterMade = false;

  private constructor(holder: ProcessId, links: readonly LinkName[]) {
    this.#holder = holder;
    this.links = links;
  }

  static async make(links: readonly LinkName[]): Promise<Switch> {
    const child = spawn("unshare", ["--net", "sleep", "infinity"], { stdio: "ignore", detached: true });
    child.unref();
    const holder = child.pid === undefined ? undefined : processId(child.pid);
    if (holder === undefined) throw new Error("cannot make the switch's network namespace (unshare --net)");
    const self = new Switch(holder, links);
    try {
      const own = namespaceOf(process.pid, "net");
      const entered = (): boolean => {
        const its = namespaceOf(holder.pid, "net");
        return its !== undefined && its !== own;
      };
      if (!(await waitFor(entered, 5_000))) throw new Error("the switch has no network namespace of its own");
      const lines = ["link set lo up"];
      for (const link of links) {
        lines.push(`link add ${link} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`);
        lines.push(`addr add ${addressOn(link, GATEWAY_HOST)}/24 brd + dev ${link}`, `link set ${link} up`);
      }
      await self.#ip(lines);
    } catch (error) {
      await self.remove();
      throw error;
    }
    return self;
  }

  get holder(): ProcessId {
    return this.#holder;
  }

  #enter(): string[] {
    return ["nsenter", `--net=/proc/${this.#holder.pid}/ns/net`, "--"];
  }

  async #ip(lines: readonly string[]): Promise<void> {
    await must([...this.#enter(), "ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
  }

  /** The bridge's end of a node's cable. */
  port(node: string, link: LinkName): string {
    return `${node}-${link.slice(3)}`;
  }

  /** Cables from the switch to a node whose network namespace `pid` is in; addresses and the default route with them. */
  async connect(node: string, host: number, pid: number, links: readonly LinkName[]): Promise<void> {
    const outside: string[] = [];
    const inside: string[] = [];
    for (const link of links) {
      const port = this.port(node, link);
      outside.push(`link add ${port} type veth peer name ${link} address ${macOn(link, host)} netns ${pid}`);
      outside.push(`link set ${port} master ${link} up`);
      inside.push(`addr add ${addressOn(link, host)}/24 brd + dev ${link}`, `link set ${link} up`);
    }
    inside.push(`route add default via ${addressOn("eth0", GATEWAY_HOST)}`);
    await this.#ip(outside);
    await must(["nsenter", `--net=/proc/${pid}/ns/net`, "--", "ip", "-batch", "-"], {
      input: `${inside.join("\n")}\n`,
    });
  }

  /**
   * A tap for a virtual machine: on a link's bridge (there `port(machine, link)` makes cuts and unplugged cables work on
   * it), or by itself with an address of the switch.
   */
  async tap(name: string, where: LinkName | { readonly address: string }): Promise<void> {
    const lines = [`tuntap add dev ${name} mode tap`];
    if (typeof where === "string") lines.push(`link set ${name} master ${where}`);
    else lines.push(`addr add ${where.address} dev ${name}`);
    await this.#ip([...lines, `link set ${name} up`]);
  }

  /** Take a machine's taps away, with `others`; those that are not there do no harm. */
  async removeTaps(node: string, others: readonly string[]): Promise<void> {
    await this.disconnect(node);
    for (const name of others) await run([...this.#enter(), "ip", "link", "del", name]);
  }

  /** Carrier off or on: the node sees its cable pulled or plugged in. */
  async setPort(node: string, link: LinkName, up: boolean): Promise<void> {
    await this.#ip([`link set ${this.port(node, link)} ${up ? "up" : "down"}`]);
  }

  /** All cables of a node go dead at once; a node that is gone has none. */
  async darken(node: string): Promise<void> {
    for (const link of this.links) await run([...this.#enter(), "ip", "link", "set", this.port(node, link), "down"]);
  }

  async disconnect(node: string): Promise<void> {
    for (const link of this.links) await run([...this.#enter(), "ip", "link", "del", this.port(node, link)]);
  }

  /** Drop every frame from one node to another; both keep their carrier. */
  async drop(from: string, to: string, links: readonly LinkName[]): Promise<void> {
    await this.#editCuts("add", from, to, links);
  }

  async undrop(from: string, to: string, links: readonly LinkName[]): Promise<void> {
    await this.#editCuts("delete", from, to, links);
  }

  /** Lose this share of the frames between two nodes, each way by chance; 0 ends it. One pair of nodes at a time. */
  async lose(percent: number, a: string, b: string, links: readonly LinkName[]): Promise<void> {
    const rule = (from: string, to: string, link: LinkName): string =>
      `iifname "${this.port(from, link)}" oifname "${this.port(to, link)}" numgen random mod 100 < ${percent} drop`;
    const rules = links.flatMap((link) => [rule(a, b, link), rule(b, a, link)]);
    const lossy = "bridge lab lossy";
    await this.#nft(
      [
        "add table bridge lab",
        `add chain ${lossy} { type filter hook forward priority 1; }`,
        `flush chain ${lossy}`,
        ...(percent > 0 ? rules.map((line) => `add rule ${lossy} ${line}`) : []),
      ].join("\n"),
    );
  }

  async undropAll(): Promise<void> {
    if (this.#filterMade) await this.#nft("flush set bridge lab cut");
  }

  async #editCuts(verb: string, from: string, to: string, links: readonly LinkName[]): Promise<void> {
    if (!this.#filterMade) {
      await this.#nft(
        [
          "table bridge lab {",
          "  set cut { type ifname . ifname; }",
          "  chain forward { type filter hook forward priority 0; iifname . oifname @cut drop; }",
          "}",
        ].join("\n"),
      );
      this.#filterMade = true;
    }
    const pairs = links.map((link) => `"${this.port(from, link)}" . "${this.port(to, link)}"`);
    await this.#nft(`${verb} element bridge lab cut { ${pairs.join(", ")} }`);
  }

  async #nft(text: string): Promise<void> {
    await must([...this.#enter(), "nft", "-f", "-"], { input: `${text}\n` });
  }

  async remove(): Promise<void> {
    await killProcess(this.#holder);
  }
}
