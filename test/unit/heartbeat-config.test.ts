import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Diagnostics, formatDiagnostic } from "@hacluster/blockrep/base";
import { checkAuthkeysMode, parseAuthkeys } from "@hacluster/heartbeat/unstable/config/authkeys";
import { ownNodeMissing, parseHaCf } from "@hacluster/heartbeat/unstable/config/ha-cf";
import { HA_CF_DIRECTIVES } from "@hacluster/heartbeat/unstable/config/ha-cf-directives";
import { monitorPolicyOf, parseHaclusterConf } from "@hacluster/heartbeat/unstable/config/hacluster-conf";
import { parseHaresources } from "@hacluster/heartbeat/unstable/config/haresources";
import type {
  AuthKeys,
  HaCf,
  HaclusterConf,
  Haresources,
  MonitorPolicy,
} from "@hacluster/heartbeat/unstable/config/model";
import { serializeAuthkeys, serializeHaCf, serializeHaresources } from "@hacluster/heartbeat/unstable/config/serialize";
import { formatTimeMs, parseTimeMs, prefixBitsOfNetmask } from "@hacluster/heartbeat/unstable/config/values";
import type { SigningKeys } from "@hacluster/heartbeat/unstable/wire/auth";
import fc from "fast-check";

const BASE = "keepalive 2\ndeadtime 30\ninitdead 120\nbcast eth0\nauto_failback on\nnode nodo1 nodo2\n";

interface Parsed<T> {
  readonly value: T;
  readonly findings: string[];
}

function haCf(text: string): Parsed<HaCf> {
  const diagnostics = new Diagnostics();
  const value = parseHaCf(text, "ha.cf", diagnostics);
  return { value, findings: diagnostics.items.map(formatDiagnostic) };
}

function authkeys(text: string): Parsed<AuthKeys | undefined> {
  const diagnostics = new Diagnostics();
  const value = parseAuthkeys(text, "authkeys", diagnostics);
  return { value, findings: diagnostics.items.map(formatDiagnostic) };
}

function haresources(text: string, nodes: readonly string[] = ["nodo1", "nodo2"]): Parsed<Haresources> {
  const diagnostics = new Diagnostics();
  const known = nodes.map((name) => ({ name, at: { file: "ha.cf", line: 1, column: 1 } }));
  const value = parseHaresources(text, "haresources", diagnostics, known);
  return { value, findings: diagnostics.items.map(formatDiagnostic) };
}

/** The findings of one more line below a good file; line 7. */
const oneMore = (line: string): string[] => haCf(`${BASE}${line}\n`).findings;

test("ha.cf: the user's file, byte for byte", () => {
  const { value, findings } = haCf(
    "debugfile /var/log/ha-debug\nlogfile /var/log/ha-log\nlogfacility local0\nkeepalive 2\ndeadtime 30\nwarntime 10\n" +
      "initdead 120\nudpport 694\nbcast eth0\nucast eth0 192.168.0.28\nauto_failback on\nnode nodo1\nnode nodo2\n",
  );
  assert.deepEqual(findings, []);
  assert.deepEqual(
    [value.keepaliveMs, value.deadtimeMs, value.warntimeMs, value.initdeadMs, value.deadpingMs],
    [2000, 30_000, 10_000, 120_000, 30_000],
  );
  assert.deepEqual(
    value.nodes.map((n) => n.name),
    ["nodo1", "nodo2"],
  );
  assert.deepEqual(value.media, [
    { kind: "bcast", interface: "eth0", port: 694, at: { file: "ha.cf", line: 9, column: 7 } },
    {
      kind: "ucast",
      interface: "eth0",
      address: "192.168.0.28",
      port: 694,
      at: { file: "ha.cf", line: 10, column: 1 },
    },
  ]);
  assert.equal(value.autoFailback, "on");
  assert.equal(value.logfacility, "local0");
});

