import assert from "node:assert/strict";
import { test } from "node:test";
import { type ExportInfo, Handshake } from "@hacluster/blockrep/unstable/nbd/handshake";
import { fields, goOption, option } from "../support/nbd-client.ts";

const exports: ExportInfo[] = [
  {
    name: "r0",
    description: "first",
    sizeBytes: 2 ** 40 + 512,
    flags: 0x16d,
    blockSizes: { minimum: 512, preferred: 4096, maximum: 2 ** 25 },
  },
  {
    name: "r1/0",
    description: "",
    sizeBytes: 4096,
    flags: 3,
    blockSizes: { minimum: 512, preferred: 4096, maximum: 2 ** 25 },
  },
];

const CLIENT_FLAGS = fields([32, 3]);

interface Reply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

/** Offers the bytes as a server would, cut at every `step`, and returns the handshake with its parsed replies. */
function talk(bytes: Buffer, step: number = bytes.length): { handshake: Handshake; replies: Reply[]; taken: number } {
  const handshake = new Handshake(exports);
  assert.equal(Buffer.from(handshake.takeReply() ?? []).toString("latin1"), "NBDMAGICIHAVEOPT\0\x03");
  let start = 0;
  for (let end = Math.min(step, bytes.length); ; end = Math.min(end + step, bytes.length)) {
    start += handshake.receive(bytes, start, end);
    if (end === bytes.length) break;
  }
  const out = Buffer.from(handshake.takeReply() ?? []);
  const replies: Reply[] = [];
  for (let at = 0; at < out.length && out.readUInt32BE(at) === 0x0003e889; ) {
    const length = out.readUInt32BE(at + 16);
    replies.push({
      option: out.readUInt32BE(at + 8),
      type: out.readUInt32BE(at + 12),
      data: out.subarray(at + 20, at + 20 + length),
    });
    at += 20 + length;
  }
  return { handshake, replies, taken: start };
}

test("handshake: GO answers size and flags, then the transmission phase begins", () => {
  const bytes = Buffer.concat([CLIENT_FLAGS, goOption("r0", 7, [3, 1, 2]), Buffer.from("next")]);
  for (const step of [1, 3, 64, bytes.length]) {
    const { handshake, replies, taken } = talk(bytes, step);
    assert.equal(handshake.state, "transmission");
    assert.equal(handshake.selected?.name, "r0");
    assert.equal(taken, bytes.length - 4, "what follows belongs to the transmission phase");
    assert.deepEqual(
      replies.map((r) => r.type),
      [3, 3, 3, 3, 1],
    );
    assert.deepEqual(replies[0]?.data, fields([16, 0], [64, 2 ** 40 + 512], [16, 0x16d]));
    assert.deepEqual(replies[1]?.data, fields([16, 1], "r0"));
    assert.deepEqual(replies[2]?.data, fields([16, 2], "first"));
    assert.deepEqual(replies[3]?.data, fields([16, 3], [32, 512], [32, 4096], [32, 2 ** 25]));
  }
});

test("handshake: INFO answers and goes on talking; the empty name is the first export", () => {
  const { handshake, replies } = talk(Buffer.concat([CLIENT_FLAGS, goOption("", 6), goOption("r1/0", 6)]));
  assert.equal(handshake.state, "options");
  assert.deepEqual(replies[0]?.data, fields([16, 0], [64, 2 ** 40 + 512], [16, 0x16d]));
  assert.deepEqual(replies[2]?.data, fields([16, 0], [64, 4096], [16, 3]));
});

test("handshake: STRUCTURED_REPLY adds the DF flag", () => {
  const { handshake, replies } = talk(Buffer.concat([CLIENT_FLAGS, option(8), goOption("r0")]));
  assert.equal(handshake.structuredReplies, true);
  assert.deepEqual(replies[1]?.data, fields([16, 0], [64, 2 ** 40 + 512], [16, 0x1ed]));
});

test("handshake: LIST names every export, ABORT says goodbye", () => {
  const { handshake, replies } = talk(Buffer.concat([CLIENT_FLAGS, option(3), option(2)]));
  assert.deepEqual(
    replies.map((r) => [r.option, r.type]),
    [
      [3, 2],
      [3, 2],
      [3, 1],
      [2, 1],
    ],
  );
  assert.deepEqual(replies[0]?.data, fields([32, 2], "r0first"));
  assert.equal(handshake.state, "closed");
  assert.equal(handshake.closedBecause, "");
});

