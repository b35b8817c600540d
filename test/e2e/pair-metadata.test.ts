// The metadata of a used backing disk, judged by drbdmeta: clean after `down`, made clean by apply-al after a kill -9.
import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { attachLoop } from "../lab/loop.ts";
import { must, type Result, run } from "../lab/process.ts";
import { EXPORT_URI, PAIR_NEEDS, Pair, type PairNode } from "../support/pair.ts";
import { findProgram, missing, type Needs, skipUnless } from "../support/requires.ts";

const NEEDS: Needs = {
  ...PAIR_NEEDS,
  programs: { ...PAIR_NEEDS.programs, "qemu-io": "qemu-utils" },
  files: { [findProgram("drbdmeta") ?? "/usr/sbin/drbdmeta"]: "Debian package drbd-utils" },
};
const MIB = 2 ** 20;

/** drbdmeta on the node's image, through a loop device of the host's, as on a machine without hacluster. */
async function drbdmeta(side: PairNode, ...command: string[]): Promise<Result> {
  const loop = await attachLoop(String(side.node.diskImage));
  try {
    return await run([findProgram("drbdmeta") as string, "0", "v08", loop, "internal", ...command]);
  } finally {
    await must(["losetup", "--detach", loop]);
  }
}

/** What both programs must agree on: without the lines that name the program, the host and the time. */
function comparable(dump: string): string {
  return dump
    .replace(/^#.*\n/gm, "")
    .replace(/[ \t]+$/gm, "")
    .trim();
}

/** Of show-gi: the line of identifiers, and the lines such as `last agreed size: …` with their values. */
function facts(text: string): string[] {
  return text
    .split("\n")
    .filter((line) => /^[\dA-F]{16}:|^[\w -]+: |^zero size/.test(line))
    .map((line) => line.trimEnd());
}

async function write(side: PairNode, ...commands: string[]): Promise<void> {
  const args = ["qemu-io", "-f", "raw", EXPORT_URI, ...commands.flatMap((command) => ["-c", command])];
  const result = await side.node.must(args);
  assert.doesNotMatch(result, /failed|error/i);
}

describe("metadata of a used disk, judged by drbdmeta", () => {
  let pair: Pair;
  const unavailable = (t: TestContext): boolean => skipUnless(t, NEEDS);
  const agree = async (side: PairNode): Promise<string> => {
    const theirs = await drbdmeta(side, "dump-md");
    assert.equal(theirs.code, 0, `${side.node.name}: ${theirs.stdout}${theirs.stderr}`);
    assert.equal(comparable(await side.blockrep("dump-md")), comparable(theirs.stdout), side.node.name);
    const gi = await drbdmeta(side, "get-gi");
    assert.equal((await side.blockrep("get-gi")).trim(), gi.stdout.trim(), side.node.name);
    // show-gi explains in words of its own; the line and what stands behind the explanation are facts
    const shown = await drbdmeta(side, "show-gi");
    assert.deepEqual(facts(await side.blockrep("show-gi")), facts(shown.stdout), side.node.name);
    return theirs.stdout;
  };

  before(async () => {
    if (missing(NEEDS) !== undefined) return;
    pair = await Pair.make({ name: "pairmeta", diskBytes: 32 * MIB });
  });
  after(async () => await pair?.end());

  test("fresh from create-md", async (t) => {
    if (unavailable(t)) return;
    await pair.each((side) => side.blockrep("create-md"));
    await pair.each(async (side) => assert.match(await agree(side), /uuid \{\s+0x0000000000000004;/));
  });

  test("created, used and brought down: clean, without --force", async (t) => {
    if (unavailable(t)) return;
    await pair.each((side) => side.blockrep("up", "--attach", "none"));
    await pair.one.blockrep("wait-connect", "-t", "10");
    await pair.one.blockrep("primary", "--force");
    await pair.inSync();
    await write(pair.one, "write -P 17 0 64k", "write -P 18 9M 1M", "discard 4M 1M", "flush");
    const { uuids } = (await pair.one.status()).first;
    // a Primary that outlives its peer begins a new generation: both must be Secondary before either leaves
    await pair.one.blockrep("secondary");
    await pair.each((side) => side.blockrep("down"));
    await pair.each(async (side) => {
      const dump = await agree(side);
      // the last bit says whether the node was Primary; the data generation is the same
      const current = BigInt(`0x${/uuid \{\s+0x(\w+);/.exec(dump)?.[1]}`);
      assert.equal(current >> 1n, BigInt(`0x${uuids.current}`) >> 1n);
      assert.match(dump, /al-stripes 1;/);
    });
  });

  test("written alone: the bitmap names what the peer lacks", async (t) => {
    if (unavailable(t)) return;
    await pair.one.blockrep("up", "--attach", "none");
    await pair.one.blockrep("primary", "--force");
    await write(pair.one, "write -P 19 1M 128k", "write -P 20 20M 4k", "flush");
    assert.equal((await pair.one.status()).first.outOfSyncBytes, 132 * 1024);
    await pair.one.blockrep("down");
    assert.match(await agree(pair.one), /bits-set 33;/);
  });

  test("after a kill -9 drbdmeta wants apply-al; ours makes it so", async (t) => {
    if (unavailable(t)) return;
    await pair.one.blockrep("up", "--attach", "none");
    await pair.one.blockrep("primary");
    await write(pair.one, "write -P 21 12M 4k", "flush");
    await pair.one.killDaemon();
    const unclean = await drbdmeta(pair.one, "dump-md");
    assert.notEqual(unclean.code, 0);
    assert.match(unclean.stdout + unclean.stderr, /apply-al/);
    const refused = await pair.one.run("blockrep", "dump-md", "r0");
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /apply-al/);

    assert.match(await pair.one.blockrep("apply-al"), /r0: \d+ extents \(\d+ MiB\) marked out of sync/);
    const dump = await agree(pair.one);
    assert.ok(Number(/bits-set (\d+);/.exec(dump)?.[1]) >= 33 + 1, "the extent that was being written is marked");
    assert.equal(await pair.one.blockrep("apply-al"), "", "done once, there is nothing more to do");
  });

  test("the peer gets exactly what is marked, and both are clean and equal", async (t) => {
    if (unavailable(t)) return;
    await pair.each((side) => side.blockrep("up", "--attach", "none"));
    await pair.inSync();
    const same = await pair.sameData();
    assert.equal(same.code, 0, same.stdout);
    const { resyncedBytes, outOfSyncBytes } = (await pair.two.status()).first;
    assert.equal(outOfSyncBytes, 0);
    assert.ok(resyncedBytes > 0 && resyncedBytes <= 16 * MIB, `${resyncedBytes} bytes were resynced`);
    await pair.each((side) => side.blockrep("down"));
    await pair.each(async (side) => assert.match(await agree(side), /bits-set 0;/));
  });
});
