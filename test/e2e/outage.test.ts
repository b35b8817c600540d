// Boot order: what `hacluster start` does after a total outage, beside another program, and what `hacluster stop` leaves.
import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import type { NodeProcess } from "../lab/node.ts";
import { delay, waitFor } from "../lab/process.ts";
import { PAIR_NEEDS, Pair, type PairNode } from "../support/pair.ts";
import { missing, type Needs, skipUnless } from "../support/requires.ts";

const NEEDS: Needs = {
  ...PAIR_NEEDS,
  programs: {
    ...PAIR_NEEDS.programs,
    "mkfs.ext4": "e2fsprogs",
    nbdfuse: "libnbd-bin",
    fusermount3: "fuse3",
    fuser: "psmisc",
  },
};
const MOUNT_POINT = "/home/jorge/datos";

/** The user's files with one replicated filesystem as the only service, and shorter waits at boot. */
function edit(path: string, text: string): string {
  if (path.endsWith("haresources")) return `nodo1 drbddisk::r0 Filesystem::/dev/drbd0::${MOUNT_POINT}::ext4\n`;
  if (path.endsWith("ha.cf")) return text.replace(/^initdead .*$/m, "initdead 2");
  return text.replace("degr-wfc-timeout 60", "degr-wfc-timeout 2");
}

/** `hacluster start` in the background with what it says on standard error. */
class Starting {
  readonly process: NodeProcess;
  said = "";

  constructor(side: PairNode, ...options: string[]) {
    this.process = side.node.spawn(["hacluster", "start", ...options]);
    this.process.child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.said += text;
    });
    this.process.child.stdout.resume();
  }

  async says(pattern: RegExp, timeoutMs = 8_000): Promise<void> {
    assert.ok(await waitFor(() => pattern.test(this.said), timeoutMs), `not ${pattern}: ${this.said}`);
  }

  async done(): Promise<void> {
    assert.ok(await waitFor(() => !this.process.running, 15_000), `start does not end: ${this.said}`);
    assert.equal(await this.process.exited(), 0, this.said);
  }
}

