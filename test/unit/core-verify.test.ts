import assert from "node:assert/strict";
import { test } from "node:test";
import type { EngineEvent } from "@hacluster/blockrep/unstable/core/ports";
import { ConnState } from "@hacluster/blockrep/unstable/wire/state-word";
import type { EngineNode, NodeOptions } from "../support/engine-node.ts";
import { EnginePair } from "../support/engine-pair.ts";

const md5: NodeOptions = { net: { verifyAlg: "md5" }, engine: { handlers: ["out-of-sync"] } };

const eventsOf = <T extends EngineEvent["type"]>(node: EngineNode, type: T): Extract<EngineEvent, { type: T }>[] =>
  node.events.filter((e): e is Extract<EngineEvent, { type: T }> => e.type === type);

const verifies = (pair: EnginePair): boolean =>
  pair.nodes.some((n) => n.snapshot.conn === ConnState.VerifyS || n.snapshot.conn === ConnState.VerifyT);

function finish(pair: EnginePair): void {
  assert.ok(verifies(pair));
  pair.until(() => !verifies(pair), "verify ends on both sides");
}

test("verify of equal disks finds nothing, from either side", () => {
  for (const side of ["a", "b"] as const) {
    const pair = EnginePair.connected(md5);
    pair.done(pair.a.write(100, 300, 7));
    pair.must(pair[side], { verb: "verify" });
    finish(pair);
    for (const node of pair.nodes) {
      assert.equal(node.volume.outOfSyncBlocks, 0);
      assert.deepEqual(node.handlerCalls, []);
      const [end] = eventsOf(node, "verify-end");
      assert.deepEqual([end?.done, end?.outOfSyncBlocks, end?.blocks], [true, 0, 2038]);
    }
    assert.ok(pair.inSync);
  }
});

test("verify marks, reports and calls out-of-sync on both sides; reconnecting repairs", () => {
  const pair = EnginePair.connected(md5);
  pair.done(pair.a.write(321 * 8, 8, 7));
  for (const sector of [321 * 8, 600 * 8, 601 * 8 + 3]) pair.b.disks[0]?.fill(0x55, sector * 512, sector * 512 + 512);
  pair.must(pair.a, { verb: "verify" });
  finish(pair);
  for (const node of pair.nodes) {
    assert.equal(node.volume.outOfSyncBlocks, 3);
    assert.deepEqual(node.handlerCalls, ["out-of-sync"]);
    assert.deepEqual(
      eventsOf(node, "verify-out-of-sync").map(({ sector, sectors }) => [sector, sectors]),
      [
        [321 * 8, 8],
        [600 * 8, 16],
      ],
    );
  }
  assert.ok(pair.inSync, "nothing is repaired yet");
  pair.must(pair.a, { verb: "disconnect" });
  pair.must(pair.a, { verb: "connect" });
  pair.until(() => pair.inSync, "in sync");
  assert.deepEqual(pair.b.data, pair.a.data);
});

test("verify under writes of the application finds no difference that is none", () => {
  for (const side of ["a", "b"] as const) {
    for (const protocol of ["A", "B", "C"] as const) {
      const pair = EnginePair.connected({
        ...md5,
        net: { ...md5.net, protocol },
        devices: [4096],
        disk: { resyncRateKib: 2000 },
      });
      pair.must(pair[side], { verb: "verify" });
      for (let i = 0; verifies(pair); i++) {
        const sector = (i * 97) % 3900;
        const writes = [pair.a.write(sector, 8, i % 251), pair.a.write(sector + 4, 16, i % 249)];
        pair.run(i % 7);
        for (const write of writes) pair.done(write);
      }
      pair.run(50);
      assert.equal(pair.a.volume.outOfSyncBlocks, 0, `${side} ${protocol}`);
      assert.deepEqual(pair.b.data, pair.a.data);
    }
  }
});

test("verify of a range; a difference outside of it stays unseen", () => {
  const pair = EnginePair.connected(md5);
  for (const sector of [8, 800, 1600]) pair.b.disks[0]?.fill(0x55, sector * 512, sector * 512 + 512);
  pair.must(pair.a, { verb: "verify", startSector: 804, stopSector: 1600 });
  finish(pair);
  assert.equal(pair.a.volume.outOfSyncBlocks, 1);
  assert.equal(eventsOf(pair.a, "verify-start")[0]?.startSector, 800);
  assert.equal(pair.a.sent.filter((p) => p.kind === "P_OV_REQUEST").length, 100);
});

test("verify that the link broke off goes on where it stopped", () => {
  const pair = EnginePair.connected({ ...md5, disk: { resyncRateKib: 4000 } });
  pair.must(pair.a, { verb: "verify" });
  pair.run(350);
  pair.reset();
  pair.until(() => pair.inSync, "connected again");
  const [end] = eventsOf(pair.a, "verify-end");
  assert.equal(end?.done, false);
  pair.must(pair.a, { verb: "verify" });
  const start = eventsOf(pair.a, "verify-start")[1]?.startSector ?? 0;
  assert.ok(start > 0 && start < 16304, `${start}`);
  finish(pair);
  pair.must(pair.a, { verb: "verify" });
  assert.equal(eventsOf(pair.a, "verify-start")[2]?.startSector, 0, "a complete one begins anew");
});

test("verify is refused without an algorithm, without a connection, and while another runs", () => {
  const none = EnginePair.connected({});
  assert.equal(none.ask(none.a, { verb: "verify" }).code, -14);
  const pair = EnginePair.connected({ ...md5, disk: { resyncRateKib: 2000 } });
  pair.must(pair.a, { verb: "verify" });
  assert.equal(pair.ask(pair.a, { verb: "verify" }).code, 2, "it runs already");
  assert.equal(pair.ask(pair.b, { verb: "verify" }).code, -8);
  pair.must(pair.a, { verb: "disconnect" });
  assert.equal(pair.ask(pair.a, { verb: "verify" }).code, -15);
});

test("verify reads a block that the peer cannot read as different", () => {
  const pair = EnginePair.connected({ ...md5, disk: { onIoError: "pass_on" } });
  pair.done(pair.a.write(0, 8, 9));
  pair.must(pair.a, { verb: "verify", stopSector: 8 });
  pair.b.failing = "read";
  finish(pair);
  assert.equal(pair.a.volume.outOfSyncBlocks, 1);
});
