import { assert } from "@hacluster/blockrep/base";
import { base64Of, bytesOf, bytesOfBase64, concatBytes, printable, textOf } from "./bytes.ts";
import { badName, NEWLINE_SUBSTITUTE, wireText } from "./field-rules.ts";
import { DEPTH_MAX, FIELDS_MAX } from "./limits.ts";
import { type HaField, HaMessage } from "./message.ts";
import { decodeList, encodeList } from "./netstring.ts";
import { Refusal } from "./refusal.ts";

/*
 *   ">>>\n"  NAME=VALUE\n  (1)NAME=BASE64\n  …  auth=AUTHNUM DIGEST\n  "<<<\n"  [NUL]
 *
 * Used inside signatures, on serial lines, in compressed payloads and in the FIFO of local scripts.
 */
export const CLASSIC_START = ">>>\n";
const CLASSIC_END = "<<<\n";

/** Ends the lines of a nested message, by its depth. @see Heartbeat 3.0.6, per-depth newline substitutes */
const LINE_ENDS: readonly string[] = [
  "\n",
  ...[20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 15, 16, 17, 18].map((code) => String.fromCharCode(code)),
];

/** The lines without `>>>` and `<<<`: what the inner signature covers, when `auth` is not among the fields. */
export function classicLines(message: HaMessage, depth = 0): string {
  assert(depth <= DEPTH_MAX, "messages nest too deep");
  const lineEnd = LINE_ENDS[depth]!;
  let text = "";
  for (const field of message.fields) {
    text += field.type === 0 ? "" : `(${field.type})`;
    text += `${field.name}=${classicValue(field, depth)}${lineEnd}`;
  }
  return text;
}

function classicValue(field: HaField, depth: number): string {
  switch (field.type) {
    case 0:
      return wireText(field);
    case 1:
    case 4:
      return base64Of(field.value);
    case 2: {
      const lineEnd = LINE_ENDS[depth + 1] ?? "";
      return `>>>${lineEnd}${classicLines(field.value, depth + 1)}<<<${lineEnd}`;
    }
    case 3:
      return textOf(encodeList(field.value));
  }
}

/** A whole message in classic framing with its final NUL; `auth` is a field of the message or absent. */
export function encodeClassic(message: HaMessage): Uint8Array {
  return concatBytes([bytesOf(`${CLASSIC_START}${classicLines(message)}${CLASSIC_END}\0`)]);
}

export interface ClassicMessage {
  /** Without `auth`. */
  readonly message: HaMessage;
  /** The `auth` field as received. */
  readonly auth: string | undefined;
  /** The bytes that `auth` covers: all other lines as received. */
  readonly signed: Uint8Array;
}

/** Read a message in classic framing, with or without its final NUL. Nothing may follow. */
export function decodeClassic(bytes: Uint8Array): ClassicMessage | Refusal {
  const whole = textOf(bytes);
  const text = whole.endsWith("\0") ? whole.slice(0, -1) : whole;
  if (!text.startsWith(CLASSIC_START)) return new Refusal("framing", "does not begin with >>>");
  if (!text.endsWith(`\n${CLASSIC_END}`)) return new Refusal("framing", "does not end with <<<");
  const lines = text.slice(CLASSIC_START.length, -CLASSIC_END.length);
  let auth: string | undefined;
  let signed = "";
  const fields: HaField[] = [];
  for (let at = 0; at < lines.length; ) {
    const end = lines.indexOf("\n", at);
    const line = lines.slice(at, end);
    const field = classicField(line, 0);
    if (field instanceof Refusal) return field;
    if (field.name === "auth" && field.type === 0) {
      if (auth !== undefined) return new Refusal("field", "two auth fields");
      auth = field.value;
    } else {
      if (fields.length === FIELDS_MAX) return new Refusal("length", `more than ${FIELDS_MAX} fields`);
      fields.push(field);
      signed += `${line}\n`;
    }
    at = end + 1;
  }
  return { message: new HaMessage(fields), auth, signed: bytesOf(signed) };
}

/** One line, without its end. */
export function classicField(line: string, depth: number): HaField | Refusal {
  const prefix = /^\(([0-9])\)/.exec(line);
  const equals = line.indexOf("=");
  if (equals < 0) return new Refusal("field", `line without =: "${printable(line)}"`);
  const name = line.slice(prefix === null ? 0 : 3, equals);
  const bad = badName(name);
  if (bad !== undefined) return bad;
  const value = line.slice(equals + 1);
  const type = prefix === null ? 0 : Number(prefix[1]);
  switch (type) {
    case 0:
      if (value.includes("\0")) return new Refusal("field", `field ${printable(name)} holds a NUL`);
      return { name, type, value: value.replaceAll(NEWLINE_SUBSTITUTE, "\n") };
    case 1:
    case 4: {
      const binary = bytesOfBase64(value);
      return binary === undefined
        ? new Refusal("field", `field ${printable(name)} is not base64`)
        : { name, type, value: binary };
    }
    case 2: {
      const inner = nestedMessage(value, depth + 1);
      return inner instanceof Refusal ? inner : { name, type, value: inner };
    }
    case 3: {
      const items = decodeList(bytesOf(value));
      return items instanceof Refusal ? items : { name, type, value: items };
    }
    default:
      return new Refusal("field", `field ${printable(name)} has the unknown type ${type}`);
  }
}

function nestedMessage(text: string, depth: number): HaMessage | Refusal {
  const lineEnd = LINE_ENDS[depth];
  if (lineEnd === undefined) return new Refusal("length", `more than ${DEPTH_MAX} nested messages`);
  const lines = text.split(lineEnd);
  if (lines.shift() !== ">>>" || lines.pop() !== "" || lines.pop() !== "<<<") {
    return new Refusal("framing", "nested message without >>> and <<<");
  }
  if (lines.length > FIELDS_MAX) return new Refusal("length", `more than ${FIELDS_MAX} fields`);
  const fields: HaField[] = [];
  for (const line of lines) {
    const field = classicField(line, depth);
    if (field instanceof Refusal) return field;
    fields.push(field);
  }
  return new HaMessage(fields);
}
