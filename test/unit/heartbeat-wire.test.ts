import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";
import { inflate } from "@hacluster/heartbeat/unstable/drivers/inflate";
import { crc32OfCksum, digest, type SigningKeys, sign, verify } from "@hacluster/heartbeat/unstable/wire/auth";
import { classicLines, decodeClassic, encodeClassic } from "@hacluster/heartbeat/unstable/wire/classic";
import { decodeDatagram, encodeMessage } from "@hacluster/heartbeat/unstable/wire/codec";
import { missingMandatoryField, withCommonFields } from "@hacluster/heartbeat/unstable/wire/common-fields";
import { encodeFifo, FifoReader } from "@hacluster/heartbeat/unstable/wire/fifo";
import { formatHex, HaMessage, parseDecimal, parseHex } from "@hacluster/heartbeat/unstable/wire/message";
import { encodeNetstring, encodeNetstringBody } from "@hacluster/heartbeat/unstable/wire/netstring";
import { Refusal } from "@hacluster/heartbeat/unstable/wire/refusal";
import fc from "fast-check";

const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");
const text = (data: Uint8Array): string => Buffer.from(data).toString("latin1");
const CRC: SigningKeys = { active: 1, keys: new Map([[1, { method: "crc", key: new Uint8Array() }]]) };
const SHA1: SigningKeys = { active: 2, keys: new Map([[2, { method: "sha1", key: bytes("HI!") }]]) };
const sender = {
  node: "nodo1",
  uuid: new Uint8Array(16).fill(7),
  generation: 0x6b008529,
  loadAverage: "0.1 0.2 0.3 1/99 7",
  ttl: 3,
};
const message = withCommonFields(HaMessage.of("status", { st: "active", dt: "bb8", protocol: "1" }), sender, 26, 99);

function refused(data: Uint8Array, keys: SigningKeys = CRC, options = {}): Refusal {
  const decoded = decodeDatagram(data, keys, options);
  assert.ok("refusal" in decoded, "was accepted");
  return decoded.refusal;
}

/** A netstring datagram with a valid crc signature around any body. */
function signed(body: string): Uint8Array {
  const whole = bytes(`###\n${body}%%%\n`);
  return Buffer.concat([whole, encodeNetstring(bytes(sign(CRC, whole)))]);
}

test("numbers: hexadecimal is written bare and read leniently", () => {
  assert.equal(formatHex(0x6b0081ad), "6b0081ad");
  assert.equal(parseHex("0x1A"), 26);
  assert.equal(parseHex("1a"), 26);
  for (const bad of ["", "0x", "xyz", "-1", " 1", "ffffffffffffffff", "12345678901234567"]) {
    assert.equal(parseHex(bad), undefined, bad);
  }
  assert.equal(parseDecimal("250"), 250);
  assert.equal(parseDecimal("0xfa"), undefined);
});

test("message: lookup, and changes make a new message in the same order", () => {
  assert.equal(message.type, "status");
  assert.equal(message.hex("seq"), 26);
  assert.equal(message.hex("dt"), 3000);
  assert.equal(message.decimal("ttl"), 3);
  assert.equal(message.get("srcuuid"), undefined);
  assert.equal(message.binary("srcuuid")?.length, 16);
  const changed = message.with("st", "dead");
  assert.equal(changed.get("st"), "dead");
  assert.equal(message.get("st"), "active");
  assert.deepEqual(
    changed.fields.map((f) => f.name),
    message.fields.map((f) => f.name),
  );
  assert.equal(message.without("none"), message);
  assert.deepEqual(HaMessage.fromFields(message.plainFields()), message);
  assert.equal(message.without("st").has("st"), false);
});

test("common fields: order, and what NS_ messages do not get", () => {
  const names = (m: HaMessage): string => m.fields.map((f) => f.name).join(" ");
  assert.equal(names(message), "t st dt protocol src srcuuid seq hg ts ld ttl");
  const ack = HaMessage.of("NS_ackmsg", { dest: "nodo2", ackseq: "a" });
  assert.equal(
    names(withCommonFields(ack, sender, 1, 99, new Uint8Array(16))),
    "t dest ackseq destuuid src srcuuid hg ts ttl",
  );
  const pingReply = HaMessage.of("NS_st", { src: "192.168.0.10" });
  assert.equal(withCommonFields(pingReply, sender, 1, 99).get("src"), "192.168.0.10");
});