describe("boot order", () => {
  let pair: Pair;
  const unavailable = (t: TestContext): boolean => skipUnless(t, NEEDS);
  before(async () => {
    if (missing(NEEDS) !== undefined) return;
    pair = await Pair.make({ name: "outage", diskBytes: 32 * 2 ** 20, edit });
    await pair.each(({ node }) => node.must(["mkdir", "-p", MOUNT_POINT]));
    await pair.firstSync();
    const script = `mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/drbd0
      mount /dev/drbd0 ${MOUNT_POINT}; echo 1 >${MOUNT_POINT}/version; umount ${MOUNT_POINT}`;
    await pair.one.node.must(["sh", "-ec", script]);
    await pair.one.blockrep("secondary");
    await pair.each((side) => side.blockrep("down"));
  });
  after(async () => await pair?.end());

  const version = async (side: PairNode): Promise<string | undefined> => {
    const { code, stdout } = await side.node.exec([
      "sh",
      "-c",
      `mountpoint -q ${MOUNT_POINT} && cat ${MOUNT_POINT}/version`,
    ]);
    return code === 0 ? stdout.trim() : undefined;
  };
  const serves = async (side: PairNode, expected: string, timeoutMs = 12_000): Promise<void> => {
    const come = await waitFor(async () => (await version(side)) === expected, timeoutMs, 100);
    if (come) return;
    const { stdout } = await side.run("status");
    assert.fail(`${side.node.name} does not serve version ${expected}: ${await version(side)}\n${stdout}`);
  };
  const write = async (side: PairNode, text: string): Promise<void> => {
    await side.node.must(["sh", "-ec", `echo ${text} >${MOUNT_POINT}/version; sync ${MOUNT_POINT}/version`]);
  };

  test("start refuses beside a real Heartbeat", async (t) => {
    if (unavailable(t)) return;
    const { node } = pair.one;
    await node.must(["cp", "/bin/sleep", "/run/heartbeat"]);
    const heartbeat = node.spawn(["/run/heartbeat", "60"]);
    assert.ok(await waitFor(async () => (await node.exec(["pgrep", "-x", "heartbeat"])).code === 0, 5_000));
    const { code, stderr } = await pair.one.run("start");
    assert.equal(code, 1);
    assert.match(stderr, /a Heartbeat runs here \(pid \d+\): stop it first/);
    assert.equal((await pair.one.run("blockrep", "cstate", "r0")).code, 10, "nothing of it is up");
    await heartbeat.stop();
  });

  test("start warns about what the machine would start at boot by itself; both start, home serves", async (t) => {
    if (unavailable(t)) return;
    const script = `echo '/dev/drbd0 ${MOUNT_POINT} ext4 defaults 0 2' >>/etc/fstab
      sed -i 's/$/ no-such-service/' /etc/ha.d/haresources
      mkdir -p /run/systemd/system /etc/systemd/system/multi-user.target.wants
      printf '#!/bin/sh\\ntrue\\n' >/etc/init.d/no-such-service; chmod +x /etc/init.d/no-such-service
      ln -s /dev/null /etc/systemd/system/multi-user.target.wants/no-such-service.service`;
    await pair.each(({ node }) => node.must(["sh", "-ec", script]));
    const [first, second] = pair.nodes.map((side) => new Starting(side)) as [Starting, Starting];
    await first.says(/warning: \/home\/jorge\/datos stands in \/etc\/fstab .*"noauto"/);
    await first.says(/warning: no-such-service starts at boot on both nodes: run "systemctl disable no-such-service"/);
    await first.done();
    await second.done();
    await pair.each(({ node }) => node.must(["sh", "-ec", "sed -i '/drbd0/d' /etc/fstab; rm -r /run/systemd"]));
    await pair.each(({ node }) => node.must(["sed", "-i", "s/ no-such-service$//", "/etc/ha.d/haresources"]));
    await serves(pair.one, "1");
    assert.match((await pair.one.run("start")).stdout, /runs here already/);
  });

  test("total outage: the stale node returns first, waits, and serves nothing; with the other, the newest", async (t) => {
    if (unavailable(t)) return;
    const { one, two } = pair;
    await write(one, "2");
    await one.node.kill();
    await serves(two, "2");
    await write(two, "3");
    await two.node.kill();

    await one.node.start();
    const start = new Starting(one);
    await start.says(/r0: waiting for the peer, for ever \(wfc-timeout\)/);
    await delay(3_000); // longer than initdead: alone in the cluster it would have begun to serve
    assert.ok(start.process.running, start.said);
    assert.equal(await version(one), undefined);
    const status = await one.status();
    assert.deepEqual([status.role, status.connection], ["Secondary", "WFConnection"]);
    assert.match((await one.run("status")).stdout, /cluster not running here/);

    await two.node.start();
    const other = new Starting(two);
    await start.done();
    await other.done();
    await serves(one, "3");
    assert.equal((await one.status()).first.disk, "UpToDate");
  });

  test("stop: the group moves to the other node, and the metadata are clean", async (t) => {
    if (unavailable(t)) return;
    const { one, two } = pair;
    await one.must("stop");
    await serves(two, "3");
    assert.equal((await one.run("blockrep", "cstate", "r0")).code, 10, "nothing of it is up");
    assert.match(await one.blockrep("dump-md"), /uuid \{/);
    assert.equal((await one.node.exec(["pgrep", "-f", "[h]acluster.js daemon"])).code, 1, "a process lives on");
    await write(two, "4");
  });

  test("degr-wfc-timeout: who went down as Primary without its peer waits so long, and goes on alone", async (t) => {
    if (unavailable(t)) return;
    const { two } = pair;
    await two.node.kill();
    await two.node.start();
    const start = new Starting(two);
    await start.says(/r0: waiting for the peer, up to 2 s \(degr-wfc-timeout\)/);
    await start.says(/r0: not connected within 2 s \(degr-wfc-timeout\): going on without the peer/);
    await start.done();
    await serves(two, "4");
  });

  test("--no-wait: start without the peer; then both stop, and all metadata are clean", async (t) => {
    if (unavailable(t)) return;
    const { one, two } = pair;
    await write(two, "5");
    await two.must("stop");
    const start = new Starting(two, "--no-wait");
    await start.done();
    assert.doesNotMatch(start.said, /waiting for the peer/);
    await serves(two, "5");
    const other = new Starting(one);
    await other.done();
    await pair.inSync();
    await serves(one, "5"); // auto_failback
    await one.must("stop");
    await two.must("stop");
    await pair.each(async (side) => assert.match(await side.blockrep("dump-md"), /bits-set \d+;/));
  });
});
