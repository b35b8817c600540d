// drbdadm's verbs, as recorded on a pair of kernels, one after the other through our command on a pair of lab nodes.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { waitFor } from "../lab/process.ts";
import { type Recorded, readRecording } from "../support/drbd-recordings.ts";
import { PAIR_NEEDS, Pair } from "../support/pair.ts";
import { missing, skipUnless } from "../support/requires.ts";

/** The configuration of the recording, but for the disks and a faster notice of a peer that is not there. */
const CONFIG = `resource r0 {
  net { protocol C; verify-alg md5; ping-timeout 20; connect-int 1; }
  disk { al-extents 257; resync-rate 250; c-plan-ahead 0; }
  on nodo1 { device /dev/drbd0; disk /dev/sda6; address 192.168.0.27:7793; meta-disk internal; }
  on nodo2 { device /dev/drbd0; disk /dev/sda6; address 192.168.0.28:7793; meta-disk internal; }
}
resource r1 {
  disk { al-extents 257; resync-rate 250; c-plan-ahead 0; }
  net { connect-int 1; }
  volume 0 { device /dev/drbd3; disk /var/tmp/vdc; meta-disk internal; }
  volume 1 { device /dev/drbd4; disk /var/tmp/vdd; meta-disk internal; }
  on nodo1 { address 192.168.0.27:7794; }
  on nodo2 { address 192.168.0.28:7794; }
}
`;

/** What a device under /dev needs. */
const ATTACH_NEEDS = {
  programs: { ...PAIR_NEEDS.programs, nbdfuse: "libnbd-bin" },
  files: { "/dev/fuse": "kernel module fuse" },
};

const FAST = CONFIG.replaceAll("resync-rate 250;", "resync-rate 100M;");

/** Where we differ from the recordings on purpose; docs/COMPATIBILITY.md says why. */
function expectedCode({ command, exitCode }: Recorded, isUp: boolean): number {
  const verb = command.split(" ")[1];
  if (verb === "up") return 0; // up of what is up does what is left to do
  if (verb === "attach" && exitCode === 20) return 10; // drbdadm's apply-al fails first; the attach itself says 10
  if (verb === "wait-connect" && isUp) return 5; // a peer that did not come is no success
  return exitCode;
}

function refusal(stderr: string): string {
  const line = stderr.split("\n").find((text) => /Failure: |State change failed: |No such resource/.test(text)) ?? "";
  return line.replace(/^\?\?:/, "r0:"); // drbdsetup cannot name a resource without a connection
}

/** Counters and shares differ from run to run; the words do not. */
function masked(text: string): string {
  return text.replace(/done:[\d.]+/g, "done:#");
}

