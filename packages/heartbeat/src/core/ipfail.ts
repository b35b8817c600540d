import { HaMessage } from "../wire/message.ts";
import { type Context, NEVER, soonest } from "./context.ts";
import { ALL, NONE } from "./group-set.ts";
import type { PingNodes } from "./ping-nodes.ts";
import type { ResourceState } from "./resource-state.ts";

/** Pause before the counts are compared again after a give-up that could not begin, or came to nothing. */
const ASK_AGAIN_MS = 10_000;

/** Types of the messages between two ipfails. @see Heartbeat 3.0.6 ipfail */
export const IpfailMessage = {
  join: "hbapi-clstat",
  count: "num_ping_nodes",
  fewer: "you_are_dead",
  equal: "abort_giveup",
} as const;

export function isIpfailMessage(t: string): boolean {
  return (Object.values(IpfailMessage) as string[]).includes(t);
}

/** What ipfail may do to the service groups. */
export interface IpfailActions {
  /** A standby may begin now. */
  possible(): boolean;
  giveAll(reason: string): void;
  /** Groups that prefer the other node may go home. */
  failback(): void;
}

/**
 * The node that sees fewer ping nodes gives its service groups to the other one: number asked, answered, given up after two
 * keepalives unless the other side calls it off. The conversation is the original's, so that either side may be a real Heartbeat.
 * Deviations: a node that holds nothing gives nothing up; a give-up that came to nothing is followed by a new comparison.
 * @see Heartbeat 3.0.6 ipfail
 */
export class Ipfail {
  readonly #context: Context;
  readonly #state: ResourceState;
  readonly #ping: PingNodes;
  readonly #actions: IpfailActions;
  /** When the groups are to be given up. */
  #giveUpAtMs = NEVER;
  #postponed = false;
  #askAtMs = NEVER;
  #joined = false;
  /** The conversation in progress is a give-up of ours. */
  #giving = false;
  /** Living ping nodes of the peer, as it said last. */
  #peerCount: number | undefined;

  constructor(state: ResourceState, ping: PingNodes, actions: IpfailActions) {
    this.#context = state.context;
    this.#state = state;
    this.#ping = ping;
    this.#actions = actions;
    ping.onChange = () => this.#ask();
  }

  /** The peer said that it sees fewer ping nodes than this node: nothing should move there. */
  get peerIsWorse(): boolean {
    if (!this.#on) return false;
    const theirs = this.#state.peer.report?.pings ?? this.#peerCount;
    return theirs !== undefined && theirs < this.#ping.alive;
  }

  /** This node became active. */
  active(): void {
    if (!this.#on) return;
    this.#joined = true;
    this.#post(IpfailMessage.join, { st: "join", info: "signon" });
  }

  peerGone(): void {
    this.#peerCount = undefined;
    this.#cancel();
  }

  linkDied(): void {
    this.#ask();
  }

  /** A message of the other ipfail. */
  received(message: HaMessage): void {
    if (!this.#on || message.get("to_id") !== "ipfail") return;
    switch (message.type) {
      case IpfailMessage.join:
        if (message.get("st") === "join") this.#ask();
        break;
      case IpfailMessage.count:
        this.#compare(message.decimal("num_ping"));
        break;
      case IpfailMessage.fewer:
        this.#plan("the other node sees more ping nodes");
        break;
      case IpfailMessage.equal:
        this.#peerCount = this.#ping.alive;
        this.#cancel();
        break;
      default:
        break;
    }
  }

  step(): void {
    if (!this.#on) return;
    const { nowMs } = this.#context;
    if (nowMs >= this.#askAtMs) {
      this.#askAtMs = NEVER;
      this.#ask();
    }
    if (nowMs < this.#giveUpAtMs) return;
    if (this.#state.hold === NONE) {
      this.#cancel();
      return;
    }
    if (!this.#actions.possible()) {
      // not now: what was true of the counts then may not be when the cluster is calm again
      this.#postponed = true;
      return;
    }
    const postponed = this.#postponed;
    this.#cancel();
    this.#askAtMs = nowMs + ASK_AGAIN_MS;
    if (postponed) return;
    const reason = "the other node sees more ping nodes";
    this.#context.event("warn", "ipfail.giveup", `giving up all service groups: ${reason}`, {
      alive: this.#ping.alive,
    });
    this.#giving = true;
    this.#actions.giveAll(reason);
  }

  /** A conversation that we began has ended. */
  moved(ok: boolean): void {
    if (this.#giving && ok) this.#askAtMs = NEVER;
    this.#giving = false;
  }

  deadline(): number {
    return soonest(this.#context.nowMs, this.#giveUpAtMs, this.#askAtMs);
  }

  get #on(): boolean {
    return this.#context.config.ipfail && this.#context.peer !== undefined;
  }

  #ask(): void {
    if (!this.#on || !this.#joined || !this.#state.membership.peerAlive) return;
    const count = this.#ping.alive;
    this.#context.event("info", "ipfail.count", `${count} ping nodes answer: asking the other node for its count`, {
      alive: count,
    });
    this.#post(IpfailMessage.count, { num_ping: String(count) });
  }

  #compare(theirs: number | undefined): void {
    if (theirs === undefined) {
      this.#context.count("messagesRefused");
      return;
    }
    this.#peerCount = theirs;
    const ours = this.#ping.alive;
    if (ours > theirs) this.#post(IpfailMessage.fewer, {});
    else if (ours < theirs) this.#plan("the other node sees more ping nodes");
    else {
      this.#post(IpfailMessage.equal, {});
      this.#cancel();
      if (this.#context.config.autoFailback === "on") this.#actions.failback();
    }
  }

  #plan(reason: string): void {
    if (this.#giveUpAtMs !== NEVER) return;
    const delayMs = 2 * this.#context.config.keepaliveMs;
    this.#giveUpAtMs = this.#context.nowMs + delayMs;
    this.#postponed = false;
    this.#context.event("warn", "ipfail.count", `${reason}: all service groups go there in ${delayMs} ms`, {
      alive: this.#ping.alive,
      set: ALL,
    });
  }

  #cancel(): void {
    this.#giveUpAtMs = NEVER;
    this.#postponed = false;
  }

  #post(t: string, own: Readonly<Record<string, string>>): void {
    const ids = { from_id: "ipfail", to_id: "ipfail", client_gen: "0" };
    const dest: Record<string, string> = t === IpfailMessage.join ? {} : { dest: this.#context.peer ?? "" };
    this.#state.send(HaMessage.of(t, { ...own, ...dest, ...ids }));
  }
}
