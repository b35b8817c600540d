import { withCommonFields } from "../wire/common-fields.ts";
import { formatHex, HaMessage, isUnsequenced, MessageType } from "../wire/message.ts";
import type { Context } from "./context.ts";
import type { ClockInfo } from "./ports.ts";

/** Sent messages kept for retransmission. @see Heartbeat 3.0.6: its history has the same length */
export const HISTORY_MAX = 500;
/** Answers to one NS_rexmit at most; the requester asks again for the rest. */
const RESENDS_PER_REQUEST_MAX = 50;
/** A message sent again less than this long ago is not sent again: requests for it come in bursts. */
const RESEND_PAUSE_MS = 240;

interface Sent {
  readonly seq: number;
  readonly message: HaMessage;
  resentMs: number;
}

/** Our own messages: numbers them, keeps the last ones, sends them again on request. */
export class OwnStream {
  readonly #context: Context;
  readonly #clock: ClockInfo;
  readonly #history: Sent[] = [];
  #seq = 0;
  #acknowledged = 0;
  #ttl: number;

  constructor(context: Context, clock: ClockInfo) {
    this.#context = context;
    this.#clock = clock;
    this.#ttl = context.config.nodes.length + context.config.hopfudge;
  }

  get lastSeq(): number {
    return this.#seq;
  }

  /** Add the common fields, number, remember and send. */
  post(message: HaMessage, destUuid?: Uint8Array): void {
    if (this.#context.muted || this.#context.closed) return;
    const sequenced = !isUnsequenced(message.type);
    if (sequenced) this.#seq++;
    const { identity } = this.#context;
    const complete = withCommonFields(
      message,
      {
        node: identity.node,
        uuid: identity.uuid,
        generation: identity.generation,
        loadAverage: this.#clock.loadAverage(),
        ttl: this.#ttl,
      },
      this.#seq,
      this.#clock.unixSeconds(),
      destUuid,
    );
    if (sequenced) {
      this.#history.push({ seq: this.#seq, message: complete, resentMs: Number.NEGATIVE_INFINITY });
      if (this.#history.length > HISTORY_MAX) this.#history.shift();
    }
    this.#context.count("messagesSent");
    this.#context.sink.send(complete);
  }

  /** The peer restarted or died: what it acknowledged before says nothing about now. */
  forgetAcknowledgements(): void {
    this.#acknowledged = 0;
  }

  acknowledged(seq: number): void {
    if (seq <= this.#acknowledged || seq > this.#seq) return;
    this.#acknowledged = seq;
    while (this.#history.length > 0 && (this.#history[0] as Sent).seq <= seq) this.#history.shift();
  }

  /** Answer an NS_rexmit: send again what is kept, refuse what is not. */
  retransmit(request: HaMessage, destUuid?: Uint8Array): void {
    const first = request.decimal("firstseq");
    const last = request.decimal("lastseq");
    if (first === undefined || last === undefined || first < 1 || last < first) {
      this.#context.count("messagesRefused");
      return;
    }
    const oldest = this.#history[0]?.seq ?? this.#seq + 1;
    const from = Math.max(first, this.#acknowledged + 1);
    const until = Math.min(last, this.#seq, from + RESENDS_PER_REQUEST_MAX - 1);
    for (let seq = from; seq <= until; seq++) {
      const sent = seq < oldest ? undefined : this.#history[seq - oldest];
      if (sent === undefined) this.#refuse(request.get("src") ?? "", seq, destUuid);
      else if (this.#context.nowMs - sent.resentMs >= RESEND_PAUSE_MS) {
        sent.resentMs = this.#context.nowMs;
        this.#context.count("messagesResent");
        if (!this.#context.muted && !this.#context.closed) this.#context.sink.send(sent.message);
      }
    }
  }

  #refuse(dest: string, seq: number, destUuid: Uint8Array | undefined): void {
    const message = HaMessage.of(MessageType.retransmitRefusal, {
      firstseq: formatHex(seq),
      dest,
      info: "seqno too low",
    });
    this.post(message, destUuid);
  }
}
