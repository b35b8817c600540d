import assert from "node:assert/strict";
import { test } from "node:test";
import { HaError, InvariantError } from "@hacluster/blockrep/base";
import {
  checkHeader,
  decodeHeader,
  decodePacket,
  encodedHeadLength,
  encodeHead,
  encodeHeadInto,
  encodePacket,
  type Header,
  LAYOUTS,
} from "@hacluster/blockrep/unstable/wire/codec";
import { Command, type PacketKind } from "@hacluster/blockrep/unstable/wire/constants";
import {
  type Dialect,
  headerLength,
  INITIAL_DIALECT,
  negotiate,
  OWN_OFFER,
} from "@hacluster/blockrep/unstable/wire/dialect";
import type { Packet } from "@hacluster/blockrep/unstable/wire/packets";
import fc from "fast-check";
import { ALL_KINDS, anyDialect, anyPacket, WRITE } from "../support/packets.ts";

const V101: Dialect = { version: 101, features: 0x0f, integrityDigestLength: 0 };

function decode(bytes: Uint8Array, dialect: Dialect): Packet {
  const header = decodeHeader(bytes, 0, dialect);
  return decodePacket(header, bytes.subarray(headerLength(dialect)), dialect);
}

/** The error must be an HaError of this code and reason, whose text is a sentence for people. */
function refused(reason: string, code = "HA_WIRE_BAD_PACKET") {
  return (error: unknown): boolean => {
    assert.ok(error instanceof HaError, String(error));
    assert.equal(error.code, code);
    assert.equal(error.details["reason"], reason);
    assert.ok(error.message.length > 20);
    return true;
  };
}

test("codec: every packet of every dialect comes back as it was sent", () => {
  fc.assert(
    fc.property(
      anyDialect.chain((dialect) => fc.tuple(fc.constant(dialect), anyPacket(dialect))),
      ([dialect, packet]) => {
        const bytes = encodePacket(packet, dialect);
        assert.deepEqual(decode(bytes, dialect), packet);
        assert.deepEqual(encodePacket(decode(bytes, dialect), dialect), bytes);
      },
    ),
    { numRuns: 400 },
  );
});

test("codec: the fixed parts have the catalogue's lengths", () => {
  const lengths = (kinds: PacketKind[], dialect: Dialect) =>
    kinds.map((kind) => [LAYOUTS[kind].minLength(dialect), LAYOUTS[kind].maxLength(dialect)]);
  assert.deepEqual(lengths(["P_SIZES"], V101), [[56, 56]]);
  assert.deepEqual(lengths(["P_SIZES"], { ...V101, features: 0x0b }), [[32, 32]]);
  assert.deepEqual(lengths(["P_SYNC_PARAM89"], { ...V101, version: 95 }), [[148, 148]]);
  assert.deepEqual(lengths(["P_SYNC_PARAM89"], { ...V101, version: 94 }), [[132, 132]]);
  assert.deepEqual(lengths(["P_SYNC_PARAM"], { ...V101, version: 88 }), [[5, 68]]);
  assert.deepEqual(lengths(["P_SYNC_PARAM"], { ...V101, version: 87 }), [[4, 4]]);
  assert.deepEqual(lengths(["P_PROTOCOL"], { ...V101, version: 86 }), [[24, 24]]);
  assert.deepEqual(lengths(["P_PROTOCOL", "P_UUIDS", "P_CONNECTION_FEATURES"], V101), [
    [25, 88],
    [48, 48],
    [72, 72],
  ]);
  const integrity = { ...V101, integrityDigestLength: 4 };
  assert.deepEqual(lengths(["P_DATA", "P_TRIM", "P_WRITE_ACK"], integrity), [
    [28, 28 + 1024 * 1024],
    [28, 28],
    [24, 24],
  ]);
  assert.deepEqual(lengths(["P_BITMAP", "P_COMPRESSED_BITMAP"], V101), [
    [0, 4080],
    [2, 4080],
  ]);
});

