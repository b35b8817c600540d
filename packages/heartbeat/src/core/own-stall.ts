import type { Context } from "./context.ts";

/**
 * Notices that this process did not run for a while: stopped, suspended, starved. The monotonic clock went on, the peer
 * heard nothing. After a pause as long as the peer's patience it may have taken our groups, so this generation must not
 * speak again. @see Heartbeat 3.0.6: a node that returns with the same generation makes both restart
 */
export class OwnStall {
  readonly #context: Context;
  #lastSentMs: number;
  #announcedMs: number;

  constructor(context: Context, nowMs: number, announcedMs: number) {
    this.#context = context;
    this.#lastSentMs = nowMs;
    this.#announcedMs = announcedMs;
  }

  /** A status went out, announcing that others should wait this long for the next one. */
  statusSent(announcedMs: number): void {
    this.#lastSentMs = this.#context.nowMs;
    this.#announcedMs = announcedMs;
  }

  /** Length of the silence when it was as long as the dead time that we announced, else undefined. */
  fatalSilenceMs(): number | undefined {
    const silenceMs = this.#context.nowMs - this.#lastSentMs;
    return silenceMs >= this.#announcedMs ? silenceMs : undefined;
  }
}
