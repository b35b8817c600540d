import assert from "node:assert/strict";
import { test } from "node:test";
import { UuidFlag } from "@hacluster/blockrep/unstable/wire/constants";
import type { UuidsPacket } from "@hacluster/blockrep/unstable/wire/packets";
import { ConnState, DiskState } from "@hacluster/blockrep/unstable/wire/state-word";
import { EnginePair, SYNCED } from "../support/engine-pair.ts";

const count = (kinds: readonly string[], kind: string): number => kinds.filter((k) => k === kind).length;

test("invalidate: the whole device comes from the peer, without an exchange of bitmaps (recorded: 15)", () => {
  const pair = EnginePair.connected();
  pair.done(pair.a.write(8, 8, 1));
  pair.b.disks[0]?.fill(0x55, 0, 4096 * 100);
  pair.must(pair.b, { verb: "invalidate" });
  const request = pair.b.sent.find((p) => p.kind === "P_STATE_CHG_REQ");
  assert.ok(request !== undefined && "mask" in request);
  assert.deepEqual([request.mask, request.value], [0x1f0, 0xc0]);
  pair.until(() => pair.inSync, "in sync");
  assert.deepEqual(pair.b.data, pair.a.data);
  for (const node of pair.nodes) {
    assert.equal(count(node.sentKinds, "P_BITMAP") + count(node.sentKinds, "P_COMPRESSED_BITMAP"), 0);
  }
  assert.equal(pair.a.volume.uuids.current & ~1n, pair.b.volume.uuids.current & ~1n);
});

test("invalidate-remote: the same from the other side", () => {
  const pair = EnginePair.connected();
  pair.b.disks[0]?.fill(0x55, 0, 4096 * 100);
  pair.must(pair.a, { verb: "invalidate-remote" });
  pair.until(() => pair.inSync, "in sync");
  assert.deepEqual(pair.b.data, pair.a.data);
});

test("invalidate on the Primary: it reads and writes through the peer meanwhile", () => {
  const pair = EnginePair.connected({ disk: { resyncRateKib: 4000 } });
  pair.done(pair.a.write(4096, 8, 9));
  pair.must(pair.a, { verb: "invalidate" });
  pair.until(() => pair.a.snapshot.conn === ConnState.SyncTarget, "target");
  const read = pair.a.read(4096, 8);
  pair.done(read);
  assert.deepEqual(read.data, new Uint8Array(4096).fill(9));
  pair.done(pair.a.write(8192, 8, 10));
  pair.until(() => pair.inSync, "in sync");
  assert.deepEqual(pair.b.data, pair.a.data);
});

test("invalidate without a connection marks the disk; the next contact copies everything", () => {
  const pair = EnginePair.connected();
  pair.must(pair.b, { verb: "disconnect" });
  pair.must(pair.b, { verb: "invalidate" });
  assert.equal(pair.b.volume.disk, DiskState.Inconsistent);
  assert.equal(pair.b.volume.outOfSyncBlocks, 2038);
  pair.must(pair.b, { verb: "connect" });
  pair.until(() => pair.inSync, "in sync");
});

test("invalidate is refused while a resync runs", () => {
  const pair = EnginePair.connected({ disk: { resyncRateKib: 400 } });
  pair.must(pair.b, { verb: "invalidate" });
  pair.run(200);
  assert.equal(pair.ask(pair.a, { verb: "invalidate" }).code < 1, true);
});

test("pause-sync on either side stops the requests, resume-sync on both lets them go on", () => {
  const pair = EnginePair.connected({ disk: { resyncRateKib: 2000 } });
  pair.must(pair.b, { verb: "invalidate" });
  pair.run(300);
  for (const node of pair.nodes) pair.must(node, { verb: "pause-sync" });
  pair.run(500);
  assert.deepEqual(
    pair.nodes.map((n) => n.snapshot.conn),
    [ConnState.PausedSyncS, ConnState.PausedSyncT],
  );
  const left = pair.b.volume.outOfSyncBlocks;
  pair.done(pair.a.write(8, 8, 3));
  pair.run(3000);
  assert.equal(pair.b.volume.outOfSyncBlocks, left);
  pair.must(pair.a, { verb: "resume-sync" });
  pair.run(1000);
  assert.equal(pair.b.snapshot.conn, ConnState.PausedSyncT, "the other side still holds it");
  pair.must(pair.b, { verb: "resume-sync" });
  pair.until(() => pair.inSync, "in sync");
  assert.deepEqual(pair.b.data, pair.a.data);
});

test("new-current-uuid --clear-bitmap on two new disks skips the initial sync (recorded: 25)", () => {
  const pair = new EnginePair({});
  for (const node of pair.nodes) node.createMd();
  pair.up();
  pair.until(() => pair.nodes.every((n) => n.snapshot.conn === ConnState.Connected), "connected");
  pair.a.sent.length = 0;
  pair.must(pair.a, { verb: "new-current-uuid", clearBitmap: true });
  pair.until(() => pair.inSync, "both UpToDate");
  const uuids = pair.a.sent.find((p): p is UuidsPacket => p.kind === "P_UUIDS");
  assert.equal((uuids?.flags ?? 0) & UuidFlag.SKIP_INITIAL_SYNC, UuidFlag.SKIP_INITIAL_SYNC);
  assert.equal(uuids?.bitmap, 4n);
  for (const node of pair.nodes) {
    assert.equal(node.volume.outOfSyncBlocks, 0);
    assert.equal(node.volume.uuids.bitmap, 0n);
    assert.equal(count(node.sentKinds, "P_RS_DATA_REPLY"), 0);
  }
  assert.equal(pair.a.volume.uuids.current & ~1n, pair.b.volume.uuids.current & ~1n);
  pair.run(10);
  assert.equal(pair.b.superblock().uuids.current & ~1n, pair.a.volume.uuids.current & ~1n, "on disk");
  pair.must(pair.a, { verb: "primary" });
  pair.done(pair.a.write(8, 8, 1));
  assert.notEqual(pair.a.volume.uuids.current, SYNCED.current);
});

test("disk-timeout: a disk that does not answer is given up, and the write succeeds on the peer's", () => {
  const pair = EnginePair.connected({ disk: { diskTimeoutMs: 1000 } });
  pair.run(5000);
  pair.done(pair.a.write(8, 8, 1));
  pair.a.holding = true;
  const write = pair.a.write(16, 8, 2);
  pair.run(500);
  assert.equal(write.errno, undefined);
  assert.equal(pair.a.volume.disk, DiskState.UpToDate);
  pair.run(2500);
  assert.equal(pair.a.volume.disk, DiskState.Diskless);
  pair.done(write);
  assert.deepEqual(pair.b.dataOf(16, 8), new Uint8Array(4096).fill(2));
});

test("disk-timeout 0: a slow disk is waited for", () => {
  const pair = EnginePair.connected();
  pair.a.holding = true;
  const write = pair.a.write(16, 8, 2);
  pair.run(30_000);
  assert.equal(pair.a.volume.disk, DiskState.UpToDate);
  pair.a.releaseIo();
  pair.done(write);
});
