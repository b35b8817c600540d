import { Prng } from "@hacluster/blockrep/base";
import type { ClusterConfig } from "@hacluster/heartbeat/unstable/core/ports";
import { Checker } from "./checker.ts";
import { Network } from "./network.ts";
import { SimNode } from "./node.ts";
import { NODES, type Scenario, type SimOptions, scenarioOf } from "./options.ts";
import { EventQueue } from "./queue.ts";

const LOOK_EVERY_MS = 100;
const PING_EVERY_MS = 200;

/** Two machines, their links, their time. */
export class World {
  readonly prng: Prng;
  /** Decides about ping nodes, monitoring and their faults. */
  readonly extras: Prng;
  readonly options: SimOptions;
  readonly scenario: Scenario;
  readonly nodes: readonly [SimNode, SimNode];
  readonly network: Network;
  readonly checker: Checker;
  readonly #queue = new EventQueue();
  nowMs = 0;
  events = 0;
  /** Nodes that get no answer from the ping node. */
  readonly pingBlind = new Set<string>();
  /** When the view of the ping node last changed, or something placed the groups for another reason. */
  pingSettledMs = 0;
  /** Faults that are going on. */
  #active = 0;
  lastFaultMs = 0;
  #bootedMs = 0;
  #hash = 0x811c9dc5;

  constructor(seed: number, options: SimOptions) {
    this.prng = new Prng(seed);
    this.options = options;
    this.extras = new Prng(seed + 0x5eed);
    this.scenario = scenarioOf(this.prng, this.extras);
    this.network = new Network(this, this.scenario.config.links);
    this.checker = new Checker(this);
    this.nodes = [new SimNode(this, NODES[0], this.prng), new SimNode(this, NODES[1], this.prng)];
  }

  get traceHash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  other(node: SimNode): SimNode {
    return node === this.nodes[0] ? this.nodes[1] : this.nodes[0];
  }

  configOf(node: SimNode): ClusterConfig {
    const { config } = this.scenario;
    const { mutation } = this.options;
    if (mutation === "no-ipfail") return { ...config, ipfail: false };
    if (mutation === "no-initdead") return { ...config, initdeadMs: 0 };
    if (mutation !== "wrong-order" || node !== this.nodes[0]) return config;
    const groups = config.groups.map((group) => ({ ...group, resources: [...group.resources].reverse() }));
    return { ...config, groups };
  }

  at(timeMs: number, run: () => void): void {
    this.#queue.push(Math.max(timeMs, this.nowMs), run);
  }

  after(delayMs: number, run: () => void): void {
    this.at(this.nowMs + delayMs, run);
  }

  log(who: string, text: string): void {
    let hash = this.#hash;
    for (const part of [this.nowMs.toString(), who, text])
      for (let i = 0; i < part.length; i++) hash = Math.imul(hash ^ part.charCodeAt(i), 0x01000193);
    this.#hash = hash;
    this.options.trace?.(`${String(this.nowMs).padStart(7)} ${who} ${text}`);
  }

  /** A fault begins; `end` says when it is over. */
  beginFault(text: string): void {
    this.log("fault", text);
    this.#active++;
    this.faultNow();
  }

  endFault(text: string): void {
    this.log("fault", `over: ${text}`);
    this.#active--;
    this.faultNow();
  }

  /** Something happened that restarts the clock of liveness. */
  faultNow(): void {
    this.lastFaultMs = this.nowMs;
  }

  calm(): boolean {
    return this.#active === 0;
  }

  /** Reset a node as a STONITH device does; it fails now and then. */
  fence(by: SimNode, target: string, done: (ok: boolean) => void): void {
    const node = this.nodes.find((each) => each.name === target)!;
    this.after(this.prng.between(50, 300), () => {
      const ok = this.prng.chance(3, 4);
      this.log(by.name, `fence ${target}: ${ok}`);
      if (!ok) this.faultNow();
      else if (this.options.mutation !== "forged-fence" && node.machineUp) {
        this.faultNow();
        node.crashMachine("fenced");
        this.after(3000, () => {
          this.faultNow();
          this.bootMachine(node);
        });
      }
      done(ok);
    });
  }

  bootMachine(node: SimNode): void {
    node.boot();
    this.#bootedMs = this.nowMs;
    for (const each of this.nodes) this.feedDrbd(each);
    this.after(3000, () => {
      for (const each of this.nodes) this.feedDrbd(each);
    });
  }

  /** The disks are in sync three seconds after the last boot. */
  feedDrbd(node: SimNode): void {
    const synced = this.nowMs - this.#bootedMs >= 3000 && this.nodes.every((each) => each.machineUp);
    for (const resource of this.scenario.replicated)
      if (node.speaks)
        node.engine?.drbdStatus(
          resource,
          {
            role: "Unknown",
            localDisk: "UpToDate",
            peerDisk: synced ? "UpToDate" : "Inconsistent",
            connected: true,
          },
          node.clock(),
        );
  }

  run(untilMs: number): void {
    const look = (): void => {
      this.checker.look();
      if (this.nowMs < untilMs) this.after(LOOK_EVERY_MS, look);
    };
    look();
    const ping = (): void => {
      for (const node of this.nodes) if (!this.pingBlind.has(node.name)) node.pingAnswers();
      if (this.nowMs < untilMs) this.after(PING_EVERY_MS, ping);
    };
    if (this.scenario.config.pingNodes.length > 0) ping();
    for (;;) {
      const event = this.#queue.pop();
      if (event === undefined || event.at > untilMs) return;
      this.nowMs = event.at;
      this.events++;
      event.run();
    }
  }
}
