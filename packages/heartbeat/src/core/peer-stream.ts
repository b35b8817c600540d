import { formatHex, HaMessage, MessageType } from "../wire/message.ts";
import { type Context, NEVER } from "./context.ts";
import type { OwnStream } from "./own-stream.ts";

/** More lost packets than this are not asked for: the stream is taken up again where it is. */
const RESYNC_GAP = 250;
/** Shortest pause before a missing packet is asked for: it may only have been overtaken. */
const REXMIT_DELAY_MIN_MS = 50;
/** A copy this soon after the first is the one on another link; a later one is a replay and proves nothing about a link. */
const COPY_WITHIN_MS = 1000;
/** Arrivals kept to tell the two apart. */
const ARRIVALS_MAX = 50;
const ACK_EVERY = 10;

export type Verdict =
  /** New: hand it to its handler. */
  | "deliver"
  /** A second copy of a recent message: only its link is alive. */
  | "duplicate"
  /** Replayed or out of date: counted, nothing else. */
  | "drop"
  /** First message of a higher generation: the peer restarted. Deliver. */
  | "restarted"
  /** The peer was declared dead and goes on with the same generation. */
  | "returned";

/** The peer's numbered messages: what is new, what is a copy, what is missing. @see Heartbeat 3.0.6 should_drop_message */
export class PeerStream {
  readonly #context: Context;
  readonly #own: OwnStream;
  readonly #peer: string;
  /** Missing number → when to ask for it (again). */
  readonly #missing = new Map<number, number>();
  /** Number → when it first came. */
  readonly #arrivals = new Map<number, number>();
  readonly #ackTrigger: number;
  #generation = 0;
  #last = 0;
  /** Highest number of this generation; unlike `#last` it survives a declared death. */
  #highest = 0;
  #lastStatusSeq = 0;
  #dead = false;

  constructor(context: Context, own: OwnStream, peer: string) {
    this.#context = context;
    this.#own = own;
    this.#peer = peer;
    this.#ackTrigger = context.prng.below(ACK_EVERY);
  }

  /** 0 until the first message. */
  get generation(): number {
    return this.#generation;
  }

  get missing(): number {
    return this.#missing.size;
  }

  /** The peer is declared dead: numbers are forgotten, the generation is kept. */
  declaredDead(): void {
    this.#dead = true;
    this.#last = 0;
    this.#missing.clear();
  }

  /** Judge a sequenced message. `generation` and `seq` are checked to be there. */
  judge(generation: number, seq: number, isStatus: boolean): Verdict {
    if (generation < this.#generation) {
      if (this.#context.counters["replays"] === undefined) {
        this.#context.event(
          "error",
          "replay",
          `message of an earlier generation of ${this.#peer} refused (generation ${generation}, now ${this.#generation}): a replay, or the node's hb_generation file was reset`,
          { node: this.#peer, generation, current: this.#generation },
        );
      }
      this.#context.count("replays");
      return "drop";
    }
    if (generation > this.#generation) {
      const first = this.#generation === 0;
      this.#restart(generation, seq, isStatus);
      return first ? "deliver" : "restarted";
    }
    if (this.#dead) {
      // only a status newer than all before proves that it lives; anything else may be a recording
      if (!isStatus || seq <= this.#lastStatusSeq || seq <= this.#highest) {
        this.#context.count("replays");
        return "drop";
      }
      this.#dead = false;
      this.#restart(generation, seq, isStatus);
      return "returned";
    }
    return this.#inOrder(seq, isStatus);
  }

  #restart(generation: number, seq: number, isStatus: boolean): void {
    this.#generation = generation;
    this.#dead = false;
    this.#missing.clear();
    this.#last = seq;
    this.#highest = seq;
    this.#lastStatusSeq = isStatus ? seq : 0;
    this.#arrivals.clear();
    this.#arrived(seq);
    this.#own.forgetAcknowledgements();
  }

  #arrived(seq: number): void {
    this.#arrivals.set(seq, this.#context.nowMs);
    if (this.#arrivals.size > ARRIVALS_MAX) this.#arrivals.delete(this.#arrivals.keys().next().value as number);
  }

  #inOrder(seq: number, isStatus: boolean): Verdict {
    if (seq > this.#last) {
      if (seq > this.#last + 1) this.#gap(seq);
      this.#last = seq;
      this.#highest = Math.max(this.#highest, seq);
      this.#arrived(seq);
      if (isStatus) this.#lastStatusSeq = seq;
      if (seq % ACK_EVERY === this.#ackTrigger && this.#missing.size === 0) this.#acknowledge(seq);
      return "deliver";
    }
    if (this.#missing.delete(seq)) {
      this.#arrived(seq);
      return "deliver";
    }
    if (this.#context.nowMs - (this.#arrivals.get(seq) ?? Number.NEGATIVE_INFINITY) <= COPY_WITHIN_MS) {
      this.#context.count("duplicates");
      return "duplicate";
    }
    this.#context.count("replays");
    return "drop";
  }

  #gap(seq: number): void {
    const lost = seq - this.#last - 1;
    this.#context.count("packetsLost", lost);
    this.#context.event(
      lost > RESYNC_GAP ? "error" : "debug",
      "packets.lost",
      lost > RESYNC_GAP
        ? `${lost} packets of ${this.#peer} lost: too many to ask for, going on at ${seq}`
        : `${lost} packets of ${this.#peer} missing before ${seq}`,
      { node: this.#peer, lost, last: this.#last, seq },
    );
    if (lost > RESYNC_GAP) {
      this.#missing.clear();
      return;
    }
    const limit = this.#context.config.maxRexmitDelayMs;
    for (let number = this.#last + 1; number < seq; number++) {
      const low = Math.min(REXMIT_DELAY_MIN_MS, limit);
      this.#missing.set(number, this.#context.nowMs + this.#context.prng.between(low, limit));
    }
    // bounded: the oldest ones are given up
    for (const number of this.#missing.keys()) {
      if (this.#missing.size <= 2 * RESYNC_GAP) break;
      this.#giveUp(number);
    }
  }

  /** NS_nak_rexmit: the peer no longer has it. */
  irretrievable(seq: number): void {
    if (this.#missing.has(seq)) this.#giveUp(seq);
  }

  #giveUp(seq: number): void {
    this.#missing.delete(seq);
    this.#context.count("packetsIrretrievable");
    this.#context.event("error", "packets.irretrievable", `packet ${seq} of ${this.#peer} is irretrievably lost`, {
      node: this.#peer,
      seq,
    });
  }

  #acknowledge(seq: number): void {
    this.#own.post(HaMessage.of(MessageType.acknowledgement, { dest: this.#peer, ackseq: formatHex(seq) }));
  }

  /** Ask for what is due. */
  tick(): void {
    for (const [seq, dueMs] of this.#missing) {
      if (dueMs > this.#context.nowMs) continue;
      this.#missing.set(seq, this.#context.nowMs + Math.max(1, this.#context.config.maxRexmitDelayMs));
      this.#context.count("retransmitsRequested");
      const range = { dest: this.#peer, firstseq: String(seq), lastseq: String(seq) };
      this.#own.post(HaMessage.of(MessageType.retransmitRequest, range));
    }
  }

  deadline(): number {
    let earliest = NEVER;
    for (const dueMs of this.#missing.values()) earliest = Math.min(earliest, dueMs);
    return earliest;
  }
}
