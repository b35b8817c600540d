import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DRBD_PEER_NEEDS } from "../lab/drbd-peer.ts";
import { HEARTBEAT_PEER_NEEDS } from "../lab/heartbeat-peer.ts";
import { KernelPair } from "../support/kernel-pair.ts";
import { MixedCluster } from "../support/mixed-cluster.ts";
import { skipUnless } from "../support/requires.ts";

// One short conversation with each of the programs we succeed; the long ones: npm run test:interop
describe("the real programs accept us", () => {
  test("e2e: a kernel DRBD 8.4 connects to us with cram-hmac and reaches UpToDate/UpToDate", async (t) => {
    if (skipUnless(t, { ...DRBD_PEER_NEEDS, programs: { ...DRBD_PEER_NEEDS.programs, nbdfuse: "libnbd-bin" } })) return;
    const pair = await KernelPair.make({ sizeBytes: 8 * 2 ** 20 });
    try {
      await pair.blockrep.up();
      await pair.kernel.up();
      await pair.settle(/cs:Connected ro:Secondary\/Secondary ds:Inconsistent\/Inconsistent C/, /^Connected /);
      await pair.blockrep.forcePrimary();
      await pair.settle(
        /cs:Connected ro:Secondary\/Primary ds:UpToDate\/UpToDate C.*\n.* oos:0/,
        /^Connected Primary UpToDate\/UpToDate$/,
      );
      await pair.writeOurs(1, 2);
      await pair.blockrep.secondary();
      const [ours, kernel] = await pair.compareDown();
      assert.equal(kernel, ours);
    } finally {
      await pair.lab.down();
    }
  });

  test("e2e: a real Heartbeat 3.0.6 sees us as an active node and is taken over from", async (t) => {
    if (skipUnless(t, HEARTBEAT_PEER_NEEDS)) return;
    const cluster = await MixedCluster.start({ name: "accept" });
    try {
      await cluster.real.waitForStatus("nodo2", "active", 30_000);
      await cluster.waitForOwner("nodo1", 40_000);
      await cluster.lab.node("nodo1").kill();
      await cluster.waitForOwner("nodo2", 20_000);
    } finally {
      await cluster.lab.down();
    }
  });
});
