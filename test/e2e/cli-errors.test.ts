// Bad input, through the real command: what it says, its exit code, and that nothing was written.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, type TestContext, test } from "node:test";
import { createProgram } from "hacluster/unstable/main";
import { USER_FILES } from "../demo/configuration.ts";
import { type Result, run } from "../lab/process.ts";
import { DRBDADM_84 } from "../support/drbdadm.ts";
import { configure, HACLUSTER, PAIR_NEEDS, Pair, type PairNode } from "../support/pair.ts";
import { missing, type Needs, skipUnless } from "../support/requires.ts";

function hacluster(...args: string[]): Promise<Result> {
  return run([process.execPath, HACLUSTER, ...args], { timeoutMs: 30_000 });
}

/** A copy of the user's files below DIR/etc, with one text of one file changed. */
function rootWith(t: TestContext, path?: string, from?: string | RegExp, to?: string): string {
  const root = mkdtempSync(join(tmpdir(), "hacluster-root-"));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  cpSync(USER_FILES, join(root, "etc"), { recursive: true });
  if (path !== undefined) {
    const file = join(root, "etc", path);
    const text = readFileSync(file, "utf8");
    const changed = text.replace(from ?? "", to ?? "");
    assert.notEqual(changed, text, `${path} has no ${from}`);
    writeFileSync(file, changed);
  }
  return root;
}

interface Broken {
  readonly path: string;
  readonly from: string | RegExp;
  readonly to: string;
  /** LINE:COLUMN */
  readonly at: string;
  /** What is wrong, and what to write. */
  readonly says: RegExp;
}

const BROKEN: readonly Broken[] = [
  {
    path: "ha.d/ha.cf",
    from: "deadtime 30",
    to: "deadtimme 30",
    at: "5:1",
    says: /unknown directive "deadtimme"; write "deadtime"/,
  },
  {
    path: "ha.d/ha.cf",
    from: "deadtime 30",
    to: "deadtime x30",
    at: "5:10",
    says: /"x30" is not a time.*write for example "deadtime 30"/,
  },
  { path: "ha.d/ha.cf", from: "udpport 694", to: "udpport 69400", at: "8:9", says: /69400/ },
  { path: "ha.d/authkeys", from: "1 crc", to: "1 crcc", at: "2:3", says: /"crcc" is no method; write "crc"/ },
  {
    path: "ha.d/authkeys",
    from: "auth 1",
    to: "auth 7",
    at: "1:1",
    says: /auth 7 names a key that no line defines; write "7 sha1 SECRET"/,
  },
  {
    path: "ha.d/haresources",
    from: "nodo1",
    to: "nodo9",
    at: "1:1",
    says: /"nodo9" owns this line and is no node of ha.cf; write "nodo1"/,
  },
  {
    path: "ha.d/haresources",
    from: "/24/",
    to: "/99/",
    at: "1:7",
    says: /"99" is not a netmask of 0..32 bits; write for example/,
  },
  {
    path: "drbd.d/global_common.conf",
    from: "usage-count",
    to: "usage-cont",
    at: "1:10",
    says: /unknown option "usage-cont" in section global; did you mean usage-count/,
  },
  {
    path: "drbd.d/r0.res",
    from: "timeout 60;\n    connect",
    to: "timeout sixty;\n    connect",
    at: "18:13",
    says: /"sixty" is no number for timeout; write 1 to 600/,
  },
  {
    path: "drbd.d/r0.res",
    from: "protocol C",
    to: "protocol D",
    at: "3:10",
    says: /unknown value "D" of protocol; did you mean C/,
  },
  {
    path: "drbd.d/r0.res",
    from: "\ndisk {",
    to: "\ndsk {",
    at: "13:1",
    says: /unexpected "dsk" in resource r0; here stand/,
  },
  { path: "drbd.d/r0.res", from: /}\s*$/, to: "", at: "46:1", says: /not closed at the end of the file; write "}"/ },
];

test("config: a broken line gives file, line, column, what is wrong and what to write", async (t) => {
  await Promise.all(
    BROKEN.map(async ({ path, from, to, at, says }) => {
      const root = rootWith(t, path, from, to);
      const { code, stderr } = await hacluster("config", "--root", root);
      const lines = stderr.split("\n").filter((line) => line.includes(": error: "));
      assert.equal(code, 1, `${path}: ${to}`);
      const line = lines.find((text) => text.startsWith(`${join(root, "etc", path)}:${at}: error: `));
      assert.ok(line !== undefined, `${path}: ${to}: ${lines.join("\n")}`);
      assert.match(line, says);
    }),
  );
});

