import assert from "node:assert/strict";
import { test } from "node:test";
import { MdFlag } from "@hacluster/blockrep/unstable/meta/superblock";
import { ConnState } from "@hacluster/blockrep/unstable/wire/state-word";
import type { NodeOptions } from "../support/engine-node.ts";
import { EnginePair, SYNCED } from "../support/engine-pair.ts";

/** `a` is Primary and has written blocks 0 to 19 while `b` was away; half of them are the same on `b` all the same. */
function behind(options: NodeOptions): EnginePair {
  const pair = EnginePair.connected(options);
  pair.must(pair.b, { verb: "disconnect" });
  for (let i = 0; i < 20; i++) {
    pair.done(pair.a.write(i * 16, 8, i + 1));
    if (i % 2 === 0) pair.b.disks[0]?.fill(i + 1, i * 16 * 512, (i * 16 + 8) * 512);
  }
  for (const node of pair.nodes) node.sent.length = 0;
  pair.must(pair.b, { verb: "connect" });
  pair.until(() => pair.inSync, "in sync");
  assert.deepEqual(pair.b.data, pair.a.data);
  assert.deepEqual(
    pair.nodes.map((n) => n.volume.outOfSyncBlocks),
    [0, 0],
  );
  return pair;
}

const count = (kinds: readonly string[], kind: string): number => kinds.filter((k) => k === kind).length;

test("csums-alg: only blocks whose digests differ are copied", () => {
  const pair = behind({ net: { csumsAlg: "md5" } });
  assert.equal(count(pair.b.sentKinds, "P_CSUM_RS_REQUEST"), 20);
  assert.equal(count(pair.a.sentKinds, "P_RS_IS_IN_SYNC"), 10);
  assert.equal(count(pair.a.sentKinds, "P_RS_DATA_REPLY"), 10);
  assert.equal(count(pair.b.sentKinds, "P_RS_WRITE_ACK"), 10);
});

test("csums-after-crash-only: an ordinary resync compares nothing", () => {
  const pair = behind({ net: { csumsAlg: "md5", csumsAfterCrashOnly: true } });
  assert.equal(count(pair.b.sentKinds, "P_CSUM_RS_REQUEST"), 0);
});

test("csums-after-crash-only: a crashed Primary that comes back as target compares", () => {
  const options: NodeOptions = { net: { csumsAlg: "md5", csumsAfterCrashOnly: true } };
  const pair = new EnginePair(options);
  pair.a.createMd({ uuids: { ...SYNCED, current: 0x1234n, bitmap: SYNCED.current } });
  const crashed = MdFlag.consistent | MdFlag.wasUpToDate | MdFlag.primaryIndicator | MdFlag.alClean;
  pair.b.createMd({ uuids: SYNCED, flags: crashed });
  const at = (pair.b.layouts[0]?.bitmapSector ?? 0) * 512;
  pair.b.disks[0]?.fill(0xff, at, at + 4);
  pair.up();
  pair.until(() => pair.inSync, "in sync");
  assert.ok(count(pair.b.sentKinds, "P_CSUM_RS_REQUEST") > 0);
});

test("csums-alg: a block that cannot be read here is asked for", () => {
  const pair = EnginePair.connected({ net: { csumsAlg: "md5" }, disk: { onIoError: "pass_on" } });
  pair.must(pair.b, { verb: "disconnect" });
  pair.done(pair.a.write(16, 8, 1));
  pair.b.failing = "read";
  pair.b.sent.length = 0;
  pair.must(pair.b, { verb: "connect" });
  pair.until(() => pair.inSync, "in sync");
  assert.equal(count(pair.b.sentKinds, "P_RS_DATA_REQUEST"), 1);
  assert.deepEqual(pair.b.data, pair.a.data);
});

test("csums-alg under writes of the application", () => {
  const pair = EnginePair.connected({ net: { csumsAlg: "crc32c" }, disk: { resyncRateKib: 800 } });
  pair.must(pair.b, { verb: "disconnect" });
  pair.done(pair.a.write(0, 1600, 1));
  pair.must(pair.b, { verb: "connect" });
  pair.until(() => pair.b.snapshot.conn === ConnState.SyncTarget, "a resync");
  for (let i = 0; !pair.inSync; i++) {
    const write = pair.a.write((i * 53) % 1600, 12, i % 251);
    pair.run(i % 5);
    pair.done(write);
  }
  pair.run(50);
  assert.deepEqual(pair.b.data, pair.a.data);
  assert.equal(pair.a.volume.outOfSyncBlocks, 0);
});

test("data-integrity-alg: data, replies and resync carry digests; a zero-out travels as data", () => {
  for (const dataIntegrityAlg of ["crc32c", "md5", "sha1"]) {
    const pair = behind({ net: { dataIntegrityAlg } });
    pair.a.sent.length = 0;
    pair.done(pair.a.write(8, 8, 1));
    pair.done(pair.a.zero(8, 4096));
    pair.run(20);
    assert.equal(count(pair.a.sentKinds, "P_ZEROES"), 0);
    assert.equal(count(pair.a.sentKinds, "P_DATA"), 3);
    assert.deepEqual(pair.b.data, pair.a.data);
  }
});

test("data-integrity-alg: a bit that flips on the way breaks the connection and not the disk", () => {
  const pair = EnginePair.connected({ net: { dataIntegrityAlg: "crc32c" } });
  let bent = false;
  pair.bend = (from, packet, encoded) => {
    if (bent || from !== pair.a || packet.kind !== "P_DATA") return encoded;
    bent = true;
    const copy = encoded.slice();
    copy[copy.length - 1] = (copy[copy.length - 1] as number) ^ 1;
    return copy;
  };
  const write = pair.a.write(8, 8, 1);
  pair.done(write);
  pair.until(() => pair.inSync && pair.b.events.some((e) => e.type === "network"), "in sync again");
  assert.ok(pair.b.events.some((e) => e.type === "network" && e.text.includes("Digest integrity check FAILED")));
  assert.deepEqual(pair.b.data, pair.a.data);
});

test("algorithms that differ are refused on both sides", () => {
  for (const net of [{ dataIntegrityAlg: "md5" }, { verifyAlg: "md5" }, { csumsAlg: "md5" }]) {
    const pair = new EnginePair({ net }, {});
    for (const node of pair.nodes) {
      node.createMd({ uuids: SYNCED });
      pair.must(node, { verb: "attach" });
      pair.must(node, { verb: "connect" });
    }
    pair.until(() => pair.nodes.some((n) => n.snapshot.conn === ConnState.StandAlone), "one gives up");
  }
});
