import { MessageType } from "../wire/message.ts";
import { NEVER } from "./context.ts";
import { ALL, FOREIGN, LOCAL, NONE } from "./group-set.ts";
import type { ResourceState } from "./resource-state.ts";

/** After the last word the node stays a moment to answer requests for lost packets. */
const LINGER_MS = 1000;
/** Pause before groups that could not be stopped are tried again. */
const BLOCKED_RETRY_MS = 10_000;

export interface ReleasePlan {
  readonly reason: string;
  /** Silence before the next generation; undefined: a clean stop for good. */
  readonly restartAfterMs: number | undefined;
}

/**
 * Giving everything up: a clean stop, or the release before a restart with a new generation. `shutdone` is sent after the
 * last stop has succeeded, and never when one has not: then the node stays, holds what it holds, and says so.
 */
export class Release {
  readonly #state: ResourceState;
  #plan: ReleasePlan | undefined;
  #step: "delay" | "stopping" | "blocked" | "linger" = "delay";
  #dueMs = NEVER;
  onBlocked: (text: string) => void = () => undefined;
  onDone: () => void = () => undefined;

  constructor(state: ResourceState) {
    this.#state = state;
  }

  get active(): boolean {
    return this.#plan !== undefined;
  }

  begin(plan: ReleasePlan, delayMs: number): void {
    const { context } = this.#state;
    this.#plan = plan;
    this.#state.phase = "shutdown";
    this.#step = "delay";
    this.#dueMs = context.nowMs + delayMs;
    context.event("info", "shutdown.start", `releasing all service groups: ${plan.reason}`, { reason: plan.reason });
  }

  /** A release that is under way now also ends in a restart (or no longer does). */
  amend(plan: ReleasePlan): void {
    this.#plan = plan;
  }

  /** Try again to stop what could not be stopped. */
  retry(): void {
    if (this.#step === "blocked") this.#beginStops();
  }

  step(): void {
    const plan = this.#plan;
    if (plan === undefined) return;
    const { context, groups, probed } = this.#state;
    if (this.#step === "delay" && probed && context.nowMs >= this.#dueMs) this.#begin();
    if (this.#step === "blocked" && context.nowMs >= this.#dueMs) this.#beginStops();
    if (this.#step === "stopping" && groups.settled(ALL)) this.#stopped();
    if (this.#step === "linger" && context.nowMs >= this.#dueMs) this.#finish(plan);
  }

  deadline(): number {
    return this.#plan === undefined ? NEVER : this.#dueMs;
  }

  #begin(): void {
    const { peer, membership } = this.#state;
    membership.sendStatus();
    if (peer.real) {
      this.#state.hold = NONE;
      this.#state.announce("shutdown");
    }
    this.#beginStops();
  }

  #beginStops(): void {
    this.#step = "stopping";
    this.#dueMs = NEVER;
    // all groups, held or not, as users of Heartbeat know it
    this.#state.groups.stop(ALL);
  }

  #stopped(): void {
    const { context, groups, peer } = this.#state;
    for (const bit of [LOCAL, FOREIGN]) if (groups.released(bit)) this.#state.hold &= ~bit;
    if (!groups.released(ALL)) {
      this.#step = "blocked";
      this.#dueMs = context.nowMs + BLOCKED_RETRY_MS;
      const stuck = groups.runners.filter((runner) => !runner.released).map((runner) => runner.group.key);
      const text = `cannot end: ${stuck.join(", ")} cannot be stopped and would then run on two nodes; stop it by hand, the next attempt is in ${BLOCKED_RETRY_MS / 1000} s`;
      context.event("crit", "shutdown.blocked", text, { groups: stuck.join(" ") });
      this.onBlocked(text);
      return;
    }
    this.#state.hold = NONE;
    this.#state.leaving = true;
    if (!peer.real) this.#state.announce("shutdown");
    this.#state.post(MessageType.shutdownDone, { st: "dead" });
    this.#step = "linger";
    this.#dueMs = context.muted ? context.nowMs : context.nowMs + LINGER_MS;
  }

  #finish(plan: ReleasePlan): void {
    const { context } = this.#state;
    context.event("info", "shutdown.done", `all service groups released: ${plan.reason}`, { reason: plan.reason });
    this.onDone();
    context.closed = true;
    if (plan.restartAfterMs === undefined) context.sink.exit(plan.reason);
    else {
      context.event(
        "warn",
        "restart",
        `restarting with a new generation in ${plan.restartAfterMs} ms: ${plan.reason}`,
        {
          reason: plan.reason,
          delayMs: plan.restartAfterMs,
        },
      );
      context.sink.restart(plan.reason, plan.restartAfterMs);
    }
  }
}