test("ha.cf: every file of the recorded scenarios is accepted without error and survives being written out", () => {
  const folder = fileURLToPath(new URL("../../../test/vectors/heartbeat", import.meta.url));
  for (const scenario of readdirSync(folder)) {
    if (scenario === "payloads" || scenario === "README.md") continue;
    for (const name of readdirSync(join(folder, scenario))) {
      if (!name.startsWith("ha.cf") && name !== "haresources" && !name.startsWith("authkeys")) continue;
      const text = readFileSync(join(folder, scenario, name), "latin1");
      const parse = name.startsWith("ha.cf") ? haCf : name === "haresources" ? haresources : authkeys;
      const errors = parse(text).findings.filter((f) => f.includes(": error: "));
      assert.deepEqual(errors, [], `${scenario}/${name}`);
      if (name.startsWith("ha.cf"))
        assert.deepEqual(meaning(haCf(serializeHaCf(haCf(text).value)).value), meaning(haCf(text).value));
    }
  }
});

/** Without what depends on where things stand. */
function meaning(value: HaCf): unknown {
  const { settings: _, ...rest } = value;
  return JSON.parse(JSON.stringify(rest, (key, item: unknown) => (key === "at" ? undefined : item)));
}

test("ha.cf: defaults", () => {
  const { value, findings } = haCf("bcast eth0\nnode a b\n");
  assert.deepEqual(
    [value.keepaliveMs, value.deadtimeMs, value.warntimeMs, value.initdeadMs, value.deadpingMs, value.udpport],
    [1000, 30_000, 15_000, 30_000, 30_000, 694],
  );
  assert.equal(value.autoFailback, "legacy");
  assert.equal(value.msgfmt, "classic");
  assert.equal(value.hopfudge, 1);
  assert.equal(value.maxRetransmitDelayMs, 250);
  assert.equal(findings.length, 1);
  assert.match(findings[0]!, /^ha\.cf:1:1: warning: auto_failback is not set and means legacy; /);
});

test("ha.cf: default of initdead", () => {
  const initdead = (deadtime: string): number => haCf(`deadtime ${deadtime}\n`).value.initdeadMs;
  assert.deepEqual(["30", "10.5", "10", "6", "5.9"].map(initdead), [30_000, 10_500, 20_000, 12_000, 12_000]);
});

test("ha.cf: times", () => {
  const good: [string, number][] = [
    ["2", 2000],
    ["500ms", 500],
    ["0.25", 250],
    [".5", 500],
    ["1.", 1000],
    ["1500us", 2],
    ["1500US", 2],
    ["100msec", 100],
  ];
  for (const [text, ms] of good) assert.equal(parseTimeMs(text), ms, text);
  for (const bad of ["", ".", "2s", "1x", "1.2.3", "-1", "ms", "1 ms", "1e3"])
    assert.equal(parseTimeMs(bad), undefined, bad);
  fc.assert(fc.property(fc.nat(10_000_000), (ms) => parseTimeMs(formatTimeMs(ms)) === ms));
});

test("ha.cf: comments anywhere, commas and tabs separate, several values on a line", () => {
  const { value, findings } = haCf(
    `  keepalive\t1 # seconds\nudpport 695\nbcast eth0,eth1 #eth2\nnode Nodo1, NODO2\nauto_failback Off\nenv A=1 B=x=y\n`,
  );
  assert.deepEqual(findings, []);
  assert.deepEqual(
    value.media.map((m) => m.kind === "bcast" && `${m.interface}:${m.port}`),
    ["eth0:695", "eth1:695"],
  );
  assert.deepEqual(
    value.nodes.map((n) => n.name),
    ["nodo1", "nodo2"],
  );
  assert.equal(value.autoFailback, "off");
  assert.deepEqual(value.environment, [
    ["A", "1"],
    ["B", "x=y"],
  ]);
});

