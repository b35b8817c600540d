import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ResourceSet } from "../lab/heartbeat-peer.ts";
import { MIXED_CLUSTER_NEEDS, MixedCluster } from "../support/mixed-cluster.ts";
import { type Needs, skipUnless } from "../support/requires.ts";

const NEEDS: Needs = {
  ...MIXED_CLUSTER_NEEDS,
  programs: { ...MIXED_CLUSTER_NEEDS.programs, nft: "nftables" },
};
const COLD_START_MS = 60_000;
const MOVE_MS = 30_000;
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

/** Both know each other, and the group is at home, on the real one. */
async function settled(cluster: MixedCluster): Promise<void> {
  await cluster.real.waitForStatus("nodo2", "active", COLD_START_MS);
  await cluster.waitForOwner("nodo1", COLD_START_MS);
  await cluster.real.waitForResources(HOME, MOVE_MS);
}

const pause = async (ms: number): Promise<void> => await new Promise((resolve) => setTimeout(resolve, ms));

describe("a real Heartbeat as our peer, when things go wrong", () => {
  test("heartbeat: a cut link makes two owners, healing it leaves one", async (t) => {
    if (skipUnless(t, NEEDS)) return;
    await withCluster({ name: "cut" }, async (cluster) => {
      await settled(cluster);
      await cluster.lab.cut("nodo1", "nodo2");
      await cluster.real.waitForStatus("nodo2", "dead", MOVE_MS);
      await cluster.waitForOwners("nodo1:service+address nodo2:service+address", MOVE_MS);
      await cluster.lab.heal();
      await cluster.waitForOwner("nodo1", COLD_START_MS);
      await settled(cluster);
      await pause(3_000);
      await cluster.waitForOwner("nodo1", 1_000);
    });
  });

  test("heartbeat: 20 % of the packets lost each way cost no life, and standby and takeover in all forms work", async (t) => {
    if (skipUnless(t, NEEDS)) return;
    await withCluster({ name: "loss" }, async (cluster) => {
      const { real, lab } = cluster;
      await settled(cluster);
      const ours = async (verb: "standby" | "takeover", set: ResourceSet): Promise<void> => {
        await lab.node("nodo2").must(["hacluster", verb, set]);
      };
      const moved = async (owner: "nodo1" | "nodo2"): Promise<void> => {
        await cluster.waitForOwner(owner, MOVE_MS);
        await real.waitForResources(owner === "nodo1" ? HOME : "none", MOVE_MS);
      };
      await lab.lose(20, "nodo1", "nodo2");
      await real.standby("local");
      await moved("nodo2");
      await real.takeover("local");
      await moved("nodo1");
      await ours("takeover", "foreign");
      await moved("nodo2");
      await ours("standby", "foreign");
      await moved("nodo1");
      await real.standby("all");
      await moved("nodo2");
      await ours("standby", "failback");
      await moved("nodo1");
      await ours("takeover", "all");
      await moved("nodo2");
      await real.takeover("all");
      await moved("nodo1");
      await pause(5_000);
      await cluster.waitForOwner("nodo1", 1_000);
      assert.doesNotMatch(await real.log(), /node nodo2: is dead/);
      await lab.lose(0, "nodo1", "nodo2");
    });
  });

  test("heartbeat: auto_failback off: what was taken over stays until it is asked for", async (t) => {
    if (skipUnless(t, NEEDS)) return;
    await withCluster({ name: "off", autoFailback: "off" }, async (cluster) => {
      const { real, lab } = cluster;
      await real.waitForStatus("nodo2", "active", COLD_START_MS);
      await cluster.waitForOwner("nodo1", COLD_START_MS);
      await lab.node("nodo1").kill();
      await cluster.waitForOwner("nodo2", MOVE_MS);
      await lab.node("nodo1").start();
      await real.start();
      await real.waitForStatus("nodo2", "active", COLD_START_MS);
      await real.waitForResources("none", COLD_START_MS);
      await pause(3_000);
      await cluster.waitForOwner("nodo2", 1_000);
      await real.takeover("all");
      await cluster.waitForOwner("nodo1", MOVE_MS);
      await real.waitForResources(HOME, MOVE_MS);
    });
  });

  test("heartbeat: another key makes us strangers: each is alone with the group, and says so", async (t) => {
    if (skipUnless(t, NEEDS)) return;
    await withCluster({ name: "key", ourAuthkeys: "auth 1\n1 sha1 something-else\n" }, async (cluster) => {
      const { real, hacluster } = cluster;
      await cluster.waitForOwners("nodo1:service+address nodo2:service+address", COLD_START_MS);
      assert.equal(await real.statusOf("nodo2"), "dead");
      assert.match(await real.log(), /authentication/i);
      assert.match(await hacluster.statusText(), /nodo1 +dead +never heard/);
    });
  });
});
