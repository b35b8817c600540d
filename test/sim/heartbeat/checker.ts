import type { ServiceGroup } from "@hacluster/heartbeat/unstable/core/ports";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** Two owners without fencing are excused by a silence that ended at most so long ago: scripts still run. */
const EXCUSE_MS = 14_000;
/** Once packets pass both ways, two owners are one within: the delay, the stops with their time limits, the restart. */
const RESOLVE_MS = 14_000;
/** Every wait of the original and of the scripts added up: initdead, the dead time with its grace, a healed partition. */
export const LIVENESS_MS = 22_000;
/** deadping, the conversation with its retry, and the scripts of both nodes. */
const PLACEMENT_MS = 17_000;
const VIOLATIONS_MAX = 20;

interface Change {
  readonly group: string;
  readonly resource: string;
  readonly started: boolean;
}

/** Holds what must be true (H1, H2, H3, S1) against what happens. */
export class Checker {
  readonly #world: World;
  readonly violations: string[] = [];
  /** Group key → since when it runs on both nodes. */
  readonly #double = new Map<string, number>();
  /** Sender → when a silence of a dead time or more of it last ended (or goes on). */
  readonly #silence = new Map<string, number>();
  #passingSince = 0;

  constructor(world: World) {
    this.#world = world;
  }

  violation(rule: string, text: string): void {
    const line = `${rule} at ${this.#world.nowMs} ms: ${text}`;
    this.#world.log("checker", line);
    if (this.violations.length < VIOLATIONS_MAX) this.violations.push(line);
  }

  /** H3: everything left of it runs. H1: the group may be beginning to run here. */
  startBegins(node: SimNode, key: string, resource: string): void {
    const group = this.#group(key);
    for (const earlier of group.resources) {
      if (earlier.text === resource) break;
      if (!node.isRunning(earlier.text) && !node.died.has(earlier.text))
        this.violation("H3", `${node.name} starts ${resource} before ${earlier.text} runs`);
    }
    this.#checkOwners(node, group);
  }

  servicesChanged(node: SimNode, change: Change | undefined): void {
    if (change === undefined) {
      for (const group of this.#world.scenario.config.groups) this.#checkOwners(node, group);
      return;
    }
    const group = this.#group(change.group);
    if (!change.started) {
      let seen = false;
      for (const each of group.resources) {
        if (seen && node.isRunning(each.text))
          this.violation("H3", `${node.name} stopped ${change.resource} while ${each.text} runs`);
        if (each.text === change.resource) seen = true;
      }
    }
    this.#checkOwners(node, group);
  }

  #group(key: string): ServiceGroup {
    return this.#world.scenario.config.groups.find((group) => group.key === key)!;
  }

  #runsOn(node: SimNode, group: ServiceGroup): boolean {
    return group.resources.some((resource) => node.isRunning(resource.text));
  }

  #checkOwners(latest: SimNode, group: ServiceGroup): void {
    const double = this.#world.nodes.every((node) => this.#runsOn(node, group));
    if (!double) {
      this.#double.delete(group.key);
      return;
    }
    if (this.#double.has(group.key)) return;
    this.#double.set(group.key, this.#world.nowMs);
    const other = this.#world.other(latest).name;
    this.#world.log("checker", `${group.key} runs on both nodes`);
    if (this.#world.scenario.config.fencing)
      this.violation("H1", `${group.key} runs on both nodes although fencing is configured`);
    else if (!this.#excused(other))
      this.violation("H1", `${group.key} runs on both nodes although ${latest.name} hears ${other}`);
  }

  /** The taker did not hear the other for a dead time, a moment ago or still. */
  #excused(other: string): boolean {
    return this.#world.nowMs - (this.#silence.get(other) ?? Number.NEGATIVE_INFINITY) < EXCUSE_MS;
  }

  /** Regularly: silences, unresolved double owners, groups that run nowhere. */
  look(): void {
    const { nowMs, network, scenario, nodes } = this.#world;
    for (const node of nodes) {
      const last = network.lastDelivered.get(node.name) ?? 0;
      const listener = this.#world.other(node);
      // a stretch in which it slept counts a little too, see Membership.passed
      if (listener.speaks && listener.listeningMs(last) >= scenario.config.deadtimeMs / 2)
        this.#silence.set(node.name, nowMs);
    }
    if (!this.#world.calm() || nodes.some((node) => !node.speaks)) this.#passingSince = nowMs;
    for (const [key, since] of this.#double) {
      const from = Math.max(since, this.#passingSince);
      if (nowMs - from > RESOLVE_MS) {
        this.violation("H1", `${key} still runs on both nodes ${nowMs - from} ms after packets passed again`);
        this.#double.set(key, nowMs);
      }
    }
    this.#liveness();
    this.#placement();
  }

  /** The node that alone sees the ping node runs everything. */
  #placement(): void {
    const { nowMs, nodes, scenario, lastFaultMs, pingBlind, pingSettledMs } = this.#world;
    if (!scenario.config.ipfail || pingBlind.size !== 1 || !this.#world.calm()) return;
    if (nowMs - Math.max(lastFaultMs, pingSettledMs) < PLACEMENT_MS || nodes.some((node) => !node.speaks)) return;
    for (const node of nodes) {
      if (!pingBlind.has(node.name)) continue;
      const kept = scenario.config.groups.filter((group) => this.#runsOn(node, group));
      if (kept.length === 0 || this.#anyFailure()) continue;
      this.violation(
        "H2",
        `${node.name} sees no ping node and still runs ${kept.map((group) => group.key).join(", ")}`,
      );
      this.#world.pingSettledMs = nowMs;
    }
  }

  /** A group that failed on the one node stays on the other, whatever that one sees, until somebody repairs it. */
  #anyFailure(): boolean {
    return this.#world.nodes.some((node) =>
      node.engine?.status(node.clock()).groups.some((group) => group.failedResource !== undefined),
    );
  }

  #liveness(): void {
    const { nowMs, nodes, scenario, lastFaultMs } = this.#world;
    if (!this.#world.calm() || nowMs - lastFaultMs < LIVENESS_MS) return;
    if (nodes.every((node) => !node.processUp)) {
      if (nodes.some((node) => node.machineUp && !node.stopped)) this.violation("H2", "no daemon runs");
      this.#world.faultNow();
      return;
    }
    for (const group of scenario.config.groups) {
      const owners = nodes.filter((node) => group.resources.every((resource) => node.isRunning(resource.text)));
      if (owners.length === 1) continue;
      this.violation(
        "H2",
        `${group.key} runs on ${owners.length} nodes ${nowMs - lastFaultMs} ms after the last fault`,
      );
      this.#world.faultNow();
    }
  }
}
