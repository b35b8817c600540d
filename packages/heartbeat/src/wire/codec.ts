import { assert } from "@hacluster/blockrep/base";
import { type SigningKeys, sign, verify } from "./auth.ts";
import { bytesOf, concatBytes, hasAt, textOf } from "./bytes.ts";
import { CLASSIC_START, classicLines, decodeClassic } from "./classic.ts";
import { missingMandatoryField } from "./common-fields.ts";
import { type Inflate, isCompressed, unpack } from "./compression.ts";
import { MESSAGE_BYTES_MAX } from "./limits.ts";
import { HaMessage } from "./message.ts";
import {
  decodeNetstring,
  decodeNetstringBody,
  encodeNetstring,
  encodeNetstringBody,
  NETSTRING_START,
} from "./netstring.ts";
import { Refusal } from "./refusal.ts";

export type MessageFormat = "classic" | "netstring";

/**
 * One datagram for UDP or ICMP: netstring framing whatever `msgfmt` says, the outer signature behind it, and with
 * `msgfmt classic` an inner one as the last field. Messages with nested or compressed fields have no inner signature.
 * @param message without `auth`
 * @see Heartbeat 3.0.6, signatures
 */
export function encodeMessage(message: HaMessage, keys: SigningKeys, msgfmt: MessageFormat): Uint8Array {
  assert(!message.has("auth"), "the codec signs, nobody else");
  const inner = msgfmt === "classic" && !message.fields.some((f) => f.type === 2 || f.type === 4);
  const auth = inner ? sign(keys, bytesOf(classicLines(message))) : "";
  const body = encodeNetstringBody(
    inner ? new HaMessage([...message.fields, { name: "auth", type: 0, value: auth }]) : message,
  );
  const datagram = concatBytes([body, encodeNetstring(bytesOf(sign(keys, body)))]);
  assert(datagram.length <= MESSAGE_BYTES_MAX, `message of ${datagram.length} bytes`);
  return datagram;
}

export interface DecodedMessage {
  /** Without `auth`; that of the sender, unpacked if it was compressed. */
  readonly message: HaMessage;
  readonly framing: MessageFormat;
  /** Index of the key that signed it. */
  readonly keyIndex: number;
  /** The message carried the inner signature of `msgfmt classic`. */
  readonly innerAuth: boolean;
}

export interface DecodeOptions {
  /** Without it a compressed message is refused. */
  readonly inflate?: Inflate;
}

/**
 * Read and verify one datagram in either framing. Of a netstring message the outer signature decides, as in the
 * original; of a classic one the `auth` field. Never throws, whatever the bytes.
 */
export function decodeDatagram(
  bytes: Uint8Array,
  keys: SigningKeys,
  options: DecodeOptions = {},
): DecodedMessage | { readonly refusal: Refusal } {
  const decoded = decode(bytes, keys, options);
  if (decoded instanceof Refusal) return { refusal: decoded };
  const missing = missingMandatoryField(decoded.message);
  if (missing !== undefined) {
    return { refusal: new Refusal("incomplete", `message without a usable field ${missing}`) };
  }
  return decoded;
}

function decode(bytes: Uint8Array, keys: SigningKeys, options: DecodeOptions): DecodedMessage | Refusal {
  if (bytes.length > MESSAGE_BYTES_MAX) return new Refusal("length", `${bytes.length} bytes`);
  if (hasAt(bytes, 0, NETSTRING_START)) return decodeSigned(bytes, keys, options);
  if (hasAt(bytes, 0, CLASSIC_START)) {
    const classic = decodeClassic(bytes);
    if (classic instanceof Refusal) return classic;
    if (classic.auth === undefined) return new Refusal("unsigned", "classic framing without an auth field");
    const keyIndex = verify(keys, classic.auth, classic.signed);
    if (keyIndex instanceof Refusal) return keyIndex;
    return { message: classic.message, framing: "classic", keyIndex, innerAuth: true };
  }
  return new Refusal("framing", "begins with neither ### nor >>>: not a message of Heartbeat");
}

function decodeSigned(bytes: Uint8Array, keys: SigningKeys, options: DecodeOptions): DecodedMessage | Refusal {
  const body = decodeNetstringBody(bytes);
  if (body instanceof Refusal) return body;
  if (body.next === bytes.length) return new Refusal("unsigned", "no signature behind %%%");
  const trailer = decodeNetstring(bytes, body.next);
  if (trailer instanceof Refusal) return trailer;
  if (trailer.next !== bytes.length) return new Refusal("framing", `bytes behind the signature at ${trailer.next}`);
  const keyIndex = verify(keys, textOf(trailer.payload), bytes.subarray(0, body.next));
  if (keyIndex instanceof Refusal) return keyIndex;
  if (isCompressed(body.message)) {
    const inside = unpack(body.message, options.inflate);
    if (inside instanceof Refusal) return inside;
    return { message: inside.message, framing: "netstring", keyIndex, innerAuth: inside.auth !== undefined };
  }
  const innerAuth = body.message.has("auth");
  return {
    message: innerAuth ? body.message.without("auth") : body.message,
    framing: "netstring",
    keyIndex,
    innerAuth,
  };
}
