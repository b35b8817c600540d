import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { isReflectedChallenge, verifyAuthResponse } from "@hacluster/blockrep/unstable/wire/auth";
import { BitmapReceiver, BitmapSender, ByteBitmap } from "@hacluster/blockrep/unstable/wire/bitmap-codec";
import { encodeHead, encodePacket } from "@hacluster/blockrep/unstable/wire/codec";
import { Command } from "@hacluster/blockrep/unstable/wire/constants";
import { headerLength } from "@hacluster/blockrep/unstable/wire/dialect";
import { digestAlgorithm } from "@hacluster/blockrep/unstable/wire/digest";
import { Framer } from "@hacluster/blockrep/unstable/wire/framer";
import type { Packet, PacketOf } from "@hacluster/blockrep/unstable/wire/packets";
import { formatState, unpackState } from "@hacluster/blockrep/unstable/wire/state-word";
import { type CapturedDirection, type CapturedPacket, follow, readDrbdCapture } from "../support/drbd-capture.ts";

const folder = fileURLToPath(new URL("../../../test/vectors/drbd", import.meta.url));
const names = readdirSync(folder).filter((name) => name.endsWith(".pcap"));
const cutCaptures = new Set(names.filter((name) => /^(14|26)-/.test(name)));
const captures = new Map(
  names.map((name) => [name, readDrbdCapture(join(folder, name), name.includes("integ") ? "crc32c" : "")]),
);

function capture(prefix: string): readonly CapturedDirection[] {
  const name = names.find((n) => n.startsWith(prefix));
  assert.ok(name !== undefined, `no capture ${prefix}`);
  return captures.get(name)!;
}

function packetsOf<K extends Packet["kind"]>(
  directions: readonly CapturedDirection[],
  ...kinds: K[]
): PacketOf<K>[] {
  return directions
    .flatMap((d) => d.packets)
    .map((p) => p.packet)
    .filter((p): p is PacketOf<K> => (kinds as string[]).includes(p.kind));
}

/** Kernels leave what was in memory in the padding of requests; ours is zero. */
function withoutPadding({ packet, bytes, dialect }: CapturedPacket): Uint8Array {
  const padded = ["P_DATA_REQUEST", "P_RS_DATA_REQUEST", "P_RS_THIN_REQ", "P_OV_REQUEST"].includes(packet.kind);
  if (!padded && packet.kind !== "P_OV_REPLY" && packet.kind !== "P_CSUM_RS_REQUEST") return bytes;
  const pad = headerLength(dialect) + 20;
  return Uint8Array.from(bytes).fill(0, pad, pad + 4);
}

for (const [name, directions] of captures) {
  test(`capture ${name}: every packet decodes, and encodes to the same bytes`, () => {
    let count = 0;
    for (const { packets, rest, cut, stream } of directions) {
      for (const captured of packets) {
        count++;
        const encoded = encodePacket(captured.packet, captured.dialect);
        assert.ok(
          Buffer.from(encoded).equals(withoutPadding(captured)),
          `${stream.source}>${stream.destination} packet ${count} ${captured.packet.kind}`,
        );
        const { head, data } = encodeHead(captured.packet, captured.dialect);
        assert.ok(Buffer.concat([head, data ?? new Uint8Array(0)]).equals(encoded));
      }
      if (cutCaptures.has(name)) continue;
      assert.ok(!cut && rest === 0, `${stream.source}>${stream.destination} ends with ${rest} undecoded bytes`);
      assert.ok(packets.length > 0);
    }
    assert.ok(count > 0);
  });

  test(`capture ${name}: the framer gives the same packets wherever the stream is cut`, () => {
    for (const direction of directions) {
      if (direction.cut) continue;
      const { stream } = direction;
      const sizes = stream.bytes.length < 20_000 ? [1, 7, 61] : [1461];
      for (const size of sizes) assert.deepEqual(reframe(direction, size), encodings(direction), `pieces of ${size}`);
    }
  });
}

/** Packets as text of their encodings: cheaper to compare than objects with megabytes in them. */
function encodings(direction: CapturedDirection): string[] {
  return direction.packets.map(({ packet, dialect }) => `${packet.kind} ${encode(packet, dialect)}`);
}

function encode(packet: Packet, dialect: CapturedPacket["dialect"]): string {
  return Buffer.from(encodePacket(packet, dialect)).toString("latin1");
}

function reframe(direction: CapturedDirection, size: number): string[] {
  const { bytes } = direction.stream;
  const framer = new Framer({ socket: direction.firstSocket, dialect: direction.firstDialect });
  const agreed = direction.packets.at(-1)!.dialect;
  const out: string[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    // a recycled receive buffer: nothing that was decoded from an earlier piece may change with it
    framer.push(bytes.slice(at, at + size));
    for (let dialect = framer.dialect, packet = framer.next(); packet !== undefined; packet = framer.next()) {
      out.push(`${packet.kind} ${encode(packet, dialect)}`);
      follow(framer, packet, agreed);
      dialect = framer.dialect;
    }
  }
  assert.equal(framer.midPacket, false);
  return out;
}