test("ha.cf: each error names line, column, what is wrong and what to write", () => {
  const cases: [string, RegExp][] = [
    ["keepalvie 2", /^ha\.cf:7:1: error: unknown directive "keepalvie"; write "keepalive"$/],
    ["zzzzzzzz 2", /^ha\.cf:7:1: error: unknown directive "zzzzzzzz"; remove the line$/],
    ["  keepalive 2s", /^ha\.cf:7:13: error: keepalive: "2s" is not a time: .*; write for example "keepalive 1"$/],
    ["keepalive 0", /^ha\.cf:7:11: error: keepalive: "0" must be more than 0/],
    ["warntime 0", /error: warntime: "0" must be more than 0/],
    ["deadtime soon", /^ha\.cf:7:10: error: deadtime: "soon" is not a time/],
    ["udpport 0", /^ha\.cf:7:9: error: udpport: "0" is not a number 1\.\.65535/],
    ["ucast", /^ha\.cf:7:1: error: ucast lacks the interface and address; write for example "ucast eth0 192/],
    ["ucast eth0", /^ha\.cf:7:7: error: ucast lacks the address of the other node for eth0/],
    ["ucast eth0 192.168.0.300", /^ha\.cf:7:12: error: "192\.168\.0\.300" is not an IPv4 address/],
    ["mcast eth0 239.0.0.1", /^ha\.cf:7:12: error: mcast lacks the port/],
    ["mcast eth0 10.0.0.1 694 1 0", /^ha\.cf:7:12: error: "10\.0\.0\.1" is not a multicast address/],
    ["mcast eth0 239.0.0.1 x 1 0", /error: "x" is not a port/],
    ["mcast eth0 239.0.0.1 694 5 0", /error: "5" is not a ttl 0\.\.4/],
    ["mcast eth0 239.0.0.1 694 1 2", /error: loop is 0 or 1, not "2"/],
    ["auto_failback maybe", /^ha\.cf:7:15: error: auto_failback: "maybe" is none of on, off, legacy/],
    ["logfacility local9", /^ha\.cf:7:13: error: logfacility: "local9" is no syslog facility; write "local0"/],
    ["debug 256", /error: debug: "256" is not a number 0\.\.255/],
    ["hopfudge -1", /error: hopfudge: "-1" is not a number/],
    ["msgfmt xml", /^ha\.cf:7:8: error: msgfmt: "xml" is none of classic, netstring/],
    ["baud 1200", /error: baud: "1200" is none of/],
    ["baud 9600 9600", /error: baud was set in line 7 already/],
    ["use_logd perhaps", /error: use_logd: "perhaps" is neither on nor off/],
    ["autojoin any", /^ha\.cf:7:10: error: autojoin any conflicts with the resource management of haresources/],
    ["crm yes", /^ha\.cf:7:5: error: crm yes asks for the Pacemaker resource manager, .*; write "crm no" and describe/],
    ["pacemaker respawn", /error: pacemaker respawn asks for the Pacemaker/],
    ["crm no\npacemaker off", /^ha\.cf:8:1: error: crm\/pacemaker was set in line 7 already/],
    ["respawn hacluster", /error: respawn lacks a program/],
    ["respawn hacluster ipfail", /^ha\.cf:7:19: error: respawn: "ipfail" is not a full path/],
    ["stonith meatware", /error: stonith lacks a device type and a configuration file/],
    ["stonith_host *", /error: stonith_host lacks a host/],
    ["ping_group routers", /error: ping_group lacks hosts/],
    ["hbgenmethod dice", /error: hbgenmethod: "dice" is none of file, time/],
    ["compression lzma", /error: compression: "lzma" is none of zlib, bz2/],
    ["deadtime 4", /^ha\.cf:7:10: error: deadtime \(4000ms\) is not more than twice keepalive \(2000ms\)/],
    ["initdead 20", /^ha\.cf:7:10: error: initdead \(20000ms\) is smaller than deadtime \(30000ms\)/],
    ["deadping 3", /^ha\.cf:7:10: error: deadping \(3000ms\) is not more than twice keepalive/],
    [`node ${"x".repeat(5200)}`, /^ha\.cf:7:1: error: the line has more than 5119 characters/],
  ];
  for (const [line, expected] of cases) {
    const errors = oneMore(line).filter((f) => f.includes(": error: "));
    assert.equal(errors.length, 1, `${line}: ${errors.join("\n")}`);
    assert.match(errors[0]!, expected);
  }
});

test("ha.cf: no medium, no node", () => {
  assert.deepEqual(
    haCf("auto_failback on\n").findings.map((f) => f.split(";")[0]),
    ["ha.cf:1:1: error: no medium: nothing says how to reach the other node", "ha.cf:1:1: error: no node"],
  );
});

test("ha.cf: all errors of a file come in one run, in the order of the lines", () => {
  const { findings } = haCf(`keepalive x\nfoo\n${BASE}mcast eth0\n`);
  assert.deepEqual(
    findings.map((f) => f.split(": ").slice(0, 2).join(" ")),
    ["ha.cf:1:11 error", "ha.cf:2:1 error", "ha.cf:9:7 error"],
  );
});

test("ha.cf: warnings say what will not happen", () => {
  const cases: [string, RegExp][] = [
    ["udp eth1", /^ha\.cf:7:1: warning: udp is an old name of bcast; write "bcast eth1"$/],
    ["nice_failback on", /^ha\.cf:7:1: warning: nice_failback is obsolete and means auto_failback off here/],
    ["node nodo1", /^ha\.cf:7:6: warning: node nodo1 is in line 6 already/],
    ["node nodo3", /warning: haresources serves two nodes/],
    ["warntime 40", /warning: warntime \(40000ms\) is not below deadtime/],
    ["realtime on", /^ha\.cf:7:1: warning: realtime has no meaning here: the service unit sets priorities$/],
    ["hbaping HBA", /^ha\.cf:7:1: warning: hbaping has no meaning here: .*it counts as no ping node$/],
    ["apiauth ipfail uid=hacluster", /warning: apiauth has no meaning here/],
    ["keepalive 3", /^ha\.cf:7:11: warning: keepalive 3 replaces keepalive 2 of line 1/],
    ["udpport 700", /warning: udpport does not reach the media above it/],
    ["env SITE", /^ha\.cf:7:5: warning: env: "SITE" is not NAME=VALUE and has no effect/],
    ["cluster x\r", /^ha\.cf:7:10: warning: the line ends with a carriage return, which is ignored/],
    ["keepalive", /^ha\.cf:7:1: warning: keepalive has no value and no effect/],
    ["stonith_host nodo3 null nodo1", /warning: stonith_host nodo3 names no node, .*; write "nodo1"/],
    ["auto_failback legacy", /warning: auto_failback legacy is an old protocol/],
    ["compression bz2", /warning: messages compressed with bz2 cannot be read here/],
    ["traditional_compression on", /warning: compressed messages are understood/],
    ["ucast eth0 10.0.0.2 10.0.0.3", /^ha\.cf:7:21: warning: "10\.0\.0\.3" is ignored/],
  ];
  for (const [line, expected] of cases) {
    const findings = oneMore(line);
    assert.ok(
      findings.every((f) => f.includes(": warning: ")),
      findings.join("\n"),
    );
    assert.ok(
      findings.some((f) => expected.test(f)),
      `${line}: ${findings.join("\n")}`,
    );
  }
  assert.match(
    haCf(BASE.replace("120", "5").replace("30", "4.5")).findings.join(),
    /initdead \(5000ms\) is under 10 s/,
  );
});

test("ha.cf: every directive with its example is understood", () => {
  for (const [name, directive] of HA_CF_DIRECTIVES) {
    const errors = oneMore(`${name} ${directive.example}`).filter((f) => f.includes(": error: "));
    assert.deepEqual(errors, [], name);
  }
});

test("ha.cf: ipfail is recognised by its base name", () => {
  const { value } = haCf(`${BASE}respawn hacluster /usr/libexec/heartbeat/ipfail\nrespawn root /bin/x a b\n`);
  assert.deepEqual(
    value.respawn.map((r) => [r.user, r.path, r.builtIn, r.args]),
    [
      ["hacluster", "/usr/libexec/heartbeat/ipfail", "ipfail", []],
      ["root", "/bin/x", undefined, ["a", "b"]],
    ],
  );
});

test("ha.cf: our own name must be a node", () => {
  const { value } = haCf(BASE);
  const diagnostics = new Diagnostics();
  assert.equal(ownNodeMissing(value, "NODO1", diagnostics), false);
  assert.equal(ownNodeMissing(value, "www", diagnostics), true);
  assert.match(
    diagnostics.items.map(formatDiagnostic).join(),
    /^ha\.cf:6:6: error: this machine is "www".*no node line/,
  );
});

test("authkeys: the user's file, and several keys", () => {
  const { value, findings } = authkeys("auth 1\n1 crc\n#2 sha1 HI!\n");
  assert.deepEqual(value, { active: 1, keys: new Map([[1, { method: "crc", key: new Uint8Array() }]]) });
  assert.deepEqual(
    findings.map((f) => f.split(";")[0]),
    ["authkeys:2:1: warning: crc holds no secret: whoever can send to the port is believed"],
  );
  const two = authkeys("# comment\nauth 2\n\n  1 md5 Hello! rest\n2 sha1 HI!# x\n");
  const keys: SigningKeys | undefined = two.value;
  assert.equal(keys?.active, 2);
  assert.equal(Buffer.from(keys?.keys.get(2)?.key ?? []).toString(), "HI!#");
  assert.equal(two.findings.length, 2);
  assert.match(two.findings[0]!, /^authkeys:4:16: warning: a key is one word/);
  assert.match(two.findings[1]!, /^authkeys:5:13: warning: a key is one word/);
});

test("authkeys: each refusal, without showing a key", () => {
  const cases: [string, RegExp][] = [
    ["1 crc\n", /^authkeys:1:1: error: no auth line says which key signs; write "auth 1"/],
    ["auth 16\n1 crc\n", /^authkeys:1:6: error: auth needs the number of a key, 0\.\.15/],
    ["auth\n", /^authkeys:1:1: error: auth needs the number of a key/],
    ["auth 2\n1 crc\n", /^authkeys:1:1: error: auth 2 names a key that no line defines; write "2 sha1 SECRET" below/],
    ["1 sha1 HIDDEN\nauth 1\n", /^authkeys:1:1: error: key 1 stands above the line "auth 1"/],
    ["auth 1\n1 crc # note\n", /^authkeys:2:7: error: a comment cannot stand behind a key/],
    ["auth 1\n1 crc HIDDEN\n", /^authkeys:2:7: error: crc takes no key/],
    ["auth 1\n1 sha1\n", /^authkeys:2:3: error: sha1 needs a key; write "1 sha1 SECRET"/],
    ["auth 1\n1 sha\n", /^authkeys:2:3: error: key 1: "sha" is no method; write "sha1"/],
    ["auth 1\n1\n", /^authkeys:2:1: error: key 1 lacks its method/],
    ["auth 1\n1 sha1 HIDDEN\n17 crc\n", /^authkeys:3:1: error: key number 17 is above 15/],
    ["auth 1\n1 sha1 HIDDEN\nhello\n", /^authkeys:3:1: error: a line begins with auth or with the number of a key/],
  ];
  for (const [text, expected] of cases) {
    const errors = authkeys(text).findings.filter((f) => f.includes(": error: "));
    assert.equal(errors.length, 1, `${text}: ${errors.join("\n")}`);
    assert.match(errors[0]!, expected);
    assert.doesNotMatch(errors.join(), /HIDDEN/);
  }
});

test("authkeys: sha256 is ours, and an unused crc beside a keyed method is dangerous", () => {
  assert.match(
    authkeys("auth 1\n1 sha256 K\n").findings.join(),
    /warning: a Heartbeat 3 node refuses a file with sha256/,
  );
  assert.match(
    authkeys("auth 2\n1 crc\n2 sha1 K\n").findings.join(),
    /whoever signs with key 1 is believed although key 2/,
  );
});

test("authkeys: the mode keeps others from reading", () => {
  for (const mode of [0o100600, 0o400, 0o622]) assert.ok(checkAuthkeysMode(mode, "authkeys", new Diagnostics()));
  for (const mode of [0o644, 0o640, 0o604]) {
    const diagnostics = new Diagnostics();
    assert.equal(checkAuthkeysMode(mode, "/etc/ha.d/authkeys", diagnostics), false);
    assert.match(
      formatDiagnostic(diagnostics.items[0]!),
      /error: mode 6[04][04] lets others .*chmod 600 \/etc\/ha\.d\/authkeys/,
    );
  }
});

test("authkeys: written out without keys unless asked", () => {
  const { value } = authkeys("auth 2\n2 sha1 Ñandú\n1 md5 b\n");
  assert.ok(value !== undefined);
  assert.equal(serializeAuthkeys(value), "auth 2\n1 md5 ********\n2 sha1 ********\n");
  assert.equal(serializeAuthkeys(value, { showKeys: true }), "auth 2\n1 md5 b\n2 sha1 Ñandú\n");
});

test("haresources: the user's line, typed", () => {
  const line =
    "nodo1 IPaddr2::192.168.0.29/24/eth0 drbddisk::r0 Filesystem::/dev/drbd0::/home/jorge/datos::ext4 apache2\n";
  const { value, findings } = haresources(line);
  assert.deepEqual(findings, []);
  const [group] = value.groups;
  assert.equal(group?.node, "nodo1");
  assert.equal(group?.key, "IPaddr2::192.168.0.29/24/eth0");
  assert.deepEqual(
    group?.resources.map((r) => [r.kind, r.at.column]),
    [
      ["address", 7],
      ["drbddisk", 37],
      ["filesystem", 50],
      ["script", 98],
    ],
  );
  assert.equal(serializeHaresources(value), line);
});

test("haresources: comments, joined lines, case, positions of the file as it is", () => {
  const { value, findings } = haresources(
    "# all\n\n  NODO1\t10.0.0.1/24/eth0:1 \\\n  drbddisk \\\n  dummy::a::::b # end\nnodo2 apache2\n",
  );
  assert.deepEqual(findings, []);
  assert.deepEqual(
    value.groups.map((g) => [g.node, g.key, g.resources.map((r) => `${r.script} ${r.args.join(" ")} ${r.at.line}`)]),
    [
      ["nodo1", "10.0.0.1/24/eth0:1", ["IPaddr 10.0.0.1/24/eth0:1 3", "drbddisk  4", "dummy a b 5"]],
      ["nodo2", "apache2", ["apache2  6"]],
    ],
  );
});

test("haresources: address arguments", () => {
  const address = (text: string): unknown => {
    const [resource] = haresources(`nodo1 IPaddr2::${text}\n`).value.groups[0]?.resources ?? [];
    return resource?.kind === "address"
      ? Object.values(resource.address)
          .map((v) => v ?? "-")
          .join(" ")
      : undefined;
  };
  assert.equal(address("10.0.0.1"), "10.0.0.1 - - - -");
  assert.equal(address("10.0.0.1/24"), "10.0.0.1 24 - - -");
  assert.equal(address("10.0.0.1/24/eth0"), "10.0.0.1 24 eth0 - -");
  assert.equal(address("10.0.0.1/24/eth0:1/10.0.0.255"), "10.0.0.1 24 eth0 1 10.0.0.255");
  assert.equal(address("10.0.0.1/24/10.0.0.255"), "10.0.0.1 24 - - 10.0.0.255");
  assert.equal(address("10.0.0.1/255.255.255.0/eth0"), "10.0.0.1 24 eth0 - -");
  assert.equal(prefixBitsOfNetmask("255.0.255.0"), undefined);
  assert.equal(prefixBitsOfNetmask("0.0.0.0"), 0);
});

test("haresources: each error names line, column, what is wrong and what to write", () => {
  const cases: [string, RegExp][] = [
    ["nodo3 apache2", /^haresources:1:1: error: "nodo3" owns this line and is no node of ha\.cf; write "nodo1"$/],
    ["www-server apache2", /error: "www-server" owns .*; begin the line with one of nodo1, nodo2$/],
    ["nodo1 IPaddr2", /^haresources:1:7: error: "IPaddr2" lacks its address; write for example/],
    ["nodo1 IPaddr2::192.168.0", /error: "192\.168\.0": "192\.168\.0" is not an IP address/],
    ["nodo1 192.168.0.300", /error: "192\.168\.0\.300": "192\.168\.0\.300" is not an IP address/],
    ["nodo1 10.0.0.1/33", /error: "10\.0\.0\.1\/33": "33" is not a netmask/],
    ["nodo1 10.0.0.1/24/eth0/x", /"x" is not a broadcast address/],
    ["nodo1 10.0.0.1/24/10.0.0.255/10.0.0.255", /has two broadcast addresses/],
    ["nodo1 10.0.0.1/24/eth0/10.0.0.255/x", /has more than address, netmask, interface and broadcast/],
    ["nodo1 Filesystem::/dev/drbd0", /error: "Filesystem::\/dev\/drbd0" lacks its device or directory/],
    ["nodo1 OCF", /error: "OCF" lacks its agent/],
    ["nodo1 systemd:", /error: "systemd:" lacks its unit/],
    ["nodo1 ::x", /^haresources:1:7: error: "::x" does not begin with the name of a script/],
    ["nodo1 apache2 \\ # comment", /^haresources:1:15: error: a backslash with something behind it/],
    ["nodo1 apache2 x\nnodo2 apache2 y", /^haresources:2:7: error: "apache2" is in line 1 already, and the first/],
    ["nodo1 a 10.0.0.1\nnodo2 b IPaddr2::10.0.0.1/24", /^haresources:2:9: error: .* would have two owners/],
    ["nodo1 a drbddisk::r0\nnodo2 b drbddisk::r0", /error: "drbddisk::r0" is in line 1 already: it would have two/],
    ["nodo1 apache2\r", /^haresources:1:14: error: the line ends with a carriage return/],
  ];
  for (const [text, expected] of cases) {
    const errors = haresources(`${text}\n`).findings.filter((f) => f.includes(": error: "));
    assert.equal(errors.length, 1, `${text}: ${errors.join("\n")}`);
    assert.match(errors[0]!, expected);
  }
});

test("haresources: warnings", () => {
  const cases: [string, RegExp][] = [
    ["nodo1", /^haresources:1:1: warning: the line of nodo1 has no resources/],
    ["nodo1 dummy::*", /warning: "dummy::\*": Heartbeat's shell expands/],
    ["nodo1 a x\nnodo2 b x", /^haresources:2:9: warning: "x" is in line 1 already: when one group stops it/],
    ["nodo1 a a", /^haresources:1:9: warning: "a" is in line 1 already; remove one/],
    ["nodo1 a\\\nb", /^haresources:2:1: warning: joined to "ab" with the end of the line above/],
  ];
  for (const [text, expected] of cases) {
    const { findings } = haresources(`${text}\n`);
    assert.equal(findings.length, 1, findings.join("\n"));
    assert.match(findings[0]!, expected);
  }
  assert.equal(haresources("nodo1 a\\\nb\n").value.groups[0]?.key, "ab");
  assert.deepEqual(haresources("\n# nothing\n").findings, []);
});

test("property: no text makes a parser throw", () => {
  const pieces = [
    ...HA_CF_DIRECTIVES.keys(),
    "auth",
    "1",
    "crc",
    "nodo1",
    "10.0.0.1/24",
    "::",
    "\\\n",
    "\n",
    " ",
    "#",
    "\t",
    ",",
    "\0",
  ];
  const soup = fc.array(fc.oneof(fc.constantFrom(...pieces), fc.string({ maxLength: 8 })), { maxLength: 40 });
  fc.assert(
    fc.property(soup, (parts) => {
      const text = parts.join(" ");
      for (const parse of [haCf, authkeys, haresources]) {
        for (const finding of parse(text).findings)
          assert.match(finding, /^[\w.]+:[1-9][0-9]*:[1-9][0-9]*: (error|warning): /);
      }
    }),
    { numRuns: 200 },
  );
});

test("ha.cf: fencing, ping nodes, clients and the watchdog are implemented", () => {
  for (const line of [
    "watchdog /dev/watchdog",
    "respawn hacluster /usr/lib/heartbeat/ipfail",
    "failfast root /usr/local/bin/client",
    "stonith_host * external/ipmi nodo2 192.168.0.128 admin secret",
    "stonith fence_virsh /etc/ha.d/virsh.conf",
    "ping 192.168.0.1",
    "ping_group routers 192.168.0.1 192.168.0.2",
    "deadping 60",
  ]) {
    assert.deepEqual(oneMore(line), [], line);
  }
});

function conf(text: string): { conf: HaclusterConf; findings: string[] } {
  const diagnostics = new Diagnostics();
  const haresources = parseHaresources(
    "nodo1 IPaddr2::10.0.0.1 Filesystem::/dev/drbd0::/srv::ext4::ro,size=1 apache2\n",
    "haresources",
    diagnostics,
  );
  const parsed = parseHaclusterConf(text, "hacluster.conf", diagnostics, haresources);
  return { conf: parsed, findings: diagnostics.items.map(formatDiagnostic) };
}

test("hacluster.conf: a rule for the resource counts before one for its script, and that before the one for all", () => {
  const { conf: parsed, findings } = conf(`# comment
monitor interval=5s window=1h  # all
monitor apache2 failures=1 timeout=500ms
monitor Filesystem::/dev/drbd0::/srv::ext4::ro,size=1 off
monitor Filesystem interval=2m
fence timeout=90
`);
  assert.deepEqual(findings, []);
  const of = (text: string): MonitorPolicy | undefined =>
    monitorPolicyOf(parsed, { text, script: text.split("::")[0] ?? "" });
  assert.deepEqual(of("IPaddr2::10.0.0.1"), { intervalMs: 5000, timeoutMs: 60_000, failures: 3, windowMs: 3_600_000 });
  assert.deepEqual(of("apache2"), { intervalMs: 10_000, timeoutMs: 500, failures: 1, windowMs: 600_000 });
  assert.equal(of("Filesystem::/dev/drbd0::/srv::ext4::ro,size=1"), undefined);
  assert.equal(of("Filesystem::/dev/drbd1::/x")?.intervalMs, 120_000);
  assert.equal(parsed.fenceTimeoutMs, 90_000);
  assert.equal(monitorPolicyOf(undefined, { text: "apache2", script: "apache2" }), undefined, "off without the file");
});

test("hacluster.conf: what cannot be understood is an error with its place", () => {
  const cases: [string, RegExp][] = [
    ["watch apache2", /^hacluster\.conf:1:1: error: unknown directive "watch"/],
    ["monitr", /unknown directive "monitr"; write "monitor"/],
    ["monitor interval=0", /^hacluster\.conf:1:9: error: monitor: interval "0" is not a time of at least 100ms/],
    ["monitor interval=10x", /interval "10x" is not a time/],
    ["monitor failures=-1", /failures "-1" is not a number 0\.\.1000/],
    ["monitor apache2 often", /^hacluster\.conf:1:17: error: monitor: "often" is neither a setting nor off/],
    ["monitor apahce2", /warning: monitor apahce2: haresources has no such resource; write "apache2"/],
    ["fence timeout=0", /error: fence: "timeout=0" is not timeout=TIME/],
  ];
  for (const [line, expected] of cases) {
    const { findings } = conf(line);
    assert.equal(findings.length, 1, line);
    assert.match(findings[0]!, expected);
  }
});
