// The user's handlers power a machine off. Lab nodes share their kernel with the host: what they may and may not do there.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { after, before, describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type HandlerSurroundings, whyNoHandlers } from "hacluster/unstable/daemon/handler-safety";
import { exitOf, must, waitFor } from "../lab/process.ts";
import { HACLUSTER, PAIR_NEEDS, Pair, type PairNode } from "../support/pair.ts";
import { findProgram, missing, skipUnless } from "../support/requires.ts";

const OWN_MACHINE: HandlerSurroundings = {
  firstPidNamespace: true,
  sameAsInit: true,
  inContainer: false,
  sysrqTrigger: "real",
};
const NODE: HandlerSurroundings = {
  firstPidNamespace: false,
  sameAsInit: true,
  inContainer: false,
  sysrqTrigger: "masked",
};

test("handlers run on a machine of our own, and in a node that contains them; nowhere else", () => {
  assert.equal(whyNoHandlers(OWN_MACHINE), undefined);
  assert.match(
    whyNoHandlers({ ...OWN_MACHINE, sameAsInit: false }) ?? "",
    /halt and reboot would end the whole machine/,
  );
  assert.match(whyNoHandlers({ ...OWN_MACHINE, inContainer: true }) ?? "", /whole machine/);
  // a mask alone is not enough: halt needs no sysrq
  assert.match(whyNoHandlers({ ...OWN_MACHINE, sameAsInit: false, sysrqTrigger: "masked" }) ?? "", /whole machine/);
  assert.equal(whyNoHandlers(NODE), undefined);
  assert.equal(whyNoHandlers({ ...NODE, sysrqTrigger: "absent" }), undefined);
  assert.match(whyNoHandlers({ ...NODE, sysrqTrigger: "real" }) ?? "", /sysrq-trigger is the machine's own/);
});

const LOG = "/var/log/ha-log";
const TRIGGER = "/proc/sysrq-trigger";
const DAEMON = [process.execPath, HACLUSTER, "daemon", "blockrep", "r0", "--attach", "none"];
const SAFETY = fileURLToPath(import.meta.resolve("hacluster/unstable/daemon/handler-safety"));
/** Prints the verdict of the namespaces that it runs in; runs no handler. */
const ASK = `import("${SAFETY}").then((m) => console.log(m.whyNoHandlers(m.handlerSurroundings()) ?? "may run"))`;

describe("the user's handlers in nodes that share the host's kernel", () => {
  let pair: Pair;
  const unavailable = (t: TestContext): boolean => skipUnless(t, PAIR_NEEDS);
  before(async () => {
    if (missing(PAIR_NEEDS) !== undefined) return;
    pair = await Pair.make({ name: "handlers", diskBytes: 4 * 2 ** 20 });
  });
  after(async () => await pair?.end());

  /** A Primary that loses its only disk: the user's pri-on-incon-degr, `echo o > /proc/sysrq-trigger ; halt -f`. */
  const loseTheData = async (side: PairNode, ...createOptions: string[]): Promise<void> => {
    await side.blockrep("create-md", ...createOptions);
    await side.blockrep("up", "--attach", "none");
    await side.blockrep("primary", "--force");
    await side.run("blockrep", "detach", "--force", "r0"); // the node may be off before it answers
  };

  test("a process with namespaces of its own in the host's pid namespace runs none", async (t) => {
    if (unavailable(t)) return;
    const flags = ["--mount", "--uts", "--net", "--ipc"];
    assert.match(
      await must(["unshare", ...flags, process.execPath, "-e", ASK]),
      /no handler|halt and reboot|machine's own/,
    );
    // with a pid namespace, but without the mask (a kernel may have been built without that file)
    const all = ["unshare", ...flags, "--pid", "--fork", "--mount-proc", process.execPath, "-e", ASK];
    assert.match(await must(all), existsSync(TRIGGER) ? /sysrq-trigger is the machine's own/ : /^may run$/m);
    assert.equal(await pair.one.node.must(["node", "-e", ASK]), "may run\n");
  });

  test("a node that cannot contain them runs none of the user's handlers, and says so", async (t) => {
    if (unavailable(t)) return;
    const { node } = pair.two;
    // The node's mounts, network and name, but the host's pid namespace: "halt -f" there would end the host. Should a
    // handler run against all expectation, it meets a harmless halt and, as in every node, a masked sysrq-trigger.
    const harmless = `printf '#!/bin/sh\ntouch /run/halted\n' >/run/halt; chmod +x /run/halt
      for program in halt poweroff reboot systemctl; do
        path=$(command -v $program) || continue
        mount --bind /run/halt "$(readlink -f "$path")" 2>/dev/null || true
        "$program"; rm /run/halted
      done`;
    await node.must(["sh", "-ec", harmless]);
    await pair.two.blockrep("create-md");
    const enter = ["nsenter", "-t", String(node.init?.pid), "-m", "-u", "-n", "-i", "--"];
    const daemon = spawn("env", ["-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", ...enter, ...DAEMON], { stdio: "ignore" });
    try {
      const up = async (): Promise<boolean> =>
        (await pair.two.run("blockrep", "cstate", "r0")).stdout === "WFConnection\n";
      assert.ok(await waitFor(up, 10_000, 100), "the daemon does not come up");
      await pair.two.blockrep("primary", "--force");
      await pair.two.run("blockrep", "detach", "--force", "r0");
      const log = async (): Promise<string> => await node.readFile(LOG);
      assert.ok(
        await waitFor(async () => /handler pri-on-incon-degr is not run/.test(await log()), 5_000),
        await log(),
      );
      assert.match(await log(), /"event":"handlers.off"/);
      assert.doesNotMatch(await log(), /running handler/);
      assert.equal((await node.exec(["test", "-e", "/run/halted"])).code, 1);
      assert.equal((await pair.two.status()).role, "Primary", "the daemon goes on");
    } finally {
      daemon.kill("SIGKILL");
      await exitOf(daemon);
    }
  });

  test("a node without the mask runs none", async (t) => {
    if (unavailable(t) || !existsSync(TRIGGER)) return;
    // the kernel's own file, but read-only: should a handler run against all expectation, its write fails
    const unmask = `umount ${TRIGGER}; mount --bind ${TRIGGER} ${TRIGGER}; mount -o remount,ro,bind ${TRIGGER}
      ! echo h >${TRIGGER}`;
    await pair.two.node.must(["sh", "-ec", unmask]);
    assert.match(await pair.two.node.must(["node", "-e", ASK]), /sysrq-trigger is the machine's own/);
    await loseTheData(pair.two, "--force");
    assert.match(await pair.two.node.readFile(LOG), /handler pri-on-incon-degr is not run/);
    assert.ok(pair.two.node.isOn);
  });

  test("a node with the mask runs them: it goes off, and the host does not", async (t) => {
    if (unavailable(t)) return;
    const { node } = pair.one;
    await loseTheData(pair.one);
    if (findProgram("halt") !== undefined) {
      assert.ok(await waitFor(() => !node.isOn, 5_000), "halt -f did not end the node");
      await node.start();
    }
    const command = "running handler pri-on-incon-degr: echo o > /proc/sysrq-trigger ; halt -f";
    assert.ok((await node.readFile(LOG)).includes(command), await node.readFile(LOG));
    assert.ok(pair.two.node.isOn);
  });
});