test("codec: header formats follow version and length", () => {
  const hex = (packet: Packet, version: number) =>
    Buffer.from(encodePacket(packet, { version, features: 0, integrityDigestLength: 0 }).subarray(0, 16)).toString(
      "hex",
    );
  const small = { ...WRITE, data: new Uint8Array(512) };
  const large = { ...WRITE, data: new Uint8Array(32768) };
  assert.match(hex(small, 94), /^8374026700000218/);
  assert.match(hex(large, 94), /^8374026700008018/, "up to 94 there is no other header");
  assert.match(hex(small, 99), /^8374026700000218/);
  assert.match(hex(large, 99), /^835a000000008018/);
  assert.match(hex({ ...large, volume: 3 }, 100), /^8620ec20000300000000801800000000/);
  assert.equal(hex({ kind: "P_PING", volume: 0 }, 101), "8620ec20000000130000000000000000");
});

test("codec: encodeHead leaves the data where it is", () => {
  const { head, data } = encodeHead(WRITE, V101);
  assert.equal(data, WRITE.data);
  assert.equal(head.length, 16 + 24);
  assert.equal(encodedHeadLength(WRITE, V101), head.length);
  assert.equal(encodeHead({ kind: "P_PING", volume: 0 }, V101).data, undefined);
  assert.equal(encodeHead({ kind: "P_BITMAP", volume: 0, words: new Uint8Array(0) }, V101).data, undefined);
});

test("codec: encodeHeadInto zeroes the padding of a dirty buffer and touches nothing else", () => {
  const slab = new Uint8Array(100).fill(0xaa);
  const request: Packet = {
    kind: "P_RS_DATA_REQUEST",
    volume: 0,
    sector: 8,
    idHigh: 4294967295,
    idLow: 4294967295,
    sizeBytes: 4096,
  };
  const length = encodeHeadInto(request, V101, slab, 10);
  assert.equal(length, 40);
  assert.deepEqual(slab.subarray(10, 50), encodePacket(request, V101));
  assert.ok(slab.subarray(0, 10).every((b) => b === 0xaa) && slab.subarray(50).every((b) => b === 0xaa));
  assert.deepEqual([...slab.subarray(46, 50)], [0, 0, 0, 0]);
});

test("codec: decoded byte fields are views, not copies", () => {
  const bytes = encodePacket(WRITE, V101);
  const packet = decode(bytes, V101);
  assert.ok(packet.kind === "P_DATA");
  assert.equal(packet.data.buffer, bytes.buffer);
});

test("codec: block ids and barrier numbers are echoed byte for byte", () => {
  const barrier = Buffer.from("8620ec20000000030000000800000000" + "0500000000000000", "hex");
  const packet = decode(barrier, V101);
  assert.ok(packet.kind === "P_BARRIER" && packet.barrier === 5);
  const ack = encodePacket({ kind: "P_BARRIER_ACK", volume: 0, barrier: packet.barrier, setSize: 3 }, V101);
  assert.equal(Buffer.from(ack.subarray(16)).toString("hex"), "0500000000000003");
});

test("codec: refuses bytes that start no packet", () => {
  const magic = refused("bad-magic", "HA_WIRE_BAD_MAGIC");
  const ping = (version: number) => encodePacket({ kind: "P_PING", volume: 0 }, { ...V101, version });
  assert.throws(() => decodeHeader(Buffer.from("GET / HTTP/1.1\r\n"), 0, V101), magic);
  assert.throws(() => decodeHeader(Buffer.from("GET / HTTP/1.1\r\n"), 0, INITIAL_DIALECT), magic);
  assert.throws(() => decodeHeader(Buffer.concat([ping(99), ping(99)]), 0, V101), magic, "h80 after h100 was agreed");
  assert.throws(() => decodeHeader(ping(101), 0, INITIAL_DIALECT), magic, "h100 before it was agreed");
});

