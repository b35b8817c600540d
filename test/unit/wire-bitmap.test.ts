import assert from "node:assert/strict";
import { test } from "node:test";
import { HaError } from "@hacluster/blockrep/base";
import { BitmapReceiver, BitmapSender, ByteBitmap } from "@hacluster/blockrep/unstable/wire/bitmap-codec";
import type { Dialect } from "@hacluster/blockrep/unstable/wire/dialect";
import type { BitmapPacket, CompressedBitmapPacket } from "@hacluster/blockrep/unstable/wire/packets";
import { VliReader, VliWriter, vliLength } from "@hacluster/blockrep/unstable/wire/vli";
import fc from "fast-check";

const V101: Dialect = { version: 101, features: 0x0f, integrityDigestLength: 0 };

function send(bitmap: ByteBitmap, useRle = true, dialect = V101): (BitmapPacket | CompressedBitmapPacket)[] {
  const sender = new BitmapSender(bitmap, { volume: 0, dialect, useRle });
  const out: (BitmapPacket | CompressedBitmapPacket)[] = [];
  for (let packet = sender.next(); packet !== undefined; packet = sender.next()) out.push(packet);
  assert.ok(sender.done);
  return out;
}

function receive(packets: readonly (BitmapPacket | CompressedBitmapPacket)[], bitCount: number, dialect = V101) {
  const bitmap = new ByteBitmap(bitCount);
  const receiver = new BitmapReceiver(bitmap, dialect);
  packets.forEach((packet, i) => {
    assert.equal(receiver.receive(packet), i === packets.length - 1, `complete after packet ${i}`);
  });
  return bitmap;
}

/** Lengths of alternating runs; the first is of clear bits. */
function fromRuns(runs: readonly number[]): ByteBitmap {
  const bitmap = new ByteBitmap(runs.reduce((a, b) => a + b, 0));
  let bit = 0;
  runs.forEach((run, i) => {
    if (i % 2 === 1) bitmap.setRange(bit, bit + run);
    bit += run;
  });
  return bitmap;
}

function compressed(hex: string): CompressedBitmapPacket {
  const bytes = Buffer.from(hex, "hex");
  return { kind: "P_COMPRESSED_BITMAP", volume: 0, encoding: bytes[0]!, code: bytes.subarray(1) };
}

test("bitmap: three transfers recorded from kernels", () => {
  for (const [hex, runs] of [
    ["b23fc506", [0, 2038]],
    ["423f10809fc102", [321, 1, 1716]],
    ["62df4c7e48029ff4fda75e00", [100, 3, 597, 1, 259, 16, 1062]],
  ] as const) {
    const bitmap = fromRuns(runs);
    assert.deepEqual(receive([compressed(hex)], 2038).bytes, bitmap.bytes);
    const packets = send(bitmap);
    assert.equal(packets.length, 1);
    const [packet] = packets;
    assert.ok(packet?.kind === "P_COMPRESSED_BITMAP");
    assert.equal(Buffer.from([packet.encoding, ...packet.code]).toString("hex"), hex);
  }
});

