import { Prng } from "@hacluster/blockrep/base";
import type { EngineEvent } from "@hacluster/blockrep/unstable/core/ports";
import { MdFlag } from "@hacluster/blockrep/unstable/meta/superblock";
import { ConnState, DiskState, Role, unpackState } from "@hacluster/blockrep/unstable/wire/state-word";
import { EventQueue } from "../heartbeat/queue.ts";
import { Model } from "./model.ts";
import { Network } from "./network.ts";
import { SimNode } from "./node.ts";
import { Operator } from "./operator.ts";
import { type Scenario, type SimOptions, scenarioOf } from "./options.ts";

/** Seeds of the choice of features are far from those of the course of events. */
const FEATURE_SEEDS = 1_000_000;
const SYNCED_UUID = 0x9b10df57fab8a2aen;

/** Events that no seed comes near: more means that the nodes keep each other, or themselves, busy for ever. */
const EVENTS_MAX = 1_000_000;
/** The same within one millisecond of virtual time. */
const INSTANT_EVENTS_MAX = 50_000;

/** Two machines, a network, an application and an operator, in virtual time. One seed decides everything. */
export class World {
  readonly prng: Prng;
  /** Chance of features that not every run uses. */
  readonly features: Prng;
  readonly scenario: Scenario;
  readonly options: SimOptions;
  readonly network: Network;
  readonly nodes: readonly [SimNode, SimNode];
  readonly operator: Operator;
  readonly violations: string[] = [];
  readonly covered: Map<string, number> = new Map();
  readonly #queue: EventQueue = new EventQueue();
  nowMs = 0;
  /** Order of what the application saw; finer than the clock. */
  stamp = 0;
  events = 0;
  #instantEvents = 0;
  #hash = 0x811c9dc5;
  /** A plan waits for the beginning of a resync. */
  onResyncTarget: ((target: SimNode) => void) | undefined;

  constructor(seed: number, options: SimOptions) {
    this.prng = new Prng(seed);
    this.features = new Prng(seed + FEATURE_SEEDS);
    this.options = options;
    this.scenario = scenarioOf(this.prng, this.features, options);
    this.network = new Network(this);
    const model = new Model();
    this.nodes = [new SimNode(this, 0, model), new SimNode(this, 1, model)];
    for (const node of this.nodes) {
      node.createMetadata(
        this.scenario.fresh
          ? undefined
          : {
              laSizeSectors: node.layout.dataSectorsMax,
              uuids: { current: SYNCED_UUID, bitmap: 0n, history0: 0n, history1: 0n },
              flags: MdFlag.alClean | MdFlag.consistent | MdFlag.wasUpToDate,
              alExtents: 67,
            },
      );
    }
    this.operator = new Operator(this);
  }

  at(ms: number, run: () => void): void {
    this.#queue.push(Math.max(ms, this.nowMs), run);
  }

  after(ms: number, run: () => void): void {
    this.at(this.nowMs + ms, run);
  }

  /** How long something takes, in milliseconds. */
  delay(least: number, most: number): number {
    return this.options.stage === undefined ? this.prng.between(least, most) : 1;
  }

  /** One more time that something happened which a simulator has to bring about. */
  cover(what: string): void {
    this.covered.set(what, (this.covered.get(what) ?? 0) + 1);
  }

  get traceHash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  get tracing(): boolean {
    return this.options.trace !== undefined;
  }

  trace(line: string): void {
    this.options.trace?.(`${String(this.nowMs).padStart(6)} ${line}`);
  }

  note(line: string): void {
    for (let i = 0; i < line.length; i++) this.#hash = Math.imul(this.#hash ^ line.charCodeAt(i), 0x01000193);
    this.#hash = Math.imul(this.#hash ^ this.nowMs, 0x01000193);
    if (this.tracing) this.trace(line);
  }

  violation(rule: string, text: string): void {
    this.note(`VIOLATION ${rule} ${text}`);
    if (this.violations.length < 20) this.violations.push(`${rule} at ${this.nowMs} ms: ${text}`);
  }

  /** Runs until `done` says so or the time is over. @returns whether it was done */
  runUntil(endMs: number, done: () => boolean): boolean {
    let check = this.nowMs;
    while (this.violations.length === 0) {
      if (this.nowMs >= check) {
        if (done()) return true;
        check = this.nowMs + 100;
      }
      const next = this.#queue.nextAt;
      if (next === undefined || next > endMs) {
        this.nowMs = endMs;
        return done();
      }
      const event = this.#queue.pop() as { at: number; run: () => void };
      this.#count(event.at);
      event.run();
    }
    return false;
  }

  #count(at: number): void {
    if (at > this.nowMs) this.#instantEvents = 0;
    this.nowMs = at;
    this.events++;
    this.#instantEvents++;
    if (this.#instantEvents > INSTANT_EVENTS_MAX) this.violation("livelock", "time stands still while events go on");
    else if (this.events > EVENTS_MAX) this.violation("livelock", `more than ${EVENTS_MAX} events`);
  }

  other(node: SimNode): SimNode {
    return this.nodes[1 - node.index] as SimNode;
  }

  get shared(): boolean {
    return this.nodes[0].model === this.nodes[1].model;
  }

