import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { Diagnostics } from "@hacluster/blockrep/base";
import { parseHaclusterConf } from "@hacluster/heartbeat/unstable/config/hacluster-conf";
import { canonicalAddress, parseAddressList } from "@hacluster/heartbeat/unstable/drivers/addresses/local-addresses";
import { nameArguments, parseInstanceFile, parseMetaData } from "@hacluster/heartbeat/unstable/drivers/ocf-agent";
import { isBelow, parseMountInfo } from "@hacluster/heartbeat/unstable/drivers/resources/mounts";
import { statusSaysRunning } from "@hacluster/heartbeat/unstable/drivers/resources/resource";
import { runCommand } from "@hacluster/heartbeat/unstable/drivers/run-command";
import { scriptEnvironment } from "@hacluster/heartbeat/unstable/drivers/script-environment";
import { ScriptLookup } from "@hacluster/heartbeat/unstable/drivers/script-lookup";
import { ScriptOutput } from "@hacluster/heartbeat/unstable/drivers/script-output";

const IPADDR2 = `<resource-agent name="IPaddr2"><parameters>
<parameter name="ip" unique="1" required="1">
<parameter name="nic" unique="0"> <parameter name='cidr_netmask'>
<parameter name="broadcast"/>
<parameter name="iflabel" required="0">
</parameters></resource-agent>`;

test("parseMetaData: names and which are required, in their order", () => {
  assert.deepEqual(
    parseMetaData(IPADDR2).map(({ name, required }) => `${name} ${required}`),
    ["ip true", "nic false", "cidr_netmask false", "broadcast false", "iflabel false"],
  );
  assert.deepEqual(parseMetaData("no xml"), []);
});

test("nameArguments: by name, by position, addresses spread, one too many refused", () => {
  const address = parseMetaData(IPADDR2);
  assert.deepEqual(nameArguments("IPaddr2", ["10.0.0.1/24/eth0:1/10.0.0.255"], address), {
    named: { ip: "10.0.0.1", cidr_netmask: "24", nic: "eth0", iflabel: "1", broadcast: "10.0.0.255" },
  });
  assert.deepEqual(nameArguments("IPaddr2", ["nic=eth1", "10.0.0.1"], address), {
    named: { nic: "eth1", ip: "10.0.0.1" },
  });
  const mail = [
    { name: "subject", required: false },
    { name: "email", required: true },
  ];
  assert.deepEqual(nameArguments("MailTo", ["a@b", "", "x=y"], mail), { named: { email: "a@b", subject: "x=y" } });
  assert.deepEqual(nameArguments("MailTo", ["a", "b", "c"], mail), {
    refusal: 'OCF agent MailTo has no parameter for "c" (email, subject): write MailTo::name=value',
  });
  assert.deepEqual(nameArguments("Mute", ["state=/run/x"], []), { named: { state: "/run/x" } });
  const refused = nameArguments("Mute", ["/run/x"], []);
  assert.match("refusal" in refused ? refused.refusal : "", /its meta-data names none/);
});

test("parseInstanceFile: quotes, comments, with and without prefix", () => {
  const text = "# web\nOCF_RESKEY_configfile=\"/etc/a b\"\nexport port='80' # http\nhost=x#y\nnothing\n";
  assert.deepEqual(parseInstanceFile(text), { configfile: "/etc/a b", port: "80", host: "x" });
});

test("statusSaysRunning: a silent init script counts by its exit code, a silent ha.d script as stopped", () => {
  assert.equal(statusSaysRunning("\n", 0), true);
  assert.equal(statusSaysRunning("", 3), false);
  assert.equal(statusSaysRunning("", undefined), false);
  assert.equal(statusSaysRunning("apache2 is not running ... failed!", 0), false);
  assert.equal(statusSaysRunning("apache2 is running (pid 12).", 1), true);
  // systemd's redirection of init scripts
  assert.equal(statusSaysRunning("     Active: active (running) since Fri", 0), true);
  assert.equal(statusSaysRunning("     Active: inactive (dead)", 3), false);
});

test("ScriptOutput: lines as they come, streams apart, bounded in length and number, without control characters", () => {
  const lines: string[] = [];
  const output = new ScriptOutput((line) => lines.push(line));
  output.write("stdout", "one\ntw");
  output.write("stderr", "error\n");
  output.write("stdout", "o\r\n\n\u001b[31mred\u001b[0m\u0007\n");
  output.write("stdout", `${"x".repeat(3000)}\nrest`);
  output.end();
  assert.deepEqual(
    lines.map((line) => (line.length > 20 ? line.length : line)),
    ["one", "error", "two", "red ", 1000, "rest"],
  );
  lines.length = 0;
  for (let i = 0; i < 1000; i++) output.write("stdout", `${i}\n`);
  output.end();
  assert.equal(lines.length, 201);
  assert.equal(lines.at(-1), "(800 more lines)");
});

