import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { addressText, readAddressArgument } from "@hacluster/heartbeat/unstable/config/address-argument";
import { fileOrigin } from "@hacluster/heartbeat/unstable/drivers/dpkg";
import { ResourceRunner } from "@hacluster/heartbeat/unstable/drivers/resource-runner";
import { DrbdDiskResource, type StorageControl } from "@hacluster/heartbeat/unstable/drivers/resources/drbddisk";
import { statusTextSaysRunning } from "@hacluster/heartbeat/unstable/drivers/resources/resource";
import { runCommand } from "@hacluster/heartbeat/unstable/drivers/run-command";

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "hacluster-resources-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function file(root: string, path: string, text: string, mode = 0o644): string {
  const full = join(root, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, text);
  chmodSync(full, mode);
  return full;
}

const storage: StorageControl = {
  promote: () => Promise.resolve(),
  demote: () => Promise.resolve(),
  role: () => Promise.resolve("Secondary"),
  resources: () => ["r0"],
};

test("readAddressArgument: ip/bits/interface:label/broadcast in every form, and its refusals", () => {
  const none = { prefixBits: undefined, interface: undefined, label: undefined, broadcast: undefined };
  assert.deepEqual(readAddressArgument("192.168.0.29/24/eth0"), {
    ...none,
    ip: "192.168.0.29",
    prefixBits: 24,
    interface: "eth0",
  });
  assert.deepEqual(readAddressArgument("10.0.0.1"), { ...none, ip: "10.0.0.1" });
  assert.deepEqual(readAddressArgument("10.0.0.1/255.255.252.0"), { ...none, ip: "10.0.0.1", prefixBits: 22 });
  assert.deepEqual(readAddressArgument("10.0.0.1/24/10.0.0.255"), {
    ...none,
    ip: "10.0.0.1",
    prefixBits: 24,
    broadcast: "10.0.0.255",
  });
  assert.deepEqual(readAddressArgument("10.0.0.1/24/eth0:1/10.0.0.255"), {
    ip: "10.0.0.1",
    prefixBits: 24,
    interface: "eth0",
    label: "1",
    broadcast: "10.0.0.255",
  });
  for (const [text, reason] of [
    ["10.0.0.300", /not an IP address/],
    ["10.0.0.1/33", /netmask of 0\.\.32/],
    ["fd00::1/255.255.0.0", /netmask of 0\.\.128/],
    ["10.0.0.1/24/10.0.0.255/10.0.0.255", /two broadcast/],
    ["10.0.0.1/24/eth0/x", /not a broadcast/],
  ] as const) {
    const read = readAddressArgument(text);
    assert.ok("refusal" in read, text);
    assert.match(read.refusal, reason);
  }
});

test("addressText: an IPv6 address that was cut at :: is put together again", () => {
  assert.equal(addressText("fd00::5/64/eth0".split("::")), "fd00::5/64/eth0");
  assert.equal(addressText(["10.0.0.1/24"]), "10.0.0.1/24");
  assert.equal(addressText([]), "");
});

test("statusTextSaysRunning: the text decides, not the exit code", () => {
  assert.equal(statusTextSaysRunning("apache2 is running (pid 12)."), true);
  assert.equal(statusTextSaysRunning("apache2 is not running"), false);
  assert.equal(statusTextSaysRunning("Not Running: OK"), false);
  assert.equal(statusTextSaysRunning("OK"), true);
  assert.equal(statusTextSaysRunning("stopped"), false);
  assert.equal(statusTextSaysRunning(""), false);
});

test("ResourceRunner: resource.d before init.d, a script gets its arguments and the action", async (t) => {
  const root = folder(t);
  file(root, "/etc/init.d/svc", "#!/bin/sh\necho init", 0o755);
  const path = file(root, "/etc/ha.d/resource.d/svc", '#!/bin/sh\necho "$# $* $HA_CURHOST running"; exit 3', 0o755);
  const runner = new ResourceRunner({ storage, root, environment: () => ({ HA_CURHOST: "nodo1" }) });
  assert.deepEqual(runner.resolve("svc"), { kind: "script", path, lsb: false });
  const status = await runner.run({ script: "svc", args: ["a", "", "b c"] }, "status");
  assert.equal(status.output, "3 a b c status nodo1 running");
  assert.equal(status.running, true);
  assert.equal((await runner.run({ script: "svc", args: [] }, "start")).exitCode, 3);
});

