import assert from "node:assert/strict";
import { test } from "node:test";
import { NbdErrno } from "@hacluster/blockrep/unstable/nbd/constants";
import {
  NbdRequest,
  parseRequest,
  payloadBytes,
  putDataChunk,
  putErrorChunk,
  putSimpleReply,
  refusalOf,
  type TransmissionLimits,
} from "@hacluster/blockrep/unstable/nbd/transmission";
import { fields, request } from "../support/nbd-client.ts";

const SIZE = 2 ** 20;
const LIMITS: TransmissionLimits = {
  sizeBytes: SIZE,
  minimumBlock: 512,
  readOnly: false,
  canTrim: true,
  canZeroFast: true,
  structuredReplies: true,
};
const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7];
const [FUA, NO_HOLE, DF, FAST] = [1, 2, 4, 16];

function parsed(bytes: Uint8Array): NbdRequest {
  const into = new NbdRequest();
  assert.equal(parseRequest(bytes, 0, into), true);
  return into;
}

test("transmission: a request's fields, 64-bit offsets included", () => {
  const r = parsed(request(WRITE, 0x1_0000_0002, 2 ** 40 + 512, 4096, { flags: FUA }));
  assert.deepEqual(Object.fromEntries(Object.entries(r)), {
    flags: 1,
    type: 1,
    cookieHigh: 1,
    cookieLow: 2,
    offset: 2 ** 40 + 512,
    length: 4096,
  });
  assert.equal(payloadBytes(r), 4096);
  assert.equal(payloadBytes(parsed(request(READ, 1, 0, 4096))), 0);
  assert.equal(parseRequest(request(READ, 1, 0, 512, { magic: 0x67446698 }), 0, new NbdRequest()), false);
});

test("transmission: every request is accepted or refused with its error before anything is done", () => {
  const { ok, invalid, noSpace, notPermitted } = NbdErrno;
  const readOnly = { ...LIMITS, readOnly: true };
  const plain = { ...LIMITS, canTrim: false, canZeroFast: false, structuredReplies: false };
  const cases: readonly (readonly [
    type: number,
    flags: number,
    offset: number,
    length: number,
    TransmissionLimits,
    number,
  ])[] = [
    [READ, 0, 0, SIZE, LIMITS, ok],
    [READ, FUA, 0, 512, LIMITS, ok],
    [READ, DF, 0, 512, LIMITS, ok],
    [READ, DF, 0, 512, plain, invalid],
    [READ, NO_HOLE, 0, 512, LIMITS, invalid],
    [READ, 0, SIZE, 512, LIMITS, invalid],
    [READ, 0, 2 ** 60, 512, LIMITS, invalid],
    [READ, 0, 0, 0, LIMITS, invalid],
    [READ, 0, 1, 512, LIMITS, invalid],
    [READ, 0, 0, 511, LIMITS, invalid],
    [READ, 0, 0, 2 ** 25 + 512, { ...LIMITS, sizeBytes: 2 ** 30 }, invalid],
    [WRITE, 0, SIZE - 512, 512, LIMITS, ok],
    [WRITE, FUA, 0, 512, LIMITS, ok],
    [WRITE, 0x8000, 0, 512, LIMITS, invalid],
    [WRITE, 0, SIZE - 512, 1024, LIMITS, noSpace],
    [WRITE, 0, 100, 512, LIMITS, invalid],
    [WRITE, 0, 0, 512, readOnly, notPermitted],
    [TRIM, FUA, 0, SIZE, LIMITS, ok],
    [TRIM, 0, 0, SIZE, plain, invalid],
    [TRIM, 0, 512, SIZE, LIMITS, invalid],
    [TRIM, 0, 0, 512, readOnly, notPermitted],
    [ZEROES, FUA | NO_HOLE | FAST, 0, SIZE, LIMITS, ok],
    [ZEROES, FAST, 0, SIZE, plain, invalid],
    [ZEROES, 0, SIZE, 512, LIMITS, noSpace],
    [ZEROES, 0, 0, 512, readOnly, notPermitted],
    [FLUSH, 0, 0, 0, LIMITS, ok],
    [FLUSH, 0, 0, 0, readOnly, ok],
    [FLUSH, 0, 512, 512, LIMITS, invalid],
    [DISC, 0, 0, 0, LIMITS, ok],
    [CACHE, 0, 0, 512, LIMITS, invalid],
    [STATUS, 0, 0, 512, LIMITS, invalid],
    [99, 0, 0, 512, LIMITS, invalid],
  ];
  for (const [type, flags, offset, length, limits, errno] of cases) {
    const r = parsed(request(type, 1, offset, length, { flags }));
    assert.equal(refusalOf(r, limits), errno, `type ${type} flags ${flags} ${offset}+${length}`);
  }
});

test("transmission: replies as the protocol writes them", () => {
  const out = Buffer.alloc(64, 0xff);
  assert.equal(putSimpleReply(out, 0, 28, 0xdeadbeef, 7), 16);
  assert.deepEqual(out.subarray(0, 16), fields([32, 0x67446698], [32, 28], [32, 0xdeadbeef], [32, 7]));
  assert.equal(putDataChunk(out, 4, 1, 2, 2 ** 33 + 512, 4096), 28);
  assert.deepEqual(
    out.subarray(4, 32),
    fields([32, 0x668e33ef], [16, 1], [16, 1], [32, 1], [32, 2], [32, 4104], [64, 2 ** 33 + 512]),
  );
  assert.equal(putErrorChunk(out, 0, 5, 1, 2), 26);
  assert.deepEqual(
    out.subarray(0, 26),
    fields([32, 0x668e33ef], [16, 1], [16, 0x8001], [32, 1], [32, 2], [32, 6], [32, 5], [16, 0]),
  );
});