test("config: every file of the user's is understood, on a machine whatever its host name", async (t) => {
  const root = rootWith(t);
  const { code, stdout, stderr } = await hacluster("config", "--root", root);
  assert.equal(code, 0, stderr);
  for (const part of ["deadtime 30", "1 crc", "nodo1 IPaddr2::192.168.0.29/24/eth0 drbddisk::r0", "resource r0 {"]) {
    assert.ok(stdout.includes(part), part);
  }
  assert.doesNotMatch(stdout, /"?123"?;/, "secrets stay in their file");
  assert.doesNotMatch(stderr, /error/);
});

test("config: what this machine lacks is a warning with file and line, exit code 0", async (t) => {
  const root = rootWith(t, "ha.d/haresources", "apache2", "no-such-script Filesystem::/dev/no-such-disk::/mnt::ext4");
  const change = (path: string, from: RegExp, to: string): void => {
    const file = join(root, "etc", path);
    writeFileSync(file, readFileSync(file, "utf8").replace(from, to));
  };
  change("ha.d/ha.cf", /^bcast eth0$/m, "bcast no-such-if0");
  change("drbd.d/r0.res", /\/dev\/sda6/g, "/dev/no-such-sda6");
  const { code, stderr } = await hacluster("config", "--root", root);
  assert.equal(code, 0, stderr);
  const warnings = [
    /ha\.d\/ha\.cf:9:\d+: warning: interface no-such-if0 does not exist/,
    /ha\.d\/haresources:1:\d+: warning: no script "no-such-script"/,
    /ha\.d\/haresources:1:\d+: warning: \/dev\/no-such-disk does not exist/,
    /drbd\.d\/r0\.res:36:\d+: warning: \/dev\/no-such-sda6 does not exist/,
  ];
  for (const warning of warnings) assert.match(stderr, warning);

  rmSync(join(root, "etc/drbd.d"), { recursive: true });
  const without = await hacluster("config", "--root", root);
  assert.equal(without.code, 0, without.stderr);
  assert.match(without.stderr, /etc\/drbd\.conf:1:1: warning: there is no DRBD configuration/);
});

test("config --json: the same, as JSON, with the findings; also of broken files", async (t) => {
  const good = await hacluster("config", "--root", rootWith(t), "--json");
  assert.equal(good.code, 0);
  const value = JSON.parse(good.stdout);
  assert.deepEqual(Object.keys(value), ["haCf", "authkeys", "haresources", "drbd", "findings"]);
  assert.equal(value.haCf.deadtimeMs, 30_000);
  assert.equal(value.haresources.groups[0].node, "nodo1");
  assert.equal(value.drbd.resources[0].name, "r0");

  const broken = await hacluster("config", "--json", "--root", rootWith(t, "ha.d/ha.cf", "deadtime", "deadtimme"));
  assert.equal(broken.code, 1);
  const [finding] = JSON.parse(broken.stdout).findings.filter((f: { severity: string }) => f.severity === "error");
  assert.equal(finding.at.line, 5);
  assert.equal(finding.at.column, 1);
  assert.equal(finding.hint, 'write "deadtime"');

  const none = await hacluster("config", "--json", "--root", join(tmpdir(), "no-such-root"));
  assert.equal(none.code, 1);
  assert.equal(JSON.parse(none.stdout).drbd, null);
});

test("wrong usage: exit code 2, and where help is", async () => {
  const wrong = [
    [],
    ["bogus"],
    ["config", "--bogus"],
    ["config", "extra"],
    ["start", "now"],
    ["standby", "everything"],
    ["blockrep"],
    ["blockrep", "up"],
    ["blockrep", "frobnicate", "r0"],
    ["blockrep", "up", "r0", "--attach", "glue"],
    ["blockrep", "wait-connect", "r0", "-t", "soon"],
  ];
  await Promise.all(
    wrong.map(async (args) => {
      const { code, stdout, stderr } = await hacluster(...args);
      assert.equal(code, 2, args.join(" "));
      assert.equal(stdout, "", args.join(" "));
      assert.match(stderr, /Usage: |run "hacluster.* --help"/, args.join(" "));
    }),
  );
});

