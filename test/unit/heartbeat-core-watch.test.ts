import assert from "node:assert/strict";
import { test } from "node:test";
import type { ClusterConfig, MonitorPolicy, ServiceGroup } from "@hacluster/heartbeat/unstable/core/ports";
import { Harness, serviceGroup } from "../support/cluster-harness.ts";

/** What a hacluster peer says about itself with each message. */
function says(parts: Record<string, string> = {}): Record<string, string> {
  const all: Record<string, string> = {
    hold: "none",
    stable: "1",
    move: "none/none",
    saw: "64",
    failed: "none",
    peer: "alive",
    leaving: "0",
    ...parts,
  };
  return {
    hacluster: "1",
    hcstate: Object.entries(all)
      .map(([name, value]) => `${name}:${value}`)
      .join(","),
  };
}

/** nodo1 next to a scripted hacluster nodo2, stable; nodo1 runs its groups. */
function besideHacluster(overrides: Partial<ClusterConfig> = {}, pings: readonly string[] = []): Harness {
  const harness = new Harness("nodo1", overrides);
  for (const name of pings) harness.answering.add(name);
  harness.start();
  harness.peer("status", { st: "up", dt: "bb8", protocol: "1", ...says() });
  harness.advance(100);
  harness.peer("repnodes", { nodelist: "nodo1 nodo2 ", delnodelist: " ", ...says() });
  harness.peer("status", { st: "active", dt: "bb8", protocol: "1", ...says() });
  harness.alive(2000, "active", says());
  assert.equal(harness.engine.status(harness.nowMs).resources, "local");
  harness.take();
  harness.scripts.length = 0;
  return harness;
}

const IDS = "from_id=ipfail to_id=ipfail client_gen=0";
const FROM_IPFAIL = { from_id: "ipfail", to_id: "ipfail", client_gen: "0", dest: "nodo1" };
const PINGS: Partial<ClusterConfig> = { pingNodes: ["gw", "dns"], ipfail: true, autoFailback: "off" };

function monitored(policy: Partial<MonitorPolicy> = {}): ServiceGroup[] {
  const monitor = { intervalMs: 1000, timeoutMs: 2000, failures: 2, windowMs: 20_000, ...policy };
  return [serviceGroup("nodo1", "IPaddr2::192.168.0.29", "dummy::A", "dummy::B")].map((group) => ({
    ...group,
    resources: group.resources.map((resource) => ({ ...resource, monitor })),
  }));
}

test("ping: a node waits for its ping nodes before it becomes active, and counts them as heard or dead", () => {
  const harness = new Harness("nodo1", PINGS);
  harness.answering.add("gw");
  harness.start();
  harness.peer("status", { st: "active", dt: "bb8", protocol: "1", ...says() });
  harness.peer("repnodes", { nodelist: "nodo1 nodo2 ", delnodelist: " ", ...says() });
  harness.alive(2500, "active", says());
  assert.equal(harness.engine.status(harness.nowMs).nodes[0]?.status, "up", "dns may still answer");
  harness.alive(1000, "active", says());
  const status = harness.engine.status(harness.nowMs);
  assert.equal(status.nodes[0]?.status, "active");
  assert.deepEqual(
    status.pingNodes.map((node) => `${node.node} ${node.status}`),
    ["gw ping", "dns dead"],
  );
});

test("ipfail: losing a ping node asks the other side; told that it sees more, all is given after two keepalives", () => {
  const harness = besideHacluster(PINGS, ["gw", "dns"]);
  harness.answering.delete("dns");
  harness.alive(3500, "active", says());
  assert.deepEqual(harness.take(), [`num_ping_nodes num_ping=1 dest=nodo2 ${IDS}`]);
  harness.peer("you_are_dead", { ...FROM_IPFAIL, ...says() });
  harness.alive(900, "active", says());
  assert.deepEqual(harness.take(), [], "the other side may call it off");
  harness.alive(200, "active", says());
  assert.ok(harness.take().includes("ask_resources rsc_hold=all info=me"));
});

