import assert from "node:assert/strict";
import { test } from "node:test";
import { fenceVerdict } from "@hacluster/blockrep/unstable/core/fencing";
import { MdFlag } from "@hacluster/blockrep/unstable/meta/superblock";
import { ConnState, DiskState, Role } from "@hacluster/blockrep/unstable/wire/state-word";
import type { NodeOptions } from "../support/engine-node.ts";
import { EnginePair, SYNCED } from "../support/engine-pair.ts";

const HANDLERS = ["fence-peer", "unfence-peer"];
const only: NodeOptions = { disk: { fencing: "resource-only" }, engine: { handlers: HANDLERS } };
const stonith: NodeOptions = { disk: { fencing: "resource-and-stonith" }, engine: { handlers: HANDLERS } };

/** The link is cut until the Primary has noticed. */
function lose(pair: EnginePair): void {
  pair.setCut(true);
  pair.until(() => pair.a.snapshot.conn < ConnState.Connected, "the link is lost");
}

test("exit codes of fence-peer: 3 to 7 mean something, 5 only for the newest data", () => {
  assert.deepEqual(fenceVerdict(3, DiskState.UpToDate), { pdsk: DiskState.Inconsistent });
  assert.deepEqual(fenceVerdict(4, DiskState.Consistent), { pdsk: DiskState.Outdated });
  assert.deepEqual(fenceVerdict(5, DiskState.UpToDate), { pdsk: DiskState.Outdated });
  assert.equal(fenceVerdict(5, DiskState.Consistent), undefined);
  assert.deepEqual(fenceVerdict(6, DiskState.UpToDate), { disk: DiskState.Outdated });
  assert.deepEqual(fenceVerdict(7, DiskState.UpToDate), { pdsk: DiskState.Outdated });
  for (const code of [0, 1, 2, 8, 127]) assert.equal(fenceVerdict(code, DiskState.UpToDate), undefined);
});

test("resource-only: a Primary that loses its peer calls fence-peer and works on meanwhile", () => {
  const pair = EnginePair.connected(only);
  pair.a.handler = () => undefined;
  lose(pair);
  assert.deepEqual(pair.a.handlerCalls, ["fence-peer"]);
  assert.deepEqual(pair.b.handlerCalls, [], "the Secondary does not");
  pair.done(pair.a.write(8, 8, 1));
  pair.a.openHandlers.get("fence-peer")?.(4);
  pair.run(5);
  assert.equal(pair.a.volume.peerDisk, DiskState.Outdated);
  assert.ok((pair.a.superblock().flags & MdFlag.peerOutdated) !== 0, "also after a restart");
  assert.equal(pair.a.volume.uuids.bitmap & ~1n, SYNCED.current & ~1n, "a generation of its own");
});

test("resource-and-stonith: no I/O passes until the peer is fenced, then a new generation begins", () => {
  const pair = EnginePair.connected(stonith);
  pair.a.handler = () => undefined;
  pair.drop = (from, packet) => from === pair.a && packet.kind === "P_DATA";
  const under = pair.a.write(8, 8, 1);
  lose(pair);
  const later = pair.a.write(16, 8, 2);
  pair.run(5000);
  assert.equal(pair.a.snapshot.suspended.fencing, true);
  assert.deepEqual([under.errno, later.errno], [undefined, undefined]);
  assert.equal(pair.a.volume.uuids.bitmap, 0n, "nothing has happened that the peer must hear of");
  pair.a.openHandlers.get("fence-peer")?.(7);
  pair.done(under);
  pair.done(later);
  assert.equal(pair.a.snapshot.suspended.fencing, false);
  assert.equal(pair.a.volume.uuids.bitmap & ~1n, SYNCED.current & ~1n);
  assert.equal(
    pair.a.superblock().uuids.current,
    pair.a.volume.uuids.current,
    "on disk before the writes were complete",
  );
});

test("resource-and-stonith: a handler that fails leaves I/O frozen; resume-io is the administrator's word", () => {
  const pair = EnginePair.connected(stonith);
  pair.a.handler = () => 1;
  lose(pair);
  const write = pair.a.write(8, 8, 1);
  pair.run(20_000);
  assert.equal(write.errno, undefined);
  pair.must(pair.a, { verb: "resume-io" });
  pair.done(write);
  assert.notEqual(pair.a.volume.uuids.bitmap, 0n);
});

