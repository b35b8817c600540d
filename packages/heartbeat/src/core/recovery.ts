import { MessageType } from "../wire/message.ts";
import { NEVER } from "./context.ts";
import { ALL } from "./group-set.ts";
import type { ResourceState } from "./resource-state.ts";

/** Pause before a failed fencing is tried again, for ever. @see Heartbeat 3.0.6 STONITH */
const FENCE_RETRY_MS = 5000;

/**
 * The peer is dead or has left: fence it if need be, then take everything. With a fencing device nothing is taken before
 * a reset has succeeded, unless the peer itself said that it released everything.
 * Deviation: a peer that held nothing when last heard is fenced too; it may have started its groups unheard.
 */
export class Recovery {
  readonly #state: ResourceState;
  #fenceId = 0;
  #running = false;
  #fenced = false;
  #retryMs = NEVER;

  constructor(state: ResourceState) {
    this.#state = state;
  }

  /** The peer lives (again): what was decided about its death is void. */
  peerLives(): void {
    if (!this.#fenced && !this.#running && this.#retryMs === NEVER) return;
    this.#fenced = false;
    this.#retryMs = NEVER;
    this.#running = false;
    this.#fenceId++;
    this.#state.fencing = false;
  }

  step(): void {
    const { membership, peer, phase } = this.#state;
    if (membership.peerAlive) this.peerLives();
    if (phase === "shutdown" || phase === "init") return;
    const dead = membership.peer === "dead";
    if (!dead && !peer.left) return;
    if (phase === "stable" && this.#state.hold === ALL && !this.#state.fencing) return;
    if (dead && !peer.left && this.#state.context.peer !== undefined && !this.#fencingDone()) return;
    this.#takeAll(peer.left ? "it has released everything" : "it is dead");
  }

  #fencingDone(): boolean {
    const { context } = this.#state;
    if (this.#fenced) return true;
    const node = context.peer ?? "";
    if (!context.config.fencing) {
      this.#fenced = true;
      this.#state.post(MessageType.stonith, { node, result: "n_stnth" });
      context.event(
        "warn",
        "fence.unconfigured",
        `no STONITH device configured: ${node} may still run its service groups`,
        {
          node,
        },
      );
      return true;
    }
    this.#state.fencing = true;
    if (!this.#running && (this.#retryMs === NEVER || context.nowMs >= this.#retryMs)) {
      this.#running = true;
      this.#retryMs = NEVER;
      this.#fenceId++;
      context.event("warn", "fence.needed", `resetting node ${node}: nothing is taken before that succeeds`, { node });
      context.sink.fence(this.#fenceId, node);
    }
    return false;
  }

  fenceDone(id: number, ok: boolean, text: string): void {
    if (id !== this.#fenceId || !this.#running) return;
    const { context } = this.#state;
    const node = context.peer ?? "";
    this.#running = false;
    this.#state.post(MessageType.stonith, { node, result: ok ? "OK" : "bad" });
    if (ok) {
      this.#fenced = true;
      this.#state.fencing = false;
      context.event("info", "fence.done", `node ${node} now reset`, { node });
      return;
    }
    this.#retryMs = context.nowMs + FENCE_RETRY_MS;
    context.event("error", "fence.failed", `node ${node} not reset: ${text}; trying again in ${FENCE_RETRY_MS} ms`, {
      node,
    });
  }

  deadline(): number {
    return this.#retryMs;
  }

  #takeAll(why: string): void {
    const { context } = this.#state;
    const missing = ALL & ~this.#state.hold;
    this.#state.fencing = false;
    this.#state.phase = "stable";
    this.#state.needsFailback = true;
    context.event("warn", "takeover.start", `taking the service groups of ${context.peer ?? "nobody"}: ${why}`, {
      node: context.peer ?? "",
      reason: why,
    });
    this.#state.acquire(missing, why);
    // what an earlier life of this daemon left running is ours now
    this.#state.groups.run(ALL & ~missing);
    this.#state.announce("req_our_resources()");
  }
}
