import type { EngineEvent } from "@hacluster/blockrep/unstable/core/ports";
import type { Packet } from "@hacluster/blockrep/unstable/wire/packets";
import { formatState, unpackState } from "@hacluster/blockrep/unstable/wire/state-word";
import { content } from "../sim/blockrep/application.ts";
import type { SimNode } from "../sim/blockrep/node.ts";
import { World } from "../sim/blockrep/world.ts";

const SEED = 1;
/** Longest that a command may take, and how long the stage watches what still happens after it. */
const COMMAND_MS = 15_000;
const AFTER_MS = 20;
const NAMES = ["a", "b"] as const;

/** Two nodes of the simulator that do what a transcript says, and the lines that this gives. */
export class Stage {
  #world: World;
  #lines: string[] = [];
  #startMs = 0;
  #pings = false;
  #disks = false;
  #writes = 0;
  /** UUIDs and barrier numbers are chosen by chance: they are named in the order of their appearance. */
  readonly #uuids: Map<bigint, string> = new Map();
  readonly #barriers: Map<number, number> = new Map();

  constructor() {
    this.#world = this.#newWorld({});
  }

  #newWorld(net: Readonly<Record<string, string>>): World {
    return new World(SEED, {
      calm: true,
      stage: {
        net,
        packet: (from, packet) => this.#packet(from, packet),
        event: (node, event) => this.#event(node, event),
        disk: (node, operation) => {
          if (this.#disks) this.#say(`${NAMES[node]} disk: ${operation}`);
        },
      },
    });
  }

  /** Runs one command. @returns what was seen, with milliseconds since its beginning */
  run(command: string): string[] {
    this.#lines = [];
    this.#startMs = this.#world.nowMs;
    const words = command.trim().split(/\s+/);
    const node = NAMES.indexOf(words[0] as "a" | "b");
    if (node >= 0) this.#node(this.#world.nodes[node] as SimNode, words.slice(1));
    else this.#both(words);
    for (const line of this.#world.violations) this.#lines.push(`VIOLATION ${line}`);
    return this.#lines;
  }

  #both(words: readonly string[]): void {
    const world = this.#world;
    const [verb = "", value = ""] = words;
    if (verb === "options")
      this.#world = this.#newWorld(Object.fromEntries(words.slice(1).map((w) => w.split("=") as [string, string])));
    else if (verb === "show") {
      if (value === "pings") this.#pings = true;
      if (value === "disks") this.#disks = true;
    } else if (verb === "hide") {
      if (value === "pings") this.#pings = false;
      if (value === "disks") this.#disks = false;
    } else if (verb === "pair") this.#pair();
    else if (verb === "wait") this.#until(Number(value), () => false);
    else if (verb === "cut" || verb === "heal") for (const i of [0, 1]) world.network.setCut(i, verb === "cut");
    else if (verb === "compare") this.#compare();
    else throw new Error(`no such command: ${words.join(" ")}`);
  }

