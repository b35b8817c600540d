// Service addresses between lab nodes: the probe before one is taken, announcements, leftovers, conflicts.
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Lab } from "../lab/lab.ts";
import type { LabNode } from "../lab/node.ts";
import { waitFor } from "../lab/process.ts";
import { missing, type Needs, skipUnless } from "../support/requires.ts";
import type { Job, Outcome, Report, Step } from "../support/run-resources.ts";

const NEEDS: Needs = {
  root: true,
  namespaces: true,
  programs: { ip: "iproute2", arping: "iputils-arping", perl: "perl-base", nft: "nftables" },
};
const RUNNER = join(dirname(fileURLToPath(import.meta.url)), "../support/run-resources.js");
const MAC_OF_NODO2 = "02:00:00:00:00:1c";
/** The probe's window is 40 ms; the three processes take 20 ms, and on a busy machine as long as they like. */
const TAKE_LIMIT_MS = 1500;

async function run(node: LabNode, steps: readonly Step[], options: Partial<Job> = {}): Promise<Report> {
  return JSON.parse(await node.must(["node", RUNNER, JSON.stringify({ ...options, steps })])) as Report;
}

function first(report: Report): Outcome {
  return report.outcomes[0] as Outcome;
}

/** The client's neighbour entry for an address, upper or lower case as ip prints it. */
async function neighbour(client: LabNode, address: string): Promise<string> {
  const text = await client.must(["ip", "neigh", "show", address, "dev", "eth0"]);
  return /lladdr (\S+)/.exec(text)?.[1] ?? "";
}

