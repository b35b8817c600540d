import { type HaField, HaMessage } from "@hacluster/heartbeat/unstable/wire/message";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** One direction of one link. */
export interface Path {
  cut: boolean;
  /** Of 1000 packets so many are lost, copied, held back. */
  loss: number;
  copies: number;
  late: number;
}

const RECORDED_MAX = 60;

/** UDP between two nodes over one or two links. */
export class Network {
  readonly #world: World;
  readonly paths = new Map<string, Path>();
  /** Per sender: when the newest packet was sent of those that a running daemon was given. */
  readonly lastDelivered = new Map<string, number>();
  readonly #recorded = new Map<string, HaMessage[]>();

  constructor(world: World, links: readonly string[]) {
    this.#world = world;
    for (const link of links)
      for (const from of ["nodo1", "nodo2"])
        this.paths.set(`${from}/${link}`, { cut: false, loss: 0, copies: 0, late: 0 });
  }

  heal(): void {
    for (const path of this.paths.values()) Object.assign(path, { cut: false, loss: 0, copies: 0, late: 0 });
  }

  send(from: SimNode, original: HaMessage): void {
    const world = this.#world;
    const to = world.other(from);
    const message = world.options.mutation === "early-release" ? releasedEarly(original) : original;
    this.#record(from.name, message);
    const sentMs = world.nowMs;
    const numbered = message.has("seq");
    for (const link of world.scenario.config.links) {
      const path = this.paths.get(`${from.name}/${link}`)!;
      if (path.cut || world.prng.below(1000) < path.loss) continue;
      const count = world.prng.below(1000) < path.copies ? 2 : 1;
      for (let i = 0; i < count; i++) {
        const delayMs = world.prng.below(1000) < path.late ? world.prng.between(20, 400) : world.prng.between(0, 4);
        world.after(delayMs, () => {
          if (to.speaks && numbered)
            this.lastDelivered.set(from.name, Math.max(sentMs, this.lastDelivered.get(from.name) ?? 0));
          to.receive(link, message);
        });
      }
    }
  }

  /** A stranger sends old packets again, or rubbish in the right form. Nothing but counters may change. */
  attack(to: SimNode): void {
    const world = this.#world;
    const engine = to.engine;
    if (engine === undefined || to.paused) return;
    // what is due by now would happen with the next input of any kind
    engine.tick(to.clock());
    if (to.engine !== engine) return;
    const old = this.#recording(to);
    const message = old === undefined || world.prng.chance(1, 3) ? rubbish(world) : this.#refreshed(old);
    const before = engine.status(to.clock());
    engine.received("eth0", message, to.clock());
    const after = engine.status(to.clock());
    if (JSON.stringify({ ...before, counters: 0 }) !== JSON.stringify({ ...after, counters: 0 }))
      world.checker.violation("S1", `${to.name}: ${describe(message)} changed the state`);
  }

  /**
   * A packet that this daemon has had, or one older than what it has had. A daemon that has just started cannot tell a
   * recording from the peer (no challenge in the protocol), and a packet it is missing is no replay when it comes.
   */
  #recording(to: SimNode): HaMessage | undefined {
    const recorded = this.#recorded.get(this.#world.other(to).name) ?? [];
    if (recorded.length === 0 || (to.engine?.status(to.clock()).counters["packetsMissing"] ?? 1) > 0) return undefined;
    const old = recorded[this.#world.prng.below(Math.ceil(recorded.length / 2))] as HaMessage;
    const generation = old.hex("hg") ?? 0;
    if (generation < to.heardGeneration) return old;
    return generation === to.heardGeneration && (old.hex("seq") ?? 0) < to.heardSeq ? old : undefined;
  }

  #refreshed(old: HaMessage): HaMessage {
    if (this.#world.options.mutation !== "fresh-replay") return old;
    return old.with("hg", "7fffffff");
  }

  #record(from: string, message: HaMessage): void {
    if (message.get("seq") === undefined) return;
    const list = this.#recorded.get(from) ?? [];
    this.#recorded.set(from, list);
    list.push(message);
    if (list.length > RECORDED_MAX) list.shift();
  }
}

function rubbish(world: World): HaMessage {
  const { prng } = world;
  const words = ["status", "resource", "starting", "ask_resources", "shutdone", "NS_rexmit", "hb_takeover", ""];
  const fields: HaField[] = [
    { name: "t", type: 0, value: prng.pick(words) },
    { name: "src", type: 0, value: prng.pick(["nodo3", "", "nodo1\u0000", "NODO9"]) },
    { name: "seq", type: 0, value: prng.pick(["1", "ffffffffffffffff", "-1", "x"]) },
    { name: "hg", type: 0, value: prng.pick(["0", "7fffffff", "zz"]) },
    { name: "ts", type: 0, value: "1" },
    { name: "rsc_hold", type: 0, value: prng.pick(["none", "all", "everything"]) },
    { name: "st", type: 0, value: "dead" },
  ];
  return new HaMessage(fields.slice(0, prng.between(1, fields.length)));
}

function describe(message: HaMessage): string {
  return message.fields.map((field) => `${field.name}=${field.type === 0 ? field.value : "…"}`).join(" ");
}

/** Mutation: what is still being stopped is announced as released. */
function releasedEarly(message: HaMessage): HaMessage {
  const report = message.get("hcstate");
  if (report === undefined || !report.includes("move:give/")) return message;
  return message.with("hcstate", report.replace(/hold:\w+/, "hold:none").replace("move:give/", "move:done/"));
}
