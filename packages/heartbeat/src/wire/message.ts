import { assert } from "@hacluster/blockrep/base";

/** 0 string, 1 binary, 2 nested message, 3 list of strings, 4 compressed nested message. */
export type FieldType = 0 | 1 | 2 | 3 | 4;

/**
 * One field. Text holds one character per byte (U+0000..U+00FF), so that whatever a peer sent is signed and shown
 * again as the same bytes; every field of the protocol itself is ASCII.
 */
export type HaField =
  | { readonly name: string; readonly type: 0; readonly value: string }
  | { readonly name: string; readonly type: 1; readonly value: Uint8Array }
  | { readonly name: string; readonly type: 2; readonly value: HaMessage }
  | { readonly name: string; readonly type: 3; readonly value: readonly string[] }
  | { readonly name: string; readonly type: 4; readonly value: Uint8Array };

/** The `t` of the messages that a Heartbeat 3 node in haresources mode sends. */
export const MessageType = {
  status: "status",
  pingStatus: "NS_st",
  retransmitRequest: "NS_rexmit",
  retransmitRefusal: "NS_nak_rexmit",
  acknowledgement: "NS_ackmsg",
  requestNodes: "reqnodes",
  replyNodes: "repnodes",
  starting: "starting",
  resource: "resource",
  askResources: "ask_resources",
  takeover: "hb_takeover",
  ipRequest: "ip-request",
  ipRequestResponse: "ip-request-resp",
  stonith: "stonith",
  shutdownDone: "shutdone",
  addNode: "addnode",
  deleteNode: "delnode",
} as const;
export type MessageType = (typeof MessageType)[keyof typeof MessageType];

/**
 * A message: fields in the order of the wire. The order matters for the signature only; readers look fields up by
 * name, and of two fields with one name the first counts. Immutable: the `with…` methods give a new message.
 * @see Heartbeat 3.0.6 message format
 */
export class HaMessage {
  readonly fields: readonly HaField[];

  constructor(fields: readonly HaField[]) {
    this.fields = fields;
  }

  /** A message of type `t` with string fields in the given order. */
  static of(t: string, own: Readonly<Record<string, string>> = {}): HaMessage {
    const fields: HaField[] = [{ name: "t", type: 0, value: t }];
    for (const [name, value] of Object.entries(own)) fields.push({ name, type: 0, value });
    return new HaMessage(fields);
  }

  /** A message of string and binary fields, in their order. */
  static fromFields(fields: Iterable<{ readonly name: string; readonly value: string | Uint8Array }>): HaMessage {
    return new HaMessage(
      Array.from(fields, ({ name, value }) =>
        typeof value === "string" ? { name, type: 0, value } : { name, type: 1, value },
      ),
    );
  }

  /** The string and binary fields, which are all that messages of haresources mode have. */
  plainFields(): { name: string; value: string | Uint8Array }[] {
    const out: { name: string; value: string | Uint8Array }[] = [];
    for (const f of this.fields) if (f.type === 0 || f.type === 1) out.push({ name: f.name, value: f.value });
    return out;
  }

  /** The type of the message, or "" when it has none. */
  get type(): string {
    return this.get("t") ?? "";
  }

  field(name: string): HaField | undefined {
    for (const field of this.fields) if (field.name === name) return field;
    return undefined;
  }

  has(name: string): boolean {
    return this.field(name) !== undefined;
  }

  /** The text of a string field. */
  get(name: string): string | undefined {
    const field = this.field(name);
    return field?.type === 0 ? field.value : undefined;
  }

  /** The bytes of a binary field. */
  binary(name: string): Uint8Array | undefined {
    const field = this.field(name);
    return field?.type === 1 ? field.value : undefined;
  }

  /** A string field that holds a hexadecimal number: seq, hg, ts, dt, ackseq, firstseq of NS_nak_rexmit. */
  hex(name: string): number | undefined {
    const text = this.get(name);
    return text === undefined ? undefined : parseHex(text);
  }

  /** A string field that holds a decimal number: ttl, protocol, firstseq and lastseq of NS_rexmit. */
  decimal(name: string): number | undefined {
    const text = this.get(name);
    return text === undefined ? undefined : parseDecimal(text);
  }

  /** The same message with a string field set: in its place when it is there, else at the end. */
  with(name: string, value: string): HaMessage {
    return this.withField({ name, type: 0, value });
  }

  /** The same message with a binary field set. */
  withBinary(name: string, value: Uint8Array): HaMessage {
    return this.withField({ name, type: 1, value });
  }

  withField(field: HaField): HaMessage {
    const at = this.fields.findIndex((f) => f.name === field.name);
    return new HaMessage(at < 0 ? [...this.fields, field] : this.fields.map((f, i) => (i === at ? field : f)));
  }

  without(name: string): HaMessage {
    return this.has(name) ? new HaMessage(this.fields.filter((f) => f.name !== name)) : this;
  }
}

/** Lower-case hexadecimal without prefix or padding, as Heartbeat writes all numbers but those of NS_rexmit. */
export function formatHex(value: number): string {
  assert(Number.isSafeInteger(value) && value >= 0, `a number of the wire is a non-negative integer, not ${value}`);
  return value.toString(16);
}

/** Reads hexadecimal leniently (case, a `0x` prefix); undefined for anything else or above 2^53-1. */
export function parseHex(text: string): number | undefined {
  return /^(?:0[xX])?[0-9a-fA-F]{1,16}$/.test(text) ? safe(Number.parseInt(text, 16)) : undefined;
}

export function parseDecimal(text: string): number | undefined {
  return /^[0-9]{1,16}$/.test(text) ? safe(Number(text)) : undefined;
}

function safe(value: number): number | undefined {
  return Number.isSafeInteger(value) ? value : undefined;
}

/** Messages below sequence handling: no `seq`, no `ld`, never retransmitted. */
export function isUnsequenced(t: string): boolean {
  return t.startsWith("NS_");
}

/** Two uuids are the same 16 bytes. */
export function sameUuid(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
