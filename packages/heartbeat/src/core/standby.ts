import { MessageType } from "../wire/message.ts";
import { NEVER } from "./context.ts";
import { FOREIGN, mirrored, NONE, setName } from "./group-set.ts";
import type { MovePhase } from "./peer-report.ts";
import type { Move, ResourceState } from "./resource-state.ts";

/** How long the giver waits for the other's consent. @see Heartbeat 3.0.6 hb_standby */
const CONSENT_MS = 10_000;
/** How long either side of a conversation with a real node waits for the scripts of the other. */
const SCRIPTS_MS = 3_600_000;
/** Pause after a conversation that came to nothing. */
const RETRY_MS = 1000;

/**
 * The standby conversation, giver and taker: me → other → done → done. A real Heartbeat drives it with events; with a
 * hacluster node each step is also a level in the report, so that no lost or late message can leave it half done.
 * Deviation: towards a hacluster node the giver announces its reduced holdings after the last stop, not before the first.
 */
export class Standby {
  readonly #state: ResourceState;
  #notBeforeMs = 0;
  /** Called with the outcome of each conversation that we began. */
  onEnd: (move: Move, ok: boolean, text: string) => void = () => undefined;

  constructor(state: ResourceState) {
    this.#state = state;
  }

  /** A conversation may begin now. */
  get possible(): boolean {
    const { settled, peer, membership, context } = this.#state;
    return (
      settled &&
      peer.trusted &&
      peer.stable &&
      !peer.left &&
      membership.peer === "active" &&
      (peer.report === undefined || peer.report.move === "none") &&
      context.nowMs >= this.#notBeforeMs
    );
  }

  get notBeforeMs(): number {
    return this.#notBeforeMs;
  }

  /** Offer a set to the other node. */
  begin(set: number, reason: string): void {
    const { context } = this.#state;
    this.#state.move = { giver: true, set, reason, held: NONE, phase: "me", deadlineMs: context.nowMs + CONSENT_MS };
    context.event("info", "standby.start", `offering ${setName(set)} service groups to ${context.peer}: ${reason}`, {
      set: setName(set),
      reason,
      giver: true,
    });
    this.#ask(set, "me");
  }

  /** `ask_resources` of a real node. */
  asked(setGiven: number, info: string): void {
    const { move, peer, context } = this.#state;
    const set = mirrored(setGiven);
    if (info === "me") {
      if (move !== undefined) {
        this.#refuse(set, "another conversation is in progress");
        return;
      }
      if (!peer.stable) {
        this.#refuse(set, "the other node is in flux");
        return;
      }
      if (!this.#state.settled) {
        this.#refuse(set, "this node is in flux");
        return;
      }
      this.#consent(set);
      return;
    }
    if (info === "other" && move?.giver === true && move.phase === "me" && setGiven === move.set) this.#give(move);
    else if (info === "done" && move?.giver === true && move.phase === "done") {
      peer.took(move.set);
      this.#end(move, true, `${context.peer} has taken ${setName(move.set)} service groups`);
    } else if (info === "done" && move?.giver === false && move.phase === "other") this.#take(move.set);
    else context.event("debug", "standby.refused", `standby message ${info} does not fit and is ignored`, { info });
  }