describe("drbdadm's verbs", () => {
  const lacking = missing(PAIR_NEEDS);
  let pair: Pair;
  before(async () => {
    if (lacking !== undefined) return;
    pair = await Pair.make({ name: "verbs", diskBytes: 8 * 2 ** 20 });
    await pair.each(async ({ node }) => {
      await node.must(["sh", "-c", "rm -f /etc/drbd.d/*.res; truncate -s 16M /var/tmp/vdc /var/tmp/vdd"]);
      await node.writeFile("/etc/drbd.d/pair.res", CONFIG);
    });
    await pair.each((side) => side.must("blockrep", "create-md", "all"));
  });
  after(async () => {
    if (lacking === undefined) await pair.end();
  });

  /** Our command on nodo1; the exit code, the refusal and what a script reads must be as recorded. */
  async function replay(recorded: Recorded, code: number, ...options: string[]): Promise<void> {
    const [, verb = "", ...args] = recorded.command.split(" ");
    const ours = await pair.one.run("blockrep", verb, ...options, ...args);
    const said = `${recorded.command}\n${ours.stdout}${ours.stderr}`;
    assert.equal(ours.code, code, said);
    const theirs = refusal(recorded.stderr);
    if (theirs !== "") assert.equal(refusal(ours.stderr), theirs, said);
    if (/^(status|role|cstate|dstate)$/.test(verb)) assert.equal(masked(ours.stdout), masked(recorded.stdout), said);
    if (verb === "get-gi" && recorded.stdout.startsWith("0000")) assert.equal(ours.stdout, recorded.stdout, said);
  }

  test("verbs: exit codes, refusals and states without a peer are those of drbdadm-84", async (t) => {
    if (skipUnless(t, PAIR_NEEDS)) return;
    const up = new Set<string>();
    for (const recorded of readRecording("alone.txt")) {
      const { command } = recorded;
      const [program, verb = "", name = "", extra] = command.split(" ");
      // not in this version; no option of drbdadm; drbdadm shows no single volume
      if (["verify", "resize"].includes(verb) || command.includes("--wfc-timeout")) continue;
      if (verb === "status" && (name === "" || name.includes("/") || extra !== undefined)) continue;
      if (program !== "drbdadm" && verb !== "status") continue;
      if (verb === "up") up.add(name);
      const options = verb === "up" ? ["--attach", "none"] : verb === "wait-connect" ? ["-t", "1"] : [];
      await replay(recorded, expectedCode(recorded, up.size > 0), ...options);
    }
    assert.deepEqual([...up], ["r0", "r1"]);
  });

  test("verbs: the same with a peer; adjust applies a new rate; events2 tells each step", async (t) => {
    if (skipUnless(t, PAIR_NEEDS)) return;
    const { one, two } = pair;
    await one.must("blockrep", "down", "all");
    await one.must("blockrep", "create-md", "--force", "all");
    await pair.each((side) => side.must("blockrep", "up", "--attach", "none", "all"));
    await one.must("blockrep", "wait-connect", "-t", "20", "all");
    const events = one.node.spawn(["hacluster", "blockrep", "events2", "--statistics", "r0"]);
    let told = "";
    events.child.stdout.setEncoding("utf8").on("data", (text: string) => {
      told += text;
    });
    assert.ok(await waitFor(() => told.includes("exists -"), 10_000), told);

    const recording = readRecording("pair.txt");
    const from = recording.findIndex((r) => r.command.includes("new-current-uuid"));
    const until = recording.findIndex((r, i) => i > from && r.command === "drbdadm connect r0");
    for (const recorded of recording.slice(from, until + 1)) {
      const [program, verb = "", , extra] = recorded.command.split(" ");
      if (verb === "verify" || recorded.stderr.includes("(-12)")) continue; // a device in use has a test of its own
      if (verb === "status" ? extra !== undefined : program !== "drbdadm") continue;
      await replay(recorded, recorded.exitCode);
    }
    await one.must("blockrep", "wait-connect", "-t", "20", "r0");

    // both halves of adjust: what is live, and what is not
    await pair.each(({ node }) => node.writeFile("/etc/drbd.d/pair.res", FAST));
    assert.equal(await one.must("blockrep", "adjust", "r0"), "r0: applied: resync-rate\n");
    assert.equal(await one.must("blockrep", "adjust", "r0"), "");
    await two.must("blockrep", "adjust", "all");
    await one.must("blockrep", "adjust", "r1");
    await one.must("blockrep", "primary", "--force", "r1");
    await one.must("blockrep", "wait-sync", "-t", "20", "all");
    assert.equal(
      await one.must("blockrep", "status", "all"),
      recording
        .filter((r) => /^drbdsetup status r[01]$/.test(r.command) && r.stdout.includes("Established"))
        .slice(0, 2)
        .map((r) => r.stdout)
        .join(""),
    );
    await one.node.writeFile("/etc/drbd.d/pair.res", FAST.replace(":7793; meta-disk", ":7790; meta-disk"));
    const moved = await one.run("blockrep", "adjust", "r0");
    assert.equal(moved.code, 1);
    assert.match(
      moved.stderr,
      /^hacluster: r0: not applied: address; run "hacluster blockrep down r0" and "up r0" for it$/m,
    );
    await one.node.writeFile("/etc/drbd.d/pair.res", FAST);

    await events.stop();
    for (const line of [
      "change resource name:r0 role:Primary",
      "change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:SyncSource",
      "replication:PausedSyncS",
      "destroy connection name:r0 peer-node-id:0 conn-name:peer",
      "create connection name:r0 peer-node-id:0 conn-name:peer connection:StandAlone role:Unknown congested:no",
      "replication:Established peer-disk:UpToDate",
    ]) {
      assert.ok(told.includes(line), `${line}\n${told}`);
    }
  });

  test("verbs: outdate and invalidate on a node that is alone, up and down; down of all", async (t) => {
    if (skipUnless(t, PAIR_NEEDS)) return;
    const { one } = pair;
    const steps: readonly (readonly [command: string, code: number, stdout?: string])[] = [
      ["secondary r0", 0],
      ["secondary r0", 0],
      ["disconnect r0", 0],
      ["outdate r0", 0],
      ["dstate r0", 0, "Outdated/DUnknown\n"],
      ["primary r0", 17],
      ["down r0", 0],
      ["down r0", 0],
      ["dstate r0", 0, "Outdated\n"],
      ["invalidate r0", 0],
      ["dstate minor-0", 0, "Inconsistent\n"],
      ["outdate r0", 5],
      ["status r0", 10, ""],
      ["status --json r0", 10],
      ["role r0", 10, ""],
      ["secondary r1/0", 0],
      ["role r1", 0, "Secondary/Secondary\nPrimary/Secondary\n"],
      ["down all", 0],
      ["proc", 0],
      ["new-minor r0", 2],
      ["nonsense r0", 2],
      ["primary", 2],
      ["connect r1/0", 1],
      ["new-current-uuid r1", 1],
      ["primary r1/7", 1],
      ["primary nope", 1],
    ];
    for (const [command, code, stdout] of steps) {
      const ours = await one.run("blockrep", ...command.split(" "));
      assert.equal(ours.code, code, `${command}\n${ours.stdout}${ours.stderr}`);
      if (stdout !== undefined) assert.equal(ours.stdout, stdout, command);
      if (code !== 0) assert.notEqual(ours.stderr, command.includes("--json") ? undefined : "", command);
    }
  });

  test("verbs: a device in use refuses secondary and down with exit code 11, and says who holds it", async (t) => {
    if (skipUnless(t, { ...PAIR_NEEDS, ...ATTACH_NEEDS })) return;
    const { one } = pair;
    await one.must("blockrep", "create-md", "--force", "r0");
    await one.must("blockrep", "up", "--attach", "fuse", "r0");
    await one.must("blockrep", "primary", "--force", "r0");
    const holder = one.node.spawn(["sh", "-c", "echo held; exec sleep 60 </dev/drbd0"]);
    await new Promise((resolve) => holder.child.stdout.once("data", resolve));
    const recorded = readRecording("pair.txt").filter((r) => r.stderr.includes("(-12)"));
    assert.deepEqual(
      recorded.map((r) => r.command),
      ["drbdadm secondary r0", "drbdadm down r0", "drbdadm secondary r0"],
    );
    for (const { command, exitCode, stderr } of recorded) {
      const ours = await one.run("blockrep", ...command.split(" ").slice(1));
      assert.equal(ours.code, exitCode, ours.stderr);
      assert.equal(refusal(ours.stderr), refusal(stderr));
      assert.match(ours.stderr, /^hacluster: r0: .*sleep/m);
    }
    await holder.stop();
    await one.must("blockrep", "down", "r0");
  });
});