test("bitmap: a transfer of any map arrives whole, in every dialect, compressed or not", () => {
  const runs = fc.array(
    fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 40_000 })),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(
      runs,
      fc.boolean(),
      fc.boolean(),
      fc.constantFrom(86, 90, 99, 101),
      (lengths, first, useRle, version) => {
        const dialect = { ...V101, version };
        const bitmap = fromRuns(first ? [0, ...lengths] : lengths);
        const packets = send(bitmap, useRle, dialect);
        assert.deepEqual(receive(packets, bitmap.bitCount, dialect).bytes, bitmap.bytes);
        if (!useRle || version < 90) assert.ok(packets.every((p) => p.kind === "P_BITMAP"));
        const last = packets.at(-1)!;
        if (packets.at(-2)?.kind === "P_BITMAP" || packets.length === 1) {
          assert.ok(last.kind === "P_COMPRESSED_BITMAP" || last.words.length === 0, "plain transfers end with nothing");
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("bitmap: noise does not compress: it goes plain, and the rest is compressed again", () => {
  const bitCount = 200_000;
  const bitmap = new ByteBitmap(bitCount);
  for (let bit = 0; bit < 30_000; bit += 2) bitmap.setRange(bit, bit + 1);
  bitmap.setRange(150_000, 160_000);
  const packets = send(bitmap);
  assert.equal(packets[0]!.kind, "P_BITMAP");
  assert.equal(packets.at(-1)!.kind, "P_COMPRESSED_BITMAP", "the transfer ends in the bit stream, without terminator");
  assert.ok(packets.filter((p) => p.kind === "P_BITMAP").every((p) => p.words.length === 4080));
  assert.deepEqual(receive(packets, bitCount).bytes, bitmap.bytes);
});

test("bitmap: a plain piece behind a compressed one starts at the word and repeats a few bits", () => {
  // long runs fill one packet up to a bit that is no word border, then noise to the end
  const lengths: number[] = [];
  for (let i = 0; i < 2600; i++) lengths.push(50 + (i % 3)); // 14 bits of code each: a packet holds 2330 of them
  for (let i = 0; i < 40_000; i++) lengths.push(1 + (i % 2));
  const bitmap = fromRuns(lengths);
  const packets = send(bitmap);
  assert.equal(packets[0]!.kind, "P_COMPRESSED_BITMAP");
  assert.ok(packets.some((p) => p.kind === "P_BITMAP"));
  assert.deepEqual(receive(packets, bitmap.bitCount).bytes, bitmap.bytes);
});

test("bitmap: plain packets hold 510 words with h100 headers, 511 with shorter ones", () => {
  const bitmap = new ByteBitmap(64 * 1200);
  const sizes = (version: number) =>
    send(bitmap, false, { ...V101, version }).map((p) => (p.kind === "P_BITMAP" ? p.words.length / 8 : -1));
  assert.deepEqual(sizes(101), [510, 510, 180, 0]);
  assert.deepEqual(sizes(99), [511, 511, 178, 0]);
});

test("bitmap: a device without a block has an empty transfer", () => {
  const packets = send(new ByteBitmap(0));
  assert.deepEqual(
    packets.map((p) => p.kind),
    ["P_BITMAP"],
  );
  receive(packets, 0);
});

test("bitmap: bits behind the end are ignored", () => {
  const words = new Uint8Array(16).fill(0xff);
  const bitmap = new ByteBitmap(70);
  const receiver = new BitmapReceiver(bitmap, V101);
  receiver.receive({ kind: "P_BITMAP", volume: 0, words });
  assert.equal(bitmap.findNext(0, false), 70);
  assert.deepEqual([...bitmap.bytes.subarray(8)], [0x3f, 0, 0, 0, 0, 0, 0, 0]);
});

test("bitmap: received bits are added to those that are there", () => {
  const bitmap = fromRuns([5, 1, 2032]);
  new BitmapReceiver(bitmap, V101).receive(compressed("423f10809fc102"));
  assert.ok(bitmap.has(5) && bitmap.has(321) && !bitmap.has(6));
});

test("bitmap: a peer that does not keep to the rules is refused", () => {
  const take = (bitCount: number, ...packets: (BitmapPacket | CompressedBitmapPacket)[]) => {
    const receiver = new BitmapReceiver(new ByteBitmap(bitCount), V101);
    return () => {
      for (const packet of packets) receiver.receive(packet);
    };
  };
  const plain = (bytes: number): BitmapPacket => ({ kind: "P_BITMAP", volume: 0, words: new Uint8Array(bytes) });
  const refused = (reason: string, text: RegExp) => (error: unknown) =>
    error instanceof HaError &&
    error.code === "HA_WIRE_BAD_PACKET" &&
    error.details["reason"] === reason &&
    text.test(error.message);
  assert.throws(take(2038, plain(248)), refused("wrong-length", /248 bytes where 256/));
  assert.throws(take(2038, plain(264)), refused("wrong-length", /disagree about the size/));
  assert.throws(take(2038, plain(0)), refused("wrong-length", /0 bytes where 256/), "an early end");
  assert.throws(take(2038, plain(256), plain(0), plain(0)), refused("bad-value", /after the end/));
  assert.throws(take(2038, compressed("b23fc506"), plain(0)), refused("bad-value", /after the end/));
  assert.throws(take(2037, compressed("b23fc506")), refused("bad-value", /longer than the device/));
  assert.throws(take(2038, compressed("b33fc506")), refused("bad-value", /code 3/));
  assert.throws(take(2038, compressed("b23fc5")), refused("bad-value", /no end/));
  assert.throws(take(2038, compressed("02ffffffffffffffffff")), refused("bad-value", /no end|longer/));
});

test("bitmap: no code crashes the receiver", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 2, maxLength: 60 }),
      fc.integer({ min: 0, max: 5000 }),
      (bytes, bitCount) => {
        const receiver = new BitmapReceiver(new ByteBitmap(bitCount), V101);
        const encoding = (bytes[0]! & 0xf0) | 2;
        try {
          receiver.receive({ kind: "P_COMPRESSED_BITMAP", volume: 0, encoding, code: bytes.subarray(1) });
        } catch (error) {
          assert.ok(error instanceof HaError, String(error));
        }
      },
    ),
    { numRuns: 1000 },
  );
});

test("vli: the borders of the levels", () => {
  const borders = [1, 2, 3, 4, 5, 8, 9, 16, 17, 48, 49, 304, 305, 8496, 8497, 2105648, 2105649];
  assert.deepEqual(borders.map(vliLength), [2, 2, 3, 3, 5, 5, 7, 7, 10, 10, 14, 14, 21, 21, 29, 29, 42]);
  assert.equal(vliLength(2105648 + 2 ** 34), 42);
  assert.equal(vliLength(2105649 + 2 ** 34), 64);
});

test("vli: every value comes back, wherever it stands in the stream", () => {
  const value = fc.oneof(
    fc.integer({ min: 1, max: 400 }),
    fc.integer({ min: 1, max: 2 ** 22 }),
    fc.integer({ min: 2 ** 32, max: 2 ** 36 }),
    fc.maxSafeNat().map((n) => Math.max(1, n)),
  );
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 30 }), (values) => {
      const bytes = new Uint8Array(300);
      const writer = new VliWriter(bytes);
      for (const v of values) assert.ok(writer.write(v));
      assert.equal(
        writer.lengthBits,
        values.reduce((sum, v) => sum + vliLength(v), 0),
      );
      const reader = new VliReader(bytes, writer.lengthBits);
      for (const v of values) assert.equal(reader.read(), v);
      assert.ok(reader.atEnd);
    }),
  );
});

test("vli: a value that does not fit leaves the stream as it was", () => {
  const writer = new VliWriter(new Uint8Array(2));
  assert.ok(writer.write(100)); // 14 bits
  assert.ok(!writer.write(3));
  assert.ok(writer.write(2));
  assert.ok(!writer.write(1));
  assert.equal(writer.lengthBits, 16);
});
