import { printable } from "./bytes.ts";
import { type ClassicMessage, decodeClassic } from "./classic.ts";
import { UNPACKED_BYTES_MAX } from "./limits.ts";
import type { HaMessage } from "./message.ts";
import { Refusal } from "./refusal.ts";

const PAYLOAD = "_compressed_payload";
const ALGORITHM = "_compression_algorithm";

/**
 * Unpacks one zlib stream; given by the driver, since only it may reach for a decompressor.
 * @returns undefined for a damaged stream or when the result would exceed `maxBytes`; never throws
 */
export type Inflate = (bytes: Uint8Array, maxBytes: number) => Uint8Array | undefined;

export function isCompressed(message: HaMessage): boolean {
  return message.has(PAYLOAD);
}

/**
 * The message inside a message of `traditional_compression`: a zlib stream of the classic framing. Called after
 * the outer signature was verified, so only holders of a key can make us unpack anything.
 * @see Heartbeat 3.0.6, _compressed_payload
 */
export function unpack(message: HaMessage, inflate: Inflate | undefined): ClassicMessage | Refusal {
  const payload = message.binary(PAYLOAD);
  const algorithm = message.get(ALGORITHM);
  if (payload === undefined || algorithm === undefined) {
    return new Refusal("compression", `${PAYLOAD} without ${ALGORITHM}`);
  }
  if (algorithm !== "zlib" || inflate === undefined) {
    return new Refusal("compression", `compressed with ${printable(algorithm)}, which is not supported`);
  }
  const bytes = inflate(payload, UNPACKED_BYTES_MAX);
  if (bytes === undefined) {
    return new Refusal("compression", `damaged zlib stream, or more than ${UNPACKED_BYTES_MAX} bytes in it`);
  }
  return decodeClassic(bytes);
}
