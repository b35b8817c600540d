// The stop of a busy filesystem: who holds it is named, asked to end, ended; nothing is unmounted by halves.
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Lab } from "../lab/lab.ts";
import type { LabNode } from "../lab/node.ts";
import { waitFor } from "../lab/process.ts";
import { missing, type Needs, skipUnless } from "../support/requires.ts";
import type { Job, Report, Step } from "../support/run-resources.ts";

const NEEDS: Needs = {
  root: true,
  namespaces: true,
  programs: { ip: "iproute2", nft: "nftables", "mkfs.ext4": "e2fsprogs", umount: "mount" },
};
const RUNNER = join(dirname(fileURLToPath(import.meta.url)), "../support/run-resources.js");
const RESOURCE = "Filesystem::/dev/sda6::/srv/data::ext4";
const START: Step = { run: RESOURCE, action: "start" };
const STOP: Step = { run: RESOURCE, action: "stop" };
const STATUS: Step = { run: RESOURCE, action: "status" };

describe("filesystem", () => {
  let lab: Lab;
  let node: LabNode;
  const needed = (t: TestContext): boolean => skipUnless(t, NEEDS);
  const run = async (steps: readonly Step[], options: Partial<Job> = {}): Promise<Report> =>
    JSON.parse(await node.must(["node", RUNNER, JSON.stringify({ ...options, steps })], { timeoutMs: 60_000 }));
  const mounted = async (): Promise<boolean> => (await node.readFile("/proc/mounts")).includes(" /srv/data ");
  /** A shell that works in the mount until it is told otherwise. */
  const hold = async (t: TestContext, script: string): Promise<void> => {
    const job = node.spawn(["sh", "-c", `cd /srv/data; ${script}; echo up; while :; do sleep 0.1; done`]);
    await new Promise((resolve) => job.child.stdout.once("data", resolve));
    t.after(() => job.stop(100));
  };
  before(async () => {
    if (missing(NEEDS) !== undefined) return;
    lab = await Lab.up({ name: "filesystem", nodes: ["nodo1"], client: false, diskBytes: 16 * 2 ** 20 });
    node = lab.node("nodo1");
    await node.must(["mkfs.ext4", "-q", "/dev/sda6"]);
  });
  after(async () => await lab?.down());

  test("start, status and stop, each also when there is nothing to do", async (t) => {
    if (needed(t)) return;
    const report = await run([STATUS, START, START, STATUS, STOP, STOP, STATUS]);
    assert.deepEqual(
      report.outcomes.map(({ result }) => result?.running ?? result?.exitCode),
      [false, 0, 0, true, 0, 0, false],
    );
    const stop = report.outcomes[4]?.ms ?? Number.NaN;
    assert.ok(stop < 1000, `an idle filesystem took ${stop} ms to unmount`);
  });

  test("a process that obeys SIGTERM costs no more than its own time", async (t) => {
    if (needed(t)) return;
    await run([START]);
    await hold(t, ":");
    const report = await run([STOP]);
    assert.equal(report.outcomes[0]?.result?.exitCode, 0);
    assert.match(report.lines.join("\n"), /is busy: umount: \/srv\/data.*\n.*sh\[\d+\] works in it/);
    assert.match(report.lines.join("\n"), /sending SIGTERM to sh\[\d+\]/);
    assert.doesNotMatch(report.lines.join("\n"), /SIGKILL/);
    assert.equal(await mounted(), false);
  });

  test("a process that ignores SIGTERM is killed in the end, and the log says so", async (t) => {
    if (needed(t)) return;
    await run([START]);
    await hold(t, "trap '' TERM; exec 3>/srv/data/file");
    const report = await run([STOP]);
    assert.equal(report.outcomes[0]?.result?.exitCode, 0);
    const said = report.lines.join("\n");
    assert.equal(said.match(/sending SIGTERM/g)?.length, 3);
    assert.match(said, /sending SIGKILL to .*sh\[\d+\]/);
    assert.equal(await mounted(), false);
  });

  test("where processes may not be ended the stop fails, names them and leaves the mount whole", async (t) => {
    if (needed(t)) return;
    await run([START]);
    await hold(t, "exec 3>/srv/data/file; cd /");
    const report = await run([STOP, STATUS], { endHolders: false, timeLimitsMs: { stop: 1500 } });
    const [stop, status] = report.outcomes;
    assert.equal(stop?.result?.exitCode, 1);
    assert.match(stop?.result?.output ?? "", /stays mounted: sh\[\d+\] has \/srv\/data\/file open/);
    assert.match(stop?.result?.output ?? "", /filesystem end-holders=no/);
    assert.equal(status?.result?.running, true);
    assert.equal((await run([STOP])).outcomes[0]?.result?.exitCode, 0);
  });

  test("a mount below goes first; a loop device on it is named", async (t) => {
    if (needed(t)) return;
    await run([START]);
    await node.must(["sh", "-c", "mkdir -p /srv/data/below && mount -t tmpfs none /srv/data/below"]);
    assert.equal((await run([STOP])).outcomes[0]?.result?.exitCode, 0);
    assert.equal(await mounted(), false);
    await run([START]);
    await node.must(["sh", "-c", "truncate -s 1M /srv/data/image"]);
    const device = (await node.must(["losetup", "--find", "--show", "/srv/data/image"])).trim();
    const stop = (await run([STOP], { timeLimitsMs: { stop: 1000 } })).outcomes[0]?.result;
    await node.must(["losetup", "-d", device]);
    assert.equal(stop?.exitCode, 1);
    assert.match(stop?.output ?? "", new RegExp(`${device} serves .*/image \\(losetup -d ${device}\\)`));
    assert.equal((await run([STOP])).outcomes[0]?.result?.exitCode, 0);
  });

  test("a process of another mount namespace is left alone, though its paths look alike", async (t) => {
    if (needed(t)) return;
    await run([START]);
    const other = node.spawn([
      "unshare",
      "--mount",
      "sh",
      "-c",
      "umount /srv/data && mount -t tmpfs none /srv/data && cd /srv/data && echo up && sleep 1000",
    ]);
    t.after(() => other.stop());
    await new Promise((resolve) => other.child.stdout.once("data", resolve));
    await hold(t, ":");
    const report = await run([STOP]);
    assert.equal(report.outcomes[0]?.result?.exitCode, 0, report.lines.join("\n"));
    assert.ok(await waitFor(() => other.running, 100));
    assert.equal(report.lines.filter((line) => line.includes("sending")).length, 1, report.lines.join("\n"));
  });

  test("refusals: no device, another mount in the way, no arguments", async (t) => {
    if (needed(t)) return;
    await node.must(["sh", "-c", "mkdir -p /srv/other && mount -t tmpfs none /srv/other"]);
    t.after(() => node.must(["umount", "/srv/other"]));
    const report = await run([
      { run: "Filesystem::/dev/nosuch::/srv/x::ext4", action: "start" },
      { run: "Filesystem::/dev/sda6::/srv/other::ext4", action: "start" },
      { run: "Filesystem::/dev/sda6", action: "stop" },
      { run: "Filesystem::/etc/hosts::/srv/x::ext4", action: "start" },
    ]);
    const said = report.outcomes.map(({ result }) => `${result?.exitCode} ${result?.output}`);
    assert.match(said[0] ?? "", /^1 .*\/dev\/nosuch does not exist; is its drbddisk earlier in the line/);
    assert.match(said[1] ?? "", /^1 .*none is mounted on \/srv\/other, not \/dev\/sda6/);
    assert.match(said[2] ?? "", /^2 Filesystem: write/);
    assert.match(said[3] ?? "", /^1 .*\/etc\/hosts is no block device/);
  });
});
