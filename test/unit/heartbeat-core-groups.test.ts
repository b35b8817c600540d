import assert from "node:assert/strict";
import { test } from "node:test";
import { failbackObstacle, replicatedResources } from "@hacluster/heartbeat/unstable/core/failback";
import type { DrbdFacts } from "@hacluster/heartbeat/unstable/core/ports";
import { saysRunning } from "@hacluster/heartbeat/unstable/core/service-group";
import { Harness, serviceGroup } from "../support/cluster-harness.ts";

const ONE = [serviceGroup("nodo1", "a", "b", "c")];

/** A node that is alone: it takes everything after initdead. */
function alone(behaviour?: Harness["behaviour"], overrides = {}): Harness {
  const harness = new Harness("nodo1", { groups: ONE, ...overrides });
  if (behaviour !== undefined) harness.behaviour = behaviour;
  harness.start();
  harness.advance(9900);
  harness.scripts.length = 0;
  harness.advance(3000);
  return harness;
}

function groupState(harness: Harness): string | undefined {
  return harness.engine.status(harness.nowMs).groups[0]?.state;
}

test("status: the text decides", () => {
  for (const text of ["running", "Running", "OK", "it is OK now", "usage: … running …", "active (running)"])
    assert.equal(saysRunning(text), true, text);
  for (const text of ["", "stopped", "not running", "Not Running", "is OK but not running", "inactive (dead)"])
    assert.equal(saysRunning(text), false, text);
});

test("group: starts left to right, each after its status, and skips what runs", () => {
  const harness = alone();
  assert.deepEqual(harness.scripts, ["a status", "a start", "b status", "b start", "c status", "c start"]);
  assert.equal(groupState(harness), "running");
});

test("group: what an earlier life left running is adopted when the other node is dead", () => {
  const harness = new Harness("nodo1", { groups: ONE });
  harness.running.add("a").add("b").add("c");
  harness.start();
  harness.advance(13_000);
  assert.equal(harness.level("resources.leftover").length, 1);
  assert.ok(harness.scripts.every((line) => line.endsWith("status")));
  assert.equal(groupState(harness), "running");
});

test("group: a failing start stops everything, also what never started, and stays down until told", () => {
  const harness = alone((action, resource) => (action === "start" && resource === "b" ? "fails" : "well"));
  assert.deepEqual(harness.scripts.slice(2), ["b status", "b start", "c stop", "b stop", "a stop"]);
  assert.equal(groupState(harness), "failed");
  assert.equal(harness.engine.status(harness.nowMs).groups[0]?.failedResource, "b");
  harness.behaviour = () => "well";
  harness.advance(5000);
  assert.equal(groupState(harness), "failed");
  harness.engine.command(1, { kind: "start" }, harness.nowMs);
  harness.advance(1000);
  assert.equal(groupState(harness), "running");
});

test("group: a failing stop is tried eleven times, then nothing is announced and the process stays", () => {
  const harness = alone();
  harness.behaviour = (action, resource) => (action === "stop" && resource === "b" ? "fails" : "well");
  harness.scripts.length = 0;
  harness.take();
  harness.engine.command(1, { kind: "stop" }, harness.nowMs);
  harness.advance(15_000);
  assert.equal(harness.scripts.filter((line) => line === "b stop").length, 11);
  assert.equal(harness.scripts.at(-1), "b status");
  assert.equal(groupState(harness), "stop-failed");
  assert.equal(harness.engine.status(harness.nowMs).holds, "local", "the empty set of the other node is released");
  assert.ok(!harness.take().includes("shutdone st=dead"));
  assert.equal(harness.exit, undefined);
  assert.equal(harness.results.get(1)?.ok, false);
  harness.behaviour = () => "well";
  harness.engine.command(2, { kind: "stop" }, harness.nowMs);
  harness.advance(5000);
  assert.equal(harness.exit, "stop");
  assert.equal(harness.results.get(2)?.ok, true);
});

test("group: a stop that fails on what is not running is passed over", () => {
  const harness = alone();
  harness.behaviour = (action, resource) => (action === "stop" && resource === "b" ? "fails" : "well");
  harness.running.delete("b");
  harness.engine.command(1, { kind: "stop" }, harness.nowMs);
  harness.advance(20_000);
  assert.equal(harness.exit, "stop");
});

test("group: a hanging start is aborted and counts as failed, even when the driver never reports its end", () => {
  const harness = alone((action, resource) => (action === "start" && resource === "b" ? "hangs" : "well"));
  harness.advance(3000);
  assert.equal(harness.aborted.length, 1);
  harness.advance(11_000);
  assert.equal(groupState(harness), "failed");
});

test("fencing: nothing is taken before a reset has succeeded; a failed one is tried again", () => {
  const harness = alone(undefined, { fencing: true });
  assert.equal(harness.fences.length, 1);
  assert.deepEqual(harness.scripts, []);
  harness.engine.fenceDone(harness.fences[0]!, "bad", "no answer", harness.nowMs);
  harness.advance(4000);
  assert.equal(harness.fences.length, 1);
  harness.advance(1500);
  assert.equal(harness.fences.length, 2);
  harness.engine.fenceDone(harness.fences[0]!, "OK", "late answer of the first", harness.nowMs);
  assert.deepEqual(harness.scripts, []);
  harness.engine.fenceDone(harness.fences[1]!, "OK", "reset", harness.nowMs);
  harness.advance(1000);
  assert.equal(groupState(harness), "running");
});

test("failback: says what it waits for", () => {
  const groups = [serviceGroup("nodo1", "IPaddr2::10.0.0.1", "drbddisk::r0", "drbdupper::r1")];
  assert.deepEqual(replicatedResources(groups), ["r0", "r1"]);
  const well: DrbdFacts = { role: "Primary", localDisk: "UpToDate", peerDisk: "UpToDate", connected: true };
  const facts = new Map([
    ["r0", well],
    ["r1", well],
  ]);
  assert.equal(failbackObstacle(groups, facts), undefined);
  assert.equal(failbackObstacle([serviceGroup("nodo1", "apache2")], new Map()), undefined);
  const cases: [DrbdFacts | undefined, RegExp][] = [
    [undefined, /state of r0 is not known/],
    [{ ...well, connected: false }, /r0 is not connected/],
    [{ ...well, peerDisk: "Inconsistent" }, /r0 on the other node is Inconsistent/],
    [{ ...well, localDisk: "Diskless" }, /r0 on this node is Diskless/],
  ];
  for (const [known, text] of cases) {
    const some = new Map(facts);
    if (known === undefined) some.delete("r0");
    else some.set("r0", known);
    assert.match(failbackObstacle(groups, some) ?? "", text);
  }
});
