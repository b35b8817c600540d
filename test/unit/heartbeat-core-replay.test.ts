import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { ClusterCommand, ClusterConfig } from "@hacluster/heartbeat/unstable/core/ports";
import type { SigningKeys } from "@hacluster/heartbeat/unstable/wire/auth";
import { decodeDatagram } from "@hacluster/heartbeat/unstable/wire/codec";
import type { HaMessage } from "@hacluster/heartbeat/unstable/wire/message";
import { brief, Harness } from "../support/cluster-harness.ts";
import { readPcap } from "../support/pcap.ts";

const CRC: SigningKeys = { active: 1, keys: new Map([[1, { method: "crc", key: new Uint8Array() }]]) };
const NODO1 = "192.168.0.27";
const NODO2 = "192.168.0.28";

interface Recorded {
  readonly atMs: number;
  readonly source: string;
  readonly message: HaMessage;
}

function recording(scenario: string): Recorded[] {
  const path = fileURLToPath(new URL(`../../../test/vectors/heartbeat/${scenario}/capture.pcap`, import.meta.url));
  const out: Recorded[] = [];
  for (const datagram of readPcap(readFileSync(path))) {
    if (datagram.destinationPort !== 694) continue;
    const decoded = decodeDatagram(datagram.payload, CRC);
    if ("refusal" in decoded) continue;
    out.push({ atMs: datagram.timeMs, source: datagram.source, message: decoded.message });
  }
  return out;
}

interface Cue {
  /** The first packet of the recorded nodo2 that begins like this… */
  readonly when: string;
  /** …is where the administrator gave this command. */
  readonly command: ClusterCommand;
}

/**
 * Put the engine in the place of the recorded nodo2: it starts when that one did, hears what the real nodo1 said, in its
 * time, and what it says of its own is returned.
 */
function replay(
  scenario: string,
  overrides: Partial<ClusterConfig>,
  cues: Cue[] = [],
  pings: readonly string[] = [],
): Harness {
  const packets = recording(scenario);
  const first = packets.findIndex((packet) => packet.source === NODO2);
  const harness = new Harness("nodo2", overrides);
  for (const name of pings) harness.answering.add(name);
  const open = [...cues];
  let previousMs = packets[first]!.atMs;
  let id = 0;
  harness.start();
  for (const packet of packets.slice(first)) {
    const gapMs = Math.round(packet.atMs - previousMs);
    if (gapMs > 0) {
      harness.advance(gapMs);
      previousMs += gapMs;
    }
    if (packet.source === NODO1) harness.feed(packet.message);
    else if (open[0] !== undefined && brief(packet.message).startsWith(open[0].when))
      harness.engine.command(++id, open.shift()!.command, harness.nowMs);
  }
  harness.advance(100);
  return harness;
}

test("replay: an imitated nodo2 of the lab joins, fails back, gives, takes and leaves; so do we", () => {
  const harness = replay("imitated-peer", { deadtimeMs: 5000, warntimeMs: 3000, initdeadMs: 6000 }, [
    { when: "ask_resources rsc_hold=local info=me", command: { kind: "standby", set: "local" } },
    { when: "hb_takeover rsc_hold=all", command: { kind: "takeover", set: "all" } },
    { when: "resource rsc_hold=none rtype=full isstable=0 info=shutdown", command: { kind: "stop" } },
  ]);
  assert.deepEqual(harness.take(), [
    "reqnodes dest=nodo1",
    "starting",
    "resource rsc_hold=none rtype=full isstable=0",
    "resource rsc_hold=none rtype=full isstable=1",
    "ask_resources rsc_hold=foreign info=other",
    "ask_resources rsc_hold=foreign info=done",
    "resource rsc_hold=local rtype=full isstable=1",
    "resource rsc_hold=local rtype=full isstable=1",
    "ask_resources rsc_hold=local info=me",
    "resource rsc_hold=none rtype=full isstable=0 info=standby",
    "ask_resources rsc_hold=local info=done",
    "resource rsc_hold=none rtype=full isstable=1",
    "hb_takeover rsc_hold=all",
    "ask_resources rsc_hold=all info=other",
    "ask_resources rsc_hold=all info=done",
    "resource rsc_hold=all rtype=full isstable=1",
    "resource rsc_hold=all rtype=full isstable=1",
    "resource rsc_hold=none rtype=full isstable=0 info=shutdown",
    "shutdone st=dead",
  ]);
  assert.deepEqual(
    [...harness.results.values()].map((result) => result.ok),
    [true, true, true],
  );
  assert.equal(harness.exit, "stop");
  assert.equal(harness.running.size, 0);
});

