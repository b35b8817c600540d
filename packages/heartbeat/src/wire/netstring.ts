import { assert } from "@hacluster/blockrep/base";
import { bytesOf, concatBytes, hasAt, textOf } from "./bytes.ts";
import { badName, badText, wireText } from "./field-rules.ts";
import { DEPTH_MAX, FIELDS_MAX, LIST_BYTES_MAX } from "./limits.ts";
import { type HaField, HaMessage } from "./message.ts";
import { Refusal } from "./refusal.ts";

/*
 *   "###\n"  LEN ":" "(" T ")" NAME "=" VALUE ","  …  "%%%\n"        then the trailer, see codec.ts
 *
 * LEN counts from "(" to the last byte of VALUE. No newline between fields.
 */
export const NETSTRING_START = "###\n";
export const NETSTRING_END = "%%%\n";

/** `LEN:BYTES,` */
export function encodeNetstring(payload: Uint8Array): Uint8Array {
  return concatBytes([bytesOf(`${payload.length}:`), payload, bytesOf(",")]);
}

/**
 * Read one netstring.
 * @returns the payload (a view) and the offset behind its comma
 */
export function decodeNetstring(bytes: Uint8Array, offset: number): { payload: Uint8Array; next: number } | Refusal {
  let length = 0;
  let at = offset;
  for (; ; at++) {
    const byte = bytes[at];
    if (byte === undefined) return new Refusal("framing", `cut off at byte ${at}`);
    if (byte === 0x3a) break;
    if (byte < 0x30 || byte > 0x39) return new Refusal("framing", `no length at byte ${offset}`);
    if (at > offset && length === 0) return new Refusal("framing", `length with a leading zero at byte ${offset}`);
    length = length * 10 + byte - 0x30;
    if (length > bytes.length) return new Refusal("length", `length at byte ${offset} is beyond the end`);
  }
  if (at === offset) return new Refusal("framing", `no length at byte ${offset}`);
  const start = at + 1;
  const end = start + length;
  if (end >= bytes.length) return new Refusal("length", `length ${length} at byte ${offset} is beyond the end`);
  if (bytes[end] !== 0x2c) return new Refusal("framing", `no comma at byte ${end}`);
  return { payload: bytes.subarray(start, end), next: end + 1 };
}

/** The message from `###` to `%%%`, both included: what the outer signature covers. */
export function encodeNetstringBody(message: HaMessage, depth = 0): Uint8Array {
  assert(depth <= DEPTH_MAX, "messages nest too deep");
  const parts: Uint8Array[] = [bytesOf(NETSTRING_START)];
  for (const field of message.fields) {
    const head = bytesOf(`(${field.type})${field.name}=`);
    const value = encodeValue(field, depth);
    parts.push(bytesOf(`${head.length + value.length}:`), head, value, bytesOf(","));
  }
  parts.push(bytesOf(NETSTRING_END));
  return concatBytes(parts);
}

function encodeValue(field: HaField, depth: number): Uint8Array {
  switch (field.type) {
    case 0:
      return bytesOf(wireText(field));
    case 1:
    case 4:
      return field.value;
    case 2:
      return encodeNetstringBody(field.value, depth + 1);
    case 3:
      return encodeList(field.value);
  }
}

export function encodeList(items: readonly string[]): Uint8Array {
  const packed = concatBytes(items.map((item) => encodeNetstring(bytesOf(item))));
  assert(packed.length <= LIST_BYTES_MAX, `a packed list has at most ${LIST_BYTES_MAX} bytes`);
  return packed;
}

export function decodeList(bytes: Uint8Array): readonly string[] | Refusal {
  if (bytes.length > LIST_BYTES_MAX) return new Refusal("length", `list of ${bytes.length} bytes`);
  const items: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const item = decodeNetstring(bytes, at);
    if (item instanceof Refusal) return item;
    items.push(textOf(item.payload));
    at = item.next;
  }
  return items;
}

/**
 * Read a message from `###` to `%%%`. Binary values are copies.
 * @returns the message and the offset behind `%%%\n`
 */
export function decodeNetstringBody(
  bytes: Uint8Array,
  offset = 0,
  depth = 0,
): { message: HaMessage; next: number } | Refusal {
  if (!hasAt(bytes, offset, NETSTRING_START)) return new Refusal("framing", "does not begin with ###");
  if (depth > DEPTH_MAX) return new Refusal("length", `more than ${DEPTH_MAX} nested messages`);
  const fields: HaField[] = [];
  let at = offset + NETSTRING_START.length;
  while (!hasAt(bytes, at, NETSTRING_END)) {
    const raw = decodeNetstring(bytes, at);
    if (raw instanceof Refusal) return raw;
    const field = decodeField(raw.payload, depth);
    if (field instanceof Refusal) return field;
    if (fields.length === FIELDS_MAX) return new Refusal("length", `more than ${FIELDS_MAX} fields`);
    fields.push(field);
    at = raw.next;
  }
  return { message: new HaMessage(fields), next: at + NETSTRING_END.length };
}

function decodeField(raw: Uint8Array, depth: number): HaField | Refusal {
  const equals = raw.indexOf(0x3d);
  if (raw[0] !== 0x28 || raw[2] !== 0x29 || equals < 0) return new Refusal("field", "field without (TYPE)NAME=");
  const type = raw[1]! - 0x30;
  const name = textOf(raw.subarray(3, equals));
  const bad = badName(name);
  if (bad !== undefined) return bad;
  const value = raw.subarray(equals + 1);
  switch (type) {
    case 0: {
      const text = textOf(value);
      return badText(name, text) ?? { name, type, value: text };
    }
    case 1:
    case 4:
      return { name, type, value: Uint8Array.from(value) };
    case 2: {
      const inner = decodeNetstringBody(value, 0, depth + 1);
      if (inner instanceof Refusal) return inner;
      if (inner.next !== value.length) return new Refusal("framing", `bytes behind the nested message ${name}`);
      return { name, type, value: inner.message };
    }
    case 3: {
      const items = decodeList(value);
      return items instanceof Refusal ? items : { name, type, value: items };
    }
    default:
      return new Refusal("field", `field ${name} has the unknown type ${String.fromCharCode(raw[1]!)}`);
  }
}
