import assert from "node:assert/strict";
import { test } from "node:test";
import { HaError, Prng } from "@hacluster/blockrep/base";
import { HaMessage } from "@hacluster/heartbeat/unstable/wire/message";
import { Harness, serviceGroup } from "../support/cluster-harness.ts";

/** A cluster of one engine and a scripted real Heartbeat, both stable, each with its own groups. */
function joined(overrides = {}): Harness {
  const harness = new Harness("nodo1", overrides);
  harness.start();
  harness.peer("status", { st: "up", dt: "bb8", protocol: "1" });
  harness.advance(100);
  harness.peer("repnodes", { nodelist: "nodo1 nodo2 ", delnodelist: " " });
  harness.peer("status", { st: "active", dt: "bb8", protocol: "1" });
  harness.peer("starting");
  harness.peer("resource", { rsc_hold: "none", rtype: "full", isstable: "0" });
  harness.peer("resource", { rsc_hold: "local", rtype: "full", isstable: "1" });
  harness.alive(3000);
  harness.take();
  harness.scripts.length = 0;
  return harness;
}

test("start: a `starting` that came too early is answered as soon as this node is active", () => {
  const harness = new Harness("nodo1");
  harness.start();
  harness.peer("status", { st: "active", dt: "bb8", protocol: "1" });
  harness.peer("starting");
  assert.deepEqual(harness.take(), ["reqnodes dest=nodo2"]);
  harness.advance(100);
  harness.peer("repnodes", { nodelist: "nodo1 nodo2 ", delnodelist: " " });
  harness.advance(50);
  assert.deepEqual(harness.take(), ["starting", "resource rsc_hold=none rtype=full isstable=0"]);
});

test("engine: whatever a peer with the key says, nothing is thrown and the next deadline is to come", () => {
  for (let seed = 0; seed < 20; seed++) {
    const prng = new Prng(seed);
    const harness = joined({ fencing: prng.chance(1, 2) });
    const types = [
      "status",
      "resource",
      "ask_resources",
      "starting",
      "shutdone",
      "hb_takeover",
      "reqnodes",
      "repnodes",
    ];
    const values = [
      "none",
      "local",
      "foreign",
      "all",
      "me",
      "other",
      "done",
      "1",
      "0",
      "full",
      "active",
      "dead",
      "ffff",
      "",
      "\u00ff",
    ];
    for (let i = 0; i < 200 && harness.restart === undefined; i++) {
      const own: Record<string, string> = {};
      for (const name of ["rsc_hold", "info", "isstable", "rtype", "st", "dt", "dest", "nodelist", "hcstate"])
        if (prng.chance(2, 3)) own[name] = prng.pick(values);
      if (prng.chance(1, 3)) own["hacluster"] = "1";
      if (prng.chance(1, 2))
        own["hcstate"] =
          `hold:${prng.pick(values)},stable:${prng.pick(values)},move:${prng.pick(["me", "other", "give", "done", "take", "none", "x"])}/${prng.pick(values)},saw:64,failed:none,peer:${prng.pick(["alive", "dead"])},leaving:0`;
      harness.peer(prng.pick([...types, "NS_rexmit", "NS_ackmsg", "NS_nak_rexmit", "whatever"]), own);
      harness.advance(prng.pick([1, 60, 700]));
      assert.ok(harness.engine.nextDeadline() > harness.nowMs);
    }
  }
});

test("engine: refuses a configuration that it cannot serve", () => {
  assert.throws(() => new Harness("nodo9"), HaError);
  assert.throws(() => new Harness("nodo1", { nodes: ["nodo1", "nodo2", "nodo3"] }), HaError);
});