test("ipfail: balanced again in time, nothing is given up", () => {
  const harness = besideHacluster(PINGS, ["gw", "dns"]);
  harness.answering.delete("dns");
  harness.alive(3500, "active", says());
  harness.peer("you_are_dead", { ...FROM_IPFAIL, ...says() });
  harness.advance(400);
  harness.peer("abort_giveup", { ...FROM_IPFAIL, ...says() });
  harness.alive(5000, "active", says());
  assert.ok(!harness.take().some((line) => line.startsWith("ask_resources")));
});

test("ipfail: a count is answered: more here, as many, fewer", () => {
  const harness = besideHacluster(PINGS, ["gw", "dns"]);
  const ask = (count: string): string[] => {
    harness.peer("num_ping_nodes", { num_ping: count, ...FROM_IPFAIL, ...says() });
    return harness.take();
  };
  assert.deepEqual(ask("1"), [`you_are_dead dest=nodo2 ${IDS}`]);
  assert.deepEqual(ask("2"), [`abort_giveup dest=nodo2 ${IDS}`]);
  assert.deepEqual(ask("3"), [], "ours is the plan to give up");
  assert.deepEqual(ask("x"), []);
  harness.alive(1500, "active", says());
  assert.ok(harness.take().includes("ask_resources rsc_hold=all info=me"));
});

test("ipfail: a node that holds nothing gives nothing up; not configured, nothing is answered", () => {
  const idle = besideHacluster({ ...PINGS, groups: [serviceGroup("nodo2", "dummy::C")] }, ["gw", "dns"]);
  idle.engine.command(1, { kind: "standby", set: "all" }, idle.nowMs);
  const other = besideHacluster({ pingNodes: ["gw"] }, ["gw"]);
  other.peer("num_ping_nodes", { num_ping: "0", ...FROM_IPFAIL, ...says() });
  assert.deepEqual(other.take(), []);
});

test("monitor: nothing is looked at unless configured", () => {
  const harness = besideHacluster();
  harness.alive(10_000, "active", says());
  assert.deepEqual(harness.scripts, []);
});

test("monitor: a resource that died is started again, with what stands right of it, and nothing else", () => {
  const harness = besideHacluster({ groups: monitored() });
  harness.alive(1500, "active", says());
  const looked = ["IPaddr2::192.168.0.29 status", "dummy::A status", "dummy::B status"];
  assert.deepEqual([...new Set(harness.scripts)].sort(), looked);
  harness.scripts.length = 0;
  harness.running.delete("dummy::A");
  harness.alive(1500, "active", says());
  const restart = harness.scripts.filter((line) => !line.endsWith(" status"));
  assert.deepEqual(restart, ["dummy::B stop", "dummy::A stop", "dummy::A start", "dummy::B start"]);
  const [group] = harness.engine.status(harness.nowMs).groups;
  assert.equal(group?.state, "running");
  assert.equal(group?.failures, 1);
  assert.equal(harness.engine.status(harness.nowMs).resources, "local");
  harness.alive(21_000, "active", says());
  assert.equal(harness.engine.status(harness.nowMs).groups[0]?.failures, undefined, "forgotten after the window");
});

test("monitor: the configured failure moves the group, and it may return after the window", () => {
  const harness = besideHacluster({ groups: monitored() });
  for (let i = 0; i < 2; i++) {
    harness.running.delete("dummy::B");
    harness.alive(1500, "active", says());
  }
  assert.ok(harness.take().includes("ask_resources rsc_hold=local info=me"), "offered to the other node");
  assert.equal(harness.engine.status(harness.nowMs).groups[0]?.failedResource, "dummy::B");
  harness.alive(21_000, "active", says());
  assert.equal(harness.engine.status(harness.nowMs).groups[0]?.failedResource, undefined);
  assert.equal(harness.level("monitor.expired").length, 1);
});

