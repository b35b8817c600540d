import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { DRBD_PEER_NEEDS } from "../lab/drbd-peer.ts";
import { KernelPair } from "../support/kernel-pair.ts";
import { type Needs, skipUnless } from "../support/requires.ts";

const NEEDS: Needs = {
  ...DRBD_PEER_NEEDS,
  programs: { ...DRBD_PEER_NEEDS.programs, nbdfuse: "libnbd-bin", fusermount3: "fuse3" },
};
const MIB = 2 ** 20;
const SYNC_MS = 120_000;

async function withPair(sizeBytes: number, body: (pair: KernelPair) => Promise<void>): Promise<void> {
  const pair = await KernelPair.make({ sizeBytes });
  try {
    await body(pair);
  } catch (error) {
    const log = await pair.kernel.kernelLog(40).catch(String);
    throw new Error(`${error instanceof Error ? error.stack : String(error)}\nkernel log of nodo2:\n${log}`);
  } finally {
    await pair.lab.down();
  }
}

/** A resync after 2 MiB of writes while apart copies these, and nothing that it need not. */
const DIRTY_BYTES = 2 * MIB;

async function bothUp(pair: KernelPair): Promise<void> {
  await pair.blockrep.up();
  await pair.kernel.up();
  await pair.settle(/cs:Connected ro:Secondary\/Secondary ds:Inconsistent\/Inconsistent C/, /^Connected /, 30_000);
}

describe("kernel DRBD 8.4 as our peer", () => {
  test("drbd: we are sync source, write, are cut off and resync the kernel by bitmap", async (t) => {
    if (skipUnless(t, NEEDS)) return;
    await withPair(24 * MIB, async (pair) => {
      await bothUp(pair);
      await pair.blockrep.forcePrimary();
      await pair.settle(
        /cs:Connected ro:Secondary\/Primary ds:UpToDate\/UpToDate C.*\n.* oos:0/,
        /^Connected Primary UpToDate\/UpToDate$/,
        SYNC_MS,
      );
      await pair.writeOurs(3, 4);
      const before = (await pair.blockrep.resource()).resyncedBytes;
      await pair.ourCommand("disconnect", "r0");
      await pair.kernel.waitFor(/cs:(WFConnection|StandAlone|Timeout|TearDown)/, 20_000);
      await pair.writeOurs(9, 2);
      await pair.ourCommand("connect", "r0");
      await pair.settle(
        /cs:Connected ro:Secondary\/Primary ds:UpToDate\/UpToDate C.*\n.* oos:0/,
        /^Connected Primary UpToDate\/UpToDate$/,
        SYNC_MS,
      );

      assert.equal((await pair.blockrep.resource()).resyncedBytes - before, DIRTY_BYTES);
      await pair.blockrep.secondary();
      const [ours, kernel, bytes] = await pair.compareDown();
      assert.equal(ours, kernel, `the ${bytes} bytes of data differ`);
    });
  });

  test("drbd: the kernel is sync source, writes, is cut off and resyncs us by bitmap", async (t) => {
    if (skipUnless(t, NEEDS)) return;
    await withPair(24 * MIB, async (pair) => {
      await bothUp(pair);
      await pair.kernel.adm("primary", "--force", "r0");
      await pair.settle(
        /cs:Connected ro:Primary\/Secondary ds:UpToDate\/UpToDate C.*\n.* oos:0/,
        /^Connected Secondary UpToDate\/UpToDate$/,
        SYNC_MS,
      );
      await pair.writeKernel(3, 4);
      const before = (await pair.blockrep.resource()).resyncedBytes;
      await pair.kernel.adm("disconnect", "r0");
      await pair.writeKernel(9, 2);
      await pair.kernel.adm("connect", "r0");
      await pair.settle(
        /cs:Connected ro:Primary\/Secondary ds:UpToDate\/UpToDate C.*\n.* oos:0/,
        /^Connected Secondary UpToDate\/UpToDate$/,
        SYNC_MS,
      );
      assert.equal((await pair.blockrep.resource()).resyncedBytes - before, DIRTY_BYTES);
      await pair.kernel.adm("secondary", "r0");
      const [ours, kernel, bytes] = await pair.compareDown();
      assert.equal(ours, kernel, `the ${bytes} bytes of data differ`);
    });
  });
});
