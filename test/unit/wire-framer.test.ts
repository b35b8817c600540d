import assert from "node:assert/strict";
import { test } from "node:test";
import { HaError, InvariantError } from "@hacluster/blockrep/base";
import { encodePacket } from "@hacluster/blockrep/unstable/wire/codec";
import { type Dialect, INITIAL_DIALECT, OWN_OFFER } from "@hacluster/blockrep/unstable/wire/dialect";
import { Framer } from "@hacluster/blockrep/unstable/wire/framer";
import type { SocketKind } from "@hacluster/blockrep/unstable/wire/layout";
import type { Packet } from "@hacluster/blockrep/unstable/wire/packets";
import fc from "fast-check";
import { ALL_KINDS, anyPacket, WRITE } from "../support/packets.ts";

const V101: Dialect = { version: 101, features: 0x0f, integrityDigestLength: 0 };
const PING: Packet = { kind: "P_PING", volume: 0 };

function drain(framer: Framer): Packet[] {
  const out: Packet[] = [];
  for (let packet = framer.next(); packet !== undefined; packet = framer.next()) out.push(packet);
  return out;
}

function dataKinds() {
  return ALL_KINDS.filter((kind) => !/^P_INITIAL|PING|BARRIER_ACK/.test(kind) && isOn(kind, "data"));
}

function isOn(kind: (typeof ALL_KINDS)[number], socket: SocketKind): boolean {
  const framer = new Framer({ socket, dialect: V101 });
  const [packet] = fc.sample(anyPacket(V101, [kind]), { numRuns: 1, seed: 1 });
  framer.push(encodePacket(packet!, V101));
  try {
    return framer.next() !== undefined;
  } catch {
    return false;
  }
}

test("framer: gives the same packets however the stream is cut", () => {
  fc.assert(
    fc.property(
      fc.array(anyPacket(V101, dataKinds()), { minLength: 1, maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 8 }),
      (packets, cuts) => {
        const stream = Buffer.concat(packets.map((p) => encodePacket(p, V101)));
        const framer = new Framer({ socket: "data", dialect: V101 });
        const out: Packet[] = [];
        for (let at = 0, i = 0; at < stream.length; i++) {
          const size = cuts[i % cuts.length]!;
          framer.push(Uint8Array.from(stream.subarray(at, at + size)));
          out.push(...drain(framer));
          at += size;
        }
        assert.deepEqual(out, packets);
        assert.equal(framer.midPacket, false);
      },
    ),
    { numRuns: 100 },
  );
});

test("framer: the header format changes behind the features, within one chunk", () => {
  const offer: Packet = { kind: "P_CONNECTION_FEATURES", volume: 0, ...OWN_OFFER };
  const framer = new Framer();
  framer.push(
    Buffer.concat([
      encodePacket({ kind: "P_INITIAL_DATA", volume: 0 }, INITIAL_DIALECT),
      encodePacket(offer, INITIAL_DIALECT),
      encodePacket({ kind: "P_STATE", volume: 2, state: 0xc882 }, V101),
    ]),
  );
  assert.equal(framer.next()?.kind, "P_INITIAL_DATA");
  framer.socket = "data";
  assert.deepEqual(framer.next(), offer);
  framer.dialect = V101;
  assert.deepEqual(framer.next(), { kind: "P_STATE", volume: 2, state: 0xc882 });
  assert.equal(framer.next(), undefined);
});

test("framer: a payload in one chunk is a view of it; one in many is copied once, into what allocate gave", () => {
  const bytes = encodePacket(WRITE, V101);
  const inPlace = new Framer({ socket: "data", dialect: V101 });
  inPlace.push(bytes);
  const whole = inPlace.next();
  assert.ok(whole?.kind === "P_DATA" && whole.data.buffer === bytes.buffer);

  const given: Uint8Array[] = [];
  const allocate = (length: number) => {
    given.push(new Uint8Array(length).fill(0x55));
    return given.at(-1)!;
  };
  const pieces = new Framer({ socket: "data", dialect: V101, allocate });
  pieces.push(bytes.slice(0, 1000));
  assert.equal(pieces.next(), undefined);
  pieces.push(bytes.slice(1000));
  const joined = pieces.next();
  assert.ok(joined?.kind === "P_DATA");
  assert.deepEqual(joined.data, WRITE.data);
  assert.equal(given.length, 1);
  assert.equal(joined.data.buffer, given[0]!.buffer);
});

