import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { formatDiagnostic } from "@hacluster/blockrep/base";
import { loadHeartbeatConfig } from "@hacluster/heartbeat/unstable/drivers/config-files";
import { loadUuid, nextGeneration, readNodeName } from "@hacluster/heartbeat/unstable/drivers/identity";

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "hacluster-test-"));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

test("generation: the file of Heartbeat is read, incremented and written in its format", (t) => {
  const path = folder(t);
  const file = join(path, "hb_generation");
  writeFileSync(file, "     1795195180\n");
  assert.deepEqual(nextGeneration(path, "file", 1_000_000_000), { generation: 1795195181, previous: 1795195180 });
  assert.equal(readFileSync(file, "latin1"), "     1795195181\n");
  assert.equal(statSync(file).size, 16);
  assert.equal(nextGeneration(path, "file", 1_000_000_000).generation, 1795195182);
});

test("generation: never lower than the clock, so an old backup is no replay", (t) => {
  const path = folder(t);
  writeFileSync(join(path, "hb_generation"), "            100\n");
  assert.deepEqual(nextGeneration(path, "file", 1_800_000_000.9), { generation: 1_800_000_000, previous: 100 });
});

test("generation: a missing or damaged file starts from the clock", (t) => {
  const path = folder(t);
  const file = join(path, "hb_generation");
  assert.deepEqual(nextGeneration(path, "file", 1_800_000_000), { generation: 1_800_000_001, previous: undefined });
  for (const text of ["", "garbage\n", "9999999999999999999\n"]) {
    writeFileSync(file, text);
    assert.equal(nextGeneration(path, "file", 1_800_000_000).previous, undefined, text);
    assert.equal(readFileSync(file, "latin1"), "     1800000001\n");
  }
  assert.equal(nextGeneration(path, "time", 1_700_000_000).generation, 1_700_000_000);
});

test("generation: a folder that cannot be written is an error with the path", (t) => {
  const path = join(folder(t), "absent");
  assert.throws(() => nextGeneration(path, "file", 1), /HaError: cannot write .*absent\/hb_generation: ENOENT/);
});

test("uuid: 16 random bytes, made once; or derived from the name", (t) => {
  const path = folder(t);
  const uuid = loadUuid(path, "file", "nodo1");
  assert.equal(uuid.length, 16);
  assert.deepEqual(loadUuid(path, "file", "nodo1"), uuid);
  assert.deepEqual(Uint8Array.from(readFileSync(join(path, "hb_uuid"))), uuid);
  writeFileSync(join(path, "hb_uuid"), new Uint8Array(16));
  assert.ok(
    loadUuid(path, "file", "nodo1").some((byte) => byte !== 0),
    "all zero is no uuid",
  );
  assert.deepEqual(loadUuid(path, "nodename", "Nodo1"), loadUuid(path, "nodename", "nodo1"));
  assert.notDeepEqual(loadUuid(path, "nodename", "nodo1"), loadUuid(path, "nodename", "nodo2"));
});

test("node name: uname -n, or the first line of nodeinfo; lower case", (t) => {
  const root = folder(t);
  assert.equal(readNodeName(root), hostname().toLowerCase());
  mkdirSync(join(root, "etc/ha.d"), { recursive: true });
  writeFileSync(join(root, "etc/ha.d/nodeinfo"), "NODO7\nother\n");
  assert.equal(readNodeName(root), "nodo7");
});

const HA_CF = "keepalive 2\ndeadtime 30\ninitdead 60\nbcast lo\nauto_failback on\nnode nodo1 nodo2\n";

function installation(t: TestContext, files: Record<string, string>): string {
  const root = folder(t);
  mkdirSync(join(root, "etc/ha.d/resource.d"), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, "etc/ha.d", name), text, { mode: 0o600 });
  return root;
}

test("config files: read below a root, machine checked with warnings only", (t) => {
  const root = installation(t, {
    "ha.cf": `${HA_CF}ucast nowhere9 10.0.0.2\nrespawn nobody-here /usr/bin/absent\n`,
    authkeys: "auth 1\n1 sha1 K\n",
    haresources: "nodo1 10.0.0.9/24/nowhere8 drbddisk::r0 local absent-script OCF::absent::x systemd:absent\n",
  });
  writeFileSync(join(root, "etc/ha.d/resource.d/local"), "#!/bin/sh\n", { mode: 0o755 });
  const loaded = loadHeartbeatConfig({ root });
  assert.ok(loaded.config !== undefined);
  const findings = loaded.diagnostics.items.map(formatDiagnostic).map((f) => f.replace(`${root}/etc/ha.d/`, ""));
  const expected = [
    /^ha\.cf:7:1: warning: interface nowhere9 does not exist on this machine/,
    /^haresources:1:7: warning: "10\.0\.0\.9\/24\/nowhere8": interface nowhere8 does not exist/,
    /^ha\.cf:8:1: warning: user nobody-here does not exist/,
    /^ha\.cf:8:1: warning: program \/usr\/bin\/absent does not exist/,
    /^haresources:1:47: warning: no script "absent-script" in \/etc\/ha\.d\/resource\.d/,
    /^haresources:1:61: warning: no OCF agent "absent"/,
    /^haresources:1:76: warning: no systemd unit absent/,
  ];
  assert.equal(findings.length, expected.length, findings.join("\n"));
  for (const [i, pattern] of expected.entries()) assert.match(findings[i]!, pattern);
  assert.equal(loadHeartbeatConfig({ root, checkMachine: false }).diagnostics.items.length, 0);
});

test("config files: an error in any of them leaves no configuration, and all are reported", (t) => {
  const root = installation(t, { "ha.cf": "foo\n", authkeys: "auth 1\n" });
  const loaded = loadHeartbeatConfig({ root });
  assert.equal(loaded.config, undefined);
  const findings = loaded.diagnostics.items.map(formatDiagnostic).join("\n");
  assert.match(findings, /ha\.cf:1:1: error: unknown directive "foo"/);
  assert.match(findings, /authkeys:1:1: error: auth 1 names a key that no line defines/);
  assert.match(findings, /haresources:1:1: error: the file does not exist/);
});

test("config files: a readable authkeys is an error for a daemon, a warning for a copy", (t) => {
  const root = installation(t, { "ha.cf": HA_CF, authkeys: "auth 1\n1 sha1 K\n", haresources: "nodo1 drbddisk::r0\n" });
  assert.deepEqual(loadHeartbeatConfig({ root }).diagnostics.items, []);
  chmodSync(join(root, "etc/ha.d/authkeys"), 0o644);
  assert.ok(loadHeartbeatConfig({ root }).config !== undefined);
  const strict = loadHeartbeatConfig({ root, authkeysMode: "error" });
  assert.equal(strict.config, undefined);
  assert.match(
    formatDiagnostic(strict.diagnostics.items[0]!),
    /authkeys:1:1: error: mode 644 lets others read the keys; run/,
  );
});
