// What haresources can name, as Debian ships it and unmodified: wrappers of Heartbeat, OCF agents, init scripts.
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Lab } from "../lab/lab.ts";
import type { LabNode } from "../lab/node.ts";
import { missing, type Needs, skipUnless } from "../support/requires.ts";
import type { Report, Step } from "../support/run-resources.ts";

const NEEDS: Needs = {
  root: true,
  namespaces: true,
  programs: { ip: "iproute2", nft: "nftables", apache2: "apache2" },
  files: {
    "/usr/lib/ocf/resource.d/heartbeat/Dummy": "Debian package resource-agents",
    "/etc/ha.d/resource.d/apache": "Debian package resource-agents",
    "/etc/ha.d/shellfuncs": "Debian package heartbeat",
    "/etc/init.d/apache2": "Debian package apache2",
  },
};
const RUNNER = join(dirname(fileURLToPath(import.meta.url)), "../support/run-resources.js");
/** What the daemon adds to the environment of scripts, as far as these need it. */
const environment = {
  HA_CURHOST: "nodo1",
  HA_DIR: "/etc/ha.d",
  HA_FUNCS: "/etc/ha.d/shellfuncs",
  HA_RCDIR: "/etc/ha.d/rc.d",
  HA_RESOURCEDIR: "/etc/ha.d/resource.d",
  HA_BIN: "/usr/lib/heartbeat",
  HA_LOGFILE: "/var/log/ha-log",
  HA_DATEFMT: "%Y/%m/%d_%T\t",
  HA_LOGD: "no",
};

