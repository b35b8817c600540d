import { MessageType } from "../wire/message.ts";
import { NEVER } from "./context.ts";
import { ALL } from "./group-set.ts";
import type { FenceResult, FenceView } from "./ports.ts";
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
  #attempts = 0;
  #sinceMs = 0;
  #lastText: string | undefined;

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
    if (!this.#state.fencing) {
      this.#state.fencing = true;
      this.#attempts = 0;
      this.#sinceMs = context.nowMs;
      this.#lastText = undefined;
    }
    if (!this.#running && (this.#retryMs === NEVER || context.nowMs >= this.#retryMs)) {
      this.#running = true;
      this.#retryMs = NEVER;
      this.#fenceId++;
      this.#attempts++;
      context.event("warn", "fence.needed", `resetting node ${node}: nothing is taken before that succeeds`, { node });
      context.sink.fence(this.#fenceId, node);
    }
    return false;
  }

  /** The peer was reset and has not been heard since. */
  get peerFenced(): boolean {
    return this.#fenced && this.#state.context.config.fencing;
  }

  /** The reset that is waited for, if one is. */
  get waiting(): FenceView | undefined {
    if (!this.#state.fencing) return undefined;
    return {
      node: this.#state.context.peer ?? "",
      sinceMs: this.#state.context.nowMs - this.#sinceMs,
      attempts: this.#attempts,
      ...(this.#lastText === undefined ? {} : { text: this.#lastText }),
    };
  }

  fenceDone(id: number, result: FenceResult, text: string): void {
    if (id !== this.#fenceId || !this.#running) return;
    const { context } = this.#state;
    const node = context.peer ?? "";
    this.#running = false;
    this.#lastText = text;
    this.#state.post(MessageType.stonith, { node, result });
    if (result === "OK") {
      this.#fencedNow(`node ${node} now reset: ${text}`);
      return;
    }
    this.#retryMs = context.nowMs + FENCE_RETRY_MS;
    const what = result === "badhost" ? `the device cannot reset ${node}` : `node ${node} not reset`;
    context.event("error", "fence.failed", `${what}: ${text}; trying again in ${FENCE_RETRY_MS} ms`, {
      node,
      result,
      attempts: this.#attempts,
    });
  }

  /** An administrator vouches for the node being down. @returns why not, or undefined */
  confirm(node: string): string | undefined {
    if (!this.#state.fencing) return "no reset of a node is waited for";
    if (node !== this.#state.context.peer)
      return `the reset of ${this.#state.context.peer} is waited for, not of ${node}`;
    this.#running = false;
    this.#retryMs = NEVER;
    this.#fenceId++;
    this.#state.post(MessageType.stonith, { node, result: "OK" });
    this.#fencedNow(`an administrator confirms that ${node} is down`);
    return undefined;
  }

  #fencedNow(text: string): void {
    const { context } = this.#state;
    this.#fenced = true;
    this.#state.fencing = false;
    context.event("info", "fence.done", text, { node: context.peer ?? "" });
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
