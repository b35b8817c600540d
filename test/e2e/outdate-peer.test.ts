// Fencing between the two disks over heartbeat's links: what dopd did, between two nodes of ours.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Hacluster } from "../demo/hacluster.ts";
import { configure } from "../demo/nodes.ts";
import { Lab } from "../lab/lab.ts";
import { waitFor } from "../lab/process.ts";
import { type Needs, skipUnless } from "../support/requires.ts";

const NEEDS: Needs = {
  root: true,
  namespaces: true,
  programs: { ip: "iproute2", nft: "nftables", losetup: "mount" },
};

test("outdate-peer: a peer that lost only its replication link calls its disk Outdated; a Primary does not", async (t) => {
  if (skipUnless(t, NEEDS)) return;
  const lab = await Lab.up({ name: "outdate", client: false, diskBytes: 32 * 2 ** 20 });
  try {
    const nodes = [lab.node("nodo1"), lab.node("nodo2")] as const;
    const [nodo1, nodo2] = nodes;
    for (const node of nodes) {
      await configure(node, false);
      // membership only: nothing takes the disk
      await node.writeFile("/etc/ha.d/haresources", "");
      await new Hacluster(node, 30_000).createMetadata();
      await node.must(["hacluster", "blockrep", "up", "r0"]);
    }
    await nodo1.must(["hacluster", "blockrep", "primary", "--force", "r0"], { timeoutMs: 30_000 });
    await nodo1.must(["hacluster", "blockrep", "wait-sync", "r0"], { timeoutMs: 30_000 });
    await Promise.all(nodes.map((node) => node.must(["hacluster", "start", "--no-wait"], { timeoutMs: 30_000 })));
    const active = async (): Promise<boolean> =>
      (await nodo1.exec(["hacluster", "cl_status", "nodestatus", "nodo2"])).stdout.trim() === "active";
    assert.ok(await waitFor(active, 20_000, 100));

    await nodo2.must(["hacluster", "blockrep", "disconnect", "r0"]);
    const asked = await nodo1.exec(["env", "DRBD_RESOURCE=r0", "hacluster", "outdate-peer", "-t", "5"]);
    assert.equal(asked.code, 4, asked.stderr);
    assert.match(asked.stderr, /r0: the peer's copy is Outdated: nodo2 answered/);
    assert.match(await nodo2.must(["hacluster", "blockrep", "dstate", "r0"]), /^Outdated\//);

    const primary = await nodo2.exec(["hacluster", "outdate-peer", "-t", "5", "r0"]);
    assert.equal(primary.code, 6, primary.stderr);
  } finally {
    await lab.down();
  }
});