test("every command has help that says what it and each of its options are for", async () => {
  const walk = (command: ReturnType<typeof createProgram>): (typeof command)[] => [
    command,
    ...command.commands.flatMap(walk),
  ];
  const commands = walk(createProgram());
  assert.ok(commands.length > 30);
  for (const command of commands) {
    assert.ok(command.description().length > 10, `${command.name()} has no description`);
    for (const option of command.options) assert.ok(option.description.length > 5, `${command.name()} ${option.flags}`);
  }
  const { code, stdout } = await hacluster("blockrep", "create-md", "--help");
  assert.equal(code, 0);
  assert.match(stdout, /Usage: hacluster blockrep create-md .*<resource...>/);
  assert.match((await hacluster("--help")).stdout, /First steps on two nodes/);
  assert.match((await hacluster("--version")).stdout, /^\d+\.\d+\.\d+\n$/);
});

test("blockrep -c FILE dump: what drbdadm-84 dump prints, through the command", async (t) => {
  if (skipUnless(t, { files: { [DRBDADM_84]: "Debian package drbd-utils" } })) return;
  const folder = mkdtempSync(join(tmpdir(), "hacluster-dump-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const user = join(folder, "user.conf");
  const own = join(folder, "own.conf");
  const text = ["drbd.d/global_common.conf", "drbd.d/r0.res"]
    .map((path) => readFileSync(join(USER_FILES, path), "utf8"))
    .join("\n");
  writeFileSync(user, text);
  // of this very machine: drbdadm looks at the host name and at the addresses
  writeFileSync(own, text.replace("on nodo1", `on ${hostname()}`).replace("192.168.0.27", "127.0.0.1"));
  for (const file of [user, own]) {
    const theirs = await run([DRBDADM_84, "-c", file, "dump"]);
    const ours = await hacluster("blockrep", "-c", file, "dump");
    assert.equal(theirs.code, 0, theirs.stderr);
    assert.equal(ours.code, 0, ours.stderr);
    assert.equal(ours.stdout, theirs.stdout);
  }
  const absent = await hacluster("blockrep", "-c", join(folder, "none.conf"), "dump");
  assert.equal(absent.code, 1);
  assert.match(absent.stderr, /cannot read the configuration .*none\.conf/);
  const unknown = await hacluster("blockrep", "-c", user, "dump", "r9");
  assert.equal(unknown.code, 1);
  assert.match(unknown.stderr, /there is no resource r9; the configuration has r0/);
});

const NEEDS: Needs = {
  ...PAIR_NEEDS,
  programs: { ...PAIR_NEEDS.programs, "mkfs.ext4": "e2fsprogs", flock: "util-linux" },
};
const DISK_BYTES = 8 * 2 ** 20;

describe("bad input on a node", () => {
  let pair: Pair;
  let one: PairNode;
  const unavailable = (t: TestContext): boolean => skipUnless(t, NEEDS);
  before(async () => {
    if (missing(NEEDS) !== undefined) return;
    pair = await Pair.make({ name: "clierrors", diskBytes: DISK_BYTES, client: true });
    one = pair.one;
  });
  beforeEach(async () => {
    if (pair !== undefined) await configure(one.node);
  });
  after(async () => await pair?.end());

  const inNode = (script: string): Promise<string> => one.node.must(["sh", "-ec", script]);

  /** The command fails with this code and these words, leaves no process, and changes no byte of the disks and the state. */
  async function refused(args: readonly string[], says: RegExp, code = 1, disks = "/dev/sda6"): Promise<void> {
    const state = `
      for disk in ${disks}; do sha256sum $disk 2>/dev/null || true; done
      find /run/hacluster /var/lib/heartbeat /etc/ha.d /etc/drbd.d -type f ! -name '*.pid' -exec sha256sum {} + 2>/dev/null | sort || true
      pgrep -f '[h]acluster.js daemon' || true`;
    const before = await inNode(state);
    const result = await one.run(...args);
    const what = `hacluster ${args.join(" ")}: ${result.code} ${result.stdout}${result.stderr}`;
    assert.equal(result.code, code, what);
    assert.match(result.stderr, says, what);
    assert.doesNotMatch(result.stderr, /\n {4}at /, "a stack trace is for bugs");
    assert.equal(await inNode(state), before, `${what}: something was written`);
  }

  test("start, up and create-md refuse broken files with file, line and column", async (t) => {
    if (unavailable(t)) return;
    const broken: [path: string, sed: string, commands: string[][], says: RegExp][] = [
      ["ha.d/ha.cf", "s/^deadtime/deadtimme/", [["start"]], /^\/etc\/ha\.d\/ha\.cf:5:1: error: .*write "deadtime"/m],
      ["ha.d/authkeys", "s/^1 crc/1 crcc/", [["start"]], /^\/etc\/ha\.d\/authkeys:2:3: error: .*write "crc"/m],
      ["ha.d/haresources", "s/^nodo1/nodo9/", [["start"]], /^\/etc\/ha\.d\/haresources:1:1: error: .*write "nodo1"/m],
      [
        "drbd.d/r0.res",
        "s/protocol C/protocol D/",
        [["start"], ["blockrep", "up", "r0"], ["blockrep", "create-md", "r0"]],
        /^\/etc\/drbd\.d\/r0\.res:3:10: error: .*did you mean C/m,
      ],
      [
        "drbd.d/global_common.conf",
        "s/usage-count/usage-cont/",
        [["start"], ["blockrep", "up", "all"]],
        /^\/etc\/drbd\.d\/global_common\.conf:1:10: error: .*did you mean usage-count/m,
      ],
    ];
    for (const [path, sed, commands, says] of broken) {
      await inNode(`sed -i '${sed}' /etc/${path}`);
      for (const command of commands) await refused(command, says);
      await configure(one.node);
    }
  });

  test("authkeys that others can read", async (t) => {
    if (unavailable(t)) return;
    await inNode("chmod 644 /etc/ha.d/authkeys");
    const says = /^\/etc\/ha\.d\/authkeys:1:1: error: mode 644 .*run "chmod 600 \/etc\/ha\.d\/authkeys"/m;
    await refused(["start"], says);
    await refused(["config"], says);
    await inNode("chmod 600 /etc/ha.d/authkeys");
  });

  test("a machine that no file names", async (t) => {
    if (unavailable(t)) return;
    const { client } = pair.lab;
    await configure(client);
    const start = await client.exec(["hacluster", "start"]);
    assert.equal(start.code, 1);
    assert.match(start.stderr, /this node is "client" .*ha\.cf has only nodo1, nodo2/);
    for (const verb of ["up", "create-md", "dump-md"]) {
      const { code, stderr } = await client.exec(["hacluster", "blockrep", verb, "r0"]);
      assert.equal(code, 1, stderr);
      assert.match(stderr, /r0.*client/);
      assert.match(stderr, /nodo1/);
    }
    const config = await client.exec(["hacluster", "config"]);
    assert.equal(config.code, 0, config.stderr);
    await refused(["blockrep", "up", "r7"], /resource r7 is not in \/etc\/drbd\.(conf|d\/\*\.res).*r0/);
  });

  test("a disk without metadata, a missing one, a folder, one without a device", async (t) => {
    if (unavailable(t)) return;
    await refused(["blockrep", "up", "r0"], /\/dev\/sda6: no metadata found.*create-md/);
    await refused(["start"], /\/dev\/sda6: no metadata found.*create-md/);
    const cases: [path: string, make: string, says: RegExp][] = [
      ["/dev/nothing", "true", /\/dev\/nothing does not exist; correct "disk"/],
      ["/srv/folder", "mkdir -p /srv/folder", /\/srv\/folder is a directory, not a disk/],
      ["/dev/empty0", "mknod /dev/empty0 b 250 77", /\/dev\/empty0 has no device behind it/],
      ["/srv/tiny", "truncate -s 64K /srv/tiny", /\/srv\/tiny.*(1 MiB|bytes)/],
    ];
    for (const [path, make, says] of cases) {
      await inNode(`${make}; sed -i 's#/dev/sda6#${path}#' /etc/drbd.d/r0.res`);
      for (const verb of ["create-md", "up"]) await refused(["blockrep", verb, "r0"], says, 1, path);
      await configure(one.node);
    }
  });

  test("create-md on a filesystem that reaches into the room for the metadata; with room it is left alone", async (t) => {
    if (unavailable(t)) return;
    await inNode("mkfs.ext4 -q /dev/sda6");
    const says = /\/dev\/sda6 holds an ext filesystem of 8388608 bytes that reaches into .*resize2fs/;
    await refused(["blockrep", "create-md", "r0"], says);
    await inNode("mkfs.ext4 -q -F /dev/sda6 7M; mount /dev/sda6 /mnt; echo kept >/mnt/file; umount /mnt");
    await one.blockrep("create-md");
    assert.equal(await inNode("mount -o ro /dev/sda6 /mnt -t ext4; cat /mnt/file; umount /mnt"), "kept\n");
    await refused(["blockrep", "create-md", "r0"], /\/dev\/sda6 has metadata already.*--force/);
  });

  test("a disk that is mounted", async (t) => {
    if (unavailable(t)) return;
    await inNode("mount -o ro -t ext4 /dev/sda6 /mnt");
    for (const args of [
      ["create-md", "--force", "r0"],
      ["up", "r0"],
    ]) {
      await refused(["blockrep", ...args], /\/dev\/sda6 is mounted on \/mnt; unmount it/);
    }
    await refused(["start"], /\/dev\/sda6 is mounted on \/mnt/);
    await inNode("umount /mnt");
  });

  test("a disk that the resource's own process uses", async (t) => {
    if (unavailable(t)) return;
    await one.blockrep("up", "--attach", "none");
    for (const verb of ["create-md", "dump-md"]) {
      await refused(
        ["blockrep", verb, "r0"],
        /r0 is attached and uses its metadata: run "hacluster blockrep down r0"/,
        20,
      );
    }
    await refused(["blockrep", "primary", "r0"], /\(-2\) Need access to UpToDate data/, 17);
    // a second resource on the same disk
    const second = "s/resource r0/resource r1/; s/7793/7794/; s#/dev/drbd0#/dev/drbd1#";
    await inNode(`sed '${second}' /etc/drbd.d/r0.res >/run/r1.conf`);
    await refused(["blockrep", "-c", "/run/r1.conf", "up", "r1"], /\/dev\/sda6 is open in process \d+ \(node\)/);
    await one.blockrep("down");
  });

  test("a backing file that another program has locked", async (t) => {
    if (unavailable(t)) return;
    await inNode("truncate -s 8M /srv/disk.img; sed -i 's#/dev/sda6#/srv/disk.img#' /etc/drbd.d/r0.res");
    await one.blockrep("create-md");
    const holder = one.node.spawn(["flock", "--close", "/srv/disk.img", "sleep", "60"]);
    const locked = "until ! flock -n /srv/disk.img true; do sleep 0.02; done";
    await inNode(locked);
    for (const args of [
      ["create-md", "--force", "r0"],
      ["up", "r0"],
    ]) {
      await refused(["blockrep", ...args], /\/srv\/disk\.img .*(locked|in use|lock)/, 1, "/srv/disk.img");
    }
    await holder.stop();
  });

  test("a disk that is smaller than its metadata say", async (t) => {
    if (unavailable(t)) return;
    const disks = "/srv/disk.img /srv/meta.img";
    const says =
      /\/srv\/disk\.img: the disk is smaller than its metadata say: 4194304 bytes are usable, the device has 8388608/;
    await configure(one.node);
    await inNode(`truncate -s 8M ${disks}
      sed -i 's#/dev/sda6#/srv/disk.img#; s#meta-disk internal#flexible-meta-disk /srv/meta.img#' /etc/drbd.d/r0.res`);
    await one.blockrep("create-md", "--force");
    await one.blockrep("up", "--attach", "none");
    await one.blockrep("down");
    await inNode("truncate -s 4M /srv/disk.img");
    for (const command of [["blockrep", "up", "r0"], ["start"]]) await refused(command, says, 1, disks);
    await inNode("truncate -s 8M /srv/disk.img");

    // a crash as Primary leaves an activity log to be applied: that must not be tried on the smaller disk either
    await one.blockrep("up", "--attach", "none");
    await one.blockrep("primary", "--force");
    await one.killDaemon();
    await inNode("truncate -s 4M /srv/disk.img");
    for (const verb of ["up", "apply-al"]) await refused(["blockrep", verb, "r0"], says, 1, disks);

    // internal metadata are at the end: on a disk of another size they are not found
    await configure(one.node);
    await inNode("truncate -s 8M /srv/disk.img; sed -i 's#/dev/sda6#/srv/disk.img#' /etc/drbd.d/r0.res");
    await one.blockrep("create-md", "--force");
    await inNode("truncate -s 6M /srv/disk.img");
    await refused(["blockrep", "up", "r0"], /no metadata found.*if its size was changed/, 1, "/srv/disk.img");
    assert.deepEqual(readdirSync(USER_FILES).sort(), ["drbd.d", "ha.d"]);
  });
});