test("handshake: EXPORT_NAME has no header, and 124 zeroes unless they were waived", () => {
  for (const [flags, length] of [
    [1, 134],
    [3, 10],
  ] as const) {
    const handshake = new Handshake(exports);
    handshake.takeReply();
    const bytes = Buffer.concat([fields([32, flags]), option(1, Buffer.from("r1/0"))]);
    handshake.receive(bytes, 0, bytes.length);
    const reply = Buffer.from(handshake.takeReply() ?? []);
    assert.equal(reply.length, length);
    assert.deepEqual(reply.subarray(0, 10), fields([64, 4096], [16, 3]));
    assert.equal(handshake.state, "transmission");
  }
});

test("handshake: meta contexts are an empty list, after STRUCTURED_REPLY only", () => {
  const query = (number: number, name: string): Buffer =>
    option(number, fields([32, name.length], name, [32, 1], [32, 15], "base:allocation"));
  const refused = talk(Buffer.concat([CLIENT_FLAGS, query(10, "r0")]));
  assert.equal(refused.replies[0]?.type, 0x80000003);
  const { replies } = talk(Buffer.concat([CLIENT_FLAGS, option(8), query(9, "r0"), query(10, "r0"), query(10, "x")]));
  assert.deepEqual(
    replies.map((r) => r.type),
    [1, 1, 1, 0x80000006],
  );
});

test("handshake: what is wrong is refused with its own error, and the talk goes on", () => {
  const cases: readonly (readonly [string, Buffer, number])[] = [
    ["STARTTLS", option(5), 0x80000001],
    ["extended headers", option(11), 0x80000001],
    ["unknown option", option(0x12345678), 0x80000001],
    ["LIST with data", option(3, Buffer.from("x")), 0x80000003],
    ["STRUCTURED_REPLY with data", option(8, Buffer.from("x")), 0x80000003],
    ["unknown export", goOption("nobody"), 0x80000006],
    ["GO too short", option(7, Buffer.from("abc")), 0x80000003],
    ["GO with a name beyond its end", option(7, fields([32, 100], "r0", [16, 0])), 0x80000003],
    ["GO with a name of 4 GiB", option(7, fields([32, 0xffffffff], "r0", [16, 0])), 0x80000003],
    ["GO with too few requests", option(7, fields([32, 2], "r0", [16, 2], [16, 3])), 0x80000003],
    ["GO with bytes behind", option(7, fields([32, 2], "r0", [16, 0], [16, 3])), 0x80000003],
    ["GO with a name that is not UTF-8", option(7, fields([32, 2], [16, 0xfffe], [16, 0])), 0x80000003],
    ["an option of 1 MiB", option(7, Buffer.alloc(1024 * 1024)), 0x80000009],
  ];
  for (const [name, bytes, type] of cases) {
    for (const step of [bytes.length + 64, 100]) {
      const { handshake, replies } = talk(Buffer.concat([CLIENT_FLAGS, bytes, goOption("r0")]), step);
      assert.equal(replies[0]?.type, type, name);
      assert.equal(handshake.state, "transmission", name);
    }
  }
});

test("handshake: what leaves no way to answer is hung up on, with a reason for the log", () => {
  const cases: readonly (readonly [string, Buffer, RegExp])[] = [
    ["unknown client flags", fields([32, 0x80]), /client flags 0x80/],
    ["no magic", Buffer.concat([CLIENT_FLAGS, Buffer.from("GET / HTTP/1.1\r\n\r\n")]), /magic/],
    [
      "EXPORT_NAME of a stranger",
      Buffer.concat([CLIENT_FLAGS, option(1, Buffer.from("nobody"))]),
      /no export "nobody"/,
    ],
    ["EXPORT_NAME too long", Buffer.concat([CLIENT_FLAGS, option(1, Buffer.alloc(20_000, "x"))]), /too long/],
    [
      "options without end",
      Buffer.concat([CLIENT_FLAGS, ...Array.from({ length: 65 }, () => option(8))]),
      /64 options/,
    ],
  ];
  for (const [name, bytes, reason] of cases) {
    const { handshake } = talk(bytes);
    assert.equal(handshake.state, "closed", name);
    assert.match(handshake.closedBecause, reason, name);
  }
});

test("handshake: never asks for more than one option's worth of memory", () => {
  const handshake = new Handshake(exports);
  assert.equal(handshake.needed(CLIENT_FLAGS, 0, 0), 4);
  handshake.receive(CLIENT_FLAGS, 0, 4);
  const huge = fields("IHAVEOPT", [32, 7], [32, 0xffffffff]);
  assert.equal(handshake.needed(huge, 0, 3), 16);
  assert.ok(handshake.needed(huge, 0, 16) <= 16 + 16 * 1024);
});
