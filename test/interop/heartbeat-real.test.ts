import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HEARTBEAT_PEER_NEEDS } from "../lab/heartbeat-peer.ts";
import { MixedCluster } from "../support/mixed-cluster.ts";
import { type Needs, skipUnless } from "../support/requires.ts";

const NEEDS: Needs = {
  ...HEARTBEAT_PEER_NEEDS,
  programs: { ...HEARTBEAT_PEER_NEEDS.programs, arping: "iputils-arping" },
  files: {
    ...HEARTBEAT_PEER_NEEDS.files,
    "/etc/ha.d/resource.d/IPaddr2": "Debian packages heartbeat, resource-agents",
  },
};
/** From a cold start until Heartbeat has its resources: initdead, then its fixed wait of 10 s for the peer. */
const COLD_START_MS = 60_000;
const MOVE_MS = 30_000;
/** What cl_status rscstatus says of a node with the group: all after it took all, local after it took its own. */
const HOME = /^(all|local)$/;

async function withCluster(
  options: Parameters<typeof MixedCluster.start>[0],
  body: (cluster: MixedCluster) => Promise<void>,
): Promise<void> {
  const cluster = await MixedCluster.start(options);
  try {
    await body(cluster);
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.stack : String(error)}\n${await cluster.report().catch(String)}`);
  } finally {
    await cluster.lab.down();
  }
}

describe("a real Heartbeat as our peer", () => {
  test("heartbeat: sees us active, hands over, is taken over from, comes back and gets its group back", async (t) => {
    if (skipUnless(t, NEEDS)) return;
    await withCluster({}, async (cluster) => {
      const { real, lab } = cluster;
      await real.waitForStatus("nodo2", "active", COLD_START_MS);
      await cluster.waitForOwner("nodo1", COLD_START_MS);
      await real.waitForResources(HOME, MOVE_MS);

      await real.standby("all");
      await cluster.waitForOwner("nodo2", MOVE_MS);
      await real.waitForResources("none", MOVE_MS);
      await real.takeover("all");
      await cluster.waitForOwner("nodo1", MOVE_MS);
      await real.waitForResources(HOME, MOVE_MS);

      await lab.node("nodo1").kill();
      await cluster.waitForOwner("nodo2", MOVE_MS);

      await lab.node("nodo1").start();
      await real.start();
      await cluster.waitForOwner("nodo1", COLD_START_MS);
      await real.waitForStatus("nodo2", "active", MOVE_MS);
      await real.waitForResources(HOME, MOVE_MS);
      assert.doesNotMatch(await real.log(), /Both machines own|ERROR: .*(auth|malformed|unknown field|Bad)/i);
    });
  });

  test("heartbeat: clean stops of either side are no deaths, and the other one has the group", async (t) => {
    if (skipUnless(t, NEEDS)) return;
    await withCluster({ authkeys: "auth 2\n1 crc\n2 sha1 HI!\n" }, async (cluster) => {
      const { real, hacluster, lab } = cluster;
      await real.waitForStatus("nodo2", "active", COLD_START_MS);
      await cluster.waitForOwner("nodo1", COLD_START_MS);

      await hacluster.stop();
      await real.waitForStatus("nodo2", "dead", MOVE_MS);
      assert.match(await real.log(), /Received shutdown notice from 'nodo2'/);
      // its words for a node that left in order; the other ones are "Resources being acquired from"
      assert.match(await real.log(), /Dead node nodo2 gave up resources/);
      await hacluster.start();
      await real.waitForStatus("nodo2", "active", MOVE_MS);
      await cluster.waitForOwner("nodo1", 1_000);

      await real.waitForResources(HOME, MOVE_MS);
      await real.stop();
      await cluster.waitForOwner("nodo2", MOVE_MS);
      const services = await lab.node("nodo1").exec(["cat", "/var/log/service"]);
      assert.equal(services.stdout, "start data\nstop data\n");
      await real.start();
      await cluster.waitForOwner("nodo1", COLD_START_MS);
    });
  });

  test("heartbeat: our standby hands the group to it and our takeover gets it back", async (t) => {
    if (skipUnless(t, NEEDS)) return;
    await withCluster({ authkeys: "auth 1\n1 md5 secret\n" }, async (cluster) => {
      const { real, lab } = cluster;
      await real.waitForStatus("nodo2", "active", COLD_START_MS);
      await cluster.waitForOwner("nodo1", COLD_START_MS);
      await real.waitForResources(HOME, MOVE_MS);
      await lab.node("nodo2").must(["hacluster", "takeover", "all"]);
      await cluster.waitForOwner("nodo2", MOVE_MS);
      await real.waitForResources("none", MOVE_MS);
      await lab.node("nodo2").must(["hacluster", "standby", "all"]);
      await cluster.waitForOwner("nodo1", MOVE_MS);
      await real.waitForResources(HOME, MOVE_MS);
    });
  });

  test("heartbeat: its ipfail and ours move the group to the node that sees the ping node; its plugins reset it", async (t) => {
    if (skipUnless(t, { ...NEEDS, programs: { ...NEEDS.programs, ping: "iputils-ping", stonith: "cluster-glue" } }))
      return;
    const extra = `
ping 192.168.0.100
deadping 2
respawn hacluster /usr/libexec/heartbeat/ipfail
stonith_host nodo2 null nodo1
`;
    await withCluster({ client: true, extra, name: "ipfail" }, async (cluster) => {
      const { real, lab } = cluster;
      await real.waitForStatus("nodo2", "active", COLD_START_MS);
      await cluster.waitForOwner("nodo1", COLD_START_MS);
      await real.waitForResources(HOME, MOVE_MS);

      await lab.cut("nodo1", "client");
      await cluster.waitForOwner("nodo2", MOVE_MS);
      assert.match(await real.log(), /Giving up because we were told that we have less ping nodes/);
      await lab.heal();
      // balanced again, and auto_failback is on
      await cluster.waitForOwner("nodo1", MOVE_MS);
      await real.waitForResources(HOME, MOVE_MS);

      await real.standby("all");
      await cluster.waitForOwner("nodo2", MOVE_MS);
      await lab.cut("nodo2", "client");
      await cluster.waitForOwner("nodo1", MOVE_MS);
      assert.match(await real.log(), /Telling other node that we have more visible ping nodes/);
      await lab.heal();

      await lab.node("nodo1").kill();
      await cluster.waitForOwner("nodo2", MOVE_MS);
      assert.match(await lab.node("nodo2").readFile("/var/log/ha-log"), /node nodo1 now reset: null reset it/);
    });
  });
});
