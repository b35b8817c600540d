import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { PingNode, RespawnClient } from "@hacluster/heartbeat/unstable/config/model";
import { Journal, monotonicMs, readJournal } from "@hacluster/heartbeat/unstable/drivers/journal";
import { PingSet } from "@hacluster/heartbeat/unstable/drivers/ping";
import { type RespawnReport, RespawnSet } from "@hacluster/heartbeat/unstable/drivers/respawn";
import { Watchdog } from "@hacluster/heartbeat/unstable/drivers/watchdog";

const folder = mkdtempSync(join(tmpdir(), "helpers-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const at = { file: "ha.cf", line: 1, column: 1 };

async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 300 && !what(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.ok(what(), "timed out");
}

test("journal: what ran is adopted within the dead time, and only then", async () => {
  const path = join(folder, "run/journal.json");
  assert.equal(readJournal(path, "nodo1"), undefined, "none yet");
  const journal = Journal.open(path);
  journal.record({ node: "nodo1", generation: 7, deadtimeMs: 1000, groups: ["IPaddr2::10.0.0.1"] });
  await journal.flushed();
  assert.equal(readJournal(path, "nodo1"), undefined, "it never spoke");
  journal.alive();
  assert.deepEqual(readJournal(path, "nodo1")?.groups, ["IPaddr2::10.0.0.1"]);
  assert.equal(readJournal(path, "nodo2"), undefined, "another node's");
  assert.equal(readJournal(path, "nodo1", monotonicMs() + 1000), undefined, "too old");
  assert.equal(readJournal(path, "nodo1", 1), undefined, "from before a reboot");
  writeFileSync(path, "{");
  assert.equal(readJournal(path, "nodo1"), undefined, "torn");
  await journal.remove();
  journal.alive();
  assert.equal(readJournal(path, "nodo1"), undefined, "removed");
});

test("watchdog: tickled, and disarmed only by a clean close", () => {
  const device = join(folder, "watchdog");
  writeFileSync(device, "");
  const watchdog = Watchdog.open(device);
  watchdog.tickle();
  watchdog.tickle();
  assert.equal(readFileSync(device, "latin1"), "\n\n");
  watchdog.close();
  watchdog.close();
  watchdog.tickle();
  assert.equal(readFileSync(device, "latin1"), "\n\nV");
  assert.throws(() => Watchdog.open(join(folder, "no/such/device")), /ENOENT/);
});

function script(name: string, body: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
  return path;
}

function client(path: string, options: Partial<RespawnClient> = {}): RespawnClient {
  return { user: userInfo().username, path, args: [], failfast: false, builtIn: undefined, at, ...options };
}

test("respawn: started again on exit, not after code 100, not for ever", async () => {
  const reports: RespawnReport[] = [];
  const done = script("done", "exit 100");
  const short = script("short", "exit 3");
  const long = script("long", "exec sleep 60");
  const fast = script("fast", "exit 1");
  const dead: string[] = [];
  const set = new RespawnSet(
    [
      client(done),
      client(short),
      client(long),
      client(fast, { failfast: true }),
      client("/usr/lib/heartbeat/ipfail", { builtIn: "ipfail" }),
      client(long, { user: "no-such-user" }),
    ],
    {
      environment: () => ({ HA_x: "1" }),
      onReport: (report) => reports.push(report),
      onFailfast: (path) => dead.push(path),
      restartMs: 1,
    },
  );
  set.start();
  const count = (kind: string, path: string): number =>
    reports.filter((report) => report.kind === kind && report.path === path).length;
  await until(() => count("given-up", short) === 1 && count("ended", done) === 1 && dead.length === 1);
  assert.equal(count("started", short), 5);
  assert.equal(count("started", done), 1);
  assert.deepEqual(dead, [fast]);
  assert.equal(count("started", "/usr/lib/heartbeat/ipfail"), 0);
  assert.equal(count("started", long), 1);
  assert.equal(count("given-up", long), 1, "the one with the unknown user");
  await set.stop();
  assert.equal(count("ended", long), 0, "a stop is no end to report");
});

test("ping: replies are heard, complaints of routers are none, a ping that ends is started again", async () => {
  const program = script(
    "ping",
    `[ "$LC_ALL" = C ] || exit 1
case "$*" in
*10.0.0.1) printf '64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.1 ms\\n'; exec sleep 60 ;;
*10.0.0.2) echo 'From 10.0.0.9 icmp_seq=1 Destination Host Unreachable'; exec sleep 60 ;;
*) echo "ping: $*: Name or service not known" >&2; exit 2 ;;
esac`,
  );
  const replies: string[] = [];
  const troubles: string[] = [];
  const nodes: PingNode[] = [
    { kind: "ping_group", name: "routers", hosts: ["10.0.0.2", "10.0.0.1"], at },
    { kind: "ping", name: "10.0.0.2", hosts: ["10.0.0.2"], at },
    { kind: "ping6", name: "nowhere", hosts: ["nowhere"], at },
    { kind: "hbaping", name: "hba", hosts: ["hba"], at },
  ];
  const set = new PingSet(nodes, {
    intervalMs: 500,
    deadpingMs: 3000,
    onReply: (name) => replies.push(name),
    onTrouble: (host, reason) => troubles.push(`${host}: ${reason}`),
    program,
  });
  set.start();
  await until(() => replies.length > 0 && troubles.length > 0);
  set.close();
  assert.deepEqual([...new Set(replies)], ["routers"]);
  assert.deepEqual(troubles, ["nowhere: ping: -6 -n -i 0.500 nowhere: Name or service not known"]);
});