describe("scripts", () => {
  let lab: Lab;
  let node: LabNode;
  const needed = (t: TestContext): boolean => skipUnless(t, NEEDS);
  const run = async (steps: readonly Step[]): Promise<Report> =>
    JSON.parse(await node.must(["node", RUNNER, JSON.stringify({ steps, environment })], { timeoutMs: 60_000 }));
  /** status, start, start, status, stop, stop, status: exit codes, and what status says. */
  const cycle = async (resource: string): Promise<string> => {
    const actions = ["status", "start", "start", "status", "stop", "stop", "status"] as const;
    const report = await run(actions.map((action) => ({ run: resource, action })));
    const seen = report.outcomes.map(({ result }) => result?.running ?? result?.exitCode).join(" ");
    return seen === FULL_CYCLE ? seen : `${seen}\n${report.lines.join("\n")}`;
  };
  const FULL_CYCLE = "false 0 0 true 0 0 false";

  before(async () => {
    if (missing(NEEDS) !== undefined) return;
    lab = await Lab.up({ name: "scripts", nodes: ["nodo1"], client: false });
    node = lab.node("nodo1");
    // an agent, a wrapper and a script must not find each other: take the wrappers away where the agent is meant
    await node.must(["rm", "/etc/ha.d/resource.d/MailTo"]);
  });
  after(async () => await lab?.down());

  test("OCF agent by its name, without wrapper: Dummy, with a named parameter", async (t) => {
    if (needed(t)) return;
    assert.equal(await cycle("Dummy::state=/run/dummy.state"), FULL_CYCLE);
    assert.equal(await cycle("OCF::Dummy"), FULL_CYCLE);
  });

  test("OCF agent, positional arguments: the required parameters first, as the meta-data lists them", async (t) => {
    if (needed(t)) return;
    const report = await run([{ run: "Dummy::/run/positional.state", action: "start" }]);
    assert.equal(report.outcomes[0]?.result?.exitCode, 0);
    await node.must(["test", "-f", "/run/positional.state"]);
    const many = await run([{ run: "MailTo::root@nodo1::subject::a::b::c", action: "start" }]);
    assert.match(many.lines.join("\n"), /MailTo has no parameter for "a" \(email, subject\)/);
  });

  test("OCF::AGENT::INSTANCE reads Heartbeat's instance file", async (t) => {
    if (needed(t)) return;
    await node.must(["mkdir", "-p", "/etc/ha.d/conf/OCF/Dummy"]);
    await node.writeFile("/etc/ha.d/conf/OCF/Dummy/mine", '# state\nOCF_RESKEY_state="/run/mine.state"\n');
    await run([{ run: "OCF::Dummy::mine", action: "start" }]);
    await node.must(["test", "-f", "/run/mine.state"]);
  });

  test("OCF agent of addresses: IPaddr2 takes ip/bits/interface apart", async (t) => {
    if (needed(t)) return;
    const resource = "OCF::IPaddr2::192.168.0.77/24/eth0";
    const report = await run([
      { run: resource, action: "start" },
      { run: resource, action: "status" },
    ]);
    assert.equal(report.outcomes[0]?.result?.exitCode, 0, report.lines.join("\n"));
    assert.equal(report.outcomes[1]?.result?.running, true);
    assert.match(await node.must(["ip", "address", "show", "dev", "eth0"]), /192\.168\.0\.77\/24/);
    const stopped = await run([
      { run: resource, action: "stop" },
      { run: resource, action: "status" },
    ]);
    assert.equal(stopped.outcomes[1]?.result?.running, false);
  });

  test("wrapper of Heartbeat, unmodified: apache::CONFIG", async (t) => {
    if (needed(t)) return;
    assert.equal(await cycle("apache::/etc/apache2/apache2.conf"), FULL_CYCLE);
  });

  test("an own IPaddr2 in resource.d is run in place of the built-in one", async (t) => {
    if (needed(t)) return;
    await node.must(["sh", "-c", "echo '# ours' >> /etc/ha.d/resource.d/IPaddr2"]);
    const report = await run([
      { run: "IPaddr2::192.168.0.78/24/eth0", action: "start" },
      { run: "IPaddr2::192.168.0.78/24/eth0", action: "status" },
      { run: "IPaddr2::192.168.0.78/24/eth0", action: "stop" },
    ]);
    assert.match(report.lines.join("\n"), /IPaddr2 start: INFO: {2}Success/);
    assert.equal(report.outcomes[1]?.result?.running, true);
    assert.equal(report.outcomes[2]?.result?.exitCode, 0);
  });

  test("init script of Debian: /etc/init.d/apache2, its status texts, and nothing of ours to wait for", async (t) => {
    if (needed(t)) return;
    const alone = await node.must([
      "sh",
      "-c",
      "s=$(date +%s%N); /etc/init.d/apache2 start >/dev/null 2>&1; e=$(date +%s%N); /etc/init.d/apache2 stop >/dev/null 2>&1; echo $(((e-s)/1000000))",
    ]);
    const report = await run([
      { run: "apache2", action: "status" },
      { run: "apache2", action: "start" },
      { run: "apache2", action: "status" },
      { run: "apache2", action: "stop" },
      { run: "apache2", action: "status" },
    ]);
    assert.deepEqual(
      report.outcomes.map(({ result }) => result?.running ?? result?.exitCode),
      [false, 0, true, 0, false],
      report.lines.join("\n"),
    );
    const start = report.outcomes[1]?.ms ?? Number.NaN;
    t.diagnostic(`start: by hand ${alone.trim()} ms, through the runner ${Math.round(start)} ms`);
    assert.ok(start < Number(alone) + 1000, `${start} ms, by hand ${alone.trim()} ms`);
  });

  test("a silent init script speaks through its exit code, any other only through its text", async (t) => {
    if (needed(t)) return;
    const silent = '#!/bin/sh\ncase "$1" in status) exit 0;; esac\n';
    await node.writeFile("/etc/init.d/silent", silent, 0o755);
    await node.writeFile("/etc/ha.d/resource.d/wordless", silent, 0o755);
    const report = await run([
      { run: "silent", action: "status" },
      { run: "wordless", action: "status" },
    ]);
    assert.deepEqual(
      report.outcomes.map(({ result }) => result?.running),
      [true, false],
    );
  });

  test("output comes line by line and is bounded; the service gets an ordinary priority", async (t) => {
    if (needed(t)) return;
    const script = "#!/bin/sh\nseq 1 5000\nprintf '\\033[1mbold\\033[0m' >&2\nnice\ncat /proc/self/oom_score_adj\n";
    await node.writeFile("/etc/init.d/loud", script, 0o755);
    const report = JSON.parse(
      await node.must([
        "nice",
        "-n",
        "-10",
        "node",
        RUNNER,
        JSON.stringify({ steps: [{ run: "loud", action: "start" }] }),
      ]),
    ) as Report;
    assert.equal(report.lines[0], "loud start: 1");
    assert.equal(report.lines.length, 201);
    assert.match(report.lines.at(-1) ?? "", /^loud start: \(480\d more lines\)$/);
    assert.match(report.outcomes[0]?.result?.output ?? "", /\n5000\n0\n0\n/);
  });
});
