import type { ClusterStatus, HaCf } from "@hacluster/heartbeat";
import { loadHeartbeatConfig } from "@hacluster/heartbeat";
import { Command } from "commander";
import { CommandFailure, complain, print } from "./context.ts";
import { clusterStatusIfRunning } from "./control.ts";

/** What cl_status prints, and its exit code. @see Heartbeat 3.0.6 cl_status */
export interface ClStatusAnswer {
  readonly out: readonly string[];
  readonly error?: string;
  readonly exitCode: number;
}

/** Of a node, a link or a client that does not exist. */
const UNKNOWN = { node: 11, link: 13 } as const;

const HELP = `usage: cl_status SUBCOMMAND [OPTIONS]
  hbstatus [-v]                 is Heartbeat running here?
  listnodes [-n|-p|-v]          nodes: normal ones, ping nodes, with states
  nodestatus NODE               init, up, active, dead or ping
  nodetype NODE                 normal or ping
  nodeweight NODE, nodesite NODE
  listhblinks [-v] NODE         links to a node
  hblinkstatus NODE LINK        up or dead
  clientstatus NODE CLIENT [MS] online or offline
  rscstatus                     none, local, foreign, all or transition
  hbparameter -p NAME           a value of ha.cf
with -m as the first option after SUBCOMMAND: as a sentence`;

/** Values of directives that ha.cf does not set. */
const DEFAULTS: Readonly<Record<string, (haCf: HaCf) => string>> = {
  keepalive: () => "1",
  deadtime: () => "30",
  warntime: (haCf) => `${haCf.warntimeMs}ms`,
  initdead: (haCf) => `${haCf.initdeadMs}ms`,
  deadping: (haCf) => `${haCf.deadpingMs}ms`,
  udpport: () => "694",
  baud: () => "19200",
  auto_failback: () => "legacy",
  hopfudge: () => "1",
  cluster: () => "linux-ha",
  debug: () => "0",
  logfacility: () => "none",
};

/** `hacluster cl_status …`: answers of Heartbeat's cl_status, for the scripts that ask it. */
export function clStatusCommand(): Command {
  return new Command("cl_status")
    .description("what Heartbeat's cl_status prints, with its exit codes")
    .argument("[words...]")
    .helpOption(false)
    .allowUnknownOption()
    .action(async (words: string[]) => {
      const cluster = await clusterStatusIfRunning();
      const haCf = loadHeartbeatConfig({ checkMachine: false }).haCf;
      const answer = clStatus(words, cluster !== undefined && "nodes" in cluster ? cluster : undefined, haCf);
      for (const line of answer.out) print(line);
      if (answer.error !== undefined) complain(answer.error);
      if (answer.exitCode !== 0) throw new CommandFailure("", answer.exitCode);
    });
}

/** The answer to one call. A daemon that is not yet active counts as stopped. */
export function clStatus(
  words: readonly string[],
  cluster: ClusterStatus | undefined,
  haCf: HaCf | undefined,
): ClStatusAnswer {
  const [command, ...rest] = words;
  if (command === undefined || command === "-h" || command === "--help") return { out: [HELP], exitCode: 0 };
  const options = rest.filter((word) => /^-[a-z]$/.test(word));
  const args = rest.filter((word) => !/^-[a-z]$/.test(word));
  const query = new Query(options, args, haCf);
  if (!COMMANDS.has(command)) {
    return { out: [], error: `cl_status: ERROR: ${command}: invalid sub-command.`, exitCode: 11 };
  }
  const running = cluster?.nodes.some((node) => node.own && node.status === "active") === true ? cluster : undefined;
  if (command === "hbstatus") return query.hbstatus(running);
  if (running === undefined) {
    return {
      out: [],
      error:
        "cl_status: ERROR: Cannot signon with heartbeat\ncl_status: ERROR: REASON: hb_api_signon: Can't initiate connection to heartbeat",
      exitCode: 1,
    };
  }
  return query.answer(command, running);
}

const COMMANDS: ReadonlySet<string> = new Set([
  "hbstatus",
  "listnodes",
  "nodestatus",
  "nodetype",
  "nodeweight",
  "nodesite",
  "listhblinks",
  "hblinkstatus",
  "clientstatus",
  "rscstatus",
  "hbparameter",
]);

class Query {
  readonly #options: readonly string[];
  readonly #args: readonly string[];
  readonly #haCf: HaCf | undefined;

  constructor(options: readonly string[], args: readonly string[], haCf: HaCf | undefined) {
    this.#options = options;
    this.#args = args;
    this.#haCf = haCf;
  }

