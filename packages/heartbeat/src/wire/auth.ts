import { createHmac, timingSafeEqual } from "node:crypto";
import { assert } from "@hacluster/blockrep/base";
import { printable } from "./bytes.ts";
import { Refusal } from "./refusal.ts";

/** How messages are signed; the configuration's AuthKeys has this shape. */
export interface SigningKeys {
  /** Index that signs what we send; present in `keys`. */
  readonly active: number;
  readonly keys: ReadonlyMap<number, SigningKey>;
}

export interface SigningKey {
  readonly method: "crc" | "md5" | "sha1" | "sha256";
  /** Empty for crc, which carries no secret: it detects damage, not strangers. */
  readonly key: Uint8Array;
}

const CRC_TABLE = new Uint32Array(256);
for (let byte = 0; byte < 256; byte++) {
  let value = byte << 24;
  for (let bit = 0; bit < 8; bit++) value = value & 0x80000000 ? (value << 1) ^ 0x04c11db7 : value << 1;
  CRC_TABLE[byte] = value >>> 0;
}

/**
 * CRC-32, polynomial 0x04C11DB7, most significant bit first, from 0, complemented: POSIX cksum without its length.
 * @see Heartbeat 3.0.6, method crc
 */
export function crc32OfCksum(bytes: Uint8Array): number {
  let crc = 0;
  for (let i = 0; i < bytes.length; i++) crc = (crc << 8) ^ CRC_TABLE[(crc >>> 24) ^ bytes[i]!]!;
  return ~crc >>> 0;
}

/** The digest as text: hexadecimal, lower case; that of crc without padding. */
export function digest(key: SigningKey, bytes: Uint8Array): string {
  if (key.method === "crc") return crc32OfCksum(bytes).toString(16);
  return createHmac(key.method, key.key).update(bytes).digest("hex");
}

/** `AUTHNUM DIGEST` made with the active key. */
export function sign(keys: SigningKeys, bytes: Uint8Array): string {
  const key = keys.keys.get(keys.active);
  assert(key !== undefined, "the active key is one of the keys");
  return `${keys.active} ${digest(key, bytes)}`;
}

/**
 * Check `AUTHNUM DIGEST` against the bytes, in time that does not depend on where they differ.
 * Deviation: Heartbeat 3.0.6 takes the method of AUTHNUM but its own active key, which defeats key rotation; here the
 * key of AUTHNUM counts.
 * @returns the index of the key, or why not
 */
export function verify(keys: SigningKeys, signature: string, bytes: Uint8Array): number | Refusal {
  const parts = /^([0-9]{1,3}) ([0-9a-f]{1,64})$/.exec(signature);
  if (parts === null) return new Refusal("signature", `signature "${printable(signature)}" is not INDEX DIGEST`);
  const index = Number(parts[1]);
  const key = keys.keys.get(index);
  if (key === undefined) return new Refusal("key-unknown", `signed with key ${index}, which authkeys does not have`);
  const expected = Buffer.from(digest(key, bytes), "latin1");
  const received = Buffer.from(parts[2]!, "latin1");
  if (expected.length === received.length && timingSafeEqual(expected, received)) return index;
  return new Refusal("signature", `signature of key ${index} (${key.method}) does not match${hintOf(key, received)}`);
}

function hintOf(key: SigningKey, received: Uint8Array): string {
  const method = received.length <= 8 ? "crc" : ({ 32: "md5", 40: "sha1", 64: "sha256" } as const)[received.length];
  return method === undefined || method === key.method ? "" : `, it looks like ${method}`;
}
