import assert from "node:assert/strict";
import { test } from "node:test";
import { Diagnostics } from "@hacluster/blockrep/base";
import type { ClusterStatus, HaCf } from "@hacluster/heartbeat";
import { parseHaCf } from "@hacluster/heartbeat/unstable/config/ha-cf";
import { clStatus } from "hacluster/unstable/commands/cl-status";
import { withOldName } from "hacluster/unstable/main";

const HA_CF = `keepalive 500ms
deadtime 3
bcast eth0
ping 192.168.0.10
respawn hacluster /usr/lib/heartbeat/ipfail
auto_failback on
node nodo1 nodo2
`;

const haCf: HaCf = parseHaCf(HA_CF, "ha.cf", new Diagnostics());

function cluster(own: "active" | "up" = "active"): ClusterStatus {
  const node = { kind: "hacluster", holds: "none", stable: true } as const;
  return {
    node: "nodo1",
    generation: 7,
    holds: "all",
    resources: "all",
    standby: "none",
    nodes: [
      { ...node, node: "nodo1", own: true, status: own, links: [] },
      { ...node, node: "nodo2", own: false, status: "dead", links: [{ link: "eth0", up: false }] },
    ],
    groups: [],
    pingNodes: [{ node: "192.168.0.10", status: "ping", lastSeenMs: 3 }],
    counters: {},
  };
}

/** `words` → what cl_status prints and its exit code, as Heartbeat 3.0.6 has them. */
const ANSWERS: readonly (readonly [words: string, out: string, exitCode: number])[] = [
  ["hbstatus", "Heartbeat is running on this machine.", 0],
  ["listnodes", "192.168.0.10\nnodo2\nnodo1", 0],
  ["listnodes -n", "nodo2\nnodo1", 0],
  ["listnodes -p", "192.168.0.10", 0],
  ["listnodes -m -n", "The nodes are as follow:\nnodo2\nnodo1", 0],
  ["nodestatus nodo1", "active", 0],
  ["nodestatus NODO2", "dead", 1],
  ["nodestatus 192.168.0.10", "ping", 0],
  ["nodestatus -m nodo1", "The cluster node nodo1 is active", 0],
  ["nodestatus nodo9", "", 11],
  ["nodetype 192.168.0.10", "ping", 0],
  ["nodetype nodo1", "normal", 0],
  ["nodeweight nodo1", "100", 0],
  ["nodesite nodo1", "", 0],
  ["listhblinks nodo2", "\teth0", 0],
  ["listhblinks -v nodo2", "\teth0\tdead", 0],
  ["hblinkstatus nodo1 eth0", "up", 0],
  ["hblinkstatus nodo2 eth0", "dead", 1],
  ["hblinkstatus nodo2 eth7", "", 13],
  ["clientstatus nodo1 ipfail", "online", 0],
  ["clientstatus nodo1 ccm", "offline", 1],
  ["rscstatus", "all", 0],
  ["rscstatus -m", "This node is holding all resources.", 0],
  ["hbparameter -p keepalive", "500ms", 0],
  ["hbparameter -p deadtime", "3", 0],
  ["hbparameter -m -p deadtime", "Heartbeat parameter deadtime's value: 3", 0],
  ["hbparameter -p udpport", "694", 0],
  ["hbparameter -p nonsense", "", 1],
];

for (const [words, out, exitCode] of ANSWERS) {
  test(`cl_status ${words}`, () => {
    const answer = clStatus(words.split(" "), cluster(), haCf);
    assert.equal(answer.out.join("\n"), out);
    assert.equal(answer.exitCode, exitCode);
  });
}

test("cl_status: a daemon that is away, or not yet active, counts as stopped", () => {
  for (const status of [undefined, cluster("up")]) {
    const stopped = clStatus(["hbstatus"], status, haCf);
    assert.deepEqual([stopped.out, stopped.exitCode], [["Heartbeat is stopped on this machine."], 1]);
    const other = clStatus(["rscstatus"], status, haCf);
    assert.match(other.error ?? "", /Cannot signon with heartbeat/);
    assert.equal(other.exitCode, 1);
  }
});

test("cl_status: help, and an unknown sub-command", () => {
  assert.equal(clStatus([], undefined, haCf).exitCode, 0);
  const foo = clStatus(["foo"], cluster(), haCf);
  assert.deepEqual([foo.error, foo.exitCode], ["cl_status: ERROR: foo: invalid sub-command.", 11]);
});

test("old names: a link called hb_standby, hb_takeover, cl_status or drbd-peer-outdater does what that did", () => {
  assert.deepEqual(withOldName(["node", "/usr/bin/cl_status", "rscstatus"]), [
    "node",
    "/usr/bin/cl_status",
    "cl_status",
    "rscstatus",
  ]);
  assert.equal(withOldName(["node", "/usr/share/heartbeat/hb_standby", "local"])[2], "standby");
  assert.equal(withOldName(["node", "/x/hb_takeover"])[2], "takeover");
  assert.deepEqual(withOldName(["node", "/x/drbd-peer-outdater", "-t", "5"]).slice(2), ["outdate-peer", "-t", "5"]);
  assert.deepEqual(withOldName(["node", "/x/hacluster.js", "status"]), ["node", "/x/hacluster.js", "status"]);
});
