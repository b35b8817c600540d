// The daemon and a stranger who has one address of the line: nothing of the line runs, and the administrator is told.
import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { Lab } from "../lab/lab.ts";
import type { LabNode } from "../lab/node.ts";
import { waitFor } from "../lab/process.ts";
import { missing, type Needs, skipUnless } from "../support/requires.ts";

const NEEDS: Needs = {
  root: true,
  namespaces: true,
  programs: { ip: "iproute2", arping: "iputils-arping", perl: "perl-base", nft: "nftables" },
};
const MAC_OF_CLIENT = "02:00:00:00:00:64";
const HA_CF = `keepalive 100ms
deadtime 500ms
warntime 250ms
initdead 1
ucast eth0 192.168.0.28
auto_failback on
logfile /var/log/ha-log
node nodo1 nodo2
`;
const RESOURCES = ["IPaddr2::192.168.0.201/24/eth0", "IPaddr2::192.168.0.202/24/eth0"];

interface Status {
  readonly cluster: {
    readonly groups: readonly { readonly state: string }[];
    readonly alarms: readonly { readonly name: string; readonly key: string; readonly text: string }[];
  } | null;
}

describe("address conflict", () => {
  let lab: Lab;
  let node: LabNode;
  const needed = (t: TestContext): boolean => skipUnless(t, NEEDS);
  const status = async (): Promise<Status> =>
    JSON.parse((await node.exec(["hacluster", "status", "--json"])).stdout) as Status;
  const groupIs = (state: string): Promise<boolean> =>
    waitFor(async () => (await status()).cluster?.groups[0]?.state === state, 15_000);
  const addresses = async (): Promise<string[]> =>
    [...(await node.must(["ip", "-4", "address", "show", "dev", "eth0"])).matchAll(/inet 192\.168\.0\.(\d+)/g)].map(
      ([, host]) => host ?? "",
    );

  before(async () => {
    if (missing(NEEDS) !== undefined) return;
    lab = await Lab.up({ name: "conflict" });
    node = lab.node("nodo1");
    await node.writeFile("/etc/ha.d/ha.cf", HA_CF);
    await node.writeFile("/etc/ha.d/authkeys", "auth 1\n1 sha1 secret\n", 0o600);
    await node.writeFile("/etc/ha.d/haresources", `nodo1 ${RESOURCES.join(" ")}\n`);
    await node.writeFile("/etc/ha.d/hacluster.conf", "address check=1s\n");
    await node.must(["rm", "-rf", "/etc/drbd.conf", "/etc/drbd.d"]);
    await lab.client.must(["ip", "address", "add", "192.168.0.202/24", "dev", "eth0"]);
  });
  after(async () => await lab?.down());

  test("the second address of the line is in use: the first is given back, status names the machine", async (t) => {
    if (needed(t)) return;
    await node.must(["ip", "address", "add", "192.168.0.201/24", "dev", "eth0"]);
    await node.must(["hacluster", "start"], { timeoutMs: 20_000 });
    assert.ok(await groupIs("failed"), JSON.stringify(await status()));
    assert.deepEqual(await addresses(), ["27"]);
    const alarms = (await status()).cluster?.alarms ?? [];
    assert.deepEqual(
      alarms.map(({ name, key }) => [name, key]),
      [
        ["address.conflict", "192.168.0.202"],
        ["script.failed", `${RESOURCES[1]} start`],
      ],
    );
    const shown = await node.exec(["hacluster", "status"]);
    assert.equal(shown.code, 1);
    assert.match(shown.stdout, new RegExp(`192\\.168\\.0\\.202 is in use on eth0.*${MAC_OF_CLIENT}`));
    const log = await node.readFile("/var/log/ha-log");
    assert.match(log, /"event":"address\.conflict"/);
    assert.match(log, /192\.168\.0\.201 was left on eth0 by an earlier run and is removed/);
  });

  test("once the address is free the line starts; a conflict after that is an alarm within seconds", async (t) => {
    if (needed(t)) return;
    await lab.client.must(["ip", "address", "delete", "192.168.0.202/24", "dev", "eth0"]);
    await node.must(["hacluster", "start"], { timeoutMs: 20_000 });
    assert.ok(await groupIs("running"), JSON.stringify(await status()));
    assert.deepEqual(await addresses(), ["27", "201", "202"]);
    assert.deepEqual((await status()).cluster?.alarms, []);
    await lab.client.must(["ip", "address", "add", "192.168.0.201/24", "dev", "eth0"]);
    const alarmed = waitFor(async () => ((await status()).cluster?.alarms.length ?? 0) > 0, 10_000);
    assert.ok(await alarmed);
    assert.match((await status()).cluster?.alarms[0]?.text ?? "", /192\.168\.0\.201 is on this node and on another/);
    await lab.client.must(["ip", "address", "delete", "192.168.0.201/24", "dev", "eth0"]);
    const over = waitFor(async () => (await status()).cluster?.alarms.length === 0, 10_000);
    assert.ok(await over);
    await node.must(["hacluster", "stop"], { timeoutMs: 20_000 });
    assert.deepEqual(await addresses(), ["27"]);
  });
});
