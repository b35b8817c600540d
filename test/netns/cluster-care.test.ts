// Two nodes of ours with their daemons: monitoring, clients, ping nodes and ipfail, adoption after a crash, fencing.
import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { Lab } from "../lab/lab.ts";
import type { LabNode } from "../lab/node.ts";
import { waitFor } from "../lab/process.ts";
import { missing, type Needs, skipUnless } from "../support/requires.ts";

const NEEDS: Needs = {
  root: true,
  namespaces: true,
  programs: { ip: "iproute2", ping: "iputils-ping", nft: "nftables" },
};
const CLIENT = "192.168.0.100";
const HA_CF = `logfile /var/log/ha-log
debugfile /var/log/ha-debug
keepalive 200ms
deadtime 2
warntime 1
initdead 6
deadping 1
bcast eth0
ping ADDRESS
respawn root /usr/lib/heartbeat/ipfail
respawn root /etc/ha.d/client
stonith_host * external/lab nodo1 nodo2
auto_failback off
node nodo1 nodo2
`;
const AUTHKEYS = "auth 1\n1 sha1 a-key-of-this-test\n";
/** A service that is a file; every call is written down. */
const SCRIPT = `#!/bin/sh
echo "$1 $2" >> /var/log/calls
case "$2" in
start) touch /run/service-$1 ;;
stop) rm -f /run/service-$1 ;;
status) [ -e /run/service-$1 ] && echo running || echo stopped ;;
esac
`;
const CLIENT_SCRIPT = "#!/bin/sh\necho $$ > /run/client.pid\nexec sleep 600\n";
/** A device that resets nobody until the test says so; then the node is off already. */
const PLUGIN = `#!/bin/sh
case "$1" in
getconfignames) echo hostlist ;;
gethosts) echo $hostlist ;;
status) exit 0 ;;
reset) [ -e /run/reset-works ] || { echo "the switch does not answer" >&2; exit 1; } ;;
*) exit 1 ;;
esac
`;

async function configure(node: LabNode, pingAddress: string): Promise<void> {
  await node.must(["sh", "-c", "rm -rf /etc/ha.d /etc/drbd.d /etc/drbd.conf; mkdir -p /etc/ha.d/resource.d"]);
  // a folder of the machine itself: hidden by one of the node's own
  await node.must(["sh", "-c", "mount -t tmpfs plugins /usr/lib/stonith/plugins/external"]);
  await node.writeFile("/etc/ha.d/ha.cf", HA_CF.replace("ADDRESS", pingAddress));
  await node.writeFile("/etc/ha.d/authkeys", AUTHKEYS, 0o600);
  await node.writeFile("/etc/ha.d/haresources", "nodo1 file::A file::B\n");
  await node.writeFile("/etc/ha.d/hacluster.conf", "monitor interval=300ms failures=3 window=1m\n");
  await node.writeFile("/etc/ha.d/resource.d/file", SCRIPT, 0o755);
  await node.writeFile("/etc/ha.d/client", CLIENT_SCRIPT, 0o755);
  await node.writeFile("/usr/lib/stonith/plugins/external/lab", PLUGIN, 0o755);
}

async function runs(node: LabNode): Promise<boolean> {
  return (await node.exec(["sh", "-c", "[ -e /run/service-A ] && [ -e /run/service-B ]"])).code === 0;
}

interface Status {
  readonly cluster: {
    readonly pid: number;
    readonly pingNodes: readonly { readonly node: string; readonly status: string }[];
    readonly fencing?: { readonly node: string; readonly device: string; readonly text?: string };
    readonly groups: readonly { readonly failures?: number }[];
  };
}

async function status(node: LabNode): Promise<Status["cluster"]> {
  return (JSON.parse((await node.exec(["hacluster", "status", "--json"])).stdout) as Status).cluster;
}

async function calls(node: LabNode): Promise<string[]> {
  return (await node.readFile("/var/log/calls")).trim().split("\n");
}

async function lastWords(node: LabNode): Promise<string> {
  return (await node.exec(["sh", "-c", "tail -n 40 /var/log/ha-log"])).stdout;
}