test("codec: refuses a header whose padding is not zero", () => {
  const bytes = encodePacket({ kind: "P_PING", volume: 0 }, V101);
  bytes[15] = 1;
  assert.throws(() => decodeHeader(bytes, 0, V101), refused("bad-pad"));
});

test("codec: refuses packet types that 8.4 does not have", () => {
  for (const command of [0x05, 0x06, 0x25, 0x2e, 0x35, 0x37, 0x99, 0xfff0, 0xffff]) {
    const bytes = encodePacket({ kind: "P_PING", volume: 0 }, V101);
    bytes[6] = command >> 8;
    bytes[7] = command & 0xff;
    assert.throws(() => decodeHeader(bytes, 0, V101), refused("unknown-command"));
  }
});

test("codec: each packet is accepted on its own socket and refused on the others", () => {
  const meta = new Set(
    ALL_KINDS.filter((k) => /ACK$|REPLY$|PING|SUPERSEDED|RS_IS_IN_SYNC|RS_CANCEL|OV_RESULT|RETRY_WRITE/.test(k)),
  );
  for (const kind of ["P_DATA_REPLY", "P_RS_DATA_REPLY", "P_OV_REPLY"] as const) meta.delete(kind);
  meta.add("P_NEG_DREPLY").add("P_NEG_RS_DREPLY");
  for (const kind of ALL_KINDS) {
    const header: Header = { kind, volume: 0, length: LAYOUTS[kind].minLength(V101) };
    const at = (["first", "data", "meta"] as const).filter((socket) => {
      try {
        checkHeader(header, socket, V101);
        return true;
      } catch (error) {
        return !refused("wrong-socket")(error);
      }
    });
    const expected = kind.startsWith("P_INITIAL")
      ? ["first"]
      : kind === "P_DELAY_PROBE"
        ? ["data", "meta"]
        : [meta.has(kind) ? "meta" : "data"];
    assert.deepEqual(at, expected, kind);
  }
});

test("codec: each packet one byte too short or too long is refused before its payload is read", () => {
  for (const kind of ALL_KINDS) {
    const layout = LAYOUTS[kind];
    const [min, max] = [layout.minLength(V101), layout.maxLength(V101)];
    const socket = layout.sockets[0]!;
    for (const length of [min - 1, max + 1, 0xffffffff]) {
      if (length < 0) continue;
      assert.throws(() => checkHeader({ kind, volume: 0, length }, socket, V101), refused("wrong-length"), kind);
    }
    checkHeader({ kind, volume: 0, length: max }, socket, V101);
  }
});

test("codec: refuses data that is not whole sectors, bitmap that is not whole words", () => {
  const data: Header = { kind: "P_DATA", volume: 0, length: 24 + 511 };
  assert.throws(() => decodePacket(data, new Uint8Array(24 + 511), V101), refused("wrong-length"));
  const words: Header = { kind: "P_BITMAP", volume: 0, length: 12 };
  assert.throws(() => decodePacket(words, new Uint8Array(12), V101), refused("wrong-length"));
});

test("codec: refuses sectors, sizes and counts above 2^53-1", () => {
  const huge = [0x00, 0x20, 0, 0, 0, 0, 0, 0];
  for (const [kind, at] of [
    ["P_DATA", 0],
    ["P_WRITE_ACK", 0],
    ["P_RS_DATA_REQUEST", 0],
    ["P_TRIM", 0],
    ["P_OUT_OF_SYNC", 0],
    ["P_SIZES", 0],
    ["P_SIZES", 8],
    ["P_SIZES", 16],
    ["P_UUIDS", 32],
  ] as const) {
    const payload = new Uint8Array(LAYOUTS[kind].minLength(V101));
    payload.set(huge, at);
    const header: Header = { kind, volume: 0, length: payload.length };
    assert.throws(() => decodePacket(header, payload, V101), refused("bad-value"), kind);
    payload.set([0x00, 0x1f, 255, 255, 255, 255, 255, 255], at);
    decodePacket(header, payload, V101);
  }
});

