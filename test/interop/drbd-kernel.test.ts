import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { firstSync, handOver, type Protocol, resourceFor, resyncedBy, settleUpToDate } from "../support/drbd-case.ts";
import { DRBD_NEEDS, KernelPair, type Load, type Side, type SideName, withKernelLog } from "../support/kernel-pair.ts";
import { missing, skipUnless } from "../support/requires.ts";

const MIB = 2 ** 20;
const DISK_BYTES = 16 * MIB;
/** What is written while apart: a resync copies exactly this. */
const DIRTY_MIB = 1;

const CASES: readonly { protocol: Protocol; secret: boolean; first: SideName }[] = [
  { protocol: "A", secret: false, first: "ours" },
  { protocol: "A", secret: true, first: "kernel" },
  { protocol: "B", secret: false, first: "kernel" },
  { protocol: "B", secret: true, first: "ours" },
  { protocol: "C", secret: false, first: "ours" },
  { protocol: "C", secret: true, first: "kernel" },
];

describe("kernel DRBD 8.4 as our peer", () => {
  let pair: KernelPair | undefined;
  before(async () => {
    if (missing(DRBD_NEEDS) === undefined) pair = await KernelPair.make({ sizeBytes: DISK_BYTES });
  });
  after(async () => await pair?.lab.down());

  for (const { protocol, secret, first } of CASES) {
    const auth = secret ? "with a shared secret" : "without a secret";
    const words = first === "ours" ? "we are Primary first" : "the kernel is Primary first";
    test(`drbd: protocol ${protocol} ${auth}, ${words}`, async (t) => {
      if (skipUnless(t, DRBD_NEEDS)) return;
      const kernelPair = pair as KernelPair;
      await withKernelLog(kernelPair, async () => {
        await kernelPair.remake(resourceFor(protocol, secret));
        await exchange(kernelPair, kernelPair.side(first), protocol);
      });
    });
  }
});

/** One life of a pair: the first sync from `first`, then either side as Primary once. */
async function exchange(pair: KernelPair, first: Side, protocol: Protocol): Promise<void> {
  await firstSync(pair, first, protocol);
  const one: Load = { offsetMiB: 2, mebibytes: 3, seed: 1 };
  const two: Load = { offsetMiB: 4, mebibytes: 3, seed: 2 };
  await first.write(one);
  await writeApart(pair, first, { offsetMiB: 9, mebibytes: DIRTY_MIB, seed: 3 }, protocol);
  await refusedUnderLoad(first);

  await handOver(pair, first.other, protocol);
  await first.other.verify(one);
  await first.other.write(two);
  await writeApart(pair, first.other, { offsetMiB: 12, mebibytes: DIRTY_MIB, seed: 4 }, protocol);

  await handOver(pair, first, protocol);
  await first.verify(two);
  await first.adm("secondary", "r0");
  await settleUpToDate(pair, "none", protocol);
  const [ours, kernel, bytes] = await pair.compareDown();
  assert.equal(ours, kernel, `the ${bytes} bytes of data differ`);
}

/** The Primary disconnects, writes, connects: exactly that is copied, and the other side has it. */
async function writeApart(pair: KernelPair, primary: Side, load: Load, protocol: Protocol): Promise<void> {
  const copied = await resyncedBy(pair, async () => {
    await primary.adm("disconnect", "r0");
    await primary.write(load);
    await primary.adm("connect", "r0");
    await settleUpToDate(pair, primary.name, protocol);
  });
  assert.equal(copied, load.mebibytes * MIB);
}

/** While a program writes, the Primary stays it, and the other side does not become one. */
async function refusedUnderLoad(primary: Side): Promise<void> {
  const writing = primary.write({ offsetMiB: 13, mebibytes: 2, seed: 5 });
  const holder = primary.exec(["sh", "-c", "exec 3</dev/drbd0; sleep 4"]);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const [demoted, promoted] = await Promise.all([
    primary.tryAdm("secondary", "r0"),
    primary.other.tryAdm("primary", "r0"),
  ]);
  await Promise.all([writing, holder]);
  assert.equal(demoted.code, 11, `${primary.name} gave up its role under load: ${demoted.stdout}${demoted.stderr}`);
  assert.equal(promoted.code, 11, `a second Primary was let in: ${promoted.stdout}${promoted.stderr}`);
}