  hbstatus(cluster: ClusterStatus | undefined): ClStatusAnswer {
    if (cluster === undefined) return { out: ["Heartbeat is stopped on this machine."], exitCode: 1 };
    const out = ["Heartbeat is running on this machine."];
    if (this.#has("-v")) {
      out.push("version:\t3.0.6 (node: hacluster)", 'managed by:\t"haresources"', ...this.#listVerbose(cluster));
    }
    return { out, exitCode: 0 };
  }

  answer(command: string, cluster: ClusterStatus): ClStatusAnswer {
    switch (command) {
      case "listnodes":
        return this.#listnodes(cluster);
      case "rscstatus":
        return this.#say(cluster.resources, RESOURCE_SENTENCES[cluster.resources] ?? cluster.resources);
      case "hbparameter":
        return this.#parameter();
      default:
        return this.#ofNode(command, cluster);
    }
  }

  #listnodes(cluster: ClusterStatus): ClStatusAnswer {
    if (this.#has("-v")) return { out: this.#listVerbose(cluster), exitCode: 0 };
    const names = nodesOf(cluster)
      .filter((node) => !(this.#has("-n") && node.type === "ping") && !(this.#has("-p") && node.type === "normal"))
      .map((node) => node.name);
    return { out: this.#has("-m") ? ["The nodes are as follow:", ...names] : names, exitCode: 0 };
  }

  #listVerbose(cluster: ClusterStatus): string[] {
    return nodesOf(cluster).flatMap((node) => [
      "",
      `${node.name}\t${node.status}\t(nodetype: ${node.type})`,
      ...node.links.map(({ link, up }) => `\t${link}\t${up ? "up" : "dead"}`),
    ]);
  }

  #ofNode(command: string, cluster: ClusterStatus): ClStatusAnswer {
    const [name = "", what = ""] = this.#args;
    const node = nodesOf(cluster).find((each) => each.name === name.toLowerCase());
    if (node === undefined) {
      return { out: [], error: "Error. May be due to incorrect node name", exitCode: UNKNOWN.node };
    }
    switch (command) {
      case "nodestatus":
        return this.#say(
          node.status,
          `The cluster node ${node.name} is ${node.status}`,
          node.status === "dead" ? 1 : 0,
        );
      case "nodetype":
        return this.#say(node.type, `The cluster node ${node.name} is a ${node.type} node`);
      case "nodeweight":
        return this.#say("100", `The cluster node ${node.name}'s weight is 100`);
      case "nodesite":
        return this.#say("", `The cluster node ${node.name} is of no site`);
      case "listhblinks":
        return {
          out: node.links.map(({ link, up }) => (this.#has("-v") ? `\t${link}\t${up ? "up" : "dead"}` : `\t${link}`)),
          exitCode: 0,
        };
      case "hblinkstatus": {
        const link = node.links.find((each) => each.link === what);
        if (link === undefined)
          return { out: [], error: "Error. May be due to incorrect link name", exitCode: UNKNOWN.link };
        const state = link.up ? "up" : "dead";
        return this.#say(state, `The node ${node.name}'s heartbeat link ${what} is ${state}`, link.up ? 0 : 1);
      }
      default: {
        // the built-in ipfail is the only client; it is there as long as its node takes part
        const built = this.#haCf?.respawn.some((client) => client.builtIn === what) === true;
        const state = built && node.status === "active" ? "online" : "offline";
        return this.#say(state, `The client ${what} on node ${node.name} is ${state}`, state === "online" ? 0 : 1);
      }
    }
  }

  #parameter(): ClStatusAnswer {
    const name = this.#args[0] ?? "";
    const haCf = this.#haCf;
    if (haCf === undefined) return { out: [], exitCode: 1 };
    const value = haCf.settings.filter((setting) => setting.directive === name).at(-1)?.value ?? DEFAULTS[name]?.(haCf);
    if (value === undefined) return { out: [], error: `Heartbeat parameter ${name} is not set`, exitCode: 1 };
    return this.#say(value, `Heartbeat parameter ${name}'s value: ${value}`);
  }

  #say(word: string, sentence: string, exitCode = 0): ClStatusAnswer {
    return { out: [this.#has("-m") ? sentence : word], exitCode };
  }

  #has(option: string): boolean {
    return this.#options.includes(option);
  }
}

const RESOURCE_SENTENCES: Readonly<Record<string, string>> = {
  none: "This node is holding none resources.",
  local: "This node is holding local resources.",
  foreign: "This node is holding foreign resources.",
  all: "This node is holding all resources.",
  transition: "This node is in transition.",
};

interface ListedNode {
  readonly name: string;
  readonly status: string;
  readonly type: "normal" | "ping";
  readonly links: readonly { readonly link: string; readonly up: boolean }[];
}

/** In the order of cl_status: the reverse of the configuration's. */
function nodesOf(cluster: ClusterStatus): ListedNode[] {
  // own links are never dead, and the same as those to the other node
  const links = cluster.nodes.find((node) => !node.own)?.links.map(({ link }) => ({ link, up: true })) ?? [];
  const normal = cluster.nodes.map((node) => ({
    name: node.node,
    status: node.status,
    type: "normal" as const,
    links: node.own ? links : node.links,
  }));
  const ping = cluster.pingNodes.map((node) => ({
    name: node.node,
    status: node.status,
    type: "ping" as const,
    links: [{ link: node.node, up: node.status === "ping" }],
  }));
  return [...normal, ...ping].reverse();
}