test("monitor: alone, or with the threshold 0, a group is restarted for ever", () => {
  const alone = new Harness("nodo1", { groups: monitored() });
  alone.start();
  alone.advance(11_000);
  const never = besideHacluster({ groups: monitored({ failures: 0 }) });
  for (let i = 0; i < 5; i++) {
    alone.running.delete("dummy::B");
    alone.advance(1500);
    assert.equal(alone.engine.status(alone.nowMs).groups[0]?.state, "running");
    never.running.delete("dummy::B");
    never.alive(1500, "active", says());
    assert.equal(never.engine.status(never.nowMs).groups[0]?.state, "running");
  }
  assert.ok(!never.take().some((line) => line.startsWith("ask_resources")));
});

test("monitor: a status that does not answer counts as a failure and is aborted", () => {
  const harness = besideHacluster({ groups: monitored() });
  harness.behaviour = (action, resource) => (action === "status" && resource === "dummy::A" ? "hangs" : "well");
  harness.alive(3500, "active", says());
  assert.equal(harness.aborted.length > 0, true);
  assert.match(harness.level("monitor.failed")[0]?.text ?? "", /did not answer in time/);
});

test("monitor: a stop in the middle of a check is not held up by it", () => {
  const harness = besideHacluster({ groups: monitored() });
  harness.scriptMs = 300;
  harness.alive(1100, "active", says());
  harness.engine.command(1, { kind: "stop" }, harness.nowMs);
  harness.alive(3000, "active", says());
  assert.equal(harness.exit, "stop");
  assert.equal(harness.running.size, 0);
});

test("outdate-peer: the other node is asked, and its answer is the exit code", () => {
  const harness = besideHacluster();
  harness.engine.command(1, { kind: "outdate-peer", resource: "r0", timeoutMs: 5000 }, harness.nowMs);
  assert.deepEqual(harness.take(), ["hcoutdate dest=nodo2 resource=r0 token=64.1"]);
  harness.peer("hcoutdated", { dest: "nodo1", token: "63.1", result: "4", ...says() });
  assert.equal(harness.results.size, 0, "an answer to somebody else's question");
  harness.peer("hcoutdated", { dest: "nodo1", token: "64.1", result: "4", ...says() });
  assert.equal(harness.results.get(1)?.exitCode, 4);
  harness.engine.command(2, { kind: "outdate-peer", resource: "r0", timeoutMs: 5000 }, harness.nowMs);
  harness.peer("hcoutdated", { dest: "nodo1", token: "64.2", result: "6", ...says() });
  assert.deepEqual([harness.results.get(2)?.exitCode, harness.results.get(2)?.ok], [6, false]);
  harness.engine.command(3, { kind: "outdate-peer", resource: "r0", timeoutMs: 1000 }, harness.nowMs);
  harness.alive(1100, "active", says());
  assert.equal(harness.results.get(3)?.exitCode, 5, "no answer in time");
});

test("outdate-peer: our own copy at the other node's request", () => {
  const harness = besideHacluster();
  harness.peer("hcoutdate", { dest: "nodo1", resource: "r0", token: "7.1", ...says() });
  harness.peer("hcoutdate", { dest: "nodo1", resource: "", token: "7.2", ...says() });
  assert.deepEqual(harness.outdates, ["1 r0"]);
  harness.engine.outdateDone(1, 4, harness.nowMs);
  harness.engine.outdateDone(9, 4, harness.nowMs);
  assert.deepEqual(harness.take(), ["hcoutdated dest=nodo2 token=7.1 result=4"]);
});

