import { bytesOf, textOf } from "./bytes.ts";
import { classicField, encodeClassic } from "./classic.ts";
import { FIELDS_MAX } from "./limits.ts";
import { type HaField, HaMessage } from "./message.ts";
import { Refusal } from "./refusal.ts";

/** Longest line of a message in the FIFO, bytes. @see Heartbeat 3.0.6, FIFO */
const LINE_BYTES_MAX = 512;

/**
 * Reads messages that local scripts write into the FIFO: classic framing without signature. Writers are not atomic,
 * two of them may interleave: a message that does not parse is dropped and reading resumes at the next `>>>`.
 */
export class FifoReader {
  #rest = "";
  #fields: HaField[] | undefined;

  /** Feed bytes as they come; gives the messages that are now complete and what had to be dropped. */
  push(bytes: Uint8Array): { messages: HaMessage[]; refusals: Refusal[] } {
    const messages: HaMessage[] = [];
    const refusals: Refusal[] = [];
    const lines = (this.#rest + textOf(bytes)).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > LINE_BYTES_MAX) this.#rest = this.#rest.slice(0, LINE_BYTES_MAX + 1);
    for (const raw of lines) {
      const line = raw.startsWith("\0") ? raw.slice(1) : raw;
      if (line === ">>>") {
        if (this.#fields !== undefined) refusals.push(new Refusal("framing", "a message began inside another"));
        this.#fields = [];
      } else if (this.#fields === undefined) {
        if (line !== "" && line !== "<<<") refusals.push(new Refusal("framing", "text outside of a message"));
      } else if (line === "<<<") {
        messages.push(new HaMessage(this.#fields));
        this.#fields = undefined;
      } else {
        const field = this.#field(line);
        if (field instanceof Refusal) {
          refusals.push(field);
          this.#fields = undefined;
        } else this.#fields.push(field);
      }
    }
    return { messages, refusals };
  }

  #field(line: string): HaField | Refusal {
    if (line.length > LINE_BYTES_MAX) return new Refusal("length", "field too long");
    if ((this.#fields?.length ?? 0) >= FIELDS_MAX) return new Refusal("length", `more than ${FIELDS_MAX} fields`);
    return classicField(line, 0);
  }
}

/** What a local program writes into the FIFO, in one write; at most PIPE_BUF bytes of it are atomic. */
export function encodeFifo(message: HaMessage): Uint8Array {
  const framed = encodeClassic(message);
  return bytesOf(textOf(framed.subarray(0, framed.length - 1)));
}
