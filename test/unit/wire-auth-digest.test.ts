import assert from "node:assert/strict";
import { test } from "node:test";
import { InvariantError } from "@hacluster/blockrep/base";
import {
  authResponse,
  isHmacAlgorithm,
  isReflectedChallenge,
  verifyAuthResponse,
} from "@hacluster/blockrep/unstable/wire/auth";
import { crc32c, digestAlgorithm, sameDigest } from "@hacluster/blockrep/unstable/wire/digest";
import fc from "fast-check";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const challenge = Uint8Array.from({ length: 64 }, (_, i) => i);

test("crc32c: the values of RFC 3720, B.4", () => {
  const digest = (bytes: Uint8Array) => hex(digestAlgorithm("crc32c")!.digest(bytes));
  assert.equal(digest(new Uint8Array(32)), "aa36918a");
  assert.equal(digest(new Uint8Array(32).fill(0xff)), "43aba862");
  assert.equal(digest(Uint8Array.from({ length: 32 }, (_, i) => i)), "4e79dd46");
  assert.equal(digest(Uint8Array.from({ length: 32 }, (_, i) => 31 - i)), "5cdb3f11");
  assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
});

test("crc32c: pieces of any length give what the whole gives", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.uint8Array({ maxLength: 100 }), (a, b) => {
      assert.equal(crc32c(b, crc32c(a)), crc32c(Buffer.concat([a, b])));
      let slow = 0xffffffff;
      for (const byte of a) {
        slow ^= byte;
        for (let bit = 0; bit < 8; bit++) slow = (slow & 1) !== 0 ? (slow >>> 1) ^ 0x82f63b78 : slow >>> 1;
      }
      assert.equal(crc32c(a), ~slow >>> 0);
    }),
  );
});

test("digests: md5 and sha1 by name, pieces as one; nothing for a name that does not exist", () => {
  const abc = [Buffer.from("a"), Buffer.from("bc")];
  assert.equal(hex(digestAlgorithm("md5")!.digest(...abc)), "900150983cd24fb0d6963f7d28e17f72");
  assert.equal(hex(digestAlgorithm("sha1")!.digest(...abc)), "a9993e364706816aba3e25717850c26c9cd0d89d");
  assert.equal(digestAlgorithm("sha1")!.lengthBytes, 20);
  assert.equal(digestAlgorithm("md6"), undefined);
  assert.equal(digestAlgorithm(""), undefined);
});

test("sameDigest: length and bytes", () => {
  assert.ok(sameDigest(Uint8Array.of(1, 2), Uint8Array.of(1, 2)));
  assert.ok(!sameDigest(Uint8Array.of(1, 2), Uint8Array.of(1, 3)));
  assert.ok(!sameDigest(Uint8Array.of(1, 2), Uint8Array.of(1)));
});

test("authentication: only the secret gives the response", () => {
  const response = authResponse("sha1", "123", challenge);
  assert.equal(response.length, 20);
  assert.ok(verifyAuthResponse("sha1", "123", challenge, response));
  assert.ok(!verifyAuthResponse("sha1", "1234", challenge, response));
  assert.ok(!verifyAuthResponse("sha1", "123", challenge, response.subarray(0, 19)));
  assert.ok(!verifyAuthResponse("md5", "123", challenge, response));
  assert.ok(!verifyAuthResponse("sha1", "123", Uint8Array.from(challenge).fill(1, 0, 1), response));
});

test("authentication: a challenge of another length is a bug of the caller, the framer refuses a peer's", () => {
  assert.throws(() => authResponse("sha1", "123", new Uint8Array(63)), InvariantError);
  assert.throws(() => authResponse("sha1", "123", new Uint8Array(129)), InvariantError);
});

test("authentication: my own challenge sent back is recognised, also with more behind it", () => {
  assert.ok(isReflectedChallenge(challenge, challenge));
  assert.ok(isReflectedChallenge(challenge, Buffer.concat([challenge, challenge])));
  assert.ok(!isReflectedChallenge(challenge, Uint8Array.from(challenge).fill(9, 63, 64)));
});

test("authentication: known algorithm names", () => {
  assert.ok(isHmacAlgorithm("sha1") && isHmacAlgorithm("md5") && isHmacAlgorithm("sha256"));
  assert.ok(!isHmacAlgorithm("crc32c") && !isHmacAlgorithm("sha"));
});