test("start: init, up, up; the announced dead time has two seconds of grace, in hexadecimal", () => {
  const harness = new Harness("nodo2");
  harness.start();
  const first = harness.sent.slice();
  assert.deepEqual(
    first.map((message) => message.get("st")),
    ["init", "up", "up"],
  );
  assert.deepEqual(
    first.map((message) => [message.get("dt"), message.get("protocol"), message.get("hg"), message.get("seq")]),
    [
      ["1388", "1", "64", "1"],
      ["1388", "1", "64", "2"],
      ["1388", "1", "64", "3"],
    ],
  );
  assert.equal(first[0]?.decimal("ttl"), 3);
  harness.take(true);
  harness.advance(6000);
  assert.equal(harness.sent.at(-1)?.get("dt"), "bb8");
});

test("start: alone it waits for initdead, then takes everything", () => {
  const harness = new Harness("nodo1");
  harness.start();
  harness.advance(9900);
  assert.equal(harness.engine.status(harness.nowMs).holds, "none");
  harness.advance(1000);
  assert.equal(harness.engine.status(harness.nowMs).holds, "all");
  assert.equal(harness.level("fence.unconfigured").length, 1);
});

test("start: a peer with other nodes is a mistake in a configuration, and is not obeyed", () => {
  const harness = new Harness("nodo1");
  harness.start();
  harness.peer("status", { st: "up", dt: "bb8", protocol: "1" });
  harness.peer("repnodes", { nodelist: "nodo2 nodo3 ", delnodelist: "nodo1 " });
  harness.advance(100);
  assert.equal(harness.level("config.mismatch").length, 1);
  assert.equal(harness.engine.status(harness.nowMs).nodes[0]?.status, "active");
});

test("start: `starting` and `reqnodes` are always answered", () => {
  const harness = joined();
  harness.peer("reqnodes", { dest: "nodo1" });
  assert.deepEqual(harness.take(), ["repnodes dest=nodo2 nodelist=nodo1 nodo2  delnodelist= "]);
  assert.equal(harness.sent.length, 0);
  harness.peer("starting");
  assert.deepEqual(harness.take(), ["resource rsc_hold=local rtype=full isstable=1"]);
});

test("death: after the time that the peer announced, not our own", () => {
  const harness = joined();
  harness.peer("status", { st: "active", dt: "1770", protocol: "1" });
  harness.advance(5900);
  assert.equal(harness.level("node.dead").length, 0);
  harness.advance(200);
  assert.equal(harness.level("node.dead").length, 1);
  assert.equal(harness.engine.status(harness.nowMs).holds, "all");
});

test("death: from warntime on blockrep is asked to ping the peer", () => {
  const groups = [serviceGroup("nodo1", "drbddisk::r0"), serviceGroup("nodo2", "drbddisk::r1")];
  const harness = joined({ groups });
  harness.advance(1000);
  assert.deepEqual(harness.pings, []);
  harness.advance(1500);
  assert.deepEqual(harness.pings, ["r0", "r1"]);
});

test("shutdone: taken over at once; the silence after it is no death to be fenced", () => {
  const harness = joined({ fencing: true });
  harness.peer("resource", { rsc_hold: "none", rtype: "full", isstable: "0", info: "shutdown" });
  harness.advance(100);
  assert.equal(harness.engine.status(harness.nowMs).holds, "local", "not before the last stop");
  harness.peer("shutdone", { st: "dead" });
  harness.advance(1000);
  assert.equal(harness.engine.status(harness.nowMs).holds, "all");
  assert.ok(harness.running.has("dummy::C"));
  harness.advance(5000);
  assert.equal(harness.fences.length, 0);
});

test("stall: a process that slept through its dead time is silent, releases, and asks for a new generation", () => {
  const harness = joined();
  harness.advance(3000);
  harness.take(true);
  harness.nowMs += 3100;
  harness.engine.tick(harness.nowMs);
  harness.advance(2000);
  assert.deepEqual(harness.take(true), []);
  assert.equal(harness.level("own.stall").length, 1);
  assert.equal(harness.restart?.reason.startsWith("own stall"), true);
  assert.equal(harness.running.size, 0);
});

test("sleep: a node that wakes up hears first and judges then", () => {
  const harness = joined();
  harness.nowMs += 2900;
  harness.engine.tick(harness.nowMs);
  assert.equal(harness.level("node.dead").length, 0);
});

