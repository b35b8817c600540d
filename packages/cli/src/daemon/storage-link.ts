import type { ResourceStatus } from "@hacluster/blockrep";
import { HaError } from "@hacluster/blockrep/base";
import type { DrbdFacts, StorageControl } from "@hacluster/heartbeat";
import { ControlClient } from "../control/client.ts";
import type { ControlValue } from "../control/protocol.ts";
import { blockrepSocket } from "../paths.ts";

/** A resource whose process is away is asked for again this often. */
const RETRY_MS = 500;

interface Link {
  client: ControlClient | undefined;
  timer: NodeJS.Timeout | undefined;
  refreshing: boolean;
  again: boolean;
}

/**
 * heartbeat's side of the replicated disks: a lasting connection to each resource's process, so that a promotion costs
 * no connect, and facts are pushed whenever a state changes.
 */
export class StorageLink implements StorageControl {
  readonly #names: readonly string[];
  readonly #onFacts: (resource: string, facts: DrbdFacts | undefined) => void;
  readonly #links = new Map<string, Link>();
  #closed = false;

  constructor(resources: readonly string[], onFacts: (resource: string, facts: DrbdFacts | undefined) => void) {
    this.#names = resources;
    this.#onFacts = onFacts;
    for (const name of resources) {
      this.#links.set(name, { client: undefined, timer: undefined, refreshing: false, again: false });
    }
  }

  /** Connect to every resource; those that are down are tried again until they are up. */
  start(): void {
    for (const name of this.#names) void this.#connect(name);
  }

  close(): void {
    this.#closed = true;
    for (const link of this.#links.values()) {
      clearTimeout(link.timer);
      link.client?.close();
    }
  }

  resources(): readonly string[] {
    return this.#names;
  }

  async promote(resource: string): Promise<void> {
    await this.#request(resource, "primary");
  }

  async demote(resource: string): Promise<void> {
    try {
      await this.#request(resource, "secondary");
    } catch (error) {
      // nothing serves it, so nothing of it is Primary: stopping what is stopped succeeds
      if (error instanceof HaError && error.code === "HA_DAEMON_NOT_RUNNING") return;
      throw error;
    }
  }

  async role(resource: string): Promise<string> {
    try {
      return ((await this.#request(resource, "status")) as unknown as ResourceStatus).role;
    } catch (error) {
      if (error instanceof HaError && error.code === "HA_DAEMON_NOT_RUNNING") return "Unconfigured";
      throw error;
    }
  }

  /** The cluster finds the peer silent: the resource's process pings it at once. Nobody waits for the answer. */
  suspectPeer(resource: string): void {
    this.#links
      .get(resource)
      ?.client?.request("suspect-peer")
      .catch(() => {});
  }

  /**
   * Call our copy Outdated, at the peer's request. The answer is that of a fence-peer handler.
   * @see DRBD 8.4 fence-peer: 3 inconsistent, 4 outdated, 5 not up, 6 primary
   */
  async outdate(resource: string): Promise<number> {
    try {
      const status = (await this.#request(resource, "status")) as unknown as ResourceStatus;
      if (status.role === "Primary") return 6;
      if (status.volumes.some((volume) => volume.disk === "Inconsistent")) return 3;
      await this.#request(resource, "outdate");
      return 4;
    } catch (error) {
      // nothing serves it here: it cannot become Primary without being started, and then it meets the peer's newer data
      if (error instanceof HaError && error.code === "HA_DAEMON_NOT_RUNNING")
        return this.#names.includes(resource) ? 5 : 1;
      throw error;
    }
  }

  async #request(resource: string, method: string): Promise<ControlValue> {
    const client = this.#links.get(resource)?.client;
    if (client !== undefined) return client.request(method);
    return ControlClient.call(blockrepSocket(resource), method);
  }

  async #connect(name: string): Promise<void> {
    const link = this.#links.get(name) as Link;
    try {
      const client = await ControlClient.open(blockrepSocket(name));
      await client.subscribe(
        () => void this.#refresh(name),
        () => {
          link.client = undefined;
          this.#onFacts(name, undefined);
          this.#retry(name);
        },
      );
      if (this.#closed) {
        client.close();
        return;
      }
      link.client = client;
      await this.#refresh(name);
    } catch {
      this.#retry(name);
    }
  }

  #retry(name: string): void {
    const link = this.#links.get(name) as Link;
    clearTimeout(link.timer);
    if (!this.#closed) link.timer = setTimeout(() => void this.#connect(name), RETRY_MS);
  }

  /** Fetch the state; events that come meanwhile cause one more fetch, not one each. */
  async #refresh(name: string): Promise<void> {
    const link = this.#links.get(name) as Link;
    if (link.refreshing) {
      link.again = true;
      return;
    }
    link.refreshing = true;
    try {
      do {
        link.again = false;
        const status = (await link.client?.request("status")) as unknown as ResourceStatus | undefined;
        if (status !== undefined) this.#onFacts(name, factsOf(status));
      } while (link.again);
    } catch {
      // the connection's own end is reported where it is noticed
    } finally {
      link.refreshing = false;
    }
  }
}

/** All volumes as one: the worst disk counts. */
export function factsOf(status: ResourceStatus): DrbdFacts {
  const worst = (of: (volume: ResourceStatus["volumes"][number]) => string): string =>
    status.volumes.map(of).find((disk) => disk !== "UpToDate") ?? "UpToDate";
  return {
    role: status.role === "Primary" ? "Primary" : status.role === "Secondary" ? "Secondary" : "Unknown",
    localDisk: worst((volume) => volume.disk),
    peerDisk: worst((volume) => volume.peerDisk),
    connected: CONNECTED.has(status.connection),
  };
}

const CONNECTED: ReadonlySet<string> = new Set([
  "Connected",
  "StartingSyncS",
  "StartingSyncT",
  "WFBitMapS",
  "WFBitMapT",
  "WFSyncUUID",
  "SyncSource",
  "SyncTarget",
  "VerifyS",
  "VerifyT",
  "PausedSyncS",
  "PausedSyncT",
  "Ahead",
  "Behind",
]);