  /** Whatever time, scripts and the newest report allow. */
  step(): void {
    const { move, context } = this.#state;
    if (!this.#state.peer.real) this.#followReport();
    if (move === undefined || this.#state.move !== move) return;
    if (move.phase === "give") this.#giveStep(move);
    else if (move.phase === "take" && this.#state.groups.settled(move.set)) this.#taken(move);
    else if (context.nowMs >= move.deadlineMs) this.cancel(move.phase === "me" ? "no reply" : "no end in sight");
  }

  deadline(): number {
    return this.#state.move?.deadlineMs ?? NEVER;
  }

  /** Give the conversation up; what was half released is started again, what was half taken is kept. */
  cancel(why: string): void {
    const { move, context, groups } = this.#state;
    if (move === undefined) return;
    if (move.phase === "give") {
      // only what was ours: a set may be offered of which the other node holds a part
      this.#state.hold |= move.held;
      groups.run(move.held);
    }
    context.event("warn", "standby.cancelled", `standby of ${setName(move.set)} cancelled: ${why}`, {
      set: setName(move.set),
      reason: why,
    });
    this.#end(move, false, `cancelled: ${why}`);
  }

  #followReport(): void {
    const { peer, move, phase, context } = this.#state;
    const report = peer.report;
    if (report === undefined || !peer.trusted || phase !== "stable") return;
    const theirs = mirrored(report.moveSet);
    if (move?.giver === true) {
      if (move.phase === "me") {
        if (report.move === "other" && report.moveSet === move.set) this.#give(move);
        // both offered at the same time: one of them must give way, and both know which
        else if (report.move === "me" && (context.peer ?? "") < context.identity.node) {
          this.cancel("the other node offered at the same time");
          this.#consentIfSettled(theirs);
        }
      } else if (move.phase === "done" && (peer.holds & move.set) === move.set)
        this.#end(move, true, `${context.peer} has taken ${setName(move.set)} service groups`);
      return;
    }
    if (move === undefined) {
      if (report.move === "me") this.#consentIfSettled(theirs);
      else if (report.move === "done" && (this.#state.hold & theirs) !== theirs) this.#take(theirs);
      return;
    }
    if (move.phase !== "other") return;
    if (report.move === "done" && theirs === move.set) this.#take(move.set);
    else if (!GIVERS_PHASES.includes(report.move) || theirs !== move.set) this.cancel("the other node gave up");
  }

  #consentIfSettled(set: number): void {
    if (this.#state.settled) this.#consent(set);
  }

  #consent(set: number): void {
    const { context } = this.#state;
    const deadlineMs = context.nowMs + SCRIPTS_MS;
    this.#state.move = { giver: false, set, reason: "offered", held: NONE, phase: "other", deadlineMs };
    context.event("info", "standby.start", `${context.peer} wants to hand over ${setName(set)} service groups`, {
      set: setName(set),
      giver: false,
    });
    this.#ask(mirrored(set), "other");
  }

  #give(move: Move): void {
    const { peer, groups } = this.#state;
    move.phase = "give";
    move.held = this.#state.hold & move.set;
    move.deadlineMs = NEVER; // scripts are bounded by their own time limit
    if (peer.real) {
      this.#state.hold &= ~move.set;
      this.#state.announce("standby");
    }
    groups.stop(move.set);
    this.#giveStep(move);
  }

  #giveStep(move: Move): void {
    const { groups, peer, context } = this.#state;
    if (!groups.settled(move.set)) return;
    if (!groups.released(move.set)) {
      this.cancel("a service group cannot be stopped");
      return;
    }
    this.#state.hold &= ~move.set;
    move.phase = "done";
    move.deadlineMs = peer.real ? context.nowMs + SCRIPTS_MS : NEVER;
    if (!peer.real) this.#state.announce("standby");
    this.#ask(move.set, "done");
  }

  #take(set: number): void {
    const move: Move = { giver: false, set, reason: "handed over", held: NONE, phase: "take", deadlineMs: NEVER };
    this.#state.move = move;
    this.#state.acquire(set, `handed over by ${this.#state.context.peer}`);
    if (this.#state.groups.settled(set)) this.#taken(move);
  }

  #taken(move: Move): void {
    this.#ask(mirrored(move.set), "done");
    this.#end(move, true, `${setName(move.set)} service groups taken`);
    this.#state.announce();
  }

  #end(move: Move, ok: boolean, text: string): void {
    const { context } = this.#state;
    this.#state.move = undefined;
    this.#notBeforeMs = context.nowMs + (ok ? 0 : RETRY_MS);
    if (ok) {
      if (move.giver && (move.set & FOREIGN) !== NONE) this.#state.needsFailback = false;
      context.event("info", "standby.done", text, { set: setName(move.set), giver: move.giver });
    }
    if (move.giver) this.onEnd(move, ok, text);
  }

  #refuse(set: number, why: string): void {
    this.#state.context.event("info", "standby.refused", `offer of ${setName(set)} service groups ignored: ${why}`, {
      set: setName(set),
      reason: why,
    });
  }

  #ask(giversSet: number, info: "me" | "other" | "done"): void {
    this.#state.post(MessageType.askResources, { rsc_hold: setName(giversSet), info });
  }
}

const GIVERS_PHASES: readonly MovePhase[] = ["me", "give", "done"];