test("sequence: duplicates, gaps, requests, late packets, refusals", () => {
  const harness = joined();
  const status = { st: "active", dt: "bb8", protocol: "1" };
  harness.peer("status", status, { seq: 100 });
  harness.advance(300);
  const asked = harness.take(true).filter((line) => line.startsWith("NS_rexmit"));
  assert.ok(asked.length > 0 && asked.every((line) => /^NS_rexmit dest=nodo2 firstseq=(\d+) lastseq=\1$/.test(line)));
  const missing = (): number => harness.engine.status(harness.nowMs).counters["packetsMissing"] ?? -1;
  const before = missing();
  harness.peer("status", status, { seq: 99 });
  assert.equal(missing(), before - 1);
  harness.peer("status", status, { seq: 99 });
  assert.equal(missing(), before - 1);
  assert.equal(harness.engine.status(harness.nowMs).counters["duplicates"], 1);
  harness.feed(HaMessage.of("NS_nak_rexmit", { dest: "nodo1", firstseq: "62", src: "nodo2", hg: "7", ts: "1" }));
  assert.equal(missing(), before - 2);
  harness.peer("status", status, { seq: 1000 });
  assert.equal(missing(), 0, "too many to ask for");
});

test("sequence: requests are answered with the same numbers, acknowledged ones are not kept", () => {
  const harness = joined();
  harness.take(true);
  const request = (firstseq: string, lastseq: string): void =>
    harness.feed(HaMessage.of("NS_rexmit", { dest: "nodo1", firstseq, lastseq, src: "nodo2", hg: "7", ts: "1" }));
  request("3", "3");
  assert.equal(harness.sent.splice(0)[0]?.get("seq"), "3");
  request("3", "3");
  assert.equal(harness.sent.length, 0, "not twice within a quarter of a second");
  request("900", "999");
  request("5", "2");
  request("x", "y");
  assert.equal(harness.sent.length, 0);
  harness.feed(HaMessage.of("NS_ackmsg", { dest: "nodo1", ackseq: "4", src: "nodo2", hg: "7", ts: "1" }));
  harness.advance(300);
  harness.take(true);
  request("3", "3");
  assert.equal(harness.sent.length, 0, "it said that it has it");
});

test("strangers: nothing but a counter changes, and nothing is thrown", () => {
  const harness = joined();
  const view = (): string => JSON.stringify({ ...harness.engine.status(harness.nowMs), counters: 0 });
  const before = view();
  const status = { st: "active", dt: "1", protocol: "1" };
  harness.peer("status", status, { src: "nodo3" });
  harness.peer("status", status, { hg: "0" });
  harness.peer("shutdone", { st: "dead" }, { hg: "6" });
  harness.peer("shutdone", { st: "dead" }, { seq: 1 });
  harness.feed(new HaMessage([]));
  harness.feed(HaMessage.of("status", { src: "nodo2" }));
  assert.equal(view(), before);
  assert.ok((harness.engine.status(harness.nowMs).counters["messagesRefused"] ?? 0) >= 3);
  assert.ok((harness.engine.status(harness.nowMs).counters["replays"] ?? 0) >= 2);
  assert.equal(harness.take(true).length, 0);
});

test("partition: the same generation after a death makes this node release and restart, after silence", () => {
  const harness = joined();
  harness.advance(4000);
  assert.equal(harness.engine.status(harness.nowMs).holds, "all");
  harness.take();
  harness.alive(4000);
  assert.equal(harness.level("partition.healed").length, 1);
  assert.deepEqual(harness.take(), ["resource rsc_hold=none rtype=full isstable=0 info=shutdown", "shutdone st=dead"]);
  assert.deepEqual(harness.restart, { reason: "healed partition", delayMs: 4000 });
});