test("resource-and-stonith: a peer that comes back gets what was under way, and a late verdict is ignored", () => {
  const pair = EnginePair.connected(stonith);
  pair.a.handler = () => undefined;
  pair.drop = (from, packet) => from === pair.a && packet.kind === "P_DATA";
  const under = pair.a.write(8, 8, 1);
  lose(pair);
  pair.drop = () => false;
  pair.setCut(false);
  pair.done(under);
  pair.until(() => pair.inSync, "in sync");
  pair.a.openHandlers.get("fence-peer")?.(4);
  pair.run(10);
  assert.equal(pair.a.volume.peerDisk, DiskState.UpToDate);
  assert.deepEqual(pair.b.data, pair.a.data);
  assert.ok(pair.a.handlerCalls.includes("unfence-peer"), "the source lifts the fence when the resync is over");
});

test("resource-and-stonith: a peer that comes back with nothing under way is as good as before", () => {
  const pair = EnginePair.connected(stonith);
  pair.a.handler = () => undefined;
  lose(pair);
  pair.setCut(false);
  pair.until(() => pair.inSync, "connected");
  assert.equal(pair.a.snapshot.suspended.fencing, false);
  assert.equal(pair.a.volume.uuids.current & ~1n, SYNCED.current & ~1n);
});

test("a Secondary that leaves a fencing Primary is refused, and leaves outdated (recorded: 22)", () => {
  const pair = EnginePair.connected(only);
  pair.must(pair.b, { verb: "disconnect" });
  const requests = pair.b.sent.filter((p) => p.kind === "P_CONN_ST_CHG_REQ");
  assert.deepEqual(
    requests.map((p) => "mask" in p && [p.mask, p.value]),
    [
      [0x1f0, 0x10],
      [0x1ff0, 0xa10],
    ],
  );
  assert.deepEqual(
    pair.a.sent.filter((p) => p.kind === "P_CONN_ST_CHG_REPLY").map((p) => "retcode" in p && p.retcode),
    [-7, 1],
  );
  assert.equal(pair.b.volume.disk, DiskState.Outdated);
  pair.run(10);
  assert.equal(pair.a.volume.peerDisk, DiskState.Outdated);
  assert.deepEqual(pair.a.handlerCalls, [], "there is nothing left to fence");
  const promoted = pair.ask(pair.b, { verb: "primary" });
  assert.equal(promoted.code, -2, promoted.text);
  pair.done(pair.a.write(8, 8, 1));
  pair.must(pair.b, { verb: "connect" });
  pair.until(() => pair.inSync, "in sync");
  assert.deepEqual(pair.a.handlerCalls, ["unfence-peer"]);
});

test("a fencing Primary that leaves outdates its peer over the wire", () => {
  const pair = EnginePair.connected(only);
  pair.must(pair.a, { verb: "disconnect" });
  pair.run(10);
  assert.equal(pair.b.volume.disk, DiskState.Outdated);
  assert.equal(pair.a.volume.peerDisk, DiskState.Outdated);
  assert.equal(pair.ask(pair.b, { verb: "primary" }).code, -2);
});

test("outdate: nothing happens while connected, taken without a connection", () => {
  const pair = EnginePair.connected(only, false);
  assert.equal(pair.ask(pair.b, { verb: "outdate" }).code, 2);
  assert.equal(pair.b.volume.disk, DiskState.UpToDate);
  pair.must(pair.b, { verb: "disconnect" });
  pair.must(pair.b, { verb: "outdate" });
  assert.equal(pair.b.volume.disk, DiskState.Outdated);
});

test("promotion of a node that is alone fences first: only a verdict makes it Primary", () => {
  for (const [exitCode, becomes] of [
    [4, true],
    [5, true],
    [7, true],
    [3, true],
    [6, false],
    [1, false],
  ] as const) {
    const pair = EnginePair.connected(only, false);
    pair.b.handler = () => exitCode;
    pair.setCut(true);
    pair.until(() => pair.b.snapshot.conn < ConnState.Connected, "alone");
    const outcome = pair.ask(pair.b, { verb: "primary" });
    assert.equal(outcome.code === 1, becomes, `exit code ${exitCode}: ${outcome.code} ${outcome.text}`);
    assert.equal(pair.b.snapshot.role, becomes ? Role.Primary : Role.Secondary);
    if (exitCode === 6) assert.equal(pair.b.volume.disk, DiskState.Outdated, "the peer is the Primary");
  }
});

test("promotion by force overrules a handler that does not fence", () => {
  const pair = EnginePair.connected(only, false);
  pair.b.handler = () => 1;
  pair.setCut(true);
  pair.until(() => pair.b.snapshot.conn < ConnState.Connected, "alone");
  pair.must(pair.b, { verb: "primary", force: true });
});
