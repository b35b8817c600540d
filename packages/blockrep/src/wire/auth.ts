/**
 * Challenge and response of cram-hmac-alg. Both sides challenge at once; each answers the other's.
 * @see DRBD 8.4 drbd_receiver.c, drbd_do_auth
 */
import { createHmac, getHashes, timingSafeEqual } from "node:crypto";
import { assert } from "../base/assert.ts";
import { CHALLENGE_LENGTH, CHALLENGE_LENGTH_MAX } from "./constants.ts";

/** Whether `alg` can be used as cram-hmac-alg on this machine; a configuration check. */
export function isHmacAlgorithm(alg: string): boolean {
  return getHashes().includes(alg);
}

/**
 * HMAC over the peer's whole challenge.
 * @param secret the shared-secret without an ending NUL, as UTF-8
 */
export function authResponse(alg: string, secret: string, challenge: Uint8Array): Uint8Array {
  assert(
    challenge.length >= CHALLENGE_LENGTH && challenge.length <= CHALLENGE_LENGTH_MAX,
    "a challenge has 64 to 128 bytes",
  );
  return createHmac(alg, secret).update(challenge).digest();
}

/** Whether the peer's response proves that it knows the secret; takes the same time for every wrong one. */
export function verifyAuthResponse(
  alg: string,
  secret: string,
  ownChallenge: Uint8Array,
  response: Uint8Array,
): boolean {
  const expected = authResponse(alg, secret, ownChallenge);
  return response.length === expected.length && timingSafeEqual(response, expected);
}

/**
 * Whether the peer sent my own challenge back to get it answered by me. Such a peer is refused for good: answering
 * would let it in without the secret.
 */
export function isReflectedChallenge(own: Uint8Array, theirs: Uint8Array): boolean {
  if (own.length < CHALLENGE_LENGTH || theirs.length < CHALLENGE_LENGTH) return false;
  return timingSafeEqual(own.subarray(0, CHALLENGE_LENGTH), theirs.subarray(0, CHALLENGE_LENGTH));
}
