import { createHash, getHashes } from "node:crypto";
import { DIGEST_MAX } from "./constants.ts";

/** One digest algorithm of data-integrity-alg, verify-alg or csums-alg; bytes as the kernel's hash functions give them. */
export interface DigestAlgorithm {
  /** As in the configuration: "crc32c", "md5", "sha1". */
  readonly name: string;
  readonly lengthBytes: number;
  /** Digest of the pieces, read as one. */
  digest(...pieces: readonly Uint8Array[]): Uint8Array;
}

const crc32cAlgorithm: DigestAlgorithm = {
  name: "crc32c",
  lengthBytes: 4,
  digest(...pieces) {
    let crc = 0;
    for (const piece of pieces) crc = crc32c(piece, crc);
    return Uint8Array.of(crc, crc >>> 8, crc >>> 16, crc >>> 24);
  },
};

/**
 * The algorithm of this name, or undefined where it does not exist here: DRBD's name for "none" is the empty string,
 * and the caller says which option named a wrong one.
 */
export function digestAlgorithm(name: string): DigestAlgorithm | undefined {
  if (name === "crc32c") return crc32cAlgorithm;
  if (!getHashes().includes(name)) return undefined;
  const lengthBytes = createHash(name).digest().length;
  if (lengthBytes > DIGEST_MAX) return undefined;
  return {
    name,
    lengthBytes,
    digest(...pieces) {
      const hash = createHash(name);
      for (const piece of pieces) hash.update(piece);
      return hash.digest();
    },
  };
}

const POLYNOMIAL = 0x82f63b78; // Castagnoli, bits reversed
const SLICES = 8;
const TABLE = makeTable();

/** Eight tables of 256: entry [k][b] is the checksum of byte b followed by k zero bytes. */
function makeTable(): Int32Array {
  const table = new Int32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    table[byte] = crc;
  }
  for (let i = 256; i < table.length; i++) {
    const previous = table[i - 256]!;
    table[i] = (previous >>> 8) ^ table[previous & 0xff]!;
  }
  return table;
}

/**
 * Standard CRC-32C (initial and final inversion), as u32. Pass the result of one piece as `seed` of the next.
 * The activity log uses another variant, which is not this one.
 */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  const t = TABLE;
  let crc = ~seed;
  let at = 0;
  for (const end = bytes.length - 7; at < end; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      t[1792 + (crc & 0xff)]! ^
      t[1536 + ((crc >>> 8) & 0xff)]! ^
      t[1280 + ((crc >>> 16) & 0xff)]! ^
      t[1024 + (crc >>> 24)]! ^
      t[768 + bytes[at + 4]!]! ^
      t[512 + bytes[at + 5]!]! ^
      t[256 + bytes[at + 6]!]! ^
      t[bytes[at + 7]!]!;
  }
  for (; at < bytes.length; at++) crc = (crc >>> 8) ^ t[(crc ^ bytes[at]!) & 0xff]!;
  return ~crc >>> 0;
}

/** Whether two digests are equal; of different length they are not. */
export function sameDigest(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
