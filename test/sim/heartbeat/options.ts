import type { Prng } from "@hacluster/blockrep/base";
import type { ClusterConfig, ServiceGroup, ServiceResource } from "@hacluster/heartbeat/unstable/core/ports";

/**
 * Deliberate faults of the world or of a node's view of it; each must turn a run red, or the checker is blind there.
 * `early-release`: a giver announces its release before its last stop. `no-initdead`: a booting node waits for nobody.
 * `wrong-order`: resources start in the wrong order. `forged-fence`: the device says OK and does nothing. `lying-stop`: a
 * failing stop says that it succeeded. `fresh-replay`: replays get numbers that were never used. `no-return`: a node that
 * asked to be restarted is not. `no-ipfail`: a node keeps its groups although the other one sees more ping nodes.
 * `blind-monitor`: a check finds everything running.
 */
export const MUTATIONS = [
  "early-release",
  "no-initdead",
  "wrong-order",
  "forged-fence",
  "lying-stop",
  "fresh-replay",
  "no-return",
  "no-ipfail",
  "blind-monitor",
] as const;
export type Mutation = (typeof MUTATIONS)[number];

export interface SimOptions {
  readonly mutation?: Mutation;
  /** Collect a line per event. */
  readonly trace?: (line: string) => void;
}

export const NODES = ["nodo1", "nodo2"] as const;

/** What one seed decides about the cluster before anything happens. */
export interface Scenario {
  readonly config: ClusterConfig;
  readonly replicated: readonly string[];
}

function resource(text: string): ServiceResource {
  const [script, ...args] = text.split("::");
  return { text, script: script as string, args };
}

function group(node: string, ...texts: string[]): ServiceGroup {
  const resources = texts.map(resource);
  return { key: texts[0] as string, node, resources };
}

/** A resource is checked that often, forgets its failures after, and moves the group with the second or third, or never. */
function monitored(groups: readonly ServiceGroup[], failures: number): ServiceGroup[] {
  const monitor = { intervalMs: 300, timeoutMs: 1500, failures, windowMs: 5000 };
  return groups.map((each) => ({ ...each, resources: each.resources.map((r) => ({ ...r, monitor })) }));
}

/** @param extras decides about ping nodes and monitoring; apart, so that the seeds of older versions mean what they meant */
export function scenarioOf(prng: Prng, extras: Prng): Scenario {
  const scenario = basicScenario(prng);
  let { config } = scenario;
  if (extras.chance(1, 3)) config = { ...config, pingNodes: ["gw"], ipfail: true };
  if (extras.chance(1, 3)) config = { ...config, groups: monitored(config.groups, extras.pick([0, 2, 3])) };
  return { ...scenario, config };
}

function basicScenario(prng: Prng): Scenario {
  const groups = [group("nodo1", "IPaddr2::10.0.0.1", "drbddisk::r0", "Filesystem::/srv", "apache2")];
  if (prng.chance(2, 3)) groups.push(group("nodo2", "dummy::C", "dummy::D"));
  if (prng.chance(1, 4)) groups.push(group("nodo1", "dummy::E"));
  const keepaliveMs = prng.pick([200, 250]);
  const config: ClusterConfig = {
    nodes: NODES,
    keepaliveMs,
    deadtimeMs: 1000,
    warntimeMs: 600,
    initdeadMs: 3000,
    maxRexmitDelayMs: 250,
    hopfudge: 1,
    autoFailback: prng.chance(2, 3) ? "on" : "off",
    links: prng.chance(1, 2) ? ["eth0"] : ["eth0", "eth1"],
    groups,
    fencing: prng.chance(1, 3),
    pingNodes: [],
    deadpingMs: 1000,
    ipfail: false,
    scriptTimeoutMs: 4000,
    stopRetries: 2,
  };
  return { config, replicated: ["r0"] };
}
