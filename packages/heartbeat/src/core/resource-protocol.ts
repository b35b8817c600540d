import { type HaMessage, MessageType } from "../wire/message.ts";
import { NEVER, soonest } from "./context.ts";
import { failbackObstacle } from "./failback.ts";
import { ALL, FOREIGN, LOCAL, mirrored, NONE, setBits, setName } from "./group-set.ts";
import { Ipfail } from "./ipfail.ts";
import type { PingNodes } from "./ping-nodes.ts";
import type { ClusterCommand, CommandResult, FenceResult, FenceView, ServiceGroup } from "./ports.ts";
import { Recovery } from "./recovery.ts";
import { Release } from "./release.ts";
import type { ResourceState } from "./resource-state.ts";
import { Standby } from "./standby.ts";

/** Two real nodes, or one of each kind, wait this long after the first `resource` message. @see Heartbeat 3.0.6 RQSTDELAY */
const REQUEST_DELAY_MS = 10_000;
/**
 * A real node calls itself stable before its scripts have ended, and a standby of its own meanwhile starts things twice:
 * it is given something only after the one, and asked to give only after the other.
 */
const REAL_TAKES_AFTER_MS = 2500;
const REAL_GIVES_AFTER_MS = 5000;
/** Overlapping claims this long are no transition any more. */
const CONFLICT_MS = 2000;
const REAL_CONFLICT_MS = 5000;
/** Delay of the release after a healed partition, so that the other node hears us and releases as well. */
const HEALED_DELAY_MS = 2000;
/** Silence before the restart of a node whose peer did not see it as alive. */
const STEP_DOWN_RESTART_MS = 1000;
/** A command of the administrator that could not begin for so long is refused. */
const COMMAND_PATIENCE_MS = 60_000;
/** A set is offered to a real node after a failed start at most this often: it has no word for "failed here too". */
const REAL_FAILURE_MOVE_MS = 600_000;

interface Request {
  readonly id: number | undefined;
  readonly kind: "standby" | "takeover";
  readonly set: number;
  deadlineMs: number;
  begun: boolean;
}

/**
 * Who runs what. A set of groups (`local`: prefers us, `foreign`: prefers the peer) is ours to start only when the peer is
 * dead (fenced if so configured) or has left, when it handed the set over, or when the set is local and the peer, having
 * heard this generation of ours, says that it does not hold it.
 */
export class ResourceProtocol {
  readonly #state: ResourceState;
  readonly #standby: Standby;
  readonly #recovery: Recovery;
  readonly #release: Release;
  readonly ipfail: Ipfail;
  #requestTimerMs = NEVER;
  #request: Request | undefined;
  #stopCommand: { readonly id: number; readonly deadlineMs: number } | undefined;
  #delayed = false;
  /** The peer's `starting` came before this node could answer it. */
  #owesAnswer = false;
  #leftovers = NONE;
  /** Of the leftovers, those that this daemon ran until a moment ago. */
  #listed = NONE;
  #stoppingLeftovers = NONE;
  #conflictSinceMs = NEVER;
  #unownedSinceMs = NEVER;
  #waitsFor: string | undefined;
  #lastRealFailureMoveMs = Number.NEGATIVE_INFINITY;

