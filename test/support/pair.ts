import { fileURLToPath } from "node:url";
import type { ResourceStatus, VolumeStatus } from "@hacluster/blockrep";
import { filesFor } from "../demo/configuration.ts";
import { Lab } from "../lab/lab.ts";
import type { LabNode } from "../lab/node.ts";
import { CommandError, type Result, run, waitFor } from "../lab/process.ts";
import type { Needs } from "./requires.ts";

/** What a pair of lab nodes that replicates a disk needs from the machine. */
export const PAIR_NEEDS: Needs = {
  root: true,
  namespaces: true,
  programs: { ip: "iproute2", setpriv: "util-linux", losetup: "mount" },
};
export const RESOURCE = "r0";
/** Where the running daemon serves the replicated device, seen from inside its node. */
export const EXPORT_URI: string = `nbd+unix:///${RESOURCE}?socket=/run/hacluster/blockrep-${RESOURCE}.nbd`;
/** The command's file, for tests that run it on this machine. */
export const HACLUSTER: string = fileURLToPath(new URL("../../../packages/cli/bin/hacluster.js", import.meta.url));

/** `blockrep status --json` of a resource with one volume. */
export interface PairStatus extends ResourceStatus {
  readonly first: VolumeStatus;
}

export interface PairOptions {
  readonly name: string;
  readonly diskBytes: number;
  /** Changes the text of the user's files, by path below /etc; on both nodes. */
  readonly edit?: (path: string, text: string) => string;
  /** A third machine, without disk. Default false. */
  readonly client?: boolean;
}

/** One node with the commands an administrator types there. */
export class PairNode {
  readonly node: LabNode;

  constructor(node: LabNode) {
    this.node = node;
  }

  run(...args: string[]): Promise<Result> {
    return this.node.exec(["hacluster", ...args], { timeoutMs: 30_000 });
  }

  /** @throws CommandError unless it ends with exit code 0 */
  async must(...args: string[]): Promise<string> {
    const result = await this.run(...args);
    if (result.code !== 0) throw new CommandError([`${this.node.name}:`, "hacluster", ...args], result);
    return result.stdout;
  }

  blockrep(verb: string, ...options: string[]): Promise<string> {
    return this.must("blockrep", verb, ...options, RESOURCE);
  }

  async status(): Promise<PairStatus> {
    const status = JSON.parse(await this.blockrep("status", "--json")) as ResourceStatus;
    return { ...status, first: status.volumes[0] as VolumeStatus };
  }

  async untilStatus(what: string, holds: (status: PairStatus) => boolean, timeoutMs = 15_000): Promise<PairStatus> {
    let last: PairStatus | undefined;
    const come = await waitFor(
      async () => {
        last = await this.status();
        return holds(last);
      },
      timeoutMs,
      50,
    );
    if (!come || last === undefined) {
      throw new Error(`${this.node.name}: not ${what} within ${timeoutMs} ms: ${JSON.stringify(last)}`);
    }
    return last;
  }

  /** kill -9: what a crash of the process does; the machine and its page cache live on. */
  async killDaemon(): Promise<void> {
    const pidFile = `/run/hacluster/blockrep-${RESOURCE}.pid`;
    await this.node.must([
      "sh",
      "-c",
      `pid=$(cat ${pidFile}) && kill -9 $pid && while kill -0 $pid 2>&-; do sleep 0.01; done`,
    ]);
  }
}

/** Two nodes with the user's files (short times) and a disk each; see test/lab/README.md. */
export class Pair {
  readonly lab: Lab;
  readonly one: PairNode;
  readonly two: PairNode;

  private constructor(lab: Lab) {
    this.lab = lab;
    this.one = new PairNode(lab.node("nodo1"));
    this.two = new PairNode(lab.node("nodo2"));
  }

  /** Power on and write the files; the disks are empty. */
  static async make(options: PairOptions): Promise<Pair> {
    const pair = new Pair(
      await Lab.up({ name: options.name, diskBytes: options.diskBytes, client: options.client ?? false }),
    );
    try {
      await pair.each(({ node }) => configure(node, options.edit));
    } catch (error) {
      await pair.end();
      throw error;
    }
    return pair;
  }

  get nodes(): readonly [PairNode, PairNode] {
    return [this.one, this.two];
  }

  async each(action: (side: PairNode) => Promise<unknown>): Promise<void> {
    await Promise.all(this.nodes.map(action));
  }

  /** From empty disks to Connected, UpToDate on both; `one` is Primary. */
  async firstSync(upOptions: readonly string[] = []): Promise<void> {
    await this.each((side) => side.blockrep("create-md"));
    await this.each((side) => side.blockrep("up", ...upOptions));
    await this.one.blockrep("wait-connect", "-t", "10");
    await this.one.blockrep("primary", "--force");
    await this.inSync();
  }

  async inSync(): Promise<void> {
    await this.each((side) => side.blockrep("wait-sync", "-t", "20"));
  }

  /** Is the data area the same on both disks, byte for byte? Exit code 0 of `cmp`, or what differs. */
  async sameData(): Promise<Result> {
    // the node's disk is a loop device with a cache of its own above the image
    await this.each(({ node }) => node.must(["sync", "--data", "/dev/sda6"]));
    const { sizeBytes } = (await this.one.status()).first;
    const images = this.nodes.map(({ node }) => String(node.diskImage));
    return await run(["cmp", "--bytes", String(sizeBytes), ...images]);
  }

  end(): Promise<void> {
    return this.lab.down();
  }
}

/** The user's files on a node, and nothing else of a cluster. */
export async function configure(node: LabNode, edit: PairOptions["edit"] = (_, text) => text): Promise<void> {
  await node.must(["rm", "-rf", "/etc/ha.d", "/etc/drbd.d", "/etc/drbd.conf"]);
  for (const { path, text, mode } of filesFor(node.name === "nodo2" ? "nodo2" : "nodo1", false)) {
    await node.writeFile(`/etc/${path}`, edit(path, text), mode);
  }
}
