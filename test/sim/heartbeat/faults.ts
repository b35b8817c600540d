import { LIVENESS_MS } from "./checker.ts";
import type { ScriptMood, SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** Plan the life of one seed: a start, some episodes of trouble, healing, calm. Returns when it ends, ms. */
export function plan(world: World): number {
  const { prng, nodes } = world;
  const first = prng.below(2);
  world.faultNow();
  world.at(0, () => world.bootMachine(nodes[first]!));
  world.at(prng.pick([0, 10, 500, 1500, 6000]), () => {
    world.faultNow();
    world.bootMachine(nodes[1 - first]!);
  });
  let atMs = prng.between(500, 9000);
  const episodes = prng.between(1, 4);
  for (let i = 0; i < episodes; i++) {
    const durationMs = prng.pick([150, 600, 1500, 4000]) + prng.below(500);
    const begin = prng.pick(EPISODES);
    world.at(atMs, () => begin(world, durationMs));
    atMs += prng.pick([100, 700, 3000, 9000]) + (prng.chance(1, 2) ? durationMs : 0);
  }
  for (let i = 0; i < 6; i++) {
    const node = prng.pick(nodes);
    world.at(prng.between(2000, atMs + 5000), () => world.network.attack(node));
  }
  const extraMs = planExtras(world, atMs);
  const healMs = Math.max(atMs, extraMs) + 5000;
  world.at(healMs, () => heal(world));
  return healMs + LIVENESS_MS + 500;
}

/** Faults of what not every scenario has: ping nodes and monitoring. Returns when the last of them is over, ms. */
function planExtras(world: World, untilMs: number): number {
  const { extras, scenario } = world;
  let endMs = 0;
  if (scenario.config.ipfail) {
    const blind = extras.pick(world.nodes);
    const beginMs = extras.between(3000, Math.max(3001, untilMs));
    endMs = beginMs + extras.pick([700, 3000, 45_000]);
    world.at(beginMs, () => setBlind(world, blind, true));
    world.at(endMs, () => setBlind(world, blind, false));
  }
  if (!scenario.config.groups.some((group) => group.resources.some((each) => each.monitor !== undefined))) return endMs;
  for (let i = 0; i < 4; i++) {
    const atMs = extras.between(3000, untilMs + 5000);
    const group = extras.pick(scenario.config.groups);
    const resource = extras.pick(group.resources).text;
    world.at(atMs, () => {
      for (const node of world.nodes) node.serviceDies(resource);
    });
    if (i > 0) continue;
    const sick = extras.pick(world.nodes);
    world.at(atMs, () => sick.moods.set(resource, "dies"));
    world.at(atMs + 6000, () => {
      world.faultNow();
      sick.moods.delete(resource);
    });
  }
  return Math.max(endMs, untilMs + 5000);
}

function setBlind(world: World, node: SimNode, blind: boolean): void {
  world.log("fault", `${node.name} ${blind ? "loses" : "sees"} the ping node`);
  world.faultNow();
  world.pingSettledMs = world.nowMs;
  if (blind) world.pingBlind.add(node.name);
  else world.pingBlind.delete(node.name);
}

function heal(world: World): void {
  world.log("fault", "everything heals");
  world.faultNow();
  world.network.heal();
  for (const node of world.nodes) {
    node.moods.clear();
    if (!node.machineUp) world.bootMachine(node);
    else if (node.stopped) node.startProcess();
    node.command({ kind: "start" });
  }
}

type Episode = (world: World, durationMs: number) => void;

function during(world: World, text: string, durationMs: number, begin: () => void, end: () => void): void {
  world.beginFault(text);
  begin();
  world.after(durationMs, () => {
    end();
    world.endFault(text);
  });
}

function anyNode(world: World): SimNode {
  return world.prng.pick(world.nodes);
}

const cut: Episode = (world, durationMs) => {
  const directions = world.prng.pick([["nodo1"], ["nodo2"], ["nodo1", "nodo2"], ["nodo1", "nodo2"]]);
  const links = world.prng.chance(3, 4) ? world.scenario.config.links : world.scenario.config.links.slice(0, 1);
  const paths = directions.flatMap((from) => links.map((link) => world.network.paths.get(`${from}/${link}`)!));
  const set = (value: boolean): void => {
    for (const path of paths) path.cut = value;
  };
  during(
    world,
    `cut ${directions.join("+")} on ${links.join("+")}`,
    durationMs,
    () => set(true),
    () => set(false),
  );
};

const noise: Episode = (world, durationMs) => {
  const loss = world.prng.pick([20, 200, 500]);
  const set = (on: boolean): void => {
    for (const path of world.network.paths.values())
      Object.assign(path, on ? { loss, copies: 200, late: 200 } : { loss: 0, copies: 0, late: 0 });
  };
  during(
    world,
    `loss of ${loss}/1000, copies, disorder`,
    durationMs,
    () => set(true),
    () => set(false),
  );
};

const processCrash: Episode = (world, durationMs) => {
  const node = anyNode(world);
  if (!node.processUp) return;
  during(
    world,
    `${node.name} daemon killed`,
    durationMs,
    () => node.killProcess(),
    () => node.startProcess(),
  );
};

const machineCrash: Episode = (world, durationMs) => {
  const node = anyNode(world);
  if (!node.machineUp) return;
  during(
    world,
    `${node.name} power lost`,
    durationMs,
    () => node.crashMachine("power lost"),
    () => world.bootMachine(node),
  );
};

/** Power lost for long enough to see that the other node alone brings everything up. */
const longOutage: Episode = (world) => {
  const node = anyNode(world);
  if (!node.machineUp) return;
  world.beginFault(`${node.name} power lost for long`);
  node.crashMachine("power lost");
  world.after(1, () => world.endFault("it stays off"));
  world.after(LIVENESS_MS + 3000, () => {
    world.faultNow();
    world.bootMachine(node);
  });
};

const pause: Episode = (world, durationMs) => {
  const node = anyNode(world);
  if (!node.speaks) return;
  during(
    world,
    `${node.name} pauses`,
    durationMs,
    () => node.pause(durationMs),
    () => undefined,
  );
};

const scripts: Episode = (world, durationMs) => {
  const node = anyNode(world);
  const group = world.prng.pick(world.scenario.config.groups);
  const resource = world.prng.pick(group.resources).text;
  const mood: ScriptMood = world.prng.pick(["start-fails", "stop-fails", "hangs", "slow"]);
  during(
    world,
    `${node.name} ${resource} ${mood}`,
    durationMs * 2,
    () => node.moods.set(resource, mood),
    () => {
      node.moods.delete(resource);
      // what failed stays down until the administrator says otherwise; the healing does
      world.after(1, () => {
        for (const each of world.nodes) each.command({ kind: "start" });
      });
    },
  );
};

/** A move while a script of the group misbehaves. */
const troubledMove: Episode = (world, durationMs) => {
  const group = world.prng.pick(world.scenario.config.groups);
  const owner = world.nodes.find((node) => group.resources.every((resource) => node.isRunning(resource.text)));
  if (owner === undefined) return;
  const resource = world.prng.pick(group.resources).text;
  const mood: ScriptMood = world.prng.pick(["stop-fails", "hangs", "slow"]);
  during(
    world,
    `${owner.name} gives all up while ${resource} ${mood}`,
    durationMs + 6000,
    () => {
      owner.moods.set(resource, mood);
      world.pingSettledMs = Number.POSITIVE_INFINITY;
      owner.command(world.prng.chance(1, 3) ? { kind: "stop" } : { kind: "standby", set: "all" });
    },
    () => {
      owner.moods.delete(resource);
      if (owner.stopped) owner.startProcess();
      for (const each of world.nodes) each.command({ kind: "start" });
    },
  );
};

const wish: Episode = (world) => {
  const node = anyNode(world);
  world.faultNow();
  world.pingSettledMs = Number.POSITIVE_INFINITY; // what the administrator wants stays where it is
  const set = world.prng.pick(["all", "local", "foreign"] as const);
  node.command(world.prng.chance(1, 2) ? { kind: "standby", set } : { kind: "takeover", set });
};

const stop: Episode = (world, durationMs) => {
  const node = anyNode(world);
  if (!node.speaks) return;
  during(
    world,
    `${node.name} stops`,
    durationMs + 3000,
    () => node.command({ kind: "stop" }),
    () => {
      if (node.stopped) node.startProcess();
    },
  );
};

/** Several of them at once count double on purpose: most seeds should see a partition or a crash. */
const EPISODES: readonly Episode[] = [
  cut,
  cut,
  noise,
  processCrash,
  machineCrash,
  machineCrash,
  longOutage,
  pause,
  scripts,
  scripts,
  troubledMove,
  wish,
  wish,
  stop,
];