test("framer: a socket can be read straight into the payload", () => {
  const bytes = encodePacket(WRITE, V101);
  const framer = new Framer({ socket: "data", dialect: V101 });
  assert.equal(framer.space, undefined);
  framer.push(bytes.slice(0, 100));
  assert.equal(framer.next(), undefined);
  for (let at = 100; at < bytes.length; ) {
    const space: Uint8Array = framer.space!;
    assert.equal(space.length, bytes.length - at);
    const part = Math.min(1500, space.length);
    space.set(bytes.subarray(at, at + part));
    framer.advance(part);
    at += part;
    if (at < bytes.length) assert.equal(framer.next(), undefined);
  }
  assert.deepEqual(framer.next(), WRITE);
  assert.equal(framer.space, undefined);
  assert.throws(() => framer.advance(1), InvariantError);
});

test("framer: a caller that stopped pulling goes on where it was, and may not push meanwhile", () => {
  const framer = new Framer({ socket: "meta", dialect: V101 });
  const two = Buffer.concat([encodePacket(PING, V101), encodePacket(PING, V101)]);
  framer.push(two);
  assert.deepEqual(framer.next(), PING);
  assert.equal(framer.unread, 16);
  assert.throws(() => framer.push(two), InvariantError);
  assert.deepEqual(framer.next(), PING);
  framer.push(two);
  assert.equal(drain(framer).length, 2);
});

test("framer: knows whether the end of the stream cuts a packet", () => {
  const framer = new Framer({ socket: "meta", dialect: V101 });
  assert.equal(framer.midPacket, false);
  framer.push(encodePacket(PING, V101).subarray(0, 5));
  assert.equal(framer.next(), undefined);
  assert.equal(framer.midPacket, true);
});

test("framer: reserves nothing for a payload that its packet type cannot have", () => {
  const allocate = () => assert.fail("nothing may be allocated");
  for (const [kind, length] of [
    [0x00, 24 + 1024 * 1024 + 512],
    [0x04, 0x7fffffff],
    [0x10, 129],
    [0x0e, 5],
    [0x1f, 24 + 65],
  ] as const) {
    const header = new Uint8Array(16);
    const view = new DataView(header.buffer);
    view.setUint32(0, 0x8620ec20);
    view.setUint16(6, kind);
    view.setUint32(8, length);
    const framer = new Framer({ socket: "data", dialect: V101, allocate });
    framer.push(header);
    assert.throws(
      () => framer.next(),
      (error) => error instanceof HaError && error.details["reason"] === "wrong-length",
    );
  }
});

test("framer: after a refusal the stream stays refused", () => {
  const framer = new Framer({ socket: "data", dialect: V101 });
  framer.push(Buffer.concat([encodePacket(PING, V101), encodePacket({ kind: "P_UNPLUG_REMOTE", volume: 0 }, V101)]));
  let first: unknown;
  try {
    framer.next();
  } catch (error) {
    first = error;
  }
  assert.ok(first instanceof HaError && first.details["reason"] === "wrong-socket");
  framer.push(encodePacket({ kind: "P_UNPLUG_REMOTE", volume: 0 }, V101));
  assert.throws(
    () => framer.next(),
    (error) => error === first,
  );
});

test("framer: the first packet of a socket can only say what the socket is for", () => {
  for (const packet of [{ kind: "P_CONNECTION_FEATURES", volume: 0, ...OWN_OFFER }, PING] as Packet[]) {
    const framer = new Framer();
    framer.push(encodePacket(packet, INITIAL_DIALECT));
    assert.throws(
      () => framer.next(),
      (error) => error instanceof HaError && error.details["reason"] === "wrong-socket",
    );
  }
});

test("framer: no bytes crash it, and it never reserves more than one packet's worth", () => {
  const magic = fc.constantFrom("83740267", "835a0000", "8620ec20", "");
  const length = fc.constantFrom("", "00000018", "00001018", "00100018", "ffffffff");
  fc.assert(
    fc.property(
      magic,
      fc.constantFrom("", ...Array.from({ length: 0x38 }, (_, i) => i.toString(16).padStart(8, "0"))),
      length,
      fc.constantFrom("", "00000000"),
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom<SocketKind>("first", "data", "meta"),
      fc.constantFrom(86, 89, 95, 99, 100, 101),
      (start, command, size, pad, rest, socket, version) => {
        let reserved = 0;
        const allocate = (bytes: number) => {
          reserved += bytes;
          return new Uint8Array(bytes);
        };
        const dialect = { version, features: 15, integrityDigestLength: 4 };
        const framer = new Framer({ socket, dialect, allocate });
        const stream = Buffer.concat([Buffer.from(start + command + size + pad, "hex"), rest]);
        try {
          for (let at = 0; at < stream.length; at += 50) {
            framer.push(stream.subarray(at, at + 50));
            drain(framer);
          }
        } catch (error) {
          assert.ok(error instanceof HaError, String(error));
        }
        assert.ok(reserved <= 2 * (28 + 1024 * 1024), `${reserved} bytes reserved for ${stream.length} received`);
      },
    ),
    { numRuns: 2000 },
  );
});