describe("addresses", () => {
  let lab: Lab;
  const needed = (t: TestContext): boolean => skipUnless(t, NEEDS);
  before(async () => {
    if (missing(NEEDS) !== undefined) return;
    lab = await Lab.up({ name: "addresses" });
    for (const [index, name] of ["nodo1", "nodo2", "client"].entries()) {
      await lab.node(name).must(["ip", "address", "add", `fd00::${index + 1}/64`, "dev", "eth0", "nodad"]);
    }
  });
  after(async () => await lab?.down());

  for (const [family, address, bits] of [
    ["IPv4", "192.168.0.29", 24],
    ["IPv6", "fd00::29", 64],
  ] as const) {
    const resource = `IPaddr2::${address}/${bits}/eth0`;

    test(`${family}: a free address is taken after one short probe, and the neighbours know at once`, async (t) => {
      if (needed(t)) return;
      const [nodo1, nodo2, client] = [lab.node("nodo1"), lab.node("nodo2"), lab.client];
      await run(nodo2, [{ run: resource, action: "start" }]);
      await client.must(["ping", "-c1", "-W2", address]);
      assert.equal(await neighbour(client, address), MAC_OF_NODO2);
      await run(nodo2, [{ run: resource, action: "stop" }]);

      const report = await run(nodo1, [
        { run: resource, action: "start" },
        { sleepMs: 200 },
        { run: resource, action: "status" },
        { run: resource, action: "start" },
      ]);
      t.diagnostic(`taken in ${Math.round(first(report).ms)} ms`);
      const [start, , status, again] = report.outcomes as [Outcome, Outcome, Outcome, Outcome];
      assert.equal(start.result?.exitCode, 0, start.result?.output);
      assert.ok(start.ms < TAKE_LIMIT_MS, `${start.ms} ms`);
      assert.equal(status.result?.running, true);
      assert.match(again.result?.output ?? "", /already on eth0/);
      assert.deepEqual(report.alarms, []);
      const mac = (await nodo1.readFile("/sys/class/net/eth0/address")).trim();
      assert.equal(await neighbour(client, address), mac); // nothing was sent to it meanwhile
      await run(nodo1, [{ run: resource, action: "stop" }]);
    });

    test(`${family}: an address that answers is not taken; the failure and the alarm name the machine`, async (t) => {
      if (needed(t)) return;
      const [nodo1, nodo2] = [lab.node("nodo1"), lab.node("nodo2")];
      await nodo2.must([
        "ip",
        "address",
        "add",
        `${address}/${bits}`,
        "dev",
        "eth0",
        ...(bits === 64 ? ["nodad"] : []),
      ]);
      t.after(() => nodo2.must(["ip", "address", "delete", `${address}/${bits}`, "dev", "eth0"]));
      const report = await run(nodo1, [
        { run: resource, action: "start" },
        { run: resource, action: "status" },
        { run: resource, action: "start" },
      ]);
      const { result, ms } = first(report);
      t.diagnostic(`refused in ${Math.round(ms)} ms`);
      assert.equal(result?.exitCode, 1);
      assert.match(result.output, new RegExp(`${address} is in use on eth0 by another machine.*${MAC_OF_NODO2}`));
      assert.ok(ms < TAKE_LIMIT_MS, `${ms} ms`);
      assert.equal(report.outcomes[1]?.result?.running, false);
      assert.deepEqual(
        report.alarms.map(({ name, key, details }) => [name, key, details["mac"]]),
        [["address.conflict", address, MAC_OF_NODO2]], // once, not once per try
      );
    });

    test(`${family}: a conflict that comes later is an alarm, and its end is told too`, async (t) => {
      if (needed(t)) return;
      const [nodo1, nodo2] = [lab.node("nodo1"), lab.node("nodo2")];
      const running = run(nodo1, [
        { run: resource, action: "start" },
        { sleepMs: 600 },
        { checkConflicts: true },
        { checkConflicts: true },
        { sleepMs: 1200 },
        { checkConflicts: true },
        { run: resource, action: "stop" },
      ]);
      const taken = async (): Promise<boolean> => (await nodo1.must(["ip", "address", "show"])).includes(`${address}/`);
      assert.ok(await waitFor(taken, 3_000));
      await nodo2.must([
        "ip",
        "address",
        "add",
        `${address}/${bits}`,
        "dev",
        "eth0",
        ...(bits === 64 ? ["nodad"] : []),
      ]);
      await new Promise((resolve) => setTimeout(resolve, 1_300));
      await nodo2.must(["ip", "address", "delete", `${address}/${bits}`, "dev", "eth0"]);
      const { alarms } = await running;
      assert.deepEqual(
        alarms.map(({ name, key }) => [name, key]),
        [
          ["address.conflict", address],
          ["address.conflict.over", address],
        ],
      );
    });
  }

  test("announceAll tells the neighbours again, over IPv4 and IPv6", async (t) => {
    if (needed(t)) return;
    const [nodo1, client] = [lab.node("nodo1"), lab.client];
    const addresses = ["192.168.0.29", "fd00::29"];
    const all = (action: "start" | "stop"): Step[] =>
      addresses.map((address) => ({ run: `IPaddr2::${address}/${address.includes(":") ? 64 : 24}/eth0`, action }));
    const running = run(nodo1, [...all("start"), { sleepMs: 7_000 }, { announceAll: true }, { sleepMs: 500 }]);
    await client.must(["sleep", "6"]); // the announcements of the start are over
    for (const address of addresses) {
      const stale = ["lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale"];
      await client.must(["ip", "neigh", "replace", address, ...stale]);
      assert.equal(await neighbour(client, address), "02:00:00:00:00:99");
    }
    await running;
    const mac = (await nodo1.readFile("/sys/class/net/eth0/address")).trim();
    for (const address of addresses) assert.equal(await neighbour(client, address), mac);
    await run(nodo1, all("stop"));
  });

  test("a second address of the same subnet stays when the first is given up", async (t) => {
    if (needed(t)) return;
    const report = await run(lab.node("nodo1"), [
      { run: "IPaddr2::10.7.0.1/24/eth0", action: "start" },
      { run: "IPaddr2::10.7.0.2/24/eth0", action: "start" },
      { run: "IPaddr2::10.7.0.1/24/eth0", action: "stop" },
      { run: "IPaddr2::10.7.0.2/24/eth0", action: "status" },
      { run: "IPaddr2::10.7.0.2/24/eth0", action: "stop" },
    ]);
    assert.deepEqual(
      report.outcomes.map(({ result }) => result?.exitCode),
      [0, 0, 0, 0, 0],
    );
    assert.equal(report.outcomes[3]?.result?.running, true);
  });

  test("an address on an interface without a cable still counts, and is removed", async (t) => {
    if (needed(t)) return;
    const node = lab.node("nodo2");
    const resource = "IPaddr::192.168.0.40/24/eth0:2";
    await run(node, [{ run: resource, action: "start" }]);
    assert.match(await node.must(["ip", "address", "show", "dev", "eth0"]), /192\.168\.0\.40\/24.*eth0:2/);
    await node.unplug();
    t.after(() => node.plug());
    const report = await run(node, [
      { run: resource, action: "status" },
      { run: resource, action: "stop" },
      { run: resource, action: "status" },
    ]);
    assert.deepEqual(
      report.outcomes.map(({ result }) => result?.running ?? result?.exitCode),
      [true, 0, false],
    );
    assert.doesNotMatch(await node.must(["ip", "address", "show", "dev", "eth0"]), /192\.168\.0\.40/);
  });

  test("leftovers are removed, but not what is held and not what no group names", async (t) => {
    if (needed(t)) return;
    const node = lab.node("nodo1");
    for (const host of [61, 62, 63]) {
      await node.must(["ip", "address", "add", `192.168.0.${host}/24`, "dev", "eth0"]);
    }
    t.after(async () => {
      for (const host of [62, 63]) await node.must(["ip", "address", "delete", `192.168.0.${host}/24`, "dev", "eth0"]);
    });
    const [left, held] = ["IPaddr2::192.168.0.61/24/eth0", "IPaddr2::192.168.0.62"];
    const report = await run(node, [{ removeLeftovers: [left, held, "apache2"], except: [held] }]);
    assert.deepEqual(first(report).said, ["192.168.0.61 was left on eth0 by an earlier run and is removed"]);
    const addresses = await node.must(["ip", "address", "show"]);
    assert.doesNotMatch(addresses, /192\.168\.0\.61/);
    assert.match(addresses, /192\.168\.0\.62[\s\S]*192\.168\.0\.63/);
  });

  test("refusals: no such interface, no interface in the subnet, no address", async (t) => {
    if (needed(t)) return;
    const report = await run(lab.node("nodo1"), [
      { run: "IPaddr2::192.168.0.29/24/eth9", action: "start" },
      { run: "IPaddr2::172.16.5.5", action: "start" },
      { run: "IPaddr2::nonsense", action: "start" },
    ]);
    const said = report.outcomes.map(({ result }) => `${result?.exitCode} ${result?.output}`);
    assert.match(said[0] ?? "", /^1 IPaddr2: ip address add .*: .*eth9/);
    assert.match(said[1] ?? "", /^1 IPaddr2: no interface is in the subnet of 172\.16\.5\.5; name one/);
    assert.match(said[2] ?? "", /^2 IPaddr2: "nonsense".*not an IP address/);
  });
});