test("captures: they hold the packets that they are here for", () => {
  const seen = new Set([...captures.values()].flat().flatMap((d) => d.packets.map((p) => p.packet.kind)));
  // never seen on a wire: failing disks, congestion, thin resync, live reconfiguration, versions below 89, write-same
  const unseen = new Set<string>([
    ...["P_NEG_ACK", "P_NEG_DREPLY", "P_NEG_RS_DREPLY", "P_RS_CANCEL", "P_OUT_OF_SYNC", "P_RETRY_WRITE"],
    ...["P_RS_THIN_REQ", "P_RS_DEALLOCATED", "P_PROTOCOL_UPDATE", "P_SYNC_PARAM", "P_DELAY_PROBE", "P_WSAME"],
  ]);
  assert.deepEqual(
    Object.keys(Command).filter((kind) => !seen.has(kind as Packet["kind"])),
    Object.keys(Command).filter((kind) => unseen.has(kind)),
  );
});

test("captures: both header formats of version 99 appear, h80 alone in version 94", () => {
  const magics = (prefix: string) =>
    new Set(capture(prefix).flatMap((d) => d.packets.map((p) => `${p.bytes[0]!.toString(16)}${p.bytes[1]!.toString(16)}`)));
  assert.deepEqual([...magics("27-userspace-source-proto99")].sort(), ["835a", "8374"]);
  assert.deepEqual([...magics("27-userspace-source-proto94")], ["8374"]);
});

test("captures: each response of the authentication is the HMAC of the other side's challenge", () => {
  let checked = 0;
  for (const directions of captures.values()) {
    for (let i = 0; i + 1 < directions.length; i++) {
      const [a, b] = [directions[i]!, directions[i + 1]!];
      if (a.stream.source !== b.stream.destination || a.stream.destination !== b.stream.source) continue;
      for (const [asker, answerer] of [
        [a, b],
        [b, a],
      ] as const) {
        const [challenge] = packetsOf([asker], "P_AUTH_CHALLENGE");
        const [response] = packetsOf([answerer], "P_AUTH_RESPONSE");
        if (challenge === undefined || response === undefined) continue;
        checked++;
        assert.ok(verifyAuthResponse("sha1", "123", challenge.challenge, response.response));
        assert.ok(!verifyAuthResponse("sha1", "124", challenge.challenge, response.response));
        assert.ok(!isReflectedChallenge(challenge.challenge, packetsOf([answerer], "P_AUTH_CHALLENGE")[0]!.challenge));
      }
    }
  }
  assert.ok(checked >= 12, `${checked} responses`);
});

test("captures: the integrity digest is the standard CRC-32C, little-endian", () => {
  const crc32c = digestAlgorithm("crc32c")!;
  const writes = packetsOf(capture("17-writes-integ"), "P_DATA");
  assert.ok(writes.length > 0);
  for (const write of writes) assert.deepEqual(crc32c.digest(write.data), Uint8Array.from(write.digest!));
});

test("captures: the digests of the checksum resync are the md5 of the blocks that follow", () => {
  const directions = capture("18-");
  const replies = packetsOf(directions, "P_RS_DATA_REPLY");
  const requests = packetsOf(directions, "P_CSUM_RS_REQUEST");
  assert.equal(replies.length, 1);
  const md5 = digestAlgorithm("md5")!;
  const asked = requests.find((r) => r.sector === replies[0]!.sector)!;
  assert.equal(asked.digest.length, md5.lengthBytes);
  assert.notDeepEqual(md5.digest(replies[0]!.data), Buffer.from(asked.digest), "it was sent because it differed");
});

test("captures: verify finds block 321, and its results say so", () => {
  const different = packetsOf(capture("09-"), "P_OV_RESULT").filter((p) => p.idLow === 4712);
  assert.deepEqual(
    different.map((p) => [p.sector, p.sizeBytes, p.idHigh]),
    [[321 * 8, 4096, 0]],
  );
});

test("captures: bitmaps decode to the recorded runs, and our encoder makes the same packets", () => {
  let transfers = 0;
  for (const [name, directions] of captures) {
    if (cutCaptures.has(name)) continue;
    for (const direction of directions) {
      const sent = direction.packets.filter((p) => /BITMAP$/.test(p.packet.kind));
      if (sent.length === 0) continue;
      transfers++;
      const dialect = sent[0]!.dialect;
      const bitmap = new ByteBitmap(bitCountOf(name));
      const receiver = new BitmapReceiver(bitmap, dialect);
      const packets = sent.map((p) => p.packet);
      for (const packet of packets) {
        assert.ok(packet.kind === "P_BITMAP" || packet.kind === "P_COMPRESSED_BITMAP");
        receiver.receive(packet);
      }
      assert.ok(receiver.done, `${name} ${direction.stream.source}`);
      const useRle = packets[0]!.kind === "P_COMPRESSED_BITMAP";
      const sender = new BitmapSender(bitmap, { volume: packets[0]!.volume, dialect, useRle });
      for (const packet of packets) {
        assert.equal(encode(sender.next()!, dialect), encode(packet, dialect), `${name} ${direction.stream.source}`);
      }
      assert.equal(sender.next(), undefined);
    }
  }
  assert.ok(transfers >= 12, `${transfers} transfers`);
});

/** r0 has 16304 usable sectors; r1 of scenario 23 and the device of scenario 27 have 2048. */
function bitCountOf(name: string): number {
  return /^2[37]-/.test(name) ? 256 : 2038;
}

test("captures: every state word is a known state; the first two of a connection are the documented ones", () => {
  const words = [...captures.values()].flat().flatMap((d) => packetsOf([d], "P_STATE").map((p) => p.state));
  for (const word of words) assert.doesNotThrow(() => formatState(unpackState(word)));
  const first = packetsOf([capture("01-")[0]!], "P_STATE").map((p) => p.state.toString(16));
  assert.deepEqual(first, ["c882", "88aa"]);
});