  /** Two connected nodes, without a word about how they got there. */
  #pair(): void {
    for (const command of ["a boot", "b boot", "a attach", "b attach", "a connect", "b connect", "wait 1500"])
      this.run(command);
    this.#lines = ["two nodes, Connected, Secondary/Secondary, UpToDate/UpToDate"];
  }

  #until(ms: number, done: () => boolean): void {
    // small steps: what a caller waits for is looked at after each
    const end = this.#world.nowMs + ms;
    while (this.#world.nowMs < end && !done()) this.#world.runUntil(this.#world.nowMs + 1, () => false);
  }

  #node(node: SimNode, words: readonly string[]): void {
    const [verb = "", ...rest] = words;
    if (verb === "power" && rest[0] === "off") this.#world.powerLoss(node);
    else if (verb === "kill") this.#world.processCrash(node);
    else if (verb === "boot") {
      node.machineUp = true;
      node.applyAl();
      node.start();
    } else if (verb === "pause") node.pause(Number(rest[0]));
    else if (verb === "status") this.#status(node);
    else if (verb === "write" || verb === "read" || verb === "flush")
      this.#io(node, verb, Number(rest[0]), Number(rest[1]), rest[2] === "nowait");
    else this.#command(node, verb, rest);
  }

  #command(node: SimNode, verb: string, flags: readonly string[]): void {
    let done = false;
    const request = {
      verb: verb as Parameters<SimNode["command"]>[0]["verb"],
      force: flags.includes("--force"),
      discardMyData: flags.includes("--discard-my-data"),
    };
    node.command(request, (code, text) => {
      done = true;
      this.#say(`${NAMES[node.index]} ${verb}: ${code >= 1 && code < 100 ? "ok" : text}`);
    });
    this.#until(COMMAND_MS, () => done);
    this.#until(AFTER_MS, () => false);
  }

  #io(node: SimNode, verb: string, sector: number, bytes: number, nowait: boolean): void {
    const id = verb === "write" ? ++this.#writes : 0;
    let done = nowait;
    node.request(
      (engine, request) => {
        if (verb === "write") engine.write(request, 0, sector, content(id, sector, bytes / 512), false);
        else if (verb === "read") engine.read(request, 0, sector, bytes);
        else engine.flush(request, 0);
      },
      (errno, data) => {
        done = true;
        const what = verb === "write" ? `write ${id}` : verb;
        const result =
          data === undefined ? "complete" : `returns write ${new DataView(data.buffer, data.byteOffset).getUint32(0)}`;
        this.#say(`${NAMES[node.index]} application: ${what} ${errno === 0 ? result : `fails with errno ${errno}`}`);
      },
    );
    this.#until(COMMAND_MS, () => done);
    if (!nowait) this.#until(AFTER_MS, () => false);
  }

  #status(node: SimNode): void {
    const volume = node.engine?.snapshot().volumes[0];
    if (volume === undefined) this.#lines.push("down");
    else
      this.#lines.push(
        `${volume.outOfSyncBlocks} blocks of 4 KiB out of sync, ${volume.alWrites} activity log transactions`,
      );
  }

  #compare(): void {
    const [a, b] = this.#world.nodes;
    const sectors = new Set([...a.store.writtenSectors(), ...b.store.writtenSectors()]);
    const different = [...sectors].filter((s) => a.store.id(s) !== b.store.id(s)).length;
    this.#lines.push(different === 0 ? "the disks are identical" : `the disks differ in ${different} sectors`);
  }

  #say(line: string): void {
    const ms = this.#world.nowMs - this.#startMs;
    this.#lines.push(`${String(ms).padStart(5)} ${line}`);
  }

  #uuid(uuid: bigint): string {
    if (uuid === 0n) return "0";
    const value = uuid & ~1n;
    let name = this.#uuids.get(value);
    if (name === undefined) {
      name = `U${this.#uuids.size + 1}`;
      this.#uuids.set(value, name);
    }
    return name;
  }

  #barrier(barrier: number): string {
    if (!this.#barriers.has(barrier)) this.#barriers.set(barrier, this.#barriers.size + 1);
    return `#${this.#barriers.get(barrier)}`;
  }

  #event(node: number, event: EngineEvent): void {
    const name = NAMES[node];
    if (event.type === "state") {
      const [from, to] = [formatState(unpackState(event.from)), formatState(unpackState(event.to))];
      if (from !== to) this.#say(`${name} ${to}  (${event.cause})`);
    } else if (event.type === "handshake") this.#say(`${name} decides: ${event.text}`);
    else if (event.type === "network") this.#say(`${name} network: ${event.text}`);
    else if (event.type === "uuids")
      this.#say(`${name} UUIDs ${this.#uuid(event.current)}:${this.#uuid(event.bitmap)}  (${event.cause})`);
    else if (event.type === "resync-start") this.#say(`${name} resync begins as ${event.role}: ${event.blocks} blocks`);
  }

  #packet(from: number, packet: Packet): void {
    const ping = packet.kind === "P_PING" || packet.kind === "P_PING_ACK";
    if (ping && !this.#pings) return;
    this.#say(`${NAMES[from]} -> ${NAMES[1 - from]} ${packet.kind}${this.#details(packet)}`);
  }

  #details(packet: Packet): string {
    switch (packet.kind) {
      case "P_DATA":
        return ` sector ${packet.sector}, ${packet.data.length} bytes, token ${packet.idLow}`;
      case "P_WRITE_ACK":
        return ` sector ${packet.sector}, token ${packet.idLow}`;
      case "P_RS_DATA_REQUEST":
      case "P_RS_WRITE_ACK":
        return ` sector ${packet.sector}, ${packet.sizeBytes} bytes`;
      case "P_RS_DATA_REPLY":
        return ` sector ${packet.sector}, ${packet.data.length} bytes`;
      case "P_BARRIER":
        return ` ${this.#barrier(packet.barrier)}`;
      case "P_BARRIER_ACK":
        return ` ${this.#barrier(packet.barrier)}, ${packet.setSize} writes`;
      case "P_UUIDS":
        return ` current ${this.#uuid(packet.current)}, bitmap ${this.#uuid(packet.bitmap)}, ${packet.dirtyBits} blocks out of sync`;
      case "P_STATE":
        return ` ${formatState(unpackState(packet.state))}`;
      case "P_PROTOCOL":
        return ` protocol ${"ABC"[packet.protocol - 1]}`;
      case "P_CONNECTION_FEATURES":
        return ` versions ${packet.protocolMin}-${packet.protocolMax}`;
      case "P_AUTH_CHALLENGE":
        return ` ${packet.challenge.length} bytes`;
      case "P_AUTH_RESPONSE":
        return ` ${packet.response.length} bytes`;
      default:
        return "";
    }
  }
}
