import { formatHex, HaMessage, MessageType } from "../wire/message.ts";
import { type Context, NEVER, soonest } from "./context.ts";
import { replicatedResources } from "./failback.ts";
import { OwnStall } from "./own-stall.ts";
import type { LinkView, NodeStatus } from "./ports.ts";

/** After its start a node asks a real Heartbeat, or a peer it does not know yet, for this much more patience… */
const START_GRACE_MS = 2000;
/** …for this long. @see Heartbeat 3.0.6 announced dead time */
const START_GRACE_UNTIL_MS = 5000;
const REQNODES_EVERY_MS = 1000;
/** A peer's announcement beyond this is taken as this: nobody means to wait longer than an hour. */
const DEADTIME_MAX_MS = 3_600_000;

const LOOKS_BEFORE_DEATH = 4;

/** What the parts above membership do when something changes. */
export interface MembershipListener {
  /** Send a message of ours, with the report added. */
  post(message: HaMessage): void;
  peerIsHacluster(): boolean;
  peerDied(): void;
  /** A link to the peer that worked is silent. */
  linkDied(): void;
  /** Every node is heard or dead, and the node list agreed: this node may become active. */
  ready(): void;
}

interface Link {
  up: boolean;
  lastHeardMs: number;
  localDown: boolean;
}

/**
 * Who is there: own status, the peer's, the links. Statuses go out each keepalive; the peer is dead when it is silent for
 * as long as it announced itself (`dt`), or, before it was ever heard, for initdead.
 */
export class Membership {
  readonly #context: Context;
  readonly #listener: MembershipListener;
  readonly #stall: OwnStall;
  readonly #links = new Map<string, Link>();
  #own: NodeStatus = "init";
  #peer: NodeStatus = "init";
  #peerHeard = false;
  #peerLastStatusMs = 0;
  /** Newest sign of life: a status, or any other new message. */
  #peerLastHeardMs = 0;
  #peerDeadtimeMs: number;
  /** Time in which this process did not listen, taken off the peer's silence. */
  #deafMs = 0;
  #nextStatusMs = 0;
  #nextReqnodesMs = NEVER;
  #nodesAgreed = false;
  #late = false;

  constructor(context: Context, listener: MembershipListener) {
    this.#context = context;
    this.#listener = listener;
    this.#peerDeadtimeMs = context.config.deadtimeMs;
    this.#stall = new OwnStall(context, context.nowMs, context.config.deadtimeMs);
    for (const link of context.config.links)
      this.#links.set(link, { up: false, lastHeardMs: Number.NEGATIVE_INFINITY, localDown: false });
  }

  get own(): NodeStatus {
    return this.#own;
  }

  get peer(): NodeStatus {
    return this.#peer;
  }

  get peerAlive(): boolean {
    return this.#peerHeard && this.#peer !== "dead";
  }

  get peerHeard(): boolean {
    return this.#peerHeard;
  }

  get peerLastStatusMs(): number {
    return this.#peerLastStatusMs;
  }