test("failure: a local group that cannot start moves the local set, not the foreign one", () => {
  const harness = joined();
  harness.behaviour = (action, resource) => (action === "start" && resource === "dummy::A" ? "fails" : "well");
  harness.running.clear();
  harness.peer("ask_resources", { rsc_hold: "foreign", info: "me" });
  harness.alive(500);
  harness.peer("ask_resources", { rsc_hold: "foreign", info: "done" });
  harness.take();
  harness.engine.command(1, { kind: "standby", set: "local" }, harness.nowMs);
  harness.alive(3500);
  assert.ok(harness.take().includes("ask_resources rsc_hold=local info=me"));
});

test("failback: to a returned real node, once it was stable for a while and the disks are in sync", () => {
  const groups = [serviceGroup("nodo1", "a"), serviceGroup("nodo2", "drbddisk::r0")];
  const harness = joined({ groups });
  const facts = { role: "Primary", localDisk: "UpToDate", connected: true } as const;
  harness.engine.drbdStatus("r0", { ...facts, peerDisk: "Inconsistent" }, harness.nowMs);
  harness.advance(4000);
  assert.equal(harness.engine.status(harness.nowMs).holds, "all");
  harness.take();
  const alive = (durationMs: number): void => {
    const until = harness.nowMs + durationMs;
    while (harness.nowMs < until) {
      harness.peer("status", { st: "active", dt: "bb8", protocol: "1" }, { hg: "8" });
      harness.advance(500);
    }
  };
  alive(500);
  harness.peer("starting", {}, { hg: "8" });
  harness.peer("resource", { rsc_hold: "none", rtype: "full", isstable: "1" }, { hg: "8" });
  alive(2000);
  assert.ok(!harness.take().includes("ask_resources rsc_hold=foreign info=me"));
  alive(2000);
  assert.equal(harness.level("failback.waiting").length, 1);
  assert.match(harness.engine.status(harness.nowMs).failbackWaitsFor ?? "", /r0 on the other node is Inconsistent/);
  harness.engine.drbdStatus("r0", { ...facts, peerDisk: "UpToDate" }, harness.nowMs);
  alive(500);
  assert.deepEqual(harness.take(), ["ask_resources rsc_hold=foreign info=me"]);
  harness.peer("ask_resources", { rsc_hold: "foreign", info: "other" }, { hg: "8" });
  alive(500);
  assert.deepEqual(harness.take(), [
    "resource rsc_hold=local rtype=full isstable=0 info=standby",
    "ask_resources rsc_hold=foreign info=done",
  ]);
  harness.peer("ask_resources", { rsc_hold: "foreign", info: "done" }, { hg: "8" });
  alive(500);
  assert.deepEqual(harness.take(), ["resource rsc_hold=local rtype=full isstable=1"]);
  assert.equal(harness.engine.status(harness.nowMs).resources, "local");
});

test("standby: an offer that a real node does not answer is given up after ten seconds, and the command says so", () => {
  const harness = joined();
  harness.engine.command(1, { kind: "standby", set: "local" }, harness.nowMs);
  harness.alive(500);
  assert.deepEqual(harness.take(), ["ask_resources rsc_hold=local info=me"]);
  assert.equal(harness.engine.status(harness.nowMs).resources, "transition");
  harness.alive(10_500);
  assert.equal(harness.results.get(1)?.ok, false);
  assert.match(harness.results.get(1)?.text ?? "", /no reply/);
  assert.equal(harness.engine.status(harness.nowMs).resources, "local");
  assert.ok(harness.running.has("dummy::A"), "nothing was stopped");
});

test("standby: a real node's unsolicited or repeated words change nothing", () => {
  const harness = joined();
  const before = harness.engine.status(harness.nowMs).holds;
  harness.peer("ask_resources", { rsc_hold: "all", info: "done" });
  harness.peer("ask_resources", { rsc_hold: "local", info: "other" });
  harness.peer("ask_resources", { rsc_hold: "everything", info: "me" });
  harness.alive(1000);
  assert.equal(harness.engine.status(harness.nowMs).holds, before);
  assert.deepEqual(harness.take(), []);
});