  /** From here on this node's disk may miss what the other gets. */
  fallBehind(node: SimNode): void {
    if (!this.shared) return;
    const ahead = this.other(node);
    this.note(`${node.index} falls behind`);
    node.model = ahead.model.clone(++this.stamp);
    ahead.model.soloAcks = 0;
    node.model.soloAcks = 0;
    if (this.#protocol === "A") node.model.lostUnflushed();
  }

  get #protocol(): string {
    return this.scenario.options.net.protocol;
  }

  powerLoss(node: SimNode): void {
    const other = this.other(node);
    const primary = node.engine?.snapshot().role === Role.Primary;
    if (this.shared && other.machineUp) this.fallBehind(node);
    this.cover(primary ? "power loss of a Primary" : "power loss of a Secondary");
    node.model.lostUnflushed();
    // protocol A acknowledges what the peer may never have got
    if (primary && this.#protocol === "A" && !this.shared) other.model.lostUnflushed();
    node.powerLoss();
  }

  /** The other node's fencing device switches it off and on. */
  kill(node: SimNode): void {
    if (!node.machineUp) return;
    this.note(`${node.index} is fenced`);
    this.powerLoss(node);
    this.operator.nodeDied(node);
  }

  processCrash(node: SimNode): void {
    const primary = node.engine?.snapshot().role === Role.Primary;
    // what was acknowledged may have been in the memory of the secondary only (B), or not even there (A)
    if (this.#protocol !== "C" && this.shared && !(primary && this.#protocol === "B")) {
      const behind = primary ? this.other(node) : node;
      this.fallBehind(behind);
      behind.model.lostUnflushed();
    }
    node.processCrash();
  }

  /** The disk of a node failed an operation; what it held since its last flush is uncertain. */
  diskFailed(node: SimNode): void {
    this.note(`${node.index} disk fails`);
    if (this.shared) this.fallBehind(node);
    node.model.lostUnflushed();
  }

  engineEvent(node: SimNode, event: EngineEvent): void {
    if (event.type === "note") {
      if (this.tracing) this.trace(`${node.index} ${event.text}`);
      return;
    }
    if (event.type === "state") this.#stateEvent(node, event.from, event.to, event.cause);
    else if (event.type === "network") this.note(`${node.index} net ${event.text}`);
    else if (event.type === "handshake") this.note(`${node.index} ${event.text}`);
    else if (event.type === "resync-start") {
      this.note(`${node.index} resync ${event.role} ${event.blocks}`);
      if (event.role === "target") {
        this.cover("resync");
        this.onResyncTarget?.(node);
      }
    } else if (event.type === "uuids") {
      this.note(`${node.index} uuids ${event.cause} ${event.current.toString(16)}:${event.bitmap.toString(16)}`);
    } else if (event.type === "verify-end") {
      this.note(`${node.index} verify ${event.done} ${event.outOfSyncBlocks}`);
      if (event.outOfSyncBlocks > 0) this.violation("D3", `verify found ${event.outOfSyncBlocks} blocks out of sync`);
    } else if (event.type === "disk-error") {
      this.cover(`${event.operation} error`);
      this.note(`${node.index} disk error ${event.operation}`);
    } else if (event.type === "split-brain") this.cover(event.resolved ? "split brain resolved" : "split brain");
  }

  #stateEvent(node: SimNode, from: number, to: number, cause: string): void {
    const old = unpackState(from);
    const now = unpackState(to);
    this.note(
      `${node.index} ${old.role}/${old.peer} c${old.conn} ${old.disk}/${old.pdsk} -> ${now.role}/${now.peer} c${now.conn} ${now.disk}/${now.pdsk} ${cause}`,
    );
    const other = this.other(node);
    // what a Primary acknowledged under protocol A and had not sent, the other will never have
    if (old.role === Role.Primary && old.conn >= ConnState.Connected && now.conn < ConnState.Connected) {
      if (this.#protocol === "A") this.fallBehind(other);
    }
    if (now.conn === ConnState.SyncTarget && old.conn !== ConnState.SyncTarget && old.conn !== ConnState.PausedSyncT) {
      if (!this.shared && node.model.soloAcks > 0 && !this.operator.mayLose(node)) {
        this.violation(
          "D5",
          `node ${node.index} becomes target with ${node.model.soloAcks} acknowledged writes of its own`,
        );
      }
    }
    const synced =
      old.disk === DiskState.Inconsistent && now.disk === DiskState.UpToDate && now.conn === ConnState.Connected;
    if (synced && old.conn === ConnState.SyncTarget) {
      node.model = other.model;
      node.model.soloAcks = 0;
      this.operator.lost(node);
    }
    const equal =
      now.conn === ConnState.Connected && now.disk === DiskState.UpToDate && now.pdsk === DiskState.UpToDate;
    if (equal && old.conn < ConnState.Connected && !this.shared) {
      for (const one of this.nodes) {
        if (one.model.soloAcks > 0) {
          this.violation(
            "D5",
            `connected without a resync, but node ${one.index} has ${one.model.soloAcks} writes of its own`,
          );
        }
      }
      const keep = node.lastPowerLossMs > other.lastPowerLossMs ? other : node;
      this.other(keep).model = keep.model;
    }
    if (now.role === Role.Primary && old.role !== Role.Primary) {
      this.cover(now.conn >= ConnState.Connected ? "promotion agreed" : "promotion alone");
      this.operator.promoted(node);
    }
    if (now.disk === DiskState.Diskless && now.role === Role.Primary && old.disk !== now.disk)
      this.cover("diskless Primary");
  }
}