  constructor(state: ResourceState, ping: PingNodes) {
    this.#state = state;
    this.#standby = new Standby(state);
    this.#recovery = new Recovery(state);
    this.#release = new Release(state);
    this.ipfail = new Ipfail(state, ping, {
      possible: () => state.phase === "stable" && this.#possible(),
      giveAll: (reason) => this.#standby.begin(ALL, reason),
      failback: () => {
        if ((state.hold & FOREIGN) !== NONE) state.needsFailback = true;
      },
    });
    state.groups.mayMove = (group) => this.#mayMove(group);
    this.#standby.onEnd = (_move, ok, text) => {
      this.ipfail.moved(ok);
      this.#requestEnded(ok, text);
    };
    this.#release.onBlocked = (text) => this.#stopEnded({ ok: false, text });
    this.#release.onDone = () => this.#stopEnded({ ok: true, text: "all service groups released" });
  }

  get failbackWaitsFor(): string | undefined {
    return this.#waitsFor;
  }

  get fencing(): FenceView | undefined {
    return this.#recovery.waiting;
  }

  get peerFenced(): boolean {
    return this.#recovery.peerFenced;
  }

  start(): void {
    this.#state.groups.probe();
    this.step();
  }

  /** Everyone is heard or dead. Become active, unless something of ours still has to be cleared away first. */
  ready(): void {
    const { probed, membership, peer, groups, phase } = this.#state;
    if (!probed || phase !== "init") return;
    if (membership.peer !== "dead" && peer.kind === "unknown") return;
    const unlisted = this.#leftovers & ~this.#listed;
    if (membership.peer !== "dead" && peer.real && unlisted !== NONE) {
      // what a real node holds it says only after our `starting`; two owners would be worse than a short outage
      this.#stopLeftovers(unlisted);
      if (!groups.released(this.#stoppingLeftovers)) return;
      this.#leftoversStopped();
    }
    this.#state.phase = "starting";
    membership.becomeActive();
    if (membership.peer !== "dead") {
      this.#state.post(MessageType.starting, {});
      if (this.#owesAnswer) this.#state.announce();
    }
    this.ipfail.active();
    this.#owesAnswer = false;
    this.step();
  }

  peerRestarted(): void {
    this.#standby.cancel("the other node restarted");
    this.#owesAnswer = false;
    this.ipfail.peerGone();
    this.#state.peer.reborn();
    this.#requestTimerMs = NEVER;
  }

  peerDied(): void {
    this.#standby.cancel("the other node is dead");
    this.ipfail.peerGone();
    this.#state.peer.forget();
    this.#requestTimerMs = NEVER;
  }

  /** The peer was declared dead and is back with the same generation: neither knows what the other runs. */
  partitionHealed(): void {
    const { context, peer } = this.#state;
    peer.forget();
    context.event(
      "crit",
      "partition.healed",
      `cluster node ${context.peer} returns after a partition: both nodes may have run the same service groups. Both release everything and restart. More links between the nodes, or a longer deadtime, prevent this`,
      { node: context.peer ?? "" },
    );
    if (this.#release.active) return;
    this.#standby.cancel("partition healed");
    const silenceMs = Math.ceil(context.config.deadtimeMs / 1000) * 1000 + 1000;
    this.#release.begin({ reason: "healed partition", restartAfterMs: silenceMs }, HEALED_DELAY_MS);
  }

  /** The peer holds us for dead, or must: be silent, release, come back with a new generation. */
  stepDown(reason: string): void {
    const { context } = this.#state;
    if (context.muted) return;
    context.muted = true;
    const plan = { reason, restartAfterMs: STEP_DOWN_RESTART_MS };
    if (this.#release.active) {
      if (this.#stopCommand === undefined) this.#release.amend(plan);
      return;
    }
    this.#standby.cancel(reason);
    this.#release.begin(plan, 0);
    this.step();
  }

  fenceDone(id: number, result: FenceResult, text: string): void {
    this.#recovery.fenceDone(id, result, text);
    this.step();
  }

  /** A delivered message of the peer whose type belongs to this protocol. */
  received(message: HaMessage, seq: number): void {
    const { peer, phase, context } = this.#state;
    switch (message.type) {
      case MessageType.starting:
        // always answered: a node that started waits for this without a limit
        peer.starting();
        if (phase === "init") this.#owesAnswer = true;
        else this.#state.announce();
        break;
      case MessageType.resource:
        if (peer.real) this.#realResource(message, seq);
        break;
      case MessageType.askResources: {
        const set = setBits(message.get("rsc_hold"));
        if (set === undefined) context.count("messagesRefused");
        else if (peer.real && phase !== "shutdown" && phase !== "init")
          this.#askedByReal(set, message.get("info") ?? "");
        break;
      }
      case MessageType.takeover: {
        const set = setBits(message.get("rsc_hold"));
        if (set === undefined || set === NONE) context.count("messagesRefused");
        else if (this.#request === undefined) {
          const wanted = message.get("rsc_hold") === "failback" ? ALL : mirrored(set);
          this.#request = {
            id: undefined,
            kind: "standby",
            set: wanted,
            deadlineMs: context.nowMs + COMMAND_PATIENCE_MS,
            begun: false,
          };
        }
        break;
      }
      case MessageType.shutdownDone:
        context.event("info", "peer.shutdown", `${context.peer} has released everything and ends`, {
          node: context.peer ?? "",
        });
        peer.shutdone();
        if (phase === "shutdown")
          context.event("info", "takeover.cancelled", "takeover cancelled: this node releases everything as well");
        else this.#standby.cancel("the other node ends");
        break;
      default:
        break;
    }
  }

  #askedByReal(set: number, info: string): void {
    const { config } = this.#state.context;
    if (info === "me" && config.autoFailback === "on" && (mirrored(set) & LOCAL) !== 0) {
      const obstacle = failbackObstacle(this.#groupsOf(LOCAL), this.#state.facts);
      if (obstacle !== undefined) {
        this.#state.context.event(
          "warn",
          "failback.followed",
          `${this.#state.context.peer} hands our service groups back although ${obstacle}; it is a Heartbeat node, which does not wait`,
          { reason: obstacle },
        );
      }
    }
    this.#standby.asked(set, info);
  }

  #realResource(message: HaMessage, seq: number): void {
    const state = this.#state;
    const becameStable = state.peer.resource(message, seq);
    if (state.phase === "shutdown" || state.phase === "init") return;
    if (state.phase === "starting") {
      state.phase = "received";
      this.#requestTimerMs = state.context.nowMs + REQUEST_DELAY_MS;
    }
    if (becameStable) state.announce();
    this.#startupOfReal();
  }

  /** Next to a real node the start ends when that one is stable, or after the wait. */
  #startupOfReal(): void {
    const { phase, peer, context } = this.#state;
    if (phase !== "received") return;
    const waited = context.nowMs >= this.#requestTimerMs;
    if (!peer.stable && !waited) return;
    if (!this.#leftoversSettled()) return;
    this.#startupDone(peer.stable ? "the other node is stable" : "the wait is over");
  }

  /** The start is over: take our own groups unless the other node has them. */
  #startupDone(why: string): void {
    const state = this.#state;
    this.#requestTimerMs = NEVER;
    state.phase = "stable";
    if ((state.peer.holds & LOCAL) === 0 && (state.hold & LOCAL) === 0) state.acquire(LOCAL, why);
    state.announce();
  }

  command(id: number, command: ClusterCommand): void {
    const { context, membership, groups } = this.#state;
    const refuse = (text: string): void => context.sink.commandDone(id, { ok: false, text });
    switch (command.kind) {
      case "stop":
        if (this.#stopCommand !== undefined) {
          refuse("a stop is already in progress");
          return;
        }
        this.#stopCommand = { id, deadlineMs: context.nowMs + COMMAND_PATIENCE_MS };
        if (this.#release.active) {
          this.#release.amend({ reason: "stop", restartAfterMs: undefined });
          this.#release.retry();
        }
        break;
      case "start":
        groups.forgetFailures();
        this.#lastRealFailureMoveMs = Number.NEGATIVE_INFINITY;
        if (this.#release.active) this.#release.retry();
        else if (this.#state.phase === "stable") groups.run(this.#state.hold & ~(this.#state.move?.set ?? NONE));
        context.sink.commandDone(id, { ok: true, text: "failures forgotten" });
        break;
      case "fence-confirm": {
        const obstacle = this.#recovery.confirm(command.node);
        if (obstacle !== undefined) refuse(obstacle);
        else context.sink.commandDone(id, { ok: true, text: `${command.node} is taken to be down` });
        break;
      }
      case "outdate-peer":
        refuse("not a matter of service groups");
        break;
      default: {
        const set = setBits(command.set) ?? ALL;
        if (this.#release.active) {
          refuse("this node is releasing everything");
          return;
        }
        if (this.#request !== undefined) {
          refuse("another request is in progress");
          return;
        }
        if (!membership.peerAlive) {
          refuse(`${context.peer ?? "the other node"} is not alive`);
          return;
        }
        this.#request = { id, kind: command.kind, set, deadlineMs: context.nowMs + COMMAND_PATIENCE_MS, begun: false };
      }
    }
    this.step();
  }

  /** Re-examine everything; called after every input. */
  step(): void {
    const state = this.#state;
    if (state.context.closed) return;
    if (!state.probed && state.groups.probed()) this.#probed();
    if (this.#release.active) {
      this.#release.step();
      return;
    }
    if (state.phase === "init") {
      if (this.#stopCommand !== undefined) this.#beginStop();
      return;
    }
    this.#checkVerdictOfPeer();
    if (this.#release.active) return;
    this.#recovery.step();
    if (state.phase === "starting" && !state.peer.real) this.#startWithReport();
    this.#startupOfReal();
    if (state.phase === "stable") this.#stableStep();
    if (this.#stopCommand !== undefined) this.#beginStop();
  }

  deadline(): number {
    return soonest(
      this.#state.context.nowMs,
      this.#requestTimerMs,
      this.#standby.deadline(),
      this.#recovery.deadline(),
      this.#release.deadline(),
      this.ipfail.deadline(),
      this.#request?.deadlineMs ?? NEVER,
    );
  }

  #stableStep(): void {
    this.#standby.step();
    this.#checkConflict();
    if (this.#release.active) return;
    this.#takeUnowned();
    this.#serveRequest();
    this.#moveAfterFailure();
    this.ipfail.step();
    this.#failback();
    this.#state.announceChange();
  }

  #probed(): void {
    const state = this.#state;
    state.probed = true;
    this.#leftovers = state.groups.leftovers();
    if (this.#leftovers === NONE) return;
    this.#listed = state.groups.listed(state.context.identity.journal ?? []);
    state.hold |= this.#leftovers;
    state.context.event(
      "warn",
      "resources.leftover",
      `${setName(this.#leftovers)} service groups were running before this start: ${
        this.#listed === this.#leftovers
          ? "this daemon ran them a moment ago"
          : "left by an earlier daemon, or started at boot"
      }`,
      { set: setName(this.#leftovers), listed: setName(this.#listed) },
    );
  }

  #stopLeftovers(set: number): void {
    const fresh = set & ~this.#stoppingLeftovers;
    if (fresh === NONE) return;
    this.#stoppingLeftovers |= fresh;
    this.#state.groups.stop(fresh);
  }

  #leftoversStopped(): void {
    this.#state.hold &= ~this.#stoppingLeftovers;
    this.#leftovers &= ~this.#stoppingLeftovers;
    this.#stoppingLeftovers = NONE;
  }

  /** Active next to a hacluster node: no fixed wait, its report says what is free. */
  #startWithReport(): void {
    const { peer, context } = this.#state;
    if (!peer.trusted || peer.left || !this.#leftoversSettled()) return;
    this.#startupDone(`${context.peer} does not hold them`);
  }

  /** What runs here from before: stopped where the peer holds it, kept where it does not. @returns false: stops still run */
  #leftoversSettled(): boolean {
    const state = this.#state;
    const { peer, groups } = state;
    this.#stopLeftovers(this.#leftovers & peer.holds);
    if (this.#stoppingLeftovers !== NONE) {
      if (!groups.settled(this.#stoppingLeftovers) || !groups.released(this.#stoppingLeftovers)) return false;
      this.#leftoversStopped();
    }
    if ((this.#leftovers & FOREIGN) !== NONE) state.needsFailback = true;
    if (this.#leftovers !== NONE) state.acquire(this.#leftovers, "they run here already");
    this.#leftovers = NONE;
    return true;
  }

  /** A peer that hears us but holds us for dead (or a real one that claims what we run) has taken our groups. */
  #checkVerdictOfPeer(): void {
    const { peer, context, membership } = this.#state;
    const report = peer.report;
    if (!membership.peerAlive || report === undefined) return;
    if (report.saw !== context.identity.generation || !report.considersDead) return;
    context.event(
      "crit",
      "peer.declared-us-dead",
      `${context.peer} has declared this node dead although we hear it: our packets do not arrive there. Releasing everything and restarting`,
      { node: context.peer ?? "" },
    );
    this.stepDown("declared dead by the other node");
  }

  #checkConflict(): void {
    const { peer, context, move, hold } = this.#state;
    const both = peer.trusted && move === undefined && peer.stable ? hold & peer.holds : NONE;
    if (both === NONE) {
      this.#conflictSinceMs = NEVER;
      return;
    }
    if (this.#conflictSinceMs === NEVER) {
      this.#conflictSinceMs = context.nowMs;
      context.event("error", "resources.conflict", `both nodes claim ${setName(both)} service groups`, {
        set: setName(both),
      });
    }
    const patienceMs = peer.real ? REAL_CONFLICT_MS : CONFLICT_MS;
    if (context.nowMs - this.#conflictSinceMs < patienceMs) return;
    // of two hacluster nodes the one that is not preferred gives way; a real node never does
    if (peer.real || (both & FOREIGN) !== NONE) this.stepDown("both nodes claim the same service groups");
  }

  /** Our own groups, that nobody holds although both nodes are well. */
  #takeUnowned(): void {
    const state = this.#state;
    const { peer, context, membership } = state;
    const unowned =
      (state.hold & LOCAL) === 0 &&
      (peer.holds & LOCAL) === 0 &&
      state.move === undefined &&
      !peer.left &&
      peer.trusted &&
      membership.peer === "active" &&
      (peer.report === undefined ? peer.stable : peer.report.move === "none") &&
      this.#groupsOf(LOCAL).length > 0;
    if (!unowned) {
      this.#unownedSinceMs = NEVER;
      return;
    }
    if (this.#unownedSinceMs === NEVER) this.#unownedSinceMs = context.nowMs;
    if (peer.real && context.nowMs - this.#unownedSinceMs < REQUEST_DELAY_MS) return;
    context.event("error", "resources.unowned", "no one owns our local service groups");
    this.#unownedSinceMs = NEVER;
    state.acquire(LOCAL, "no one owns them");
  }

  #serveRequest(): void {
    const request = this.#request;
    if (request === undefined) return;
    const { context, move, hold, groups } = this.#state;
    if (request.kind === "takeover") {
      if (!request.begun && this.#possible(REAL_GIVES_AFTER_MS)) {
        request.begun = true;
        this.#state.post(MessageType.takeover, { rsc_hold: setName(request.set) });
      }
      if (request.begun && (hold & request.set) === request.set && move === undefined && groups.settled(request.set)) {
        this.#requestEnded(true, `${setName(request.set)} service groups taken`);
        return;
      }
    } else if (!request.begun && this.#possible()) {
      request.begun = true;
      this.#standby.begin(request.set, request.id === undefined ? "the other node asks for them" : "standby");
      return;
    }
    if (context.nowMs < request.deadlineMs || move !== undefined) return;
    this.#requestEnded(false, "the cluster was not stable, or the other node did not answer");
  }

  #requestEnded(ok: boolean, text: string): void {
    const request = this.#request;
    if (request === undefined || !request.begun) return;
    this.#request = undefined;
    if (request.id !== undefined) this.#state.context.sink.commandDone(request.id, { ok, text });
  }

  #possible(realStableForMs: number = REAL_TAKES_AFTER_MS): boolean {
    const { peer } = this.#state;
    return this.#standby.possible && (!peer.real || peer.stableForMs >= realStableForMs);
  }

  /** A start failed here and the other node may do better. Heartbeat pushes away the wrong set; we move the right one. */
  #moveAfterFailure(): void {
    const { groups, peer, context } = this.#state;
    const set = groups.failed() & this.#state.hold & ~peer.failed;
    if (set === NONE || !this.#possible()) return;
    if (peer.real) {
      if (!this.#realMayTakeFailure) return;
      this.#lastRealFailureMoveMs = context.nowMs;
    }
    this.#standby.begin(set, "a service group could not be started here");
  }

  get #realMayTakeFailure(): boolean {
    return this.#state.context.nowMs - this.#lastRealFailureMoveMs >= REAL_FAILURE_MOVE_MS;
  }

  /** A group that fails here would be taken by the other node. */
  #mayMove(group: ServiceGroup): boolean {
    const { peer, phase, context } = this.#state;
    const bit = group.node === context.identity.node ? LOCAL : FOREIGN;
    if (phase !== "stable" || !this.#possible() || (peer.failed & bit) !== NONE) return false;
    return !this.ipfail.peerIsWorse && (!peer.real || this.#realMayTakeFailure);
  }

  #failback(): void {
    const { context, peer, hold, facts } = this.#state;
    const wanted =
      context.config.autoFailback === "on" &&
      this.#state.needsFailback &&
      (hold & FOREIGN) !== NONE &&
      (peer.holds & FOREIGN) === NONE &&
      (peer.failed & FOREIGN) === NONE &&
      !this.ipfail.peerIsWorse &&
      this.#possible();
    if (!wanted) {
      if (!peer.trusted) this.#waitsFor = undefined;
      return;
    }
    const obstacle = failbackObstacle(this.#groupsOf(FOREIGN), facts);
    if (obstacle !== this.#waitsFor && obstacle !== undefined) {
      context.event("info", "failback.waiting", `auto failback to ${context.peer} waits: ${obstacle}`, {
        node: context.peer ?? "",
        reason: obstacle,
      });
    }
    this.#waitsFor = obstacle;
    if (obstacle !== undefined) return;
    context.event("info", "failback.start", `auto failback to ${context.peer} begins`, { node: context.peer ?? "" });
    this.#standby.begin(FOREIGN, "auto failback");
  }

  #beginStop(): void {
    const { move, context } = this.#state;
    const command = this.#stopCommand;
    if (command === undefined) return;
    if (move !== undefined && context.nowMs < command.deadlineMs) {
      if (!this.#delayed) context.event("warn", "shutdown.delayed", "shutdown waits for the end of a standby");
      this.#delayed = true;
      return;
    }
    this.#standby.cancel("this node ends");
    this.#release.begin({ reason: "stop", restartAfterMs: undefined }, 0);
    this.#release.step();
  }

  #stopEnded(result: CommandResult): void {
    const command = this.#stopCommand;
    this.#stopCommand = undefined;
    if (command !== undefined) this.#state.context.sink.commandDone(command.id, result);
    const request = this.#request;
    this.#request = undefined;
    if (request?.id !== undefined)
      this.#state.context.sink.commandDone(request.id, { ok: false, text: "this node releases everything" });
  }

  #groupsOf(set: number): readonly ServiceGroup[] {
    return this.#state.groups.in(set).map((runner) => runner.group);
  }
}