describe("cluster: care for what runs", { timeout: 120_000 }, () => {
  let lab: Lab;
  const needed = (t: TestContext): boolean => skipUnless(t, NEEDS);
  before(async () => {
    if (missing(NEEDS) !== undefined) return;
    lab = await Lab.up({ name: "care" });
    for (const name of ["nodo1", "nodo2"]) await configure(lab.node(name), CLIENT);
    await Promise.all(["nodo1", "nodo2"].map((name) => lab.node(name).must(["hacluster", "start"])));
    assert.ok(await waitFor(() => runs(lab.node("nodo1")), 15_000), await lastWords(lab.node("nodo1")));
  });
  after(async () => await lab?.down());

  test("monitoring: a service that ends by itself is started again where it was", async (t) => {
    if (needed(t)) return;
    const nodo1 = lab.node("nodo1");
    await nodo1.must(["rm", "/run/service-B"]);
    assert.ok(await waitFor(() => runs(nodo1), 5000), await lastWords(nodo1));
    assert.equal((await status(nodo1)).groups[0]?.failures, 1);
    const changes = (await calls(nodo1)).filter((line) => !line.endsWith(" status"));
    assert.deepEqual(changes, ["A start", "B start", "B stop", "B start"]);
  });

  test("respawn: a client runs, and is started again when it ends", async (t) => {
    if (needed(t)) return;
    const nodo1 = lab.node("nodo1");
    const pid = async (): Promise<string> => (await nodo1.exec(["cat", "/run/client.pid"])).stdout.trim();
    assert.ok(await waitFor(async () => (await pid()) !== "", 3000), await lastWords(nodo1));
    const first = await pid();
    await nodo1.must(["kill", first]);
    assert.ok(await waitFor(async () => (await pid()) !== first, 5000), await lastWords(nodo1));
  });

  test("ipfail: the node that loses the ping node gives everything to the other", async (t) => {
    if (needed(t)) return;
    const [nodo1, nodo2] = [lab.node("nodo1"), lab.node("nodo2")];
    assert.deepEqual(
      (await status(nodo1)).pingNodes.map((node) => `${node.node} ${node.status}`),
      [`${CLIENT} ping`],
    );
    await lab.cut("nodo1", "client");
    assert.ok(await waitFor(() => runs(nodo2), 10_000), await lastWords(nodo1));
    assert.equal(await runs(nodo1), false);
    await lab.heal();
    assert.ok(
      await waitFor(async () => (await status(nodo1)).pingNodes[0]?.status === "ping", 5000),
      await lastWords(nodo1),
    );
  });

  test("journal: a daemon that is killed and restarted at once keeps what it ran, without a stop", async (t) => {
    if (needed(t)) return;
    const nodo2 = lab.node("nodo2");
    const { pid } = await status(nodo2);
    await nodo2.must(["sh", "-c", ": > /var/log/calls"]);
    await nodo2.must(["kill", "-9", String(pid)]);
    await nodo2.must(["hacluster", "start"]);
    assert.ok(await waitFor(async () => (await status(nodo2))?.groups.length === 1, 5000), await lastWords(nodo2));
    const running = async (): Promise<boolean> =>
      (await nodo2.exec(["hacluster", "status"])).stdout.includes("running on nodo2");
    assert.ok(await waitFor(running, 8000), await lastWords(nodo2));
    assert.ok(await runs(nodo2));
    assert.deepEqual([...new Set(await calls(nodo2))].sort(), ["A status", "B status"]);
    assert.equal(await runs(lab.node("nodo1")), false);
  });

  test("outdate-peer: the question goes over heartbeat's links, and the exit code is the answer", async (t) => {
    if (needed(t)) return;
    const result = await lab.node("nodo1").exec(["hacluster", "outdate-peer", "-t", "3", "r0"]);
    assert.equal(result.code, 1, "nodo2 has no such resource");
    assert.match(result.stderr, /r0: the peer's copy could not be outdated: nodo2 answered/);
  });

  test("fencing: nothing of a dead node is taken before the device has reset it; the status says what it waits for", async (t) => {
    if (needed(t)) return;
    const [nodo1, nodo2] = [lab.node("nodo1"), lab.node("nodo2")];
    await nodo2.kill();
    const waits = async (): Promise<boolean> => (await status(nodo1)).fencing?.text !== undefined;
    assert.ok(await waitFor(waits, 10_000), await lastWords(nodo1));
    const { fencing } = await status(nodo1);
    assert.deepEqual([fencing?.node, fencing?.device], ["nodo2", "external/lab"]);
    assert.match(fencing?.text ?? "", /the switch does not answer/);
    assert.match((await nodo1.exec(["hacluster", "status"])).stdout, /waits for the reset of nodo2 with external\/lab/);
    assert.equal((await nodo1.exec(["hacluster", "outdate-peer", "r0"])).code, 5, "unreachable, not yet fenced");
    assert.equal(await runs(nodo1), false);
    await nodo1.must(["touch", "/run/reset-works"]);
    assert.ok(await waitFor(() => runs(nodo1), 8000), await lastWords(nodo1));
    assert.equal((await nodo1.exec(["hacluster", "outdate-peer", "r0"])).code, 7, "fenced");
    assert.match(await nodo1.readFile("/var/log/ha-log"), /node nodo2 now reset/);
  });

  test("stop: clients end, the journal is gone", async (t) => {
    if (needed(t)) return;
    const nodo1 = lab.node("nodo1");
    const client = (await nodo1.must(["cat", "/run/client.pid"])).trim();
    await nodo1.must(["hacluster", "stop"]);
    assert.equal(await runs(nodo1), false);
    assert.notEqual((await nodo1.exec(["kill", "-0", client])).code, 0);
    assert.notEqual((await nodo1.exec(["test", "-e", "/run/hacluster/journal.json"])).code, 0);
  });
});