test("replay: cold start with a real node keeps the ten seconds, its clean stop hands everything over at once", () => {
  const harness = replay("cold-start-both-on", {});
  const sent = harness.take();
  assert.deepEqual(sent.slice(0, 7), [
    "reqnodes dest=nodo1",
    "repnodes dest=nodo1 nodelist=nodo1 nodo2  delnodelist= ",
    "starting",
    "resource rsc_hold=none rtype=full isstable=0",
    "resource rsc_hold=local rtype=full isstable=1",
    "resource rsc_hold=local rtype=full isstable=1",
    "resource rsc_hold=all rtype=full isstable=1 info=req_our_resources()",
  ]);
  assert.equal(harness.level("node.dead").length, 1, "the silence after shutdone is a death…");
  assert.equal(
    harness.level("fence.needed").length + harness.level("fence.unconfigured").length,
    0,
    "…without fencing",
  );
  assert.ok(harness.level("node.restarted").length > 0);
});

test("replay: a real node that is killed is taken over from, and its return is answered", () => {
  const harness = replay("kill9-active-then-rejoin-on", {});
  const sent = harness.take();
  const death = sent.indexOf("stonith node=nodo1 result=n_stnth");
  assert.ok(death > 0);
  assert.equal(sent[death + 1], "resource rsc_hold=all rtype=full isstable=1 info=req_our_resources()");
  assert.ok(sent.slice(death + 2).includes("resource rsc_hold=all rtype=full isstable=1"), "starting is answered");
  assert.equal(harness.level("node.dead").length, 1);
});

test("replay: after a healed partition both restart: release, shutdone, silence, a new generation", () => {
  const harness = replay("split-brain-heal-on", {});
  const sent = harness.take();
  assert.equal(harness.level("partition.healed").length, 1);
  assert.deepEqual(sent.slice(-2), ["resource rsc_hold=none rtype=full isstable=0 info=shutdown", "shutdone st=dead"]);
  assert.deepEqual(harness.restart, { reason: "healed partition", delayMs: 4000 });
  assert.equal(harness.running.size, 0);
});

test("replay: packets lost on the way are asked for, and the recorded requests are answered", () => {
  const harness = replay("packet-loss-retransmission", {});
  const all = harness.take(true);
  assert.ok(all.some((line) => line.startsWith("NS_rexmit dest=nodo1 firstseq=")));
  assert.ok(all.some((line) => line.startsWith("NS_ackmsg dest=nodo1 ackseq=")));
  assert.equal(harness.engine.status(harness.nowMs).counters["packetsMissing"], 0, "everything arrived in the end");
});

test("replay: the real ipfail counts its ping nodes; ours sees more, and takes what that one gives up", () => {
  const harness = replay(
    "ping-node-ipfail",
    { pingNodes: ["192.168.0.10"], ipfail: true, autoFailback: "off" },
    [],
    ["192.168.0.10"],
  );
  const sent = harness.take();
  const ids = "from_id=ipfail to_id=ipfail client_gen=0";
  assert.ok(sent.includes(`hbapi-clstat st=join info=signon ${ids}`), "it joins as the original does");
  const told = sent.indexOf(`you_are_dead dest=nodo1 ${ids}`);
  assert.ok(told > 0, "nodo1 is told that it sees fewer");
  assert.deepEqual(sent.slice(told + 1, told + 5), [
    "ask_resources rsc_hold=all info=other",
    "ask_resources rsc_hold=all info=done",
    "resource rsc_hold=all rtype=full isstable=1",
    "resource rsc_hold=all rtype=full isstable=1",
  ]);
  assert.equal(sent.filter((line) => line.startsWith("abort_giveup")).length, 1, "when nodo1 sees it again");
  assert.equal(harness.engine.status(harness.nowMs).holds, "all", "nothing moves back");
});
