import type { HaMessage } from "../wire/message.ts";
import type { Context } from "./context.ts";
import { ALL, mirrored, NONE, setBits } from "./group-set.ts";
import type { Membership } from "./membership.ts";
import { KIND_FIELD, parseReport, REPORT_FIELD, type Report } from "./peer-report.ts";

/**
 * What the peer said about its service groups, in our words (its `local` is our `foreign`). A hacluster node sends complete
 * reports, of which the newest counts; a real Heartbeat sends `resource` messages, which are events.
 */
export class PeerResources {
  readonly #context: Context;
  readonly #membership: Membership;
  #kind: "unknown" | "hacluster" | "heartbeat" = "unknown";
  #report: Report | undefined;
  #reportSeq = 0;
  #hold = ALL;
  #spoke = false;
  #stable = false;
  #stableSinceMs = 0;
  #resourceSeq = 0;
  #shutdone = false;

  constructor(context: Context, membership: Membership) {
    this.#context = context;
    this.#membership = membership;
  }

  get kind(): "unknown" | "hacluster" | "heartbeat" {
    return this.#kind;
  }

  get real(): boolean {
    return this.#kind === "heartbeat";
  }

  /** Newest complete report of a hacluster peer. */
  get report(): Report | undefined {
    return this.#report;
  }

  /** It released everything and said so; its later silence is no death. */
  get left(): boolean {
    return this.#shutdone || this.#report?.leaving === true;
  }

  /** Sets that the peer may be running; everything as long as it has not said. */
  get holds(): number {
    if (this.#report !== undefined) return mirrored(this.#report.hold);
    return this.#spoke && this.real ? this.#hold : ALL;
  }

  /** It has spoken about its resources to this generation of ours, so that its word may be acted on. */
  get trusted(): boolean {
    if (!this.#membership.peerAlive) return false;
    if (this.real) return this.#spoke;
    return (
      this.#report !== undefined &&
      this.#report.saw === this.#context.identity.generation &&
      !this.#report.considersDead
    );
  }

  get stable(): boolean {
    return this.#report === undefined ? this.#stable && this.real : this.#report.stable;
  }

  /** How long a real peer has called itself stable, ms. */
  get stableForMs(): number {
    return this.#stable ? this.#context.nowMs - this.#stableSinceMs : 0;
  }

  /** Sets with a failed group on the peer; a real one has no word for it. */
  get failed(): number {
    return this.#report === undefined ? NONE : mirrored(this.#report.failed);
  }

  /** Each delivered numbered message: its kind and its report. */
  observe(message: HaMessage, seq: number): void {
    const kind = message.has(KIND_FIELD) ? "hacluster" : "heartbeat";
    if (message.type === "status" || kind === "hacluster") this.#become(kind);
    if (kind !== "hacluster" || seq <= this.#reportSeq) return;
    this.#reportSeq = seq;
    const text = message.get(REPORT_FIELD);
    this.#report = parseReport(text);
    if (text !== undefined && this.#report === undefined) this.#context.count("messagesRefused");
  }

  #become(kind: "hacluster" | "heartbeat"): void {
    if (kind === this.#kind) return;
    this.#kind = kind;
    this.#context.event(
      "info",
      "node.kind",
      kind === "hacluster"
        ? `${this.#context.peer} is a hacluster node`
        : `${this.#context.peer} is a Heartbeat node: its protocol is followed`,
      { node: this.#context.peer ?? "", kind },
    );
  }

  /** Died, restarted or returned: nothing of what it said holds. */
  forget(): void {
    this.#report = undefined;
    this.#reportSeq = 0;
    this.#hold = ALL;
    this.#spoke = false;
    this.#stable = false;
    this.#resourceSeq = 0;
  }

  /** A new generation: it has not left, and it may have become another program. */
  reborn(): void {
    this.forget();
    this.#shutdone = false;
    this.#kind = "unknown";
  }

  starting(): void {
    this.#stable = false;
  }

  shutdone(): void {
    this.#shutdone = true;
    this.#hold = NONE;
    this.#spoke = true;
  }

  /** The peer of a standby conversation has taken a set, named in our words. */
  took(set: number): void {
    this.#hold |= set;
  }

  /**
   * A real node's `resource` message.
   * @returns whether it became stable with this message
   */
  resource(message: HaMessage, seq: number): boolean {
    const bits = setBits(message.get("rsc_hold"));
    if (bits === undefined) {
      this.#context.count("messagesRefused");
      return false;
    }
    // events are delivered out of order: an older complete list says nothing any more
    const stale = seq < this.#resourceSeq;
    if (message.get("rtype") === "full") {
      if (stale) return false;
      this.#resourceSeq = seq;
      this.#hold = mirrored(bits);
    } else this.#hold = bits === NONE ? NONE : this.#hold | mirrored(bits);
    this.#spoke = true;
    const before = this.#stable;
    const isStable = message.get("isstable");
    if (isStable === "1") this.#stable = true;
    else if (isStable === "0") this.#stable = false;
    if (this.#stable && !before) this.#stableSinceMs = this.#context.nowMs;
    return this.#stable && !before;
  }
}
