import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import type { StonithDevice } from "@hacluster/heartbeat/unstable/config/model";
import { assignParameters, byName, wordsOfStonithFile } from "@hacluster/heartbeat/unstable/config/stonith-parameters";
import { stonithDeviceOf } from "@hacluster/heartbeat/unstable/core/cluster-config";
import { openFenceDevice } from "@hacluster/heartbeat/unstable/drivers/fencing/open-device";

const root = mkdtempSync(join(tmpdir(), "fencing-"));
after(() => rmSync(root, { recursive: true, force: true }));

const LOG = join(root, "calls");

function program(path: string, body: string): void {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `#!/bin/sh\n${body}\n`);
  chmodSync(file, 0o755);
}

function device(type: string, ...params: string[]): StonithDevice {
  return { host: "*", type, params, at: { file: "ha.cf", line: 1, column: 1 } };
}

function open(type: string, ...params: string[]) {
  return openFenceDevice(device(type, ...params), { root, limits: { resetMs: 2000, queryMs: 2000 } });
}

function calls(): string[] {
  const lines = readFileSync(LOG, "utf8").trim().split("\n");
  rmSync(LOG);
  return lines;
}

/** A power switch as cluster-glue's external plugins are: fails as long as the file `broken` is there. */
program(
  "usr/lib/stonith/plugins/external/switch",
  `echo "$1 $2 hostlist=$hostlist ip=$ipaddr" >> ${LOG}
case "$1" in
getconfignames) echo ipaddr; echo hostlist ;;
gethosts) for h in $hostlist; do echo $h; done ;;
status) [ ! -e ${root}/broken ] ;;
reset) if [ -e ${root}/broken ]; then echo "no answer from $ipaddr" >&2; exit 1; fi ;;
*) exit 1 ;;
esac`,
);

test("fencing: an external plugin gets its parameters by position, the last one takes the rest", async () => {
  assert.deepEqual(await open("external/switch", "10.0.0.9", "nodo1", "nodo2").reset("nodo1"), {
    result: "OK",
    text: "external/switch reset it",
  });
  assert.deepEqual(calls(), [
    "getconfignames  hostlist= ip=",
    "gethosts  hostlist=nodo1 nodo2 ip=10.0.0.9",
    "reset nodo1 hostlist=nodo1 nodo2 ip=10.0.0.9",
  ]);
});

test("fencing: name=value is understood when every word names a parameter", async () => {
  const outcome = await open("external/switch", "hostlist=nodo1", "ipaddr=10.0.0.9").reset("NODO1");
  assert.equal(outcome.result, "OK");
  assert.ok(calls().includes("reset NODO1 hostlist=nodo1 ip=10.0.0.9"));
});

test("fencing: a node that the device does not list is refused without a reset", async () => {
  const outcome = await open("external/switch", "10.0.0.9", "nodo2").reset("nodo1");
  assert.deepEqual(outcome, { result: "badhost", text: "external/switch resets only nodo2" });
  assert.ok(calls().every((line) => !line.startsWith("reset")));
});

test("fencing: a failed reset tells the device's last words; the check of the device too", async () => {
  writeFileSync(join(root, "broken"), "");
  const broken = open("external/switch", "10.0.0.9", "nodo1");
  assert.deepEqual(await broken.reset("nodo1"), {
    result: "bad",
    text: "external/switch reset failed with exit code 1: no answer from 10.0.0.9",
  });
  assert.match((await broken.check()) ?? "", /status failed with exit code 1/);
  rmSync(join(root, "broken"));
  assert.equal(await broken.check(), undefined);
});

test("fencing: too few parameters and missing programs are said, and reset nothing", async () => {
  assert.deepEqual(await open("external/switch", "10.0.0.9").reset("nodo1"), {
    result: "bad",
    text: "external/switch: it takes the parameters ipaddr, hostlist in this order, 1 of 2 are given",
  });
  assert.match((await open("external/nothere", "x").reset("nodo1")).text, /no plugin nothere in .*cluster-glue/);
  assert.match((await open("fence_nothere", "ip=x").reset("nodo1")).text, /no program fence_nothere .*fence-agents/);
  assert.match((await open("apcmaster", "x").reset("nodo1")).text, /needs the command stonith/);
});

