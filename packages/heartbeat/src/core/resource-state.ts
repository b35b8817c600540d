import { HaMessage, MessageType } from "../wire/message.ts";
import type { Context } from "./context.ts";
import { NONE, setName } from "./group-set.ts";
import type { Membership } from "./membership.ts";
import type { MovePhase, Report } from "./peer-report.ts";
import type { PeerResources } from "./peer-resources.ts";
import type { DrbdFacts } from "./ports.ts";
import type { ServiceGroups } from "./service-groups.ts";

/**
 * `init`: not active yet. `starting`: active, the peer has not said what it holds. `received`: a real peer has said it, the
 * ten seconds run. `stable`: takes part. `shutdown`: releasing, for good or to restart.
 */
export type ResourcePhase = "init" | "starting" | "received" | "stable" | "shutdown";

/** A standby conversation in progress; `set` in our words. */
export interface Move {
  readonly giver: boolean;
  readonly set: number;
  readonly reason: string;
  /** Of a giver: what it held of the set when it began to release it. */
  held: number;
  phase: MovePhase;
  deadlineMs: number;
}

/** State that the parts of the resource protocol share. Whoever changes `hold` has the right to: see resource-protocol. */
export class ResourceState {
  readonly context: Context;
  readonly membership: Membership;
  readonly groups: ServiceGroups;
  readonly peer: PeerResources;
  readonly facts: Map<string, DrbdFacts> = new Map();
  readonly #post: (message: HaMessage) => void;
  phase: ResourcePhase = "init";
  /** Sets that may run here, from before the first start until after the last stop. */
  hold: number = NONE;
  /** Groups of the peer came to us by its death or its end, not by somebody's wish. */
  needsFailback = false;
  move: Move | undefined;
  fencing = false;
  /** Every group has been looked at; before that nothing is known about this node. */
  probed = false;
  leaving = false;
  /** The last report that went out; the peer is told at once when it changes. */
  lastReport = "";
  #lastAnnounced = "";

  constructor(
    context: Context,
    membership: Membership,
    groups: ServiceGroups,
    peer: PeerResources,
    post: (message: HaMessage) => void,
  ) {
    this.context = context;
    this.membership = membership;
    this.groups = groups;
    this.peer = peer;
    this.#post = post;
  }

  get settled(): boolean {
    return this.phase === "stable" && this.move === undefined && !this.fencing && this.groups.settled(3);
  }

  send(message: HaMessage): void {
    this.#post(message);
  }

  post(t: string, own: Readonly<Record<string, string>>): void {
    this.#post(HaMessage.of(t, own));
  }

  /** `isstable` of the wire: in the order of Heartbeat's conversation, before scripts have ended. */
  get wireStable(): boolean {
    return this.phase === "stable" && !(this.move?.giver === true && this.move.phase !== "me");
  }

  announce(info?: string): void {
    const stable = this.wireStable ? "1" : "0";
    const own: Record<string, string> = { rsc_hold: setName(this.hold), rtype: "full", isstable: stable };
    if (info !== undefined) own["info"] = info;
    this.#lastAnnounced = `${this.hold}/${stable}`;
    this.post(MessageType.resource, own);
  }

  announceChange(): void {
    // a real giver expects the taker's `done` first
    if (this.peer.real && this.move?.phase === "take") return;
    if (this.phase === "stable" && this.#lastAnnounced !== `${this.hold}/${this.wireStable ? "1" : "0"}`)
      this.announce();
  }

  report(): Report {
    return {
      hold: this.hold,
      stable: this.settled,
      move: this.move?.phase ?? "none",
      moveSet: this.#giversSet(),
      saw: this.#saw(),
      failed: this.groups.failed(),
      considersDead: this.membership.peer === "dead",
      leaving: this.leaving,
      pings: this.pings(),
    };
  }

  #giversSet(): number {
    if (this.move === undefined) return NONE;
    return this.move.giver ? this.move.set : ((this.move.set & 1) << 1) | ((this.move.set & 2) >> 1);
  }

  /** Newest generation of the peer that was heard; set by the engine. */
  sawGeneration: () => number = () => 0;

  /** Ping nodes that answer, where ipfail is configured; set by the engine. */
  pings: () => number | undefined = () => undefined;

  #saw(): number {
    return this.sawGeneration();
  }

  /** Take a set: it is ours from now on, before anything of it starts. */
  acquire(set: number, why: string): void {
    if (set === NONE) return;
    this.context.event("info", "resources.acquire", `acquiring ${setName(set)} service groups: ${why}`, {
      set: setName(set),
      reason: why,
    });
    this.hold |= set;
    this.groups.run(set);
  }
}