test("scriptEnvironment: nothing that is meant for the daemon, system folders on PATH, HA_ variables win", () => {
  const own = { PATH: "/opt/bin", NOTIFY_SOCKET: "/run/x", NODE_OPTIONS: "--inspect", LANG: "C", HA_A: "old" };
  const environment = scriptEnvironment(own, { HA_A: "new" });
  assert.deepEqual(environment, {
    PATH: "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    LANG: "C",
    HA_A: "new",
  });
});

test("ScriptLookup: a unit is the last resort; instances find their template; paths are no names", (t) => {
  const root = folder(t);
  for (const unit of ["web.service", "tunnel@.service", "both.service"]) put(root, `/usr/lib/systemd/system/${unit}`);
  put(root, "/etc/init.d/both", 0o755);
  const lookup = new ScriptLookup(root);
  assert.deepEqual(lookup.resolve("web"), { kind: "systemd", unit: "web.service" });
  assert.deepEqual(lookup.resolve("tunnel@a"), { kind: "systemd", unit: "tunnel@a.service" });
  assert.equal(lookup.resolve("both").kind, "script");
  assert.deepEqual(lookup.resolve("systemd:any.socket"), { kind: "systemd", unit: "any.socket" });
  assert.equal(lookup.resolve("none").kind, "missing");
  assert.equal(lookup.resolve("OCF", ["../../x"]).kind, "missing");
  assert.equal(lookup.resolve("OCF").kind, "missing");
});

test("runCommand: an abort ends the command and all it started", async () => {
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 50);
  const result = await runCommand("/bin/sh", ["-c", "sleep 60 & wait"], { signal: abort.signal });
  assert.equal(result.timedOut, true);
  assert.notEqual(result.exitCode, 0);
});

test("addresses: the kernel's spelling, the list of ip", () => {
  assert.equal(canonicalAddress("FD00:0:0:0::0029"), "fd00::29");
  assert.equal(canonicalAddress("fe80::1%eth0"), "fe80::1");
  assert.equal(canonicalAddress("10.0.0.1"), "10.0.0.1");
  const list = `[{},{"ifname":"eth0","operstate":"DOWN","addr_info":[{"family":"inet","local":"10.0.0.1","prefixlen":32,"label":"eth0:1"},{}]}]`;
  assert.deepEqual(parseAddressList(list), [{ address: "10.0.0.1", interfaceName: "eth0", prefixBits: 32 }]);
});

test("parseMountInfo: device, target, type and source; octal blanks; optional fields of any number", () => {
  const text = [
    "36 35 98:0 /root /mnt\\040x rw,noatime master:1 shared:2 - ext4 /dev/sd\\040a rw",
    "37 35 0:44 / /srv rw - tmpfs none rw",
    "broken",
    "",
  ].join("\n");
  assert.deepEqual(parseMountInfo(text), [
    { device: "98:0", target: "/mnt x", type: "ext4", source: "/dev/sd a" },
    { device: "0:44", target: "/srv", type: "tmpfs", source: "none" },
  ]);
  assert.deepEqual(
    [isBelow("/srv/x", "/srv"), isBelow("/srvx", "/srv"), isBelow("/srv", "/srv"), isBelow("/x", "/")],
    [true, false, false, true],
  );
});

test("hacluster.conf: script, address and filesystem settings, and their refusals", () => {
  const read = (text: string): [unknown, string[]] => {
    const diagnostics = new Diagnostics();
    const { runner } = parseHaclusterConf(text, "hacluster.conf", diagnostics);
    return [runner, diagnostics.items.map((found) => found.message)];
  };
  assert.deepEqual(read(""), [undefined, []]);
  const good =
    "script start=5m stop=30\nscript status=500ms\naddress probe=20ms check=off\nfilesystem end-holders=no\n";
  assert.deepEqual(read(good), [
    {
      timeLimitsMs: { start: 300_000, stop: 30_000, status: 500 },
      addressProbeMs: 20,
      addressCheckMs: 0,
      endHolders: false,
    },
    [],
  ]);
  for (const line of [
    "script start=0",
    "script start=soon",
    "script begin=5",
    "address probe=60ms",
    "address check=500ms",
    "filesystem end-holders=maybe",
    "filesystem",
  ]) {
    const [runner, problems] = read(line);
    assert.deepEqual(runner, {}, line);
    assert.equal(problems.length, 1, line);
  }
});

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "hacluster-scripts-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function put(root: string, path: string, mode = 0o644): void {
  const full = join(root, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, "", { mode });
}