test("fencing: a plugin that hangs is ended and has failed", async () => {
  program(
    "usr/lib/stonith/plugins/external/slow",
    "case $1 in getconfignames) ;; gethosts) echo nodo1 ;; *) sleep 60 ;; esac",
  );
  const slow = openFenceDevice(device("external/slow"), { root, limits: { resetMs: 200, queryMs: 2000 } });
  assert.deepEqual(await slow.reset("nodo1"), { result: "bad", text: "external/slow reset did not end within 0.2 s" });
});

test("fencing: a fence agent reads name=value lines; map gives the plug of a node", async () => {
  rmSync(LOG, { force: true });
  program("usr/sbin/fence_lab", `cat >> ${LOG}; grep -q passwd=secret ${LOG}`);
  const agent = open("fence_lab", "ip=10.0.0.9", "passwd=secret", "map=nodo1:vm7,nodo2:vm8");
  assert.equal((await agent.reset("nodo1")).result, "OK");
  assert.deepEqual(calls(), ["action=reboot", "port=vm7", "ip=10.0.0.9", "passwd=secret"]);
  assert.deepEqual(await agent.reset("nodo3"), { result: "badhost", text: "fence_lab resets only nodo1, nodo2" });
  assert.equal(
    (await open("fence_lab", "ip=1", "passwd=secret", "hosts=nodo1", "action=off").reset("nodo1")).result,
    "OK",
  );
  assert.deepEqual(calls(), ["action=off", "port=nodo1", "ip=1", "passwd=secret"]);
  const wrong = await open("fence_lab", "ip=1", "passwd=wrong").reset("nodo1");
  assert.deepEqual(wrong, { result: "bad", text: "fence_lab failed with exit code 1" });
  assert.equal(await open("fence_lab", "passwd=secret").check(), undefined);
  assert.match((await open("fence_lab", "10.0.0.9").reset("nodo1")).text, /takes its parameters by name/);
  rmSync(LOG);
});

test("fencing: other types go through the command stonith, parameters in its environment", async () => {
  const fake = mkdtempSync(join(root, "with-stonith-"));
  mkdirSync(join(fake, "usr/sbin"), { recursive: true });
  const path = join(fake, "usr/sbin/stonith");
  writeFileSync(
    path,
    `#!/bin/sh\necho "$* [$hostlist]" >> ${LOG}\ncase "$*" in *-n) echo hostlist ;; *-l) echo $hostlist ;; *) exit 0 ;; esac\n`,
  );
  chmodSync(path, 0o755);
  const program = openFenceDevice(device("null", "nodo1", "nodo2"), { root: fake });
  assert.equal((await program.reset("nodo2")).result, "OK");
  assert.equal(calls().at(-1), "-t null -E -T reset nodo2 [nodo1 nodo2]");
  assert.equal((await program.reset("nodo9")).result, "badhost");
  rmSync(LOG);
});

test("fencing: meatware waits for a person, and only for nodes of its list", async () => {
  const pending = Symbol("pending");
  const answer = await Promise.race([
    open("meatware", "nodo1").reset("nodo1"),
    new Promise((resolve) => setTimeout(() => resolve(pending), 30)),
  ]);
  assert.equal(answer, pending);
  assert.equal((await open("meatware", "nodo2").reset("nodo1")).result, "badhost");
});

test("fencing: a file of parameters is one line by position, or name=value lines", () => {
  assert.deepEqual(wordsOfStonithFile("# a switch\n\n10.0.0.9 nodo1\nignored\n"), ["10.0.0.9", "nodo1"]);
  assert.deepEqual(wordsOfStonithFile("ip=1\n# x\nhostlist=nodo1\n"), ["ip=1", "hostlist=nodo1"]);
  assert.equal(byName(["a=1", "b"]), undefined);
  assert.deepEqual(assignParameters(["a", "b"], ["a=1", "2"]), { a: "a=1", b: "2" });
});

test("fencing: the last line that is ours counts", () => {
  const line = (host: string | undefined, type: string): StonithDevice => ({ ...device(type), host });
  const stonith = [line(undefined, "a"), line("*", "b"), line("nodo2", "c")];
  assert.equal(stonithDeviceOf({ stonith }, "nodo1")?.type, "b");
  assert.equal(stonithDeviceOf({ stonith }, "nodo2")?.type, "c");
  assert.equal(stonithDeviceOf({ stonith: [line("nodo2", "c")] }, "nodo1"), undefined);
});