test("codec: refuses algorithm names without an end, with strange bytes, with something behind them", () => {
  const protocol = (tail: string) => {
    const payload = Buffer.concat([new Uint8Array(24), Buffer.from(tail, "latin1")]);
    return () => decodePacket({ kind: "P_PROTOCOL", volume: 0, length: payload.length }, payload, V101);
  };
  protocol("crc32c\0")();
  protocol("\0")();
  assert.throws(protocol("crc32c"), refused("bad-value"));
  assert.throws(protocol("crc\n32c\0"), refused("bad-value"));
  assert.throws(protocol("\xff\0"), refused("bad-value"));
  assert.throws(protocol("md5\0md5\0"), refused("bad-value"));
  const endless = new Uint8Array(148).fill(0x61);
  const header: Header = { kind: "P_SYNC_PARAM89", volume: 0, length: 148 };
  assert.throws(() => decodePacket(header, endless, V101), refused("bad-value"));
});

test("codec: what is behind a name in a padded field does not matter", () => {
  const bytes = new Uint8Array(148).fill(0xff);
  bytes.set(Buffer.from("md5\0"), 4);
  bytes.set(Buffer.from("\0"), 68);
  const packet = decodePacket({ kind: "P_SYNC_PARAM89", volume: 0, length: 148 }, bytes, V101);
  assert.ok(packet.kind === "P_SYNC_PARAM89");
  assert.deepEqual([packet.verifyAlg, packet.csumsAlg], ["md5", ""]);
});

test("codec: does not send what the dialect cannot carry", () => {
  const v99 = { ...V101, version: 99 };
  const v94 = { ...V101, version: 94 };
  assert.throws(() => encodePacket({ kind: "P_STATE", volume: 1, state: 0 }, v99), InvariantError);
  assert.throws(() => encodePacket({ ...WRITE, data: new Uint8Array(65536) }, v94), InvariantError);
  assert.throws(() => encodePacket({ ...WRITE, data: new Uint8Array(1024 * 1024 + 512) }, V101), InvariantError);
  assert.throws(() => encodePacket({ ...WRITE, digest: new Uint8Array(4) }, V101), InvariantError);
  assert.throws(() => encodePacket(WRITE, { ...V101, integrityDigestLength: 4 }), InvariantError);
  assert.throws(() => encodePacket({ ...WRITE, sector: 2 ** 53 }, V101), InvariantError);
  assert.throws(() => encodePacket({ ...WRITE, sector: -1 }, V101), InvariantError);
  const challenge = new Uint8Array(63);
  assert.throws(() => encodePacket({ kind: "P_AUTH_CHALLENGE", volume: 0, challenge }, V101), InvariantError);
});

test("codec: every command number belongs to one packet", () => {
  assert.equal(new Set(Object.values(Command)).size, ALL_KINDS.length);
  for (const kind of ALL_KINDS) assert.equal(LAYOUTS[kind].command, Command[kind]);
});

test("negotiate: takes the lower maximum and the common features", () => {
  const offer = (protocolMin: number, protocolMax: number, featureFlags = 0x0f) => ({
    protocolMin,
    protocolMax,
    featureFlags,
  });
  assert.deepEqual(negotiate(OWN_OFFER, offer(86, 101)), V101);
  assert.deepEqual(negotiate(OWN_OFFER, offer(86, 97, 3)), { version: 97, features: 3, integrityDigestLength: 0 });
  assert.equal(negotiate(OWN_OFFER, offer(90, 0))?.version, 90, "no maximum means the minimum");
  assert.equal(negotiate(OWN_OFFER, offer(110, 121)), undefined, "DRBD 9 only");
  assert.equal(negotiate(OWN_OFFER, offer(80, 85)), undefined);
});