test("common fields: a message without a mandatory one is named", () => {
  assert.equal(missingMandatoryField(message), undefined);
  for (const name of ["t", "src", "ts", "seq"]) assert.equal(missingMandatoryField(message.without(name)), name);
  assert.equal(missingMandatoryField(message.with("ts", "0")), "ts");
  assert.equal(missingMandatoryField(message.with("seq", "0")), "seq");
  assert.equal(missingMandatoryField(message.with("t", "NS_ackmsg").without("seq")), undefined);
});

test("auth: crc is cksum without its length, printed unpadded", () => {
  // cksum of no bytes is 4294967295: the complement of 0
  assert.equal(crc32OfCksum(new Uint8Array()), 0xffffffff);
  // printf 123456789 | cksum says 930766865: it feeds the length as a last byte
  assert.equal(crc32OfCksum(bytes("123456789\x09")), 930766865);
  const short = Array.from({ length: 400 }, (_, i) => bytes(`probe ${i}`)).find((b) => crc32OfCksum(b) < 0x10000000);
  assert.ok(short !== undefined);
  assert.ok(digest({ method: "crc", key: new Uint8Array() }, short).length < 8);
});

test("auth: HMAC of RFC 2202 and RFC 4231", () => {
  const what = bytes("what do ya want for nothing?");
  const key = bytes("Jefe");
  assert.equal(digest({ method: "md5", key }, what), "750c783e6ab0b503eaa86e310a5db738");
  assert.equal(digest({ method: "sha1", key }, what), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
  assert.equal(
    digest({ method: "sha256", key }, what),
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
  );
});

test("auth: the key of the named index verifies, the active one signs", () => {
  const both: SigningKeys = { active: 1, keys: new Map([...CRC.keys, ...SHA1.keys]) };
  assert.equal(verify(both, sign(SHA1, bytes("x")), bytes("x")), 2);
  assert.match(sign(both, bytes("x")), /^1 /);
  const refusals: [string, string][] = [
    ["9 abcd", "key-unknown"],
    ["2 abcd", "signature"],
    ["2", "signature"],
    ["2 ABCD", "signature"],
    ["", "signature"],
    ["1 0", "signature"],
  ];
  for (const [signature, code] of refusals) {
    const result = verify(both, signature, bytes("x"));
    assert.ok(result instanceof Refusal && result.code === code, signature);
  }
});

test("codec: our own messages come back, with and without inner signature, with every method", () => {
  for (const keys of [CRC, SHA1]) {
    for (const msgfmt of ["classic", "netstring"] as const) {
      const decoded = decodeDatagram(encodeMessage(message, keys, msgfmt), keys);
      assert.ok(!("refusal" in decoded));
      assert.deepEqual(decoded.message, message);
      assert.equal(decoded.innerAuth, msgfmt === "classic");
      assert.equal(decoded.keyIndex, keys.active);
    }
  }
});

test("codec: fields in any order, auth first, and a wrong inner auth under a right trailer are accepted", () => {
  const field = (name: string, value: string): string => text(encodeNetstring(bytes(`(0)${name}=${value}`)));
  const body =
    field("auth", "1 bad") + field("seq", "1") + field("ts", "6b00") + field("src", "nodo2") + field("t", "starting");
  const decoded = decodeDatagram(signed(body), CRC);
  assert.ok(!("refusal" in decoded));
  assert.equal(decoded.message.type, "starting");
  assert.equal(decoded.message.has("auth"), false);
});

test("codec: classic framing is accepted with and without NUL, and its auth decides", () => {
  const auth = sign(CRC, bytes(classicLines(message)));
  const framed = encodeClassic(message.with("auth", auth));
  for (const data of [framed, framed.subarray(0, -1)]) {
    const decoded = decodeDatagram(data, CRC);
    assert.ok(!("refusal" in decoded));
    assert.deepEqual(decoded.message, message);
    assert.equal(decoded.framing, "classic");
  }
  assert.equal(refused(encodeClassic(message)).code, "unsigned");
  assert.equal(refused(encodeClassic(message.with("auth", "1 12345678"))).code, "signature");
  assert.equal(refused(bytes(">>>\nt=x\n")).code, "framing");
  assert.equal(refused(bytes(">>>\nnonsense\n<<<\n")).code, "field");
  assert.equal(refused(bytes(">>>\n(1)a=***\n<<<\n")).code, "field");
  assert.equal(refused(bytes(">>>\n(7)a=b\n<<<\n")).code, "field");
  assert.equal(refused(bytes(">>>\nauth=1 2\nauth=1 2\n<<<\n")).code, "field");
});

test("codec: nested messages, lists and newlines survive both framings", () => {
  const inner = new HaMessage([
    { name: "a", type: 0, value: "one\ntwo" },
    { name: "deeper", type: 2, value: new HaMessage([{ name: "b", type: 1, value: new Uint8Array([0, 10, 255]) }]) },
  ]);
  const rich = new HaMessage([
    ...message.fields,
    { name: "inner", type: 2, value: inner },
    { name: "list", type: 3, value: ["x", "", "y,z"] },
    { name: "packed", type: 4, value: new Uint8Array([1, 2, 3]) },
  ]);
  const classic = decodeClassic(encodeClassic(rich));
  assert.ok(!(classic instanceof Refusal));
  assert.deepEqual(classic.message, rich);
  const decoded = decodeDatagram(encodeMessage(rich, CRC, "classic"), CRC);
  assert.ok(!("refusal" in decoded));
  assert.equal(decoded.innerAuth, false, "no inner signature with nested fields");
  assert.equal(decoded.message.fields.length, rich.fields.length);
});

test("codec: each refusal of the netstring framing", () => {
  const good = "13:(0)t=starting,";
  const cases: [Uint8Array, string][] = [
    [bytes(""), "framing"],
    [bytes("GET / HTTP/1.1\r\n"), "framing"],
    [bytes("###\n"), "framing"],
    [bytes("###\n%%%\n"), "unsigned"],
    [bytes(`###\n${good}%%%\n`), "unsigned"],
    [bytes(`###\n${good}%%%\n10:1 8a104220`), "length"],
    [bytes(`###\n${good}%%%\nx`), "framing"],
    [bytes(`###\n${good}%%%\n10:1 8a104220,`), "signature"],
    [bytes(`###\n${good}%%%\n10:7 8a104220,`), "key-unknown"],
    [Buffer.concat([signed(good), bytes("\n")]), "framing"],
    [signed("013:(0)t=starting,"), "framing"],
    [signed("99999999999999999999:(0)t=x,"), "length"],
    [signed("999:(0)t=x,"), "length"],
    [signed(":(0)t=x,"), "framing"],
    [signed("6:(0)t=x;"), "framing"],
    [signed("3:t=x,"), "field"],
    [signed("6:(9)t=x,"), "field"],
    [signed("4:(0)t,"), "field"],
    [signed("5:(0)=x,"), "field"],
    [signed("8:(0)t=a\0b,"), "field"],
    [signed("8:(0)t=a\nb,"), "field"],
    [signed("8:(0)a b=x,"), "field"],
    [signed("10:(3)l=9:abc,"), "length"],
    [signed("6:(2)m=x,"), "framing"],
    [signed(good), "incomplete"],
    [signed("7:(0)a=bc,".repeat(300)), "length"],
  ];
  for (const [data, code] of cases) assert.equal(refused(data).code, code, JSON.stringify(text(data).slice(0, 60)));
  assert.equal(refused(new Uint8Array(256 * 1024)).code, "length");
});

test("codec: nesting is bounded", () => {
  let nested = new HaMessage([]);
  let raw = "";
  for (let depth = 0; depth < 40; depth++) {
    nested = new HaMessage([{ name: "m", type: 2, value: nested }]);
    raw = text(encodeNetstring(bytes(`(2)m=###\n${raw}%%%\n`)));
  }
  assert.equal(refused(signed(raw)).code, "length");
});

test("compression: unpacked with a bound, and only with a decompressor", () => {
  const datagram = (payload: Uint8Array, algorithm = "zlib"): Uint8Array => {
    const wrapper = new HaMessage([
      { name: "_compressed_payload", type: 1, value: payload },
      { name: "_compression_algorithm", type: 0, value: algorithm },
    ]);
    return signed(text(encodeNetstringBody(wrapper)).slice("###\n".length, -"%%%\n".length));
  };
  const packed = deflateSync(encodeClassic(message));
  const decoded = decodeDatagram(datagram(packed), CRC, { inflate });
  assert.ok(!("refusal" in decoded));
  assert.deepEqual(decoded.message, message);
  assert.equal(refused(datagram(packed)).code, "compression");
  assert.equal(refused(datagram(packed, "bz2"), CRC, { inflate }).code, "compression");
  assert.equal(refused(datagram(packed.subarray(0, 20)), CRC, { inflate }).code, "compression");
  const bomb = deflateSync(Buffer.alloc(3 * 1024 * 1024));
  assert.equal(refused(datagram(bomb), CRC, { inflate }).code, "compression");
  assert.equal(refused(signed("26:(1)_compressed_payload=abc,"), CRC, { inflate }).code, "compression");
});

test("fifo: messages in pieces, interleaved writers, noise", () => {
  const reader = new FifoReader();
  const standby = HaMessage.of("ask_resources", { rsc_hold: "all", info: "me" });
  const framed = encodeFifo(standby);
  assert.deepEqual(reader.push(framed.subarray(0, 9)), { messages: [], refusals: [] });
  assert.deepEqual(reader.push(framed.subarray(9)).messages, [standby]);
  const mixed = reader.push(bytes(">>>\nt=a\n>>>\nt=b\nx\n<<<\nnoise\n>>>\nt=c\n<<<\n"));
  assert.deepEqual(
    mixed.messages.map((m) => m.type),
    ["c"],
  );
  assert.equal(mixed.refusals.length, 3);
  assert.equal(reader.push(bytes(`>>>\nt=${"x".repeat(600)}\n<<<\n`)).refusals[0]?.code, "length");
  assert.deepEqual(reader.push(bytes(`${"y".repeat(5000)}\n`)).messages, []);
});

const anyMessage = fc
  .array(
    fc.record({
      name: fc.stringMatching(/^[a-z_]{1,12}$/),
      value: fc.oneof(fc.stringMatching(/^[ -~]{0,40}$/), fc.uint8Array({ maxLength: 40 })),
    }),
    { maxLength: 20 },
  )
  .map((fields) => {
    let built = message;
    for (const { name, value } of fields) {
      if (name === "auth" || built.has(name)) continue;
      built = typeof value === "string" ? built.with(name, value) : built.withBinary(name, Uint8Array.from(value));
    }
    return built;
  });

test("property: what is encoded is what is decoded, in both framings", () => {
  fc.assert(
    fc.property(anyMessage, (m) => {
      const decoded = decodeDatagram(encodeMessage(m, SHA1, "classic"), SHA1);
      assert.ok(!("refusal" in decoded));
      assert.deepEqual(decoded.message, m);
      const classic = decodeClassic(encodeClassic(m));
      assert.ok(!(classic instanceof Refusal));
      assert.deepEqual(classic.message, m);
    }),
    { numRuns: 100 },
  );
});

test("property: no bytes make the decoder throw, and nothing unsigned is accepted", () => {
  const fragments = [
    "###\n",
    ">>>\n",
    "%%%\n",
    "<<<\n",
    "13:(0)t=starting,",
    "10:1 8a104220,",
    "(2)m=",
    "9:",
    "\0",
    "=",
  ];
  const soup = fc
    .array(
      fc.oneof(
        fc.constantFrom(...fragments).map((f) => bytes(f)),
        fc.uint8Array({ maxLength: 30 }),
      ),
      { maxLength: 20 },
    )
    .map((parts) => Buffer.concat(parts));
  fc.assert(
    fc.property(soup, fc.constantFrom("", "###\n", ">>>\n"), (data, start) => {
      const result = decodeDatagram(Buffer.concat([bytes(start), data]), SHA1, { inflate });
      assert.ok("refusal" in result);
    }),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(soup, (data) => {
      const inside = decodeDatagram(signed(text(data)), CRC, { inflate });
      assert.ok("refusal" in inside || inside.message.type !== "");
      new FifoReader().push(data);
    }),
    { numRuns: 500 },
  );
});

test("property: a changed packet is refused", () => {
  const whole = encodeMessage(message, SHA1, "classic");
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const changed = Uint8Array.from(whole);
      changed[at] = changed[at]! ^ flip;
      assert.ok("refusal" in decodeDatagram(changed, SHA1));
    }),
    { numRuns: 300 },
  );
});