test("outdate-peer: a dead peer is unreachable, a reset one fenced, a real Heartbeat cannot be asked", () => {
  const dead = besideHacluster();
  dead.advance(4000);
  dead.engine.command(1, { kind: "outdate-peer", resource: "r0", timeoutMs: 1000 }, dead.nowMs);
  assert.equal(dead.results.get(1)?.exitCode, 5);
  const fenced = besideHacluster({ fencing: true });
  fenced.advance(4000);
  fenced.engine.fenceDone(fenced.fences[0]!, "OK", "reset", fenced.nowMs);
  fenced.engine.command(1, { kind: "outdate-peer", resource: "r0", timeoutMs: 1000 }, fenced.nowMs);
  assert.equal(fenced.results.get(1)?.exitCode, 7);
  const real = new Harness("nodo1");
  real.start();
  real.peer("status", { st: "active", dt: "bb8", protocol: "1" });
  real.engine.command(1, { kind: "outdate-peer", resource: "r0", timeoutMs: 1000 }, real.nowMs);
  assert.deepEqual([real.results.get(1)?.exitCode, real.results.get(1)?.ok], [1, false]);
});

test("fencing: an administrator's confirmation ends the wait; what is waited for is in the status", () => {
  const harness = besideHacluster({ fencing: true });
  harness.engine.command(1, { kind: "fence-confirm", node: "nodo2" }, harness.nowMs);
  assert.equal(harness.results.get(1)?.ok, false, "nothing is waited for");
  harness.advance(4000);
  harness.engine.fenceDone(harness.fences[0]!, "badhost", "it resets only nodo7", harness.nowMs);
  assert.ok(harness.take().includes("stonith node=nodo2 result=badhost"));
  const { fencing } = harness.engine.status(harness.nowMs);
  assert.deepEqual([fencing?.node, fencing?.attempts, fencing?.text], ["nodo2", 1, "it resets only nodo7"]);
  harness.engine.command(2, { kind: "fence-confirm", node: "nodo1" }, harness.nowMs);
  assert.equal(harness.results.get(2)?.ok, false, "the wrong node");
  assert.equal(harness.running.has("dummy::C"), false);
  harness.engine.command(3, { kind: "fence-confirm", node: "nodo2" }, harness.nowMs);
  harness.advance(500);
  assert.equal(harness.results.get(3)?.ok, true);
  assert.equal(harness.running.has("dummy::C"), true);
  assert.equal(harness.engine.status(harness.nowMs).fencing, undefined);
});

for (const journal of [["IPaddr2::192.168.0.29"], []]) {
  const listed = journal.length > 0;
  test(`journal: next to a real node what ${listed ? "it lists goes on without a stop" : "no journal lists is stopped first"}`, () => {
    const harness = new Harness("nodo1", {}, journal);
    for (const name of ["IPaddr2::192.168.0.29", "dummy::A"]) harness.running.add(name);
    harness.start();
    harness.peer("status", { st: "active", dt: "bb8", protocol: "1" });
    harness.peer("repnodes", { nodelist: "nodo1 nodo2 ", delnodelist: " " });
    harness.alive(500);
    harness.peer("resource", { rsc_hold: "local", rtype: "full", isstable: "1" });
    harness.alive(2000);
    const stops = harness.scripts.filter((line) => line.endsWith(" stop"));
    assert.equal(stops.length > 0, !listed);
    assert.equal(harness.engine.status(harness.nowMs).holds, "local");
    assert.equal(harness.engine.status(harness.nowMs).groups[0]?.state, "running");
  });
}

test("journal: what a real node took meanwhile is stopped here, whatever the journal says", () => {
  const harness = new Harness("nodo1", {}, ["IPaddr2::192.168.0.29"]);
  for (const name of ["IPaddr2::192.168.0.29", "dummy::A"]) harness.running.add(name);
  harness.start();
  harness.peer("status", { st: "active", dt: "bb8", protocol: "1" });
  harness.peer("repnodes", { nodelist: "nodo1 nodo2 ", delnodelist: " " });
  harness.alive(500);
  harness.peer("resource", { rsc_hold: "all", rtype: "full", isstable: "1" });
  harness.alive(2000);
  assert.equal(harness.running.size, 0);
  assert.equal(harness.engine.status(harness.nowMs).holds, "none");
});
