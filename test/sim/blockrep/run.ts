import type { SimNode } from "./node.ts";
import type { SimOptions } from "./options.ts";
import { World } from "./world.ts";

export interface SeedResult {
  readonly events: number;
  readonly violations: readonly string[];
  readonly traceHash: string;
  /** How often what happened. */
  readonly covered: ReadonlyMap<string, number>;
}

const CONVERGE_MS = 120_000;

/** Faults of one run, decided before it begins. */
function planFaults(world: World): void {
  const { prng } = world;
  const { durationMs } = world.scenario;
  if (world.options.focus !== undefined) {
    if (world.options.focus === "lonely") planLonely(world);
    else planResync(world);
    return;
  }
  if (world.scenario.failingDisk) failDisk(world, 2500);
  if (world.scenario.splitBrain) partition(world, 2000);
  const count = prng.between(1, 6);
  for (let i = 0; i < count; i++) {
    const node = world.nodes[prng.below(2)] as SimNode;
    world.at(prng.between(1500, durationMs), fault(world, node));
  }
}

/** From then on, as soon as both disks are good, one of them fails. */
function failDisk(world: World, atMs: number): void {
  world.at(atMs, () => {
    const node = world.operator.application.node;
    if (node === undefined || !world.shared || !world.operator.converged()) {
      if (atMs < world.scenario.durationMs) failDisk(world, atMs + 100);
      return;
    }
    const victim = world.prng.chance(1, 2) ? node : world.other(node);
    victim.failNext = world.prng.pick(["read", "write", "flush", "flush"] as const);
    world.note(`${victim.index} next ${victim.failNext} fails`);
  });
}

/** Long enough that the service can be started on the other side as well. */
function partition(world: World, atMs: number): void {
  const cut = (on: boolean): void => {
    for (const index of [0, 1]) world.network.setCut(index, on);
  };
  world.at(atMs, () => cut(true));
  world.at(atMs + 2500, () => world.operator.moveAcross());
  world.at(atMs + 4500, () => cut(false));
}

function planResync(world: World): void {
  const from = world.prng.between(1500, 2000);
  world.at(from, () => {
    for (const index of [0, 1]) world.network.setCut(index, true);
  });
  world.at(from + 3000, () => {
    for (const index of [0, 1]) world.network.setCut(index, false);
  });
  world.onResyncTarget = (node) => {
    world.onResyncTarget = undefined;
    world.after(world.prng.between(5, 150), () => {
      world.note(`${node.index} power loss`);
      world.powerLoss(node);
      world.operator.nodeDied(node);
    });
  };
}

function planLonely(world: World): void {
  const from = world.prng.between(1500, 2000);
  world.at(from, () => {
    for (const index of [0, 1]) world.network.setCut(index, true);
  });
  world.at(from + world.prng.between(2500, 4000), () => {
    const node = world.operator.application.node;
    if (node === undefined) return;
    node.onFlush = () =>
      world.after(world.prng.below(3), () => {
        if (!node.machineUp) return;
        world.note(`${node.index} power loss`);
        world.powerLoss(node);
        world.operator.nodeDied(node);
      });
  });
}

function fault(world: World, node: SimNode): () => void {
  const { prng } = world;
  const kind = prng.below(100);
  const length = prng.between(100, 6000);
  const crash = (one: SimNode): void => {
    if (!one.machineUp) return;
    world.note(`${one.index} power loss`);
    world.powerLoss(one);
    world.operator.nodeDied(one);
  };
  if (kind < 10) return () => crash(node);
  // the moments between a write of metadata and the end of its flush are short and the ones that matter
  if (kind < 24) {
    const both = prng.chance(1, 4);
    return () => {
      node.onFlush = () =>
        world.after(prng.below(3), () => {
          crash(node);
          if (both) crash(world.other(node));
        });
    };
  }
  if (kind < 36) {
    return () => {
      for (const one of world.nodes) crash(one);
    };
  }
  if (kind < 50) {
    return () => {
      if (node.engine === undefined) return;
      world.note(`${node.index} process dies`);
      world.processCrash(node);
      world.operator.nodeDied(node);
    };
  }
  if (kind < 68) {
    const oneWay = prng.chance(1, 3);
    return () => {
      world.note(`cut ${oneWay ? node.index : "both"} for ${length}`);
      for (const index of oneWay ? [node.index] : [0, 1]) {
        world.network.setCut(index, true);
        world.after(length, () => world.network.setCut(index, false));
      }
    };
  }
  if (kind < 78) {
    return () => {
      world.note("reset");
      world.network.resetAll();
    };
  }
  if (kind < 86) {
    return () => {
      world.note(`${node.index} pauses for ${length}`);
      node.pause(length);
    };
  }
  if (kind < 94) {
    const operation = prng.pick(["read", "write", "flush", "flush"] as const);
    return () => {
      // the only good disk must not fail as well: then there is nothing left to check
      if (!world.shared || !world.operator.converged()) return;
      world.note(`${node.index} next ${operation} fails`);
      node.failNext = operation;
    };
  }
  return () => {
    world.note(`${node.index} slow disk for ${length}`);
    node.slowMs = prng.between(20, 400);
    world.after(length, () => {
      node.slowMs = 0;
    });
  };
}

/** One seed of the replication simulator: the same seed and options give the same run, hash included. */
export function runSeed(seed: number, options: SimOptions = {}): SeedResult {
  const world = new World(seed, options);
  try {
    if (options.calm !== true) planFaults(world);
    world.operator.start();
    world.runUntil(world.scenario.durationMs, () => false);
    finish(world);
  } catch (error) {
    world.violation("crash", error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  world.note(`acknowledged ${world.operator.application.acknowledged}`);
  return { events: world.events, violations: world.violations, traceHash: world.traceHash, covered: world.covered };
}

/** Everything is repaired; the two disks have to become equal, and to hold what was acknowledged. */
function finish(world: World): void {
  if (world.violations.length > 0) return;
  world.note("repaired");
  world.operator.calm = true;
  for (const index of [0, 1]) world.network.setCut(index, false);
  for (const node of world.nodes) {
    node.slowMs = 0;
    node.failNext = undefined;
  }
  if (!world.runUntil(world.nowMs + CONVERGE_MS, () => world.operator.converged())) {
    if (world.violations.length === 0) world.violation("D3", "the nodes do not find together again");
    return;
  }
  const [a, b] = world.nodes;
  const sectors = new Set([...a.store.writtenSectors(), ...b.store.writtenSectors()]);
  for (const sector of sectors) {
    const [x, y] = [a.store.id(sector), b.store.id(sector)];
    if (x !== y) {
      world.violation("D3", `sector ${sector} holds ${x} on node 0 and ${y} on node 1: ${a.model.describe(sector)}`);
      return;
    }
    if (!a.model.allows(sector, x, world.stamp)) {
      world.violation("D1", `sector ${sector} holds ${x} at the end, expected ${a.model.describe(sector)}`);
      return;
    }
  }
}