test("ResourceRunner: a script that nobody has is a failure that says where it was looked for", async (t) => {
  const runner = new ResourceRunner({ storage, root: folder(t) });
  const result = await runner.run({ script: "nosuch", args: [] }, "start");
  assert.equal(result.exitCode, 127);
  assert.match(result.output, /cannot locate resource script nosuch.*resource\.d.*init\.d/);
});

test("ResourceRunner: a script that hangs is ended at its time limit, with everything it started", async (t) => {
  const root = folder(t);
  file(root, "/etc/init.d/hang", "#!/bin/sh\nsleep 60 & wait", 0o755);
  const runner = new ResourceRunner({ storage, root, timeLimitsMs: { start: 100 } });
  const result = await runner.run({ script: "hang", args: [] }, "start");
  assert.equal(result.exitCode, 124);
  assert.match(result.output, /did not end within 0.1 s/);
});

test("ResourceRunner: packaged Filesystem gives way to the built-in, a changed or own one wins and is reported", (t) => {
  const root = folder(t);
  const path = file(root, "/etc/ha.d/resource.d/Filesystem", "packaged", 0o755);
  const runner = (): ReturnType<ResourceRunner["resolve"]> =>
    new ResourceRunner({ storage, root }).resolve("Filesystem");
  assert.equal(runner().kind, "script");
  assert.match((runner() as { note: string }).note, /belongs to no package/);
  file(root, "/var/lib/dpkg/info/resource-agents.list", `/etc\n${path}\n`);
  file(root, "/var/lib/dpkg/status", `Package: resource-agents\nConffiles:\n ${path} ${"0".repeat(32)}\n\n`);
  assert.match((runner() as { note: string }).note, /was changed since resource-agents brought it/);
  file(root, "/var/lib/dpkg/status", `Package: resource-agents\nConffiles:\n ${path} ${md5("packaged")}\n\n`);
  assert.equal(runner().kind, "builtin");
  assert.match((runner() as { note: string }).note, /built-in Filesystem used in place of/);
});

test("fileOrigin: a file of no package is the administrator's own", (t) => {
  const root = folder(t);
  const path = file(root, "/etc/x", "x");
  assert.deepEqual(fileOrigin(path, join(root, "var/lib/dpkg")), { kind: "own" });
});

test("ResourceRunner: an OCF agent gets named parameters, and only exit code 7 means stopped", async (t) => {
  const root = folder(t);
  file(
    root,
    "/usr/lib/ocf/resource.d/heartbeat/Dummy",
    '#!/bin/sh\necho "$1 $OCF_RESKEY_state"; [ "$1" = monitor ] && exit 7; exit 0',
    0o755,
  );
  const runner = new ResourceRunner({ storage, root });
  assert.equal((await runner.run({ script: "Dummy", args: ["state=/run/x"] }, "start")).output, "start /run/x");
  assert.equal((await runner.run({ script: "Dummy", args: [] }, "status")).running, false);
  const refused = await runner.run({ script: "Dummy", args: ["positional"] }, "start");
  assert.equal(refused.exitCode, 2);
  assert.match(refused.output, /no parameter for "positional".*write Dummy::name=value/);
});

test("DrbdDiskResource: gives up promotion after six tries, a second apart, and says why each failed", async () => {
  let tries = 0;
  const resource = new DrbdDiskResource({
    ...storage,
    promote: () => {
      tries++;
      return tries < 3 ? Promise.reject(new Error("State change failed: (-1)")) : Promise.resolve();
    },
  });
  const result = await resource.start(["r0"]);
  assert.equal(result.exitCode, 0);
  assert.equal(tries, 3);
  assert.match(result.output, /State change failed: \(-1\) \(try 1 of 6\)/);
});

test("DrbdDiskResource: what cannot be asked counts as running", async () => {
  const resource = new DrbdDiskResource({ ...storage, role: () => Promise.reject(new Error("no answer")) });
  const status = await resource.status(["r0"]);
  assert.match(status.output, /cannot determine status, may be running/);
});

test("runCommand: a daemon that keeps the pipes open does not keep the caller waiting", async () => {
  const started = process.hrtime.bigint();
  const result = await runCommand("/bin/sh", ["-c", "sleep 3 & echo started"]);
  assert.equal(result.stdout, "started\n");
  assert.ok(process.hrtime.bigint() - started < 2_000_000_000n);
});

test("runCommand: a program that is not there is exit code 127 with the reason", async () => {
  const result = await runCommand("/nonexistent/program", []);
  assert.equal(result.exitCode, 127);
  assert.match(result.stderr, /ENOENT/);
});

function md5(text: string): string {
  return createHash("md5").update(text).digest("hex");
}