  start(): void {
    this.#own = "init";
    this.sendStatus();
    this.#own = "up";
    this.sendStatus();
    this.sendStatus();
    if (this.#context.peer === undefined) this.#peer = "dead";
  }

  becomeActive(): void {
    this.#context.event("info", "node.status", `status of this node: ${this.#own} -> active`, {
      node: this.#context.identity.node,
      from: this.#own,
      to: "active",
    });
    this.#own = "active";
    this.#nextReqnodesMs = NEVER;
    this.sendStatus();
  }

  /** How long others are told to wait for us. */
  #announcedMs(): number {
    const { config, nowMs, startedMs } = this.#context;
    // the original asks for it because its start forks and blocks; ours does not, and a peer like us knows that
    const graced = nowMs - startedMs < START_GRACE_UNTIL_MS && !this.#listener.peerIsHacluster();
    return config.deadtimeMs + (graced ? START_GRACE_MS : 0);
  }

  sendStatus(): void {
    const announcedMs = this.#announcedMs();
    this.#nextStatusMs = this.#context.nowMs + this.#context.config.keepaliveMs;
    this.#stall.statusSent(announcedMs);
    this.#listener.post(HaMessage.of(MessageType.status, { st: this.#own, dt: formatHex(announcedMs), protocol: "1" }));
  }

  /** Silence of our own that others must have taken for death, ms. */
  fatalSilenceMs(): number | undefined {
    return this.#stall.fatalSilenceMs();
  }

  /** A new message of any type: whoever sends it is not dead. Deviation: Heartbeat counts statuses only. */
  heardNew(): void {
    this.#peerLastHeardMs = this.#context.nowMs;
    this.#deafMs = 0;
  }

  /**
   * Time passed between two inputs. What the peer sent while this process did not run waits in a socket, so a long stretch
   * proves little: it counts as a quarter of the dead time at most, and a death takes at least four looks.
   */
  passed(durationMs: number): void {
    const countsMs = this.#peerDeadtimeMs / LOOKS_BEFORE_DEATH;
    if (durationMs > countsMs) this.#deafMs += durationMs - countsMs;
  }

  /** Anything from the peer, copies included, arrived on a link. */
  heardOn(name: string): void {
    const link = this.#links.get(name);
    if (link === undefined) return;
    link.lastHeardMs = this.#context.nowMs;
    if (!link.up) this.#setLink(name, link, true, "packets arrive");
  }

  mediumDown(name: string): void {
    const link = this.#links.get(name);
    if (link === undefined) return;
    link.localDown = true;
    if (link.up) this.#setLink(name, link, false, "the interface is down");
  }

  mediumUp(name: string): void {
    const link = this.#links.get(name);
    if (link !== undefined) link.localDown = false;
  }

  /** A new generation of the peer: it is as if it was never dead. */
  peerRestarted(): void {
    this.#peer = "init";
    this.#peerHeard = true;
    this.#peerLastStatusMs = this.#context.nowMs;
    this.#late = false;
  }

  /** A delivered status of the peer. */
  peerStatus(message: HaMessage): void {
    const { nowMs, config, peer } = this.#context;
    const st = message.get("st");
    if (st !== "init" && st !== "up" && st !== "active" && st !== "dead") {
      this.#context.count("messagesRefused");
      return;
    }
    const gapMs = Math.round(nowMs - this.#peerLastStatusMs);
    if (this.#peerHeard && this.#peer !== "dead" && gapMs > config.warntimeMs) {
      this.#context.event(
        gapMs > config.deadtimeMs ? "crit" : "warn",
        "node.late",
        `late heartbeat: ${peer}: ${gapMs} ms since the one before`,
        { node: peer ?? "", silenceMs: gapMs },
      );
    }
    this.#late = false;
    this.#peerHeard = true;
    this.#peerLastStatusMs = nowMs;
    const dt = message.hex("dt");
    if (dt !== undefined && dt > 0) this.#peerDeadtimeMs = Math.min(dt, DEADTIME_MAX_MS);
    // its own word for death comes with shutdone; in a status it is not a state to be in
    if (st !== "dead") this.#setPeer(st, "it says so");
  }

  /** The peer returns with the generation with which it was declared dead: alive again, but not to be worked with. */
  peerReturned(): void {
    this.#peerHeard = true;
    this.#peerLastStatusMs = this.#context.nowMs;
    this.#setPeer("up", "its packets arrive again");
  }

  repnodes(nodelist: string): void {
    const theirs = nodelist
      .split(" ")
      .filter((name) => name !== "")
      .map((name) => name.toLowerCase())
      .sort();
    const ours = [...this.#context.config.nodes].sort();
    if (theirs.join(" ") !== ours.join(" ") && !this.#nodesAgreed) {
      this.#context.event(
        "error",
        "config.mismatch",
        `${this.#context.peer} is configured with nodes "${theirs.join(" ").slice(0, 200)}", this node with "${ours.join(" ")}": make the node lines of both ha.cf files the same`,
        { node: this.#context.peer ?? "" },
      );
    }
    this.#nodesAgreed = true;
  }

  tick(): void {
    const { nowMs, config, peer } = this.#context;
    if (nowMs >= this.#nextStatusMs) this.sendStatus();
    for (const [name, link] of this.#links) {
      if (link.up && nowMs - link.lastHeardMs >= this.#peerDeadtimeMs) this.#setLink(name, link, false, "silence");
    }
    if (this.#peer !== "dead" && nowMs >= this.#peerDeadAtMs()) this.#declareDead();
    if (this.peerAlive && !this.#late && nowMs - this.#peerLastStatusMs >= config.warntimeMs) {
      this.#late = true;
      for (const resource of replicatedResources(config.groups)) this.#context.sink.pingPeerNow(resource);
    }
    if (this.#own !== "up") return;
    if (this.#peer === "dead" || this.#nodesAgreed) this.#listener.ready();
    else if (this.#peerHeard && (this.#nextReqnodesMs === NEVER || nowMs >= this.#nextReqnodesMs)) {
      this.#nextReqnodesMs = nowMs + REQNODES_EVERY_MS;
      this.#listener.post(HaMessage.of(MessageType.requestNodes, { dest: peer ?? "" }));
    }
  }

  deadline(): number {
    const { nowMs, config } = this.#context;
    return soonest(
      nowMs,
      this.#nextStatusMs,
      this.#peer === "dead" ? NEVER : this.#peerDeadAtMs(),
      this.peerAlive && !this.#late ? this.#peerLastStatusMs + config.warntimeMs : NEVER,
      this.#own === "up" ? this.#nextReqnodesMs : NEVER,
    );
  }

  links(): readonly LinkView[] {
    return [...this.#links].map(([link, { up }]) => ({ link, up }));
  }

  #peerDeadAtMs(): number {
    const { startedMs, config } = this.#context;
    const silentAtMs = this.#peerHeard ? this.#peerLastHeardMs + this.#peerDeadtimeMs : startedMs + config.initdeadMs;
    return silentAtMs + this.#deafMs;
  }

  #declareDead(): void {
    const sinceMs = this.#peerHeard ? this.#peerLastHeardMs : this.#context.startedMs;
    const silenceMs = Math.round(this.#context.nowMs - sinceMs);
    this.#context.event("warn", "node.dead", `node ${this.#context.peer}: is dead (silent for ${silenceMs} ms)`, {
      node: this.#context.peer ?? "",
      silenceMs,
    });
    this.#nodesAgreed = false;
    this.#setPeer("dead", "silence");
    this.#listener.peerDied();
  }

  #setPeer(to: NodeStatus, cause: string): void {
    const from = this.#peer;
    if (from === to) return;
    this.#peer = to;
    this.#context.event(
      to === "dead" ? "warn" : "info",
      "node.status",
      `status of ${this.#context.peer}: ${from} -> ${to}, ${cause}`,
      { node: this.#context.peer ?? "", from, to },
    );
  }

  #setLink(name: string, link: Link, up: boolean, cause: string): void {
    link.up = up;
    this.#context.event(
      up ? "info" : "warn",
      "link.status",
      `link ${this.#context.peer}:${name} ${up ? "up" : "dead"}: ${cause}`,
      { node: this.#context.peer ?? "", link: name, up },
    );
    if (!up) this.#listener.linkDied();
  }
}
