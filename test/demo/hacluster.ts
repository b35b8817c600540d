import type { LabNode } from "../lab/node.ts";
import { CommandError, type Result } from "../lab/process.ts";

/** What the demo reads of a resource's status; names and words are those of the command's JSON. */
export interface ResourceStatus {
  readonly name: string;
  readonly role: string;
  readonly connection: string;
  readonly disk: string;
  readonly peerDisk: string;
  readonly resync: { readonly doneBytes: number; readonly totalBytes: number } | null;
  readonly outOfSyncBytes: number;
  /** Copied by resyncs since the resource came up. */
  readonly resyncedBytes: number;
}

const RESOURCE = "r0";

/** The commands an administrator types, on one node. All knowledge of their output is in this file. */
export class Hacluster {
  readonly node: LabNode;
  readonly #limitMs: number;

  constructor(node: LabNode, limitMs: number) {
    this.node = node;
    this.#limitMs = limitMs;
  }

  async #run(...args: string[]): Promise<Result> {
    return await this.node.exec(["hacluster", ...args], { timeoutMs: this.#limitMs });
  }

  async #must(...args: string[]): Promise<string> {
    const result = await this.#run(...args);
    if (result.code !== 0) throw new CommandError([`${this.node.name}:`, "hacluster", ...args], result);
    return result.stdout;
  }

  async createMetadata(): Promise<void> {
    await this.#must("blockrep", "create-md", RESOURCE);
  }

  async up(): Promise<void> {
    await this.#must("blockrep", "up", RESOURCE);
  }

  /** Make this node's data the data: the first sync goes from here to the peer. */
  async forcePrimary(): Promise<void> {
    await this.#must("blockrep", "primary", "--force", RESOURCE);
  }

  async secondary(): Promise<void> {
    await this.#must("blockrep", "secondary", RESOURCE);
  }

  /** Wait until both disks are UpToDate. */
  async waitSync(): Promise<void> {
    await this.#must("blockrep", "wait-sync", RESOURCE);
  }

  async start(): Promise<void> {
    await this.#must("start");
  }

  async stop(): Promise<void> {
    await this.#must("stop");
  }

  /** The text that an administrator would read; for notes and for the report of a failure. */
  async statusText(): Promise<string> {
    const result = await this.#run("status");
    return `${result.stdout}${result.stderr}`.trim();
  }

  /** Status commands tell the state with their exit code too; what counts here is the JSON. */
  async resource(): Promise<ResourceStatus> {
    const args = ["status", "--json"];
    const result = await this.#run(...args);
    let value: unknown;
    try {
      value = JSON.parse(result.stdout);
    } catch {
      throw new CommandError([`${this.node.name}:`, "hacluster", ...args], result);
    }
    const found = resourcesIn(value).find((entry) => entry.name === RESOURCE);
    if (found === undefined)
      throw new Error(`${this.node.name}: "hacluster status --json" knows no resource ${RESOURCE}`);
    return found;
  }

  async isUpToDateOnBoth(): Promise<boolean> {
    const { connection, disk, peerDisk } = await this.resource();
    return connection === "Connected" && disk === "UpToDate" && peerDisk === "UpToDate";
  }
}

function resourcesIn(value: unknown): ResourceStatus[] {
  if (typeof value !== "object" || value === null || !("resources" in value)) return [];
  return Array.isArray(value.resources) ? (value.resources as ResourceStatus[]) : [];
}
